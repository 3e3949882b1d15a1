"""What one server serves: who replies, who decides, under which limits; routes find it in their request."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request

from aot.chat.client import ChatModel
from aot.served_records import StudentContract
from aot.serving.server.desk import Desk
from aot.serving.server.limits import Limits
from aot.serving.server.metrics import Metrics
from aot.serving.student import ServedStudent


@dataclass
class Served:
    """What one server serves; routes find it at `request.app.state.served`."""

    chat: ChatModel
    """Who replies: a desk, a cascade, or servers behind this one."""
    contract: StudentContract | None = None
    student: ServedStudent | None = None
    """Who decides; asked through `desk` only, because its model is not for two threads at once."""
    desk: Desk | None = None
    """The thread at the student's model; None where no model runs in this process."""
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    allow: tuple[Path, ...] = ()
    """Folders, resolved, whose clips may be asked about."""
    started_s: float = field(default_factory=time.time)
    draining: bool = False
    """Whether a signal came: what was taken is finished, nothing new is."""

    @property
    def name(self) -> str:
        """Of the model, as clients name it."""
        return self.contract.name if self.contract else self.chat.name


def serve_export(folder: Path, *, limits: Limits, allow: tuple[Path, ...] = ()) -> Served:
    """The student in an exported folder, loaded, with a desk of its own.

    Raises:
        CheckpointError: it cannot be loaded.
    """
    from aot.serving.student import load_student
    from aot.student.answer.engine import Engine
    from aot.student.answer.speaker import speaker_of

    student, metrics = load_student(folder), Metrics()
    contract = student.contract
    engine = Engine(
        speaker_of(student.student, name=contract.name),
        max_prompt_tokens=min(contract.max_tokens, limits.max_prompt_tokens),
        deadline_s=limits.reply_s,
    )
    desk = Desk(engine, student=student, limits=limits, metrics=metrics)
    return Served(desk, contract, student, desk, limits, metrics, allow)


def served_of(request: Request) -> Served:
    """What the application of a request serves."""
    served: Served = request.app.state.served
    return served
