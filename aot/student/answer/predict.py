"""What a student answers to questions, with frames or without: in one of the modes, drawn, or the likeliest choice.

Predictions come out in the order of the questions; a question that cannot be asked becomes a prediction with an error,
never a gap. The stored text is the reply as a lesson writes it, without the model's tags. Nothing here knows whether an
answer is right.
"""

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import count
from typing import Literal, TypeVar

from aot.errors import ConfigError, SourceError
from aot.evaluation.spending import chosen_way
from aot.records import THOUGHT_MODES, Lesson, Prediction, PromptMode, Question, ThoughtMode
from aot.student.answer.batches import PromptItem, batches, prompt_items, windows
from aot.student.answer.decoding import LineMarks, Prompt, line_marks, write_replies
from aot.student.answer.likelihood import log_sums, score
from aot.student.answer.sampling import BatchSampling, NotedToken
from aot.student.model.loading import Student
from aot.student.rows.frames import FramePixels, shown_frames
from aot.student.rows.replies import (
    answer_of,
    encode_lesson,
    lesson_text,
    mode_lines,
    plain_reply,
    thought_ids,
)
from aot.student.rows.tokens import EncodedRow, Renderer

PredictMode = PromptMode | Literal["likelihood"]
Made = TypeVar("Made")


def predict(
    student: Student,
    questions: Sequence[Question],
    *,
    pixels: FramePixels | None = None,
    arm: str,
    mode: PredictMode,
    batch_size: int,
    with_frames: bool = True,
    thought: ThoughtMode | None = None,
    with_tokens: bool = False,
    with_explanation: bool = False,
) -> Iterator[Prediction]:
    """Greedy predictions in the order of `questions`.

    Args:
        student: who answers.
        questions: what is asked; in mode `likelihood` those without choices are left out.
        pixels: the stored frames as this student's processor makes them; predictors that share it process each once.
            None where nothing has frames.
        arm: name under which the predictions are stored.
        mode: `likelihood` scores the choices after the direct prompt; the others generate. `explain` stops after the
            first line, or the first turn where the tokenizer knows no line end. `adaptive` scores the first lines a
            reply may begin with, chooses one (see student.effort) and goes on from there.
        batch_size: prompts run at once.
        with_frames: False is the control in which the student sees the question only.
        thought: in mode `adaptive`, begin this way instead of choosing.
        with_tokens: keep token ids and log-probabilities too.
        with_explanation: in mode `explain`, let the reply go on behind its first line.

    Raises:
        ConfigError: mode `tools` is none of these; a student with tools is an Actor (aot.acting).
    """
    asker = _asker(student, pixels, arm, mode, with_tokens=with_tokens, with_explanation=with_explanation)
    items = _items(asker, questions, with_frames=with_frames)
    yield from _in_order(items, partial(asker.answer, thought=thought), asker.failed, batch_size=batch_size)


def predict_batches(
    student: Student,
    questions: Sequence[Question],
    *,
    pixels: FramePixels | None = None,
    arm: str,
    mode: PredictMode,
    batch_size: int,
    with_frames: bool = True,
    thought: ThoughtMode | None = None,
    wanted: Callable[[int, Sequence[str]], bool],
) -> Iterator[list[Prediction]]:
    """The predictions of `predict`, batch by batch, of those batches that are wanted.

    A batch holds the same questions whoever else is asked, so that processes which each make some of the batches give
    together what one of them gives alone, to the last digit on machines that calculate alike.

    Args:
        student: who answers.
        questions: all that is asked, by this process and the others.
        pixels: as for `predict`.
        arm: name under which the predictions are stored.
        mode: as for `predict`.
        batch_size: prompts run at once.
        with_frames: as for `predict`.
        thought: as for `predict`.
        wanted: tells by the number of a batch, and the ids of its questions, whether to make it.
    """
    asker = _asker(student, pixels, arm, mode, with_tokens=False)
    items = _items(asker, questions, with_frames=with_frames)
    answer = partial(asker.answer, thought=thought)
    yield from answer_batches(items, answer, asker.failed, batch_size=batch_size, wanted=wanted)


