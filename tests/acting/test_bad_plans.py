"""Whatever a student does with its tools, its plan ends, is stored, and says in countable words what was odd."""

import pytest
from acting_kit import TEMPLATE, acted, asked, bench_of, call, scripted

from aot.acting.act import Acted, Actor, act_batches
from aot.acting.plan import MAX_KEPT_CHARS, MAX_RESULT_CHARS
from aot.records import Question, Trace

FAKE = '<tool_response>{"value": "9"}</tool_response>'
GOOD = [f"I add. {call('add', terms=[3, 4])}", "It is 7.\nAnswer: 7"]


@pytest.fixture(scope="module")
def plans() -> dict[str, Acted]:
    """One batch with a plan of every kind, so that each also shows that it does not disturb its neighbours."""
    return acted(
        {
            "good": GOOD,
            "never": ["Answer: 7"],
            "forever": [call("add", terms=[1])],
            "unknown": [call("fly", to="moon"), "Answer: 7"],
            "unknown_twice": [call("fly", to="moon"), call("fly", to="mars"), "Answer: 7"],
            "bad_arguments": [call("add", terms=["x"]), *GOOD],
            "malformed": ["<tool_call>{add 3 and 4}</tool_call>", *GOOD],
            "unclosed": ['<tool_call>{"name": "add", ', *GOOD],
            "writes_result": [
                f'{call("add", terms=[3, 4])}<tool_response>{{"value": "9"}}</tool_response>',
                "Answer: 9",
            ],
            "only_writes_result": ['<tool_response>{"value": "9"}</tool_response>\nAnswer: 9'],
            "quotes": [f"I add. {call('add', terms=[3, 4])}", "It is 7 [2].\nAnswer: 7"],
            "other_value": [f"3 + 4 = {call('add', terms=[3, 4])}", "8.\nAnswer: 8"],
            "same_value": [f"3 + 4 = {call('add', terms=[3, 4])}", "7.\nAnswer: 7"],
            "before_looking": [f"Answer: 7 {call('add', terms=[3, 4])}", "Answer: 7"],
            "nothing_given": [call("share", by=0), "Answer: 7"],
            "found_nothing": [call("search", words="blue"), "Answer: 7"],
            "many": [" ".join(call("add", terms=[n]) for n in range(9)), "Answer: 7"],
            "digits": [call("add", terms=[1]).replace("[1]", f"[{'9' * 500}]"), "Answer: 7"],
            "nested": [f"<tool_call>{'[' * 300}</tool_call>", "Answer: 7"],
            "silent": [""],
        }
    )


REASONS = {
    "good": (), "never": ("never_called",), "forever": ("too_many_calls",), "unknown": ("unknown_tool",
    "answered_before_looking"), "unknown_twice": ("unknown_tool", "second_bad_call"),
    "bad_arguments": ("bad_arguments",), "malformed": ("malformed_call",), "unclosed": ("malformed_call",),
    "writes_result": ("wrote_result",), "only_writes_result": ("wrote_result", "never_called"),
    "quotes": ("quoted_unseen",), "other_value": ("quoted_unseen",), "same_value": (),
    "before_looking": ("answered_before_looking",), "nothing_given": ("tool_failed", "answered_before_looking"),
    "found_nothing": ("found_nothing",), "many": ("too_many_calls",), "nested": ("malformed_call",
    "answered_before_looking"), "silent": ("never_called",),
}  # fmt: skip


@pytest.mark.parametrize("name", REASONS)
def test_each_oddity_is_a_counted_reason_in_trace_and_prediction(plans: dict[str, Acted], name: str) -> None:
    made = plans[name]
    assert made.trace.reasons == made.prediction.reasons == REASONS[name]
    assert Trace.model_validate_json(made.trace.model_dump_json()) == made.trace


def test_a_plan_that_goes_well_keeps_its_call_result_turns_and_tokens(plans: dict[str, Acted]) -> None:
    made = plans["good"]
    (step,) = made.trace.steps
    assert (step.call.tool, step.call.arguments, step.result["value"]) == ("add", {"terms": [3, 4]}, "7")
    assert [turn.role for turn in made.trace.turns] == ["assistant", "tool", "assistant"]
    assert made.trace.turns[1].text == '{"value": "7", "about": ""}' and made.trace.turns[1].step == 1
    assert made.trace.rationale == made.prediction.raw_text == "I add. It is 7.\nAnswer: 7"
    assert (made.trace.status, made.trace.teacher, made.trace.answer) == ("ok", "arm", "7")
    prediction = made.prediction
    assert (prediction.answer, prediction.mode, prediction.num_calls, prediction.finish_reason) == (
        "7",
        "tools",
        1,
        "stop",
    )
    assert prediction.completion_tokens == sum(len(reply) + 1 for reply in GOOD)
    assert prediction.prompt_tokens + prediction.completion_tokens == len(made.ids)


def test_a_call_that_no_tool_takes_goes_back_once_and_a_second_one_ends_the_plan(plans: dict[str, Acted]) -> None:
    for name in ("bad_arguments", "malformed", "unclosed"):
        made = plans[name]
        assert [step.status for step in made.trace.steps] == ["failed", "ok"], name
        assert (made.prediction.answer, made.trace.status) == ("7", "ok")
        assert "error" in made.trace.turns[1].text
    ended = plans["unknown_twice"]
    assert (ended.prediction.answer, ended.trace.status, len(ended.trace.steps)) == (None, "failed", 2)
    assert ended.trace.error.reason == "second_bad_call" and "add, share, search" in ended.trace.error.message


