"""The client against a real server on a socket that misbehaves on demand."""

import json
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Literal

import pytest
from fault_server import FaultServer, echo, user_text

from aot.chat import client
from aot.chat.client import ChatModel, map_threads
from aot.chat.factory import open_chat, sampling_of
from aot.chat.messages import ChatReply, ChatRequest, ImagePart, Sampling, message
from aot.chat.server.keys import read_key
from aot.chat.server.openai import OpenAIChat
from aot.chat.server.retries import BREAK_AFTER
from aot.chat.spend import spend_summary
from aot.config import ChatConfig, PricesConfig
from aot.errors import ChatError, ConfigError, GuardStop
from aot.files.run_folder import RunFolder

CANARY = "sk-canary-4f9d1c77aa"
ENDLESS = ("stall", "drip")
"""Faults that only a time limit ends; nothing else is asked under a short one, which a busy machine would pass."""


def ask(text: str, **more: object) -> ChatRequest:
    return ChatRequest.model_validate({"messages": (message("user", text),), **more})


def section(server: FaultServer, **more: object) -> ChatConfig:
    quick = {"attempt_timeout_s": 30.0, "deadline_s": 60.0, "max_attempts": 2, "max_reply_mb": 0.5}
    return ChatConfig.model_validate({"model": "m", "base_url": server.url, **quick, **more})


def patience_s(fault: str) -> float:
    return 1.0 if fault in ENDLESS else 30.0


def outcome(chat: ChatModel, request: ChatRequest) -> str:
    try:
        return chat.reply(request).text
    except ChatError as error:
        return error.reason


@pytest.mark.parametrize(
    ("fault", "wanted", "calls"),
    [
        ("429", "rate_limited", 2), ("500", "server_error", 2), ("reset", "connection", 2), ("stall", "timeout", 2),
        ("drip", "timeout", 2), ("endless", "malformed", 2), ("endless_500", "server_error", 2),
        ("html", "malformed", 2),
        ("truncated_json", "malformed", 2), ("no_choices", "malformed", 2), ("wrong_shape", "malformed", 2),
        ("nan", "malformed", 2), ("deep", "malformed", 2), ("not_utf8", "malformed", 2), ("not_object", "malformed", 2),
        ("gzip", "malformed", 2), ("length", "truncated", 2), ("empty", "empty", 2), ("quota", "quota", 1),
        ("filter", "content_filter", 1), ("filter_400", "content_filter", 1), ("400", "bad_request", 1),
        ("too_long", "too_long", 1),
    ],
)  # fmt: skip
def test_lasting_fault_is_refused_with_its_reason_after_so_many_calls(fault: str, wanted: str, calls: int) -> None:
    with FaultServer() as server:
        chat = open_chat(section(server, attempt_timeout_s=patience_s(fault)), run=None, writer="0")
        prompt = f"Q [[fault:{fault} always]]"
        assert (outcome(chat, ask(prompt)), server.calls[prompt]) == (wanted, calls)
        assert outcome(chat, ask("Still there?")) == "You said: Still there?"
        chat.close()


@pytest.mark.parametrize("fault", ["429", "500", "reset", "stall", "truncated_json", "html", "length", "empty", "deep"])
def test_passing_fault_is_asked_again_and_answered(fault: str) -> None:
    with FaultServer() as server:
        chat = open_chat(section(server, attempt_timeout_s=patience_s(fault)), run=None, writer="0")
        assert outcome(chat, ask(f"Q [[fault:{fault} once]]")).startswith("You said")
        chat.close()


@pytest.mark.parametrize("fault", ["429_after", "429_date"])
def test_retry_after_keeps_everybody_away_from_the_server(fault: str) -> None:
    with FaultServer() as server:
        chat = open_chat(section(server), run=None, writer="0")
        began = time.monotonic()
        first = threading.Thread(target=chat.reply, args=(ask(f"Q [[fault:{fault} once]]"),))
        first.start()
        while not server.calls:
            time.sleep(0.005)
        time.sleep(0.1)
        chat.reply(ask("another question"))
        assert time.monotonic() - began > 0.9
        first.join()
        chat.close()


def test_cut_off_reply_is_asked_for_once_more_with_a_larger_cap() -> None:
    with FaultServer() as server:
        chat = open_chat(section(server, raise_tokens=3.0), run=None, writer="0")
        assert outcome(chat, ask("Q [[fault:length always]]", sampling=Sampling(max_tokens=50))) == "truncated"
        assert [body["max_tokens"] for body in server.bodies] == [50, 150]
        chat.close()


def test_server_that_refuses_a_parameter_is_asked_in_the_form_it_takes() -> None:
    with FaultServer() as server:
        chat = open_chat(section(server), run=None, writer="0")
        for fault in ("no_max_tokens", "no_schema"):
            request = ask(f"Q [[fault:{fault} always]]", json_schema={"type": "object"})
            assert outcome(chat, request).startswith("You said")
        assert "max_completion_tokens" in server.bodies[-1]
        assert "response_format" not in server.bodies[-1]
        chat.close()


