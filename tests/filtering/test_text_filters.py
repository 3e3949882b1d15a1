"""What each filter says of text chains: sums, clock times, orders, and prose as teachers write it."""

import pytest

from aot.config import FilterConfig
from aot.filtering.answer import agreement
from aot.filtering.chain import FILTER_NAMES, judge_alone, run_filters
from aot.filtering.flow import flow, is_strict, steps
from aot.filtering.language import language, repetition
from aot.filtering.structure import length, structure
from aot.filtering.subject import Filter, Subject
from aot.records import AnswerType, Question, Trace, Verdict
from text_cot.teacher.procedural import chain_trace

SUM = "What is 12 + 7 - 5?"
CLOCK = "A trip starts at 9:40. A walk takes 35 minutes. When does it end?"
STORY = "Natalia sold clips to 48 of her friends, and then half as many in May. How many clips did she sell?"
ORDER = "Ann is taller than Bob. Bob is shorter than Cid. Cid is taller than Ann. Who is the tallest?"
FINE = "We start with 12.\nThen plus 7: 12 + 7 = 19.\nThen minus 5: 19 - 5 = 14.\nAnswer: 14"
PROSE = "In May she sold 48/2 = <<48/2=24>>24 clips.\nShe sold 48+24 = <<48+24=72>>72 clips altogether.\nAnswer: 72"
RANKED = "Ann > Bob: Ann > Bob.\nCid > Ann: Cid > Ann > Bob.\nCid is first.\nAnswer: Cid"


def subject(
    text: str, rationale: str, *, kind: AnswerType = "integer", gold: str = "", config: FilterConfig | None = None
) -> Subject:
    answer = gold or rationale.rpartition("Answer: ")[2]
    question = Question(
        id="q1", dataset="d", split="train", kind="k", text=text, answer=answer, answer_type=kind, group="q1"
    )
    *lines, _ = rationale.split("\n")
    trace = chain_trace("q1", tuple(lines), answer, teacher="t", sample_index=0, config_digest="x")
    return Subject(trace.model_copy(update={"rationale": rationale}), question, config or FilterConfig())


def says(one: Filter, text: str, rationale: str, **details: object) -> Verdict:
    return one(subject(text, rationale, **details))  # type: ignore[arg-type]


HEALTHY: dict[str, tuple[str, str, AnswerType]] = {
    "fine sum": (SUM, FINE, "integer"),
    "coarse sum": (SUM, "12 + 7 = 19, 19 - 5 = 14.\nAnswer: 14", "integer"),
    "one step": ("What is 8 - 8?", "8 - 8 = 0.\nAnswer: 0", "integer"),
    "clock": (CLOCK, "9:40 + 35 minutes = 10:15.\nAnswer: 10:15", "clock"),
    "order": (ORDER, RANKED, "text"),
    "coarse order": (ORDER, "Cid > Ann > Bob, Cid is first.\nAnswer: Cid", "text"),
    "prose": (STORY, PROSE, "integer"),
    "repeated sum": ("What is 5 times 5?", "Add it up: 5 + 5 + 5 + 5 + 5 = 25.\nAnswer: 25", "integer"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_every_filter_keeps_a_healthy_chain(name: str) -> None:
    text, rationale, kind = HEALTHY[name]
    verdicts = judge_alone(subject(text, rationale, kind=kind))
    assert [verdict for verdict in verdicts if not verdict.keep] == []
    assert [verdict.filter for verdict in verdicts] == list(FILTER_NAMES[:-2])


@pytest.mark.parametrize(
    ("rationale", "reason"),
    [
        ("12 + 7 = 19.\n19 - 5 = 14.", "no_answer_line"),
        ("12 + 7 = 19.\n**Answer**: 14", "no_answer_line"),
        ("12 + 7 = 19.\nAnswer:", "answer_empty"),
        ("12 + 7 = 19.\nAnswer: 14\nAnswer: 14", "answer_repeated"),
        ("Answer: 14\n12 + 7 = 19.", "answer_not_last"),
        ("Answer: 14", "no_step"),
        ("12 + 7 = 19.\n\n19 - 5 = 14.\nAnswer: 14", "empty_line"),
        ("Reasoning:\n12 + 7 = 19.\nReasoning:\n19 - 5 = 14.\nAnswer: 14", "heading_repeated"),
    ],
)
def test_structure_asks_for_steps_and_one_answer_line_behind_them(rationale: str, reason: str) -> None:
    assert says(structure, SUM, rationale, gold="14").reason == reason


def test_steps_drops_a_wrong_equation_and_counts_what_it_cannot_read() -> None:
    verdict = says(steps, SUM, "12 + 7 = 18.\n19 - 5 = 14.\nx + 5 = 19.\nAnswer: 14")
    assert (verdict.reason, verdict.value, verdict.detail) == (
        "wrong_step",
        0.5,
        "1 wrong, first 12 + 7 = 18; 1 unreadable",
    )
    assert says(steps, SUM, "x + 5 = 19.\nAnswer: 14").keep
    assert says(steps, ORDER, RANKED).reason == "not_applicable"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("12 + 7 = 19", "12 + 8 = 20", "number_from_nowhere"),
        ("plus 7:", "plus 8:", "number_from_nowhere"),
        ("19 - 5 = 14", "19 - 7 = 12", "result_is_not_answer"),
        ("Then plus 7: 12 + 7 = 19.\nThen minus 5: 19 - 5 = 14.", "19 - 5 = 14.\n12 + 7 = 19.", "used_before_made"),
        ("Then minus 5: 19 - 5 = 14.\n", "", "result_is_not_answer"),
        ("19 - 5 = 14", "19 - 5 = 14, 12 + 7 = 19, 19 - 5 = 14", "result_unused"),
    ],
)
def test_flow_follows_every_number_of_a_strict_chain(old: str, new: str, reason: str) -> None:
    assert old in FINE
    verdict = says(flow, SUM, FINE.replace(old, new), gold="14")
    assert (verdict.keep, verdict.reason) == (reason == "ok", reason)


