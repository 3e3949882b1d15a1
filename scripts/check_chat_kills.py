"""Kill a generation of 200 questions at random moments: what is lost, doubled, or paid twice.

    python scripts/check_chat_kills.py [--kills 30] [--questions 192] [--seed 0]

The model is a local server with a fixed latency, asked by 10 threads. The process group gets `kill -9` at random
moments of its generation, each followed by the same command. Exits with 0 only if afterwards every question has exactly
one row, no row differs from those of an undisturbed run, and no kill cost more than 10 repeated calls.
"""

import argparse
import bisect
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from chat_runs import chat_settings, doubled, server_process, written_rows

from aot.files.run_folder import RunFolder, read_rows
from aot.records import Question

CONCURRENCY = 10


@dataclass
class Kills:
    """What the kills did."""

    questions: int = 0
    kills: int = 0
    rows: int = 0
    doubled: int = 0
    lost: int = 0
    different: int = 0
    """Rows that are not those of an undisturbed run."""
    calls: int = 0
    repeated: list[int] = field(default_factory=list)
    """Calls that each kill cost a second time: those it interrupted."""

    @property
    def good(self) -> bool:
        """Whether nothing happened that must not."""
        wrong = (self.doubled, self.lost, self.different, self.rows - self.questions)
        return not any(wrong) and max(self.repeated, default=0) <= CONCURRENCY


def check_kills(folder: Path, *, questions: int, kills: int, seed: int, latency_s: float) -> Kills:
    """A calm run and a killed one against the same server."""
    log, rng = folder / "calls.jsonl", random.Random(seed)
    log.touch()
    with server_process(train=questions, latency_s=latency_s, log=log) as url:
        calm, killed = _config(folder, "calm", url, questions), _config(folder, "killed", url, questions)
        whole_s = _timed(calm)
        asked_before = _calls(log)
        _finish(killed, "prepare")
        outcome, marks = Kills(), list[int]()
        for _ in range(kills):
            if not _kill_one(killed, log, asked_before, rng.uniform(0.0, latency_s + 0.6 * whole_s / kills)):
                break
            outcome.kills += 1
            marks.append(_settled_calls(log) - asked_before)
        _finish(killed, "generate")
        outcome.repeated = _repeated(log.read_bytes().splitlines()[asked_before:], marks)
        outcome.calls = _calls(log) - asked_before
    return _compared(outcome, RunFolder(folder / "calm"), RunFolder(folder / "killed"))


def _config(folder: Path, name: str, url: str, questions: int) -> Path:
    path = folder / f"{name}.yaml"
    settings = chat_settings(url, folder=folder / name, train=questions)
    path.write_text(yaml.safe_dump(settings))
    return path


def _start(config: Path, stage: str) -> subprocess.Popen[bytes]:
    log = config.with_suffix(".log").open("ab")
    command = [sys.executable, "-m", "aot", stage, str(config)]
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def _finish(config: Path, stage: str) -> None:
    code = _start(config, stage).wait()
    if code:
        raise SystemExit(f"{stage} ended with exit code {code}; see {config.with_suffix('.log')}")


def _timed(config: Path) -> float:
    """Seconds of an undisturbed generation."""
    _finish(config, "prepare")
    started = time.monotonic()
    _finish(config, "generate")
    return time.monotonic() - started


def _kill_one(config: Path, log: Path, asked_before: int, after_s: float) -> bool:
    """Start, wait for the first new call and a random time more, kill; False where the run ended before."""
    known = _calls(log)
    child = _start(config, "generate")
    while _calls(log) == known:
        if child.poll() is not None:
            return False
        time.sleep(0.005)
    try:
        child.wait(timeout=after_s)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return True


def _calls(log: Path) -> int:
    return log.read_bytes().count(b"\n")


def _settled_calls(log: Path) -> int:
    """Calls once the server has read what a killed process had sent."""
    known, seen = -1, _calls(log)
    while seen != known:
        time.sleep(0.1)
        known, seen = seen, _calls(log)
    return seen


def _repeated(asked: list[bytes], marks: list[int]) -> list[int]:
    """For each kill, how many calls had to be made again: each is charged to the first kill after it was made.

    A second kill may come before all calls of the first were made again, so that counting what follows each kill would
    charge them to the wrong one. `marks` holds how many calls had been made at each kill.
    """
    repeated = [0] * len(marks)
    made: dict[bytes, int] = {}
    for place, call in enumerate(asked):
        if call in made:
            repeated[min(bisect.bisect_right(marks, made[call]), len(marks) - 1)] += 1
        made[call] = place
    return repeated


def _compared(outcome: Kills, calm: RunFolder, killed: RunFolder) -> Kills:
    wanted = {row.question_id: row.timeless() for row in written_rows(calm)}
    rows = written_rows(killed)
    found = {row.question_id: row.timeless() for row in rows}
    asked = [question.id for question in read_rows(killed.questions, Question)]
    outcome.questions, outcome.rows, outcome.doubled = len(asked), len(rows), doubled(rows)
    outcome.lost = sum(name not in found for name in asked)
    outcome.different = sum(found[name] != wanted[name] for name in asked if name in found)
    return outcome


def main() -> None:
    """Kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--questions", type=int, default=192, help="of the train split; eight more are asked of others")
    parser.add_argument("--latency", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aot-chat-kills-") as folder:
        found = check_kills(
            Path(folder), questions=options.questions, kills=options.kills, seed=options.seed,
            latency_s=options.latency,
        )  # fmt: skip
    print(f"questions {found.questions}, kills {found.kills}")
    print(f"rows {found.rows}: lost {found.lost}, doubled {found.doubled}, unlike an undisturbed run {found.different}")
    print(f"calls {found.calls}: repeated {sum(found.repeated)}, at most {max(found.repeated)} after one kill")
    sys.exit(0 if found.good and found.kills == options.kills else 1)


if __name__ == "__main__":
    main()
