"""Prints how many supervised tokens a second our text training takes, beside trl's SFTTrainer on the same rows.

    python scripts/bench_text_train.py --trl-python PYTHON [--base tiny-text] [--steps 30] [--threads 2]
    python scripts/bench_text_train.py --trl-python PYTHON --model smollm2-135m --rows FILE.jsonl --batch 8 --steps 8

PYTHON is that of an environment which holds trl; nothing else of this project needs it. To make one:

    python -m venv /tmp/venv-trl
    /tmp/venv-trl/bin/pip install torch==2.13.0 trl "transformers==5.23.*" peft datasets

Same base, same rows in the same order and batches, LoRA of rank 16 on all linear layers. Ours packs the lessons of a
step into rows of --pack-tokens. trl is asked with its defaults (padded, bfloat16, gradient checkpointing), and with
float32 and no checkpointing, so that the gain of packing alone can be seen. The sides take a step each in turns, so
that other work on the machine weighs on all alike; the figure is the median of their ratios, step by step. The target
is 1.5 against the defaults.

--model smollm2-135m has that model's published shape and random weights (30 layers, 576 wide, 49,152 words; two cores:
a minute a step of 8 rows for all sides); its tokenizer is learned from the rows, which are those of a file with
`question` and `answer`, such as GSM8K's, or sums without --rows.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
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

NUM_ROWS, MOST_STEPS, WARM_UP = 600, 8, 2
TRL_SIDE = Path(__file__).with_name("bench_text_trl.py")
VARIANTS = {"defaults": "trl with its defaults", "same": "trl in our precision, nothing recomputed"}


@dataclass(frozen=True)
class Step:
    """What one step took."""

    seconds: float
    cpu_s: float
    """Of all threads; on a busy machine it tells more."""
    tokens: int
    """Supervised ones."""

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def main() -> int:
    """Time ours and trl in turns, and print tokens a second and the ratios."""
    options = _options()
    imported = subprocess.run(
        [options.trl_python, "-c", "import trl, datasets"], capture_output=True, text=True, check=False
    )
    if imported.returncode:
        print(f"{options.trl_python} cannot import trl: {imported.stderr.strip().splitlines()[-1]}\n{__doc__}")
        return 2
    torch.set_num_threads(options.threads)
    questions, lessons = word_problems(options.rows) if options.rows else running_sums(NUM_ROWS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.model:
            from bench_real_text import save_base

            texts = [text for q, lesson in zip(questions, lessons, strict=True) for text in (q.text, lesson.rationale)]
            options.base = str(save_base(folder / "base", texts=texts))
        ours, others = _in_turns(RunFolder(folder), _config(options), questions, lessons, options)
    load = f"load {os.getloadavg()[0]:.1f}, {options.threads} threads, n={len(ours)} steps of {options.batch} rows"
    print(f"supervised tokens/s (median): ours {statistics.median(step.rate for step in ours):.0f}; {load}")
    for variant, steps in others.items():
        pairs = list(zip(ours, steps, strict=True))
        ratios = sorted(mine.rate / other.rate for mine, other in pairs)
        of_cpu = statistics.median(mine.tokens / mine.cpu_s * other.cpu_s / other.tokens for mine, other in pairs)
        rate = statistics.median(step.rate for step in steps)
        print(
            f"{VARIANTS[variant]}: {rate:.0f}, ours is {statistics.median(ratios):.2f} times as fast "
            f"[{ratios[0]:.2f}, {ratios[-1]:.2f}], by CPU seconds {of_cpu:.2f} times; supervised tokens of all steps: "
            f"{sum(step.tokens for step in steps)}, ours {sum(step.tokens for step in ours)}"
        )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", required=True, help="python of an environment with trl")
    parser.add_argument("--base", default="tiny-text")
    parser.add_argument("--model", choices=["smollm2-135m"], help="a random one of this shape instead of --base")
    parser.add_argument("--rows", type=Path, help="JSONL with `question` and `answer`; without it, sums")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--batch", type=int, default=16, help="rows of a step")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pack-tokens", type=int, default=256)
    return parser.parse_args()


def _config(options: argparse.Namespace) -> RunConfig:
    steps = options.steps + WARM_UP
    train = {
        "arms": [{"name": "pre", "order": "pre"}], "max_steps": steps, "save_steps": steps,
        "pack_tokens": options.pack_tokens, "questions_per_step": options.batch, "questions_per_device": options.batch,
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
        questions.append(_question(index, f"{text} = ?", str(total)))
        reply = "\n".join((*chain, f"Answer: {total}"))
        lessons.append(Lesson(question_id=f"q{index}", mode="reason", rationale=reply))
    return questions, lessons


def word_problems(path: Path) -> tuple[list[Question], list[Lesson]]:
    """The first problems of a file, with their worked answers; calculator notes are left out."""
    questions, lessons = [], []
    with path.open(encoding="utf-8") as lines:
        for index, line in zip(range(NUM_ROWS), lines, strict=False):
            row = json.loads(line)
            chain, _, gold = re.sub(r"<<[^>]*>>", "", row["answer"]).partition("\n#### ")
            questions.append(_question(index, row["question"], gold))
            lessons.append(Lesson(question_id=f"q{index}", mode="reason", rationale=f"{chain}\nAnswer: {gold}"))
    return questions, lessons


def _question(index: int, text: str, answer: str) -> Question:
    return Question(
        id=f"q{index}", dataset="bench", split="train", kind="sum", text=text, answer=answer, answer_type="text",
        group=f"q{index}",
    )  # fmt: skip


def _in_turns(
    run: RunFolder, config: RunConfig, questions: list[Question], lessons: list[Lesson], options: argparse.Namespace
) -> tuple[list[Step], dict[str, list[Step]]]:
    """The steps of our trainer and of each variant of trl's, without the first ones of each."""
    arm = config.train.arms[0]
    publish_rows(run.questions, questions)
    publish_rows(run.arm(arm.name) / LESSONS, lessons)
    session = open_session(run, config, arm)
    prompts = {question.id: f"{question.text} {MODE_SUFFIX['reason']}" for question in questions}
    replies = {lesson.question_id: lesson.rationale for lesson in lessons}
    rows = [
        {"prompt": prompts[example.question_id], "completion": replies[example.question_id]}
        for example in session.schedule()
    ]
    publish_json(run.root / "rows.json", rows)
    ours: list[Step] = []
    others: dict[str, list[Step]] = {variant: [] for variant in options.variants}
    with ExitStack() as stack:
        sides = {variant: stack.enter_context(_trl(options, run.root, variant)) for variant in options.variants}
        resumed_s, resumed_cpu_s = time.perf_counter(), time.process_time()

        def on_step(row: StepMetrics) -> None:
            nonlocal resumed_s, resumed_cpu_s
            took_s, cpu_s = time.perf_counter() - resumed_s, time.process_time() - resumed_cpu_s
            ours.append(Step(took_s, cpu_s, row.label_tokens + row.rationale_tokens))
            for variant, side in sides.items():
                others[variant].append(_turn(side, variant, stderr=run.root / variant))
            resumed_s, resumed_cpu_s = time.perf_counter(), time.process_time()

        make_trainer(session, stop=StopFlag(), on_step=on_step).train()
        for side in sides.values():
            side.terminate()
    return ours[WARM_UP:], {variant: steps[WARM_UP:] for variant, steps in others.items()}


def _trl(options: argparse.Namespace, folder: Path, variant: str) -> subprocess.Popen[str]:
    numbers: Sequence[int] = (options.batch, options.steps + WARM_UP, options.threads)
    rows = str(folder / "rows.json")
    command = [options.trl_python, str(TRL_SIDE), resolve_base(options.base), rows, variant, *map(str, numbers)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    with (folder / variant).open("wb") as errors:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )


def _turn(side: subprocess.Popen[str], variant: str, *, stderr: Path) -> Step:
    """The next step of a side."""
    assert side.stdin and side.stdout
    side.stdin.write("\n")
    side.stdin.flush()
    while line := side.stdout.readline():
        if line.startswith('{"seconds"'):
            return Step(**json.loads(line))
    raise SystemExit(f"trl ({variant}) failed:\n{stderr.read_text(errors='replace')[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
