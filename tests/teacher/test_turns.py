"""A trace keeps what its teacher's model said and was told, and where replies lie; earlier attempts are readable."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from chat_scenes import BEFORE, LIST, SECTION, Speaks, answer, calls, kit_of, kit_with
from teacher_scenes import drawn_view, make_run

from aot.chat.cache import CachedChat, CachedReply
from aot.chat.messages import ChatReply
from aot.files.parts import KeyedRows, part_path
from aot.files.run_folder import append_row, open_append, read_rows
from aot.files.traces import read_earlier
from aot.records import Question, TokenLogprob, Trace
from aot.teacher.executor import run_candidate
from aot.teacher.rewrite import ChatWriter
from aot.teacher.rules import RulesPlanner
from aot.teacher.tools.clipview import ClipView
from aot.teacher.tools.registry import TOOLS
from aot.teacher.tools.vlm.tools import chat_tools
from aot.teacher.tools.vlm.view import Vision

PROSE = "Identify: The step before mix egg is asked.\nGather: Chop tomato 2.0s-4.0s [1].\nCombine: So [1].\nAnswer: {}"


@pytest.fixture(scope="module")
def view() -> ClipView:
    return drawn_view("wash tomato", "chop tomato", "mix egg")


def test_words_thoughts_calls_and_objections_stand_in_their_order(view: ClipView) -> None:
    opening = LIST.model_copy(
        update={
            "text": "I look first.",
            "reasoning": "Which steps?",
            "logprobs": (TokenLogprob(token="I", logprob=-1),),
        }
    )
    kit, _ = kit_of(opening, ChatReply(text="It is chop tomato. \ud800"), answer("chop tomato", 1))
    trace = run_candidate(BEFORE, view, kit, candidate=0)
    first, result, prose, objection, last = trace.turns
    assert (first.text, first.reasoning, first.calls[0].name) == ("I look first.", "Which steps?", "list_steps")
    assert first.logprobs[0].logprob == -1
    assert (result.role, result.step, result.text) == ("tool", 1, "")
    assert (prose.text, objection.role) == ("It is chop tomato. ?", "user") and "answer" in objection.text
    assert json.loads(last.calls[0].arguments)["answer"] == "chop tomato"
    assert Trace.model_validate_json(trace.model_dump_json()) == trace


def test_a_failed_plan_keeps_its_turns_and_rules_have_none(view: ClipView) -> None:
    bad = calls(("list_steps", "[1]"))
    failed = run_candidate(BEFORE, view, kit_of(bad, bad)[0], candidate=0)
    assert [(one.role, one.step) for one in failed.turns] == [
        ("assistant", None), ("tool", 1), ("assistant", None), ("tool", 2),
    ]  # fmt: skip
    ruled = run_candidate(BEFORE, view, replace(kit_of()[0], planner=RulesPlanner()), candidate=0)
    assert ruled.status == "ok" and '"turns"' not in ruled.model_dump_json()


def test_every_reply_is_found_again_by_its_key_also_one_that_a_tool_or_the_prose_rests_on(
    view: ClipView, tmp_path: Path
) -> None:
    replies = {
        "plan": [calls(("caption", {"start_s": 0.0, "end_s": 6.0}), ("list_steps", {"start_s": 0.0, "end_s": 6.0}))]
        + [answer("chop tomato", 2)],
        "caption": [ChatReply(text='{"text": "A cook.", "events": []}')],
        "rationale": [ChatReply(text=PROSE.format("mix egg")), ChatReply(text=PROSE.format("chop tomato"))],
    }
    model = Speaks(lambda request, turn: replies[request.purpose][turn])
    cache = KeyedRows(tmp_path, CachedReply, writer="0")
    chat = CachedChat(model, cache, base_url="x")
    kit = kit_with(chat, tools={**TOOLS, "caption": chat_tools(Vision(chat))["caption"]})
    kit = replace(kit, writer=ChatWriter(chat, SECTION, seed=0))
    first, second = (run_candidate(BEFORE, view, kit, candidate=0) for _ in range(2))
    assert first.status == "ok" and len(model.requests) == 5
    assert second.timeless() == first.timeless()  # The second one comes out of both caches.
    said = [one for one in first.turns if one.role == "assistant"]
    assert [one.purpose for one in said] == ["plan", "plan", "rationale", "rationale"]
    stored = [cache.get(one.key) for one in said]
    assert [one.reply.text for one in stored if one] == [one.text for one in said]
    (key,) = first.steps[0].reply_keys
    caption = cache.get(key)
    assert caption is not None and "A cook." in caption.reply.text and first.steps[1].reply_keys == ()
    cache.close()


def test_attempts_before_a_trace_are_read_in_the_order_of_questions_and_samples(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", train=2, test=1)
    ids = [question.id for question in read_rows(run.questions, Question)]
    run.attempts.mkdir(parents=True)
    for writer, rows in (("0", [(ids[1], 1), (ids[1], 0)]), ("1", [(ids[0], 0), (ids[0], 0)])):
        with open_append(part_path(run.attempts, writer)) as file:
            for question_id, sample in rows:
                attempt = Trace(
                    question_id=question_id, sample_index=sample, teacher="t", status="failed", config_digest="d"
                )
                append_row(file, attempt)
    read = [(one.question_id, one.sample_index) for _, traces in read_earlier(run) for one in traces]
    assert read == [(ids[0], 0), (ids[1], 0), (ids[1], 1)]
