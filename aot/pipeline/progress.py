"""How a stage tells where it is: a bar on a terminal, otherwise one line every 30 s; and the counts for `aot status`.

Knows nothing of what the stages do.
"""

import logging
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aot.lease import CHECK_S, check_lease
from aot.runs import RunFolder, set_stage

LINE_EVERY_S = 30.0
STATUS_EVERY_S = 2.0
log = logging.getLogger(__name__)


class StageProgress:
    """Call it with (done, total); it decides what is worth showing."""

    def __init__(self, run: RunFolder, stage: str) -> None:
        """Progress of one stage of one run."""
        self.run, self.stage = run, stage
        self.line_s = time.monotonic()
        self.status_s = 0.0
        self.first: tuple[float, int] | None = None
        """When the first count came, and that count: work that an earlier attempt did says nothing about speed."""
        self.bar: Progress | None = None
        self.counts: dict[str, int] = {}
        """The latest `done` and `total`; run.json gets them only now and then."""

    def __enter__(self) -> Self:
        """Start the bar where there is a terminal."""
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, transient=True, console=Console(stderr=True))
            self.bar.start()
            self.task = self.bar.add_task(self.stage, total=None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar down."""
        if self.bar:
            self.bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Note that `done` of `total` items are finished.

        Raises:
            GuardStop: another command took over the run folder.
        """
        check_lease(self.run.root, every_s=CHECK_S)
        now = time.monotonic()
        self.counts = {"done": done, "total": total}
        left_s = self._left_s(done, total, now=now)
        if self.bar:
            self.bar.update(self.task, completed=done, total=total)
        elif now - self.line_s >= LINE_EVERY_S:
            self.line_s = now
            about = "" if left_s is None else f", about {left_s:.0f} s left"
            log.info("%s: %d of %d%s", self.stage, done, total, about)
        if now - self.status_s >= STATUS_EVERY_S:
            self.status_s = now
            set_stage(self.run, self.stage, "running", **self.counts, left_s=left_s and round(left_s, 1))

    def _left_s(self, done: int, total: int, *, now: float) -> float | None:
        """Seconds left at the speed since the first count; None while nothing is known."""
        if self.first is None or done < self.first[1]:
            self.first = now, done
        first_s, first_done = self.first
        return (now - first_s) / (done - first_done) * (total - done) if done > first_done else None
