"""Prints how much faster a training step is with features of frames that were made before, against named baselines.

Command: python scripts/bench_vision.py [--clips 64] [--steps 12] [--rounds 3] [--questions 16] (two CPU cores: 5 min).
A small toy kitchen is made and trained on as by `aot run`. Then the same arm of the embedded student is trained
in turns, a few steps at a time: with the features of its frames in memory, the same on disk, and with four baselines.

    shared look         the tower looks once at each clip of a batch; pixels are kept in memory (train.vision_cache=off)
    shared look, store  the same, with pixels made anew from the frame store
    full forward        a row for each reply, padded, of whose frames the tower sees all; pixels are kept in memory
    decoding            the same, with each row's clip decoded from its video file in the collator

Targets: 2 against a full forward, 3 against decoding. The ratio of the seconds that the processor worked is printed
too, which says the same beside other jobs.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import av
import numpy as np

from aot.arms.lessons import arm_lessons, read_material
from aot.config import load_saved
from aot.files.run_folder import LESSONS, RunFolder, publish_rows
from aot.student.rows.collate import Collator
from aot.student.rows.examples import Example
from aot.student.train.arm import make_trainer
from aot.student.train.guards import StopFlag
from aot.student.train.session import Session, open_session
from aot.student.train.trainer import StepMetrics
from video_data.store.shards import FrameStore, StoredClip

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "video" / "toy_kitchen_tiny.yaml"
BASELINES = {"shared look": 0.0, "shared look, store": 0.0, "full forward": 2.0, "decoding": 3.0}
"""Each with the target, if it has one."""
FEATURES = "features in memory"
WARM_UP = 2
"""Steps that are not timed after each change of turns."""


@dataclass(frozen=True)
class Step:
    """One step of a training."""

    wall_s: float
    cpu_s: float


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
    with tempfile.TemporaryDirectory() as folder:
        run = _taught(Path(folder) / CONFIG.stem, options)
        steps = _timed(_ways(run), options)
    for way, done in steps.items():
        print(f"{way}: {_median(done)[0] * 1e3:.1f} ms/step (n={len(done)})")
    best_s, best_cpu_s = _median(steps[FEATURES])
    for way, target in BASELINES.items():
        wall_s, cpu_s = _median(steps[way])
        aim = f"; target {target:g}" if target else ""
        print(f"{FEATURES} / {way}: {wall_s / best_s:.2f} times faster (processor time: {cpu_s / best_cpu_s:.2f}{aim})")


def _median(steps: Sequence[Step]) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    return statistics.median(step.wall_s for step in steps), statistics.median(step.cpu_s for step in steps)


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


def _ways(run: RunFolder) -> dict[str, tuple[Session, bool]]:
    """A session for each way to come by what the language model reads of frames, and whether each reply has its row."""

    def session(**train: str | int) -> Session:
        config = load_saved(run.config)
        config = config.model_copy(update={"train": config.train.model_copy(update=train)})
        return open_session(run, config, config.train.arms[-1])

    decoded = DecodedClips(FrameStore(run.frames), run.clips)
    return {
        FEATURES: (session(vision_cache="memory"), False),
        "features on disk": (session(vision_cache="disk"), False),
        "shared look": (session(vision_cache="off"), False),
        "shared look, store": (session(vision_cache="off", frame_cache_mb=0), False),
        "full forward": (session(vision_cache="off"), True),
        "decoding": (replace(session(vision_cache="off", frame_cache_mb=0), store=decoded), True),
    }


def _row_by_row(collator: Collator) -> Callable[[Sequence[Example]], dict[str, object]]:
    """Batches of the same lessons, with a row for each reply that shows frames of its own."""
    plain = replace(collator, packed=False)
    return lambda examples: plain([replace(one, rows=(row,)) for one in examples for row in one.rows])


def _timed(ways: dict[str, tuple[Session, bool]], options: argparse.Namespace) -> dict[str, list[Step]]:
    """The steps of each way, which take turns."""
    steps: dict[str, list[Step]] = defaultdict(list)
    for turn in range(options.rounds + 1):  # the first one fills what keeps pixels
        for way, (session, row_by_row) in ways.items():
            marks: list[tuple[float, float, float]] = []

            def on_step(row: StepMetrics, marks: list[tuple[float, float, float]] = marks) -> None:
                marks.append((time.perf_counter(), time.process_time(), row.loss))

            trainer = make_trainer(session, stop=StopFlag(), on_step=on_step)
            if row_by_row:
                trainer.data_collator = _row_by_row(cast(Collator, trainer.data_collator))
            trainer.args.max_steps = options.steps + WARM_UP
            trainer.train()
            if turn == 0:
                print(f"{way}: losses of the first steps {[round(loss, 6) for _, _, loss in marks[:3]]}")
            else:
                pairs = list(pairwise(marks))[WARM_UP - 1 :]
                steps[way] += [Step(b[0] - a[0], b[1] - a[1]) for a, b in pairs]
    return steps


if __name__ == "__main__":
    main()
