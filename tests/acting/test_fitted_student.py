"""A small language model, fitted on lessons with turns, calls a tool, reads what it gave, and answers by it."""

from dataclasses import replace

import pytest
from acting_kit import ADD, bench_of, call, save_word_base
from text_kit import sums, text_config, text_run

from aot.acting.act import Acted, Actor, act_batches
from aot.errors import ConfigError
from aot.files.run_folder import publish_rows
from aot.records import Lesson, LessonTurn, Question
from aot.run_records import OfferedTool
from aot.student.answer.predict import predict
from aot.student.model.loading import Student, load_student
from aot.student.rows.lesson_files import TOOLS
from aot.student.rows.replies import encode_lesson
from aot.student.train.arm import train_arm
from aot.teacher.bench import switched_off
from aot.teacher.tools.base import openai_schema

QUESTIONS = sums(4)


def lesson_of(question: Question) -> Lesson:
    """The sum is put into a call, and what comes back is said."""
    first = (int(question.answer) - 3) // 2
    turns = (
        LessonTurn(role="assistant", text=f"{first} + {first + 1} + 2 = {call('add', terms=[first, first + 1, 2])}"),
        LessonTurn(role="tool", text=f'{{"value": "{question.answer}", "about": ""}}'),
    )
    return Lesson(
        question_id=question.id, mode="tools", turns=turns, rationale=f"{question.answer}\nAnswer: {question.answer}"
    )


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Student:
    root = tmp_path_factory.mktemp("fitted")
    base = save_word_base(root / "base")
    arm = {"name": "acts", "order": "tool_use", "tools": ["add"], "tuning": "full"}
    config = text_config(
        base, arm=arm, max_steps=120, save_steps=120, questions_per_step=4, questions_per_device=4, pack_tokens=512,
        learning_rate=0.008,
    )  # fmt: skip
    run = text_run(root / "run", config, lessons=[lesson_of(question) for question in QUESTIONS])
    offered = OfferedTool.model_validate(openai_schema(ADD.name, ADD.description, ADD.Arguments))
    publish_rows(run.arm("acts") / TOOLS, [offered])
    train_arm(run, config, config.train.arms[0])
    return load_student(str(base), adapter=run.arm("acts"), config=config.student)


def act(student: Student, *, batch_size: int = 3, bench: object = None) -> list[Acted]:
    actor = Actor(student, bench or bench_of(), "acts")  # type: ignore[arg-type]
    made = {}
    for batch in act_batches(actor, QUESTIONS, batch_size=batch_size, wanted=lambda number, ids: True):
        made |= {one.prediction.question_id: one for one in batch}
    return [made[question.id] for question in QUESTIONS]


def test_it_calls_the_tool_and_answers_and_nothing_is_odd(student: Student) -> None:
    made = act(student)
    good = [one for one, question in zip(made, QUESTIONS, strict=True) if one.prediction.answer == question.answer]
    assert len(good) >= 3, [one.prediction.raw_text for one in made]
    assert all(one.prediction.num_calls == 1 and not one.trace.reasons for one in good)
    assert all(one.trace.steps[0].result["value"] == one.prediction.answer for one in good)
    assert all(
        one.trace.steps[0].text.endswith("= ") and one.trace.rationale.startswith(one.trace.steps[0].text)
        for one in good
    )


def test_the_ids_of_a_talk_are_those_that_training_has_for_it(student: Student) -> None:
    same = 0
    for one, question in zip(act(student), QUESTIONS, strict=True):
        row = encode_lesson(student.renderer, question, lesson_of(question))
        same += one.ids == row.prompt_ids + row.completion_ids
    assert same >= 3


def test_batches_do_not_change_plans(student: Student) -> None:
    alone = [one.trace.timeless() for one in act(student, batch_size=1)]
    assert [one.trace.timeless() for one in act(student, batch_size=4)] == alone


def test_it_reads_what_the_tool_gives_and_not_what_it_expects(student: Student) -> None:
    made = [one.trace for one in act(student)]
    bench = bench_of()
    for tools, reason in ((switched_off(bench.tools), "tool_failed"), ({}, "unknown_tool")):
        without = [one.trace for one in act(student, bench=replace(bench, tools=tools))]
        assert [one.turns[0] for one in without] == [one.turns[0] for one in made]
        assert all(reason in one.reasons for one in without)
        assert {one.steps[0].status for one in without} == {"failed"}


def test_a_student_that_calls_tools_is_not_asked_where_there_are_none(student: Student) -> None:
    with pytest.raises(ConfigError, match="calling tools, and there are none here"):
        list(predict(student, QUESTIONS, arm="acts", mode="tools", batch_size=2))
