"""How much memory a queue of many questions costs the text teacher.

    python scripts/bench_chat_queue.py [--questions 100000]

Generates in a child process of its own, whose largest resident size is read when it has ended: with a few questions
for the floor, then with all of them. The model is a script with one reply, so that only the queue counts.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from aot.config import RunConfig, parse_config
from aot.files.run_folder import RunFolder, publish_rows
from aot.generate.run import generate
from aot.records import Question
from text_cot.teacher import teachers


@dataclass(frozen=True)
class Measured:
    """One generation."""

    peak_mb: float
    seconds: float


def work(folder: Path, questions: int) -> None:
    """Generate for so many questions in this process; prints its largest resident size in MB."""
    run = RunFolder(folder)
    publish_rows(run.questions, (_question(number) for number in range(questions)))
    (folder / "script.jsonl").write_text('{"match": "", "replies": [{"text": "2 + 3 = 5.\\nAnswer: 5"}]}\n')
    facts = generate(run, _config(folder), lambda done, total: None, teachers)
    assert facts["traces"] == questions
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure(*, questions: int) -> Measured:
    """Peak memory and time of a generation of so many questions, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="aot-queue-") as folder:
        command = [sys.executable, __file__, "--questions", str(questions), "--work", folder]
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return Measured(float(done.stdout.split()[-1]), time.monotonic() - started)


def _question(number: int) -> Question:
    return Question(
        id=f"queue/train/{number:08d}", dataset="queue", split="train", kind="sum", text=f"What is 2 + 3? ({number})",
        answer="5", answer_type="integer", group=f"queue/{number:08d}",
    )  # fmt: skip


def _config(folder: Path) -> RunConfig:
    raw = {
        "data": {"dataset": "text_jsonl", "files": {"train": "unused.jsonl"}},
        "teacher": {"planner": "chat", "candidates": 1},
        "chat": {"backend": "scripted", "model": "script", "script": str(folder / "script.jsonl")},
        "student": {"base": "tiny-text"},
        "train": {"arms": [{"name": "pre", "order": "pre"}]},
    }
    return parse_config(raw, source="bench")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--work", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.questions)
        return
    for questions in (100, options.questions):
        found = measure(questions=questions)
        print(f"{questions} questions: {found.peak_mb:.0f} MB at most, {found.seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
