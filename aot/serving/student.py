"""An exported student as a Python object: ten lines are enough to ask it something.

    student = load_student("exports/kitchen")
    answer = student.ask("What is the next step?", clip="clip.mp4", choices=("stir the soup", "peel the onion"))

Frames are NumPy arrays at the border. A question that cannot be asked gives an answer that abstained, with the reason.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from aot.config import StudentConfig
from aot.errors import CheckpointError, SourceError, VideoError
from aot.records import MediaRef, Prediction, Question
from aot.run_records import ChatUsage
from aot.served_records import Answer, AskMode, FrameRule, Seconds, StudentContract
from aot.serving.contract import read_contract


@dataclass(frozen=True)
class Ask:
    """One question, with what it is about."""

    question: str
    choices: tuple[str, ...] = ()
    clip: str | Path | None = None
    """A video file; or frames."""
    frames: Sequence[np.ndarray] | None = None
    """Each uint8 (height, width, 3), RGB."""
    times_s: Sequence[float] | None = None
    """Of the frames, ascending."""
    start_s: float = 0.0
    end_s: float | None = None
    """Of a clip: nobody looks outside this window."""
    mode: AskMode | None = None
    """None: decide where there are choices, else as the student was taught first."""
    kind: str = ""
    """Of the question, which its calibration goes by; empty: the general one."""


@dataclass(frozen=True)
class _Clip:
    times_s: tuple[float, ...]
    duration_s: float
    stored_width: int
    stored_height: int


class _Frames:
    """Frames in memory, as the student reads them from a store."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[_Clip, np.ndarray]] = {}

    def add(self, frames_THWC: np.ndarray, times_s: Sequence[float], *, duration_s: float) -> str:
        """Hold frames; returns the uri under which they are read."""
        uri = f"frames/{len(self._held)}"
        height, width = frames_THWC.shape[1:3]
        self._held[uri] = (_Clip(tuple(times_s), duration_s, width, height), frames_THWC)
        return uri

    def clip(self, uri: str) -> _Clip:
        """Facts of the frames."""
        return self._held[uri][0]

    def frames(self, uri: str, indices: Sequence[int] | None = None) -> np.ndarray:
        """The frames themselves, uint8 (time, height, width, 3)."""
        every = self._held[uri][1]
        return every if indices is None else every[list(indices)]


