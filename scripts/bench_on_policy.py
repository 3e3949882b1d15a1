"""Prints what a step of on-policy distillation takes, by part, beside trl's DistillationTrainer on the same replies.

    python scripts/bench_on_policy.py --trl-python PYTHON [--base tiny-text] [--steps 20] [--batch 16] [--threads 2]

PYTHON is that of an environment with trl; how to make one stands in bench_text_train.py. The student is the base with
LoRA of rank 16, the judge is the base as well, and is shown the worked solution with ours. trl shows its teacher what
the student sees and nothing else, keeps no replies, and cannot weigh steps; so what is compared is the work: writing,
judging and learning the same number of replies in float32. `given`: trl takes the ids that ours wrote. `own`: it writes
its own. Medians over steps, in wall seconds and in CPU seconds of all threads, which say more on a busy machine.
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
from typing import Any

import torch
from bench_text_train import running_sums

from aot.answer_records import Rollout
from aot.arms.jobs import job_named, plan_jobs
from aot.arms.lessons import read_material
from aot.arms.on_policy import judge_round, roll_out
from aot.arms.train import train_job
from aot.config import RunConfig, parse_config
from aot.files.run_folder import RunFolder, publish_json, publish_rows, read_rows
from aot.records import Lesson, Question, Trace
from aot.student.model.base import resolve_base
from aot.student.rows.prompts import MODE_SUFFIX
from aot.student.train.arm import make_trainer
from aot.student.train.guards import StopFlag
from aot.student.train.session import open_session
from aot.student.train.trainer import StepMetrics
from text_cot.teacher.procedural import chain_trace

MOST_TOKENS = 60
TRL_SIDE = Path(__file__).with_name("bench_on_policy_trl.py")
Took = dict[str, float]
"""`seconds`, `cpu_s` and `tokens` of a step."""


def main() -> int:
    """Time both sides and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", required=True, help="python of an environment with trl")
    parser.add_argument("--base", default="tiny-text")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        run = RunFolder(Path(name))
        parts, learned = _ours(run, options)
        peers = {who: _trl(run, who, options) for who in ("given", "own")}
    learn = _median(learned)
    whole = {
        key: learn[key] + sum(part[key] for part in parts.values()) / options.steps for key in ("seconds", "cpu_s")
    }
    print(
        f"load {os.getloadavg()[0]:.1f}, {options.threads} threads, n={options.steps} steps of {options.batch} replies"
    )
    for part, took in parts.items():
        print(
            f"ours, to {part}: {took['seconds'] / options.steps:.3f} s a step, CPU {took['cpu_s'] / options.steps:.3f}"
        )
    print(f"ours, to learn: {learn['seconds']:.3f} s a step, CPU {learn['cpu_s']:.3f}; {learn['tokens']:.0f} tokens")
    judged = {key: learn[key] + parts["judge"][key] / options.steps for key in whole}
    for who, mine in (("given", judged), ("own", whole)):
        peer = _median(peers[who])
        ratios = {key: peer[key] / peer["tokens"] / (mine[key] / learn["tokens"]) for key in mine}
        print(
            f"trl, {who}: {peer['seconds']:.3f} s a step, CPU {peer['cpu_s']:.3f}, {peer['tokens']:.0f} tokens a step; "
            f"ours is {ratios['seconds']:.2f} times as fast by token, by CPU seconds {ratios['cpu_s']:.2f} times"
        )
    return 0


def _median(steps: list[Took]) -> Took:
    """Of all but the first two steps, which warm up."""
    return {key: statistics.median(step[key] for step in steps[2:]) for key in steps[0]}


def _config(options: argparse.Namespace) -> RunConfig:
    train = {
        "arms": [{"name": "own", "order": "pre", "chains": "on_policy"}], "max_steps": 1, "save_steps": 1000,
        "questions_per_step": options.batch, "questions_per_device": options.batch,
        "on_policy": {"rounds": 1, "steps": options.steps, "judge": "base"},
    }  # fmt: skip
    raw = {
        "data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "train": train,
        "student": {"base": options.base, "device": "cpu", "max_rationale_tokens": MOST_TOKENS},
    }  # fmt: skip
    return parse_config(raw, source="bench")


def _ours(run: RunFolder, options: argparse.Namespace) -> tuple[dict[str, Took], list[Took]]:
    """What writing and judging took in all, and each step of learning; leaves the rows for the other side."""
    config = _config(options)
    questions, lessons = running_sums(options.steps * options.batch)
    publish_rows(run.questions, questions)
    pairs = zip(questions, lessons, strict=True)
    publish_rows(run.kept, (_chain(question, lesson) for question, lesson in pairs))
    jobs = plan_jobs(run, config)
    for name in ("own/round0:lessons", "own/round0:train"):
        train_job(run, config, job_named(jobs, name), lambda done, total: None)
    material, student, settings = read_material(run, config), config.student, config.train
    write, judge = (job_named(jobs, f"own/round0:{work}") for work in ("rollout", "judge"))
    parts = {
        "write": _timed(lambda: roll_out(run, write, material, student=student, train=settings, size=64, seed=0)),
        "judge": _timed(lambda: judge_round(run, judge, material, student=student, train=settings, size=64)),
    }
    train_job(run, config, job_named(jobs, "own:lessons"), lambda done, total: None)
    session = open_session(run, config, config.train.arms[0])
    texts = {q.id: f"{q.text} {MODE_SUFFIX['reason']}" for q in questions}
    ids = {row.question_id: row.ids for row in read_rows(write.outputs[0], Rollout)}
    order = [example.question_id for example in session.schedule()]
    publish_json(run.root / "rows.json", [{"prompt": texts[i], "ids": ids[i]} for i in order])
    steps: list[Took] = []
    last = [time.perf_counter(), time.process_time()]

    def on_step(row: StepMetrics) -> None:
        now = [time.perf_counter(), time.process_time()]
        steps.append({"seconds": now[0] - last[0], "cpu_s": now[1] - last[1], "tokens": row.rationale_tokens})
        last[:] = [time.perf_counter(), time.process_time()]

    make_trainer(session, stop=StopFlag(), on_step=on_step).train()
    return parts, steps


def _chain(question: Question, lesson: Lesson) -> Trace:
    lines = tuple(lesson.rationale.split("\n")[:-1])
    return chain_trace(question.id, lines, question.answer, teacher="t", sample_index=0, config_digest="0")


def _timed(work: Any) -> Took:  # noqa: ANN401 - a function
    started = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - started[0], "cpu_s": time.process_time() - started[1]}


def _trl(run: RunFolder, who: str, options: argparse.Namespace) -> list[Took]:
    numbers = (options.batch, options.steps, options.threads, MOST_TOKENS)
    command = [options.trl_python, str(TRL_SIDE), resolve_base(options.base), str(run.root / "rows.json"), who]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run([*command, *map(str, numbers)], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"trl ({who}) failed:\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"seconds"')]


if __name__ == "__main__":
    sys.exit(main())
