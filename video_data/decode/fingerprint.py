"""Finds clips that are nearly the same: a perceptual hash of key frames, and fast comparison of many of them.

Each key frame becomes brightness differences of neighbours on a coarse grid, so re-encoding, scaling and a change of
brightness hardly matter. It compares looks, not meaning; a clip shifted by more than a few frames is another clip.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from video_data.decode.sampling import uniform_times
from video_data.store.shards import FrameStore

NUM_KEY_FRAMES = 8
GRID = 16
"""Rows and columns of the grid; a fingerprint has NUM_KEY_FRAMES * GRID * GRID bits."""
BLOCK_ROWS = 2048  # of the matrix of distances at a time: all of it takes gigabytes for some 30,000 clips
_RGB_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class NearDuplicate:
    """Two clips that look alike."""

    uri_a: str
    uri_b: str
    distance: float
    """Share of fingerprint bits that differ: 0 for the same frames, about 0.5 for unrelated ones."""


def clip_fingerprint(frames_THWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Packed bits (uint8, 256 bytes) that are close for clips that look alike; a ValueError without frames."""
    if frames_THWC.ndim != 4 or frames_THWC.shape[0] == 0:
        raise ValueError(f"a fingerprint needs at least one frame, got the shape {frames_THWC.shape}")
    keys = [int(time) for time in uniform_times(0.0, float(len(frames_THWC)), NUM_KEY_FRAMES)]
    bits = [_frame_bits(frames_THWC[key]) for key in keys]
    return np.packbits(np.concatenate(bits))


def near_duplicate_pairs(
    store: FrameStore, uris_a: Sequence[str], uris_b: Sequence[str], max_distance: float
) -> list[NearDuplicate]:
    """Pairs of a clip of `uris_a` and another one of `uris_b` at most `max_distance` apart, nearest first.

    Raises:
        KeyError: the store lacks a clip.
    """
    if not uris_a or not uris_b:
        return []
    prints = {uri: clip_fingerprint(store.frames(uri)) for uri in dict.fromkeys([*uris_a, *uris_b])}
    signs_a, signs_b = (_signs([prints[uri] for uri in uris]) for uris in (uris_a, uris_b))
    num_bits = signs_a.shape[1]
    pairs: set[tuple[float, str, str]] = set()
    for start in range(0, len(uris_a), BLOCK_ROWS):
        block = signs_a[start : start + BLOCK_ROWS]
        distances = (num_bits - block @ signs_b.T) / (2 * num_bits)  # products count agreements less disagreements
        for row, column in np.argwhere(distances <= max_distance):
            uri_a, uri_b = uris_a[start + row], uris_b[column]
            if uri_a != uri_b:
                pairs.add((round(float(distances[row, column]), 6), uri_a, uri_b))
    return [NearDuplicate(uri_a, uri_b, distance) for distance, uri_a, uri_b in sorted(pairs)]


def _frame_bits(frame_HWC: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether each grid cell is brighter than its right neighbour."""
    grey = frame_HWC.astype(np.float32) @ _RGB_WEIGHTS
    cells = _cell_means(_cell_means(grey, count=GRID).T, count=GRID + 1).T
    return (cells[:, :-1] > cells[:, 1:]).reshape(-1)


def _cell_means(grey: NDArray[np.float32], *, count: int) -> NDArray[np.float32]:
    """Means of `count` bands of rows; bands of small pictures repeat rows."""
    edges = np.linspace(0, len(grey), count + 1)
    starts = np.minimum(edges[:-1].astype(int), len(grey) - 1)
    ends = np.maximum(edges[1:].astype(int), starts + 1)
    sums = np.concatenate([np.zeros((1, grey.shape[1]), np.float32), np.cumsum(grey, axis=0)])
    means: NDArray[np.float32] = (sums[ends] - sums[starts]) / (ends - starts)[:, None]
    return means


def _signs(prints: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """One row of +1 and -1 for each fingerprint; products of rows count agreements."""
    return np.unpackbits(np.stack(prints), axis=1).astype(np.float32) * 2 - 1
