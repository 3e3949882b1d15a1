"""What stops training: a signal that all processes agree on, a loss or gradient that is not finite, a dead parameter.

Signals only raise a flag; the trainer looks at it after each step, saves, and stops everywhere at the same step.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import nn

from aot.errors import GuardStop


class StopFlag:
    """Raised by SIGTERM, SIGINT, SIGUSR1 or SIGUSR2; a second SIGINT interrupts at once."""

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self) -> None:
        self.name = ""
        """Name of the first signal that came; empty while none did."""

    @contextmanager
    def listening(self) -> Iterator["StopFlag"]:
        """Handle the signals inside the block; a no-op outside the main thread, where Python allows no handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        old = {number: signal.signal(number, self._raise_flag) for number in self.signals}
        try:
            yield self
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _raise_flag(self, number: int, frame: FrameType | None) -> None:
        if self.name and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = self.name or signal.Signals(number).name


class GradientCheck:
    """Watches the first backward pass: trainable tensors need a finite gradient, B matrices not only zeros."""

    def __init__(self, model: nn.Module) -> None:
        self._names = [name for name, p in model.named_parameters() if p.requires_grad]
        self._seen: dict[str, tuple[bool, bool]] = {}
        self._handles = [
            p.register_hook(self._hook(name)) for name, p in model.named_parameters() if p.requires_grad
        ]  # fmt: skip

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
