"""Verdicts of people on disk, and which of them counts."""

from pathlib import Path

import pytest

from aot.files.run_folder import RunFolder
from aot.review.agreement import agreement_of, both_standings, summary_of
from aot.review.rows import ReviewBook, read_reviews, reviews_seal
from aot.review.standing import standings_of
from aot.review_records import AskedQuestion, ReviewRow, Said


def row(
    item: str = "q#0", verdict: Said = "approved", *, by: str = "ann", digest: str = "d", **more: object
) -> ReviewRow:
    fields: dict[str, object] = {
        "subject": "trace", "item": item, "digest": digest, "reviewer": by, "time_s": 1.0, "verdict": verdict,
        "answer": "12", "question": AskedQuestion(text="What is left?"), **more,
    }  # fmt: skip
    return ReviewRow.model_validate(fields)


def test_of_one_reviewer_the_later_row_counts_and_the_contradiction_is_counted() -> None:
    made = standings_of([row(verdict="approved"), row(verdict="approved"), row(verdict="rejected")])
    assert (made.by_item["q#0"].verdict, made.contradictions, made.disagreements) == ("rejected", 1, 0)


def test_of_two_reviewers_the_strictest_verdict_counts_and_both_rows_stay() -> None:
    rows = [row(verdict="corrected", correction="11"), row(verdict="approved", by="bo")]
    one = standings_of(rows).by_item["q#0"]
    assert (one.verdict, one.correction, one.disputed, len(one.rows)) == ("corrected", "11", True, 2)
    one = standings_of([*rows, row(verdict="rejected", by="cy")]).by_item["q#0"]
    assert (one.verdict, one.row.reviewer) == ("rejected", "cy")


def test_two_different_corrections_count_as_a_rejection() -> None:
    rows = [row(verdict="corrected", correction="11"), row(verdict="corrected", correction="13", by="bo")]
    one = standings_of(rows).by_item["q#0"]
    assert (one.verdict, one.correction, one.disputed) == ("rejected", "", True)


def test_a_verdict_on_what_has_changed_or_is_gone_is_stale() -> None:
    rows = [row(), row("q#1"), row("q#2", digest="old")]
    made = standings_of(rows, current={"q#0": "d", "q#2": "new"})
    assert list(made.by_item) == ["q#0"] and [one.item for one in made.stale] == ["q#1", "q#2"]


def test_rows_are_appended_and_a_clock_that_went_back_does_not_revive_an_old_verdict(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    future = row(time_s=4e9)
    book = ReviewBook(run)
    book.rows.append(future)  # as another process wrote it, whose clock was ahead
    written = book.note(row(verdict="rejected"))
    first = reviews_seal(run)
    book.note(row(verdict="approved"))
    book.close()
    assert written.time_s > future.time_s and [one.verdict for one in read_reviews(run)] == ["rejected", "approved"]
    assert 0 < first != reviews_seal(run)


def test_a_row_that_a_kill_cut_in_half_is_left_out(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    book = ReviewBook(run)
    book.note(row())
    book.close()
    (part,) = run.reviews.iterdir()
    part.write_bytes(part.read_bytes() + b'{"subject": "trace", "it')
    assert len(read_reviews(run)) == 1


def test_agreement_is_krippendorffs_alpha_with_its_numbers() -> None:
    pytest.importorskip("krippendorff", reason="krippendorff is not installed: pip install -e '.[review]'")
    # Two reviewers differ on two of ten items: the textbook's coincidence matrix gives alpha 1 - 19 * 4 / (2 * 100).
    first = ["approved"] * 5 + ["rejected"] * 5
    second = ["approved"] * 4 + ["rejected"] * 5 + ["approved"]
    rows = [row(f"q#{i}", said, by="ann") for i, said in enumerate(first)]  # type: ignore[arg-type]
    rows += [row(f"q#{i}", said, by="bo") for i, said in enumerate(second)]  # type: ignore[arg-type]
    made = summary_of([*rows, row("alone")], current={**{f"q#{i}": "d" for i in range(10)}, "alone": "d"})
    assert made.agreement.alpha == pytest.approx(1 - 19 * 4 / 200, abs=1e-4)
    assert (made.agreement.n, made.agreement.reviewers, made.items, made.disagreements) == (10, 2, 11, 2)
    assert made.agreement.low is not None and made.agreement.low < made.agreement.alpha


def test_agreement_is_not_defined_with_one_reviewer_or_one_verdict() -> None:
    assert agreement_of(standings_of([row(), row("q#1")])).alpha is None
    pytest.importorskip("krippendorff", reason="krippendorff is not installed: pip install -e '.[review]'")
    same = [row(item, by=name) for item in ("q#0", "q#1") for name in ("ann", "bo")]
    made = agreement_of(both_standings(same, current={"q#0": "d", "q#1": "d"}))
    assert made.alpha is None and "same verdict" in made.why
