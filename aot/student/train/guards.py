"""What stops training: a signal that all processes agree on, a loss or gradient that is not finite, a dead parameter.

While steps are taken, signals only raise a flag; the trainer looks at it after each step, saves, and stops everywhere
at the same step.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


class StopFlag:
    """Raised by SIGTERM, SIGINT, SIGHUP, SIGUSR1 or SIGUSR2; a second SIGINT interrupts at once.

    While steps are taken, a signal only raises the flag, and the running step may end and be saved. Before the first
    step there is nothing to save, and after a step that does not end there never will be: both are interrupted.
    """

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self) -> None:
        self.name = ""
        """Name of the first signal that came; empty while none did."""
        self._began_s: float | None = None
        """When the running step, or what follows the last one, began; None before the first step."""
        self._longest_s: float | None = None
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


def _interrupt_main() -> None:
    """A real signal, because only that wakes a main thread that waits for something."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


class GradientCheck:
    """Watches the first backward pass: trainable tensors need a finite gradient, B matrices not only zeros."""

    def __init__(self, model: nn.Module) -> None:
        self._names = [name for name, p in model.named_parameters() if p.requires_grad]
        self._seen: dict[str, tuple[bool, bool]] = {}
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
        flags = [(float(not torch.isfinite(part).all()), float(part.any())) for part in parts]
        broken, nonzero = reduced(torch.tensor(flags or [(0.0, 0.0)])).T.tolist()
        self._seen = {name: (not b, bool(n)) for name, b, n in zip(gradients, broken, nonzero, strict=False)}

    def finish(self) -> None:
        """Judge what was seen and stop watching; later calls do nothing.

        Raises:
            GuardStop: a trainable tensor got no gradient, one that is not finite, or a B matrix only zeros.
        """
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles = []
        for name in self._names:
            finite, nonzero = self._seen.get(name, (True, False))
            if name not in self._seen:
                raise GuardStop(f"{name} is trainable but got no gradient in the first step; nothing was saved")
            if not finite:
                raise GuardStop(f"{name} got a gradient that is not finite in the first step; nothing was saved")
            if "lora_B" in name and not nonzero:
                raise GuardStop(f"{name} got a gradient of zeros only in the first step; nothing was saved")

    def _hook(self, name: str) -> Any:  # noqa: ANN401
        def record(gradient: torch.Tensor) -> None:
            finite, nonzero = bool(torch.isfinite(gradient).all()), bool(gradient.any())
            old_finite, old_nonzero = self._seen.get(name, (True, False))
            self._seen[name] = (old_finite and finite, old_nonzero or nonzero)

        return record
