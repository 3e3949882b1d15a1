"""Paired comparisons of two arms on the same questions.

Two views stand side by side: McNemar's exact test (1947; it takes questions as independent) and a sign-flip test over
whole clusters (it does not). The size of the difference comes with a bootstrap interval over clusters.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aot.config import ArmConfig
from aot.evaluation.groups import Cell, CellKey, metric_row
from aot.evaluation.intervals import Bootstrap, Interval
from aot.records import MetricRow


@dataclass(frozen=True)
class PairedResult:
    """Accuracy of one arm minus that of another on the same questions."""

    difference: Interval
    wins: int
    """Questions that only the first arm got right."""
    losses: int
    """Questions that only the second arm got right."""
    p_mcnemar: float
    p_clustered: float

    @property
    def note(self) -> str:
        """The tests in one line, as metric rows carry them."""
        discordant = self.wins + self.losses
        return (
            f"McNemar exact {format_p(self.p_mcnemar)} ({discordant} discordant: {self.wins} for, "
            f"{self.losses} against); sign-flip over clusters {format_p(self.p_clustered)}"
        )


def format_p(p: float) -> str:
    """A p value for people.

    >>> format_p(0.04217), format_p(1e-9)
    ('p=0.042', 'p below 0.0001')
    """
    return "p below 0.0001" if p < 0.0001 else f"p={p:.2g}"


def mcnemar_exact(*, wins: int, losses: int) -> float:
    """Two-sided exact p value of `wins` against `losses` under a fair coin.

    >>> mcnemar_exact(wins=9, losses=1)
    0.021484375
    """
    total, fewer = wins + losses, min(wins, losses)
    if total == 0:
        return 1.0
    # Whole numbers: a sum of floats would lose the tail that the test is about.
    ways, tail = 1, 0
    for k in range(fewer + 1):
        tail += ways
        ways = ways * (total - k) // (k + 1)
    return min(1.0, 2 * tail / (1 << total))


def sign_flip_p(differences: np.ndarray, cluster_ids: np.ndarray, bootstrap: Bootstrap) -> float:
    """Two-sided p value of a summed paired difference when each cluster's sign is a fair coin."""
    sums_G = np.bincount(cluster_ids, weights=differences)
    if not sums_G.any():
        return 1.0
    signs_BG = _signs_BG(len(sums_G), bootstrap.samples, bootstrap.seed)
    extreme = np.abs(signs_BG @ sums_G) >= abs(float(sums_G.sum())) - 1e-9
    # The sample itself is one of the sign patterns (Phipson and Smyth 2010), so p is never 0.
    return float((1 + extreme.sum()) / (1 + bootstrap.samples))


def compare(first: np.ndarray, second: np.ndarray, cluster_ids: np.ndarray, bootstrap: Bootstrap) -> PairedResult:
    """`first` minus `second`, two boolean arrays (n,) over the same questions in the same order."""
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    differences = first.astype(float) - second.astype(float)
    wins, losses = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    return PairedResult(
        difference=bootstrap.mean(differences, cluster_ids, bounds=(-1.0, 1.0)),
        wins=wins,
        losses=losses,
        p_mcnemar=mcnemar_exact(wins=wins, losses=losses),
        p_clustered=sign_flip_p(differences, cluster_ids, bootstrap),
    )


@functools.lru_cache(maxsize=8)
def _signs_BG(num_clusters: int, samples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, num_clusters, samples, 7])
    signs = rng.integers(0, 2, size=(samples, num_clusters)) * 2.0 - 1.0
    signs.setflags(write=False)
    return signs


def seed_groups(arms: Sequence[ArmConfig]) -> dict[str, tuple[str, ...]]:
    """Arms that differ in nothing but their seed: what to call them together, and their names.

    >>> from aot.config import parse_arm
    >>> seed_groups([parse_arm({"name": f"aot_seed{seed}", "order": "pre", "seed": seed}) for seed in range(2)])
    {'aot (2 seeds)': ('aot_seed0', 'aot_seed1')}
    """
    alike: dict[str, dict[int, str]] = {}
    for arm in arms:
        alike.setdefault(arm.model_copy(update={"name": "", "seed": 0}).model_dump_json(), {})[arm.seed] = arm.name
    groups: dict[str, tuple[str, ...]] = {}
    for by_seed in alike.values():
        names = tuple(by_seed.values())
        least, most = min(names), max(names)  # what these two begin with, all others begin with
        common = least[: next((i for i, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), len(least))]
        shown = common.rstrip("0123456789._").removesuffix("seed").rstrip("._") or names[0]
        if len(names) > 1:
            groups[f"{shown} ({len(names)} seeds)"] = names
    return groups


def seed_rows(
    cells: Mapping[CellKey, Cell],
    arms: Sequence[ArmConfig],
    references: Mapping[str, Sequence[str]],
    bootstrap: Bootstrap,
) -> Iterator[MetricRow]:
    """`accuracy`, `tokens_mean` and paired differences of arms that differ in their seed only, taken together.

    A question counts with the mean over the seeds, and the intervals are over clusters of questions: they say how far
    the result would move with other questions, and not with other seeds. Groups meet as their first arms do.
    """
    groups = seed_groups(arms)
    group_of = {name: group for group, names in groups.items() for name in names}
    for group, names in groups.items():
        first = [cell for cell in cells.values() if cell.arm == names[0]]
        for cell in first:
            mine = _over_seeds(cells, names, cell)
            if mine is None:
                continue
            key = (group, *cell.key[1:])
            note = f"mean over the seeds of {', '.join(names)}; the interval is over clusters of questions"
            yield metric_row(key, "accuracy", bootstrap.mean(mine[0], cell.clusters, bounds=(0.0, 1.0)), note)
            if mine[1].any():
                tokens = bootstrap.mean(mine[1], cell.clusters, bounds=(0.0, float(mine[1].max())))
                yield metric_row(key, "tokens_mean", tokens, note)
            for name in dict.fromkeys(group_of.get(name, name) for name in references.get(names[0], ())):
                other = _over_seeds(cells, groups.get(name, (name,)), cell)
                if other is not None and name != group:
                    difference = bootstrap.mean(mine[0] - other[0], cell.clusters, bounds=(-1.0, 1.0))
                    yield metric_row(key, f"accuracy_difference_vs_{name}", difference, note)


def _over_seeds(
    cells: Mapping[CellKey, Cell], names: Sequence[str], like: Cell
) -> tuple[np.ndarray, np.ndarray] | None:
    """Of each question the share of the arms that are right, and their mean tokens; None where one did not answer.

    An arm that answers in another mode only than `like` is taken in that one.
    """
    picked = []
    for name in names:
        same = cells.get((name, *like.key[1:]))
        every = [cell for cell in cells.values() if (cell.arm, *cell.key[2:]) == (name, *like.key[2:])]
        if same is None and len(every) != 1:
            return None
        picked.append(same or every[0])
    return np.mean([cell.correct for cell in picked], axis=0), np.mean([cell.tokens for cell in picked], axis=0)
