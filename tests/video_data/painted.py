"""Reads painted clips: every frame carries its number, and four coloured corners (../shared/cases/README.md)."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from video_data.decode.facts import DecodedFrames

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "video"
CORNERS = {"red": (222, 18, 19), "green": (17, 199, 18), "blue": (20, 19, 220), "yellow": (218, 218, 18)}
ORDER = ("red", "green", "blue", "yellow")
"""Top left, top right, bottom left, bottom right."""


def paint(index: int, *, width: int = 192, height: int = 144) -> np.ndarray:
    """One painted frame, uint8 H, W, 3."""
    frame = np.full((height, width, 3), 96, np.uint8)
    for band in range(10):
        left, right = band * width // 10, (band + 1) * width // 10
        frame[: height // 6, left:right] = 230 if index >> band & 1 else 16
    top, low, side = height // 6, height - height // 4, width // 6
    frame[top : top + height // 4, :side], frame[top : top + height // 4, -side:] = CORNERS["red"], CORNERS["green"]
    frame[low:, :side], frame[low:, -side:] = CORNERS["blue"], CORNERS["yellow"]
    return frame


def number(frame_HWC: np.ndarray) -> int:
    """The number painted into an upright frame."""
    height, width = frame_HWC.shape[:2]
    top = frame_HWC[height // 24 : height // 8].astype(float).mean(axis=(0, 2))
    middles = [int((band + 0.5) * width / 10) for band in range(10)]
    return sum(int(top[x - 2 : x + 3].mean() > 126) << band for band, x in enumerate(middles))


def corners(frame_HWC: np.ndarray, *, within: int = 25) -> tuple[str, ...]:
    """Names of the colours of the four corners, in the order of `ORDER`; `?` for a colour that is none of them."""
    height, width = frame_HWC.shape[:2]
    rows, columns = (height // 4, height - height // 16), (width // 16, width - width // 16)
    named = []
    for row in rows:
        for column in columns:
            colour = frame_HWC[row - 3 : row + 4, column - 3 : column + 4].astype(float).mean(axis=(0, 1))
            near = [name for name, wanted in CORNERS.items() if np.abs(colour - wanted).max() <= within]
            named.append(near[0] if near else "?")
    return tuple(named)


def numbers(frames: DecodedFrames) -> list[int]:
    """The numbers of all frames."""
    return [number(frame) for frame in frames.frames_THWC]


def draw_painted(
    path: Path,
    *,
    first: int = 0,
    count: int = 40,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    start_ms: int = 0,
    matrix: tuple[int, ...] | None = None,
    pixel_aspect: Fraction | None = None,
    size: tuple[int, int] = (192, 144),
    sound_ms: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write painted frames `first` and so on, 20 a second from `start_ms` on; `sound_ms` adds silence from then on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=20, options=options or {})
        (stream.width, stream.height), stream.pix_fmt = size, pixel_format
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if matrix:
            stream.set_display_matrix(matrix)
        sound = container.add_stream("aac", rate=16000) if sound_ms is not None else None
        if sound is not None:
            for block in range(16):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.time_base = 16000, Fraction(1, 16000)
                silence.pts = 16 * (sound_ms or 0) + 1024 * block
                container.mux(sound.encode(silence))
            container.mux(sound.encode())
        for index in range(count):
            picture = paint(first + index, width=size[0], height=size[1])
            if pixel_format in ("argb", "rgba", "yuva444p10le"):
                picture = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
                picture[60:80, 90:100] = (255, 0, 255, 0)
            layout = "rgba" if picture.shape[2] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(picture, format=layout).reformat(format=pixel_format)
            frame.pts, frame.time_base = start_ms + 50 * index, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
