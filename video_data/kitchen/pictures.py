"""Drawing the kitchen: one frame of one step, and a whole clip as a real video file.

Knows how things look and move, with nuisance in position, size, colour, light and noise; knows no recipe and no
question. Frames are uint8 RGB of HEIGHT x WIDTH; every random choice comes from the generator that is handed in.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from aot.files.disk import publish_file
from video_data.datasets.rows import SegmentRow
from video_data.disk import refused_by_disk
from video_data.kitchen.world import ACTIONS, INGREDIENTS

WIDTH, HEIGHT = 96, 72
Rgb = tuple[int, int, int]
_SIDES = {"ellipse": (1.25, 0.8), "bar": (1.5, 0.45)}
"""Half the width and half the height of a shape, in radii, where they are not 1."""


@dataclass(frozen=True)
class ClipStyle:
    """Nuisance that stays the same within a clip."""

    board_rgb: Rgb
    light: float
    tint: tuple[float, float, float]
    noise: float
    """Standard deviation of pixel noise, in grey levels."""
    center_xy: tuple[float, float]
    radius_px: float
    colour_shift: tuple[int, int, int]
    clutter: tuple[tuple[int, int, int, int, int], ...]
    """Grey rectangles at the rim: x, y, width, height, grey level."""


def draw_style(rng: np.random.Generator) -> ClipStyle:
    """A random clip style."""
    base = rng.integers(150, 225)
    warm = rng.integers(-18, 19)
    clutter = []
    for _ in range(rng.integers(0, 4)):
        left, top = int(rng.integers(0, WIDTH - 10)), int(rng.choice([0, HEIGHT - 6]))
        clutter.append((left, top, int(rng.integers(5, 14)), 6, int(rng.integers(90, 200))))
    return ClipStyle(
        board_rgb=(int(base + warm), int(base), int(base - warm)),
        light=float(rng.uniform(0.8, 1.12)),
        tint=tuple(float(v) for v in rng.uniform(0.94, 1.06, size=3)),  # type: ignore[arg-type]
        noise=float(rng.uniform(2.0, 9.0)),
        center_xy=(float(rng.uniform(38, 58)), float(rng.uniform(36, 46))),
        radius_px=float(rng.uniform(9.0, 13.0)),
        colour_shift=tuple(int(v) for v in rng.integers(-12, 13, size=3)),  # type: ignore[arg-type]
        clutter=tuple(clutter),
    )


def draw_step_frame(step: str, *, phase: float, style: ClipStyle, rng: np.random.Generator) -> np.ndarray:
    """One frame of `step` as uint8 H, W, 3 in RGB.

    Args:
        step: such as `chop onion`.
        phase: position within the periodic motion of the action; one period is 1.0.
        style: nuisance of the clip.
        rng: draws the jitter and noise of this frame.
    """
    action, _, ingredient = step.partition(" ")
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[:] = style.board_rgb
    for left, top, width, height, grey in style.clutter:
        cv2.rectangle(image, (left, top), (left + width, top + height), (grey, grey, grey), -1)
    sway = math.sin(2 * math.pi * phase)
    x = style.center_xy[0] + rng.normal(0, 0.6) + (3 * sway if action in ("fry", "mix") else 0)
    y = style.center_xy[1] + rng.normal(0, 0.6)
    radius = style.radius_px * rng.uniform(0.96, 1.04)
    # In this order: pan and pot must not hide the ingredient, the knife may.
    _draw_behind(image, action, x, y, radius)
    look = INGREDIENTS[ingredient]
    red, green, blue = (int(np.clip(c + s, 0, 255)) for c, s in zip(look.rgb, style.colour_shift, strict=True))
    _shape(image, look.shape, x, y, radius, (red, green, blue))
    _draw_in_front(image, action, x, y, radius, phase)
    flicker = style.light * rng.uniform(0.97, 1.03)
    lit = image.astype(np.float32) * (flicker * np.array(style.tint, np.float32))
    lit += rng.standard_normal(image.shape, dtype=np.float32) * style.noise
    return np.clip(lit, 0, 255).astype(np.uint8)


def resting_box(ingredient: str, style: ClipStyle) -> tuple[float, float, float, float]:
    """Where the ingredient rests in a clip of this style: x0, y0, x1, y1 in pixels."""
    (x, y), r = style.center_xy, style.radius_px
    wide, tall = (factor * r for factor in _SIDES.get(INGREDIENTS[ingredient].shape, (1, 1)))
    return (round(x - wide, 1), round(y - tall, 1), round(x + wide, 1), round(y + tall, 1))


def write_clip(
    path: Path,
    *,
    segments: Sequence[SegmentRow],
    frame_times_s: Sequence[float],
    rng: np.random.Generator,
) -> None:
    """Draw a clip and publish it at `path` as H.264 in MP4; `segments` say what happens when.

    Frame times may be unevenly spaced; they become the true presentation times, in milliseconds.

    Raises:
        VideoError: `disk_full`, or `unwritable` for anything else that the disk or the encoder refuses; no half-written
            file stays.
    """
    temporary = path.with_name(f".{path.stem}.tmp.mp4")
    # One thread and fixed settings: the same bytes wherever the clip is made again.
    options = {"preset": "ultrafast", "crf": "23", "threads": "1"}
    style = draw_style(rng)
    try:
        with av.open(str(temporary), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=Fraction(8), options=options)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            for time_s in frame_times_s:
                step = next((s for s in segments if s.start_s <= time_s < s.end_s), segments[-1])
                frame_rgb = draw_step_frame(step.label, phase=(time_s - step.start_s) / 0.9, style=style, rng=rng)
                frame = av.VideoFrame.from_ndarray(frame_rgb, format="rgb24")
                frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        publish_file(temporary, path)
    except (OSError, av.FFmpegError) as error:  # a full disk comes as either, whoever writes the last bytes
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise refused_by_disk(error.errno, folder=path.parent, kept="drawn clips") from None


def _px(x: float, y: float) -> tuple[int, int]:
    return round(x), round(y)


def _polygon(image: np.ndarray, corners: list[list[float]], rgb: Rgb) -> None:
    cv2.fillPoly(image, [np.array(corners).round().astype(np.int32)], rgb, cv2.LINE_AA)


def _shape(image: np.ndarray, shape: str, x: float, y: float, r: float, rgb: Rgb) -> None:
    """Draw a filled shape."""
    center = _px(x, y)
    wide, tall = (factor * r for factor in _SIDES.get(shape, (1, 1)))
    if shape == "circle":
        cv2.circle(image, center, round(r), rgb, -1, cv2.LINE_AA)
    elif shape == "ellipse":
        cv2.ellipse(image, center, _px(wide, tall), 0, 0, 360, rgb, -1, cv2.LINE_AA)
    elif shape == "bar":
        cv2.rectangle(image, _px(x - wide, y - tall), _px(x + wide, y + tall), rgb, -1)
    elif shape == "half":
        cv2.ellipse(image, center, _px(r, r), 0, 180, 360, rgb, -1, cv2.LINE_AA)
        cv2.rectangle(image, _px(x - r / 3, y), _px(x + r / 3, y + r), rgb, -1)
    elif shape == "dots":
        for dx, dy in ((0, 0), (-0.7, -0.5), (0.7, -0.5), (-0.7, 0.5), (0.7, 0.5), (0, -0.8), (0, 0.8)):
            cv2.circle(image, _px(x + dx * r, y + dy * r), max(2, round(0.25 * r)), rgb, -1, cv2.LINE_AA)
    else:
        corners = {"triangle": 3, "diamond": 4, "pentagon": 5}[shape]
        angles = [2 * math.pi * i / corners - math.pi / 2 for i in range(corners)]
        _polygon(image, [[x + r * math.cos(a), y + r * math.sin(a)] for a in angles], rgb)


def _draw_behind(image: np.ndarray, action: str, x: float, y: float, r: float) -> None:
    """What lies under the ingredient: pan, pot or oven."""
    rgb = ACTIONS[action].rgb
    if action == "fry":
        cv2.circle(image, _px(x, y), round(1.6 * r), rgb, -1, cv2.LINE_AA)
        cv2.line(image, _px(x + 1.5 * r, y), _px(x + 3.2 * r, y - 0.4 * r), rgb, 4)
    elif action == "boil":
        cv2.rectangle(image, _px(x - 1.7 * r, y - 1.4 * r), _px(x + 1.7 * r, y + 1.5 * r), rgb, -1)
    elif action == "bake":
        corner, opposite = _px(x - 1.8 * r, y - 1.5 * r), _px(x + 1.8 * r, y + 1.5 * r)
        cv2.rectangle(image, corner, opposite, (70, 40, 30), -1)
        cv2.rectangle(image, corner, opposite, rgb, 4)


def _draw_in_front(image: np.ndarray, action: str, x: float, y: float, r: float, phase: float) -> None:
    """What moves over the ingredient: knife, drops, peeler, bubbles, spoon or jug."""
    rgb = ACTIONS[action].rgb
    wave = 0.5 + 0.5 * math.sin(2 * math.pi * phase)
    if action == "chop":
        top = y - (1.0 + 1.2 * wave) * r
        cv2.rectangle(image, _px(x + 0.1 * r, top - 0.9 * r), _px(x + 0.5 * r, top + 1.3 * r), rgb, -1)
    elif action == "wash":
        for i in range(4):
            fall = (phase + i / 4) % 1.0
            at = _px(x + (i - 1.5) * 0.8 * r, y - 2.0 * r + 2.6 * r * fall)
            cv2.circle(image, at, 3, rgb, -1, cv2.LINE_AA)
    elif action == "peel":
        dx, dy = (wave - 0.5) * 1.6 * r, -0.9 * r
        points = np.array([[x + dx - r, y + dy - r], [x + dx, y + dy + 0.5 * r], [x + dx + r, y + dy - r]])
        cv2.polylines(image, [points.round().astype(np.int32)], False, rgb, 3, cv2.LINE_AA)
    elif action == "boil":
        for i in range(5):
            rise = (phase + i / 5) % 1.0
            at = _px(x + (i - 2) * 0.65 * r, y + 1.2 * r - 2.4 * r * rise)
            cv2.circle(image, at, 2, (235, 240, 245), -1, cv2.LINE_AA)
    elif action == "mix":
        angle = 2 * math.pi * phase
        x, y = x + 0.9 * r * math.cos(angle), y + 0.5 * r * math.sin(angle)
        cv2.line(image, _px(x, y), _px(x + 0.8 * r, y - 2.2 * r), rgb, 3, cv2.LINE_AA)
        cv2.circle(image, _px(x, y), 4, rgb, -1, cv2.LINE_AA)
    elif action == "pour":
        left, top = x - 2.3 * r, y - (1.9 + 0.3 * wave) * r
        corners = ((0, 0), (1.6, 0.3), (1.4, 1.3), (-0.1, 1.1))
        _polygon(image, [[left + dx * r, top + dy * r] for dx, dy in corners], rgb)
