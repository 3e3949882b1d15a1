"""The curve of a cascade says what hand-made answers come to."""

import numpy as np
import pytest

from aot.answer_records import CascadeRow
from aot.evaluation.cascade import Replayed, cascade_curve, curve_points, point_at, replayed_rows, thresholds_of
from aot.evaluation.intervals import Bootstrap, proportion
from aot.run_records import ChatUsage

BOOTSTRAP = Bootstrap(200, 0)
LOG = Replayed(
    confidence=np.array([0.9, 0.8, 0.7, 0.6, 0.5, -1.0]),
    student_right=np.array([True, True, False, True, False, False]),
    big_right=np.array([True, False, True, True, True, True]),
    clusters=np.arange(6),
    student_cost=np.zeros(6),
    big_cost=np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
)
"""Six questions; the last one has no answer of the student."""


@pytest.mark.parametrize(
    ("threshold", "escalated", "right", "wrong_local", "cost"),
    [
        (0.5, 1, 4, (2, 5), 6), (0.6, 2, 5, (1, 4), 11), (0.7, 3, 5, (1, 3), 15), (0.8, 4, 6, (0, 2), 18),
        (0.9, 5, 5, (0, 1), 20), (0.95, 6, 5, None, 21), (None, 6, 5, None, 21), (0.0, 1, 4, (2, 5), 6),
    ],
)  # fmt: skip
def test_a_threshold_keeps_what_reaches_it_and_pays_for_the_others(
    threshold: float | None, escalated: int, right: int, wrong_local: tuple[int, int] | None, cost: int
) -> None:
    point = point_at(LOG, threshold, BOOTSTRAP)
    assert (point.escalated.value, point.accuracy.value) == (escalated / 6, right / 6)
    assert (point.local_error and (point.local_error.value, point.local_error.n)) == (
        wrong_local and (wrong_local[0] / wrong_local[1], wrong_local[1])
    )
    assert point.cost is not None and point.cost.value == pytest.approx(cost / 6)
    assert point.cost.low <= point.cost.value <= point.cost.high
    other = proportion(np.arange(6) < right, np.arange(6))
    assert (point.accuracy.low, point.accuracy.high) == pytest.approx((other.low, other.high)), "as of any other share"


def test_a_curve_begins_with_the_student_alone_and_ends_with_the_big_model_alone() -> None:
    whole = Replayed(LOG.confidence[:5], LOG.student_right[:5], LOG.big_right[:5], np.arange(5))
    points = curve_points(whole, BOOTSTRAP)
    curve = cascade_curve(whole, points, split="test", threshold=0.8, target=0.1, bootstrap=BOOTSTRAP)
    assert thresholds_of(whole) == [0.5, 0.6, 0.7, 0.8, 0.9, None]
    first, *_, last = curve.points
    assert (first.escalated.value, first.accuracy) == (0.0, curve.student)
    assert (last.escalated.value, last.accuracy, last.local_error) == (1.0, curve.big, None)
    shares = [point.escalated.value for point in curve.points]
    assert shares == sorted(shares) and {point.cost for point in curve.points} == {None}
    assert curve.chosen.threshold == 0.8 and curve.versus_big.value == pytest.approx(0.2)
    assert curve.least_escalated == pytest.approx((0.4 - 0.1) / 0.9)


def test_nothing_stays_where_no_threshold_was_proved() -> None:
    points = curve_points(LOG, BOOTSTRAP)
    curve = cascade_curve(LOG, points, split="test", threshold=None, target=0.01, bootstrap=BOOTSTRAP)
    assert (curve.chosen.escalated.value, curve.chosen.accuracy, curve.versus_big.value) == (1.0, curve.big, 0.0)


def test_questions_about_one_clip_are_one_cluster() -> None:
    apart = point_at(LOG, 0.7, BOOTSTRAP)
    together = point_at(Replayed(LOG.confidence, LOG.student_right, LOG.big_right, np.array([0, 0, 0, 1, 1, 1])), 0.7,
                        BOOTSTRAP)  # fmt: skip
    assert together.accuracy.value == apart.accuracy.value and together.accuracy.num_clusters == 2
    assert together.accuracy.high - together.accuracy.low > apart.accuracy.high - apart.accuracy.low


def row(question: str, confidence: float | None, *, agreed: bool | None, cost: float | None) -> CascadeRow:
    return CascadeRow(
        time_s=0, question=question, kind="", mode="decide", confidence=confidence, threshold=0.9, decision="local",
        reason="confident", model="small", escalated=False, agreed=agreed, cost=cost, usage=ChatUsage(), seconds=0,
        shadow=True,
    )  # fmt: skip


def test_the_ledger_of_a_shadow_gives_the_curve_of_agreement() -> None:
    rows = [
        row("a", 0.95, agreed=True, cost=0.2), row("b", 0.6, agreed=False, cost=0.4), row("c", None, agreed=False,
        cost=0.6), row("d", 0.99, agreed=None, cost=0.0),
    ]  # fmt: skip
    point = point_at(replayed_rows(rows), 0.9, BOOTSTRAP)
    assert (point.escalated.value, point.accuracy.value, point.escalated.n) == (2 / 3, 1.0, 3)
    assert point.cost is not None and point.cost.value == pytest.approx(1.0 / 3)
    assert point_at(replayed_rows([row("e", 0.5, agreed=True, cost=None)]), 0.5, BOOTSTRAP).cost is None
    with pytest.raises(ValueError, match="shadow mode"):
        replayed_rows([row("d", 0.99, agreed=None, cost=0.0)])