def test_everything_of_a_request_is_sent_and_no_address_of_a_picture() -> None:
    with FaultServer() as server:
        chat = open_chat(section(server), run=None, writer="0")
        tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
        chat.reply(
            ChatRequest(
                messages=(
                    message("system", "Be brief."),
                    message("user", "What \ud800 is this?", ImagePart(data=b"jpg")),
                ),
                sampling=Sampling(temperature=0.1, seed=7, top_logprobs=2),
                tools=(tool,),
                json_schema={"type": "object"},
            )
        )
        body = server.bodies[0]
        assert body["messages"][1]["content"][1]["image_url"]["url"] == "data:image/jpeg;base64,anBn"
        assert (body["seed"], body["top_logprobs"], body["tools"]) == (7, 2, [tool])
        assert body["response_format"]["type"] == "json_schema"
        chat.close()


def test_over_long_prompt_is_not_sent_and_a_megabyte_passes() -> None:
    with FaultServer() as server:
        chat = open_chat(section(server, max_prompt_tokens=400_000), run=None, writer="0")
        assert outcome(chat, ask("x" * 1_300_000)) == "too_long"
        assert not server.calls
        assert outcome(chat, ask("x" * 1_000_000)).startswith("You said: xxx")
        chat.close()


@pytest.mark.parametrize(("fault", "word"), [("401", "OPENAI_API_KEY"), ("404_model", "'m'"), ("redirect", "/v1")])
def test_refusal_that_concerns_everybody_is_a_config_error(fault: str, word: str) -> None:
    with FaultServer() as server:
        chat = open_chat(section(server), run=None, writer="0")
        with pytest.raises(ConfigError, match=word):
            chat.reply(ask(f"Q [[fault:{fault} always]]"))
        with pytest.raises(ConfigError):
            chat.reply(ask("next"))
        assert server.calls["next"] == 0
        chat.close()


def test_missing_server_is_told_at_once() -> None:
    with FaultServer() as server:
        gone = section(server, max_attempts=9)
    chat = open_chat(gone, run=None, writer="0")
    began = time.monotonic()
    with pytest.raises(ConfigError, match="no server answers at"):
        chat.reply(ask("anybody?"))
    assert time.monotonic() - began < 5
    chat.close()


def test_server_that_died_stops_the_work_and_not_only_its_rows() -> None:
    with FaultServer() as server:
        chat = open_chat(section(server, max_attempts=1), run=None, writer="0")
        chat.reply(ask("hello"))
        for number in range(BREAK_AFTER):
            assert outcome(chat, ask(f"{number} [[fault:500 always]]")) == "server_error"
        with pytest.raises(GuardStop, match="20 requests one after another"):
            chat.reply(ask("next"))
        chat.close()


def test_remote_server_without_a_key_is_refused_before_any_work() -> None:
    far = ChatConfig(model="m", base_url="https://api.example.com/v1", api_key_env="SOME_KEY")
    with pytest.raises(ConfigError, match="SOME_KEY is not set"):
        read_key(far, {})
    with pytest.raises(ConfigError) as told:
        read_key(far.model_copy(update={"base_url": f"https://me:{CANARY}@api.example.com/v1"}), {"SOME_KEY": "x"})
    assert CANARY not in str(told.value)


@pytest.mark.parametrize("fault", ["none", "echo_key", "echo_key_400", "echo_key_500", "401_server"])
def test_key_appears_in_no_reply_error_log_or_file(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    run = RunFolder(tmp_path)
    with FaultServer(key="another" if fault == "401_server" else None) as server:
        told = ""
        chat = open_chat(section(server, record=str(tmp_path / "tape.jsonl")), run=run, writer="0")
        try:
            told = repr(chat.reply(ask(f"Q [[fault:{fault} always]]")))
        except (ChatError, ConfigError) as error:
            told = f"{error!r} {error} {error.__cause__!r} {error.__context__!r}"
        chat.close()
        assert server.keys == {f"Bearer {CANARY}"}
    assert told
    written = "".join(path.read_text() for path in tmp_path.rglob("*.jsonl"))
    assert CANARY not in told + caplog.text + written


def test_slow_call_is_asked_twice_where_hedging_is_on() -> None:
    with FaultServer() as server:
        chat = open_chat(section(server, hedge_after_s=0.1), run=None, writer="0")
        began = time.monotonic()
        assert outcome(chat, ask("Q [[fault:stall once]]")).startswith("You said")
        assert time.monotonic() - began < 5
        assert server.calls["Q [[fault:stall once]]"] == 2
        chat.close()


def test_equal_requests_at_once_and_after_a_restart_are_one_call(tmp_path: Path) -> None:
    with FaultServer(latency_s=0.1) as server:
        for _ in range(2):
            chat = open_chat(section(server), run=RunFolder(tmp_path), writer="0")
            replies = list(map_threads(chat.reply, [ask("same")] * 8, threads=8))
            assert replies == [replies[0]] * 8
            assert outcome(chat, ask("bad [[fault:400 always]]")) == "bad_request"
            chat.close()
        assert server.calls == {"same": 1, "bad [[fault:400 always]]": 2}  # a failure is asked for again


def test_a_stored_reply_without_log_probabilities_answers_no_request_for_them(tmp_path: Path) -> None:
    with FaultServer() as server:
        for wanted, calls in ((False, 1), (True, 2), (False, 2), (True, 2)):
            given = section(server, logprobs=wanted)
            chat = open_chat(given, run=RunFolder(tmp_path), writer="0")
            reply = chat.reply(ask("hello", sampling=sampling_of(given, seed=1)))
            chat.close()
            assert (bool(reply.logprobs), server.calls["hello"]) == (wanted, calls)


def test_a_signal_ends_calls_whose_replies_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "GRACE_S", 0.1)
    with FaultServer() as server:
        chat = open_chat(section(server), run=None, writer="0")
        began = time.monotonic()
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            asked = (ask(f"{number} [[fault:stall always]]") for number in range(9))
            list(map_threads(chat.reply, asked, threads=3, give_up=chat.close))
        assert time.monotonic() - began < 20


