"""Prints how many supervised tokens a second our text training takes, beside trl's SFTTrainer on the same rows.

Command: python scripts/bench_text_train.py --trl-python PYTHON [--base tiny-text] [--steps 30] (two CPU cores: 3 min).
PYTHON is that of an environment which holds trl; nothing else of this project needs it. To make one:

    python -m venv /tmp/venv-trl
    /tmp/venv-trl/bin/pip install torch==2.13.0 trl "transformers==5.23.*" peft datasets

Same base, chains of 2 to 8 steps, LoRA on all linear layers. Ours packs 16 lessons a step into rows of --pack-tokens.
trl runs twice: with its defaults (batches of 8, padded, bfloat16 and gradient checkpointing), and with batches of 16,
float32 and no checkpointing, so that the gain of packing alone can be seen. The figure that counts is the ratio to
trl's defaults; the target is at least 1.3.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from numpy.random import default_rng

from aot.config import RunConfig, parse_config
from aot.files.run_folder import LESSONS, RunFolder, publish_json, publish_rows
from aot.records import Lesson, Question
from aot.student.model.base import resolve_base
from aot.student.rows.prompts import MODE_SUFFIX
from aot.student.train.arm import make_trainer
from aot.student.train.guards import StopFlag
from aot.student.train.session import open_session
from aot.student.train.trainer import StepMetrics

NUM_ROWS, MOST_STEPS, WARM_UP = 600, 8, 5
TRL_SIDE = Path(__file__).with_name("bench_text_trl.py")


def main() -> int:
    """Time ours and both trl runs, one after the other, and print tokens a second and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", required=True, help="python of an environment with trl")
    parser.add_argument("--base", default="tiny-text")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--pack-tokens", type=int, default=256)
    options = parser.parse_args()
    known = subprocess.run(
        [options.trl_python, "-c", "import trl, datasets"], capture_output=True, text=True, check=False
    )
    if known.returncode:
        print(f"{options.trl_python} cannot import trl: {known.stderr.strip().splitlines()[-1]}\n{__doc__}")
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = _config(options)
        questions, lessons = running_sums(NUM_ROWS)
        ours = _ours(RunFolder(folder), config, questions, lessons, steps=options.steps)
        rows = [
            {"prompt": f"{question.text} {MODE_SUFFIX['reason']}", "completion": lesson.rationale}
            for question, lesson in zip(questions, lessons, strict=True)
        ]
        publish_json(folder / "rows.json", rows)
        defaults, same = (_trl(options, folder, variant) for variant in ("defaults", "same"))
    print(
        f"supervised tokens/s: ours {ours:.0f}, trl with its defaults {defaults:.0f} (ratio {ours / defaults:.2f}), "
        f"trl with our batch and precision {same:.0f} (ratio {ours / same:.2f}); load {os.getloadavg()[0]:.1f}"
    )
    return 0


def _config(options: argparse.Namespace) -> RunConfig:
    steps = options.steps + WARM_UP
    train = {
        "arms": [{"name": "pre", "order": "pre"}], "max_steps": steps, "save_steps": steps,
        "pack_tokens": options.pack_tokens,
    }  # fmt: skip
    raw = {
        "data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "train": train,
        "student": {"base": options.base, "device": "cpu"},
    }  # fmt: skip
    return parse_config(raw, source="bench")


def running_sums(count: int) -> tuple[list[Question], list[Lesson]]:
    """Running sums, and the chains that work them out."""
    questions, lessons = [], []
    for index in range(count):
        numbers = default_rng([0, index]).integers(1, 99, size=2 + index % MOST_STEPS).tolist()
        chain, total = [], numbers[0]
        for number in numbers[1:]:
            chain.append(f"{total} + {number} = {total + number}")
            total += number
        text = " + ".join(str(number) for number in numbers)
        questions.append(
            Question(
                id=f"q{index}", dataset="bench", split="train", kind="sum", text=f"{text} = ?", answer=str(total),
                answer_type="integer", group=f"q{index}",
            )
        )  # fmt: skip
        reply = "\n".join((*chain, f"Answer: {total}"))
        lessons.append(Lesson(question_id=f"q{index}", mode="reason", rationale=reply))
    return questions, lessons


def _ours(run: RunFolder, config: RunConfig, questions: list[Question], lessons: list[Lesson], *, steps: int) -> float:
    """Supervised tokens a second after the first steps: the median over the steps."""
    arm = config.train.arms[0]
    publish_rows(run.questions, questions)
    publish_rows(run.arm(arm.name) / LESSONS, lessons)
    rates: list[float] = []
    resumed = time.perf_counter()

    def on_step(row: StepMetrics) -> None:
        nonlocal resumed
        now = time.perf_counter()
        rates.append((row.label_tokens + row.rationale_tokens) / (now - resumed))
        resumed = now

    make_trainer(open_session(run, config, arm), stop=StopFlag(), on_step=on_step).train()
    return statistics.median(rates[WARM_UP : WARM_UP + steps])


def _trl(options: argparse.Namespace, folder: Path, variant: str) -> float:
    arguments = [options.trl_python, str(TRL_SIDE), resolve_base(options.base), str(folder / "rows.json"), variant]
    done = subprocess.run([*arguments, str(options.steps)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"trl ({variant}) failed:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["tokens_per_s"])


if __name__ == "__main__":
    sys.exit(main())
