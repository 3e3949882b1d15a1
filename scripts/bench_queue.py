"""Memory and time of a generation of many questions, apart from what a teacher does with them.

    python scripts/bench_queue.py --questions 100000

Makes a video run of so many questions about clips that are not stored, so that each of them goes the whole way (queue,
shelf, failed row, parts, teacher.json) without frames, and generates in a child process. `grown` is how far the peak
memory rose above that of the same program with 10 questions: what the queue costs.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PER_CLIP = 5


def main() -> None:
    """Run both children and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _generate(options.child)
        return
    few, many = (_measured(count) for count in (10, options.questions))
    grown = round(many["peak_mb"] - few["peak_mb"], 1)
    print(json.dumps({"questions": options.questions, **many, "grown_mb": grown}))


def _measured(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        _make_run(Path(folder), count)
        command = [sys.executable, __file__, "--child", folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _make_run(root: Path, count: int) -> None:
    from aot.files.run_folder import RunFolder, publish, publish_rows
    from aot.records import MediaRef, Question

    run = RunFolder(root)
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


def _generate(root: Path) -> None:
    from aot.config import parse_config
    from aot.files.run_folder import RunFolder
    from aot.generate.run import generate
    from aot.teacher import agent

    config = parse_config({"data": {"dataset": "toy_kitchen"}, "teacher": {"workers": 1}}, source="bench")
    started_s = time.perf_counter()
    facts = generate(RunFolder(root), config, lambda done, total: None, agent)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**facts, "seconds": round(time.perf_counter() - started_s, 1), "peak_mb": round(peak_mb, 1)}))


if __name__ == "__main__":
    main()
