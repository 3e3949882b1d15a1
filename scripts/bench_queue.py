"""Memory and time of a generation of many questions, apart from what a teacher does with them.

    python scripts/bench_queue.py --questions 100000 [--door text]

Each measurement is a generate stage in a process of its own: with a few questions for the floor, then with all of them.
The video run asks about clips that are not stored, so that each question goes the whole way (queue, shelf, failed row,
parts, teacher.json) without frames; the model of the text run is a script with one reply. `grown_mb` is how far the
peak rose above that of the few questions: what the queue costs.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from aot.config import parse_config
from aot.files.run_folder import RunFolder, publish, publish_rows
from aot.generate.run import generate
from aot.generate.solve import TeacherRoom
from aot.records import MediaRef, Question

PER_CLIP = 5
Door = Literal["video", "text"]
FEW: dict[Door, int] = {"video": 10, "text": 100}


@dataclass(frozen=True)
class Measured:
    """One generation."""

    traces: int
    failed: int
    refused: int
    seconds: float
    peak_mb: float


def main() -> None:
    """Print one JSON line for each door."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--door", choices=FEW, action="append")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    doors: list[Door] = options.door or list(FEW)
    if options.work:
        print(json.dumps(asdict(_generated(options.work, doors[0], options.questions))))
        return
    for door in doors:
        few, many = (measure(door, questions=count) for count in (FEW[door], options.questions))
        sizes = {"floor_mb": few.peak_mb, "grown_mb": round(many.peak_mb - few.peak_mb, 1)}
        print(json.dumps({"door": door, "questions": options.questions, **asdict(many), **sizes}), flush=True)


def measure(door: Door, *, questions: int) -> Measured:
    """Peak memory and time of a generation of so many questions, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="aot-queue-") as folder:
        command = [sys.executable, __file__, "--door", door, "--questions", str(questions), "--work", folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def _generated(root: Path, door: Door, questions: int) -> Measured:
    run = RunFolder(root)
    room, settings = _text(run, questions) if door == "text" else _video(run, questions)
    started_s = time.perf_counter()
    facts = generate(run, parse_config(settings, source="bench"), lambda done, total: None, room)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert facts["traces"] == questions
    return Measured(**facts, seconds=round(time.perf_counter() - started_s, 1), peak_mb=round(peak_mb, 1))


def _video(run: RunFolder, count: int) -> tuple[TeacherRoom, dict[str, Any]]:
    from aot.teacher import agent  # what a text run does not load must not count there

    choices = ("pour the batter", "flip the pancake", "crack the egg", "wash the pan")
    publish_rows(
        run.questions,
        (
            Question(
                id=f"clip{i // PER_CLIP:06d}/next/{i % PER_CLIP}", dataset="drawn", split="train", kind="next_choice",
                text="What does the cook do next, after the step that ends here?", choices=choices,
                answer=choices[i % 4], answer_type="choice", group=f"clip{i // PER_CLIP:06d}",
                media=MediaRef(uri=f"videos/clip{i // PER_CLIP:06d}.mp4", end_s=4.0),
            )
            for i in range(count)
        ),
    )  # fmt: skip
    for path in (run.annotations, run.refusals, run.frames / "index.jsonl"):
        publish(path, "")
    return agent, {"data": {"dataset": "toy_kitchen"}, "teacher": {"workers": 1}}


def _text(run: RunFolder, count: int) -> tuple[TeacherRoom, dict[str, Any]]:
    from text_cot.teacher import teachers

    def questions() -> Iterator[Question]:
        for i in range(count):
            yield Question(
                id=f"queue/train/{i:08d}", dataset="queue", split="train", kind="sum", text=f"What is 2 + 3? ({i})",
                answer="5", answer_type="integer", group=f"queue/{i:08d}",
            )  # fmt: skip

    publish_rows(run.questions, questions())
    script = run.root / "script.jsonl"
    script.write_text('{"match": "", "replies": [{"text": "2 + 3 = 5.\\nAnswer: 5"}]}\n')
    return teachers, {
        "data": {"dataset": "text_jsonl", "files": {"train": "unused.jsonl"}},
        "teacher": {"planner": "chat", "candidates": 1},
        "chat": {"backend": "scripted", "model": "script", "script": str(script)},
        "student": {"base": "tiny-text"},
        "train": {"arms": [{"name": "pre", "order": "pre"}]},
    }


if __name__ == "__main__":
    main()
