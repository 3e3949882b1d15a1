"""The metrics of a text run: questions, predictions and arms in, one row of numbers out for each cell and metric.

Every trained arm answers in the one mode of its order, the base directly and reasoning first. Kinds are those of the
questions and, where a question's state tells them, `category=<name>`, `steps=<n>` and `steps=3-4`.

Metrics of every kind: `accuracy`, `truncated_rate`, `unparsable_rate`, `failed_rate`, `tokens_mean`,
`tokens_per_correct`, `accuracy_difference_vs_<arm>` (paired, see `text_pairs`) and, outside the first split,
`accuracy_gap_vs_<first>`. Of all questions of a split together also what `spending`, `steps` and `memorisation`
measure; of them and of each number of steps what `thoughts` measures.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from aot.config import ArmConfig
from aot.evaluation.groups import ALL, Cell, CellKey, answer_rows, grade_all, kind_groups, make_cells
from aot.evaluation.intervals import Bootstrap
from aot.evaluation.memorisation import Nearest, memorisation_rows, nearness
from aot.evaluation.mode_use import thought_rows
from aot.evaluation.ood_gap import gap_rows
from aot.evaluation.paired import compare
from aot.evaluation.spending import budget_rows, budgets, tokens_mean, tokens_per_correct
from aot.evaluation.steps import step_rows
from aot.records import MetricRow, Prediction, Question


@dataclass(frozen=True)
class _Met:
    """An arm that others are compared with, in which mode, and why in that one."""

    arm: str
    mode: str
    why: str


def text_pairs(arms: Sequence[ArmConfig]) -> dict[str, tuple[str, ...]]:
    """For every arm, in the order of the rows, the arms it is compared with question by question.

    A trained arm meets the base, the teacher and, among the arms of its seed that learn all kept chains with LoRA: the
    one that learns answers only, the one of its own order and, where the order is `adaptive`, those that think before
    and after the answer; the last two also meet each other. An arm that writes its own chains meets the arm that has
    no more than its share of the teacher's, too.
    """
    trained = {}
    for arm in arms:
        same_seed = [other for other in arms if other.seed == arm.seed]
        orders = ["answers_only", arm.order]
        orders += ["pre", "post"] if arm.order == "adaptive" else ["post"] if arm.order == "pre" else []
        met = [_reference(same_seed, order) for order in orders]
        met += [other.name for other in same_seed if _is_start_of(arm, other)]
        trained[arm.name] = tuple(
            dict.fromkeys(("base", *(name for name in met if name and name != arm.name), "teacher"))
        )
    return {"base": (), **trained, "teacher": ()}


def compute_text_metrics(
    *,
    questions: Sequence[Question],
    predictions: Sequence[Prediction],
    training: Sequence[Question],
    learned: Mapping[str, Set[str]],
    arms: Sequence[ArmConfig],
    splits: Sequence[str],
    bootstrap_samples: int,
    seed: int,
) -> list[MetricRow]:
    """Every metric row of a text run; arms without predictions have none.

    Args:
        questions: All questions that were to be answered, of all evaluated splits.
        predictions: Of any arms and modes; of two for one question the later one counts.
        training: Questions of the train split, for the distance of each question to the nearest of them.
        learned: Arm to the ids of those it has lessons about, its only ones then; others are held against them all.
        arms: Every trained arm.
        splits: Evaluated splits; the first one is in distribution, the others are measured against it.
        bootstrap_samples: Resamples of clusters for each bootstrap interval.
        seed: Of the resampling.
    """
    bootstrap = Bootstrap(bootstrap_samples, seed)
    pairs = text_pairs(arms)
    graded = grade_all(questions, predictions)
    cells = {cell.key: cell for cell in make_cells(questions, graded, order=list(pairs), groups=kind_groups)}
    best = _best_modes(cells, splits[0])
    ladder = budgets(max((p.completion_tokens for p in predictions), default=0))
    near = _near_of(questions, training, learned)
    rows: dict[CellKey, list[MetricRow]] = {}
    for key in sorted(cells, key=lambda key: (key[2], key[3])):  # cells of equal size share their bootstrap draws
        cell = cells[key]
        rows[key] = [*answer_rows(cell), *tokens_mean(cell, bootstrap), *tokens_per_correct(cell, bootstrap)]
        rows[key] += _paired_rows(
            cell, cells, [best[name] for name in pairs.get(cell.arm, ()) if name in best], bootstrap
        )
        home = cells.get((cell.arm, cell.mode, splits[0], cell.kind))
        if home is not None and cell.split != splits[0]:
            rows[key] += gap_rows(cell, home)
        if cell.kind == ALL or cell.kind.startswith("steps="):
            rows[key] += thought_rows(cell, bootstrap)
        if cell.kind == ALL:
            rows[key] += _whole_rows(cell, ladder, near(cell.arm), bootstrap)
    return [row for key in cells for row in rows[key]]


def _whole_rows(cell: Cell, ladder: Sequence[int], near: Nearest, bootstrap: Bootstrap) -> Iterator[MetricRow]:
    yield from budget_rows(cell, ladder)
    yield from step_rows(cell)
    yield from memorisation_rows(cell, near, bootstrap)


def _near_of(
    questions: Sequence[Question], training: Sequence[Question], learned: Mapping[str, Set[str]]
) -> Callable[[str], Nearest]:
    """Arm to how near the questions are to its training; arms of the same training questions share the work."""

    @functools.cache
    def measured(ids: frozenset[str] | None) -> Nearest:
        known = [question for question in training if ids is None or question.id in ids]
        told = f"all {len(known)} training questions" if ids is None else f"the {len(known)} questions that it learned"
        return Nearest(nearness(questions, known), f"distance to the nearest of {told}")

    return lambda arm: measured(frozenset(learned[arm]) if arm in learned else None)


def _best_modes(cells: Mapping[CellKey, Cell], split: str) -> dict[str, _Met]:
    """For each arm the one mode in which others meet it everywhere: the one that it is best at over all of `split`."""
    found: dict[str, list[Cell]] = {}
    for cell in cells.values():
        if (cell.split, cell.kind) == (split, ALL):
            found.setdefault(cell.arm, []).append(cell)
    best = {}
    for arm, of_arm in found.items():
        mode = max(of_arm, key=lambda cell: float(cell.correct.mean())).mode
        best[arm] = _Met(arm, mode, f", its better one on all of {split}" if len(of_arm) > 1 else "")
    return best


def _paired_rows(
    cell: Cell, cells: Mapping[CellKey, Cell], others: Sequence[_Met], bootstrap: Bootstrap
) -> Iterator[MetricRow]:
    for met in others:
        other = cells.get((met.arm, met.mode, cell.split, cell.kind))
        if other is not None:
            result = compare(cell.correct, other.correct, cell.clusters, bootstrap)
            note = f"against mode {met.mode}{met.why}; {result.note}"
            yield cell.row(f"accuracy_difference_vs_{met.arm}", result.difference, note)


def _reference(arms: Sequence[ArmConfig], order: str) -> str | None:
    """The first arm of that order that learns all kept chains with LoRA."""
    plain = (a for a in arms if a.order == order and a.chains == "kept" and a.chain_share == 1 and a.tuning == "lora")
    return next((arm.name for arm in plain), None)


def _is_start_of(arm: ArmConfig, other: ArmConfig) -> bool:
    """Whether `other` learns the chains that `arm` begins to write its own from, and nothing else."""
    alike = (other.order, other.chain_share, other.tuning) == (arm.order, arm.chain_share, arm.tuning)
    return arm.chains == "self" and other.chains == "kept" and alike and arm.chain_share < 1
