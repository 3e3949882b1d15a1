"""How far reviewers agree: Krippendorff's alpha over the last verdict of each on each item, and the whole summary.

Alpha (Krippendorff, Content Analysis, 2004) compares how often two people differ on an item with how often they would
by chance, takes any number of reviewers, and bears items that not everybody saw. The package of that name computes it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from aot.errors import install_command
from aot.review.standing import Standings, standings_of
from aot.review_records import Agreement, ReviewRow, ReviewSummary
from aot.seeds import rng

DRAWS = 500
LEAST = 2
"""Items with two reviewers or more, below which nothing is reckoned."""


def agreement_of(standings: Standings) -> Agreement:
    """Alpha of the verdicts that are not stale, with its interval; without its package, why there is none."""
    shared = [one.rows for one in standings.by_item.values() if len(one.rows) > 1]
    names = sorted({row.reviewer for rows in shared for row in rows})
    if len(shared) < LEAST:
        why = f"two reviewers must have seen the same {LEAST} items at least"
        return Agreement(alpha=None, n=len(shared), reviewers=len(names), why=why)
    codes = {verdict: float(code) for code, verdict in enumerate(("approved", "corrected", "rejected"))}
    table = np.full((len(names), len(shared)), np.nan)
    for place, rows in enumerate(shared):
        for row in rows:
            table[names.index(row.reviewer), place] = codes[row.verdict]
    try:
        alpha = _alpha(table)
    except ModuleNotFoundError:
        words = f"the package krippendorff is not installed: {install_command('review')}"
        return Agreement(alpha=None, n=len(shared), reviewers=len(names), why=words)
    if alpha is None:
        words = "everybody gave the same verdict on every item, so chance would agree as well"
        return Agreement(alpha=None, n=len(shared), reviewers=len(names), why=words)
    random = rng(0, "agreement of reviewers")
    drawn = [_alpha(table[:, random.integers(len(shared), size=len(shared))]) for _ in range(DRAWS)]
    low, high = np.quantile([one for one in drawn if one is not None], (0.025, 0.975))
    return Agreement(alpha=round(alpha, 4), low=round(float(low), 4), high=round(float(high), 4), n=len(shared),
                     reviewers=len(names))  # fmt: skip


def _alpha(table: np.ndarray) -> float | None:
    """None where only one value was given at all."""
    import krippendorff

    if len(np.unique(table[~np.isnan(table)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement="nominal"))


def summary_of(rows: Sequence[ReviewRow], *, current: Mapping[str, str]) -> ReviewSummary:
    """All that people said, in numbers; `current` has the digest of each trace as it is now."""
    both = both_standings(rows, current=current)
    return ReviewSummary(
        rows=len(rows), items=len(both.by_item), reviewers=len({row.reviewer for row in rows}),
        approved=both.count("approved"), corrected=both.count("corrected"), rejected=both.count("rejected"),
        contradictions=both.contradictions, disagreements=both.disagreements, stale=len(both.stale),
        agreement=agreement_of(both),
    )  # fmt: skip


def both_standings(rows: Sequence[ReviewRow], *, current: Mapping[str, str]) -> Standings:
    """What counts of the verdicts on traces and on served answers together."""
    traces = standings_of([row for row in rows if row.subject == "trace"], current=current)
    served = standings_of([row for row in rows if row.subject == "served"])
    return Standings(
        {**{f"trace {item}": one for item, one in traces.by_item.items()},
         **{f"served {item}": one for item, one in served.by_item.items()}},
        (*traces.stale, *served.stale), traces.contradictions + served.contradictions,
    )  # fmt: skip


def agreement_line(made: Agreement) -> str:
    """Agreement in a sentence."""
    on = f"n={made.n} items with two reviewers or more, {made.reviewers} reviewers"
    if made.alpha is None:
        return f"agreement (Krippendorff's alpha): not defined; {made.why} ({on})"
    interval = f"95% interval {made.low:.2f} to {made.high:.2f}"
    return f"agreement (Krippendorff's alpha, nominal): {made.alpha:.2f} ({interval}; {on})"


def summary_lines(made: ReviewSummary) -> list[str]:
    """A summary as text."""
    return [
        f"{made.rows} verdicts of {made.reviewers} reviewers on {made.items} items: {made.approved} approved, "
        f"{made.corrected} corrected, {made.rejected} rejected",
        f"reviewers took back {made.contradictions} verdicts of their own, and disagree on {made.disagreements} items, "
        "where the strictest verdict counts",
        f"{made.stale} verdicts are stale: their trace or answer has changed since, or is gone",
        agreement_line(made.agreement),
    ]
