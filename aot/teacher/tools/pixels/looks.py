"""What frames look like to whoever looks at them, and who that may be; imports no package that reads pictures.

Axes: A actions, O objects of an appearance card.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from aot.teacher.tools.clipview import ClipView
from aot.teacher.tools.pixels.appearance import Appearance

Floats = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Found:
    """One object in one frame."""

    score: float
    box_xyxy: Box
    """Pixels of the stored frame."""


@dataclass(frozen=True)
class FrameLook:
    """What one frame shows."""

    action_scores_A: Floats
    object_scores_O: Floats
    objects: dict[str, Found]


class Sight(Protocol):
    """Whoever sees looks in frames, such as the Looker."""

    @property
    def card(self) -> Appearance:
        """What it can recognise."""
        ...

    def look(self, view: ClipView, positions: Sequence[int]) -> list[FrameLook]:
        """What the frames at `positions` of the view show, in order."""
        ...
