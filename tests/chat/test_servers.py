"""Servers with ways of their own, over a socket: every question is answered, or the run says what setting is wanted."""

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from chat_runs import chat_settings  # noqa: E402
from check_servers import check_server  # noqa: E402
from fault_server import Body, FaultServer, Raw  # noqa: E402
from quirk_server import QUIRKS, as_events, error, finishes, once, refuses  # noqa: E402

from aot.chat.client import ChatModel  # noqa: E402
from aot.chat.factory import open_chat  # noqa: E402
from aot.chat.messages import ChatReply, ChatRequest, message  # noqa: E402
from aot.config import ChatConfig, parse_config  # noqa: E402
from aot.errors import ChatError, ConfigError  # noqa: E402
from aot.files.run_folder import RunFolder  # noqa: E402

FORMS = {
    *(name for name in QUIRKS if name.startswith("finish_") and name != "finish_eos_token"),
    "event_stream_crlf", "event_stream_as_json", "gzip_untold", "deflate", "deflate_raw", "bom", "latin_1",
}  # fmt: skip
"""Read like others once their bytes are; one reply shows it."""


@pytest.mark.parametrize("name", sorted(QUIRKS.keys() - FORMS))
def test_200_questions_are_answered_within_a_tenth_more_calls(name: str, tmp_path: Path) -> None:
    found = check_server(QUIRKS[name], tmp_path / "run", questions=200)
    assert found.wrong == []
    assert found.right == 200
    assert found.calls_before_stop < 20
    assert all(words in found.stop for words in ("setting", "docs/chat.md")) or not QUIRKS[name].says


@pytest.mark.parametrize("name", [name for name, quirk in QUIRKS.items() if quirk.says])
def test_the_stop_names_the_setting_that_the_server_wants(name: str) -> None:
    with FaultServer(quirk=QUIRKS[name].make()) as server:
        chat = opened(server)
        with pytest.raises(ChatError, match=QUIRKS[name].says) as refused:
            chat.reply(ask("Q", sampling={"seed": 3}))
        chat.close()
    assert refused.value.reason == "setting"


def opened(server: FaultServer, **more: Any) -> ChatModel:
    quick = {"attempt_timeout_s": 5, "deadline_s": 20.0, "max_attempts": 6, "max_reply_mb": 0.5}
    return open_chat(
        ChatConfig.model_validate({"model": "m", "base_url": server.url, **quick, **more}), run=None, writer="0"
    )


def ask(text: str, **more: object) -> ChatRequest:
    return ChatRequest.model_validate({"messages": (message("user", text),), **more})


def said_by(quirk: Callable[[Body, Body], Raw | None], **more: Any) -> tuple[ChatReply | str, int]:
    """The reply, or why there is none, and the number of calls."""
    with FaultServer(quirk=quirk) as server:
        chat = opened(server, **more)
        try:
            return chat.reply(ask("Q")), server.calls.total()
        except ChatError as refused:
            return f"{refused.reason}: {refused}", server.calls.total()
        finally:
            chat.close()


@pytest.mark.parametrize("name", sorted(FORMS))
def test_a_good_reply_is_read_in_any_form(name: str) -> None:
    said, calls = said_by(QUIRKS[name].make())
    assert isinstance(said, ChatReply) and (said.text, calls) == ("You said: Q", 1)


@pytest.mark.parametrize("word", ["MAX_TOKENS", "max_tokens", "model_length", "incomplete", "FINISH_REASON_MAX_TOKENS"])
def test_a_reply_that_was_cut_is_asked_for_once_more_whatever_the_word(word: str) -> None:
    said, calls = said_by(finishes(word)())
    assert str(said).startswith("truncated") and calls == 2


def test_an_unknown_finish_reason_is_named_and_paid_twice_at_most() -> None:
    said, calls = said_by(finishes("ba\x1b[31mnana")())
    assert "malformed" in str(said) and "nana" in str(said) and "\x1b" not in str(said) and calls == 2


def calls_as(written: Body) -> Callable[[Body, Body], Raw]:
    def reply(body: Body, good: Body) -> Raw:
        said = {"role": "assistant", "content": None, **written}
        choice = {**good["choices"][0], "message": said, "finish_reason": "function_call"}
        return Raw(200, json.dumps({**good, "choices": [choice]}).encode())

    return reply


def test_integer_ids_of_calls_become_text() -> None:
    call = {"id": 7, "type": "function", "function": {"name": "look", "arguments": "{}"}}
    said, _ = said_by(calls_as({"tool_calls": [call, {**call, "id": 0}]}))
    assert isinstance(said, ChatReply) and [one.id for one in said.tool_calls] == ["7", "0"]


