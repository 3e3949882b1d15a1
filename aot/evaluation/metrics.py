"""Questions, predictions and truth in; one row for each arm, mode, split, kind and metric out.

The denominator of a cell is every question of that split and kind, if the arm predicted any of them: a missing
prediction counts as failed and wrong. Rows are rounded and ordered so that two runs write the same bytes.

Metrics: `accuracy`, `unparsable_rate` (no readable answer, or none of the choices), `failed_rate`,
`tokens_per_correct` (generated tokens over right answers), `mean_iou` (time spans; no answer counts 0), `ece`,
`supported_claims` (share of gathered claims that the annotation supports), `accuracy_difference_vs_<arm>` (same mode)
and `accuracy_difference_reason_vs_direct`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from aot.evaluation.baselines import BASELINES, NEXT_KINDS
from aot.evaluation.calibration import confidences, expected_calibration_error
from aot.evaluation.grounding import claim_supports, known_labels
from aot.evaluation.intervals import Bootstrap, Interval, cluster_ids, interval_of, proportion
from aot.evaluation.paired import compare
from aot.evaluation.scoring import score
from aot.records import ClipAnnotation, MetricRow, Prediction, Question, Score

MODES = ("direct", "reason", "likelihood", "none")
_KIND_ORDER = ("all", "next", "next_choice", "next_open", "before", "after", "count", "when", "present")
_DIGITS = 6


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


@dataclass(frozen=True)
class _Graded:
    prediction: Prediction
    score: Score
    supports: tuple[bool, ...]


@dataclass(frozen=True)
class _Cell:
    arm: str
    mode: str
    split: str
    kind: str
    questions: tuple[Question, ...]
    graded: tuple[_Graded, ...]

    @cached_property
    def correct(self) -> np.ndarray:
        return np.array([g.score.correct for g in self.graded], dtype=float)

    @cached_property
    def clusters(self) -> np.ndarray:
        return cluster_ids([q.group for q in self.questions])

    def row(self, metric: str, interval: Interval, note: str = "") -> MetricRow:
        value, low, high = (round(x, _DIGITS) + 0.0 for x in (interval.value, interval.low, interval.high))
        return MetricRow(
            arm=self.arm, mode=self.mode, split=self.split, kind=self.kind, metric=metric,
            value=value, low=low, high=high, n=interval.n, num_clusters=interval.num_clusters, note=note,
        )  # fmt: skip


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
    graded = _grade_all(questions, predictions, annotations)
    cells = {_key(cell): cell for cell in _cells(questions, graded, order=list(pairs))}
    rows: list[MetricRow] = []
    for cell in cells.values():
        rows += _single_rows(cell, bootstrap)
        rows += _paired_rows(cell, cells, pairs.get(cell.arm, ()), bootstrap)
    return rows


def _grade_all(
    questions: Sequence[Question], predictions: Sequence[Prediction], annotations: Sequence[ClipAnnotation]
) -> dict[tuple[str, str], dict[str, _Graded]]:
    by_id = {question.id: question for question in questions}
    by_uri = {annotation.uri: annotation for annotation in annotations}
    labels = known_labels(annotations)
    graded: dict[tuple[str, str], dict[str, _Graded]] = {}
    for prediction in predictions:
        question = by_id.get(prediction.question_id)
        if question is None:
            continue
        annotation = by_uri.get(question.media.uri) if question.media else None
        supports = claim_supports(prediction.raw_text, annotation, labels=labels) if annotation else []
        row = _Graded(prediction, score(prediction, question), tuple(supports))
        graded.setdefault((prediction.arm, prediction.mode), {})[question.id] = row
    return graded


def _cells(
    questions: Sequence[Question], graded: Mapping[tuple[str, str], Mapping[str, _Graded]], *, order: Sequence[str]
) -> Iterator[_Cell]:
    rank = {name: index for index, name in enumerate(order)}
    splits = sorted({question.split for question in questions})
    for arm, mode in sorted(graded, key=lambda key: (rank.get(key[0], len(rank)), key[0], MODES.index(key[1]))):
        rows = graded[arm, mode]
        for split in splits:
            inside = [question for question in questions if question.split == split]
            answered = {question.kind for question in inside if question.id in rows}
            for kind, kinds in _kind_groups({question.kind for question in inside}):
                chosen = tuple(question for question in inside if question.kind in kinds)
                if kinds <= answered:
                    yield _Cell(arm, mode, split, kind, chosen, tuple(_get(rows, q, arm, mode) for q in chosen))


def _kind_groups(kinds: set[str]) -> list[tuple[str, set[str]]]:
    groups = {"all": kinds, **{kind: {kind} for kind in kinds}}
    if kinds & set(NEXT_KINDS):
        groups["next"] = kinds & set(NEXT_KINDS)
    known = {kind: index for index, kind in enumerate(_KIND_ORDER)}
    return [(kind, groups[kind]) for kind in sorted(groups, key=lambda kind: (known.get(kind, len(known)), kind))]


def _get(rows: Mapping[str, _Graded], question: Question, arm: str, mode: str) -> _Graded:
    found = rows.get(question.id)
    if found is not None:
        return found
    row = {"question_id": question.id, "arm": arm, "mode": mode}
    missing = Prediction.model_validate({**row, "raw_text": "", "answer": None, "error": "missing"})
    return _Graded(missing, Score.model_validate({**row, "state": "failed", "correct": False}), ())


def _single_rows(cell: _Cell, bootstrap: Bootstrap) -> Iterator[MetricRow]:
    clusters = cell.clusters
    states = np.array([g.score.state for g in cell.graded])
    missing = sum(g.prediction.error == "missing" for g in cell.graded)
    note = f"{missing} of {len(cell.graded)} predictions are missing and count as wrong" if missing else ""
    yield cell.row("accuracy", proportion(cell.correct, clusters), note)
    yield cell.row("unparsable_rate", proportion(states == "no_answer", clusters))
    if (states == "failed").any():
        yield cell.row("failed_rate", proportion(states == "failed", clusters))
    yield from _token_rows(cell, clusters, bootstrap)
    if all(q.answer_type == "span" for q in cell.questions):
        values = np.array([g.score.value or 0.0 for g in cell.graded])
        yield cell.row("mean_iou", bootstrap.mean(values, clusters, bounds=(0.0, 1.0)))
    scored = confidences(cell.questions, [g.prediction for g in cell.graded])
    if scored is not None:
        yield cell.row("ece", expected_calibration_error(scored, bootstrap), "10 equal-width bins; biased upwards")
    claims = [(ok, q.group) for q, g in zip(cell.questions, cell.graded, strict=True) for ok in g.supports]
    if claims:
        supported = proportion(np.array([ok for ok, _ in claims]), cluster_ids([group for _, group in claims]))
        silent = sum(not g.supports for g in cell.graded)
        yield cell.row("supported_claims", supported, f"n counts claims; {silent} answers claim nothing")


def _token_rows(cell: _Cell, clusters: np.ndarray, bootstrap: Bootstrap) -> Iterator[MetricRow]:
    tokens, correct = np.array([float(g.prediction.completion_tokens) for g in cell.graded]), cell.correct
    if tokens.sum() == 0:
        return
    sums = bootstrap.sums_BK(np.stack([tokens, correct], axis=1), clusters)
    value = float(tokens.sum() / max(1.0, correct.sum()))
    draws = sums[:, 0] / np.maximum(1.0, sums[:, 1])
    interval = interval_of(value, draws, cluster_ids=clusters, bounds=(value, 2 * value))
    barren = float(np.mean(sums[:, 1] == 0))
    note = f"{barren:.0%} of resamples had no right answer and were counted as one" if barren else ""
    note = "no right answer: the value is a lower bound" if correct.sum() == 0 else note
    yield cell.row("tokens_per_correct", interval, note)


def _paired_rows(
    cell: _Cell, cells: Mapping[tuple[str, str, str, str], _Cell], controls: Sequence[str], bootstrap: Bootstrap
) -> Iterator[MetricRow]:
    others = [(f"accuracy_difference_vs_{name}", name, cell.mode) for name in controls]
    if cell.mode == "reason":
        others.append(("accuracy_difference_reason_vs_direct", cell.arm, "direct"))
    for metric, arm, mode in others:
        other = cells.get((arm, mode, cell.split, cell.kind)) or _only_mode(cells, arm, cell)
        if other is not None and other is not cell:
            result = compare(cell.correct, other.correct, cell.clusters, bootstrap)
            yield cell.row(metric, result.difference, f"against mode {other.mode}; {result.note}")


def _only_mode(cells: Mapping[tuple[str, str, str, str], _Cell], arm: str, like: _Cell) -> _Cell | None:
    """The cell of an arm that has just one mode, such as the teacher or a baseline."""
    found = [cell for (a, _, split, kind), cell in cells.items() if (a, split, kind) == (arm, like.split, like.kind)]
    return found[0] if len(found) == 1 and arm != like.arm else None


def _key(cell: _Cell) -> tuple[str, str, str, str]:
    return cell.arm, cell.mode, cell.split, cell.kind