def test_flow_sees_a_dropped_step_even_where_its_result_is_a_given_number() -> None:
    assert says(flow, "What is 6 - 3 + 4?", "3 + 4 = 7.\nAnswer: 7").reason == "number_unused"


def test_flow_allows_words_constants_and_numbers_used_twice() -> None:
    chain = "24 / 2 = 12.\n24 + 12 = 36.\n36 / 60 = 0.6.\nAnswer: 0.6"
    assert says(
        flow, "He reads 24 pages, then half as many, at one a minute. How many hours?", chain, kind="number"
    ).keep


def test_flow_asks_of_prose_only_that_it_reaches_the_answer() -> None:
    assert not is_strict(subject(STORY, PROSE))
    assert says(flow, STORY, PROSE.replace("48/2=24", "96/4=24")).keep
    assert says(flow, STORY, PROSE, gold="80").reason == "result_is_not_answer"
    assert says(flow, STORY, PROSE, config=FilterConfig(strict_flow="on")).keep


def test_flow_leaves_algebra_alone() -> None:
    assert says(flow, "A number times 3 plus 4 is 19. Which?", "3x + 4 = 19.\n3x = 15.\nx = 5.\nAnswer: 5").keep


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Cid > Ann > Bob", "Ann > Cid > Bob", "order_not_given"),
        ("Ann > Bob: Ann > Bob.\n", "", "used_before_made"),
        ("Cid > Ann: Cid > Ann > Bob.\nCid", "Ann", "order_incomplete"),
        ("Cid is first", "Bob is first", "order_not_given"),
        ("Answer: Cid", "Answer: Bob", "result_is_not_answer"),
    ],
)
def test_flow_checks_an_order_against_the_question(old: str, new: str, reason: str) -> None:
    assert old in RANKED
    assert says(flow, ORDER, RANKED.replace(old, new), kind="text").reason == reason


def test_agreement_compares_the_answer_line_with_the_answer() -> None:
    assert says(agreement, SUM, FINE.replace("Answer: 14", "Answer: 15"), gold="14").reason == "answer_differs"
    assert says(agreement, SUM, FINE.replace("Answer: 14", "Answer: 14.0"), gold="14").keep


def test_repetition_sees_loops_of_steps_but_not_long_sums() -> None:
    assert says(repetition, SUM, FINE.replace("19 - 5 = 14.", "19 - 5 = 14 = 14 = 14 = 14.")).reason == "loop"
    assert not says(repetition, SUM, "12 + 7 = 19.\n" * 5 + "Answer: 19").keep


def test_language_knows_mathematics_and_sees_garbled_words() -> None:
    assert says(language, STORY, PROSE.replace("48/2 =", r"$\frac{48}{2}$ =")).keep
    assert says(language, SUM, FINE.replace("Then plus", "Tneh slup")).reason == "unknown_words"
    assert says(language, SUM, FINE.replace("Then plus", "luego se suma")).reason == "unknown_words"
    assert says(language, "Was ist zwölf und sieben?", "Wir zählen zwölf und sieben: 12 + 7 = 19.\nAnswer: 19").keep


def test_length_counts_words_of_prose_only() -> None:
    assert says(length, "What is 1 + 1?", "1 + 1 = 2.\nAnswer: 2").keep
    assert says(length, "What is 1 + 1?", "It is two.\nAnswer: 2").reason == "too_short"


def judged(*rows: tuple[str, str], held_out: str = "") -> list[str]:
    """Reasons of leakage and duplicates for chains of several questions, given as (text, rationale)."""
    subjects = [subject(text, rationale) for text, rationale in rows]
    ids = [f"q{number}" for number in range(len(rows))]
    questions = {i: one.question.model_copy(update={"id": i, "group": i}) for i, one in zip(ids, subjects, strict=True)}
    traces: list[Trace] = [
        one.trace.model_copy(update={"question_id": i}) for i, one in zip(ids, subjects, strict=True)
    ]
    there = subject(held_out or "?", "1 + 1 = 2\nAnswer: 2").question.model_copy(update={"id": "t", "group": "t"})
    results = run_filters(traces, questions=questions, held_out=[there], config=FilterConfig())
    return [next((v.reason for v in one.verdicts[-2:] if not v.keep), "ok") for one in results]


def test_other_numbers_make_another_question() -> None:
    assert judged((SUM, FINE), held_out="What is 12 + 8 - 5?") == ["ok"]
    assert judged((SUM, FINE), held_out="What is 12 + 7 + 5?") == ["ok"]
    assert judged((SUM, FINE), held_out="what is 12 + 7  - 5 ?") == ["held_out_text"]


def test_duplicates_are_the_same_question_with_the_same_chain() -> None:
    coarse = "12 + 7 = 19, 19 - 5 = 14.\nAnswer: 14"
    other = FINE.replace("12", "13").replace("19", "20").replace("14", "15")
    rows = [(SUM, FINE), (SUM, coarse), ("What is 13 + 7 - 5?", other), (SUM, FINE)]
    assert judged(*rows) == ["ok", "ok", "ok", "exact_duplicate"]


def test_language_keeps_what_a_chat_model_heads_its_chain_with() -> None:
    assert says(language, SUM, "Solution:\n12 + 7 = 19.\n19 - 5 = 14.\nAnswer: 14").keep
    assert says(language, SUM, "Kettle:\n12 + 7 = 19.\n19 - 5 = 14.\nAnswer: 14").reason == "unknown_words"