def test_limit_on_cost_stops_before_the_next_call_also_in_the_next_attempt(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with FaultServer() as server:
        paid = section(server, prices=PricesConfig(date="2026-01-31", prompt=1e6, completion=0.0), max_cost=5.0)
        chat = open_chat(paid, run=run, writer="0")
        chat.reply(ask("three words here"))
        chat.reply(ask("two more [[fault:length"))
        for model in (chat, open_chat(paid, run=run, writer="1")):
            with pytest.raises(GuardStop, match=r"has cost this run 6 USD and chat.max_cost is 5"):
                model.reply(ask("not any more"))
            model.close()
        assert server.calls.total() == 2
        spent = spend_summary(run, paid)
    assert (spent.calls, spent.usage.prompt_tokens, spent.cost, spent.currency) == (2, 6, 6.0, "USD")


def test_truncated_and_untold_calls_are_counted_as_such(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with FaultServer() as server:
        given = section(server, gpus=2.0)
        chat = open_chat(given, run=run, writer="0")
        for fault in ("length once", "no_usage always", "500 once"):
            chat.reply(ask(f"Q [[fault:{fault}]]", purpose="solve"))
        chat.close()
        spent = spend_summary(run, given)
    assert (spent.calls, spent.unusable_calls, spent.calls_without_usage, spent.cost) == (4, 1, 1, None)
    assert spent.calls_by_purpose == {"solve": 4}
    assert spent.gpu_hours is not None


def test_recorded_exchange_plays_back_without_the_server(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    prompts = ["a fine question", "a bad one [[fault:400 always]]"]
    with FaultServer() as server:
        given = section(server, record=str(tape))
        chat = open_chat(given, run=RunFolder(tmp_path / "run"), writer="0")
        live = [outcome(chat, ask(prompt)) for prompt in prompts]
        chat.close()
    replay = open_chat(
        given.model_copy(update={"backend": "scripted", "script": str(tape), "record": None}), run=None, writer="0"
    )
    assert [outcome(replay, ask(prompt)) for prompt in prompts] == live == ["You said: a fine question", "bad_request"]


@pytest.mark.parametrize(("over", "latency_s", "questions"), [("queue", 0.2, 100), ("reject", 0.05, 250)])
def test_gate_finds_the_slots_of_a_server(over: Literal["queue", "reject"], latency_s: float, questions: int) -> None:
    with FaultServer(latency_s=latency_s, slots=12, over=over) as server:
        chat = open_chat(section(server, max_attempts=9), run=None, writer="0")
        assert isinstance(chat, OpenAIChat)
        list(map_threads(chat.reply, (ask(f"question {number}") for number in range(questions)), threads=64))
        assert (
            over == "queue" or 11 <= chat.concurrency <= 40
        )  # queues show by the clock, which a busy machine disturbs
        assert server.most_at_once == 12
        chat.close()


def test_closing_ends_calls_in_flight() -> None:
    with FaultServer(latency_s=30) as server:
        chat = open_chat(section(server), run=None, writer="0")
        failures: list[BaseException] = []

        def wait() -> None:
            try:
                chat.reply(ask("never"))
            except GuardStop as error:
                failures.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        while not server.calls:
            time.sleep(0.005)
        chat.close()
        thread.join(5)
        assert len(failures) == 1


def test_reply_is_what_the_answer_function_computed() -> None:
    def answer(body: dict) -> dict:  # type: ignore[type-arg]
        call = {
            "id": "1",
            "type": "function",
            "function": {"name": "look", "arguments": json.dumps({"q": user_text(body)})},
        }
        return {"content": None, "reasoning": echo(body), "tool_calls": [call]}

    with FaultServer(answer) as server:
        chat = open_chat(section(server), run=None, writer="0")
        reply = chat.reply(ask("hm"))
        chat.close()
    assert isinstance(reply, ChatReply)
    assert (reply.finish_reason, reply.reasoning, reply.tool_calls[0].name) == ("tool_calls", "You said: hm", "look")


def test_a_request_after_the_end_is_refused_and_never_waits() -> None:
    with FaultServer() as server:
        chat = open_chat(section(server), run=None, writer="0")
        chat.close()
        with pytest.raises(GuardStop, match="was closed"):
            chat.reply(ask("too late"))
        assert not server.calls