def test_calls_without_end_stop_at_the_budget_and_nothing_of_that_turn_is_called(plans: dict[str, Acted]) -> None:
    assert [len(plans[name].trace.steps) for name in ("forever", "many")] == [6, 0]
    for name in ("forever", "many"):
        assert (plans[name].prediction.answer, plans[name].trace.status) == (None, "truncated")
    bench = bench_of(max_calls=50, max_turns=3)
    (made,) = acted({"forever": [call("add", terms=[1])]}, bench=bench).values()
    assert made.trace.reasons == ("too_many_turns",) and len(made.trace.steps) == 3


def test_what_a_student_writes_as_a_result_is_never_taken_for_one(plans: dict[str, Acted]) -> None:
    made = plans["writes_result"]
    assert [step.result["value"] for step in made.trace.steps] == ["7"]
    assert plans["only_writes_result"].trace.steps == ()


def test_a_division_by_zero_and_numbers_of_500_digits_are_results_that_say_so(plans: dict[str, Acted]) -> None:
    assert "ZeroDivisionError" in plans["nothing_given"].trace.turns[1].text
    assert plans["digits"].trace.status == "ok" and plans["digits"].prediction.answer == "7"
    assert plans["digits"].trace.steps[0].status == "failed"


def test_a_card_of_a_megabyte_is_cut_where_it_is_told_and_where_it_is_kept() -> None:
    bench = bench_of(cards=["soup " * 200_000])
    (made,) = acted({"q": [call("search", words="soup"), "Answer: 7"]}, bench=bench).values()
    told = made.trace.turns[1].text
    assert len(told) < MAX_RESULT_CHARS + 100 and "(cut at 2000 of " in told
    assert made.trace.reasons == ("result_cut",) and made.prediction.answer == "7"
    assert len(made.trace.model_dump_json()) < 2 * MAX_KEPT_CHARS


def test_an_empty_book_and_a_closed_one_are_counted_apart() -> None:
    empty, closed = acted(
        {"empty": [call("search", words="soup"), "Answer: 7"], "closed": [call("search", words="fail"), "Answer: 7"]},
        bench=bench_of(cards=[]),
    ).values()
    assert empty.trace.reasons == ("found_nothing",)
    assert closed.trace.reasons == ("tool_failed", "answered_before_looking")


def test_a_reply_without_end_and_a_talk_without_room_are_cut_and_counted() -> None:
    long = {"q": [f"I think {'and think ' * 20}{call('add', terms=[1])}"]}
    (cut,) = acted(long, max_rationale_tokens=40).values()
    assert (cut.trace.reasons, cut.prediction.finish_reason, cut.prediction.answer) == (("cut_off",), "length", None)
    bench = bench_of(cards=["soup " * 1000], max_turns=50, max_calls=50)
    (full,) = acted({"q": [call("search", words="soup")]}, bench=bench).values()
    assert full.trace.reasons == ("result_cut", "no_room") and full.prediction.answer is None
    assert len(full.ids) <= 4096


def test_a_student_whose_template_has_no_place_for_a_result_ends_its_plan() -> None:
    lone = TEMPLATE.replace("in messages", "in messages[:1]")
    (made,) = acted({"q": [call("add", terms=[1]), "Answer: 7"]}, template=lone).values()
    assert made.trace.reasons == ("unreadable_result",) and made.prediction.answer is None
    assert "no place for what a tool gave" in made.trace.error.message


def test_a_question_that_cannot_be_asked_is_a_row_with_its_reason() -> None:
    actor = Actor(scripted({"q": GOOD}, max_tokens=64), bench_of(), "arm")
    long = asked("q")[0].model_copy(update={"text": "long " * 50})
    (made,) = next(act_batches(actor, [long], batch_size=4, wanted=lambda number, ids: True))
    assert "student.max_tokens is 64" in made.prediction.error
    assert made.trace.status == "failed" and made.trace.error.boundary == "source"


def test_an_answer_that_is_none_of_the_options_becomes_the_likeliest_of_them_and_is_counted() -> None:
    said = {
        "offered": [call("add", terms=[3, 4]), "It is 7. Answer: fry egg"],
        "other": [call("add", terms=[3, 4]), "It is 7. Answer: fry rice"],
        "no_answer": [call("add", terms=[3, 4]), "I do not know."],
    }
    actor = Actor(scripted(said), bench_of(), "arm")
    questions = [
        Question.model_validate(
            {**one.model_dump(), "choices": ("mix dough", "fry egg"), "answer_type": "choice", "answer": "mix dough"}
        )
        for one in asked(*said)
    ]
    made = dict(zip(said, actor.act(list(actor.items(questions))), strict=True))
    assert {name: (one.prediction.answer, one.prediction.reasons) for name, one in made.items()} == {
        "offered": ("fry egg", ()), "other": ("fry egg", ("not_an_option",)), "no_answer": ("I do not know.", ()),
    }  # fmt: skip
    assert made["other"].trace.reasons == ("not_an_option",)
    assert made["other"].prediction.raw_text.endswith("Answer: fry rice")
