"""An exported student as a Python object: ten lines are enough to ask it something.

    student = load_student("exports/kitchen")
    answer = student.ask("What is the next step?", clip="clip.mp4", choices=("stir the soup", "peel the onion"))

Frames are NumPy arrays at the border. Whatever is wrong with one question gives an answer that abstained, with the
reason `failed` and a sentence, and its neighbours are answered. Only what is wrong with the call itself is an error: a
student that was closed, an argument of a name that does not exist, something that is no `Ask`.
"""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from aot.answer_records import AbstainReason, Answer, Seconds
from aot.config import StudentConfig
from aot.display import storable
from aot.errors import AotError, ConfigError, OutOfDomainError, RunError, SourceError
from aot.evaluation.risk import calibrated_reply, reply_confidence, tempered
from aot.records import MediaRef, Prediction, PromptMode, Question, Trace
from aot.run_records import ChatUsage
from aot.served_records import AskMode, StudentContract
from aot.serving.contract import check_templates, read_contract
from aot.serving.domain import check_choices, choices_of, kind_problem, seconds_of, text_of
from aot.serving.frames import ClipShelf, ShownFrames, Window
from aot.serving.replies import abstention, made_calls, plan_abstention, rationale_of, written_logprob
from aot.serving.review.holding import Held, after_review, not_looked_at, open_review, why_held
from aot.serving.review.queue import ReviewQueue, is_under_review, question_of
from aot.serving.timing import Parts, measured
from aot.student.rows.prompts import read_calls

if TYPE_CHECKING:
    from aot.student.answer.engine import Engine
    from aot.student.model.loading import Student
    from aot.teacher.bench import Bench
    from aot.teacher.tools.book import RecipeBook

BATCH = 16
"""Questions that the model reads at once."""
MODEL_FAILED = "the model failed on this question"
"""Begins the detail of an answer that the model's own mistake prevented; the question is not at fault."""
PIXEL_CACHE_BYTES = 64 << 20
"""Of pixels that are kept for the next question about the same frames."""
_MODES = (*get_args(PromptMode), "decide")


@dataclass(frozen=True)
class Ask:
    """One question, with what it is about."""

    question: str
    choices: Sequence[str] = ()
    clip: str | Path | None = None
    """A video file; or frames."""
    frames: Sequence[Any] | None = None
    """Each uint8 (height, width, 3), RGB, or what NumPy makes one of, such as an image of Pillow; all of one size."""
    times_s: Sequence[float] | None = None
    """Of the frames, ascending; only a single frame needs none."""
    start_s: float | None = None
    """Of the clip or the frames: nobody looks outside this window. None: from the beginning, to the end."""
    end_s: float | None = None
    mode: AskMode | None = None
    """None: decide where there are choices, else as the student was taught first; with tools where it calls some."""
    kind: str = ""
    """Of the question, which its calibration goes by; empty: the general one."""
    with_rationale: bool = True
    """False: in mode `explain` stop behind the answer."""


@dataclass(frozen=True)
class _Ready:
    """A question that can be put to the model."""

    question: Question
    mode: AskMode
    explains: bool
    decode_s: float


@dataclass(frozen=True)
class _Made:
    """What the model made of a question."""

    prediction: Prediction
    parts: Parts = field(default_factory=Parts)
    logprob: float | None = None
    """Of a written reply."""
    trace: Trace | None = None
    """Of a plan with tools."""


