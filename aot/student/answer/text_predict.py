"""What a text student answers: directly, after reasoning, before explaining, or in the way that it chooses itself.

Predictions come out in the order of the questions; one that cannot be asked becomes a prediction with an error. The
stored text is the reply as a lesson writes it, without the model's tags. Nothing here knows whether an answer is right.
"""

import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import torch

from aot.records import THOUGHT_MODES, Prediction, PromptMode, Question, ThoughtMode
from aot.student.answer.batches import PromptItem, batches, model_inputs, prompt_items, windows
from aot.student.answer.generation import Draw, LineMarks, line_marks, write_replies
from aot.student.answer.likelihood import score_continuations
from aot.student.model.loading import Student
from aot.student.rows.frames import FramePixels
from aot.student.rows.rendering import MODE_LINES, Mode
from aot.student.rows.replies import answer_of, plain_reply, thought_ids


def answer_texts(
    student: Student,
    questions: Sequence[Question],
    *,
    arm: str,
    mode: Mode,
    batch_size: int,
    thought: ThoughtMode | None = None,
) -> Iterator[Prediction]:
    """Greedy predictions in the order of `questions`; see predict.predict for the modes."""
    asker = _Asker(student, arm, mode, _marks(student, mode))
    line = max(map(len, thought_ids(student.renderer))) if mode == "adaptive" else 0
    items = prompt_items(student, questions, store=None, mode=mode, with_frames=False, given=lambda question: line)
    for window in windows(items, batch_size=batch_size):
        done = {i: failed(item, arm=arm, mode=mode) for i, item in enumerate(window) if item.error}
        for positions in batches(window, batch_size=batch_size):
            chosen = [window[i] for i in positions]
            made = asker.adaptive(chosen, thought) if mode == "adaptive" else asker.plain(chosen)
            done.update(zip(positions, made, strict=True))
        yield from (done[i] for i in range(len(window)))


