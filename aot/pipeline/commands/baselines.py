"""`aot baselines`: what can be said about a video data set's questions without looking at any clip.

Reads annotations only, so the clips need not be there. Next-step questions meet the baselines of
`aot.evaluation.baselines`; multiple-choice questions as a data set gives them, without annotated steps, meet chance and
the option that was right most often in training.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from aot.config import RunConfig, VideoRun
from aot.display import counted
from aot.errors import ConfigError
from aot.evaluation.baselines import NEXT_KINDS, PREDICTED, baseline_rankings
from aot.evaluation.groups import BENCHMARK_GROUPS, metric_row
from aot.evaluation.intervals import Bootstrap, cluster_ids, proportion, weighted_proportion
from aot.evaluation.scoring import score
from aot.files.run_folder import RunFolder, run_root
from aot.files.traces import first_traces
from aot.pipeline.commands.noise import DRAWS, noise_rows
from aot.pipeline.prepare import usable_questions
from aot.pipeline.source import labels_source
from aot.records import ClipAnnotation, Interval, MetricRow, Prediction, Question
from aot.run_records import Baselines

TOP = 5
CHANCE, MOST_RIGHT = "chance", "most_right"
"""Arms of questions about clips without annotated steps."""


def baseline_lines(config: RunConfig, config_path: Path, *, noise: Sequence[float] = ()) -> list[str]:
    """The baselines as text, a line for each arm, kind and metric; arguments as for `measure_baselines`.

    Raises:
        AotError: the data set has no clips, or its files cannot be read.
    """
    measured = measure_baselines(config, config_path, noise=noise)
    clips = _counts(measured.annotated_clips)
    lines = [f"{measured.dataset}: questions: {_counts(measured.questions)}; annotated clips: {clips}"]
    if measured.refused:
        lines.append(f"unusable rows: {_counts(measured.refused)}")
    lines += measured.notes
    for row in measured.rows:
        percent = f"{100 * row.value:5.1f}% [{100 * row.low:.1f}, {100 * row.high:.1f}]"
        counts = f"n={row.n}, {counted(row.num_clusters, 'clip')}"
        metric = row.metric if row.mode == "none" else f"{row.metric}, {row.mode}"
        lines.append(f"{row.split:9} {row.kind:12} {row.arm:18} {metric:22} {percent:21} {counts}")
    return lines


def measure_baselines(config: RunConfig, config_path: Path, *, noise: Sequence[float] = ()) -> Baselines:
    """Accuracy, recall@5 and class-mean recall@5 of every baseline, for each split that is evaluated and each kind.

    Args:
        config: of a video run.
        config_path: where it lies.
        noise: shares of right recognitions to simulate; histories with errors are then predicted from, too.

    Raises:
        AotError: the data set has no clips, or its files cannot be read.
    """
    if not isinstance(config, VideoRun):
        raise ConfigError(f"aot baselines is about clips, and data.dataset is {config.data.dataset!r}")
    run = RunFolder(run_root(config, config_path=config_path))
    source = labels_source(config, run)
    questions, refusals = usable_questions(source.questions, dataset=config.data.dataset)
    annotations = [ClipAnnotation.model_validate(asdict(row)) for row in source.annotations]
    notes = list(source.notes)
    traces = first_traces(run) if run.questions.exists() and run.traces.exists() else {}
    if not traces:
        notes.append(f"{' and '.join(PREDICTED)} need the teacher's traces in {run.root}; run `aot generate` first")
    splits = {annotation.split for annotation in annotations} | {question.split for question in questions}
    if "train" not in splits:
        notes.append("there is nothing of the split train to count from: every baseline backs off to the alphabet")
    evaluated = [q for q in questions if q.split in config.evaluate.splits]
    ranked = baseline_rankings(questions=evaluated, annotations=annotations, traces=traces, top=TOP)
    # Clips may be missing in the run: the predicted history is scored only where a teacher looked.
    ranked = {key: labels for key, labels in ranked.items() if key[0] not in PREDICTED or key[1] in traces}
    followed = {question_id for _, question_id in ranked}
    others = [question for question in evaluated if question.id not in followed]
    rows = [*_next_rows(evaluated, ranked), *_other_rows(others, [q for q in questions if q.split == "train"])]
    if noise:
        bootstrap = Bootstrap(config.evaluate.bootstrap_samples, config.seed)
        rows += noise_rows(evaluated, annotations, levels=noise, seed=config.seed, bootstrap=bootstrap)
        notes.append(
            f"p=SHARE: histories as a recogniser sees them that errs, {DRAWS} draws of each, seed {config.seed}"
        )
    return Baselines(
        dataset=config.data.dataset,
        questions=dict(sorted(Counter(q.split for q in questions).items())),
        annotated_clips=dict(sorted(Counter(a.split for a in annotations).items())),
        refused=dict(sorted(Counter([*(r.reason for r in source.refused), *(r.reason for r in refusals)]).items())),
        notes=tuple(notes),
        rows=tuple(rows),
    )


def _next_rows(questions: Sequence[Question], ranked: Mapping[tuple[str, str], Sequence[str]]) -> list[MetricRow]:
    rows = []
    for (split, kind), members in _cells(q for q in questions if q.kind in NEXT_KINDS):
        for arm in dict.fromkeys(arm for arm, _ in ranked):
            answered = [(question, ranked[arm, question.id]) for question in members if (arm, question.id) in ranked]
            if not answered:
                continue
            those = [question for question, _ in answered]
            first = [_right(question, labels[0] if labels else None) for question, labels in answered]
            rows.append(_row(arm, split, kind, "accuracy", those, first, proportion))
            if kind == "next_open":
                any_right = [any(_right(question, label) for label in labels) for question, labels in answered]
                rows.append(_row(arm, split, kind, "recall_at_5", those, any_right, proportion))
                rows.append(_row(arm, split, kind, "class_mean_recall_at_5", those, any_right, _class_mean(those)))
    return rows


def _class_mean(questions: Sequence[Question]) -> Callable[[np.ndarray, np.ndarray], Interval]:
    """Mean over gold answers of the share that was found, each answer weighing the same."""
    counts = Counter(question.answer for question in questions)
    weights = np.array([1 / counts[question.answer] for question in questions])
    return lambda hits, clusters: weighted_proportion(hits, weights, clusters)


def _other_rows(questions: Sequence[Question], training: Sequence[Question]) -> list[MetricRow]:
    """Chance, and the option that was the right answer most often in training questions of the kind, then of all."""
    by_kind: defaultdict[str, Counter[str]] = defaultdict(Counter)
    overall: Counter[str] = Counter()
    for question in training:
        by_kind[question.kind][question.answer] += 1
        overall[question.answer] += 1
    rows = []
    for (split, kind), members in _cells(q for q in questions if q.choices):
        expected = float(np.mean([1 / len(question.choices) for question in members]))
        clusters = len({question.group for question in members})
        exact = Interval(value=expected, low=expected, high=expected, n=len(members), num_clusters=clusters)
        rows.append(metric_row((CHANCE, "none", split, kind), "accuracy", exact, "expected value, without an interval"))
        first = [_right(question, _most_right(question, by_kind[question.kind], overall)) for question in members]
        rows.append(_row(MOST_RIGHT, split, kind, "accuracy", members, first, proportion))
    return rows


def _most_right(question: Question, counts: Counter[str], overall: Counter[str]) -> str:
    """The option whose text `counts` has most often, or its letter where only that tells it apart."""
    options = zip(question.choices, question.option_answers, strict=True)
    return min(options, key=lambda one: (-counts[one[0]], -overall[one[0]], one))[1]


def _cells(questions: Iterable[Question]) -> list[tuple[tuple[str, str], list[Question]]]:
    """Questions by split and kind; with given kinds stand all of them together, and a benchmark's own groups."""
    cells: defaultdict[tuple[str, str], list[Question]] = defaultdict(list)
    for question in questions:
        cells[question.split, question.kind].append(question)
        if question.kind not in NEXT_KINDS:
            cells[question.split, "all given"].append(question)
        for name, kinds in BENCHMARK_GROUPS.get(question.dataset, {}).items():
            if question.kind in kinds:
                cells[question.split, name].append(question)
    return sorted(cells.items())


def _right(question: Question, answer: str | None) -> bool:
    said = Prediction(question_id=question.id, arm="-", mode="none", raw_text=answer or "", answer=answer)
    return score(said, question).correct


def _row(
    arm: str,
    split: str,
    kind: str,
    metric: str,
    questions: Sequence[Question],
    hits: Sequence[bool],
    interval: Callable[[np.ndarray, np.ndarray], Interval],
) -> MetricRow:
    clusters = cluster_ids([question.group for question in questions])
    return metric_row((arm, "none", split, kind), metric, interval(np.array(hits, dtype=float), clusters))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "no"