def test_an_old_function_call_is_a_call() -> None:
    said, _ = said_by(calls_as({"function_call": {"name": "look", "arguments": '{"a": 1}'}}))
    assert isinstance(said, ChatReply)
    assert [(one.name, one.arguments) for one in said.tool_calls] == [("look", '{"a": 1}')]


def test_calls_that_come_in_pieces_are_put_together() -> None:
    def reply(body: Body, good: Body) -> Raw:
        assert body["stream"] and body["stream_options"] == {"include_usage": True}
        calls = [{"id": f"c{i}", "function": {"name": "look", "arguments": f'{{"a": {i}}}'}} for i in range(2)]
        choice = {"message": {"content": "Let me see.", "tool_calls": calls}, "finish_reason": "tool_calls"}
        return as_events({**good, "choices": [choice]})

    said, _ = said_by(reply, stream=True)
    assert isinstance(said, ChatReply) and said.text == "Let me see." and said.usage is not None
    assert [(one.id, one.arguments) for one in said.tool_calls] == [("c0", '{"a": 0}'), ("c1", '{"a": 1}')]


@pytest.mark.parametrize("place", ["before the end", "after an error"])
def test_an_event_stream_that_breaks_off_is_no_reply(place: str) -> None:
    def reply(body: Body, good: Body) -> Raw:
        whole = as_events(good)
        lines = whole.body.split(b"\n\n")[:4]
        lines += [b'data: {"error": {"message": "overloaded", "code": 529}}'] if place == "after an error" else []
        return Raw(200, b"\n\n".join(lines) + b"\n\n", whole.headers)

    said, calls = said_by(once(lambda: reply, 1)())
    assert isinstance(said, ChatReply) and calls == 2
    said, _ = said_by(reply, max_attempts=1)
    assert str(said).startswith("malformed" if place == "before the end" else "server_error")


@pytest.mark.parametrize("packed", ["gzip", "stream", "gzip stream"])
def test_a_body_that_grows_without_end_is_dropped_at_the_limit(packed: str) -> None:
    text = "a" * 30_000_000
    raw = json.dumps({"choices": [{"delta" if "stream" in packed else "message": {"content": text}}]}).encode()
    raw = b"data: " + raw + b"\n\n" if "stream" in packed else raw
    kind = {"Content-Type": "text/event-stream"} if "stream" in packed else {}
    body = gzip.compress(raw) if "gzip" in packed else raw
    said, _ = said_by(lambda *_: Raw(200, body, {**kind, "Content-Encoding": "gzip"}), max_attempts=1)
    assert str(said).startswith("malformed") and "max_reply_mb" in str(said)


def test_thinking_alone_is_the_reply_only_where_it_states_an_answer() -> None:
    def thinks(text: str) -> Callable[[Body, Body], Raw]:
        choice = {"message": {"content": None, "reasoning_content": text}, "finish_reason": "stop"}
        return lambda *_: Raw(200, json.dumps({"choices": [choice]}).encode())

    said, calls = said_by(thinks("2 + 3 = 5.\nAnswer: 5"))
    assert isinstance(said, ChatReply) and (said.text, said.reasoning, calls) == ("2 + 3 = 5.\nAnswer: 5", "", 1)
    said, calls = said_by(thinks("The answer is 4? No.\nLet me think again"))
    assert str(said).startswith("empty") and calls == 2


@pytest.mark.parametrize(
    ("told", "stop"),
    [
        (error("No auth credentials found", status=200, code=401), "OPENAI_API_KEY"),
        (error("bad key", status=200, code="invalid_api_key"), "OPENAI_API_KEY"),
        (error("models/m is not found for API version v1main", status=404, listed=True, code=404), "no model 'm'"),
    ],
)
def test_an_error_that_concerns_everybody_is_told_once(told: Raw, stop: str) -> None:
    with FaultServer(quirk=lambda *_: told) as server:
        chat = opened(server)
        with pytest.raises(ConfigError, match=stop):
            chat.reply(ask("Q"))
        with pytest.raises(ConfigError, match=stop):
            chat.reply(ask("another"))
        assert server.calls.total() == 1
        chat.close()


