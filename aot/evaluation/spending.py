"""What answers cost in generated tokens, how accurate an arm would be on a budget, and whether caps were too low."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from aot.evaluation.groups import ALL, Cell
from aot.evaluation.intervals import Bootstrap, interval_of
from aot.records import MetricRow

LADDER = tuple(2**power for power in range(1, 15))
"""Budgets in tokens: 2, 4, 8 and so on."""
WITHIN = "accuracy_within_"
AT_EFFORT = "accuracy_at_effort_"
EFFORTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Where the curve of an adaptive arm is drawn."""
MUCH_CUT = 0.05
"""Share of cut replies over which an accuracy says more about the cap than about the student."""
CAPS = {
    "direct": "student.max_answer_tokens", "explain": "student.max_answer_tokens",
    "reason": "student.max_rationale_tokens", "adaptive": "student.max_rationale_tokens",
    "tools": "student.max_rationale_tokens", "none": "chat.max_tokens",
}  # fmt: skip
"""By mode, the setting that caps a reply; mode `none` is a chat teacher's."""
_NAMED = 6


def chosen_way(probs: Sequence[float], effort: float) -> int:
    """Index of the first of THOUGHT_MODES up to which `probs` sum to `effort`: the shortest likely to be enough.

    >>> chosen_way((0.5, 0.45, 0.05), 0.9), chosen_way((0.5, 0.45, 0.05), 0.0), chosen_way((0.5, 0.45, 0.04), 1.0)
    (1, 0, 2)
    """
    return next((i for i in range(len(probs)) if sum(probs[: i + 1]) >= effort), len(probs) - 1)


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


def effort_rows(cell: Cell, ways: Sequence[Cell], bootstrap: Bootstrap) -> Iterator[MetricRow]:
    """`accuracy_at_effort_<E>` and `tokens_at_effort_<E>`: what an adaptive arm would reach at each student.effort.

    Its probabilities say which way it would begin, and `ways`, its replies begun in each of them in the order of
    records.THOUGHT_MODES, what comes of it: no reply is written for this.
    """
    probs = [graded.prediction.thought_probs for graded in cell.graded]
    correct = np.array([way.correct for way in ways])
    tokens = np.array([way.tokens for way in ways])
    for effort in EFFORTS:
        picked = np.array([chosen_way(row, effort) if row else 0 for row in probs])
        at = picked, np.arange(len(picked))
        yield cell.share(f"{AT_EFFORT}{effort:.2f}", correct[at])
        spent = bootstrap.mean(tokens[at].astype(float), cell.clusters, bounds=(0.0, float(tokens.max())))
        yield cell.row(f"tokens_at_effort_{effort:.2f}", spent)


def effort_of(metric: str) -> float | None:
    """The effort that an accuracy is about.

    >>> effort_of("accuracy_at_effort_0.70"), effort_of("accuracy")
    (0.7, None)
    """
    return float(metric.removeprefix(AT_EFFORT)) if metric.startswith(AT_EFFORT) else None


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
