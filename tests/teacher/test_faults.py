"""Planted defects are real, are of every kind, and depend on the seed and the question only."""

from collections import Counter

import pytest
from fixtures.synthetic import Case, synthetic_case

from aot.faults.plant import plant
from aot.faults.video_edits import video_edits

LABELS = ("chop onion", "fry onion", "wash fish", "boil rice", "peel carrot", "mix dough", "bake cheese")
EDITS = video_edits(LABELS)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [synthetic_case(index, seed=4, labels=LABELS, failing=0.0) for index in range(420)]


def test_rate_and_kinds(cases: list[Case]) -> None:
    faults = [plant(case.trace, case.question, EDITS, rate=0.37, seed=9)[1] for case in cases]
    kinds = Counter(fault.fault for fault in faults if fault)
    assert 0.30 < sum(kinds.values()) / len(cases) < 0.44
    assert set(kinds) == set(EDITS.kinds) and len(EDITS.kinds) >= 8


def test_a_planted_fault_changes_the_rationale_and_nothing_else(cases: list[Case]) -> None:
    for case in cases:
        damaged, fault = plant(case.trace, case.question, EDITS, rate=1.0, seed=9)
        assert fault is not None and fault.question_id == case.question.id
        assert damaged.rationale != case.trace.rationale
        assert damaged.model_copy(update={"rationale": case.trace.rationale}) == case.trace


def test_rate_zero_plants_nothing_and_a_failed_trace_stays_as_it_is(cases: list[Case]) -> None:
    case = cases[0]
    assert plant(case.trace, case.question, EDITS, rate=0.0, seed=9) == (case.trace, None)
    failed = case.trace.model_copy(update={"status": "failed"})
    assert plant(failed, case.question, EDITS, rate=1.0, seed=9) == (failed, None)


def test_same_seed_plants_the_same_in_any_order(cases: list[Case]) -> None:
    def planted(rows: list[Case]) -> dict[str, str]:
        return {c.question.id: plant(c.trace, c.question, EDITS, rate=0.5, seed=1)[0].rationale for c in rows}

    assert planted(cases) == planted(cases[::-1])


def test_kinds_that_cannot_apply_give_way_to_others(cases: list[Case]) -> None:
    for case in cases[:60]:
        bare = case.trace.model_copy(update={"rationale": "yes", "steps": ()})
        damaged, fault = plant(bare, case.question, video_edits(()), rate=1.0, seed=2)
        assert (fault is None) == (damaged == bare)
