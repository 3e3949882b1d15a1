"""How fast `prepare` reads frames, and the frame store gives them back, against a bare decord loop over the same.

Run: python scripts/bench_prepare.py [--clips 120]. It draws its own clips in a temporary folder. Each ratio is the
median of rounds in which both sides run one after the other, so that other work on the machine hits both. The time of
prepare includes starting its decoding processes, about half a second; the loop has its decoder imported already.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import av
import decord
import numpy as np

from video_data.decode.budgets import Budgets, Sampling
from video_data.store.prepare import decode_clips
from video_data.store.shards import FrameStore

FPS_STORED = 3.0
ROUNDS = 3
NUM_DRAWN = 20
"""Further clips are copies of these."""


def draw_clip(path: Path, *, width: int, height: int, fps: int, seconds: int, seed: int) -> None:
    """Write an H.264 clip of moving, noisy blocks."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(seconds * fps):
            noisy = np.roll(blocks, 2 * index, axis=1) + rng.integers(-8, 9, blocks.shape)
            frame = av.VideoFrame.from_ndarray(noisy.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def decord_loop(paths: list[Path], indices: list[list[int]]) -> float:
    """Seconds that a plain loop takes to read these frames, one after the other."""
    start = time.perf_counter()
    for path, wanted in zip(paths, indices, strict=True):
        reader = decord.VideoReader(str(path))
        for index in wanted:
            reader[index].asnumpy()
    return time.perf_counter() - start


def prepare(paths: list[Path], *, out: Path, workers: int) -> float:
    """Seconds that decode_clips takes from nothing to a published store, start of its processes included."""
    start = time.perf_counter()
    refused = decode_clips(
        [(path.name, path) for path in paths],
        out=out,
        sampling=Sampling(FPS_STORED, 512, 480, time_limit_s=60.0, budgets=Budgets()),
        shard_clips=64,
        workers=workers,
    )
    assert not refused, refused
    return time.perf_counter() - start


def read_back(out: Path) -> float:
    """Seconds to open a store and read every frame of it."""
    start = time.perf_counter()
    store = FrameStore(out)
    for uri in store.uris():
        store.frames(uri)
    return time.perf_counter() - start


def bench(folder: Path, *, name: str, width: int, height: int, fps: int, clips: int, workers: int) -> None:
    """Print both ratios for one kind of clip."""
    paths = [folder / f"{name}-{index:03d}.mp4" for index in range(clips)]
    for index, path in enumerate(paths):
        if index < NUM_DRAWN:
            draw_clip(path, width=width, height=height, fps=fps, seconds=12, seed=index)
        else:
            shutil.copyfile(paths[index % NUM_DRAWN], path)
    prepare(paths, out=folder / f"{name}-warm", workers=workers)
    store = FrameStore(folder / f"{name}-warm")
    indices = [[round(time_s * fps) for time_s in store.clip(path.name).times_s] for path in paths]
    num_frames = sum(len(wanted) for wanted in indices)
    rows = []
    for number in range(ROUNDS):
        loop_s = decord_loop(paths, indices)
        prepare_s = prepare(paths, out=folder / f"{name}-{number}", workers=workers)
        rows.append((loop_s, prepare_s, read_back(folder / f"{name}-{number}")))
    loop, made, read = ([num_frames / row[i] for row in rows] for i in range(3))
    prepare_ratio = statistics.median(a / b for a, b in zip(made, loop, strict=True))
    read_ratio = statistics.median(a / b for a, b in zip(read, loop, strict=True))
    print(
        f"{name}: {clips} clips, {num_frames} frames of {width}x{height}; frames/s: "
        f"decord loop {statistics.median(loop):.0f}, prepare {statistics.median(made):.0f}, "
        f"read back {statistics.median(read):.0f}"
    )
    print(f"{name}: prepare / decord loop = {prepare_ratio:.2f} (at least 0.8 wanted)")
    print(f"{name}: read back / decord loop = {read_ratio:.1f} (over 10 wanted)")


def main() -> None:
    """Run both kinds of clip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--clips", type=int, default=120, help="clips of the small kind; a quarter as many of the larger"
    )
    parser.add_argument("--workers", type=int, default=2, help="decoding processes of prepare")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench(Path(folder), name="small", width=96, height=72, fps=8, clips=options.clips, workers=options.workers)
        larger = max(1, options.clips // 4)
        bench(Path(folder), name="larger", width=320, height=240, fps=24, clips=larger, workers=options.workers)


if __name__ == "__main__":
    main()
