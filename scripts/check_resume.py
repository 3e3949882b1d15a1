"""Stop the training of one arm at random steps, by TERM and by `kill -9`, and compare it with an undisturbed one.

    python scripts/check_resume.py RUN ARM [--kills 10] [--seed 0] [--setups 1,2x2] [--out DIR]

RUN is a run folder whose `train` stage at least wrote the lessons of ARM; it is copied, never written to. A set-up is
PROCESSES or PROCESSESxZERO_STAGE. Each gets one undisturbed training, then one with TERM and one with `kill -9` of all
processes at so many random steps, each followed by the same call until the arm is done. Prints a table of hashes of the
published weights, and exits with 0 only if they are the same in each set-up, and every signal hit a running training.
"""

import argparse
import hashlib
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from lives import Fault, Lives

from aot.config import dump_config, load_saved
from aot.files.run_folder import LESSONS, RunFolder, publish

KINDS = {"TERM": "all:SIGTERM", "kill -9": "all:SIGKILL"}
WEIGHTS = ("adapter_model.safetensors", "model.safetensors")
STOPPED = {"TERM": (4,), "kill -9": (-9,)}


@dataclass(frozen=True)
class Setup:
    """How many processes train, and how their optimiser is sharded."""

    procs: int
    zero_stage: int

    @classmethod
    def parse(cls, text: str) -> "Setup":
        """From `PROCESSES` or `PROCESSESxSTAGE`.

        >>> Setup.parse("2x3")
        Setup(procs=2, zero_stage=3)
        """
        procs, _, stage = text.partition("x")
        return cls(int(procs), int(stage or 0))


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    setup: str
    kind: str
    hits: int
    seconds: float
    digest: str


def copy_run(source: Path, arm: str, to: Path, setup: Setup) -> RunFolder:
    """A run folder with the lessons of the arm and nothing that was trained, configured for the set-up."""
    old, run = RunFolder(source), RunFolder(to)
    config = load_saved(old.config)
    train = config.train.model_copy(update={"procs": setup.procs, "zero_stage": setup.zero_stage})
    run.arm(arm).mkdir(parents=True)
    publish(run.config, dump_config(config.model_copy(update={"train": train})))
    shutil.copy(old.questions, run.questions)
    shutil.copy(old.arm(arm) / LESSONS, run.arm(arm) / LESSONS)
    if old.frames.exists():
        run.frames.symlink_to(old.frames.resolve(), target_is_directory=True)
    return run


def step_seconds(run: RunFolder) -> float:
    """How long a step took, in the middle of all, in a run that was never stopped."""
    began = [json.loads(line)[2] for line in (run.root / "seen-0.jsonl").read_text().splitlines()]
    return statistics.median(b - a for a, b in pairwise(began))


def undisturbed(lives: Lives, run: RunFolder, arm: str, setup: Setup) -> Row:
    """Train from beginning to end."""
    return _row(lives, run, arm, setup, kind="-", faults=[])


def disturbed(
    lives: Lives, run: RunFolder, arm: str, setup: Setup, *, kind: str, kills: int, within_s: float, rng: random.Random
) -> Row:
    """Train with a signal to all processes at `kills` random steps, at a random moment of each."""
    early = range(1, steps_of(run, arm) - 1)  # one may come in the step after its own, and has to find one
    at = sorted(rng.sample(early, k=min(kills, len(early))))
    faults = [Fault(step=step, act=KINDS[kind], rank=rng.randrange(setup.procs), within_s=within_s) for step in at]
    return _row(lives, run, arm, setup, kind=kind, faults=faults)


def steps_of(run: RunFolder, name: str) -> int:
    """Optimiser steps of an arm of a run."""
    config = load_saved(run.config)
    return config.steps_of(next(arm for arm in config.train.arms if arm.name == name))


def _row(lives: Lives, run: RunFolder, arm: str, setup: Setup, *, kind: str, faults: list[Fault]) -> Row:
    began_s, hits = time.monotonic(), 0
    environment = {"ALWAYS": "1"} if setup.zero_stage else {}
    for fault in faults:
        life = lives.live(run.root, arm, procs=setup.procs, faults=(fault,), env=environment)
        hits += any(code in STOPPED[kind] for code in life.codes)
        if not any(code in (0, *STOPPED[kind]) for code in life.codes):
            sys.exit(f"{setup} ended with {life.codes} after {fault}:\n{life.log[-3000:]}")
    if not (run.arm(arm) / "DONE").exists():
        life = lives.live(run.root, arm, procs=setup.procs, env=environment)
        if any(life.codes):
            sys.exit(f"{setup} ended with {life.codes}:\n{life.log[-3000:]}")
    seconds = time.monotonic() - began_s
    weights = next(run.arm(arm) / name for name in WEIGHTS if (run.arm(arm) / name).exists())
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return Row(f"{setup.procs} process{'es' * (setup.procs > 1)}, ZeRO {setup.zero_stage}", kind, hits, seconds, digest)


def check(lives: Lives, source: Path, arm: str, out: Path, setups: list[Setup], *, kills: int, seed: int) -> list[str]:
    """Print the table; returns what is wrong."""
    rng, problems = random.Random(seed), []
    print("| set-up | signal | hits | seconds | SHA-256 of the weights |\n|---|---|---|---|---|")
    for setup in setups:
        place = out / f"{setup.procs}x{setup.zero_stage}"
        rows = [undisturbed(lives, copy_run(source, arm, place / "calm", setup), arm, setup)]
        within_s = step_seconds(RunFolder(place / "calm"))
        for number, kind in enumerate(KINDS):
            run = copy_run(source, arm, place / str(number), setup)
            rows.append(disturbed(lives, run, arm, setup, kind=kind, kills=kills, within_s=within_s, rng=rng))
        for row in rows:
            print(f"| {row.setup} | {row.kind} | {row.hits} | {row.seconds:.1f} | {row.digest[:16]} |", flush=True)
        problems += [f"{row.setup}, {row.kind}: other weights" for row in rows if row.digest != rows[0].digest]
        problems += [f"{row.setup}, {row.kind}: {row.hits} hits" for row in rows[1:] if row.hits < kills]
    return problems


def main() -> None:
    """Check and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("arm")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--setups", default="1,2x2")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    out = options.out or Path(tempfile.mkdtemp(prefix="aot-resume-"))
    setups = [Setup.parse(text) for text in options.setups.split(",")]
    with Lives() as lives:
        problems = check(lives, options.run, options.arm, out, setups, kills=options.kills, seed=options.seed)
    print("\n".join(problems) if problems else "every training ended with the weights of the undisturbed one")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