def answer_batches(
    items: Iterator[PromptItem],
    answer: Callable[[Sequence[PromptItem]], list[Made]],
    failed: Callable[[PromptItem], Made],
    *,
    batch_size: int,
    wanted: Callable[[int, Sequence[str]], bool],
) -> Iterator[list[Made]]:
    """What `answer` makes of the batches of `items` that are wanted; items that cannot be asked are batches apart."""
    # Lengths decide what stands in a batch, so every process encodes every prompt, whoever then answers it.
    numbers = count()
    for window in windows(items, batch_size=batch_size):
        refused = [item for item in window if item.error]
        if refused and wanted(next(numbers), [item.question.id for item in refused]):
            yield [failed(item) for item in refused]
        for positions in batches(window, batch_size=batch_size):
            chosen = [window[i] for i in positions]
            if wanted(next(numbers), [item.question.id for item in chosen]):
                yield answer(chosen)


def _items(asker: "_Asker", questions: Sequence[Question], *, with_frames: bool) -> Iterator[PromptItem]:
    """What an asker can be asked of `questions`: where it scores choices, those that have some."""
    of_mode = [q for q in questions if q.choices] if asker.mode == "likelihood" else questions
    store = asker.pixels.store if asker.pixels else None
    return prompt_items(
        asker.student, of_mode, store=store, mode=asker.prompt_mode, with_frames=with_frames, given=asker.given
    )


