"""Prints how long a whole job takes, the memory of its largest process, and how long the finished job takes again.

Then how many times as long as `python -c pass` a bare import of aot and `aot --help` take.

Command: python scripts/bench_job.py [CONFIG] [KEY.SUB=VALUE ...] (default: the main job; about 5 minutes on 2 cores).
Targets for the main job on 2 cores: at most 360 s and 4 GB; again, under 3 s. Run it with nothing else running.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROUNDS = 7
"""Of each start, since the first one reads files from disk."""


def main() -> None:
    """Run the job twice in a temporary folder, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=str(ROOT / "configs" / "video" / "toy_kitchen.yaml"))
    parser.add_argument("settings", nargs="*")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "aot", "run", options.config, f"run.dir={folder}/run", *options.settings]
        whole_s, again_s = _seconds(command), _seconds(command)
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"whole job {whole_s:.0f} s, largest process {peak_gb:.2f} GB; again {again_s:.2f} s "
          f"({whole_s / again_s:.0f} times faster)")  # fmt: skip
    words = (["-c", "pass"], ["-c", "import aot"], ["-m", "aot", "--help"])
    seconds = [[_seconds([sys.executable, *one], stdout=subprocess.DEVNULL) for one in words] for _ in range(ROUNDS)]
    nothing_s, import_s, help_s = (min(one) for one in zip(*seconds, strict=True))
    print(f"python -c pass takes {nothing_s:.3f} s; import aot takes {import_s / nothing_s:.1f} times, "
          f"aot --help {help_s / nothing_s:.1f} times as long (the best of {ROUNDS} each, in turns)")  # fmt: skip


def _seconds(command: list[str], *, stdout: int | None = None) -> float:
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=stdout)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
