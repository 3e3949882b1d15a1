"""How well a patch of pixels fits a named shape: its silhouette is drawn into the same box and compared.

Masks are uint8 HW with 0 and 1. Knows no colours.
"""

import math

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.uint8]


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


_CORNERS = {"triangle": 3, "diamond": 4, "pentagon": 5}


def _polygon(corners: int, width: int, height: int) -> npt.NDArray[np.int32]:
    """A regular polygon with one corner up, stretched to fill the box."""
    angles = [2 * math.pi * i / corners - math.pi / 2 for i in range(corners)]
    points = np.array([[math.cos(angle), math.sin(angle)] for angle in angles])
    points = (points - points.min(axis=0)) / (points.max(axis=0) - points.min(axis=0))
    return (points * [width - 1, height - 1]).round().astype(np.int32)
