"""Hand-made models for cascades: a small one that says what a table says, and a big one that counts its calls."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aot.answer_records import Answer
from aot.chat.messages import ChatReply, ChatRequest
from aot.config import CascadeSection
from aot.errors import ChatError
from aot.run_records import ChatUsage
from aot.served_records import CascadeThreshold, FrameRule, ServedCalibration, StudentContract, WatchBaseline
from aot.serving.cascade.model import Cascade
from aot.serving.student import Ask

PRICES = {"date": "2026-11-01", "prompt": 1.0, "completion": 1.0}
USAGE = ChatUsage(prompt_tokens=60, completion_tokens=40)


def threshold(at: float | None, *, target: float = 0.05, mode: str = "decide") -> CascadeThreshold:
    """A row of a calibration, as if 200 questions had proved it."""
    return CascadeThreshold.model_validate(
        {"mode": mode, "loss": "wrong", "target": target, "confidence": 0.95, "threshold": at, "n": 200, "kept": 150,
         "errors": 2, "upper": 0.042, "base_risk": 0.12, "must_escalate": 0.074, "missing": 0 if at else 40}
    )  # fmt: skip


def contract(
    *thresholds: CascadeThreshold,
    frames: bool = False,
    labels: tuple[str, ...] = (),
    watches: tuple[WatchBaseline, ...] = (),
) -> StudentContract:
    """Of a student that names steps, calibrated so."""
    calibration = ServedCalibration(
        temperatures=(), source="calibration questions", questions_digest="0" * 12, n=200, ece_before=0.1,
        ece_after=0.02, brier_before=0.1, brier_after=0.08, thresholds=thresholds, watches=watches,
    )  # fmt: skip
    return StudentContract(
        name="small", arm="pre", base="tiny", base_digest="0", config_digest="0", model_type="llama", dtype="float32",
        template_hash="0", frames=FrameRule(num_frames=4, stored_fps=3, max_side_px=96) if frames else None,
        labels=labels, kinds=("next_choice", "sum"), modes=("direct", "reason"), max_tokens=512, max_answer_tokens=24,
        max_rationale_tokens=160, calibration=calibration if thresholds else None,
    )  # fmt: skip


class Small:
    """Says to every question what `said` says, and is as sure as its text tells: `... 0.93`."""

    def __init__(self, terms: StudentContract, **said: Any) -> None:
        self.contract, self.said, self.closed = terms, said, False

    def ask_many(self, asks: Sequence[Ask]) -> list[Answer]:
        return [self._answer(ask) for ask in asks]

    def close(self) -> None:
        self.closed = True

    def _answer(self, ask: Ask) -> Answer:
        words = str(ask.question).rpartition(" ")[2]
        confidence = float(words) if words.replace(".", "").isdigit() else None
        said = {"answer": ask.choices[0] if ask.choices else "7", "confidence": confidence, "mode": "decide"}
        return Answer.model_validate({**said, "choices": ask.choices, "model": "small", **self.said})


class Big:
    """A chat model that replies what `say` makes of the request; it counts calls, and those at the same time."""

    name = "big"

    def __init__(
        self, say: Callable[[ChatRequest], str] | str = "Answer: 8", *, usage: ChatUsage | None = USAGE
    ) -> None:
        self.say, self.usage = say, usage
        self.requests: list[ChatRequest] = []
        self.closed = False
        self._lock = threading.Lock()

    def reply(self, request: ChatRequest) -> ChatReply:
        with self._lock:
            self.requests.append(request)
        text = self.say if isinstance(self.say, str) else self.say(request)
        return ChatReply(text=text, model="big-1", usage=self.usage)

    def close(self) -> None:
        self.closed = True


def down(reason: str) -> Callable[[ChatRequest], str]:
    """What a big model does that gives an error."""

    def say(request: ChatRequest) -> str:
        raise ChatError("no reply", reason=reason)  # type: ignore[arg-type]

    return say


def section(folder: Path | None = None, **changes: Any) -> CascadeSection:
    """A rule over a big model with prices."""
    big = {"model": "big", "backend": "local", "max_tokens": 40, "prices": PRICES, **changes.pop("of_big", {})}
    raw = {"target": 0.05, "audit": 0.0, "folder": str(folder) if folder else None, "big": big, **changes}
    return CascadeSection.model_validate(raw)


def cascade(big: Any = None, *, small: Small | None = None, folder: Path | None = None, **changes: Any) -> Cascade:
    """A cascade that keeps answers of confidence 0.9."""
    return Cascade(small or Small(contract(threshold(0.9))), big or Big(), section(folder, **changes))
