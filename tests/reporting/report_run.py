"""A small run folder made of real records: clips, traces, verdicts, predictions and metrics that fit together."""

import json
from pathlib import Path

import numpy as np
from fixtures.steps import tool_step

from aot.config import RunConfig, dump_config, parse_config
from aot.evaluation.baselines import baseline_predictions
from aot.evaluation.metrics import compute_metrics
from aot.files.run_folder import RunFolder, publish, publish_json, publish_rows
from aot.records import (
    ClipAnnotation,
    MediaRef,
    MetricRow,
    Prediction,
    Question,
    Refusal,
    Segment,
    Step,
    TimeSpan,
    ToolCall,
    Trace,
    TraceError,
    Usage,
    Verdict,
)
from aot.run_records import FaultScore, FaultTotals, FilterCount, Funnel, PlantedFault

RECIPES = {
    "soup": ("peel carrot", "chop carrot", "chop onion", "fry onion", "boil carrot"),
    "salad": ("wash cucumber", "peel cucumber", "chop cucumber", "wash tomato", "chop tomato"),
    "pizza": ("mix dough", "bake dough", "chop tomato", "pour tomato", "chop cheese"),
}
STEPS = tuple(sorted({step for steps in RECIPES.values() for step in steps}))
STEP_S = 2.0
WINDOW_S = 6.0


def read_frames(uri: str, times_s: list[float]) -> tuple[tuple[int, int], list[tuple[float, np.ndarray]]]:
    frames = []
    for time_s in times_s:
        frame = np.full((90, 160, 3), 235, np.uint8)
        x = int(10 + 16 * (time_s % 8))
        frame[30:60, x : x + 30] = (220, 40 + int(20 * (time_s % 8)), 30)
        frames.append((time_s, frame))
    return (640, 360), frames


def _questions(clip: ClipAnnotation, extra_text: str) -> list[Question]:
    common = {"dataset": "toy_kitchen", "split": clip.split, "group": clip.uri}
    media = MediaRef(uri=clip.uri, end_s=WINDOW_S)
    answer, last = clip.segments[3].label, clip.segments[2].label
    wrong = [step for step in STEPS if step != answer][:3]
    rows = [
        ("next_choice", f"What is the next step?{extra_text}", (answer, *wrong), answer, "choice"),
        ("next_open", "Which step comes next?", (), answer, "text"),
        ("before", f"Which step comes right before {last}?", (), clip.segments[1].label, "text"),
        ("count", f"How often does {last} happen?", (), "1", "integer"),
        ("when", f"When does {last} happen?", (), "4.0s-6.0s", "span"),
    ]
    return [
        Question(id=f"{clip.uri}:{kind}", kind=kind, text=text, choices=choices, answer=gold, answer_type=kind_of,
                 media=media, **common)  # type: ignore[arg-type]
        for kind, text, choices, gold, kind_of in rows
    ]  # fmt: skip


def _trace(question: Question, clip: ClipAnnotation, *, right: bool, extra_text: str) -> Trace:
    seen = [s for s in clip.segments if s.end_s <= WINDOW_S]
    times = tuple(round(0.2 + 0.4 * i, 2) for i in range(15))
    answer = question.answer if right else "wash tomato"
    gathered = " ".join(f"{s.start_s:.1f}s-{s.end_s:.1f}s {s.label} [1]." for s in seen)
    steps_seen = [{"start_s": s.start_s, "end_s": s.end_s + 0.1, "label": s.label, "score": 0.91} for s in seen]
    steps = (
        tool_step(
            1, "list_steps", {"start_s": 0.0, "end_s": WINDOW_S, "fps": 3.0}, {"steps": steps_seen},
            span=TimeSpan(start_s=0, end_s=WINDOW_S), frame_times_s=times, duration_s=0.041,
        ),
        tool_step(
            2, "detect_objects", {"object": "tomato", "start_s": 0.0, "end_s": WINDOW_S},
            {"object": "tomato", "boxes": [
                {"time_s": t, "box_xyxy": [40 + 64 * t, 120, 160 + 64 * t, 240], "score": 0.8} for t in times[::4]
            ]},
            span=TimeSpan(start_s=0, end_s=WINDOW_S), frame_times_s=times, duration_s=0.0123,
        ),
        tool_step(
            3, "propose_next", {"history": [s.label for s in seen]},
            {"task": clip.task, "task_prob": 0.9, "last": seen[-1].label,
             "candidates": [{"label": question.answer, "prob": 0.7}, {"label": "chop tomato", "prob": 0.1}]},
            duration_s=0.0004,
        ),
    )  # fmt: skip
    rationale = (
        f"Identify: the question asks for the step after {WINDOW_S}s.{extra_text}\nGather: {gathered}\n"
        f"Combine: this is {clip.task}, where {answer} comes after {seen[-1].label} [3].\nAnswer: {answer}"
    )
    return Trace(
        question_id=question.id, sample_index=0, teacher="rules", steps=steps, support=(1, 3), rationale=rationale,
        answer=answer, status="ok", usage=Usage(tool_calls=3, seconds=0.06), config_digest="0" * 12,
    )  # fmt: skip


