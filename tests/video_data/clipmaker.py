"""Draws small real video files for the tests of the decoding room."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SHARED_CLIPS = Path(__file__).resolve().parents[3] / "shared" / "data" / "clips"


def marked_frame(index: int, *, width: int, height: int) -> np.ndarray:
    """Grey that tells the frame's index, a red left quarter on top and a blue bottom half of the right quarter."""
    frame = np.full((height, width, 3), (20 + 8 * index) % 236, np.uint8)
    frame[: height // 2, : width // 4] = (250, 10, 10)
    frame[height // 2 :, -width // 4 :] = (10, 10, 250)
    return frame


def grey_index(frame_HWC: np.ndarray) -> int:
    """The index that `marked_frame` drew (below 27), read from the middle of the frame."""
    height, width = frame_HWC.shape[:2]
    return round((float(frame_HWC[height // 2, width // 2].mean()) - 20) / 8)


def draw_clip(
    path: Path,
    *,
    num_frames: int = 24,
    fps: int = 8,
    width: int = 96,
    height: int = 72,
    codec: str = "libx264",
    times_ms: list[int] | None = None,
    rotate_degrees: int = 0,
    gop: int = 12,
) -> Path:
    """Write a clip of marked frames; `times_ms` gives a variable rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = gop
        if rotate_degrees:
            stream.set_display_rotation(rotate_degrees)
        if times_ms:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for index in range(len(times_ms) if times_ms else num_frames):
            frame = av.VideoFrame.from_ndarray(marked_frame(index, width=width, height=height), format="rgb24")
            if times_ms:
                frame.pts, frame.time_base = times_ms[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def draw_blink(path: Path) -> Path:
    """Write one frame that is shown for a tenth of a microsecond: a valid MP4 of timescale 10**7."""
    tick_s = Fraction(1, 10_000_000)
    with av.open(str(path), "w", options={"video_track_timescale": "10000000"}) as container:
        stream = container.add_stream("libx264", rate=1 / tick_s)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        stream.codec_context.time_base = stream.time_base = tick_s
        frame = av.VideoFrame.from_ndarray(marked_frame(0, width=96, height=72), format="rgb24")
        frame.pts, frame.time_base = 0, tick_s
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def draw_audio(path: Path) -> Path:
    """Write a file with one second of silence and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for _ in range(16):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def draw_huge_clip(path: Path) -> Path:
    """Write one black frame of 7680x4320."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 7680, 4320, "yuv420p"
        frame = av.VideoFrame(7680, 4320, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
