"""Prints how much longer a training step takes beside one busy process, for several ways in which threads may wait.

Command: python scripts/bench_neighbour.py [--steps 10] [--rounds 3] (two CPU cores, otherwise idle: about 8 min).
Every figure is the median step of a process of its own, on the batches of scripts/bench_train.py; the neighbour is a
process that computes without end. What `aot` sets by itself (aot/threads.py) is the row `aot`; the aims are at most
2.5 times as long beside the neighbour, and at most 5% longer than the default alone.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from aot.threads import THREAD_SETTINGS

WAYS: dict[str, dict[str, str]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin 1,000": {"GOMP_SPINCOUNT": "1000"},
    "aot": THREAD_SETTINGS,
    "spin 5,000": {"GOMP_SPINCOUNT": "5000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
_NAMES = {name for way in WAYS.values() for name in way}


def child(*, steps: int) -> None:
    """Train some steps and print the median seconds of one."""
    from bench_train import _session

    from aot.student.train.arm import make_trainer
    from aot.student.train.guards import StopFlag

    with tempfile.TemporaryDirectory() as folder:
        options = argparse.Namespace(base="tiny-video", steps=steps, questions=16)
        session = _session(Path(folder), options)
        ends: list[float] = []
        trainer = make_trainer(session, stop=StopFlag(), on_step=lambda _: ends.append(time.perf_counter()))
        trainer.args.max_steps = steps + 2
        trainer.train()
    print(statistics.median(after - before for before, after in pairwise(ends[1:])))


def step_s(way: dict[str, str], *, steps: int) -> float:
    """Median seconds of a step in a new process with these settings."""
    kept = {name: value for name, value in os.environ.items() if name not in _NAMES}
    command = [sys.executable, __file__, "--child", "--steps", str(steps)]
    done = subprocess.run(command, env={**kept, **way}, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    """Time every way alone and beside a neighbour, in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(steps=options.steps)
        return
    alone: dict[str, list[float]] = {name: [] for name in WAYS}
    beside: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(options.rounds):
        for name, way in WAYS.items():
            alone[name].append(step_s(way, steps=options.steps))
            neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            try:
                beside[name].append(step_s(way, steps=options.steps))
            finally:
                neighbour.kill()
                neighbour.wait()
    base = statistics.median(alone["default"])
    print(f"{'way':12} {'alone':>9} {'of default':>10} {'beside':>9} {'times':>6}")
    for name in WAYS:
        one, two = statistics.median(alone[name]), statistics.median(beside[name])
        print(f"{name:12} {one * 1e3:6.0f} ms {one / base:9.2f}x {two * 1e3:6.0f} ms {two / one:5.1f}x")


if __name__ == "__main__":
    main()
