"""Prints how much faster a training step is with features of frames that were made before, against three baselines.

Command: python scripts/bench_vision.py [--clips 64] [--steps 12] [--rounds 3] [--questions 16] (two CPU cores: 2 min).
A small toy kitchen is drawn, prepared and taught as by `aot run`. Then the same arm of the embedded student is trained
in turns, a few steps at a time, with the features of its frames in memory, the same on disk, and without them: pixels
kept in memory (today's way), pixels made anew from the frame store, and clips decoded from their video files in the
collator. All of them have one tower look at each clip of a batch. Targets: 2 against pixels in memory, 3 against
decoding.
"""

import argparse
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from aot.arms.lessons import arm_lessons, read_material
from aot.config import load_saved
from aot.files.run_folder import LESSONS, RunFolder, publish_rows
from aot.student.train.arm import make_trainer
from aot.student.train.guards import StopFlag
from aot.student.train.session import Session, open_session
from aot.student.train.trainer import StepMetrics
from video_data.store.shards import FrameStore, StoredClip

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "video" / "toy_kitchen_tiny.yaml"
BASELINES = {"pixels in memory": 2.0, "pixels from the store": 0.0, "decoding in the collator": 3.0}
"""Each with the target."""
WARM_UP = 2
"""Steps that are not timed after each change of turns."""


class DecodedClips:
    """Frames of a store, decoded from the clips at every call."""

    def __init__(self, store: FrameStore, clips: Path) -> None:
        self._store, self._clips = store, clips

    def clip(self, uri: str) -> StoredClip:
        """Facts of a stored clip."""
        return self._store.clip(uri)

    def frames(self, uri: str, indices: Sequence[int] | None = None) -> np.ndarray:
        """Frames as uint8 T, H, W, 3 RGB, those that were shown at the times of the stored ones."""
        clip = self._store.clip(uri)
        wanted = [clip.times_s[i] for i in (range(len(clip.times_s)) if indices is None else indices)]
        with av.open(str(self._clips / uri)) as container:
            decoded = [(frame.time, frame) for frame in container.decode(video=0) if frame.time <= max(wanted) + 1e-3]
        times_s = np.array([time_s for time_s, _ in decoded])
        picked = [decoded[int(np.abs(times_s - time_s).argmin())][1] for time_s in wanted]
        width, height = clip.stored_width, clip.stored_height
        return np.stack([frame.to_ndarray(format="rgb24", width=width, height=height) for frame in picked])


def main() -> None:
    """Time all ways in turns, and print milliseconds a step and their ratios to features in memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("clips", 64), ("steps", 12), ("rounds", 3), ("questions", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("aot.student").setLevel(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        run = _taught(Path(folder) / CONFIG.stem, options)
        ways = _ways(run)
        times_s, losses = _timed(ways, options)
    medians = {way: statistics.median(values) for way, values in times_s.items()}
    for way, value in medians.items():
        print(f"{way}: {value * 1e3:.1f} ms/step (n={len(times_s[way])}), first loss {losses[way]:.6f}")
    for way, target in BASELINES.items():
        aim = f" (target {target:g})" if target else ""
        print(f"features in memory against {way}: {medians[way] / medians['features in memory']:.2f} times faster{aim}")


def _taught(root: Path, options: argparse.Namespace) -> RunFolder:
    """A run folder with stored frames, clips and kept traces."""
    settings = (
        f"run.dir={root}", f"data.toy={{train_clips: {options.clips}, test_clips: 4, test_ood_clips: 4}}",
        f"train.max_steps={3 * options.steps}", f"train.questions_per_step={options.questions}",
        f"train.questions_per_device={options.questions}", "train.save_steps=1000000",
    )  # fmt: skip
    for stage in ("prepare", "generate", "filter"):
        subprocess.run([sys.executable, "-m", "aot", stage, str(CONFIG), *settings], check=True, capture_output=True)
    run = RunFolder(root)
    config = load_saved(run.config)
    arm = config.train.arms[-1]
    publish_rows(run.arm(arm.name) / LESSONS, arm_lessons(read_material(run, config), arm, seed=config.seed))
    return run


def _ways(run: RunFolder) -> dict[str, Session]:
    """A session for each way to come by what the language model reads of frames."""

    def session(**train: str | int) -> Session:
        config = load_saved(run.config)
        config = config.model_copy(update={"train": config.train.model_copy(update=train)})
        return open_session(run, config, config.train.arms[-1])

    decoded = DecodedClips(FrameStore(run.frames), run.clips)
    return {
        "features in memory": session(vision_cache="memory"),
        "features on disk": session(vision_cache="disk"),
        "pixels in memory": session(vision_cache="off"),
        "pixels from the store": session(vision_cache="off", frame_cache_mb=0),
        "decoding in the collator": replace(session(vision_cache="off", frame_cache_mb=0), store=decoded),
    }


def _timed(ways: dict[str, Session], options: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of the steps of each way, in turns, and the loss of its first step."""
    times_s: dict[str, list[float]] = defaultdict(list)
    losses: dict[str, float] = {}
    for turn in range(options.rounds + 1):  # the first one fills what keeps pixels
        for way, session in ways.items():
            steps: list[float] = []

            def on_step(row: StepMetrics, way: str = way, steps: list[float] = steps) -> None:
                steps.append(time.perf_counter())
                losses.setdefault(way, row.loss)

            trainer = make_trainer(session, stop=StopFlag(), on_step=on_step)
            trainer.args.max_steps = options.steps + WARM_UP
            trainer.train()
            if turn:
                times_s[way] += np.diff(steps)[WARM_UP - 1 :].tolist()
    return times_s, losses


if __name__ == "__main__":
    main()
