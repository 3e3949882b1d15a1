"""The calculator tool, and chains of text whose equations it works out: drawn ones, and GSM8K's own solutions."""

import doctest
import json
from pathlib import Path

import pytest

from aot.arms.lessons import Material, arm_lessons
from aot.config import FilterConfig, StudentConfig, ToyMathConfig, parse_config
from aot.config.training import ChainsArm
from aot.errors import ToolError
from aot.faults.plant import plant, with_rationale
from aot.faults.text_edits import TEXT_EDITS
from aot.files.run_folder import RunFolder, publish_rows
from aot.filtering.chain import judge_alone
from aot.filtering.subject import Subject
from aot.rationales import calls
from aot.rationales.calls import CalculatorArguments, calculate, called_steps
from aot.records import Question, Trace
from aot.run_records import GivenRationale
from aot.student.answer.decoding import Prompt, write_replies
from aot.student.model.loading import load_student
from aot.student.rows.prompts import call_text, read_calls
from text_cot.datasets.toy_math import draw_toy_math
from text_cot.teacher import teachers
from text_cot.teacher.procedural import chain_trace, solve
from text_cot.teacher.teachers import equations_of, open_teacher, take

NATALIA = Question(
    id="g1", dataset="gsm8k", split="train", kind="grade_school", answer="72", answer_type="integer", group="g1",
    text="Natalia sold clips to 48 friends in April, and half as many in May. How many did she sell altogether?",
)  # fmt: skip
SOLUTION = (
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n"
    "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\nAnswer: 72"
)


def problems(trace: Trace, question: Question) -> list[str]:
    verdicts = judge_alone(Subject(trace, question, FilterConfig()))
    return [f"{one.filter}:{one.reason}" for one in verdicts if not one.keep]


@pytest.mark.parametrize("module", [calls, teachers])
def test_examples_in_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("expression", "value", "about"),
    [
        ("12 + 7", "19", ""),
        ("(12 - 20) * 3", "-24", ""),
        ("0.1 + 0.2", "0.3", ""),
        ("1/3 + 1/6", "0.5", ""),
        ("2/3", "2/3", "0.6667"),
        ("20% of 1,500", "300", ""),
        ("$4 * 3 pens =", "12", ""),
        ("23:50 + 35 minutes", "24:25", ""),
        ("10:15 - 9:40", "35", ""),
    ],
)
def test_the_calculator_is_exact(expression: str, value: str, about: str) -> None:
    result = calculate(CalculatorArguments(expression=expression))
    assert (result.value, result.about) == (value, about)
    assert [one.text for one in result.findings(CalculatorArguments(expression=expression))] == [value]


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("7" * 10_000, "10000 characters"),
        ("9" * 290 + "*" + "9" * 290, "the value has"),
        ("7 / (3 - 3)", "division by zero"),
        ("12 + 7 = 19", "an equation"),
        ("the sum of all pens", "not arithmetic"),
        ("x + 2", "not arithmetic"),
        ("2 ** 9", "not arithmetic"),
        ("__import__('os').getcwd()", "not arithmetic"),
        ("(" * 200 + "1" + ")" * 200, "parentheses"),
        ("0730 + 1", "begins with 0"),
        ("9:40 * 2", "time of day"),
        (" ", "not arithmetic"),
    ],
)
def test_what_cannot_be_worked_out_is_a_tool_error_with_a_short_reason(expression: str, reason: str) -> None:
    with pytest.raises(ToolError, match=reason) as error:
        calculate(CalculatorArguments(expression=expression))
    assert len(str(error.value)) < 200


def test_calculator_notes_become_calls_and_all_that_is_said_joined_is_the_chain() -> None:
    trace = take(NATALIA, SOLUTION, config_digest="", calls=True)
    assert [step.text for step in trace.steps] == [
        "Natalia sold 48/2 = ", "24 clips in May.\nNatalia sold 48+24 = ", "72 clips altogether in April and May.",
    ]  # fmt: skip
    assert [step.call.arguments["expression"] for step in trace.steps if step.call] == ["48/2", "48+24"]
    assert [step.result for step in trace.steps] == [{"value": "24"}, {"value": "72"}, None]
    assert trace.rationale == "".join(step.text for step in trace.steps) + "\nAnswer: 72"
    assert trace.rationale == take(NATALIA, SOLUTION, config_digest="").rationale
    assert trace.usage.tool_calls == 2
    assert problems(trace, NATALIA) == []


def test_an_equation_that_does_not_hold_is_left_to_words() -> None:
    steps = called_steps(["3 + 4 = <<3+4=8>>8 pens, 2 * 8 = <<2*8=16>>16 pens.", "x = 16"])
    assert [(step.text, step.call and step.call.arguments["expression"]) for step in steps] == [
        ("3 + 4 = 8 pens, 2 * 8 = ", "2*8"), ("16 pens.\nx = 16", None),
    ]  # fmt: skip


def drawn(count: int) -> list[Question]:
    return [
        one for one in draw_toy_math(ToyMathConfig(train=count, test=1, test_ood=1), seed=0) if one.split == "train"
    ]


