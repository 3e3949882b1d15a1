"""Hostile and odd model folders as students and as local chat models: what is said of each, exit code and seconds.

    python scripts/check_bases.py [--limit-s 60] [--jobs 2] [NAME ...]

The folders are those of hostile_folders.py, each made in a temporary one. A folder is given to `aot run --dry-run`, and
one that works to a whole run of one step, each in a process of its own that is forked from one with the packages
imported. Exits with 0 only if there was no traceback, nothing took longer than the limit, no code of a folder ran, what
should be told was told in one line with exit code 2, and what should work did.
NAME picks cases by their beginning.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hostile_folders import TINY, Case, Wanted, cases

ROOT = Path(__file__).resolve().parents[1]
MAKING = threading.Lock()
"""The lazy names of transformers cannot be looked up by two threads at once."""
FORKS = multiprocessing.get_context("forkserver")
CONFIG = """
seed: 0
data: {dataset: toy_math, math: {train: 24, test: 4, test_ood: 1}}
teacher: {planner: procedural}
student: {base: tiny-text, max_tokens: 512, max_answer_tokens: 8, max_rationale_tokens: 24}
train: {max_steps: 1, questions_per_step: 8, questions_per_device: 8, arms: [{name: pre, order: pre}]}
evaluate: {splits: [test], batch_size: 16, bootstrap_samples: 100}
"""


@dataclass(frozen=True)
class Seen:
    """What came of one case."""

    name: str
    wanted: Wanted
    code: int
    seconds: float
    said: str
    faults: tuple[str, ...]


def command_line(arguments: list[str], folder: Path) -> None:
    """Does what `aot` does with these arguments, and leaves what it writes in two files of a folder."""
    os.chdir(folder)
    for name, number in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY), number)
    sys.argv = ["aot", *arguments]
    from aot.cli import main as aot

    aot()


def try_case(name: str, case: Case, root: Path, *, limit_s: float) -> Seen:
    """Make the folder of a case, run the command line on it, and judge what came."""
    work = root / name.replace(" ", "_").replace(":", "")
    folder = work / "model"
    shutil.copytree(TINY / ("video" if case.door == "video" else "text"), folder)
    with MAKING:
        case.edit(folder)
    config = work / "config.yaml"
    config.write_text(CONFIG)
    command = ["run", str(config), f"run.dir={work / 'run'}"]
    if case.door == "video":
        command[1] = str(ROOT / "configs" / "video" / "toy_kitchen_tiny.yaml")
    if case.door == "chat":
        command += ["teacher={planner: chat}", f"chat={{backend: local, model: {folder}}}"]
    elif not any(setting.startswith("student.base=") for setting in case.settings):
        command.append(f"student.base={folder}")
    command += [setting.replace("FOLDER", str(folder)) for setting in case.settings]
    command += [] if case.wanted == "works" else ["--dry-run"]
    started_s = time.monotonic()
    process = FORKS.Process(target=command_line, args=(command, work))
    process.start()
    process.join(10 * limit_s)
    if process.is_alive():
        process.kill()
        process.join()
    code, said = process.exitcode or 0, (work / "stderr").read_text(errors="replace")
    seconds = time.monotonic() - started_s
    faults = _faults(case, code, said, seconds=seconds, limit_s=limit_s)
    if case.wanted == "told" and not any(name in said for name in (str(folder), "target_pattern")):
        faults.append("not told where")
    if list(work.rglob("CANARY")):
        faults.append("code ran")
    shown = said.strip().splitlines()[-1] if said.strip() else ""
    shutil.rmtree(work)
    return Seen(name, case.wanted, code, seconds, shown.replace(str(folder), "FOLDER"), tuple(faults))


def _faults(case: Case, code: int, said: str, *, seconds: float, limit_s: float) -> list[str]:
    faults = []
    if "Traceback" in said:
        faults.append("traceback")
    if seconds > (3 * limit_s if case.wanted == "works" else limit_s):  # three stages with a model each
        faults.append("over time")
    if "\x1b" in said:
        faults.append("escapes to the terminal")
    if case.wanted == "works" and code != 0:
        faults.append("does not work")
    if case.wanted == "told" and (code != 2 or said.count("\n") != 1):
        faults.append("not told in one line with exit code 2")
    return faults


def main() -> None:
    """Try the cases that were asked for, print a line for each, and the totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="beginnings of names; all cases without any")
    parser.add_argument(
        "--limit-s", type=float, default=60.0, help="how long one case may take; a whole run three times"
    )
    parser.add_argument("--jobs", type=int, default=2, help="cases at once")
    options = parser.parse_args()
    os.environ.update({"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)})
    FORKS.set_forkserver_preload(["aot.cli", "aot.pipeline.commands.plan", "aot.student.model.base"])
    warm = FORKS.Process(target=print)  # the first one waits until all is imported
    warm.start()
    warm.join()
    chosen = {name: case for name, case in cases().items() if name.startswith(tuple(options.names) or "")}
    with tempfile.TemporaryDirectory() as root, ThreadPoolExecutor(options.jobs) as pool:
        tried = [
            pool.submit(try_case, name, case, Path(root), limit_s=options.limit_s) for name, case in chosen.items()
        ]
        seen = []
        for future in tried:
            row = future.result()
            seen.append(row)
            mark = f"  <- {', '.join(row.faults)}" if row.faults else ""
            print(f"{row.name:45} {row.code:3} {row.seconds:6.1f} s  {row.said[:300]}{mark}", flush=True)
    count = {kind: sum(kind in row.faults for row in seen) for kind in ("traceback", "over time", "code ran")}
    others = sum(bool(set(row.faults) - set(count)) for row in seen)
    slowest = max((row.seconds for row in seen if row.wanted == "told"), default=0.0)
    print(f"{len(seen)} folders: tracebacks {count['traceback']}, over time {count['over time']}, code ran "
          f"{count['code ran']}, other surprises {others}; the slowest refusal took {slowest:.1f} s")  # fmt: skip
    raise SystemExit(1 if any(row.faults for row in seen) else 0)


if __name__ == "__main__":
    main()
