"""Kill a whole job at random moments and compare it with an uninterrupted one.

    python scripts/check_kills.py CONFIG --kills 10 [--seed 0] [--out DIR] [--calm RUN] [KEY.SUB=VALUE ...]

Runs the job once without disturbance (or takes the finished run given as --calm), then again in another folder with
`kill -9` of the whole process group at random moments, each followed by the same command. Where the job ends before
all kills hit it, the rest are spent on a fresh run in one more folder. Exits with 0 only if that many kills hit a
running job, kept traces, metrics and adapters are byte-identical in every folder, and no trace was lost or doubled.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from aot.files.run_folder import RunFolder, read_rows, read_run_json
from aot.records import Question, Trace

LEARNED = ("lessons.jsonl", "labels.jsonl", "samples.jsonl", "kept.jsonl", "rounds.json")
"""What the arms of a text run learn from, and how it came about."""
SAME = ("questions.jsonl", "kept.jsonl", "dropped.jsonl", "verdicts.jsonl", "funnel.json", "metrics.json")


def start(config: str, folder: Path, settings: list[str]) -> subprocess.Popen[bytes]:
    """The job in a process group of its own, its output appended to job.log beside the run."""
    log = folder.with_suffix(".log").open("ab")
    command = [sys.executable, "-m", "aot", "run", config, f"run.dir={folder}", *settings]
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def finish(config: str, folder: Path, settings: list[str]) -> None:
    """Run the job to its end."""
    code = start(config, folder, settings).wait()
    if code not in (0, 3):
        raise SystemExit(f"the job ended with exit code {code}; see {folder.with_suffix('.log')}")


def kill_at_random(
    config: str, folder: Path, settings: list[str], *, kills: int, longest_s: float, rng: random.Random
) -> list[str]:
    """Kill the job at most `kills` times, each within `longest_s` seconds, then let it finish; the stages hit."""
    hit: list[str] = []
    while len(hit) < kills:
        child = start(config, folder, settings)
        try:
            child.wait(timeout=rng.uniform(0.5, longest_s))
            break
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            hit.append(running_stage(folder))
    finish(config, folder, settings)
    return hit


def running_stage(folder: Path) -> str:
    """The stage that was running when the job was killed."""
    text = (folder / "run.json").read_text() if (folder / "run.json").exists() else ""
    stages = [
        line.split('"')[1] for line in text.splitlines() if line.startswith('  "') and line.rstrip().endswith("{")
    ]
    return stages[-1] if stages else "before the first stage"


def compare(calm: Path, killed: Path) -> list[str]:
    """What differs between the two run folders, line by line; empty when nothing does."""
    weights = [path for path in calm.glob("student/**/*.safetensors") if "checkpoints" not in path.parts]
    lessons = [path for name in LEARNED for path in calm.glob(f"student/**/{name}")]
    names = [*SAME, *(str(path.relative_to(calm)) for path in sorted([*weights, *lessons]))]
    different = [name for name in names if digest(calm / name) != digest(killed / name)]
    asked = [question.id for question in read_rows(RunFolder(killed).questions, Question)]
    parts = sorted((killed / "traces").glob("*.jsonl"))
    written = Counter((trace.question_id, trace.sample_index) for part in parts for trace in read_rows(part, Trace))
    answered = {question_id for question_id, _ in written}
    different += [f"lost trace {name}" for name in asked if name not in answered]
    return different + [f"doubled trace {name}, sample {k}" for (name, k), count in written.items() if count > 1]


def digest(path: Path) -> str:
    """SHA-256 of a file, or a word for its absence."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"


def main() -> None:
    """Run, kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--calm", type=Path, default=None, help="a finished run of the same config")
    options = parser.parse_intermixed_args()
    out = options.out or Path(tempfile.mkdtemp(prefix="aot-kills-"))
    out.mkdir(parents=True, exist_ok=True)
    calm = options.calm or out / "calm"
    finish(options.config, calm, options.settings)
    whole_s = sum(stage["seconds"] for stage in read_run_json(RunFolder(calm))["stages"].values())
    print(f"uninterrupted: {whole_s:.1f} s", flush=True)
    # With what is done again, the last kill comes late in the job, seldom after its end.
    longest_s = max(1.0, 1.7 * whole_s / options.kills)
    rng = random.Random(options.seed)
    hit: list[str] = []
    different: list[str] = []
    for number in range(options.kills):
        killed = out / f"killed-{number}"
        hit += kill_at_random(
            options.config, killed, options.settings, kills=options.kills - len(hit), longest_s=longest_s, rng=rng
        )
        different += [f"{killed.name}: {line}" for line in compare(calm, killed)]
        if len(hit) == options.kills:
            break
    print(f"killed in: {', '.join(hit)}")
    print("\n".join(different) if different else f"{len(hit)} kills: traces, metrics and adapters byte-identical")
    sys.exit(1 if different or len(hit) < options.kills else 0)


if __name__ == "__main__":
    main()
