"""What reports say about chat models: cost, unknown prices, and the checks on their traces."""

from aot.reporting.sections.funnel import check_sentences
from aot.reporting.sections.making import spend_rows
from aot.run_records import ChatUsage, Funnel, JudgeTotals, Share, ShuffleTotals, SpendSummary


def spent(*, calls: int = 3, cost: float | None = None) -> dict[str, object]:
    usage = ChatUsage(prompt_tokens=900, cached_prompt_tokens=100, completion_tokens=70, reasoning_tokens=50)
    summary = SpendSummary(
        model="big", calls=calls, calls_without_usage=1, calls_by_purpose={"plan": calls}, unusable_calls=0,
        usage=usage, cost=cost, currency="USD", price_date="2026-01-31", busy_s=2.0, gpu_hours=None,
    )  # fmt: skip
    return summary.model_dump(mode="json")


def test_a_chat_model_without_prices_is_told_as_unpriced() -> None:
    (row,) = spend_rows({"spend": spent()})
    assert row["cost"] == "unpriced"
    assert (row["prompt tokens"], row["completion tokens"]) == ("900 (100 cached)", "70 (50 thinking)")
    assert row["calls"] == "3, 1 without a count of tokens"


def test_a_cost_stands_beside_the_date_of_its_prices() -> None:
    (row,) = spend_rows({"spend": spent(cost=1.25), "vision_spend": None})
    assert row["cost"] == "1.25 USD, 2026-01-31"


def test_a_model_that_was_never_called_has_no_row() -> None:
    assert spend_rows({"spend": spent(calls=0)}) == []


def test_the_judge_is_told_with_its_own_precision_and_recall() -> None:
    right = Share(count=9, n=10, value=0.9, low=0.6, high=0.98)
    judge = JudgeTotals(judged=20, dropped=10, failed=2, not_asked=0, precision=right, recall=right, kinds=())
    shuffle = ShuffleTotals(checked=8, changed=3, lucky=0.5)
    funnel = Funnel(
        traces=20, verified=20, natural_failures=0, kept=10, dropped=10, by_filter={}, reasons=(), shuffle=shuffle,
        judge=judge,
    )  # fmt: skip
    changed, judged = check_sentences(funnel)
    assert "3 of 8 checked answers changed" in changed
    assert "precision 90.0% [60.0, 98.0] n=10" in judged
    assert "2 without a usable verdict" in judged
