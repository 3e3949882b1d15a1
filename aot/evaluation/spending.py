"""What answers cost in generated tokens, and how accurate an arm would be if each answer had to fit a budget."""

from collections.abc import Iterator, Sequence

from aot.evaluation.cells import Cell
from aot.evaluation.intervals import Bootstrap, proportion
from aot.records import MetricRow

LADDER = tuple(2**power for power in range(2, 15))
"""Budgets in tokens: 4, 8, 16 and so on."""
WITHIN = "accuracy_within_"


def budgets(most_tokens: int) -> tuple[int, ...]:
    """The rungs of the ladder up to the first that covers a reply of `most_tokens`.

    >>> budgets(20)
    (4, 8, 16, 32)
    """
    return tuple(rung for rung in LADDER if rung < 2 * most_tokens)


def budget_rows(cell: Cell, ladder: Sequence[int]) -> Iterator[MetricRow]:
    """`accuracy_within_<N>_tokens`: an answer that took more tokens counts as wrong; nothing if tokens are unknown."""
    if cell.tokens.sum() > 0:
        for rung in ladder:
            fits = cell.correct * (cell.tokens <= rung)
            yield cell.row(f"{WITHIN}{rung}_tokens", proportion(fits, cell.clusters))


def budget_of(metric: str) -> int | None:
    """The budget that a metric is about.

    >>> budget_of("accuracy_within_16_tokens"), budget_of("accuracy")
    (16, None)
    """
    return int(metric.removeprefix(WITHIN).removesuffix("_tokens")) if metric.startswith(WITHIN) else None


def tokens_mean(cell: Cell, bootstrap: Bootstrap) -> Iterator[MetricRow]:
    """`tokens_mean`: generated tokens of a reply on average; nothing if tokens are unknown."""
    if cell.tokens.sum() > 0:
        most = 2 * float(cell.tokens.mean())
        yield cell.row("tokens_mean", bootstrap.mean(cell.tokens, cell.clusters, bounds=(0.0, most)))