def sample(
    student: Student,
    questions: Sequence[Question],
    *,
    pixels: FramePixels | None = None,
    mode: PromptMode,
    samples: int,
    temperature: float,
    seed: int,
    batch_size: int,
    arm: str = "self",
    with_tokens: bool = False,
) -> Iterator[list[Prediction]]:
    """`samples` drawn replies to each question, in the order of `questions`; one prediction if it cannot be asked.

    The same call gives the same replies: batches depend on the questions alone, and draws on seed and batch number.

    Args:
        student: who answers.
        questions: what is asked.
        pixels: as for `predict`.
        mode: how it is asked; in mode `adaptive` the first line is drawn as well.
        samples: replies to each question.
        temperature: over 0; 1 draws from the student's own probabilities.
        seed: of the draws.
        batch_size: replies written at once, about.
        arm: name under which the predictions go.
        with_tokens: keep token ids and log-probabilities too.
    """
    asker = _asker(student, pixels, arm, mode, with_tokens=with_tokens)
    store = pixels.store if pixels else None
    items = prompt_items(student, questions, store=store, mode=mode, with_frames=True)
    numbers = count()

    def answer(chosen: Sequence[PromptItem]) -> list[list[Prediction]]:
        batch_seed = zlib.crc32(f"{seed}/{next(numbers)}".encode())
        made = asker.plain(chosen, sampling=BatchSampling(samples, temperature, batch_seed))
        return [made[k : k + samples] for k in range(0, len(made), samples)]

    yield from _in_order(items, answer, lambda item: [asker.failed(item)], batch_size=max(1, batch_size // samples))


def lesson_log_probs(
    student: Student, pairs: Sequence[tuple[Question, Lesson]], *, pixels: FramePixels | None = None, batch_size: int
) -> Iterator[float | None]:
    """How likely the student finds what each lesson teaches, behind its question and what the lesson gives, in nats.

    The end of the reply counts too. None stands for a lesson that cannot be shown: its clip was not stored, it is too
    long, or it spells out a token that the model reserves.

    Args:
        student: who reads.
        pairs: questions and lessons about them.
        pixels: as for `predict`.
        batch_size: prompts read at once.
    """
    items = (_lesson_item(student, question, lesson, pixels) for question, lesson in pairs)

    def answer(chosen: Sequence[PromptItem]) -> list[float | None]:
        prompts = [item.prompt(student.renderer, pixels) for item in chosen]
        return [row[0] for row in log_sums(student, prompts, [[item.row.completion_ids] for item in chosen])]

    yield from _in_order(items, answer, lambda item: None, batch_size=batch_size)


def _lesson_item(student: Student, question: Question, lesson: Lesson, pixels: FramePixels | None) -> PromptItem:
    renderer, frames, row, why = student.renderer, None, EncodedRow(()), "it spells out a reserved token"
    store, num_frames = pixels.store if pixels else None, student.config.num_frames
    try:
        frames = shown_frames(store, question, shown=lesson.with_frames, num_frames=num_frames)
        times_s, size_hw = (frames.times_s, frames.size_hw) if frames else ((), None)
        if not renderer.reserved_mark(lesson_text(lesson)):
            row = encode_lesson(renderer, question, lesson, times_s=times_s, frame_size_hw=size_hw)
            why = "" if row.num_tokens <= student.most_tokens else f"its {row.num_tokens} tokens are too many"
    except SourceError as error:
        why = str(error)
    return PromptItem(question, frames, row, error=why)


def _in_order(
    items: Iterator[PromptItem],
    answer: Callable[[Sequence[PromptItem]], list[Made]],
    failed: Callable[[PromptItem], Made],
    *,
    batch_size: int,
) -> Iterator[Made]:
    """What `answer` makes of each item, batch by batch, in the order of the items."""
    for window in windows(items, batch_size=batch_size):
        done = {i: failed(item) for i, item in enumerate(window) if item.error}
        for positions in batches(window, batch_size=batch_size):
            done.update(zip(positions, answer([window[i] for i in positions]), strict=True))
        yield from (done[i] for i in range(len(window)))


@dataclass(frozen=True)
class _Asker:
    """A student that is asked in one mode."""

    student: Student
    pixels: FramePixels | None
    arm: str
    mode: PredictMode
    first_line: LineMarks | None
    with_tokens: bool
    with_explanation: bool

    @property
    def prompt_mode(self) -> PromptMode:
        """Choices are scored after the prompt of a direct answer."""
        return "direct" if self.mode == "likelihood" else self.mode

    def given(self, question: Question) -> int:
        """How many tokens are put behind the prompt of a question: its longest choice, or the longest first line."""
        if self.mode == "likelihood":
            return max(map(len, self._choices(question)), default=0)
        return max(map(len, self._lines)) if self.mode == "adaptive" else 0

    @cached_property
    def _lines(self) -> list[tuple[int, ...]]:
        return thought_ids(self.student.renderer)

    def _choices(self, question: Question) -> list[tuple[int, ...]]:
        return [self.student.renderer.completion_ids(text) for text in question.option_answers]

    def failed(self, item: PromptItem) -> Prediction:
        """The prediction that stands for a question which could not be asked."""
        return Prediction(
            question_id=item.question.id, arm=self.arm, mode=self.mode, raw_text="", answer=None, error=item.error
        )

    def answer(self, items: Sequence[PromptItem], thought: ThoughtMode | None = None) -> list[Prediction]:
        """A greedy prediction for each item, or the likeliest choice, as the mode wants it."""
        if self.mode == "likelihood":
            return self.choose(items)
        return self.adaptive(items, thought) if self.mode == "adaptive" else self.plain(items)

    def plain(self, items: Sequence[PromptItem], sampling: BatchSampling | None = None) -> list[Prediction]:
        """One reply to each item, or `sampling.samples` one after the other."""
        started_s = time.perf_counter()
        replies, notes = self._write(self._prompts(items), sampling)
        copies = sampling.samples if sampling else 1
        each_s = (time.perf_counter() - started_s) / len(replies)
        return [
            self._prediction(items[i // copies], reply, each_s, notes.get(i, [])) for i, reply in enumerate(replies)
        ]

    def adaptive(self, items: Sequence[PromptItem], thought: ThoughtMode | None) -> list[Prediction]:
        """One reply to each item, beginning with the first line that the student chooses, or with that of `thought`."""
        started_s = time.perf_counter()
        lines, prompts = self._lines, self._prompts(items)
        probs: list[tuple[float, ...]] = [()] * len(items)
        if thought is None:
            probs = score(self.student, prompts, [lines] * len(items))
        effort = self.student.config.effort
        picked = [THOUGHT_MODES.index(thought) if thought else chosen_way(row, effort) for row in probs]
        begun = [_begun(prompt, lines[index]) for prompt, index in zip(prompts, picked, strict=True)]
        replies, notes = self._write(begun, None)
        each_s = (time.perf_counter() - started_s) / len(items)
        return [
            self._prediction(item, [*lines[picked[i]], *replies[i]], each_s, notes.get(i, [])).model_copy(
                update={"thought": THOUGHT_MODES[picked[i]], "thought_probs": probs[i]}
            )
            for i, item in enumerate(items)
        ]

    def choose(self, items: Sequence[PromptItem]) -> list[Prediction]:
        """The likeliest choice of each item, with the probabilities of all."""
        started_s = time.perf_counter()
        scored = score(self.student, self._prompts(items), [self._choices(item.question) for item in items])
        each_s = (time.perf_counter() - started_s) / len(items)
        made = []
        for item, probs in zip(items, scored, strict=True):
            best = item.question.option_answers[max(range(len(probs)), key=lambda i: (probs[i], -i))]
            made.append(
                Prediction(
                    question_id=item.question.id, arm=self.arm, mode=self.mode, raw_text=best, answer=best,
                    choice_probs=probs, prompt_tokens=item.row.num_tokens, latency_s=each_s,
                )
            )  # fmt: skip
        return made

    def _prompts(self, items: Sequence[PromptItem]) -> list[Prompt]:
        return [item.prompt(self.student.renderer, self.pixels) for item in items]

    def _write(
        self, prompts: Sequence[Prompt], sampling: BatchSampling | None
    ) -> tuple[list[list[int]], dict[int, list[NotedToken]]]:
        config = self.student.config
        short = self.mode == "direct" or (self.mode == "explain" and not self.with_explanation)
        notes = dict[int, list[NotedToken]]()
        replies = write_replies(
            self.student,
            prompts,
            max_tokens=config.max_answer_tokens if short else config.max_rationale_tokens,
            first_line=self.first_line,
            sampling=sampling,
            notes=notes if self.with_tokens else None,
        )
        return replies, notes

    def _prediction(
        self, item: PromptItem, reply: Sequence[int], latency_s: float, notes: Sequence[NotedToken]
    ) -> Prediction:
        renderer = self.student.renderer
        ended = bool(reply) and reply[-1] in renderer.end_ids
        is_whole = ended or (self.first_line is not None and self.first_line.ends_line(reply))
        text = renderer.decode(reply[:-1] if ended else reply)
        said, has_answer = text, is_whole
        if self.mode == "explain":
            said, newline, _ = text.partition("\n")
            said = said.rstrip()
            if self.with_explanation:  # which may be cut off where the answer before it is whole
                has_answer = is_whole or bool(newline)
            else:
                text = said
        plain = plain_reply(text) if renderer.think_style != "none" else text
        return Prediction(
            question_id=item.question.id,
            arm=self.arm,
            mode=self.mode,
            raw_text=plain,
            answer=answer_of(said, style=renderer.think_style, mode=self.prompt_mode) if has_answer else None,
            finish_reason="stop" if is_whole else "length",
            thought=_thought_of(plain, renderer) if self.mode == "adaptive" else "",
            prompt_tokens=item.row.num_tokens,
            completion_tokens=len(reply),
            token_ids=tuple(reply) if self.with_tokens else (),
            token_logprobs=tuple(note.logprob for note in notes),
            latency_s=latency_s,
        )


def _asker(
    student: Student,
    pixels: FramePixels | None,
    arm: str,
    mode: PredictMode,
    *,
    with_tokens: bool,
    with_explanation: bool = False,
) -> _Asker:
    if mode == "tools":
        raise ConfigError(
            f"{arm} answers by calling tools, and there are none here; ask it by aot evaluate, or export it "
            "and ask it by aot predict, or take another arm"
        )
    stops = mode == "explain" and not with_explanation
    marks = line_marks(student.renderer.tokenizer) if stops else None
    return _Asker(student, pixels, arm, mode, marks, with_tokens, with_explanation)


def _begun(prompt: Prompt, line: tuple[int, ...]) -> Prompt:
    """`prompt` and the first line of its reply."""
    return replace(prompt, ids=prompt.ids + line)


def _thought_of(text: str, renderer: Renderer) -> ThoughtMode | Literal[""]:
    first = text.partition("\n")[0].strip()
    begins = str.__eq__ if renderer.keeps_lines else str.startswith
    return next((mode for mode, line in mode_lines(renderer).items() if begins(first, line)), "")