class ServedStudent:
    """An exported student in this process; may be asked from many threads, which take turns at the model."""

    def __init__(
        self,
        student: Any,  # noqa: ANN401 - Student needs torch
        contract: StudentContract,
        bench: "Bench | None" = None,
        *,
        review: ReviewQueue | None = None,
    ) -> None:
        """Loads nothing; the bench is what calls of tools are carried out with, `review` is where answers wait."""
        self.student, self.contract, self.bench, self.review = student, contract, bench, review
        self._lock = threading.RLock()  # the engine takes it again
        self._engine: Engine | None = None
        self._shelf = ClipShelf(contract.frames) if contract.frames else None
        self._pixels: Any = None
        self.digest = contract.digest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the model and of all frames; may be called twice."""
        with self._lock:
            self.student, self._pixels = None, None
            engine, self._engine = self._engine, None
        if self._shelf:
            self._shelf.clear()
        if engine is not None:
            engine.close()
        if self.review is not None:
            self.review.close()

    @contextmanager
    def turn(self) -> Iterator[Any]:
        """The loaded student for one piece of work; whoever else wants it waits meanwhile.

        Raises:
            RunError: the student was closed.
        """
        with self._lock:
            yield self.loaded

    @property
    def loaded(self) -> Any:  # noqa: ANN401 - Student needs torch
        """The loaded student, for what needs no turn at the model.

        Raises:
            RunError: the student was closed.
        """
        student = self.student
        if student is None:
            raise RunError(f"the student {self.contract.name} was closed; load it again")
        return student

    @property
    def engine(self) -> "Engine":
        """The student as a chat model: one, made at the first look; it and `ask` take turns at the model.

        Raises:
            RunError: the student was closed, or answers of it need review, and messages are of no kind.
        """
        if self.holds(""):
            raise RunError(f"{why_held(self.contract)}; a chat model is told no kind of question: use ask")
        with self.turn():
            if self._engine is None:
                self._engine = self.open_engine()
            return self._engine

    def open_engine(self, *, max_prompt_tokens: int = sys.maxsize, **limits: Any) -> "Engine":  # noqa: ANN401
        """The student as a chat model within limits of its caller's, as `Engine` takes them, and the contract's own.

        For a server: it lets answers wait that a person has to look at, and the engine does not.

        Raises:
            RunError: the student was closed.
        """
        from aot.student.answer.engine import Engine
        from aot.student.answer.speaker import speaker_of

        speaker = speaker_of(self.loaded, name=self.contract.name)
        most = min(self.contract.max_tokens, max_prompt_tokens)
        return Engine(speaker, max_prompt_tokens=most, lock=self._lock, **limits)

    def frames_to_show(self) -> ShownFrames | None:
        """What holds frames for questions that are asked together; None of a student that sees none."""
        return ShownFrames(self.contract.frames, self._shelf) if self.contract.frames and self._shelf else None

    def ask(self, question: str, **about: Any) -> Answer:  # noqa: ANN401 - the fields of Ask
        """The answer to one question; keywords are the fields of `Ask`.

        Raises:
            ConfigError: there is no argument of such a name.
            RunError: the student was closed.
        """
        names = [field.name for field in fields(Ask)][1:]
        if unknown := sorted(about.keys() - set(names)):
            raise ConfigError(f"ask() knows no argument {unknown[0]!r}; it takes {', '.join(names)}")
        (answer,) = self.ask_many([Ask(question, **about)])
        return answer

    def ask_many(self, asks: Sequence[Ask]) -> list[Answer]:
        """The answers to several questions in their order, those of one mode in batches.

        Of kinds under review it is what a person said, and nothing before somebody has looked.

        Raises:
            ConfigError: one of them is no `Ask`.
            RunError: the student was closed.
        """
        _check(asks)
        if not self.contract.review:
            return self.unreviewed(asks)
        _ = self.loaded
        held = {i: self._held(one) for i, one in enumerate(asks) if self.holds(one.kind)}
        return after_review(
            held, len(asks), queue=self.review, say=lambda places: self.unreviewed([asks[i] for i in places])
        )

    def holds(self, kind: str) -> bool:
        """Whether nobody is told an answer to a question of this kind before a person has looked at it."""
        named = kind if isinstance(kind, str) else ""
        return is_under_review(named, kinds=self.contract.review, learned=self.contract.kinds)

    def _held(self, ask: Ask) -> Held | Answer:
        """A question that a person has to look at; or the answer that stands without asking the student."""
        blank = self.abstained(self._mode_of(ask), "", "")
        if self.review is None:
            return not_looked_at(self.contract, blank)
        shown = self.frames_to_show()
        try:
            text, _ = text_of(ask.question, "question"), text_of(ask.kind or "*", "kind")
            choices, media = choices_of(ask.choices), self.media_of(ask, shown)
        except (AotError, OSError, TypeError, ValueError) as error:
            return self.refusal(ask, str(error))
        return Held(
            question_of(text, choices=choices, kind=ask.kind),
            (self.digest, text, choices, ask.kind, blank.mode, ask.with_rationale, media),
            blank.model_copy(update={"choices": choices}),
            partial(shown.pictures, media) if shown and media else tuple,
        )

    def unreviewed(self, asks: Sequence[Ask]) -> list[Answer]:
        """What the student says itself, whatever is under review: to measure it, or to let a person look first.

        Raises:
            ConfigError: one of them is no `Ask`.
            RunError: the student was closed.
        """
        _check(asks)
        with self.turn() as model:
            student = model
        shown = self.frames_to_show()
        answers, groups = dict[int, Answer](), dict[tuple[AskMode, bool], dict[int, _Ready]]()
        for i, ask in enumerate(asks):
            try:
                ready = self._ready(i, ask, shown, student)
            except (AotError, OSError, TypeError, ValueError) as error:  # its neighbours go on, whatever it is
                reason: AbstainReason = "out_of_domain" if isinstance(error, OutOfDomainError) else "failed"
                answers[i] = self.abstained(self._mode_of(ask), reason, str(error))
                continue
            groups.setdefault((ready.mode, ready.explains), {})[i] = ready
        for group in groups.values():
            for (i, ready), made in zip(group.items(), self._made(list(group.values()), shown), strict=True):
                answers[i] = self._answer(ready, made, shown)
        return [answers[i] for i in range(len(asks))]

    def calibrated(self, probs: Sequence[float], *, kind: str) -> tuple[float, ...]:
        """Probabilities at the temperature of a kind of question; the likeliest choice stays the likeliest.

        Of a kind that the contract does not name they stay those of the model.
        """
        if not len(probs) or not self.contract.calibration or kind_problem(self.contract, kind):
            return tuple(probs)
        return tempered(probs, self.contract.calibration.temperature(kind))

    def _written_confidence(self, outcome: _Made, kind: str, mode: AskMode) -> float | None:
        if outcome.logprob is None:
            return None
        if (calibration := self.contract.calibration) is None:
            return reply_confidence([outcome.logprob])
        return calibrated_reply([outcome.logprob], calibration, kind=kind, mode=mode)

    def _mode_of(self, ask: Ask) -> AskMode:
        """The mode in which an answer stands; of a question in an unknown mode the one that it would have had."""
        has_choices = isinstance(ask.choices, list | tuple) and bool(ask.choices)
        fallback: AskMode = "decide" if has_choices and not self.bench else self.contract.modes[0]
        return ask.mode if isinstance(ask.mode, str) and ask.mode in _MODES else fallback

    def _ready(self, index: int, ask: Ask, shown: ShownFrames | None, student: "Student") -> _Ready:
        """A question after everything about it was checked.

        Raises:
            SourceError: it cannot be asked; the message says why.
            OutOfDomainError: it cannot read the times of the frames, or tell the choices apart.
            VideoError: its clip is refused.
        """
        renderer = student.renderer
        choices = choices_of(ask.choices)
        text = text_of(ask.question, "question")
        if mark := renderer.reserved_mark(" ".join((text, *choices))):  # it would end a message and begin another
            raise SourceError(f"the text must not contain {mark!r}, which the model reserves; write it another way")
        mode = self._checked_mode(ask, choices)
        check_choices(student, choices)
        started_s = time.perf_counter()
        media = self.media_of(ask, shown)
        decode_s = time.perf_counter() - started_s
        renderer.check_times(self._times_shown(media, shown))
        question = Question(
            id=str(index), dataset="", split="", kind=text_of(ask.kind or "*", "kind"), text=text, choices=choices,
            answer=choices[0] if choices else "", answer_type="choice" if choices else "text", media=media, group="",
        )  # fmt: skip
        return _Ready(question, mode, mode == "explain" and bool(ask.with_rationale), decode_s)

    def _times_shown(self, media: MediaRef | None, shown: ShownFrames | None) -> tuple[float, ...]:
        """When the frames that a prompt shows were seen."""
        if media is None or shown is None or self.contract.frames is None:
            return ()
        from aot.student.rows.frames import choose_indices

        return choose_indices(shown, media, num_frames=self.contract.frames.num_frames).times_s

    def _checked_mode(self, ask: Ask, choices: tuple[str, ...]) -> AskMode:
        mode = self._mode_of(ask)
        taught = ", ".join((*self.contract.modes, "decide"))
        if ask.mode is not None and ask.mode != mode:
            raise SourceError(f"there is no mode {str(ask.mode)[:40]!r}; {self.contract.name} has {taught}")
        if mode != "decide" and mode not in self.contract.modes:
            raise SourceError(f"{self.contract.name} was not taught the mode {mode}; it has {taught}")
        if mode == "decide" and not choices:
            raise SourceError("mode decide picks among choices, and none were given; give choices, or another mode")
        return mode

    def media_of(self, ask: Ask, shown: ShownFrames | None) -> MediaRef | None:
        """What the question shows; None where it shows nothing."""
        window = Window(seconds_of(ask.start_s, "start_s"), seconds_of(ask.end_s, "end_s"))
        if ask.clip is None and ask.frames is None:
            if ask.times_s is not None or window != Window():
                raise SourceError("times_s, start_s and end_s belong to frames or a clip, and none was given")
            return None
        if ask.clip is not None and ask.frames is not None:
            raise SourceError("a clip and frames were given; give one of them")
        if shown is None:
            raise SourceError(f"{self.contract.name} is a student of text and sees no frames; ask without them")
        if window.end_s is not None and window.end_s <= (window.start_s or 0.0):
            raise SourceError(f"the window {window.start_s or 0.0:g}-{window.end_s:g} s must end after it starts")
        if ask.frames is not None:
            return shown.add_frames(ask.frames, ask.times_s, window)
        if ask.times_s is not None:
            raise SourceError("times_s came with a clip, which has times of its own; give start_s and end_s instead")
        if not isinstance(ask.clip, str | Path):
            raise SourceError(f"clip must be the path of a video file, got {type(ask.clip).__name__}")
        return shown.add_clip(Path(text_of(str(ask.clip), "clip")), window)

    def _made(self, rows: list[_Ready], shown: ShownFrames | None) -> list[_Made]:
        """What the model makes of questions of one mode; what ends a batch is tried again one by one."""
        mode, explains = rows[0].mode, rows[0].explains
        with self.turn() as student:
            if shown and self._pixels is None:
                self._pixels = student.pixels(shown, max_bytes=PIXEL_CACHE_BYTES)
            if shown:
                self._pixels.store = shown
            try:
                _ = student.habits  # what the model bears is tried once, which is no part of an answer
                with measured(student, self._pixels) as parts:
                    made = self._said(student, [row.question for row in rows], mode, explains=explains)
                each = parts.share(len(rows))
                return [_Made(one, each, written_logprob(one, mode, student.renderer), trace) for one, trace in made]
            except (RuntimeError, ValueError, IndexError, TypeError, AotError) as error:
                failure = " ".join(str(error).split())[:300]
        if len(rows) > 1:
            return [one for row in rows for one in self._made([row], shown)]
        words = f"{MODEL_FAILED}: {failure}"
        return [_Made(Prediction(question_id="", arm="", mode="none", raw_text="", answer=None, error=words))]

    def _said(
        self, student: "Student", questions: Sequence[Question], mode: AskMode, *, explains: bool
    ) -> list[tuple[Prediction, Trace | None]]:
        """What the model says to each question, and in mode `tools` what led to it."""
        if mode == "tools" and self.bench:
            from aot.acting.act import Actor, act_in_order  # torch

            actor = Actor(student, self.bench, self.contract.name, pixels=self._pixels)
            return [(one.prediction, one.trace) for one in act_in_order(actor, questions, batch_size=BATCH)]
        from aot.student.answer.predict import predict

        made = predict(
            student, questions, pixels=self._pixels, arm=self.contract.name,
            mode="likelihood" if mode == "decide" else mode, batch_size=BATCH,
            with_tokens=mode != "decide", with_explanation=explains,
        )  # fmt: skip
        return [(one, None) for one in made]

    def _answer(self, ready: _Ready, outcome: _Made, shown: ShownFrames | None) -> Answer:
        question, mode, made, parts = ready.question, ready.mode, outcome.prediction, outcome.parts
        if made.error:
            return self.abstained(mode, "failed", made.error.removeprefix(f"question {question.id}: "))
        probs = self.calibrated(made.choice_probs, kind=question.kind)
        trace = outcome.trace
        calls = () if trace else read_calls(made.raw_text)[1]
        reason, detail = plan_abstention(made, trace) if trace else abstention(made, has_calls=bool(calls))
        strange = kind_problem(self.contract, question.kind)
        sure = max(probs) if probs else self._written_confidence(outcome, question.kind, mode)
        return Answer(
            answer=made.answer or "",
            abstained=reason,
            detail=detail or strange,
            choices=question.choices,
            choice_probs=probs,
            confidence=None if strange else sure,
            rationale=rationale_of(made, mode),
            raw_text=made.raw_text,
            tool_calls=calls,
            calls=made_calls(trace) if trace else (),
            reasons=made.reasons,
            mode=mode,
            frame_times_s=self._times_shown(question.media, shown),
            usage=ChatUsage(prompt_tokens=made.prompt_tokens, completion_tokens=made.completion_tokens),
            seconds=Seconds(decode=ready.decode_s, vision=parts.vision, prefill=parts.prefill, generate=parts.generate),
            model=self.contract.name,
            contract_version=self.contract.version,
            contract_digest=self.digest,
        )

    def refusal(self, ask: Ask, detail: str, *, reason: AbstainReason = "failed") -> Answer:
        """The answer to a question of which it is known already why it cannot be asked."""
        return self.abstained(self._mode_of(ask), reason, detail)

    def abstained(self, mode: AskMode, reason: AbstainReason, detail: str) -> Answer:
        """No answer, with the reason as a word and in a sentence."""
        return Answer(
            abstained=reason, detail=storable(detail), mode=mode, model=self.contract.name,
            contract_version=self.contract.version, contract_digest=self.digest,
        )  # fmt: skip


def load_student(
    folder: str | Path,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    book: "str | Path | RecipeBook | None" = None,
    review: str | Path | None = None,
) -> ServedStudent:
    """The student in an exported folder, ready to be asked.

    Args:
        folder: as `aot export` made it.
        device: auto, cpu or cuda.
        book: recipe cards for a student that looks recipes up, or a folder of them as `data.book` names one; None
            takes those that came with it.
        review: folder in which answers wait that a person has to look at first (docs/review.md), such as that of the
            run; without one, questions of these kinds get no answer.

    Raises:
        CheckpointError: it is no export, its major version is unknown, a file was altered, or prompts would look
            different from those that the student learned.
        ConfigError: it has no use for a book or for a folder of reviews, or no card of the book can be used.
        SourceError: the folder of the book cannot be read.
    """
    from aot.acting.carried import hands_of

    contract, bench = hands_of(read_contract(Path(folder)), Path(folder), book=book)
    queue = open_review(Path(review), contract) if review is not None else None
    from aot.student.model import loading  # torch, after what needs none

    config = StudentConfig(
        base=str(folder),
        num_frames=contract.frames.num_frames if contract.frames else 1,
        max_tokens=contract.max_tokens,
        max_answer_tokens=contract.max_answer_tokens,
        max_rationale_tokens=contract.max_rationale_tokens,
        effort=contract.thought_confidence,
        think_tags=contract.think_tags,
        dtype="bfloat16" if contract.dtype == "bfloat16" else "float32",
        device=device,
    )
    student = loading.load_student(
        str(folder), config=config, date=contract.template_date, quantised=bool(contract.quantised)
    )
    renderer = student.renderer
    renderer.offered = tuple(tool.definition for tool in contract.tools)
    check_templates(renderer, contract, folder)
    return ServedStudent(student, contract, bench, review=queue)


def _check(asks: Sequence[Ask]) -> None:
    if strange := [ask for ask in asks if not isinstance(ask, Ask)]:
        raise ConfigError(f"ask_many() takes a list of Ask, got {type(strange[0]).__name__} in it")