class ServedStudent:
    """An exported student in this process; may be asked from many threads, which take turns."""

    def __init__(self, student: Any, contract: StudentContract) -> None:  # noqa: ANN401 - Student needs torch
        self.student, self.contract = student, contract
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the model."""
        with self._lock:
            self.student = None

    def ask(self, question: str, **about: Any) -> Answer:  # noqa: ANN401 - the fields of Ask
        """The answer to one question; keywords are the fields of `Ask`."""
        (answer,) = self.ask_many([Ask(question, **about)])
        return answer

    def ask_many(self, asks: Sequence[Ask]) -> list[Answer]:
        """The answers to several questions, those of one mode in one batch."""
        store, answers = _Frames(), dict[int, Answer]()
        rows: dict[AskMode, list[tuple[int, Question, float]]] = {}
        for i, ask in enumerate(asks):
            mode = ask.mode or ("decide" if ask.choices else self.contract.modes[0])
            started_s = time.perf_counter()
            try:
                question = self._question(i, ask, store)
            except (SourceError, VideoError) as error:
                answers[i] = self._abstained(mode, str(error))
                continue
            rows.setdefault(mode, []).append((i, question, time.perf_counter() - started_s))
        for mode, group in rows.items():
            for (i, question, decode_s), made in zip(group, self._predict(group, mode, store), strict=True):
                answers[i] = self._answer(question, made, mode, store, decode_s)
        return [answers[i] for i in range(len(asks))]

    def _predict(self, rows: Sequence[tuple[int, Question, float]], mode: AskMode, store: _Frames) -> list[Prediction]:
        from aot.student.answer.predict import predict
        from aot.student.rows.frames import FramePixels

        with self._lock:
            pixels = None
            if self.contract.frames:
                pixels = FramePixels(
                    store, self.student.processor, model_type=self.student.model_type, max_bytes=256 << 20
                )
            return list(
                predict(
                    self.student,
                    [question for _, question, _ in rows],
                    pixels=pixels,
                    arm=self.contract.name,
                    mode="likelihood" if mode == "decide" else mode,
                    batch_size=16,
                )
            )

    def _question(self, index: int, ask: Ask, store: _Frames) -> Question:
        media = None
        rule = self.contract.frames
        if rule and (ask.clip is not None or ask.frames is not None):
            media = _held(ask, rule, store)
        return Question(
            id=str(index), dataset="", split="", kind=ask.kind or "*", text=ask.question, choices=ask.choices,
            answer=ask.choices[0] if ask.choices else "", answer_type="choice" if ask.choices else "text",
            media=media, group="",
        )  # fmt: skip

    def _answer(self, question: Question, made: Prediction, mode: AskMode, store: _Frames, decode_s: float) -> Answer:
        if made.error:
            return self._abstained(mode, made.error)
        probs = self.calibrated(made.choice_probs, kind=question.kind)
        times_s: tuple[float, ...] = ()
        if question.media and self.contract.frames:
            from aot.student.rows.frames import choose_indices

            times_s = choose_indices(store, question.media, num_frames=self.contract.frames.num_frames).times_s
        cut = made.finish_reason == "length"
        return Answer(
            answer=made.answer or "",
            abstained="" if made.answer is not None else "cut_off" if cut else "unparsable",
            choices=question.choices,
            choice_probs=probs,
            confidence=max(probs) if probs else None,
            rationale=made.raw_text if mode in ("reason", "explain", "adaptive") else "",
            raw_text=made.raw_text,
            mode=mode,
            frame_times_s=times_s,
            usage=ChatUsage(prompt_tokens=made.prompt_tokens, completion_tokens=made.completion_tokens),
            seconds=Seconds(decode=decode_s, generate=made.latency_s),
            model=self.contract.name,
            contract_version=self.contract.version,
            contract_digest=self.contract.digest(),
        )

    def calibrated(self, probs: Sequence[float], *, kind: str) -> tuple[float, ...]:
        """Probabilities at the temperature of a kind of question; the likeliest choice stays the likeliest."""
        if not probs or not self.contract.calibration:
            return tuple(probs)
        logs = np.log(np.maximum(np.asarray(probs, dtype=np.float64), 1e-300))
        logs /= self.contract.calibration.temperature(kind)
        scaled = np.exp(logs - logs.max())
        return tuple((scaled / scaled.sum()).tolist())

    def _abstained(self, mode: AskMode, detail: str) -> Answer:
        return Answer(
            abstained="failed", detail=detail, mode=mode, model=self.contract.name,
            contract_version=self.contract.version, contract_digest=self.contract.digest(),
        )  # fmt: skip


def load_student(folder: str | Path, *, device: Literal["auto", "cpu", "cuda"] = "auto") -> ServedStudent:
    """The student in an exported folder, ready to be asked.

    Args:
        folder: as `aot export` made it.
        device: auto, cpu or cuda.

    Raises:
        CheckpointError: it is no export, its major version is unknown, a file was altered, or prompts would look
            different from those that the student learned.
    """
    from aot.student.model import loading  # torch is imported once somebody loads a student

    contract = read_contract(Path(folder))
    config = StudentConfig(
        base=str(folder),
        num_frames=contract.frames.num_frames if contract.frames else 1,
        max_tokens=contract.max_tokens,
        max_answer_tokens=contract.max_answer_tokens,
        max_rationale_tokens=contract.max_rationale_tokens,
        thought_confidence=contract.thought_confidence,
        think_tags=contract.think_tags,
        dtype="bfloat16" if contract.dtype == "bfloat16" else "float32",
        device=device,
    )
    student = loading.load_student(
        str(folder), config=config, date=contract.template_date, quantised=bool(contract.quantised)
    )
    now = student.renderer.template_hash()
    if now != contract.template_hash:
        raise CheckpointError(
            f"{folder} promises prompts of template {contract.template_hash}, its files make {now}; export it again"
        )
    return ServedStudent(student, contract)


def _held(ask: Ask, rule: FrameRule, store: _Frames) -> MediaRef:
    """The frames of a question in `store`, and the window that it shows of them."""
    if ask.frames is not None:
        times_s = tuple(float(one) for one in ask.times_s or range(len(ask.frames)))
        if len(ask.frames) == 0 or len(times_s) != len(ask.frames):
            raise SourceError(f"{len(ask.frames)} frames came with {len(times_s)} times; give one for each frame")
        uri = store.add(np.stack([np.asarray(one) for one in ask.frames]), times_s, duration_s=times_s[-1])
        return MediaRef(uri=uri, start_s=times_s[0])
    from video_data.decode.sampling import fps_times
    from video_data.decode.sandbox import shared_pool

    path = Path(str(ask.clip))
    facts = shared_pool().probe(path)
    if facts.reason:
        raise SourceError(f"{path}: {facts.note or facts.reason}")
    end_s = min(ask.end_s or facts.duration_s, facts.duration_s)
    wanted_s = fps_times(ask.start_s, end_s, rule.stored_fps)
    decoded = shared_pool().read_frames(path, times_s=wanted_s, max_side_px=rule.max_side_px)
    uri = store.add(decoded.frames_THWC, decoded.times_s, duration_s=facts.duration_s)
    return MediaRef(uri=uri, start_s=ask.start_s, end_s=ask.end_s)
