"""An exported student as a Python object: ten lines are enough to ask it something.

    student = load_student("exports/kitchen")
    answer = student.ask("What is the next step?", clip="clip.mp4", choices=("stir the soup", "peel the onion"))

Frames are NumPy arrays at the border. Whatever is wrong with one question gives an answer that abstained, with the
reason `failed` and a sentence, and its neighbours are answered. Only what is wrong with the call itself is an error: a
student that was closed, an argument of a name that does not exist, something that is no `Ask`.
"""

import math
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from aot.answer_records import AbstainReason, Answer, Seconds
from aot.config import StudentConfig
from aot.display import storable
from aot.errors import AotError, CheckpointError, ConfigError, OutOfDomainError, RunError, SourceError
from aot.evaluation.risk import calibrated_reply, reply_confidence, tempered
from aot.files.jsonl import MAX_QUESTION_CHARS
from aot.records import MediaRef, Prediction, PromptMode, Question, Trace
from aot.run_records import ChatUsage
from aot.served_records import AskMode, StudentContract
from aot.serving.contract import read_contract
from aot.serving.domain import check_choices, kind_problem
from aot.serving.frames import ClipShelf, ShownFrames, Window
from aot.serving.replies import abstention, made_calls, plan_abstention, rationale_of, written_logprob
from aot.serving.timing import Parts, measured
from aot.student.rows.prompts import read_calls

if TYPE_CHECKING:
    from aot.student.answer.engine import Engine
    from aot.student.model.loading import Student
    from aot.teacher.bench import Bench
    from aot.teacher.tools.book import RecipeBook

BATCH = 16
"""Questions that the model reads at once."""
MOST_CHOICES = 1_000
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
    """Of the frames, ascending; None where they have none, which counts as one second apart."""
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
    note: str


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

    def __init__(self, student: Any, contract: StudentContract, bench: "Bench | None" = None) -> None:  # noqa: ANN401 - Student needs torch
        """Loads nothing; the bench is what calls of tools are carried out with."""
        self.student, self.contract, self.bench = student, contract, bench
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
            RunError: the student was closed.
        """
        with self.turn():
            if self._engine is None:
                self._engine = self.open_engine()
            return self._engine

    def open_engine(self, *, max_prompt_tokens: int = sys.maxsize, **limits: Any) -> "Engine":  # noqa: ANN401
        """The student as a chat model within limits of its caller's, as `Engine` takes them, and the contract's own.

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

        Raises:
            ConfigError: one of them is no `Ask`.
            RunError: the student was closed.
        """
        if strange := [ask for ask in asks if not isinstance(ask, Ask)]:
            raise ConfigError(f"ask_many() takes a list of Ask, got {type(strange[0]).__name__} in it")
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
        choices = _choices(ask.choices)
        text = text_of(ask.question, "question")
        if mark := renderer.reserved_mark(" ".join((text, *choices))):  # it would end a message and begin another
            raise SourceError(f"the text must not contain {mark!r}, which the model reserves; write it another way")
        mode = self._checked_mode(ask, choices)
        check_choices(student, choices)
        started_s = time.perf_counter()
        media = self.media_of(ask, shown)
        decode_s = time.perf_counter() - started_s
        renderer.check_times(self._times_shown(media, shown))
        note = ""
        if (
            ask.frames is not None
            and ask.times_s is None
            and media
            and shown
            and len(shown.clip(media.uri).times_s) > 1
        ):
            note = "the frames came without times_s: they were shown as one second apart"
        question = Question(
            id=str(index), dataset="", split="", kind=text_of(ask.kind or "*", "kind"), text=text, choices=choices,
            answer=choices[0] if choices else "", answer_type="choice" if choices else "text", media=media, group="",
        )  # fmt: skip
        return _Ready(question, mode, mode == "explain" and bool(ask.with_rationale), decode_s, note)

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
        window = Window(_seconds(ask.start_s, "start_s"), _seconds(ask.end_s, "end_s"))
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
            detail=detail or "; ".join(filter(None, (ready.note, strange))),
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
) -> ServedStudent:
    """The student in an exported folder, ready to be asked.

    Args:
        folder: as `aot export` made it.
        device: auto, cpu or cuda.
        book: recipe cards for a student that looks recipes up, or a folder of them as `data.book` names one; None
            takes those that came with it.

    Raises:
        CheckpointError: it is no export, its major version is unknown, a file was altered, or prompts would look
            different from those that the student learned.
        ConfigError: it has no use for a book, or no card of it can be used.
        SourceError: the folder of the book cannot be read.
    """
    from aot.acting.carried import hands_of

    contract, bench = hands_of(read_contract(Path(folder)), Path(folder), book=book)
    from aot.student.model import loading  # torch, after what needs none
    from aot.student.rows.talks import talk_hash

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
    if (now := renderer.template_hash()) != contract.template_hash:
        raise CheckpointError(
            f"{folder} promises prompts of template {contract.template_hash}, its files make {now}; export it again"
        )
    if contract.talk_hash and (now := talk_hash(renderer)) != contract.talk_hash:
        raise CheckpointError(
            f"{folder} promises talks of template {contract.talk_hash}, its files make {now}; export it again"
        )
    return ServedStudent(student, contract, bench)


def text_of(value: Any, what: str) -> str:  # noqa: ANN401 - whatever came
    """The text itself, after it was checked.

    Raises:
        SourceError: it is none, is empty or too long, or holds half a character; the message calls it `what`.
    """
    if not isinstance(value, str):
        raise SourceError(f"the {what} must be text, got {type(value).__name__}")
    if not value.strip():
        raise SourceError(f"the {what} is empty")
    if len(value) > MAX_QUESTION_CHARS:
        raise SourceError(f"the {what} has {len(value):,} characters, at most {MAX_QUESTION_CHARS:,} are fine")
    if value != storable(value):
        raise SourceError(f"the {what} holds half a character (a lone surrogate), which no model reads; mend its text")
    return value


def _choices(choices: Any) -> tuple[str, ...]:  # noqa: ANN401 - whatever came
    """The choices after they were checked; none are fine."""
    if choices is None:
        return ()
    if not isinstance(choices, list | tuple):
        raise SourceError(f"choices must be a list of texts, got {type(choices).__name__}")
    if not len(choices):
        return ()
    if len(choices) > MOST_CHOICES:
        raise SourceError(f"{len(choices):,} choices were given, at most {MOST_CHOICES:,} are fine")
    listed = tuple(text_of(one, f"choice {i}") for i, one in enumerate(choices))
    if len(listed) < 2:
        raise SourceError("one choice was given; give at least two, or none for an open question")
    if twice := [one for i, one in enumerate(listed) if one in listed[:i]]:
        raise SourceError(f"the choice {twice[0][:80]!r} stands twice; give different ones")
    return listed


def _seconds(value: Any, what: str) -> float | None:  # noqa: ANN401 - whatever came
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise SourceError(f"{what} must be seconds, finite and not negative, got {str(value)[:40]}")
    return number
