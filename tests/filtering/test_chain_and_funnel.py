"""The whole chain: ledger, duplicates, leakage, streaming, and how well planted defects are caught."""

from collections.abc import Iterator
from itertools import islice

import pytest
from fixtures.synthetic import funnel, synthetic_case

from aot.answers import grade
from aot.config import FilterConfig
from aot.errors import SourceError
from aot.faults.plant import plant
from aot.faults.video_edits import video_edits
from aot.filtering import chain
from aot.filtering.chain import FILTER_NAMES, Judged, run_filters
from aot.records import MediaRef, Question, Trace
from aot.run_records import PlantedFault

LABELS = ("chop onion", "fry onion", "wash fish", "boil rice", "peel carrot", "mix dough", "bake cheese", "pour egg")
CONFIG = FilterConfig()


def judge(
    rows: list[tuple[Trace, Question]], *, held_out: tuple[Question, ...] = (), config: FilterConfig = CONFIG
) -> list[Judged]:
    questions = {question.id: question for _, question in rows}
    return list(run_filters([row[0] for row in rows], questions=questions, held_out=held_out, config=config))


def reason(judged: Judged, name: str) -> str:
    return next(verdict.reason for verdict in judged.verdicts if verdict.filter == name)


def copy(trace: Trace, question: Question, new_id: str, **changed: object) -> tuple[Trace, Question]:
    return (
        trace.model_copy(update={"question_id": new_id}),
        question.model_copy(update={"id": new_id, **changed}),
    )


def planted_run(count: int, *, rate: float) -> tuple[list[tuple[Trace, Question]], list[PlantedFault]]:
    rows, faults = [], []
    for index in range(count):
        case = synthetic_case(index, seed=11, labels=LABELS)
        trace, fault = case.trace, None
        if trace.status == "ok" and grade(trace.answer, case.question).verdict == "right":
            trace, fault = plant(trace, case.question, video_edits(LABELS), rate=rate, seed=5)
        rows.append((trace, case.question))
        faults += [fault] if fault else []
    return rows, faults


def test_planted_defects_are_caught_and_healthy_traces_kept() -> None:
    rows, faults = planted_run(1500, rate=0.37)
    result = funnel(judge(rows), planted=faults)
    assert result.faults is not None and result.faults.precision is not None and result.faults.recall is not None
    assert result.faults.precision >= 0.95 and result.faults.recall >= 0.95
    assert {score.fault for score in result.faults.kinds} == set(video_edits(LABELS).kinds)
    assert all(score.recall >= 0.9 and score.planted >= 20 for score in result.faults.kinds)
    assert result.natural_failures > 0 and result.kept + result.dropped == result.traces == 1500
    assert sum(count.first for count in result.reasons) == result.dropped


