"""Holds the reading of clips to what is known of them; prints a table, and ends with 1 where something is wrong unseen.

    python scripts/check_video.py order FOLDER...    # order and count of every clip against ffmpeg
    python scripts/check_video.py damage [FOLDER...] # 128 seeded damaged copies: probe, frames and prepare must agree

`order` shows each clip to ffmpeg and to `read_frames` and compares the pictures one by one; where ffmpeg is absent,
PyAV's own decoding stands in. `damage` makes its clips itself, eight of them (H.264 in MP4, 10 bit, FLV and TS; HEVC;
AV1; MPEG-4; VP9), or uses those of the folders where some are given, and damages each 16 times: cut off, random bytes,
zeroed spans, flipped bits. Pixels that are wrong under `complete` are counted, and no failure: VP8 and VP9 decode any
bits into some picture, HEVC most.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from aot.errors import VideoError
from video_data.decode.budgets import Budgets, Sampling
from video_data.decode.facts import ClipFacts, DecodedFrames
from video_data.decode.sandbox import shared_pool
from video_data.store.prepare import decode_clips
from video_data.store.shards import FrameStore

ENDINGS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".flv", ".gif", ".mpg", ".m4v", ".ogv", ".wmv"}
SIDE = 24
"""Pictures are compared as grey squares of this many pixels."""
SAME = 6.0
"""Mean grey levels by which the same picture may differ through two converters."""
COPIES = 16
SEED = 0


def clips_in(folders: list[Path]) -> list[Path]:
    """All clips in the folders and below, by their endings."""
    return sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def thumbs(frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Each picture as SIDE x SIDE means of its grey values."""
    import cv2

    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_THWC]
    small = [cv2.resize(one, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in grey]
    return np.asarray(small, np.float32).reshape(len(small), -1)


def by_ffmpeg(path: Path, *, width: int, height: int) -> NDArray[np.uint8] | None:
    """All pictures as ffmpeg shows them, scaled to this size; None if it cannot read the clip."""
    command = ["ffmpeg", "-v", "error", "-i", f"file:{path}", "-map", "0:v:0", "-vsync", "passthrough"]
    command += ["-vf", f"scale={width}:{height}", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=False).stdout
    size = width * height * 3
    return np.frombuffer(raw, np.uint8)[: len(raw) // size * size].reshape(-1, height, width, 3) if raw else None


def by_pyav(path: Path, *, width: int, height: int) -> NDArray[np.uint8] | None:
    """All pictures as PyAV's own loop gives them out, unturned; None if it cannot read the clip."""
    try:
        with av.open(str(path)) as container:
            shown = [f.reformat(width, height, "rgb24").to_ndarray() for f in container.decode(video=0)]
    except av.FFmpegError:
        return None
    return np.asarray(shown) if shown else None


def check_order(folders: list[Path]) -> int:
    """Compare order and count of every clip; the number of clips that are wrong under `complete`."""
    oracle, name = (by_ffmpeg, "ffmpeg") if shutil.which("ffmpeg") else (by_pyav, "PyAV")
    wrong = 0
    for path in clips_in(folders):
        facts = shared_pool().probe(path)
        if facts.verdict == "refused":
            print(f"{path.name:28} refused: {facts.reason}")
            continue
        read = shared_pool().read_frames(path, max_side_px=256)
        height, width = read.frames_THWC.shape[1:3]
        other = oracle(path, width=width, height=height)
        told = f"{path.name:28} {facts.verdict:9} {len(read.times_s):4} frames"
        trouble = "no other reader" if other is None else differences(read, other)
        is_wrong = bool(trouble) and facts.verdict == "complete" and other is not None
        wrong += is_wrong
        print(f"{told}, {name} {0 if other is None else len(other):4}  {'WRONG: ' if is_wrong else ''}{trouble}")
    print(f"wrong under complete: {wrong}")
    return wrong


def differences(read: DecodedFrames, other: NDArray[np.uint8]) -> str:
    """What is wrong with the pictures read, in words; empty for nothing, and for those that the other reader lacks."""
    if len(read.times_s) < len(other) and read.verdict == "complete":
        return f"{len(other) - len(read.times_s)} pictures fewer"
    if any(b < a for a, b in zip(read.times_s, read.times_s[1:], strict=False)):
        return "times that do not ascend"
    mine, theirs = thumbs(read.frames_THWC), thumbs(other)
    for place, index in enumerate(read.indices):
        if index >= len(theirs):
            return ""
        here = float(np.abs(mine[place] - theirs[index]).mean())
        near = range(max(0, index - 4), min(len(theirs), index + 5))
        best = min(near, key=lambda i: float(np.abs(mine[place] - theirs[i]).mean()))
        if here > SAME and best != index:
            return f"picture {index} looks like {best} of the other reader"
    return ""


# Damaged copies


def draw_sources(folder: Path) -> list[Path]:
    """Eight clips of 5 s, of moving blocks and noise, in codecs and containers that people have."""
    # The same bytes in each run, as the assembly of x264 and other numbers of threads do not give them.
    h264 = {"crf": "28", "x264-params": "asm=0"}
    kinds = [
        ("h264.mp4", "libx264", "yuv420p", h264),
        ("h264_10bit.mp4", "libx264", "yuv420p10le", h264),
        ("h264.flv", "libx264", "yuv420p", h264),
        ("h264.ts", "libx264", "yuv420p", h264),
        ("hevc.mp4", "libx265", "yuv420p", {"crf": "30", "x265-params": "log-level=none"}),
        ("av1.mkv", "libsvtav1", "yuv420p", {"preset": "10", "crf": "40"}),
        ("mpeg4.avi", "mpeg4", "yuv420p", {}),
        ("vp9.webm", "libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "8"}),
    ]
    paths = []
    for name, codec, layout, options in kinds:
        rng = np.random.default_rng(SEED)
        blocks = rng.integers(0, 256, (30, 54, 3)).astype(np.uint8).repeat(6, 0).repeat(6, 1)[:, :320]
        with av.open(str(folder / name), "w", options={"fflags": "+bitexact"}) as container:
            stream: Any = container.add_stream(codec, rate=25, options=options)
            stream.codec_context.thread_count = 1
            stream.width, stream.height, stream.pix_fmt = 320, 180, layout
            stream.codec_context.gop_size = 25
            for index in range(125):
                noisy = np.roll(blocks, (index, 2 * index), (0, 1)) + rng.integers(-6, 7, blocks.shape)
                frame = av.VideoFrame.from_ndarray(noisy.clip(0, 255).astype(np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        paths.append(folder / name)
    return paths


def damaged(data: bytes, *, copy: int, rng: random.Random) -> tuple[str, bytes]:
    """One damaged copy of a file and what was done to it."""
    size, changed = len(data), bytearray(data)
    start = size // 50
    if copy < 6:
        share = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)[copy]
        # Not at the border of two packets of TS: cut just between two pictures, such a file is a whole one.
        return f"cut{round(100 * share)}", data[: int(size * share) // 188 * 188 + 100]
    if copy < 10:
        for _ in range(max(4, size // 20_000)):
            changed[rng.randrange(start, size)] = rng.randrange(256)
        return f"rnd{copy}", bytes(changed)
    if copy < 13:
        at = rng.randrange(start, size - 2000)
        changed[at : at + 2000] = bytes(2000)
        return f"zero{copy}", bytes(changed)
    for _ in range(16):
        changed[rng.randrange(start, size)] ^= 1 << rng.randrange(8)
    return f"flip{copy}", bytes(changed)


def check_damage(folders: list[Path]) -> int:
    """Damage copies of clips and read them in three ways; the number of silent short reads and of disagreements."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        sources = clips_in(folders) if folders else draw_sources(Path(scratch))
        copies = Path(scratch) / "copies"
        copies.mkdir()
        wholes: dict[str, DecodedFrames] = {}
        paths: list[tuple[Path, str]] = []
        for source in sources:
            whole = shared_pool().read_frames(source, max_side_px=64)
            wholes[source.name] = whole
            rng = random.Random(f"{SEED} {source.name}")
            for copy in range(COPIES):
                what, data = damaged(source.read_bytes(), copy=copy, rng=rng)
                path = copies / f"{source.stem}_{source.suffix[1:]}_{what}{source.suffix}"
                path.write_bytes(data)
                paths.append((path, source.name))
        stored = prepared([path for path, _ in paths], out=Path(scratch) / "frames")
        for path, source_name in paths:
            facts = shared_pool().probe(path)
            verdict, read = read_all(path)
            outcome = judge(facts, verdict, read, stored[path.name], whole=wholes[source_name])
            counts[outcome] += 1
            if outcome.startswith(("SILENT", "DISAGREE", "crash")) or outcome == "wrong pixels":
                print(f"{path.name:28} {outcome}: {facts.note}")
    print(f"{sum(counts.values())} damaged copies of {len(sources)} clips (seed {SEED})")
    for outcome, count in sorted(counts.items()):
        print(f"  {outcome}: {count}")
    bad = sum(count for outcome, count in counts.items() if outcome.startswith(("SILENT", "DISAGREE", "crash")))
    print(f"silent short reads, disagreements, crashes and time-outs: {bad}")
    return bad


def prepared(paths: list[Path], *, out: Path) -> dict[str, str]:
    """The verdict of each clip in a frame store made of all of them."""
    refused = decode_clips(
        [(path.name, path) for path in paths],
        out=out,
        sampling=Sampling(3.0, 512, 64, time_limit_s=60.0, budgets=Budgets()),
        shard_clips=64,
        workers=2,
    )
    store = FrameStore(out)
    verdicts = {uri: store.clip(uri).verdict for uri in store.uris()}
    return verdicts | {row.item: "refused" for row in refused}


def read_all(path: Path) -> tuple[str, DecodedFrames | None]:
    """The verdict of reading all frames, and the frames."""
    try:
        read = shared_pool().read_frames(path, max_side_px=64)
    except VideoError as error:
        return ("crashed" if error.reason in ("crashed", "timeout") else "refused"), None
    return read.verdict, read


def judge(facts: ClipFacts, verdict: str, read: DecodedFrames | None, kept: str, *, whole: DecodedFrames) -> str:
    """What became of a damaged copy."""
    if verdict == "crashed":
        return "crash or time-out"
    if not facts.verdict == verdict == kept:
        return f"DISAGREE: probe {facts.verdict}, frames {verdict}, prepare {kept}"
    if read is None or verdict == "partial":
        return verdict
    if len(read.times_s) < len(whole.times_s) or read.frames_THWC.shape[1:] != whole.frames_THWC.shape[1:]:
        return "SILENT short read"
    off = np.abs(read.frames_THWC[: len(whole.times_s)].astype(int) - whole.frames_THWC).mean(axis=(1, 2, 3)).max()
    return "complete" if off < 3 else "wrong pixels"


def main() -> None:
    """Run one of the two checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("check", choices=["order", "damage"])
    parser.add_argument("folders", nargs="*", type=Path)
    options = parser.parse_args()
    if options.check == "order" and not options.folders:
        parser.error("order needs at least one folder of clips")
    sys.exit(min(1, check_order(options.folders) if options.check == "order" else check_damage(options.folders)))


if __name__ == "__main__":
    main()
