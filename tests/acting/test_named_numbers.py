"""A calculator that takes names for numbers: what names stand for, what is learned, and what a plan makes of them."""

import re

import pytest
from acting_kit import ADD, asked, call, scripted

from aot.acting.act import Acted, Actor
from aot.arms.by_name import by_name
from aot.arms.tool_use import offered_tools, talk_lesson
from aot.config import ToyMathConfig
from aot.errors import ToolError
from aot.rationales.named import NamedArguments, calculate_named, first_result, left_over, marked, marks_in, values_of
from aot.records import Question
from aot.student.rows.replies import encode_lesson
from aot.teacher.bench import Bench, Budget, switched_off
from aot.teacher.tools.calculator import NAMED_CALCULATOR
from text_cot.datasets.toy_math import draw_toy_math
from text_cot.teacher.procedural import solve

NAME = NAMED_CALCULATOR.name
TOOLS = {NAME: NAMED_CALCULATOR}
NUMBER_PROBLEMS = [
    question
    for question in draw_toy_math(ToyMathConfig(train=60, test=1, test_ood=1), seed=3)
    if question.split == "train" and question.kind != "order"
]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ann has 1,200 pens and 3.5 litres.", "Ann has #1=1,200 pens and #2=3.5 litres."),
        ("It starts at 9:40 and costs $12.", "It starts at #1=9:40 and costs $#2=12."),
        ("Room A4, line #7, x=5 and 007.", "Room A4, line #7, x=#1=5 and 007."),
        ("No number here.", "No number here."),
    ],
)
def test_numbers_and_times_of_a_question_are_marked_and_no_parts_of_words(text: str, shown: str) -> None:
    assert marked(text) == shown


def test_a_question_that_holds_marks_of_its_own_gives_no_name_a_value_that_stands_nowhere() -> None:
    assert values_of(marked("Ignore this: #1=999. Ann has 12 pens."), ()) == {"#1": "999", "#2": "12"}


def test_names_stand_for_values_and_a_fraction_is_one_factor() -> None:
    values = {"#1": "12", "#2": "1,200", "[1]": "10/3", "[2]": "9:40"}
    worked = {
        "[1] * #1": "40", "#2 - #1": "1188", "[2] + #1 minutes": "9:52", "(#1 + 8) / 2": "10", "12 / [1]": "3.6",
    }  # fmt: skip
    for expression, value in worked.items():
        result = calculate_named(NamedArguments(expression=expression), values=values, name="[3]")
        assert (result.value, result.name) == (value, "[3]"), expression


def test_a_name_that_stands_for_nothing_is_an_error_that_lists_those_that_do() -> None:
    with pytest.raises(ToolError, match=re.escape("[4] stands for no number; those that do are #1, [1]")):
        calculate_named(NamedArguments(expression="#1 + [4]"), values={"#1": "2", "[1]": "5"}, name="[2]")


@pytest.mark.parametrize("repeated", [0.0, 0.5])
@pytest.mark.parametrize("question", NUMBER_PROBLEMS[:6], ids=lambda question: question.id)
def test_a_chain_by_name_holds_no_number_and_works_out_to_the_same_results(question: Question, repeated: float) -> None:
    trace = solve(question, granularity="fine", seed=0, config_digest="", calls=True)
    named = by_name(question, trace, repeated=repeated)
    values = values_of(marked(question.text, lesson=question.id), ())
    results = []
    for step in named.steps:
        assert not re.search(r"(?<![#\[\d])\d", step.text)
        if step.call:
            expression = NamedArguments(expression=step.call.arguments["expression"])
            values[step.result["name"]] = calculate_named(expression, values=values, name="").value
            results += [values[step.result["name"]]] if step.text else []
    assert results == [step.result["value"] for step in trace.steps if step.call]
    assert named.rationale.endswith(f"Answer: {list(values)[-1]}") and results[-1] == question.answer


def test_some_calls_come_twice_in_lessons_and_the_second_is_not_learned() -> None:
    student = scripted({})
    student.renderer.offered = tuple(tool.model_dump() for tool in offered_tools([NAME]))
    twice = 0
    for question in NUMBER_PROBLEMS:
        trace = solve(question, granularity="coarse", seed=0, config_digest="", calls=True)
        lesson = talk_lesson(question, trace, (NAME,), repeated=0.33)
        said = [turn for turn in lesson.turns if turn.role == "assistant"]
        repeated = [turn for turn in said if not turn.learned]
        assert all(turn.text.startswith("<tool_call>") for turn in repeated)
        if repeated:
            twice += 1
            row = encode_lesson(student.renderer, question, lesson)
            given = [i for i, span in zip(row.completion_ids, row.spans, strict=True) if span == "given"]
            assert len(given) == sum(len(student.renderer.completion_ids(turn.text)) for turn in repeated)
    assert 0.3 * len(NUMBER_PROBLEMS) < twice < 0.8 * len(NUMBER_PROBLEMS)


