"""A chat model turns a finished trace into prose."""

from dataclasses import replace

import pytest
from chat_scenes import BEFORE, HOSTILE, LIST, SECTION, Speaks, answer, kit_of
from teacher_scenes import drawn_view

from aot.chat.messages import ChatReply, ChatRequest
from aot.errors import ChatError
from aot.rationales.notation import parse_rationale
from aot.records import Question, Trace
from aot.run_records import ChatUsage
from aot.teacher.executor import run_candidate
from aot.teacher.rewrite import ChatWriter

GOOD = """Sure, here it is:
Identify: The step right before mix egg is asked.
Gather: Chop tomato is seen at 2.0s-4.0s [1].
Mix egg follows at 4.0s-6.0s [1].
Combine: Chop tomato ends where mix egg begins [1].
Answer: chop tomato"""


def written(*replies: str, asked: Question = BEFORE) -> tuple[Trace, Speaks]:
    def say(_: ChatRequest, turn: int) -> ChatReply:
        if turn >= len(replies):
            raise ChatError("the server is away", reason="connection")
        return ChatReply(text=replies[turn], usage=ChatUsage(prompt_tokens=50, completion_tokens=5))

    writer = Speaks(say)
    kit = replace(kit_of(LIST, answer("chop tomato", 1))[0], writer=ChatWriter(writer, SECTION, seed=0))
    return run_candidate(asked, drawn_view("wash tomato", "chop tomato", "mix egg"), kit, candidate=0), writer


def test_prose_in_the_four_parts_becomes_the_rationale() -> None:
    trace, writer = written(GOOD)
    assert trace.status == "ok"
    assert trace.rationale.startswith("Identify: The step")
    assert parse_rationale(trace.rationale).claims[1].citations == (1,)
    assert len(trace.rationale.splitlines()) == 4
    assert trace.teacher.endswith(f"prose:speaks:{writer.requests[0].prompt_digest[:6]}")
    assert (trace.usage.chat_calls, trace.usage.prompt_tokens) == (3, 250)


def test_the_writer_never_sees_the_gold_answer() -> None:
    asked = BEFORE.model_copy(update={"answer": "the gold answer"})
    _, writer = written(GOOD, asked=asked)
    assert not any("the gold answer" in one.text for request in writer.requests for one in request.messages)


@pytest.mark.parametrize("bad", ["It was chopped first.", GOOD.replace("Answer: chop tomato", "Answer: mix egg")])
def test_a_reply_without_the_form_is_asked_for_once_more(bad: str) -> None:
    trace, _ = written(bad, GOOD)
    assert (trace.status, trace.usage.chat_calls) == ("ok", 4)


def test_two_replies_without_the_form_fail_the_trace_and_are_paid() -> None:
    trace, _ = written("no", "no", GOOD)
    assert (trace.status, trace.error.boundary, trace.rationale) == ("failed", "parse", "")
    assert (trace.usage.chat_calls, trace.usage.prompt_tokens) == (4, 300)


def test_a_writer_that_is_away_fails_the_trace_with_its_reason() -> None:
    trace, _ = written()
    assert (trace.status, trace.error.boundary, trace.error.reason) == ("failed", "chat", "connection")


def test_hostile_text_stays_in_the_slots_of_the_writer() -> None:
    asked = BEFORE.model_copy(update={"text": f"{BEFORE.text} {HOSTILE}"})
    _, writer = written(GOOD, asked=asked)
    text = writer.requests[0].messages[0].text
    assert text.count("<data ") == text.count("</data>") == 3
