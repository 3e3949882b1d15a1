"""How many tokens and patches a frame costs, by the family of a model, its processor's settings and the frame's size.

The arithmetic is that of the image processors of transformers 5.23; tests compare it with those that run here.
"""

from dataclasses import dataclass, replace
from math import ceil, floor, sqrt
from typing import Any

from aot.pipeline.planning.shapes import ModelShape, Tower

_QWEN_PIXELS = {"qwen2_5_vl": (56 * 56, 28 * 28 * 1280), "qwen3_vl": (65536, 16777216)}
"""Fewest and most pixels of an image where a processor's settings name none."""


@dataclass(frozen=True)
class FrameCost:
    """What one frame of a size costs."""

    tokens: int
    """That the vision tower makes of it."""
    marks: int
    """Tokens around those: begin, end, rows of tiles, new lines."""
    patches: int
    """That the vision tower reads, of all its views."""
    views: int
    """Pictures that the tower sees of it: tiles and the whole."""

    @property
    def length(self) -> int:
        """Tokens of a prompt that stand for the frame."""
        return self.tokens + self.marks


def frame_cost(shape: ModelShape, size_hw: tuple[int, int], *, whole: bool = False) -> FrameCost | None:
    """What a frame of this height and width in pixels costs; None where the family of the model is not known here.

    `whole` is for `student.frame_view: whole`: it is not cut into tiles.
    """
    tower = shape.tower
    if tower is None:
        return None
    if whole:
        only = {"do_image_splitting": False, "image_grid_pinpoints": [[tower.image] * 2]}
        shape = replace(shape, processor={**shape.processor, **only})
    if shape.model_type in _QWEN_PIXELS:
        return _of_grid(shape, tower, size_hw)
    if shape.model_type in ("idefics3", "smolvlm"):
        return _of_tiles(shape, tower, size_hw)
    if shape.model_type == "llava":
        side = tower.image // tower.patch
        return FrameCost(tokens=side**2, marks=0, patches=side**2 + 1, views=1)
    return _of_pinpoints(shape, tower, size_hw)


def smart_size(size_hw: tuple[int, int], *, factor: int, fewest: int, most: int) -> tuple[int, int]:
    """Height and width nearest to `size_hw` that are multiples of `factor`, with pixels between the two limits.

    As in `smart_resize` of transformers' Qwen2-VL image processor.

    >>> smart_size((270, 480), factor=28, fewest=3136, most=12845056)
    (280, 476)
    """
    height, width = size_hw
    high, wide = (max(factor, round(side / factor) * factor) for side in size_hw)
    if high * wide > most:
        scale = sqrt(height * width / most)
        high, wide = (max(factor, floor(side / scale / factor) * factor) for side in size_hw)
    elif high * wide < fewest:
        scale = sqrt(fewest / (height * width))
        high, wide = (ceil(side * scale / factor) * factor for side in size_hw)
    return high, wide


def _of_grid(shape: ModelShape, tower: Tower, size_hw: tuple[int, int]) -> FrameCost:
    settings = shape.processor
    size = settings.get("size") or {}
    default = _QWEN_PIXELS[shape.model_type]
    fewest = int(settings.get("min_pixels") or size.get("shortest_edge") or default[0])
    most = int(settings.get("max_pixels") or size.get("longest_edge") or default[1])
    high, wide = smart_size(size_hw, factor=tower.patch * tower.merge, fewest=fewest, most=most)
    patches = (high // tower.patch) * (wide // tower.patch)
    return FrameCost(tokens=patches // tower.merge**2, marks=2, patches=patches, views=1)


def _of_tiles(shape: ModelShape, tower: Tower, size_hw: tuple[int, int]) -> FrameCost:
    settings = shape.processor
    tile = int((settings.get("max_image_size") or {}).get("longest_edge", tower.image))
    edge = int((settings.get("size") or {}).get("longest_edge", 4 * tile))
    in_view = (tower.image // tower.patch) ** 2
    per_view = int(settings.get("image_seq_len", in_view // tower.merge**2))
    rows = columns = 0
    if settings.get("do_image_splitting", True):
        long = ceil(edge / tile) * tile  # the longest side is brought to `edge`, then both sides to whole tiles
        sides = [ceil(int(long * side / max(size_hw)) / tile) for side in size_hw]
        rows, columns = sides
        if rows * columns == 1:
            rows = columns = 0
    views = rows * columns + 1
    marks = 3 if views == 1 else 2 * rows * columns + rows + 4
    return FrameCost(tokens=views * per_view, marks=marks, patches=views * in_view, views=views)


def _of_pinpoints(shape: ModelShape, tower: Tower, size_hw: tuple[int, int]) -> FrameCost:
    """LLaVA-NeXT: the whole picture, and tiles of the best of some sizes without their padding, with ends of rows."""
    points = shape.processor.get("image_grid_pinpoints") or shape.settings["image_grid_pinpoints"]
    best = _best_point(size_hw, points)
    side = tower.image // tower.patch
    scale_h, scale_w = best[0] // tower.image, best[1] // tower.image
    high, wide, (height, width) = side * scale_h, side * scale_w, size_hw
    if width / height > wide / high:
        high -= (high - int(round(height * wide / width, 7))) // 2 * 2
    else:
        wide -= (wide - int(round(width * high / height, 7))) // 2 * 2
    views = scale_h * scale_w + 1
    return FrameCost(tokens=side**2 + high * wide + high, marks=0, patches=views * (side**2 + 1), views=views)


def _best_point(size_hw: tuple[int, int], points: list[Any]) -> tuple[int, int]:
    """The size in which most pixels of a picture are kept, and fewest are wasted."""
    height, width = size_hw

    def worth(point: list[int]) -> tuple[int, int]:
        scale = min(point[1] / width, point[0] / height)
        kept = min(int(width * scale) * int(height * scale), width * height)
        return kept, kept - point[0] * point[1]

    best = max(points, key=worth)
    return int(best[0]), int(best[1])