@pytest.mark.parametrize("name", ["agreement", "evidence"])
def test_without_a_filter_just_those_traces_are_kept_that_it_alone_dropped(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, _ = planted_run(200, rate=0.5)
    judged = judge(rows)
    by_it_alone = [one for one in judged if [v.filter for v in one.verdicts if not v.keep] == [name]]
    monkeypatch.setattr(chain, "FILTERS", tuple(one for one in chain.FILTERS if one.__name__ != name))
    kept = sum(one.keep for one in judge(rows))
    assert by_it_alone and kept == sum(one.keep for one in judged) + len(by_it_alone)


def test_healthy_traces_of_every_kind_are_all_kept() -> None:
    cases = [synthetic_case(index, seed=2, labels=LABELS, failing=0.0) for index in range(700)]
    judged = judge([(case.trace, case.question) for case in cases])
    assert [one.verdicts for one in judged if not one.keep] == []


def test_every_trace_gets_every_verdict_in_order() -> None:
    rows, _ = planted_run(60, rate=0.5)
    for judged in judge(rows):
        assert tuple(verdict.filter for verdict in judged.verdicts) == FILTER_NAMES


def test_verdicts_do_not_depend_on_what_was_planted_apart() -> None:
    rows, faults = planted_run(80, rate=0.5)
    assert funnel(judge(rows)).reasons == funnel(judge(rows), planted=faults).reasons
    assert funnel(judge(rows)).faults is None


def test_chain_streams_without_reading_ahead(trace: Trace, question: Question) -> None:
    read: list[int] = []

    def endless() -> Iterator[Trace]:
        while True:
            read.append(1)
            yield trace

    stream = run_filters(endless(), questions={"q1": question}, held_out=(), config=CONFIG)
    assert [judged.keep for judged in islice(stream, 3)] == [True, False, False]
    assert len(read) == 3


def test_trace_without_a_question_is_a_clear_error(trace: Trace) -> None:
    with pytest.raises(SourceError, match="belongs to no question"):
        list(run_filters([trace], questions={}, held_out=(), config=CONFIG))


def test_same_question_on_same_clip_twice_is_an_exact_duplicate(trace: Trace, question: Question) -> None:
    first, second = judge([(trace, question), copy(trace, question, "q2")])
    assert first.keep and reason(second, "duplicates") == "exact_duplicate"


def test_lookalikes_of_another_clip_or_question_are_no_duplicates(trace: Trace, question: Question) -> None:
    other_clip = copy(trace, question, "q2", media=MediaRef(uri="b.mp4", end_s=9.6), group="b")
    other_text = copy(trace, question, "q3", text="Which step comes next?")
    assert all(judged.keep for judged in judge([(trace, question), other_clip, other_text]))


def test_nearly_the_same_rationale_is_a_near_duplicate(trace: Trace, question: Question) -> None:
    twin = copy(trace, question, "q2", media=MediaRef(uri="a.mp4", end_s=9.64))
    _, second = judge([(trace, question), twin], config=FilterConfig(near_duplicate_jaccard=0.8))
    assert reason(second, "duplicates") == "near_duplicate"
    assert all(judged.keep for judged in judge([(trace, question), twin], config=FilterConfig()))


def test_a_dropped_first_does_not_cost_its_healthy_twin(trace: Trace, question: Question) -> None:
    wrong = question.model_copy(update={"answer": "boil rice"})
    first, second = judge([(trace, wrong), copy(trace, question, "q2")])
    assert not first.keep and second.keep


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"id": "t", "group": "a"}, "held_out_group"),
        ({"id": "t", "group": "t", "media": MediaRef(uri="a.mp4", start_s=9.0, end_s=12.0)}, "held_out_window"),
        ({"id": "t", "group": "t", "media": MediaRef(uri="a.mp4", start_s=9.6, end_s=12.0)}, "ok"),
        ({"id": "t", "group": "t", "media": MediaRef(uri="b.mp4")}, "ok"),
        ({"id": "q1", "group": "t", "media": MediaRef(uri="b.mp4")}, "held_out_question"),
    ],
)
def test_leakage_against_a_held_out_question(
    changed: dict[str, object], expected: str, trace: Trace, question: Question
) -> None:
    held_out = question.model_copy(update={"split": "test", **changed})
    (judged,) = judge([(trace, question)], held_out=(held_out,))
    assert reason(judged, "leakage") == expected


def test_leakage_of_text_counts_where_there_is_no_clip(trace: Trace, question: Question) -> None:
    text = "Ann has 3 apples and buys 4 more at the market, how many apples has she now?"
    here = question.model_copy(update={"media": None, "text": text, "choices": ("add egg", "boil rice")})
    there = here.model_copy(update={"id": "t", "group": "t", "split": "test"})
    other = there.model_copy(update={"text": "How long does a train take from Bonn to Kiel at full speed?"})
    assert reason(judge([(trace, here)], held_out=(there,))[0], "leakage") == "held_out_text"
    assert reason(judge([(trace, here)], held_out=(other,))[0], "leakage") == "ok"