def test_a_drawn_chain_with_calls_says_the_same_passes_the_filters_and_works_out_every_equation() -> None:
    for question in drawn(30):
        for granularity in ("coarse", "fine"):
            plain = solve(question, granularity=granularity, seed=0, config_digest="")
            trace = solve(question, granularity=granularity, seed=0, config_digest="", calls=True)
            assert (trace.rationale, trace.answer) == (plain.rationale, plain.answer)
            assert sum(step.call is not None for step in trace.steps) == plain.rationale.count("=")
            assert problems(trace, question) == []


def test_a_chain_that_ignores_what_the_calculator_said_is_dropped() -> None:
    trace = take(NATALIA, SOLUTION, config_digest="", calls=True)
    step = trace.steps[0].model_copy(
        update={"findings": (trace.steps[0].findings[0].model_copy(update={"text": "23"}),)}
    )
    assert problems(trace.model_copy(update={"steps": (step, *trace.steps[1:])}), NATALIA) == [
        "evidence:result_not_stated"
    ]


def test_defects_in_chains_with_calls_are_seen_and_the_calls_are_made_again() -> None:
    seen = 0
    for question in drawn(40):
        trace, fault = plant(
            solve(question, granularity="fine", seed=0, config_digest="", calls=True), question, TEXT_EDITS, rate=1.0,
            seed=0,
        )  # fmt: skip
        seen += bool(fault and problems(trace, question))
        assert "result_not_stated" not in str(problems(trace, question))
    assert seen >= 36
    damaged = with_rationale(take(NATALIA, SOLUTION, config_digest="", calls=True), "48+24 = 72.\nAnswer: 72")
    assert [step.text for step in damaged.steps] == ["48+24 = ", "72."]


def test_a_given_teacher_writes_coarse_and_fine_chains_with_calls(tmp_path: Path) -> None:
    raw = {
        "data": {"dataset": "gsm8k", "files": {"train": "train.jsonl"}},
        "teacher": {"planner": "given", "granularity": "mixed", "tools": {"calculator": "on"}},
        "student": {"base": "tiny-text"}, "train": {"arms": [{"name": "pre", "order": "pre"}]},
    }  # fmt: skip
    config = parse_config(raw, source="test")
    run = RunFolder(tmp_path)
    publish_rows(run.rationales, [GivenRationale(question_id="g1", text=SOLUTION)])
    teacher = open_teacher(run, config, writer="test")  # type: ignore[arg-type]
    coarse, fine = (teacher.solve(NATALIA, sample) for sample in range(teachers.samples_of(config.teacher)))
    assert (coarse.granularity, coarse.rationale) == ("coarse", "48/2 = 24.\n48+24 = 72.\nAnswer: 72")
    assert (fine.granularity, fine.rationale.count("\n")) == ("fine", 2)
    assert all(sum(step.call is not None for step in one.steps) == 2 for one in (coarse, fine))
    assert problems(fine, NATALIA) == []


def test_without_the_setting_nothing_of_a_chain_changes() -> None:
    (question,) = drawn(1)
    trace = solve(question, granularity="fine", seed=0, config_digest="")
    again = chain_trace(
        question.id, tuple(trace.rationale.split("\n")[:-1]), trace.answer, teacher="procedural", sample_index=1,
        config_digest="",
    )  # fmt: skip
    assert json.loads(trace.model_dump_json()) == {**json.loads(again.model_dump_json()), "granularity": "fine"}
    assert all(step.call is None for step in trace.steps)


def test_arms_of_one_run_learn_coarse_or_fine_chains_as_they_say() -> None:
    fine, coarse = (take(NATALIA, text, config_digest="") for text in (SOLUTION, equations_of(SOLUTION)))
    material = Material({"g1": NATALIA}, {"g1": {"short": coarse, "full": fine}}, {"g1": fine}, 1)
    lessons = {
        size: arm_lessons(material, ChainsArm(name="pre", order="pre", granularity=size), seed=0)[0].rationale
        for size in ("coarse", "fine", None)
    }
    assert lessons["coarse"] == "48/2 = 24.\n48+24 = 72.\nAnswer: 72"
    assert lessons["fine"] == lessons[None] == fine.rationale


def test_the_embedded_base_writes_the_call_that_it_is_told_to_and_reads_a_result() -> None:
    student = load_student("tiny-text", config=StudentConfig(base="tiny-text", device="cpu"))
    tokenizer = student.renderer.tokenizer
    call = call_text("calculator", {"expression": "532 + 287"})
    asked = {"Use the tools: 532 + 287": call, '<tool_response>{"value": "61"}</tool_response>': "61"}
    for told, wanted in asked.items():
        ids = tuple(tokenizer(f"<user>{told}<assistant>")["input_ids"])
        assert tokenizer.unk_token_id not in ids
        (reply,) = write_replies(student, [Prompt(ids)], max_tokens=40)
        assert student.renderer.decode(tuple(reply[:-1])) == wanted
    assert read_calls(call)[1][0].arguments == '{"expression": "532 + 287"}'
