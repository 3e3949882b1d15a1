"""One table of metrics for every run: questions, predictions and truth in, rows of numbers out for each cell.

FAMILIES lists what can be measured; each family says to which data it applies, and none asks where they come from. Rows
are rounded and ordered so that two runs write the same bytes.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from aot.config import NO_FRAMES, NO_TOOLS, SHUFFLED_BOOK, WAYS, ArmConfig, switched
from aot.evaluation.acting import acting_rows
from aot.evaluation.baselines import BASELINES
from aot.evaluation.calibration import confidences, expected_calibration_error, thought_rows
from aot.evaluation.grounding import claim_supports, known_labels
from aot.evaluation.groups import ALL, Cell, CellKey, answer_rows, grade_all, make_cells
from aot.evaluation.intervals import Bootstrap, cluster_ids, difference_of_shares, proportion, weighted_proportion
from aot.evaluation.memorisation import Nearest, memorisation_rows, nearness
from aot.evaluation.paired import compare, seed_rows
from aot.evaluation.spending import budget_rows, budgets, effort_rows, token_rows
from aot.evaluation.steps import step_rows
from aot.records import ClipAnnotation, MetricRow, Prediction, Question

PredictionKey = tuple[str, str, str]
"""Arm, mode, question id."""
_MEETS: dict[str, tuple[str, ...]] = {
    "adaptive": ("adaptive", "pre", "post"), "pre": ("pre", "post"), "tool_use": ("tool_use", "both", "pre"),
}  # fmt: skip
"""Order of an arm that learns rationales to those of the arms it is compared with; others meet their own order."""
Like = tuple[str, ...]
"""What two questions have in common: kind and steps, kind, or nothing."""


@dataclass(frozen=True)
class Context:
    """What a family may look at beside its cell."""

    cells: Mapping[CellKey, Cell]
    first_split: str
    """The one in distribution; the others are measured against it."""
    references: Mapping[str, tuple[str, ...]]
    """Arm to those it is compared with."""
    one_way: Set[str]
    """Arms that learned to answer in one way; they meet the others in the way that these are best at."""
    best_modes: Mapping[str, tuple[str, ...]]
    """Arm to its modes, the one that it is best at over all of the first split first."""
    supports: Mapping[PredictionKey, list[bool]]
    """Whether the truth supports each claim of a reply about an annotated clip."""
    near: Callable[[str], Nearest]
    """Arm to how near the questions are to its training."""
    ladder: Sequence[int]
    bootstrap: Bootstrap


@dataclass(frozen=True)
class Family:
    """Rows that belong together, for the cells whose data hold what they measure."""

    applies: Callable[[Cell, Context], bool]
    rows: Callable[[Cell, Context], Iterable[MetricRow]]


def compute_metrics(
    *,
    questions: Sequence[Question],
    predictions: Sequence[Prediction],
    arms: Sequence[ArmConfig],
    splits: Sequence[str],
    bootstrap_samples: int,
    seed: int,
    annotations: Sequence[ClipAnnotation] = (),
    training: Sequence[Question] = (),
    learned: Mapping[str, Set[str]] | None = None,
) -> list[MetricRow]:
    """Every metric row of a run; arms without predictions have none.

    Args:
        questions: All questions that were to be answered, of all evaluated splits.
        predictions: Of any arms and modes; of two for one question the later one counts.
        arms: Every trained arm.
        splits: Evaluated splits, the one in distribution first.
        bootstrap_samples: Resamples of clusters for each bootstrap interval.
        seed: Of the resampling.
        annotations: The truth about clips, for the support of claims.
        training: Questions of the train split, for the distance of each question to the nearest of them.
        learned: Arm to the ids of those it has lessons about, its only ones then; others are held against them all.
    """
    pairs = references(arms)
    cells = {cell.key: cell for cell in make_cells(questions, grade_all(questions, predictions), order=list(pairs))}
    context = Context(
        cells=cells,
        first_split=splits[0],
        references=pairs,
        one_way={arm.name for arm in arms if arm.order != "both"},
        best_modes=_best_modes(cells, splits[0]),
        supports=_supports(questions, predictions, annotations),
        near=_near_of(questions, training, learned or {}),
        ladder=budgets(max((p.completion_tokens for p in predictions), default=0)),
        bootstrap=Bootstrap(bootstrap_samples, seed),
    )
    rows = {}
    for key in sorted(cells, key=lambda key: (key[2], key[3])):  # cells of equal size share their bootstrap draws
        of_cell = [family.rows(cells[key], context) for family in FAMILIES if family.applies(cells[key], context)]
        rows[key] = [row for family_rows in of_cell for row in family_rows]
    return [row for key in cells for row in rows[key]] + list(seed_rows(cells, arms, pairs, context.bootstrap))


def references(arms: Sequence[ArmConfig]) -> dict[str, tuple[str, ...]]:
    """For every arm, in the order of the rows, those it is compared with question by question.

    A trained arm meets the base and, among the arms of its seed that learn all kept chains with LoRA as usual: the one
    that learns answers only, the one of its own order and, where the order is `adaptive`, those that think before and
    after the answer; the last two also meet each other, and one that calls tools those that think first. One that
    learns rationales meets the control of plain chains. An arm that writes its own chains meets the one that has no
    more than its share of the teacher's, and the one that learns its own as usual. Then come its twins without frames,
    without tools and with a shuffled book, the teacher and the baselines, where they answered.
    """
    trained = {}
    for arm in arms:
        same_seed = [other for other in arms if other.seed == arm.seed]
        usual = [a for a in same_seed if a.chain_share == 1 and a.tuning == "lora" and not switched(a)]
        plain, usual = ([a for a in usual if a.chains == chains] for chains in ("plain", "kept"))
        alike = [[a for a in usual if not a.learns_rationales]]
        orders = _MEETS.get(arm.order, (arm.order,))
        orders = orders if arm.learns_rationales else ()
        alike += [[a for a in usual if a.learns_rationales and a.order == order] for order in orders]
        alike += [[a for a in plain if a.order in orders]]
        names = ["base", *(same[0].name for same in alike if same)]
        names += [other.name for other in same_seed if _is_start_of(arm, other)]
        names += [*_twins(arm), "teacher", *BASELINES]
        trained[arm.name] = tuple(dict.fromkeys(name for name in names if name != arm.name))
    controls = {twin: ("base",) for arm in arms for twin in _twins(arm)}
    ways = {arm.name + ending: () for arm in arms if arm.order == "adaptive" for ending in WAYS.values()}
    return {"base": (), **trained, **controls, **ways, "teacher": (), **dict.fromkeys(BASELINES, ())}


def _twins(arm: ArmConfig) -> list[str]:
    """The names under which an arm answers while it lacks something."""
    endings = (NO_FRAMES, NO_TOOLS, SHUFFLED_BOOK) if arm.order == "tool_use" else (NO_FRAMES,)
    return [arm.name + ending for ending in endings]


def _is_start_of(arm: ArmConfig, other: ArmConfig) -> bool:
    """Whether `other` learns the chains that `arm` begins from, alone or with its own as usual where `arm` is not."""
    alike = (other.order, other.chain_share, other.tuning) == (arm.order, arm.chain_share, arm.tuning)
    if arm.chains != "self" or not alike or switched(other):
        return False
    return (other.chains == "kept" and arm.chain_share < 1) or (other.chains == "self" and bool(switched(arm)))


def _best_modes(cells: Mapping[CellKey, Cell], split: str) -> dict[str, tuple[str, ...]]:
    by_arm: dict[str, list[Cell]] = {}
    for cell in cells.values():
        if (cell.split, cell.kind) == (split, ALL):
            by_arm.setdefault(cell.arm, []).append(cell)
    # Chosen on the first split alone and kept for all others: choosing anew on each would favour the opponent by luck.
    ranked = {arm: sorted(of_arm, key=lambda cell: -float(cell.correct.mean())) for arm, of_arm in by_arm.items()}
    return {arm: tuple(cell.mode for cell in of_arm) for arm, of_arm in ranked.items()}


def _ways_of(cell: Cell, context: Context) -> list[Cell]:
    """The same questions answered by the same arm, begun in each way; none where it was not asked so."""
    if cell.mode != "adaptive" or cell.kind != ALL:
        return []
    keys = [(cell.arm + ending, cell.mode, cell.split, cell.kind) for ending in WAYS.values()]
    ways = [context.cells[key] for key in keys if key in context.cells]
    return [way for way in ways if len(way.graded) == len(cell.graded)]


def _paired_rows(cell: Cell, context: Context) -> Iterator[MetricRow]:
    """`accuracy_difference_vs_<arm>` for each reference, and of the arm itself `.._reason_vs_direct`."""
    pairs = [(f"vs_{name}", *_opponent(cell, name, context)) for name in context.references.get(cell.arm, ())]
    if cell.mode == "reason":
        pairs.append(("reason_vs_direct", context.cells.get((cell.arm, "direct", cell.split, cell.kind)), ""))
    for name, other, why in pairs:
        if other is not None:
            result = compare(cell.correct, other.correct, cell.clusters, context.bootstrap)
            note = f"against mode {other.mode}{why}; {result.note}"
            yield cell.row(f"accuracy_difference_{name}", result.difference, note)


def _opponent(cell: Cell, arm: str, context: Context) -> tuple[Cell | None, str]:
    """The cell of `arm` that `cell` meets, and why in that mode.

    An arm that answers in several modes meets others in its own mode, or in their only one. One that answers in a
    single mode meets them where they are best: its mode is no handicap that they should share.
    """
    if cell.arm in context.one_way:
        modes = context.best_modes.get(arm, ())
        why = f", its better one on all of {context.first_split}" if len(modes) > 1 else ""
        return (context.cells.get((arm, modes[0], cell.split, cell.kind)) if modes else None), why
    same = context.cells.get((arm, cell.mode, cell.split, cell.kind))
    of_arm = [c for c in context.cells.values() if (c.arm, c.split, c.kind) == (arm, cell.split, cell.kind)]
    return same or (of_arm[0] if len(of_arm) == 1 else None), ""


def _gap_rows(cell: Cell, context: Context) -> Iterator[MetricRow]:
    """`accuracy_gap_vs_<first split>`: the accuracy of `cell` minus that on questions of the first split like its own.

    Each question is held against those of the same kind and number of steps; where there are none, against those of the
    same kind; and where there are none, against all. The note tells how many were matched in which way. Splits hold
    different questions, so no difference between them is paired; two that are alike may differ in everything else.
    """
    home = context.cells[cell.arm, cell.mode, context.first_split, cell.kind]
    places: dict[Like, list[int]] = {}
    for place, question in enumerate(home.questions):
        for like in _likes(question):
            places.setdefault(like, []).append(place)
    matched = [next(like for like in _likes(question) if like in places) for question in cell.questions]
    # Weighted, not matched one to one: each question away spreads a weight of 1 over all that are like it at home.
    weights = np.zeros(len(home.questions))
    for like in matched:
        weights[places[like]] += 1 / len(places[like])
    used = weights > 0
    fair = home.subset(used)
    expected = weighted_proportion(fair.correct, weights[used], fair.clusters)
    gap = difference_of_shares(proportion(cell.correct, cell.clusters), expected)
    levels = ("nothing, as no question there is of its kind", "kind alone", "kind and number of steps")
    counts = [sum(len(like) == level for like in matched) for level in range(3)]
    how = ", ".join(f"{levels[level]} ({counts[level]} of {len(matched)})" for level in (2, 1, 0) if counts[level])
    note = f"against {len(fair.questions)} questions of {home.split}, weighted to match {how}; unpaired"
    yield cell.row(f"accuracy_gap_vs_{home.split}", gap, note)


def _has_home(cell: Cell, context: Context) -> bool:
    is_away = cell.split != context.first_split
    return is_away and (cell.arm, cell.mode, context.first_split, cell.kind) in context.cells


def _likes(question: Question) -> tuple[Like, ...]:
    """From the closest to the widest."""
    steps = question.tags.get("steps")
    by_steps = () if steps is None else ((question.kind, str(steps)),)
    return (*by_steps, (question.kind,), ())


def _iou_rows(cell: Cell, context: Context) -> Iterator[MetricRow]:
    """`mean_iou` of time spans; no answer counts 0."""
    values = np.array([graded.score.value or 0.0 for graded in cell.graded])
    yield cell.row("mean_iou", context.bootstrap.mean(values, cell.clusters, bounds=(0.0, 1.0)))


def _calibration_rows(cell: Cell, context: Context) -> Iterator[MetricRow]:
    """`ece`, the expected calibration error of the likeliest choice."""
    scored = confidences(cell.questions, [graded.prediction for graded in cell.graded])
    if scored is not None:
        error = expected_calibration_error(scored, context.bootstrap)
        yield cell.row("ece", error, "10 equal-width bins; biased upwards")


def _claim_rows(cell: Cell, context: Context) -> Iterator[MetricRow]:
    """`supported_claims`: the share of gathered claims that the annotations support."""
    support = [(q.group, context.supports.get((cell.arm, cell.mode, q.id), [])) for q in cell.questions]
    claims = [(ok, group) for group, oks in support for ok in oks]
    if claims:
        supported = proportion(np.array([ok for ok, _ in claims]), cluster_ids([group for _, group in claims]))
        silent = sum(not oks for _, oks in support)
        yield cell.row("supported_claims", supported, f"n counts claims; {silent} answers claim nothing")


def _supports(
    questions: Sequence[Question], predictions: Sequence[Prediction], annotations: Sequence[ClipAnnotation]
) -> dict[PredictionKey, list[bool]]:
    by_uri = {annotation.uri: annotation for annotation in annotations}
    clips = {q.id: by_uri[q.media.uri] for q in questions if q.media and q.media.uri in by_uri}
    labels = known_labels(annotations)
    return {
        (p.arm, p.mode, p.question_id): claim_supports(p.raw_text, clips[p.question_id], labels=labels)
        for p in predictions
        # A cut reply may end within a claim, which nobody made then.
        if p.question_id in clips and p.finish_reason != "length"
    }


def _near_of(
    questions: Sequence[Question], training: Sequence[Question], learned: Mapping[str, Set[str]]
) -> Callable[[str], Nearest]:
    """Arm to how near the questions are to its training; arms of the same training questions share the work."""

    @functools.cache
    def nearest(ids: frozenset[str] | None) -> Nearest:
        seen = [question for question in training if ids is None or question.id in ids]
        which = f"all {len(seen)} training questions" if ids is None else f"the {len(seen)} questions that it learned"
        words = ", by their words alone" if any(question.media for question in seen) else ""
        return Nearest(nearness(questions, seen), f"distance to the nearest of {which}{words}")

    return lambda arm: nearest(frozenset(learned[arm]) if arm in learned else None)


def _has_tokens(cell: Cell, _: Context) -> bool:
    return bool(cell.tokens.any())


def _is_whole(cell: Cell, _: Context) -> bool:
    return cell.kind == ALL


FAMILIES = (
    Family(lambda cell, context: True, lambda cell, context: answer_rows(cell)),
    Family(_has_tokens, lambda cell, context: token_rows(cell, context.bootstrap)),
    Family(lambda cell, context: cell.mode == "tools", lambda cell, context: acting_rows(cell, context.bootstrap)),
    Family(lambda cell, context: all(q.answer_type == "span" for q in cell.questions), _iou_rows),
    Family(lambda cell, context: any(g.prediction.choice_probs for g in cell.graded), _calibration_rows),
    Family(lambda cell, context: bool(context.supports), _claim_rows),
    Family(lambda cell, context: True, _paired_rows),
    Family(_has_home, _gap_rows),
    Family(
        lambda cell, context: (
            any(g.prediction.thought for g in cell.graded) and (cell.kind == ALL or cell.kind.startswith("steps="))
        ),
        lambda cell, context: thought_rows(cell, context.bootstrap),
    ),
    Family(
        lambda cell, context: _is_whole(cell, context) and _has_tokens(cell, context),
        lambda cell, context: budget_rows(cell, context.ladder),
    ),
    Family(
        lambda cell, context: len(_ways_of(cell, context)) == len(WAYS),
        lambda cell, context: effort_rows(cell, _ways_of(cell, context), context.bootstrap),
    ),
    Family(_is_whole, lambda cell, context: step_rows(cell)),
    Family(
        lambda cell, context: _is_whole(cell, context) and bool(context.near(cell.arm).by_id),
        lambda cell, context: memorisation_rows(cell, context.near(cell.arm), context.bootstrap),
    ),
)
"""In the order of the rows of a cell."""