def test_an_error_402_inside_a_reply_is_told_once_and_asked_again_by_the_next_command() -> None:
    said, calls = said_by(lambda *_: error("Insufficient credits", status=200, code=402))
    assert str(said).startswith("quota") and "Insufficient credits" in str(said) and calls == 1


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"details": [{"retryDelay": "0.1s"}]}, "answered"), ({"code": "insufficient_quota"}, "quota"), ({}, "quota"),
        ({"details": [{"retryDelay": "0.1s"}, {"violations": [{"quotaId": "RequestsPerDay"}]}]}, "quota"),
    ],
)  # fmt: skip
def test_a_quota_of_a_minute_waits_and_one_of_the_account_does_not(more: dict[str, Any], reason: str) -> None:
    told = error("You exceeded your current quota", status=429, listed=True, **more)
    said, calls = said_by(once(lambda: lambda *_: told, 1)())
    assert (isinstance(said, ChatReply), calls) == (True, 2) if reason == "answered" else str(said).startswith(reason)


def test_tools_are_told_without_what_the_server_does_not_know_of_schemas() -> None:
    shape = {"type": "object", "properties": {"a": {"type": "object", "additionalProperties": False}}}
    tool = {"type": "function", "function": {"name": "look", "parameters": {**shape, "additionalProperties": False}}}

    def gemini(body: Body, good: Body) -> Raw | None:
        told = "Invalid JSON payload received. Unknown name \"additionalProperties\" at 'tools[0]': Cannot find field."
        return error(told, listed=True, code=400) if "additionalProperties" in json.dumps(body["tools"]) else None

    with FaultServer(quirk=gemini) as server:
        chat = opened(server)
        assert [chat.reply(ask(word, tools=[tool])).text for word in "ab"] == ["You said: a", "You said: b"]
        assert server.calls.total() == 3
        chat.close()


def test_a_packed_error_is_read_and_shown_without_what_a_terminal_obeys() -> None:
    told = error("only tem\x1b[2Jperature\u202e 1 and invalid temperature")
    raw = Raw(400, gzip.compress(told.body), {"Content-Encoding": "gzip"})
    said, _ = said_by(lambda *_: raw)
    assert "chat.omit=[temperature]" in str(said) and not {"\x1b", "\u202e"} & set(str(said))


@pytest.mark.parametrize(
    ("told", "way"),
    [
        ("unknown field `seed`, expected one of `model`, `messages`, `temperature`, `top_p`", "chat.omit=[seed]"),
        ("\u53c2\u6570 seed \u975e\u6cd5", "chat.omit=[seed]"),
        ("invalid temperature: only 1 is allowed for this model", "chat.temperature"),
        ("Unrecognized request argument supplied: seed", "chat.omit=[seed]"),
        ("Extra inputs are not permitted: `top_p`", "chat.omit=[top_p]"),
        ("Non-streaming requests are not supported for this model", "chat.stream=true"),
        ("Range of max_tokens should be [1, 8192]", "chat.max_tokens"),
        ("Missing required parameter: 'thinking_budget'.", "chat.extra_body={thinking_budget"),
        ("You are not allowed to request logprobs from this model", "chat.logprobs=false"),
        ("Unknown parameter: 'top_logprobs'", "chat.omit=[top_logprobs]"),
    ],
)
def test_the_way_out_is_found_in_the_words_of_many_servers(told: str, way: str) -> None:
    with FaultServer(quirk=lambda *_: error(told)) as server:
        chat = opened(server)
        with pytest.raises(ChatError) as refused:
            chat.reply(ask("Q", sampling={"seed": 3, "top_logprobs": 0}))
        chat.close()
    assert refused.value.reason == "setting" and way in str(refused.value)


@pytest.mark.parametrize("status", [200, 403, 404, 405, 422, 500, 501])
def test_a_parameter_that_is_not_taken_is_named_whatever_the_status(status: int) -> None:
    for words in ("Unknown parameter: top_p", "This model does not support top_p"):
        told = Raw(status, json.dumps({"detail": words}).encode())
        said, calls = said_by(lambda body, good, told=told: told if "top_p" in body else None)
        assert str(said).startswith("setting") and "chat.omit=[top_p]" in str(said) and calls == 1


def test_an_error_of_the_server_that_names_a_parameter_is_asked_again_where_others_were_answered() -> None:
    told, count = error("tool parser: unknown temperature", status=500), iter(range(9))
    with FaultServer(quirk=lambda *_: told if next(count) == 1 else None) as server:
        chat = opened(server)
        assert [chat.reply(ask(word)).text for word in "ab"] == ["You said: a", "You said: b"]
        assert server.calls.total() == 3
        chat.close()


@pytest.mark.parametrize("words", ["JSON mode is not enabled for this model", "guided_decoding: no backend"])
def test_a_form_of_the_reply_that_is_not_taken_by_other_words_is_left_out(words: str) -> None:
    with FaultServer(quirk=refuses("response_format", error(words))()) as server:
        chat = opened(server)
        assert chat.reply(ask("Q", json_schema={"type": "object"})).text == "You said: Q"
        assert server.calls.total() == 2
        chat.close()


