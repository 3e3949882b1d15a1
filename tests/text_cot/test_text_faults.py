"""Planted defects are real, repeatable and caught; the study's damage keeps what it promises to keep."""

import re
from collections import Counter
from collections.abc import Callable

import pytest
from fixtures.synthetic import funnel
from numpy.random import PCG64, Generator

from aot.config import FilterConfig, ToyMathConfig
from aot.faults.damage import deleted, shuffled, wrong_content
from aot.faults.plant import plant
from aot.faults.text_edits import TEXT_EDITS, Target, slip, slip_carried, target_of
from aot.filtering.chain import run_filters
from aot.rationales.arithmetic import check_text
from aot.records import Question, Trace
from aot.run_records import PlantedFault
from text_cot.datasets.toy_math import draw_toy_math
from text_cot.teacher.procedural import SAMPLES, chain_trace, solve

GIVEN = (
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 = <<48+24=72>>72 clips altogether.\nAnswer: 72"
)


def chains(count: int) -> list[tuple[Question, Trace]]:
    questions = draw_toy_math(ToyMathConfig(train=count, test=1, test_ood=1), seed=3)[:count]
    return [
        (question, solve(question, granularity=granularity, seed=3, config_digest="x"))
        for question in questions
        for granularity in SAMPLES
    ]


def given() -> tuple[Question, Trace]:
    question = Question(
        id="g", dataset="d", split="train", kind="k", answer="72", answer_type="integer", group="g",
        text="Natalia sold clips to 48 friends in April, and then half as many in May. How many altogether?",
    )  # fmt: skip
    return question, chain_trace(
        "g", tuple(GIVEN.split("\n")[:-1]), "72", teacher="given", sample_index=0, config_digest="x"
    )


def planted(
    rows: list[tuple[Question, Trace]], *, rate: float, seed: int = 5
) -> list[tuple[Trace, PlantedFault | None]]:
    return [plant(trace, question, TEXT_EDITS, rate=rate, seed=seed) for question, trace in rows]


def test_planted_defects_are_all_caught_and_every_healthy_chain_is_kept() -> None:
    rows = chains(500)
    damaged = planted(rows, rate=0.6)
    judged = run_filters(
        [trace for trace, _ in damaged], questions={q.id: q for q, _ in rows}, held_out=(), config=FilterConfig()
    )
    result = funnel(judged, planted=[fault for _, fault in damaged if fault])
    assert result.faults is not None and result.faults.planted > 500
    assert (result.faults.precision, result.faults.recall) == (1.0, 1.0)
    assert {score.fault for score in result.faults.kinds} == set(TEXT_EDITS.kinds)


def test_a_draw_depends_on_seed_question_and_sample_only() -> None:
    rows = chains(40)
    assert planted(rows, rate=0.5) == list(reversed(planted(list(reversed(rows)), rate=0.5)))
    assert planted(rows, rate=0.5) != planted(rows, rate=0.5, seed=6)
    assert all(fault is None for _, fault in planted(rows, rate=0.0))


def test_answer_and_status_stay_and_steps_follow_the_damaged_text() -> None:
    rows = chains(60)
    for (_, before), (after, fault) in zip(rows, planted(rows, rate=1.0), strict=True):
        assert fault is not None and after.rationale != before.rationale
        assert (after.answer, after.status) == (before.answer, before.status)
        assert all(step.text in after.rationale for step in after.steps)


@pytest.mark.parametrize("kind", ["slip", "dropped_step", "shuffled_steps", "contradiction", "cut_off", "wrong_format"])
def test_prose_with_calculator_notes_can_be_damaged_too(kind: str) -> None:
    question, trace = given()
    found = [plant(trace, question, TEXT_EDITS, rate=1.0, seed=seed) for seed in range(80)]
    assert kind in {fault.fault for _, fault in found if fault}


def test_a_slip_in_a_note_is_repeated_in_the_prose() -> None:
    question, trace = given()
    found = [plant(trace, question, TEXT_EDITS, rate=1.0, seed=seed) for seed in range(80)]
    slips = [after.rationale for after, fault in found if fault and fault.fault == "slip"]
    assert slips and all(check_text(text).wrong == 1 for text in slips)
    assert all(re.search(r"=(\d+)>>\1 clips", text) for text in slips)


@pytest.mark.parametrize("edit", [slip, slip_carried])
def test_a_slip_is_never_another_way_to_round(edit: Callable[[Target, Generator], str | None]) -> None:
    question, _ = given()
    trace = chain_trace("g", ("17 / 3 = 5",), "5", teacher="t", sample_index=0, config_digest="x")
    target = target_of(trace, question)
    assert target is not None
    found = [edit(target, Generator(PCG64(seed))) for seed in range(60)]
    assert all(text is not None and check_text(text).wrong == 1 for text in found)


def test_wrong_content_keeps_the_form_and_makes_every_equation_wrong() -> None:
    for _, trace in chains(100):
        wrong = wrong_content(trace, 1)
        assert wrong is not None and wrong.answer == trace.answer
        assert not wrong.rationale.endswith(f"Answer: {trace.answer}")
        check = check_text(wrong.rationale)
        assert check.wrong == check.equations == check_text(trace.rationale).equations
        assert re.sub(r"\d", "0", wrong.rationale) == re.sub(r"\d", "0", trace.rationale) or not check.equations
        assert len(wrong.rationale.split()) == len(trace.rationale.split())


def test_shuffled_keeps_every_step_and_deleted_only_some() -> None:
    seen: Counter[str] = Counter()
    for _, trace in chains(100):
        steps = re.split(r"\n|, |\.(?=\n)", trace.rationale)
        for name, changed in (("shuffled", shuffled(trace, 1)), ("deleted", deleted(trace, 1))):
            if changed is None:
                continue
            seen[name] += 1
            assert changed.rationale.endswith(f"\nAnswer: {trace.answer}") and changed.rationale != trace.rationale
            parts = Counter(re.split(r"\n|, |\.(?=\n)", changed.rationale))
            assert parts == Counter(steps) if name == "shuffled" else parts < Counter(steps)
    assert min(seen.values()) > 80


def test_a_chain_of_one_step_cannot_be_shuffled_or_thinned() -> None:
    trace = chain_trace("q", ("1 + 1 = 2.",), "2", teacher="t", sample_index=0, config_digest="x")
    assert shuffled(trace, 1) is None and deleted(trace, 1) is None
    assert wrong_content(trace.model_copy(update={"rationale": ""}), 1) is None