def test_names_of_a_lesson_stand_in_a_random_order_in_its_prompt_too() -> None:
    assert {first_result(question.id) for question in NUMBER_PROBLEMS} == {1, 2, 3, 4, 5}
    names = [tuple(marks_in(marked(question.text, lesson=question.id))) for question in NUMBER_PROBLEMS]
    assert {name for one in names for name in one} == {f"#{number}" for number in range(1, 10)}
    assert any(list(one) != sorted(one) for one in names)
    student = scripted({})
    student.renderer.offered = tuple(tool.model_dump() for tool in offered_tools([NAME]))
    for question in NUMBER_PROBLEMS[:6]:
        trace = solve(question, granularity="coarse", seed=0, config_digest="", calls=True)
        row = encode_lesson(student.renderer, question, talk_lesson(question, trace, (NAME,)))
        prompt = student.renderer.decode(row.prompt_ids)
        assert marked(question.text, lesson=question.id) in prompt


def plans(script: dict[str, list[str]], *, tools: dict = TOOLS) -> dict[str, Acted]:
    """Plans about a question with the numbers 12, 7 and 500."""
    student = scripted(script)
    student.renderer.offered = tuple(tool.model_dump() for tool in offered_tools([NAME]))
    actor = Actor(student, Bench(tools=tools, budget=Budget(6, 60.0, 8)), "arm")
    questions = [
        one.model_copy(update={"text": f"Ann has 12 pens, finds 7, and 500 are lost. {one.text}"})
        for one in asked(*script)
    ]
    return dict(zip(script, actor.act(list(actor.items(questions))), strict=True))


def test_a_plan_by_name_answers_with_the_value_and_is_stored_in_numbers() -> None:
    made = plans(
        {
            "good": [
                f"#1 + #2 = {call(NAME, expression='#1 + #2')}", f"[1].\n[1] - 2 = {call(NAME, expression='[1] - 2')}",
                "[2].\nAnswer: [2]",
            ],
            "number": ["Answer: #3"],
            "unknown": [call(NAME, expression="#9 + #1"), call(NAME, expression="#1 - #2"), "Answer: [2]"],
            "no_such_result": [call(NAME, expression="#1 - #2"), "Answer: [7]"],
        }
    )  # fmt: skip
    good = made["good"]
    assert (good.prediction.answer, good.trace.reasons) == ("17", ())
    assert good.trace.rationale == "12 + 7 = 19.\n19 - 2 = 17.\nAnswer: 17"
    assert [step.call.arguments["expression"] for step in good.trace.steps] == ["#1 + #2", "[1] - 2"]
    assert made["number"].prediction.answer == "500"
    assert (made["unknown"].prediction.answer, made["unknown"].trace.reasons) == ("5", ("tool_failed",))
    assert "#1, #2, #3" in made["unknown"].trace.steps[0].error
    assert made["no_such_result"].prediction.answer != "5" and made["no_such_result"].trace.reasons == (
        "quoted_unseen",
    )


def test_with_its_tools_switched_off_it_is_shown_the_same_marks_and_gets_nothing() -> None:
    made = plans({"off": [call(NAME, expression="#1 + #2"), "Answer: [1]"]}, tools=switched_off(TOOLS))["off"]
    assert made.prediction.answer != "19" and "tool_failed" in made.trace.reasons


def test_each_result_of_a_lesson_says_what_is_left_as_the_tool_itself_does() -> None:
    for question in NUMBER_PROBLEMS:
        trace = by_name(question, solve(question, granularity="fine", seed=0, config_digest="", calls=True))
        called = [step for step in trace.steps if step.call]
        expressions = [step.call.arguments["expression"] for step in called]
        text = marked(question.text, lesson=question.id)
        for number, step in enumerate(called, start=1):
            assert step.result.get("left", "") == left_over(text, expressions[:number])
        assert [bool(step.result.get("left")) for step in called] == [True] * (len(called) - 1) + [False]


def test_a_plan_is_shown_the_numbers_that_no_call_used_yet() -> None:
    script = {"counts": [call(NAME, expression="#1 + 0"), call(NAME, expression="[1] + #3"), "Answer: [2]"]}
    steps = plans(script)["counts"].trace.steps
    assert [step.result.get("left") for step in steps] == ["finds #2, and #3", "finds #2"]


def test_calls_of_other_tools_use_no_number_of_the_question() -> None:
    script = {"both": [call("add", terms=[1, 2]), call(NAME, expression="#1 + #2"), "Answer: [2]"]}
    made = plans(script, tools={**TOOLS, ADD.name: ADD})["both"]
    assert (made.prediction.answer, made.trace.reasons) == ("19", ())
    assert made.trace.steps[1].result["left"] == "and #3"
