"""One question about frames of a stream, asked again and again: what was read of the frames stays read.

Knows no threads but the turn that it takes at the student, and no clock.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from aot.answer_records import AbstainReason, Answer, Seconds
from aot.errors import OutOfDomainError, SourceError
from aot.records import Question
from aot.run_records import ChatUsage
from aot.served_records import AskMode
from aot.serving.domain import check_choices, kind_problem, label_problem
from aot.serving.review.holding import why_held
from aot.serving.stream.ring import HeldFrame, PickedFrames
from aot.serving.student import ServedStudent
from aot.student.answer.decoding import steps
from aot.student.answer.prefix import FramePrefix, PrefixFrame, ReadCounts, prefix_frames
from aot.student.answer.sampling import likeliest
from aot.student.rows.prompts import PROBE_SIZE_HW
from aot.student.rows.replies import answer_of

MODES: tuple[AskMode, ...] = ("decide", "direct", "reason", "explain")


@dataclass(frozen=True)
class _Made:
    answer: Answer
    num_written: int
    """Tokens of its reply."""
    read_s: float
    """When the prompt had been read, in seconds of perf_counter."""


class StreamReader:
    """A student that is asked one question about changing frames."""

    def __init__(
        self,
        student: ServedStudent,
        *,
        question: str,
        choices: Sequence[str],
        kind: str,
        mode: AskMode | None,
        max_features: int,
    ) -> None:
        """Looks the question over.

        Args:
            student: who answers.
            question: what is asked.
            choices: its answers, if they are a closed set.
            kind: of the question; empty: the general one.
            mode: see StudentStream.
            max_features: of so many frames what the vision tower made is kept.

        Raises:
            SourceError: it cannot be asked; the message says why.
        """
        self._served, self._kind, contract = student, kind or "*", student.contract
        self.mode: AskMode = mode or ("decide" if choices else contract.modes[0])
        if self.mode not in MODES:
            raise SourceError(f"a stream cannot be asked in mode {self.mode}; use one of {', '.join(MODES)}")
        if self.mode == "decide" and not choices:
            raise SourceError("mode decide needs choices")
        self.outside = label_problem(contract, choices) or kind_problem(contract, kind)
        """Why the question gets no answer, whatever is seen; empty where it does."""
        self.reason: AbstainReason = "out_of_domain"
        """The same in a word."""
        if student.holds(kind):
            self.outside, self.reason = f"{why_held(contract)}; answers of a stream cannot wait", "pending_review"
        try:
            self._question = Question(
                id="stream", dataset="", split="", kind=self._kind, text=question, choices=tuple(choices),
                answer=choices[0] if choices else "", answer_type="choice" if choices else "text", group="",
            )  # fmt: skip
        except ValidationError as error:
            raise SourceError(f"this cannot be asked: {error.errors()[0]['msg']}") from None
        self._blank = Answer(
            mode=self.mode, choices=tuple(choices), model=contract.name, contract_version=contract.version,
            contract_digest=contract.digest(),
        )  # fmt: skip
        with student.turn() as model:
            model.renderer.encode(self._question, (0.0,), self._prompt_mode, frame_size_hw=PROBE_SIZE_HW)
            self._choices = [model.renderer.completion_ids(text) for text in self._question.option_answers]
            try:
                check_choices(model, self._question.option_answers)
            except OutOfDomainError as error:
                self.outside = self.outside or str(error)
            self._prefix = FramePrefix(model, max_features=max_features)
        self._pixels: dict[int, PrefixFrame] = {}

    @property
    def appends(self) -> bool:
        """Whether frames are read on behind those before."""
        with self._served.turn():
            return self._prefix.appends

    @property
    def counts(self) -> ReadCounts:
        """What was read so far."""
        return self._prefix.counts

    def warm_up(self, frame: np.ndarray | None) -> None:
        """Answer once about a grey picture, or about `frame`, and forget it."""
        rule = self._served.contract.frames
        assert rule is not None
        height, width = rule.max_side_px * 3 // 4, rule.max_side_px
        pixels_HWC = np.full((height, width, 3), 90, np.uint8) if frame is None else frame
        held = HeldFrame(0, 0.0, pixels_HWC, 0.0, np.empty(0), (pixels_HWC.shape[0], pixels_HWC.shape[1]))
        self.answer(PickedFrames((held,), 1, 0.0))
        self.forget()

    def forget(self) -> None:
        """Let go of all that was read."""
        with self._served.turn():
            self._pixels.clear()
            self._prefix.clear()

    def answer(self, shown: PickedFrames) -> Answer:
        """The answer about these frames, without its age."""
        with self._served.turn() as model:
            started_s = time.perf_counter()
            self._scale(shown.frames)
            scaled_s = time.perf_counter()
            frames = self._made_ready(model, shown.frames)
            ready_s = time.perf_counter()
            times_s = [one.time_s - shown.start_s for one in shown.frames]
            height, width = shown.frames[-1].pixels_HWC.shape[:2]
            row = model.renderer.encode(self._question, times_s, self._prompt_mode, frame_size_hw=(height, width))
            problem = self._prompt_problem(model, row.prompt_ids, times_s)
            if problem:
                return problem
            read_before = self._prefix.counts.tokens_read
            if self.mode == "decide":
                made = self._decided(row.prompt_ids, frames, shown.keep)
            else:
                made = self._written(model, row.prompt_ids, frames, shown.keep)
            num_read = self._prefix.counts.tokens_read - read_before
            seconds = Seconds(
                decode=scaled_s - started_s, vision=ready_s - scaled_s, prefill=made.read_s - ready_s,
                generate=time.perf_counter() - made.read_s,
            )  # fmt: skip
            usage = ChatUsage(
                prompt_tokens=len(row.prompt_ids), completion_tokens=made.num_written,
                cached_prompt_tokens=max(0, len(row.prompt_ids) - num_read),
            )  # fmt: skip
            shown_s = tuple(one.time_s for one in shown.frames)
            return made.answer.model_copy(update={"frame_times_s": shown_s, "usage": usage, "seconds": seconds})

    def abstained(self, reason: AbstainReason, detail: str) -> Answer:
        """No answer, for a reason."""
        return self._blank.model_copy(update={"abstained": reason, "detail": detail})

    @property
    def _prompt_mode(self) -> Any:  # noqa: ANN401 - a PromptMode
        return "direct" if self.mode == "decide" else self.mode

    def _scale(self, frames: Sequence[HeldFrame]) -> None:
        """Bring frames to the size of the training store, in place: what is kept of them becomes smaller, too."""
        from video_data.decode.picture import fitted_size, scale  # decoders are imported where frames come

        rule = self._served.contract.frames
        assert rule is not None
        for one in frames:
            height, width = one.pixels_HWC.shape[:2]
            to_width, to_height = fitted_size(width, height, max_side_px=rule.max_side_px)
            one.pixels_HWC = scale(one.pixels_HWC, width=to_width, height=to_height)

    def _made_ready(self, model: Any, frames: Sequence[HeldFrame]) -> list[PrefixFrame]:  # noqa: ANN401
        """Pixels as the student takes them; those of frames that are shown no more are let go."""
        new = [one for one in frames if one.number not in self._pixels]
        if new:
            made = prefix_frames(model, np.stack([one.pixels_HWC for one in new]), [one.number for one in new])
            self._pixels.update(zip((one.number for one in new), made, strict=True))
        self._pixels = {one.number: self._pixels[one.number] for one in frames}
        return list(self._pixels.values())

    def _prompt_problem(self, model: Any, ids: Sequence[int], times_s: Sequence[float]) -> Answer | None:  # noqa: ANN401
        """An answer that abstains where the student would not be shown what it was trained on."""
        limit = min(self._served.contract.max_tokens, model.context - max(map(len, self._choices), default=0))
        if len(ids) > limit:
            return self.abstained(
                "failed", f"the prompt has {len(ids)} tokens, {limit} are allowed; use smaller frames"
            )
        if model.renderer.has_unknown(ids):
            words = (
                f"the student's tokenizer does not know a word of the question, or of a time up to {times_s[-1]:.1f} s"
            )
            return self.abstained("out_of_domain", f"{words}; reset at each episode, or set window_s")
        return None

    def _decided(self, ids: Sequence[int], frames: Sequence[PrefixFrame], keep: int) -> _Made:
        """The likeliest choice; nothing is written."""
        probs = self._prefix.score(ids, frames, self._choices, keep=keep)
        probs = self._served.calibrated(probs, kind=self._kind)
        best = max(range(len(probs)), key=lambda i: (probs[i], -i))
        made = self.abstained("", "").model_copy(
            update={
                "answer": self._question.option_answers[best], "choice_probs": probs, "confidence": probs[best],
                "raw_text": self._question.option_answers[best],
            }
        )  # fmt: skip
        return _Made(made, 0, time.perf_counter())

    def _written(self, model: Any, ids: Sequence[int], frames: Sequence[PrefixFrame], keep: int) -> _Made:  # noqa: ANN401
        """A reply, which has no probability; of one that explains its first line is the answer."""
        contract, renderer = self._served.contract, model.renderer
        reading = self._prefix.read(ids, frames, keep=keep)
        read_s = time.perf_counter()
        most = contract.max_answer_tokens if self.mode == "direct" else contract.max_rationale_tokens
        *_, (reply,) = steps(model, reading, pick=likeliest, max_tokens=[most])
        ended = reply[-1] in renderer.end_ids
        text = renderer.decode(reply[:-1] if ended else reply)
        said, newline, _ = text.partition("\n") if self.mode == "explain" else (text, "", "")
        whole = ended or bool(newline)
        answer = answer_of(said, style=renderer.think_style, mode=self._prompt_mode) if whole else None
        if answer is not None and self._question.choices and answer not in self._question.choices:
            answer = None
        made = self.abstained("" if answer else "unparsable" if whole else "cut_off", "").model_copy(
            update={"answer": answer or "", "raw_text": text, "rationale": text if self.mode != "direct" else ""}
        )
        return _Made(made, len(reply), read_s)
