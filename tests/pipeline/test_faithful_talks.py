"""Faithfulness of students that call tools: what a tool gave is perturbed, and calls made before get what they got."""

from collections.abc import Sequence

import pytest

from aot.config.training import StudentConfig
from aot.faults.perturb import perturb_result
from aot.faults.plant import rng_of
from aot.pipeline.student.perturbed import Asked
from aot.pipeline.student.talks import RESULT, Case, Stored, stored_talk
from aot.records import Lesson, Prediction, Question, Trace, Turn, WrittenCall
from aot.student.answer import begun as begun_replies
from aot.student.answer.batches import prompt_items
from aot.student.answer.begun import Begun, reply_ids
from aot.student.model.loading import Student, load_student
from aot.student.rows.replies import encode_lesson

TEXT = "12 + 7 = 19\n19 - 4 = 15\nAnswer: 15"
ASKED = Question(
    id="q", dataset="d", split="test", kind="sum", text="What is 12 + 7 - 4?", answer="15", answer_type="integer",
    group="g",
)  # fmt: skip


def call(expression: str) -> WrittenCall:
    return WrittenCall(id="c", name="calculate", arguments=f'{{"expression":"{expression}"}}')


def turn(role: str, text: str, *calls: WrittenCall) -> Turn:
    return Turn.model_validate({"role": role, "purpose": "solve", "text": text, "calls": calls})


def stored(*, last: str = TEXT) -> Stored:
    turns = [
        turn("assistant", "12 + 7 =", call("12 + 7"), call("7 + 5")), turn("tool", "19"), turn("tool", "12"),
        turn("assistant", "", call("19 - 4")), turn("tool", "15"), turn("assistant", last),
    ]  # fmt: skip
    trace = Trace(question_id="q", sample_index=0, teacher="pre", turns=tuple(turns), status="ok", config_digest="")
    said = Prediction(
        question_id="q", arm="pre", mode="tools", raw_text=TEXT, answer="15", finish_reason="stop", num_calls=3
    )
    return stored_talk(said, trace)


@pytest.fixture(scope="module")
def student() -> Student:
    return load_student("tiny-text", adapter=None, config=StudentConfig(base="tiny-text", device="cpu"))


def asked(student: Student) -> Asked:
    return Asked(student, "pre", "tools", None, 8, seed=0)


def case_of(student: Student) -> Case:
    (item,) = prompt_items(student, [ASKED], store=None, mode="tools", with_frames=True)
    case = asked(student)._case(item, stored())
    assert isinstance(case, Case)
    return case


def test_a_result_has_one_thing_replaced_wherever_it_stands_the_answer_first() -> None:
    question = ASKED.model_copy(update={"kind": "next_open"})
    card = '{"steps": ["wash rice", "boil rice", "boil rice"], "score": 0.5}'
    labels = ("wash rice", "boil rice", "fry egg")
    for seed in range(4):
        made = perturb_result(card, question=question, answer="boil rice", labels=labels, rng=rng_of(seed, "x"))
        assert made and made.text == card.replace("boil rice", "fry egg")
        number = perturb_result("15 of 19", question=ASKED, answer="15", labels=(), rng=rng_of(seed, "x"))
        assert number and number.edit == "number" and number.text.endswith(" of 19") and number.text != "15 of 19"
    assert perturb_result("nothing", question=ASKED, answer="15", labels=(), rng=rng_of(0, "x")) is None


def test_a_talk_is_begun_up_to_the_results_that_were_given_together(student: Student) -> None:
    case = case_of(student)
    assert [piece.part for piece in case.pieces] == [RESULT, RESULT, RESULT, "", ""]
    first, last, step = case.begun(0), case.begun(2), case.begun(4)
    assert [one.role for one in first.turns] == ["assistant", "tool", "tool"] and first.turns[1].text != "19"
    assert first.turns[2].text == "12" and (first.said, first.then) == ("", "")
    assert len(last.turns) == 5 and last.turns[1].text == "19" and last.turns[4].text != "15" and last.then == TEXT
    assert step.turns[4].text == "15" and step.said.startswith("12 + 7 = 19\n19 - 4 = ")
    blind = case.asked_at(4, context=False, step=True)
    given = [one.text for one in blind.turns if one.role == "tool"]
    assert given == [made.text for made in case.made[:3] if made]
    assert first.gave['calculate {"expression": "12 + 7"}'] == first.turns[1].text != "19"


def test_a_talk_has_the_ids_that_a_lesson_with_the_same_turns_has(student: Student) -> None:
    talk = stored()
    lesson = Lesson(question_id="q", mode="tools", turns=talk.turns, rationale=TEXT)
    row = encode_lesson(student.renderer, ASKED, lesson)
    (item,) = prompt_items(student, [ASKED], store=None, mode="tools", with_frames=True)
    turns, said, rest = reply_ids(student.renderer, "tools", Begun(item, "12 + 7 = 19\n", TEXT[12:], talk.turns))
    assert (*item.row.prompt_ids, *turns, *said, *rest) == row.prompt_ids + row.completion_ids
    assert student.renderer.decode(said) == "12 + 7 = 19"


def test_a_call_made_before_gets_what_it_got_and_another_one_ends_the_talk(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script in the place of a model, which no tiny one here would keep to."""
    again = 'So <tool_call>{"name": "calculate", "arguments": {"expression": "19 - 4"}}</tool_call>'
    script = {0: [again, "Answer: 3"], 1: [again.replace("19 - 4", "1 + 1")], 2: ["Answer: 8"]}
    told: dict[int, list[tuple[int, ...]]] = {number: [] for number in script}
    case = case_of(student)
    talks = [case.begun(0), case.begun(0), case.begun(2)]
    order = iter([0, 1, 2, 0])

    def scripted(writer: object, prompts: Sequence[begun_replies.Prompt], *, max_tokens: int) -> list[list[int]]:
        made = []
        for prompt in prompts:
            number = next(order)
            told[number].append(prompt.ids)
            made.append(list(student.renderer.completion_ids(script[number].pop(0))))
        return made

    monkeypatch.setattr(begun_replies, "write_replies", scripted)
    monkeypatch.setattr(begun_replies, "read_calls", lambda text: read(text))
    went_on = begun_replies.continue_replies(student, talks, mode="tools", pixels=None, batch_size=8)
    assert [one.answer for one in went_on] == ["3", None, "8"]
    assert [turn.role for turn in went_on[0].turns] == ["assistant", "tool"] and went_on[0].turns[1].text == "15"
    assert went_on[1].turns == () and told[0][1][: len(told[0][0])] == told[0][0]


def read(text: str) -> tuple[str, tuple[WrittenCall, ...]]:
    """Of a tokenizer that cannot write all marks of JSON, what a reader would see in its text."""
    calls = [call(expression) for expression in ("19 - 4", "1 + 1") if "{" in text and expression in text]
    return text, tuple(calls)


def test_steps_and_results_of_a_talk_are_measured_and_results_stand_apart(student: Student) -> None:
    (reply,) = asked(student).measure([ASKED], {"q": stored()})
    assert [step.part for step in reply.steps] == [RESULT, RESULT, RESULT, "", ""]
    assert all(step.outcome and step.score is not None for step in reply.steps)
    assert reply.steps[2].implied == reply.steps[2].perturbed and reply.steps[0].implied is None
    (without,) = asked(student).measure([ASKED], {"q": stored(last="12 + 7 = 19")})
    assert without.unusable == "no_answer"
