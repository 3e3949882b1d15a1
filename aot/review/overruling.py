"""What a person's verdict does to those of the filters: a rejection or correction drops a trace, an approval keeps it.

An approval overrules the filters that judge how a chain reads and reasons (OVERRULED). It does not overrule what a
person who looks at one trace cannot mend or see: an attempt that failed or broke off, an answer that is not the gold
one (the lesson would state one answer and argue for another), a form or length that students cannot learn, a question
that leaked from another split, and a duplicate.
"""

from collections.abc import Callable, Mapping, Sequence

from aot.records import Trace, Verdict
from aot.review.rows import trace_item
from aot.review.standing import Standings, standings_of
from aot.review_records import ReviewRow, ReviewTotals

OVERRULED = (
    "option_shuffle", "language", "repetition", "agreement", "steps", "flow", "evidence", "coverage", "judge",
)  # fmt: skip
PERSON = "person"
"""The name of a person among the filters."""
REASONS = {"rejected": "rejected_by_person", "corrected": "corrected_by_person", "approved": "approved_by_person"}


class People:
    """The verdicts of people on the traces of a run, to be asked trace by trace."""

    def __init__(self, rows: Sequence[ReviewRow], *, digest_of: Callable[[Trace], str]) -> None:
        self._rows = [row for row in rows if row.subject == "trace"]
        self._wanted = {row.item for row in self._rows}
        self._digest_of, self._digests = digest_of, dict[str, str]()
        self.overruled: dict[tuple[str, int], tuple[Verdict, ...]] = {}
        """By question id and sample, what filters said before a person overruled them."""

    def settle(self, trace: Trace, verdicts: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
        """The verdicts on a trace after a person was heard; as they were, where nobody looked at it."""
        item = trace_item(trace.question_id, trace.sample_index)
        if item not in self._wanted:
            return verdicts
        digest = self._digests[item] = self._digest_of(trace)
        standing = standings_of([row for row in self._rows if row.item == item], current={item: digest})
        if (one := standing.by_item.get(item)) is None:
            return verdicts
        keep = one.verdict == "approved"
        if keep:
            against = [row for row in verdicts if not row.keep and row.filter in OVERRULED]
            self.overruled[trace.question_id, trace.sample_index] = tuple(against)
            verdicts = tuple(_overruled(row) if row in against else row for row in verdicts)
        words = "; ".join(dict.fromkeys(f"{row.reviewer}: {row.note}" for row in one.rows if row.note))
        person = Verdict(
            question_id=trace.question_id, sample_index=trace.sample_index, filter=PERSON, keep=keep,
            reason=REASONS[one.verdict], detail=words[:300],
        )  # fmt: skip
        return (*verdicts, person)

    def totals(self, kept: Mapping[tuple[str, int], bool]) -> ReviewTotals | None:
        """What all of them did, once every trace was settled; None where nobody said anything.

        Args:
            kept: whether a trace that was overruled is kept in the end, by question id and sample.
        """
        if not self._rows:
            return None
        heard: Standings = standings_of(self._rows, current=self._digests)
        return ReviewTotals(
            approved=heard.count("approved"), corrected=heard.count("corrected"), rejected=heard.count("rejected"),
            overruled=sum(bool(rows) and kept.get(key, False) for key, rows in self.overruled.items()),
            contradictions=heard.contradictions, disagreements=heard.disagreements, stale=len(heard.stale),
        )  # fmt: skip


def _overruled(verdict: Verdict) -> Verdict:
    detail = f"{verdict.reason}: {verdict.detail}" if verdict.detail else verdict.reason
    return verdict.model_copy(update={"keep": True, "reason": "overruled_by_person", "detail": detail})
