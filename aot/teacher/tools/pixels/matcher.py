"""Looks at frames: which pixels have the colour of which known thing, and how well they form its shape.

Each frame is compared with its own background (its median colour); what stands out is matched with the card's colours
under the one brightness that explains the window best. Scores are 0 to 1 or a little above. It may be wrong; it never
sees anything but pixels and the card. Axes: T frames, A actions, O objects, H height, W width, G brightness gains.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from aot.teacher.tools.clipview import ClipView
from aot.teacher.tools.pixels.appearance import Appearance
from aot.teacher.tools.pixels.looks import Floats, Found, FrameLook

Mask = npt.NDArray[np.uint8]
"""Of 0 and 1."""

WORK_SIDE_PX = 160
"""Frames are looked at in this size at most; boxes are scaled back."""
RIM_SHARE = 0.1
"""This share of the shorter side along each edge is not looked at: clutter stands there."""
GAINS = (0.80, 0.86, 0.92, 0.98, 1.04, 1.10)
"""Brightnesses tried."""
OBJECT_SIGMA, UTENSIL_SIGMA = 14.0, 11.0
"""Spread of a thing's colour in grey levels of one channel; food varies more than tools."""
MAX_COST = 9.0
"""Squared distance, in sigmas, beyond which a pixel is no known thing."""
MIN_PIXELS = 25
MAX_THRESHOLD = 40.0
"""In a scene without a plain background nearly everything differs; a saturated thing must still stand out."""
_BITS = 5
_SQUARE_2, _SQUARE_5 = np.ones((2, 2), np.uint8), np.ones((5, 5), np.uint8)
_CORNERS = {"triangle": 3, "diamond": 4, "pentagon": 5}


@dataclass(frozen=True)
class _Foreground:
    pixels: npt.NDArray[np.intp]
    """Flat indices of the pixels that stand out."""
    bins: npt.NDArray[np.int64]
    """Their quantised colours."""
    size_HW: tuple[int, int]


@dataclass
class _Memory(threading.local):
    """What one thread saw in the clip it looked at last; threads that solve different questions share nothing."""

    clip: str = ""
    foregrounds: dict[int, _Foreground] = field(default_factory=dict)
    looks: dict[tuple[int, int], FrameLook] = field(default_factory=dict)


class Looker:
    """Looks at frames with one appearance card, from many threads at once.

    Each thread remembers what it saw in the clip it looked at last.
    """

    def __init__(self, card: Appearance) -> None:
        self.card = card
        self._objects = tuple(card.objects)
        self._actions = tuple(card.actions)
        self._things_GB, self._costs_GB = _colour_tables(card)
        self._memory = _Memory()

    def look(self, view: ClipView, positions: Sequence[int]) -> list[FrameLook]:
        """What the frames at `positions` of the view show, in order."""
        memory = self._memory
        if memory.clip != view.sha256:
            memory.clip = view.sha256
            memory.foregrounds.clear()
            memory.looks.clear()
        foregrounds = [self._foreground(view, position) for position in positions]
        bins = np.concatenate([foreground.bins for foreground in foregrounds])
        histogram_B = np.bincount(bins, minlength=self._costs_GB.shape[1]).astype(np.float32)
        gain = int(np.argmin(self._costs_GB @ histogram_B))
        return [self._frame_look(view, p, f, gain) for p, f in zip(positions, foregrounds, strict=True)]

    def _foreground(self, view: ClipView, position: int) -> _Foreground:
        index = view.indices[position]
        if index not in self._memory.foregrounds:
            self._memory.foregrounds[index] = _find_foreground(_work_frame(view.frames_THWC[position]))
        return self._memory.foregrounds[index]

    def _frame_look(self, view: ClipView, position: int, foreground: _Foreground, gain: int) -> FrameLook:
        key = (view.indices[position], gain)
        if key not in self._memory.looks:
            scale = view.frames_THWC.shape[2] / foreground.size_HW[1]
            self._memory.looks[key] = self._measure(foreground, gain, scale)
        return self._memory.looks[key]

    def _measure(self, foreground: _Foreground, gain: int, scale: float) -> FrameLook:
        """Things are numbered objects first, from 1; then utensils; 0 is nothing known."""
        height, width = foreground.size_HW
        things = np.zeros(height * width, np.uint8)
        things[foreground.pixels] = self._things_GB[gain][foreground.bins]
        areas = np.bincount(things, minlength=1 + len(self._objects) + len(self._actions))
        things_HW = things.reshape(height, width)
        first_utensil = 1 + len(self._objects)
        action_scores = np.zeros(len(self._actions), np.float32)
        for i, name in enumerate(self._actions):
            if areas[first_utensil + i] >= MIN_PIXELS:
                thing = (things_HW == first_utensil + i).astype(np.uint8)
                thick = int(cv2.countNonZero(cv2.morphologyEx(thing, cv2.MORPH_OPEN, _SQUARE_2)))
                action_scores[i] = min(1.3, thick / (height * width) / self.card.actions[name].share)
        object_scores = np.zeros(len(self._objects), np.float32)
        objects: dict[str, Found] = {}
        for i in np.argsort(-areas[1:first_utensil], kind="stable")[:3]:
            seen = self._find_object(things_HW, int(i), first_utensil, scale) if areas[1 + i] >= MIN_PIXELS else None
            if seen is not None:
                object_scores[i] = seen.score
                objects[self._objects[i]] = seen
        return FrameLook(action_scores, object_scores, objects)

    def _find_object(self, things_HW: npt.NDArray[np.uint8], i: int, first_utensil: int, scale: float) -> Found | None:
        look = self.card.objects[self._objects[i]]
        mask = (things_HW == 1 + i).astype(np.uint8)
        if look.shape == "dots":
            mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _SQUARE_5).astype(np.uint8)
        left, top, box_width, box_height = cv2.boundingRect(mask)
        mask = mask[top : top + box_height, left : left + box_width]
        _, parts_HW, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        if len(stats) < 2:
            return None
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        x, y, width, height, area = (int(value) for value in stats[largest])
        if area < MIN_PIXELS:
            return None
        component = (parts_HW[y : y + height, x : x + width] == largest).astype(np.uint8)
        x, y = x + left, y + top
        hidden = (things_HW[y : y + height, x : x + width] >= first_utensil).astype(np.uint8)
        score = shape_fit(component, shape=look.shape, hidden=hidden) * min(1.0, area / (look.share * things_HW.size))
        return Found(score, (x * scale, y * scale, (x + width) * scale, (y + height) * scale))


