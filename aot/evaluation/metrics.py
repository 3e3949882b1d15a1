"""The metrics of a video run: questions, predictions and truth in, one row of numbers out for each cell and metric.

Rows are rounded and ordered so that two runs write the same bytes.

Metrics: `accuracy`, `truncated_rate` (cut off by a cap on tokens), `unparsable_rate` (no readable answer, or none of
the choices), `failed_rate`, `tokens_per_correct` (generated tokens over right answers), `mean_iou` (time spans; no
answer counts 0), `ece`, `supported_claims` (share of gathered claims that the annotation supports),
`accuracy_difference_vs_<arm>` (same mode) and `accuracy_difference_reason_vs_direct`.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from aot.evaluation.baselines import BASELINES, NEXT_KINDS
from aot.evaluation.calibration import confidences, expected_calibration_error
from aot.evaluation.grounding import claim_supports, known_labels
from aot.evaluation.groups import Cell, CellKey, Group, answer_rows, grade_all, make_cells
from aot.evaluation.intervals import Bootstrap, cluster_ids, proportion
from aot.evaluation.paired import compare
from aot.evaluation.spending import tokens_per_correct
from aot.records import ClipAnnotation, MetricRow, Prediction, Question

PredictionKey = tuple[str, str, str]
"""Arm, mode, question id."""
BENCHMARK_GROUPS: dict[str, dict[str, frozenset[str]]] = {
    "nextqa": {
        "C": frozenset({"CW", "CH"}),
        "T": frozenset({"TN", "TP", "TC"}),
        "TN+TP": frozenset({"TN", "TP"}),
        "D": frozenset({"DC", "DL", "DO"}),
    }
}
"""Kinds that a benchmark's own tables put together: NExT-QA's causal, temporal and descriptive questions, where what
came before (TP) counts with what comes next (TN)."""
_KIND_ORDER = ("all", "next", "next_choice", "next_open", "before", "after", "count", "when", "present")


def compared_with(controls: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """For every arm, in the order of the rows, the arms it is compared with question by question.

    A trained arm (a key of `controls`) meets its control, the base student, its own twin without frames, the teacher
    and every baseline; a twin without frames meets the base.
    """
    blind = {f"{name}_no_frames": ("base",) for name in controls}
    trained = {
        name: tuple(dict.fromkeys((control, "base", f"{name}_no_frames", "teacher", *BASELINES)))
        for name, control in controls.items()
    }
    return {"base": (), **trained, **blind, "teacher": (), **dict.fromkeys(BASELINES, ())}


def compute_metrics(
    *,
    questions: Sequence[Question],
    predictions: Sequence[Prediction],
    annotations: Sequence[ClipAnnotation],
    controls: Mapping[str, str],
    bootstrap_samples: int,
    seed: int,
) -> list[MetricRow]:
    """Every metric row of a run; arms without predictions have none.

    Args:
        questions: All questions that were to be answered, of all evaluated splits.
        predictions: Of any arms and modes; of two for one question the later one counts.
        annotations: The truth, for the support of gathered claims; may be empty.
        controls: For each trained arm, the arm it is first of all compared with (see `compared_with`).
        bootstrap_samples: Resamples of clusters for each bootstrap interval.
        seed: Of the resampling.
    """
    bootstrap = Bootstrap(bootstrap_samples, seed)
    pairs = compared_with(controls)
    graded = grade_all(questions, predictions)
    cells = {cell.key: cell for cell in make_cells(questions, graded, order=list(pairs), groups=video_groups)}
    supports = _supports(questions, predictions, annotations)
    rows: list[MetricRow] = []
    for cell in cells.values():
        rows += answer_rows(cell)
        rows += tokens_per_correct(cell, bootstrap)
        rows += _quality_rows(cell, bootstrap)
        rows += _claim_rows(cell, supports)
        rows += _paired_rows(cell, cells, pairs.get(cell.arm, ()), bootstrap)
    return rows


def video_groups(questions: Sequence[Question]) -> list[Group]:
    """All questions, each kind, both next-step kinds together, and the groups that a benchmark reports itself."""
    kinds = {question.kind for question in questions}
    groups = {"all": kinds, **{kind: {kind} for kind in kinds}}
    if kinds & set(NEXT_KINDS):
        groups["next"] = kinds & set(NEXT_KINDS)
    for dataset in {question.dataset for question in questions} & set(BENCHMARK_GROUPS):
        groups |= {name: kinds & members for name, members in BENCHMARK_GROUPS[dataset].items() if kinds & members}
    known = {kind: index for index, kind in enumerate(_KIND_ORDER)}
    names = sorted(groups, key=lambda kind: (known.get(kind, len(known)), kind))
    return [(name, tuple(q for q in questions if q.kind in groups[name])) for name in names]


def _quality_rows(cell: Cell, bootstrap: Bootstrap) -> Iterator[MetricRow]:
    if all(q.answer_type == "span" for q in cell.questions):
        values = np.array([g.score.value or 0.0 for g in cell.graded])
        yield cell.row("mean_iou", bootstrap.mean(values, cell.clusters, bounds=(0.0, 1.0)))
    scored = confidences(cell.questions, [g.prediction for g in cell.graded])
    if scored is not None:
        yield cell.row("ece", expected_calibration_error(scored, bootstrap), "10 equal-width bins; biased upwards")


def _supports(
    questions: Sequence[Question], predictions: Sequence[Prediction], annotations: Sequence[ClipAnnotation]
) -> dict[PredictionKey, list[bool]]:
    """Whether the truth supports each gathered claim of each whole reply about an annotated clip."""
    by_uri = {annotation.uri: annotation for annotation in annotations}
    clips = {q.id: by_uri[q.media.uri] for q in questions if q.media and q.media.uri in by_uri}
    labels = known_labels(annotations)
    return {
        (p.arm, p.mode, p.question_id): claim_supports(p.raw_text, clips[p.question_id], labels=labels)
        for p in predictions
        if p.question_id in clips and p.finish_reason != "length"
    }


def _claim_rows(cell: Cell, supports: Mapping[PredictionKey, list[bool]]) -> Iterator[MetricRow]:
    found = [(q.group, supports.get((cell.arm, cell.mode, q.id), [])) for q in cell.questions]
    claims = [(ok, group) for group, support in found for ok in support]
    if claims:
        supported = proportion(np.array([ok for ok, _ in claims]), cluster_ids([group for _, group in claims]))
        silent = sum(not support for _, support in found)
        yield cell.row("supported_claims", supported, f"n counts claims; {silent} answers claim nothing")


def _paired_rows(
    cell: Cell, cells: Mapping[CellKey, Cell], controls: Sequence[str], bootstrap: Bootstrap
) -> Iterator[MetricRow]:
    others = [(f"accuracy_difference_vs_{name}", name, cell.mode) for name in controls]
    if cell.mode == "reason":
        others.append(("accuracy_difference_reason_vs_direct", cell.arm, "direct"))
    for metric, arm, mode in others:
        other = cells.get((arm, mode, cell.split, cell.kind)) or _only_mode(cells, arm, cell)
        if other is not None and other is not cell:
            result = compare(cell.correct, other.correct, cell.clusters, bootstrap)
            yield cell.row(metric, result.difference, f"against mode {other.mode}; {result.note}")


def _only_mode(cells: Mapping[CellKey, Cell], arm: str, like: Cell) -> Cell | None:
    """The cell of an arm that has just one mode, such as the teacher or a baseline."""
    found = [cell for (a, _, split, kind), cell in cells.items() if (a, split, kind) == (arm, like.split, like.kind)]
    return found[0] if len(found) == 1 and arm != like.arm else None
