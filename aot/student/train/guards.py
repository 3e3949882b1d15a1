"""What stops training: a signal, the clock or a STOP file, on which all processes agree; a dead parameter.

While steps are taken, signals only raise a flag; the trainer looks at it after each step, saves, and stops everywhere
at the same step.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from aot.errors import GuardStop
from aot.interrupts import Interrupted

PATIENCE_S = 10.0
"""A signal waits so long for the end of the running step, or three times the longest step so far if that is longer."""
FIRST_PATIENCE_S = 30.0
"""The same for a first step, of which nobody knows how long it takes."""
LEAST_MARGIN_S = 20.0
"""What is left for the end at least when the clock stops training: files are published, processes end."""
JOB_END = "SLURM_JOB_END_TIME"
"""Where Slurm says, in seconds since 1970, when it will end the job."""


class StopFlag:
    """Raised by SIGTERM, SIGINT, SIGHUP, SIGUSR1 or SIGUSR2; a second SIGINT interrupts at once.

    While steps are taken, a signal only raises the flag, and the running step may end and be saved. Before the first
    step there is nothing to save, and after a step that does not end there never will be: both are interrupted.
    """

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self, *, end_s: float | None = None, file: Path | None = None) -> None:
        """`end_s`: the time by which all must be over; `file`: stops too, once somebody makes or touches it."""
        self.name = ""
        """Name of the first signal that came, or of what else stops training; empty while nothing did."""
        self._end_s = end_s
        self._file = file
        self._file_ns = _touched_ns(file)
        self._began_s: float | None = None
        """When the running step, or what follows the last one, began; None before the first step."""
        self._longest_s: float | None = None
        self._save_s = 0.0
        self._timer: threading.Timer | None = None

    @contextmanager
    def listening(self) -> Iterator["StopFlag"]:
        """Handle the signals inside the block; a no-op outside the main thread, where Python allows no handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        heard = [number for number in self.signals if signal.getsignal(number) != signal.SIG_IGN]  # as nohup wants it
        old = {number: signal.signal(number, self._raise_flag) for number in heard}
        try:
            yield self
        finally:
            self.heard()
            for number, handler in old.items():
                signal.signal(number, handler)

    def step_begins(self) -> None:
        """Signals wait for the end of this step from now on."""
        self._began_s = time.monotonic()

    def step_ended(self) -> None:
        """Learn how long a step takes."""
        took_s = time.monotonic() - (self._began_s or time.monotonic())
        self._longest_s = max(took_s, self._longest_s or 0.0)

    def saved(self, took_s: float) -> None:
        """Learn how long a save takes."""
        self._save_s = max(took_s, self._save_s)

    def reason(self) -> str:
        """Why this process wants to stop after this step; empty if it does not."""
        if not self.name and self._end_s is not None and time.time() + self.margin_s >= self._end_s:
            self.name = "the clock: the time of this job is over"
        if not self.name and _touched_ns(self._file) not in (None, self._file_ns):
            self.name = f"the file {self._file}"
        return self.name

    @property
    def margin_s(self) -> float:
        """Seconds before the end at which it is time to stop: one more step and one save, doubled."""
        return max(LEAST_MARGIN_S, 2 * ((self._longest_s or 0.0) + self._save_s))

    def heard(self) -> None:
        """Whoever trains stops because of the signal, and may take the time that saving needs."""
        if self._timer:
            self._timer.cancel()

    def _raise_flag(self, number: int, frame: FrameType | None) -> None:
        again = bool(self.name)
        self.name = self.name or signal.Signals(number).name
        if self._began_s is None or (again and number == signal.SIGINT):
            raise Interrupted(self.name)
        if not again:
            patience_s = FIRST_PATIENCE_S if self._longest_s is None else max(PATIENCE_S, 3 * self._longest_s)
            self._timer = threading.Timer(patience_s, _interrupt_main)
            self._timer.daemon = True
            self._timer.start()


def end_of_time(limit_s: float | None) -> float | None:
    """When this process must be over, in seconds since 1970: by Slurm, or so long after now; None if nobody says."""
    by_slurm = os.environ.get(JOB_END, "")
    ends = [float(by_slurm)] if by_slurm.isdigit() and int(by_slurm) > 0 else []
    return min([*ends, *([time.time() + limit_s] if limit_s else [])], default=None)


def _touched_ns(file: Path | None) -> int | None:
    """When `file` was last written or touched, by the clock of its disk; None where there is none."""
    try:
        return file.stat().st_mtime_ns if file else None
    except OSError:
        return None


def _interrupt_main() -> None:
    """A real signal, because only that wakes a main thread that waits for something."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


class GradientCheck:
    """Watches the first backward pass that is stepped with: trainable tensors need a gradient, B not only zeros."""

    def __init__(self, model: nn.Module) -> None:
        self._names = [name for name, p in model.named_parameters() if p.requires_grad]
        self._nonzero: dict[str, bool] = {}
        self._handles = [
            p.register_hook(self._hook(name)) for name, p in model.named_parameters() if p.requires_grad
        ]  # fmt: skip

    def see_parts(self, model: nn.Module, *, reduced: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Look at what fully_shard left in `model` instead: it puts gradients beside the weights, past all hooks.

        Args:
            model: with the gradients of one step; each process holds a part of every tensor, which may be empty.
            reduced: the sum of a tensor over all processes.
        """
        if not self._handles:
            return
        gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}
        parts = [value.to_local() if isinstance(value, DTensor) else value for value in gradients.values()]
        sums = reduced(torch.tensor([0.0, *(float(part.any()) for part in parts)])).tolist()[1:]
        self._nonzero = {name: bool(count) for name, count in zip(gradients, sums, strict=True)}

    def forget(self) -> None:
        """What was seen so far belongs to a step that is skipped."""
        self._nonzero = {}

    def finish(self) -> None:
        """Judge what was seen and stop watching; later calls do nothing.

        Raises:
            GuardStop: a trainable tensor got no gradient, or a B matrix only zeros.
        """
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for name in self._names:
            if name not in self._nonzero:
                raise GuardStop(f"{name} is trainable but got no gradient in the first step; nothing was saved")
            if "lora_B" in name and not self._nonzero[name]:
                raise GuardStop(f"{name} got a gradient of zeros only in the first step; nothing was saved")

    def _hook(self, name: str) -> Any:  # noqa: ANN401
        def record(gradient: torch.Tensor) -> None:
            self._nonzero[name] = self._nonzero.get(name, False) or bool(gradient.any())

        return record
