"""What answers cost in generated tokens, how accurate an arm would be on a budget, and whether caps were too low."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from aot.evaluation.groups import ALL, Cell
from aot.evaluation.intervals import Bootstrap, interval_of
from aot.records import MetricRow

LADDER = tuple(2**power for power in range(1, 15))
"""Budgets in tokens: 2, 4, 8 and so on."""
WITHIN = "accuracy_within_"
MUCH_CUT = 0.05
"""Share of cut replies over which an accuracy says more about the cap than about the student."""
CAPS = {
    "direct": "student.max_answer_tokens", "explain": "student.max_answer_tokens",
    "reason": "student.max_rationale_tokens", "adaptive": "student.max_rationale_tokens",
    "tools": "student.max_rationale_tokens", "none": "chat.max_tokens",
}  # fmt: skip
"""By mode, the setting that caps a reply; mode `none` is a chat teacher's."""
_NAMED = 6


def budgets(most_tokens: int) -> tuple[int, ...]:
    """The rungs of the ladder up to the first that covers a reply of `most_tokens`.

    >>> budgets(20)
    (2, 4, 8, 16, 32)
    """
    return tuple(rung for rung in LADDER if rung < 2 * most_tokens)


def budget_rows(cell: Cell, ladder: Sequence[int]) -> Iterator[MetricRow]:
    """`accuracy_within_<N>_tokens`: an answer that took more tokens counts as wrong."""
    # Over all answers at every rung, so that the curve of one student never drops and two can be laid on each other.
    for rung in ladder:
        yield cell.share(f"{WITHIN}{rung}_tokens", cell.correct * (cell.tokens <= rung))


def budget_of(metric: str) -> int | None:
    """The budget that a metric is about.

    >>> budget_of("accuracy_within_16_tokens"), budget_of("accuracy")
    (16, None)
    """
    return int(metric.removeprefix(WITHIN).removesuffix("_tokens")) if metric.startswith(WITHIN) else None


def cut_sentences(rows: Iterable[MetricRow], *, shown: Callable[[str], str] = str) -> list[str]:
    """A warning for each cap that cut off more than 5% of somebody's replies on a split; `shown` names an arm."""
    worst: dict[tuple[str, str], MetricRow] = {}
    for row in rows:
        if (row.metric, row.kind) == ("truncated_rate", ALL) and row.value > MUCH_CUT and row.mode in CAPS:
            worst[row.arm, row.mode] = max(row, worst.get((row.arm, row.mode), row), key=lambda one: one.value)
    warnings = []
    for cap in dict.fromkeys(CAPS.values()):
        of_cap = [row for row in worst.values() if CAPS[row.mode] == cap]
        named = [f"{shown(row.arm)}, {row.mode} ({100 * row.value:.1f}% on {row.split})" for row in of_cap]
        more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        if named:
            warnings.append(
                f"{cap} cut off more than {MUCH_CUT:.0%} of the replies of {'; '.join(named[:_NAMED])}{more}. A cut "
                "reply has no answer, so these accuracies measure the cap: raise it."
            )
    return warnings


def token_rows(cell: Cell, bootstrap: Bootstrap) -> Iterator[MetricRow]:
    """`tokens_mean` of a reply, missing ones left out, and `tokens_per_correct`; nothing if tokens are unknown."""
    tokens, correct, clusters = cell.tokens, cell.correct, cell.clusters
    if tokens.sum() == 0:
        return
    replies = cell.subset(np.array([graded.prediction.error != "missing" for graded in cell.graded]))
    missing = len(cell.graded) - len(replies.graded)
    note = f"over the {len(replies.graded)} replies; {missing} more are missing" if missing else ""
    bounds = (0.0, 2 * float(replies.tokens.mean()))
    yield cell.row("tokens_mean", bootstrap.mean(replies.tokens, replies.clusters, bounds=bounds), note)
    sums = bootstrap.sums_BK(np.stack([tokens, correct], axis=1), clusters)
    # A resample without a right answer has no ratio; as one right answer it stays finite, and the note says how often.
    value = float(tokens.sum() / max(1.0, correct.sum()))
    draws = sums[:, 0] / np.maximum(1.0, sums[:, 1])
    interval = interval_of(value, draws, cluster_ids=clusters, bounds=(value, 2 * value))
    barren = float(np.mean(sums[:, 1] == 0))
    note = f"{barren:.0%} of resamples had no right answer and were counted as one" if barren else ""
    note = "no right answer: the value is a lower bound" if correct.sum() == 0 else note
    yield cell.row("tokens_per_correct", interval, note)