def sample(
    student: Student,
    questions: Sequence[Question],
    *,
    pixels: FramePixels | None = None,
    mode: Mode,
    samples: int,
    temperature: float,
    seed: int,
    batch_size: int,
    arm: str = "self",
) -> Iterator[list[Prediction]]:
    """`samples` drawn replies to each question, in the order of `questions`; one prediction if it cannot be asked.

    The same call gives the same replies: batches depend on the questions alone, and draws on seed and batch number.

    Args:
        student: who answers.
        questions: what is asked.
        pixels: None; nobody draws replies about frames yet.
        mode: how it is asked; in mode `adaptive` the first line is drawn as well.
        samples: replies to each question.
        temperature: over 0; 1 draws from the student's own probabilities.
        seed: of the draws.
        batch_size: replies written at once, about.
        arm: name under which the predictions go.
    """
    if pixels is not None:
        raise ValueError("replies about frames are not drawn; call it without pixels")
    asker = _Asker(student, arm, mode, _marks(student, mode))
    items = prompt_items(student, questions, store=None, mode=mode, with_frames=False)
    numbers = count()
    prompts_at_once = max(1, batch_size // samples)
    for window in windows(items, batch_size=prompts_at_once):
        done = {i: [failed(item, arm=arm, mode=mode)] for i, item in enumerate(window) if item.error}
        for positions in batches(window, batch_size=prompts_at_once):
            own_seed = zlib.crc32(f"{seed}/{next(numbers)}".encode())
            made = asker.plain([window[i] for i in positions], draw=Draw(samples, temperature, own_seed))
            for k, position in enumerate(positions):
                done[position] = made[k * samples : (k + 1) * samples]
        yield from (done[i] for i in range(len(window)))


def failed(item: PromptItem, *, arm: str, mode: PromptMode | str) -> Prediction:
    """The prediction that stands for a question which could not be asked."""
    return Prediction.model_validate(
        {"question_id": item.question.id, "arm": arm, "mode": mode, "raw_text": "", "answer": None, "error": item.error}
    )


@dataclass(frozen=True)
class _Asker:
    """A student that is asked in one mode."""

    student: Student
    arm: str
    mode: Mode
    first_line: LineMarks | None

    def plain(self, items: Sequence[PromptItem], draw: Draw | None = None) -> list[Prediction]:
        """One reply to each item, or `draw.samples` one after the other."""
        started_s = time.perf_counter()
        replies = self._write([item.row.prompt_ids for item in items], draw)
        copies = draw.samples if draw else 1
        each_s = (time.perf_counter() - started_s) / len(replies)
        return [self._prediction(items[i // copies], reply, each_s) for i, reply in enumerate(replies)]

    def adaptive(self, items: Sequence[PromptItem], thought: ThoughtMode | None) -> list[Prediction]:
        """One reply to each item, beginning with the first line that the student chooses, or with that of `thought`."""
        started_s = time.perf_counter()
        lines = thought_ids(self.student.renderer)
        probs: list[tuple[float, ...]] = [()] * len(items)
        if thought is None:
            with torch.inference_mode():
                inputs = model_inputs(self.student, items, None)
                probs = score_continuations(self.student, [lines] * len(items), inputs)
        confidence = self.student.config.thought_confidence
        picked = [THOUGHT_MODES.index(thought) if thought else _choice(row, confidence) for row in probs]
        given = [lines[index] for index in picked]
        prompts = [item.row.prompt_ids + line for item, line in zip(items, given, strict=True)]
        replies = [[*line, *reply] for line, reply in zip(given, self._write(prompts, None), strict=True)]
        each_s = (time.perf_counter() - started_s) / len(items)
        made = [self._prediction(item, reply, each_s) for item, reply in zip(items, replies, strict=True)]
        return [
            row.model_copy(update={"thought": THOUGHT_MODES[index], "thought_probs": own})
            for row, index, own in zip(made, picked, probs, strict=True)
        ]

    def _write(self, prompts: Sequence[tuple[int, ...]], draw: Draw | None) -> list[list[int]]:
        config = self.student.config
        short = self.mode in ("direct", "explain")
        return write_replies(
            self.student,
            prompts,
            max_tokens=config.max_answer_tokens if short else config.max_rationale_tokens,
            first_line=self.first_line,
            draw=draw,
        )

    def _prediction(self, item: PromptItem, reply: Sequence[int], latency_s: float) -> Prediction:
        renderer = self.student.renderer
        ended = bool(reply) and reply[-1] in renderer.end_ids
        is_whole = ended or (self.first_line is not None and self.first_line.ends_line(reply))
        text = renderer.decode(reply[:-1] if ended else reply)
        if self.mode == "explain":
            text = text.partition("\n")[0].rstrip()
        plain = plain_reply(text) if renderer.think_style != "none" else text
        return Prediction(
            question_id=item.question.id,
            arm=self.arm,
            mode=self.mode,
            raw_text=plain,
            answer=answer_of(text, style=renderer.think_style, mode=self.mode) if is_whole else None,
            finish_reason="stop" if is_whole else "length",
            thought=_thought_of(plain) if self.mode == "adaptive" else "",
            prompt_tokens=item.row.num_tokens,
            completion_tokens=len(reply),
            latency_s=latency_s,
        )


def _marks(student: Student, mode: Mode) -> LineMarks | None:
    return line_marks(student.renderer.tokenizer) if mode == "explain" else None


def _choice(probs: Sequence[float], confidence: float) -> int:
    """The first way up to which the probabilities sum to `confidence`: the shortest that is likely to be enough.

    >>> _choice((0.5, 0.45, 0.05), 0.9)
    1
    """
    return next((i for i in range(len(probs)) if sum(probs[: i + 1]) >= confidence), len(probs) - 1)


def _thought_of(text: str) -> ThoughtMode | str:
    first = text.partition("\n")[0].strip()
    return next((mode for mode, line in MODE_LINES.items() if line == first), "")
