"""What people said of the traces and of the served student, and how far they agree."""

from aot.display import counted
from aot.reporting.load import RunData
from aot.reporting.pivot import word_table
from aot.reporting.sections import Block, Section, note, open_tables, words
from aot.review.agreement import agreement_line


def _content(data: RunData) -> list[Block]:
    made = data.reviews
    assert made is not None
    rows = [(said, str(count)) for said, count in (
        ("approved", made.approved), ("corrected", made.corrected), ("rejected", made.rejected),
        ("in dispute; the strictest verdict counts", made.disagreements),
    )]  # fmt: skip
    line = agreement_line(made.agreement)
    blocks = [
        words(
            f"{counted(made.rows, 'verdict')} of {counted(made.reviewers, 'reviewer')} on "
            f"{counted(made.items, 'item')}, which are traces and served answers. {line[0].upper()}{line[1:]}."
        ),
        *open_tables(word_table("What people said", ("verdict", "traces and answers"), rows)),
        *note(
            f"{made.contradictions} taken back by the same reviewer later; {made.stale} stale, because the trace or "
            "answer has changed since."
        ),
    ]
    if data.funnel and (totals := data.funnel.review):
        blocks.insert(1, words(
            f"In the filters these verdicts dropped {counted(totals.rejected + totals.corrected, 'trace')} and kept "
            f"{totals.overruled} that a filter would have dropped."
        ))  # fmt: skip
    return blocks


SECTION = Section(
    "review", "Review by people", "What did people say?", _content, applies=lambda data: data.reviews is not None
)