def _clips(count: int, hostile: str) -> list[ClipAnnotation]:
    clips = []
    for number in range(count):
        split = ("train", "test", "test_ood")[number % 3]
        task = list(RECIPES)[(number // 3) % 3]
        labels = [label + hostile for label in RECIPES[task]]
        segments = tuple(Segment(start_s=STEP_S * i, end_s=STEP_S * (i + 1), label=x) for i, x in enumerate(labels))
        uri = f"{split}/clip{number:03d}{hostile}.mp4"
        clips.append(ClipAnnotation(uri=uri, split=split, task=task, duration_s=10.0, segments=segments))
    return clips


def _predictions(questions: list[Question], traces: dict[str, Trace]) -> list[Prediction]:
    skill = {"base": 0.2, "answer_only": 0.8, "distilled": 0.88, "distilled_no_frames": 0.3}
    rng, rows = np.random.default_rng(5), []
    for arm, share in skill.items():
        for mode in ("direct",) if arm.endswith("frames") else ("direct", "reason", "likelihood"):
            for question in questions:
                draw = rng.random()
                answer = question.answer if draw < share else "chop tomato" if draw < 0.97 else None
                probs: tuple[float, ...] = ()
                if mode == "likelihood":
                    if not question.choices:
                        continue
                    top = float(np.clip(rng.normal(share, 0.1), 0.3, 0.99))
                    best = 0 if draw < share else 1
                    probs = tuple(top if i == best else (1 - top) / 3 for i in range(4))
                text = traces[question.id].rationale if mode == "reason" else answer or "mmh mmh"
                rows.append(Prediction(question_id=question.id, arm=arm, mode=mode, raw_text=text, answer=answer,
                                       choice_probs=probs, completion_tokens=0 if probs else len(text.split())))  # type: ignore[arg-type]  # fmt: skip
    rows += [
        Prediction(
            question_id=q.id, arm="teacher", mode="none", raw_text=traces[q.id].rationale, answer=traces[q.id].answer
        )
        for q in questions
    ]
    return rows


def build_run(root: Path, *, clips: int = 12, hostile: str = "", gallery: int = 8) -> tuple[RunFolder, RunConfig]:
    """A finished run; `hostile` is appended to labels, file names, questions, rationales and details."""
    run = RunFolder(root)
    config = parse_config({"data": {"dataset": "toy_kitchen"}, "report": {"gallery": gallery}}, source="test")
    annotations = _clips(clips, hostile)
    by_uri = {clip.uri: clip for clip in annotations}
    questions = [question for clip in annotations for question in _questions(clip, hostile)]
    traces = [
        _trace(q, by_uri[q.media.uri], right=i % 4 != 1, extra_text=hostile) for i, q in enumerate(questions) if q.media
    ]
    by_question = {trace.question_id: trace for trace in traces}
    failed = traces[0].model_copy(update={
        "sample_index": 1, "status": "failed", "error": TraceError(boundary="tool", message=f"no frame{hostile}"),
        "steps": (Step(index=1, call=ToolCall(tool="list_steps"), status="failed", error=f"no frame{hostile}"),),
    })  # fmt: skip
    training = [t for q, t in zip(questions, traces, strict=True) if q.split == "train"]
    gold = {question.id: question.answer for question in questions}
    kept = [t for t in training if t.answer == gold[t.question_id]]
    dropped = [*(t for t in training if t.answer != gold[t.question_id]), failed]
    asked = [q for q in questions if q.split != "train"]
    held = _predictions(asked, by_question) + baseline_predictions(
        questions=asked, annotations=annotations, traces=by_question
    )
    metrics = compute_metrics(
        questions=asked, predictions=held, annotations=annotations, bootstrap_samples=200, seed=0,
        arms=config.train.arms, splits=config.evaluate.splits, training=[q for q in questions if q.split == "train"],
    )  # fmt: skip
    publish(run.config, dump_config(config))
    publish_json(run.run_json, {
        "revision": "abc1234", "config_digest": config.digest(), "created": "2026-01-01T00:00:00",
        "hardware": {"machine": "x86_64", "cores": 2, "system": "Linux"}, "versions": {"numpy": "2.0"},
        "command": ["aot", "run", f"configs/x{hostile}.yaml"],
        "stages": {"prepare": {"state": "done", "seconds": 12.5}},
    })  # fmt: skip
    publish_rows(run.questions, questions)
    publish_rows(run.annotations, annotations)
    publish_rows(run.traces / "part-00000.jsonl", [*traces, failed])
    publish_rows(run.kept, (t.timeless() for t in kept))
    publish_rows(run.dropped, (t.timeless() for t in dropped))
    publish_rows(run.verdicts, [verdict for t in training for verdict in _verdicts(t, t in kept, hostile)])
    spoilt = PlantedFault(question_id=dropped[0].question_id, sample_index=0, fault=f"wrong_label{hostile}")
    publish_rows(run.faults / "part-0.jsonl", [spoilt])
    publish(run.funnel, _funnel(len(kept), len(dropped)).model_dump_json())
    publish_json(run.teacher_stats, {
        "planner": "rules", "questions": len(questions), "candidates": 3, "seconds_per_verified_trace": 0.21,
        "status": {"ok": 60},
        "yields": [{"split": "train", "kind": "all", "n": 200, "attempts": 1.4,
                    "pass_at_1": {"value": 0.61, "low": 0.5, "high": 0.7},
                    "pass_at_k": {"value": 0.83, "low": 0.7, "high": 0.9}}],
        "tool_accuracy": [{"tool": "list_steps", "metric": "label", "n": 120,
                           "share": {"value": 0.93, "low": 0.9, "high": 0.95}}], "tool_cost": [],
    })  # fmt: skip
    publish_rows(run.refusals, [Refusal(item=f"x{hostile}.mp4", boundary="decode", reason="truncated", detail=hostile)])
    for arm, rationales in (("answer_only", 0), ("distilled", len(kept))):
        publish_json(run.arm(arm) / "training.json", {"questions_seen": 20, "rationales_seen": rationales})
        lines = [f'{{"step": {i}, "loss": {3 / i + 0.1}, "label_loss": {1 / i}, "lr": 0.002}}' for i in range(1, 61)]
        publish(run.arm(arm) / "metrics.jsonl", "\n".join(lines) + "\n")
    publish_rows(run.predictions / "all.jsonl", held)
    publish_json(run.metrics, [row.model_dump(mode="json") for row in metrics])
    return run, config


def _verdicts(trace: Trace, keep: bool, hostile: str) -> list[Verdict]:
    common = {"question_id": trace.question_id, "sample_index": trace.sample_index}
    return [
        Verdict(filter="status", keep=True, reason="ok", **common),  # type: ignore[arg-type]
        Verdict(filter="answer_correct", keep=keep, reason="ok" if keep else "answer_mismatch",
                detail="" if keep else f"said wash tomato{hostile}", **common),  # type: ignore[arg-type]
    ]  # fmt: skip


def _funnel(kept: int, dropped: int) -> Funnel:
    reason = FilterCount(filter="answer_correct", reason="answer_mismatch", first=dropped, any=dropped)
    kind = FaultScore(
        fault="wrong_label", planted=9, caught=8, recall=8 / 9, precision=1.0, caught_by={"evidence.label": 8}
    )
    faults = FaultTotals(planted=9, caught=8, dropped_verified=8, precision=1.0, recall=8 / 9, kinds=(kind,))
    return Funnel(traces=kept + dropped, verified=kept + 2, natural_failures=dropped - 2, kept=kept, dropped=dropped,
                  by_filter={"answer_correct": dropped}, reasons=(reason,), faults=faults)  # fmt: skip


def cut_replies(run: RunFolder, *, arm: str, mode: str, share: float) -> None:
    """Write into the metrics of a run that the cap cut off so many replies of a student, and none of the others."""
    rows = [MetricRow.model_validate(row) for row in json.loads(run.metrics.read_bytes())]
    students = [row for row in rows if row.metric == "accuracy" and row.mode not in ("none", "likelihood")]
    values = [share if (row.arm, row.mode) == (arm, mode) else 0.0 for row in students]
    cut = [
        row.model_copy(update={"metric": "truncated_rate", "value": value, "low": 0.0, "high": 1.0})
        for row, value in zip(students, values, strict=True)
    ]
    publish_json(run.metrics, [row.model_dump(mode="json") for row in [*rows, *cut]])
