"""Each filter that needs nothing but one trace: what it keeps, and the reason it gives for what it drops."""

from collections.abc import Callable

import pytest

from aot.filtering.answer import agreement, answer_correct, option_shuffle
from aot.filtering.chain import FILTERS
from aot.filtering.coverage import coverage
from aot.filtering.evidence import evidence
from aot.filtering.flow import flow, steps
from aot.filtering.language import language, repetition
from aot.filtering.structure import cut_off, length, status, structure
from aot.filtering.subject import Filter
from aot.records import TraceError, Verdict

Says = Callable[..., Verdict]


@pytest.mark.parametrize("one", FILTERS, ids=lambda one: one.__name__)
def test_filter_keeps_a_healthy_trace(one: Filter, says: Says) -> None:
    expected = "not_applicable" if one in (steps, flow, option_shuffle) else "ok"
    assert (says(one).keep, says(one).reason) == (True, expected)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("chop onion [1]", "chop onion [7]", "cites_no_ok_step"),
        ("chop onion [1]", "chop onion [3]", "cites_no_ok_step"),
        ("chop onion [1]", "chop onion", "cites_nothing"),
        ("chop onion [1]", "boil rice [1]", "label_not_found"),
        ("chop onion [1]", "grill banana [1]", "invented_word"),
        ("chop onion [1]", "fry onion [1]", "label_not_at_this_time"),
        ("chop onion [1]", "wash fish [1]", "label_not_found"),
        ("chop onion [1]", "no chop onion [1]", "denies_a_finding"),
        ("chop onion [1]", "chop onion with kettle [1]", "invented_word"),
        ("0.2s-2.4s", "0.7s-2.4s", "time_not_found"),
        ("0.2s-2.4s", "2.4s-5.1s", "label_not_at_this_time"),
        ("0.2s-2.4s chop", "chop", "no_time"),
        ("after 9.6s", "after 8.1s", "time_not_asked"),
        ("the step after 9.6s", "the step after boil rice", "label_not_asked"),
        ("after fry onion", "after chop onion", "label_not_found"),
        ("where add egg", "where 3 times add egg", "number_not_found"),
    ],
)
def test_evidence_drops_what_no_step_returned(old: str, new: str, reason: str, says: Says) -> None:
    verdict = says(evidence, (old, new))
    assert (verdict.keep, verdict.reason) == (False, reason)


def test_evidence_allows_rounding_of_times(says: Says) -> None:
    assert says(evidence, ("0.2s-2.4s", "0.3s-2.4s")).keep


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("0.2s-2.4s chop onion [1]. ", "", "event_not_gathered"),
        ("fry onion [2]", "fry onion [1]", "step_not_cited"),
        ("after fry onion", "after that", "asked_not_named"),
    ],
)
def test_coverage_drops_what_leaves_something_out(old: str, new: str, reason: str, says: Says) -> None:
    assert says(coverage, (old, new)).reason == reason


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Gather: ", "", "part_missing"),
        ("Answer:", "Answer: x\nAnswer:", "part_repeated"),
        ("Combine: this is omelette, where add egg comes after fry onion [2].", "Combine:", "part_empty"),
        ("\nAnswer", " Answer", "not_one_line_each"),
        ("Identify", "Well.\nIdentify", "not_one_line_each"),
    ],
)
def test_structure_drops_other_forms(old: str, new: str, reason: str, says: Says) -> None:
    assert says(structure, (old, new)).reason == reason


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Answer: add egg", "Answer: boil rice", "answer_differs"),
        ("Answer: add egg", "Answer: perhaps", "answer_differs"),
        ("Answer: add egg", "", "no_rationale_answer"),
        ("where add egg", "where boil rice", "combine_differs"),
    ],
)
def test_agreement_drops_another_conclusion(old: str, new: str, reason: str, says: Says) -> None:
    assert says(agreement, (old, new)).reason == reason


def test_agreement_accepts_the_option_letter(says: Says) -> None:
    assert says(agreement, ("Answer: add egg", "Answer: (A)")).keep


def test_answer_correct_tells_wrong_from_unclear(says: Says) -> None:
    assert says(answer_correct, answer="boil rice").reason == "answer_wrong"
    assert says(answer_correct, answer="").reason == "answer_unclear_empty"
    assert says(answer_correct, answer="I do not know").reason == "answer_unclear_does_not_know"


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (("add egg",), "ok"),
        ((" Add  egg.", "add egg"), "ok"),
        (("add egg", "boil rice"), "answer_changed"),
        (("add egg", ""), "answer_changed"),
    ],
)
def test_option_shuffle_drops_an_answer_that_follows_the_order(
    answers: tuple[str, ...], reason: str, says: Says
) -> None:
    verdict = says(option_shuffle, shuffled_answers=answers)
    assert (verdict.reason, verdict.value) == (reason, 0.5 ** len(answers))


def test_status_names_the_boundary(says: Says) -> None:
    error = TraceError(boundary="tool", message="no frames")
    assert says(status, status="failed", error=error).reason == "failed_tool"
    assert says(status, status="truncated").reason == "truncated"


@pytest.mark.parametrize(
    ("rationale", "reason"),
    [
        ("", "no_rationale"),
        ("Identify: a.\nGather: b [1", "open_bracket"),
        ("Identify: a.\nGather: b [1].\nComb", "stops_before_answer"),
    ],
)
def test_cut_off_sees_an_unfinished_text_though_status_is_ok(rationale: str, reason: str, says: Says) -> None:
    assert says(cut_off, rationale=rationale).reason == reason


def test_repetition_drops_loops_and_keeps_repeated_events(says: Says) -> None:
    assert says(repetition, ("chop onion [1].", "chop onion [1]. and so and so and so on.")).reason == "loop"
    assert (
        says(repetition, ("fry onion [1].", "fry onion [1]. " + "2.4s-5.1s fry onion [1]. " * 12)).reason
        == "low_novelty"
    )
    moments = "".join(f"{t}.0s-{t}.9s chop onion [1]. " for t in range(9))
    assert says(repetition, ("0.2s-2.4s chop onion [1]. ", moments)).keep


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("лук [1]", "foreign_script"),
        ("on\ufffdon [1]", "broken_characters"),
        ("\x07 [1]", "broken_characters"),
        ("Ã¼ber [1]", "broken_characters"),
        ("xkcd qrstv pfft brzt zxcv " * 2 + "[1]", "few_words"),
    ],
)
def test_language_drops_garbled_text(new: str, reason: str, says: Says) -> None:
    assert says(language, ("chop onion [1]", new)).reason == reason


def test_language_keeps_accents(says: Says) -> None:
    assert says(language, ("chop onion", "flambé piña")).keep


def test_length_counts_words(says: Says) -> None:
    assert says(length, rationale="Answer: add egg").reason == "too_short"
    assert says(length, rationale="word " * 500).reason == "too_long"
    assert says(length).value == 33.0