def _work_frame(frame_HWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    longest = max(frame_HWC.shape[:2])
    if longest > WORK_SIDE_PX:
        scale = WORK_SIDE_PX / longest
        frame_HWC = cv2.resize(frame_HWC, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return cv2.medianBlur(frame_HWC, 3).astype(np.uint8)


def _find_foreground(frame_HWC: npt.NDArray[np.uint8]) -> _Foreground:
    height, width = frame_HWC.shape[:2]
    sample = frame_HWC[::4, ::4].reshape(-1, 3)
    background_rgb = np.partition(sample, len(sample) // 2, axis=0)[len(sample) // 2]
    plain = np.empty_like(frame_HWC)
    plain[:] = background_rgb
    red, green, blue = cv2.split(cv2.absdiff(frame_HWC, plain))
    distance_HW = cv2.max(cv2.max(red, green), blue)
    threshold = min(MAX_THRESHOLD, max(11.0, 3.5 * float(np.median(distance_HW[::3, ::3]))))
    rim = round(RIM_SHARE * min(height, width))
    stands_out = np.zeros((height, width), np.bool_)
    inner = (slice(rim, height - rim), slice(rim, width - rim))
    stands_out[inner] = distance_HW[inner] > threshold
    pixels = np.flatnonzero(stands_out)
    rgb = (frame_HWC.reshape(-1, 3)[pixels] >> (8 - _BITS)).astype(np.int64)
    bins = (rgb[:, 0] << (2 * _BITS)) | (rgb[:, 1] << _BITS) | rgb[:, 2]
    return _Foreground(pixels, bins, (height, width))


def _colour_tables(card: Appearance) -> tuple[npt.NDArray[np.uint8], Floats]:
    """For each gain and quantised colour: the nearest thing (0 for none), and the cost of calling it that."""
    looks = [*card.objects.values(), *card.actions.values()]
    if not looks:
        blind = (len(GAINS), 2 ** (3 * _BITS))
        return np.zeros(blind, np.uint8), np.full(blind, MAX_COST, np.float32)
    sigmas = np.array([OBJECT_SIGMA] * len(card.objects) + [UTENSIL_SIGMA] * len(card.actions), np.float32)
    levels = (np.arange(2**_BITS, dtype=np.float32) + 0.5) * 2 ** (8 - _BITS)
    colours_BC = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    things, costs = [], []
    for gain in GAINS:
        lit = np.minimum(np.array([look.rgb for look in looks], np.float32).reshape(-1, 3) * gain, 252.0)
        squared = (colours_BC**2).sum(1)[:, None] - 2 * colours_BC @ lit.T + (lit**2).sum(1)[None]
        squared = squared / sigmas**2
        nearest = squared.argmin(axis=1)
        cost = squared[np.arange(len(nearest)), nearest]
        things.append(np.where(cost < MAX_COST, nearest + 1, 0).astype(np.uint8))
        costs.append(np.minimum(cost, MAX_COST).astype(np.float32))
    return np.stack(things), np.stack(costs)


def silhouette(shape: str, *, width: int, height: int) -> Mask:
    """The filled shape in a box of `width` x `height`; a full box for a shape that has no outline of its own."""
    mask: Mask = np.zeros((height, width), np.uint8)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    if shape in ("circle", "ellipse", "half"):
        cv2.ellipse(mask, ((middle_x, middle_y), (width, height), 0), (1,), -1)
        if shape == "half":
            mask[(height + 1) // 2 :] = 0
            mask[height // 2 :, width // 3 : width - width // 3] = 1
    elif shape in _CORNERS:
        cv2.fillPoly(mask, [_polygon(_CORNERS[shape], width, height)], (1,))
    else:
        mask[:] = 1
    return mask


def shape_fit(component: Mask, *, shape: str, hidden: Mask) -> float:
    """Intersection over union of a component, cropped to its box, with the silhouette of `shape`: 0 to 1.

    Args:
        component: the pixels of the thing.
        shape: name of the silhouette.
        hidden: pixels of other things that may cover it; they count as part of it where the shape asks for them.
    """
    height, width = component.shape
    ideal = silhouette(shape, width=width, height=height)
    covered = component | (hidden & ideal)
    union = int(np.count_nonzero(covered | ideal))
    return int(np.count_nonzero(covered & ideal)) / union if union else 0.0


def _polygon(corners: int, width: int, height: int) -> npt.NDArray[np.int32]:
    """A regular polygon with one corner up, stretched to fill the box."""
    angles = [2 * math.pi * i / corners - math.pi / 2 for i in range(corners)]
    points = np.array([[math.cos(angle), math.sin(angle)] for angle in angles])
    points = (points - points.min(axis=0)) / (points.max(axis=0) - points.min(axis=0))
    return (points * [width - 1, height - 1]).round().astype(np.int32)
