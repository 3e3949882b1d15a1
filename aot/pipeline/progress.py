"""How a stage tells where it is: a bar on a terminal, otherwise one line every 30 s; and the counts for `aot status`.

Knows nothing of what the stages do.
"""

import logging
import sys
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aot.files.lease import CHECK_S, check_lease
from aot.files.run_folder import RunFolder, set_stage
from aot.interrupts import check_interrupt

LINE_EVERY_S = 30.0
STATUS_EVERY_S = 2.0
WINDOW_S = 60.0
"""The time left follows the speed of so many seconds: a machine that gets busy, or a next arm, shows soon."""
log = logging.getLogger(__name__)


class StageProgress:
    """Call it with (done, total); it decides what is worth showing."""

    def __init__(self, run: RunFolder, stage: str) -> None:
        """Progress of one stage of one run."""
        self.run, self.stage = run, stage
        self.line_s = time.monotonic()
        self.status_s = 0.0
        self.recent: deque[tuple[float, int]] = deque()
        """When counts came, and these counts: those of the last WINDOW_S, and the one before them."""
        self.bar: Progress | None = None
        self.counts: dict[str, int] = {}
        """The latest `done` and `total`; run.json gets them only now and then."""

    def __enter__(self) -> Self:
        """Start the bar where there is a terminal."""
        if sys.stderr and sys.stderr.isatty():
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
            with suppress(OSError):  # the terminal may be gone
                self.bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Note that `done` of `total` items are finished.

        Raises:
            GuardStop: another command took over the run folder.
            Interrupted: a signal came that something swallowed.
        """
        check_interrupt()
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
        """Seconds left at the speed of the recent counts; None while nothing is known.

        Work that an earlier attempt did says nothing about speed, so the first count only sets the mark.
        """
        if self.recent and done < self.recent[-1][1]:
            self.recent.clear()
        if not self.recent or (done > self.recent[-1][1] and now - self.recent[-1][0] >= WINDOW_S / 600):
            self.recent.append((now, done))
        while len(self.recent) > 2 and self.recent[1][0] <= now - WINDOW_S:
            self.recent.popleft()
        first_s, first_done = self.recent[0]
        return (now - first_s) / (done - first_done) * (total - done) if done > first_done else None