@pytest.mark.parametrize(
    "told",
    [
        *(Raw(status, b"") for status in (408, 423, 424, 425, 460, 498, 499, 520, 529)),
        error("Rate limit exceeded, please retry later", status=403), error("rate_limit_exceeded"),
        error("Model m is warming up", status=412),
        error("on requests per day (RPD): Limit 9, Used 9. Please try again in 0.1s.", status=429),
    ],
)  # fmt: skip
def test_what_is_about_the_moment_is_asked_again_whatever_the_status(told: Raw) -> None:
    said, calls = said_by(once(lambda: lambda *_: told, 1)())
    assert isinstance(said, ChatReply) and calls == 2


@pytest.mark.parametrize(
    "told",
    [
        error("Sorry, your account balance is insufficient", status=403),
        error("make sure your account is in good standing", code="Arrearage"),
        error("Request too large on tokens per minute (TPM): Limit 60, Requested 70", status=413),
    ],
)
def test_what_only_the_owner_of_the_account_mends_is_asked_once_and_stays_open(told: Raw) -> None:
    said, calls = said_by(lambda *_: told)
    assert str(said).startswith(("quota", "rate_limited")) and calls == 1


def test_a_redirect_takes_no_key_to_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "tell-nobody")
    with FaultServer() as other:
        elsewhere = Raw(307, b"", {"Location": f"{other.url}/chat/completions"})
        with FaultServer(quirk=lambda *_: elsewhere) as server:
            chat = opened(server)
            with pytest.raises(ConfigError, match="final address"):
                chat.reply(ask("Q"))
            chat.close()
        assert other.keys == set()


def test_a_larger_cap_that_the_server_refuses_leaves_the_reply_cut_off() -> None:
    def reply(body: Body, good: Body) -> Raw | None:
        if body["max_tokens"] > 100:
            return error(f"max_tokens is too large: {body['max_tokens']}")
        return finishes("length")()(body, good)

    said, calls = said_by(reply)
    assert "setting" in str(said) and calls == 1
    with FaultServer(quirk=reply) as server:
        chat = opened(server)
        with pytest.raises(ChatError, match="cut off"):
            chat.reply(ask("Q", sampling={"max_tokens": 100}))
        chat.close()


def test_extra_fields_are_sent_and_omitted_ones_are_not() -> None:
    with FaultServer() as server:
        chat = opened(server, omit=["temperature", "seed"], extra_body={"enable_thinking": False, "top_k": 5})
        chat.reply(ask("Q", sampling={"seed": 3}))
        chat.close()
        body = server.bodies[0]
    assert (body["enable_thinking"], body["top_k"]) == (False, 5)
    assert not {"temperature", "seed"} & body.keys() and "top_p" in body


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"messages": []}, "may not hold 'messages'"), ({"model": "other"}, "may not hold 'model'"),
        ({"temperature": 1}, "name temperature in omit"), ({"logprobs": 5}, "beside chat.logprobs"),
        ({"max_completion_tokens": 9}, "name max_tokens in omit"),
        ({"api_key": "tell-nobody"}, "api_key_env"), ({"guard": {"accessToken": "tell-nobody"}}, "api_key_env"),
        ({"Authorization": "tell-nobody"}, "api_key_env"), ({"x": ["Bearer tell-nobody"]}, "api_key_env"),
    ],
)  # fmt: skip
def test_extra_body_takes_no_field_of_ours_and_no_secret(extra: dict[str, Any], told: str, tmp_path: Path) -> None:
    settings = chat_settings("http://127.0.0.1:9/v1", folder=tmp_path, train=1, extra_body=extra)
    with pytest.raises(ConfigError, match=told) as refused:
        parse_config(settings, source="t")
    assert "tell-nobody" not in str(refused.value)


def test_omitted_parameters_make_room_for_others() -> None:
    given = {"omit": ["max_tokens"], "extra_body": {"max_completion_tokens": 9, "stop_token_ids": [2]}}
    assert ChatConfig.model_validate({"model": "m", **given}).extra_body["max_completion_tokens"] == 9


def test_replies_to_other_fields_are_other_replies(tmp_path: Path) -> None:
    with FaultServer() as server:
        for extra in ({}, {"top_k": 5}, {}):
            section = ChatConfig.model_validate({"model": "m", "base_url": server.url, "extra_body": extra})
            chat = open_chat(section, run=RunFolder(tmp_path), writer="0")
            chat.reply(ask("Q"))
            chat.close()
        assert server.calls.total() == 2
