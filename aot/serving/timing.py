"""Where the time of a student's answer goes: pixels and vision tower, reading the prompt, writing the reply.

Hooks are put on the model for the length of one call and taken off again. On a GPU each mark waits for the device, so
that a part pays for its own work.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aot.student.model.loading import Student
    from aot.student.rows.frames import FramePixels


@dataclass
class Parts:
    """Seconds of one call."""

    vision: float = 0.0
    """Pixels made ready by the processor, and the vision tower where the model has one of its own."""
    prefill: float = 0.0
    """Writing the prompts out as tokens, and reading them."""
    generate: float = 0.0
    """Writing replies, or scoring choices after the prompt was read."""

    def share(self, count: int) -> "Parts":
        """Of one of so many questions that were answered together."""
        return Parts(self.vision / count, self.prefill / count, self.generate / count)


@contextmanager
def measured(student: "Student", pixels: "FramePixels | None") -> Iterator[Parts]:
    """The parts of the block's time, whole once it has ended; nobody else may use the model meanwhile."""
    from aot.student.model.vision import features_from, vision_owner  # torch

    parts = Parts()
    watch = _Watch(parts, student, pixels)
    model = student.model
    hooks = [
        model.register_forward_pre_hook(watch.before, with_kwargs=True),
        model.register_forward_hook(watch.after, with_kwargs=True),
    ]
    owner = vision_owner(model)
    tower = getattr(owner, "get_image_features", None)
    try:
        with features_from(owner, watch.timed(tower)) if tower else nullcontext():
            yield parts
    finally:
        watch.mark("generate" if watch.has_read else "prefill")
        for hook in hooks:
            hook.remove()


class _Watch:
    def __init__(self, parts: Parts, student: "Student", pixels: "FramePixels | None") -> None:
        self._parts, self._pixels = parts, pixels
        self._cuda = student.device.type == "cuda"
        self._reads = False
        self.has_read = False
        self._since = self._now()
        self._pixel_s = pixels.seconds if pixels else 0.0

    def _now(self) -> float:
        if self._cuda:
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def mark(self, name: str) -> None:
        """The time since the last mark goes to a part, what the processor took of it to vision."""
        now = self._now()
        pixel_s = self._pixels.seconds if self._pixels else 0.0
        processed_s, self._pixel_s = pixel_s - self._pixel_s, pixel_s
        self._parts.vision += processed_s
        setattr(self._parts, name, getattr(self._parts, name) + now - self._since - processed_s)
        self._since = now

    def before(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:  # noqa: ANN401 - a hook of torch
        """The model is about to read: a prompt, where it remembers nothing yet."""
        from aot.student.model.caches import CACHES

        caches = [value for key, value in kwargs.items() if key in CACHES]
        self._reads = all(value is None for value in caches)
        # Up to the first prompt all time goes into making it; between later ones replies are decoded.
        self.mark("generate" if self.has_read else "prefill")

    def after(self, model: Any, args: Any, kwargs: Any, output: Any) -> None:  # noqa: ANN401
        """The model has read."""
        self.mark("prefill" if self._reads else "generate")
        self.has_read = True

    def timed(self, features: Callable[..., Any]) -> Callable[..., Any]:
        """The tower, with its time noted."""

        def look(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self.mark("prefill")
            made = features(*args, **kwargs)
            self.mark("vision")
            return made

        return look
