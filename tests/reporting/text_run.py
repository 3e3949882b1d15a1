"""A small text run folder made of real records: drawn problems, their chains, replies of every order, and metrics."""

from pathlib import Path

import numpy as np

from aot.config import RunConfig, ToyMathConfig, dump_config, parse_config
from aot.evaluation.metrics import compute_metrics
from aot.files.run_folder import RunFolder, publish, publish_json, publish_rows
from aot.records import Prediction, Question, Refusal, Trace, Verdict
from aot.run_records import FilterCount, Funnel
from text_cot.datasets.toy_math import draw_toy_math
from text_cot.teacher.procedural import solve

SPLITS = ("test", "ood_terms", "ood_names", "ood_family")
ARMS = (
    {"name": "answers_only", "order": "answers_only"},
    {"name": "pre", "order": "pre"},
    {"name": "post", "order": "post"},
    {"name": "adaptive", "order": "adaptive"},
    {"name": "own", "order": "pre", "chains": "self", "chain_share": 0.1},
    {"name": "shuffled", "order": "pre", "chains": "shuffled"},
)
STUDENTS = (
    ("base", "direct", 0.05), ("base", "reason", 0.03), ("answers_only", "direct", 0.2), ("pre", "reason", 0.9),
    ("post", "explain", 0.25), ("adaptive", "adaptive", 0.88), ("own", "reason", 0.7), ("shuffled", "reason", 0.3),
)  # fmt: skip


def _reply(question: Question, trace: Trace, *, arm: str, mode: str, answer: str, hostile: str) -> Prediction:
    thought = ("direct" if question.tags["steps"] < 2 else "full") if mode == "adaptive" else ""
    chain = "\n".join([*(step.text for step in trace.steps), f"Answer: {answer}"])
    if answer != question.answer:
        chain = f"6 + 6 = 13\n{chain}"
    thinks = mode == "reason" or thought == "full"
    text = (chain if thinks else f"Answer: {answer}") + hostile
    probs = (0.8, 0.15, 0.05) if thought == "direct" else (0.1, 0.2, 0.7)
    return Prediction(
        question_id=question.id, arm=arm, mode=mode, raw_text=text, answer=answer, thought=thought,  # type: ignore[arg-type]
        thought_probs=probs if thought else (), completion_tokens=len(text.split()),
    )  # fmt: skip


def _predictions(asked: list[Question], traces: dict[str, Trace], hostile: str) -> list[Prediction]:
    rng = np.random.default_rng(5)
    rows = [
        _reply(q, traces[q.id], arm=arm, mode=mode, answer=q.answer if rng.random() < skill else "13", hostile=hostile)
        for arm, mode, skill in STUDENTS
        for q in asked
    ]
    return rows + [
        Prediction(question_id=q.id, arm="teacher", mode="none", raw_text=traces[q.id].rationale, answer=q.answer)
        for q in asked
    ]


def _questions(size: int, hostile: str) -> list[Question]:
    drawn = draw_toy_math(ToyMathConfig(train=2 * size, test=size, test_ood=size), seed=0)
    kept = [question for question in drawn if question.split in ("train", *SPLITS)]
    return [q.model_copy(update={"text": q.text + hostile, "kind": q.kind + hostile}) for q in kept]


def build_text_run(root: Path, *, size: int = 30, hostile: str = "", gallery: int = 8) -> tuple[RunFolder, RunConfig]:
    """A finished text run; `hostile` is appended to questions, kinds, replies and details."""
    run = RunFolder(root)
    raw = {
        "data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "student": {"base": "tiny-text"},
        "train": {"arms": list(ARMS)}, "evaluate": {"splits": list(SPLITS)}, "report": {"gallery": gallery},
    }  # fmt: skip
    config = parse_config(raw, source="test")
    questions = _questions(size, hostile)
    traces = {q.id: solve(q, granularity="fine", seed=0, config_digest="0" * 12) for q in questions}
    asked = [q for q in questions if q.split != "train"]
    training = [q for q in questions if q.split == "train"]
    predictions = _predictions(asked, traces, hostile)
    learned = {"pre": {q.id for q in training[3:]}}
    metrics = compute_metrics(
        questions=asked, predictions=predictions, training=training, learned=learned,
        arms=config.train.arms, splits=SPLITS,
        bootstrap_samples=200, seed=0,
    )  # fmt: skip
    publish(run.config, dump_config(config))
    publish_json(run.run_json, {"revision": "abc1234", "command": ["aot", "run", f"x{hostile}.yaml"],
                                "stages": {"train": {"state": "done", "seconds": 12.5}}})  # fmt: skip
    publish_rows(run.questions, questions)
    publish_rows(run.refusals, [Refusal(item=f"row 3{hostile}", boundary="source", reason="no_answer")])
    publish_rows(run.traces / "part-0.jsonl", traces.values())
    kept, dropped = [traces[q.id] for q in training[3:]], [traces[q.id] for q in training[:3]]
    publish_rows(run.kept, kept)
    publish_rows(run.dropped, dropped)
    publish_rows(run.verdicts, [
        Verdict(question_id=t.question_id, sample_index=t.sample_index, filter="arithmetic", keep=False,
                reason="wrong_step", detail=f"2 + 2 = 5{hostile}") for t in dropped])  # fmt: skip
    publish(run.funnel, Funnel(
        traces=len(training), verified=len(training), natural_failures=0, kept=len(kept), dropped=len(dropped),
        by_filter={"arithmetic": 3}, reasons=(FilterCount(filter="arithmetic", reason="wrong_step", first=3, any=3),),
    ).model_dump_json())  # fmt: skip
    publish_json(run.teacher_stats, {"planner": "procedural", "questions": len(questions), "samples": len(traces)})
    publish_json(run.arm("own") / "rounds.json", [
        {"round": 0, "teacher_chains": 6, "own_chains": 0, "sampled": 40, "new_chains": 9, "split": "test",
         "accuracy": 0.5, "low": 0.4, "high": 0.6, "n": size, "truncated_rate": 0.125},
        {"round": 1, "teacher_chains": 6, "own_chains": 9, "sampled": 0, "new_chains": 0, "split": "test",
         "accuracy": 0.6, "low": 0.5, "high": 0.7, "n": size}])  # fmt: skip
    for arm in ("answers_only", "pre"):
        lines = [f'{{"step": {i}, "loss": {3 / i + 0.1}, "label_loss": {1 / i}, "lr": 0.002}}' for i in range(1, 61)]
        publish_json(run.arm(arm) / "training.json", {"trainable_parameters": 233472, "lessons": 2 * size})
        publish(run.arm(arm) / "metrics.jsonl", "\n".join(lines) + "\n")
    publish_rows(run.predictions / "all.jsonl", predictions)
    publish_json(run.metrics, [row.model_dump(mode="json") for row in metrics])
    return run, config
