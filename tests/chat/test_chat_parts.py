"""The parts of the client that need no server: reading replies, the gate's arithmetic, the cache and the costs."""

import asyncio
import gzip
import json
import selectors
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from aot.chat.cache import CachedReply
from aot.chat.messages import ChatReply
from aot.chat.server.bodies import Body
from aot.chat.server.failures import ErrorInside, Failure, Server, of_status
from aot.chat.server.gate import Gate, Knee
from aot.chat.server.keys import Secret
from aot.chat.server.wire import read_reply, read_usage
from aot.chat.spend import Ledger, SpendRow, cost_of, estimate, spend_summary
from aot.config import ChatConfig, PricesConfig
from aot.files.parts import KeyedRows
from aot.files.run_folder import RunFolder, append_row, open_append
from aot.run_records import ChatUsage


def body(message: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop", **more}]}).encode()


def read(message: dict[str, Any], **more: Any) -> ChatReply:
    return read_reply(body(message, **more), clean=str)


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm."},
        {"thinking": "Hm."},
        {"reasoning": None, "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                {"type": "text", "text": "4"},
            ]
        },
    ],
)
def test_thinking_is_found_wherever_servers_put_it(fields: dict[str, Any]) -> None:
    reply = read({"content": "4", **fields})
    assert (reply.text, reply.reasoning) == ("4", "Hm.")


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (
            {"prompt_tokens": 5, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 3}},
            (5, 0, 4, 3),
        ),
        ({"input_tokens": 5, "output_tokens": 4, "cache_read_input_tokens": 2}, (5, 2, 4, 0)),
        ({"prompt_tokens": 5, "completion_tokens": 4, "prompt_cache_hit_tokens": 9}, (5, 5, 4, 0)),
        ({"prompt_tokens": 5, "completion_tokens": 4, "reasoning_tokens": 6, "total_tokens": 15}, (5, 0, 10, 6)),
        ({"prompt_tokens": 5, "completion_tokens": None}, None),
        ({"prompt_tokens": -5, "completion_tokens": True}, None),
        ("much", None),
    ],
)
def test_tokens_are_read_by_any_known_name(told: Any, wanted: tuple[int, ...] | None) -> None:
    usage = read_usage(told)
    assert (tuple(usage.model_dump().values()) if usage else None) == wanted


def test_arguments_given_as_an_object_become_text_and_a_call_without_id_gets_one() -> None:
    reply = read({"content": None, "tool_calls": [{"function": {"name": "look", "arguments": {"a": 1}}}]})
    assert [(call.id, call.arguments) for call in reply.tool_calls] == [("call_0", '{"a": 1}')]


def test_the_choice_numbered_zero_is_the_reply_wherever_it_stands() -> None:
    other = {"index": 1, "message": {"content": "X"}, "finish_reason": "length"}
    mine = {"index": 0, "message": {"content": "A"}, "finish_reason": "stop"}
    assert read_reply({"choices": [other, mine]}, clean=str).text == "A"
    events = [[{**one, "delta": one["message"], "message": None} for one in (other, mine)]]
    assert streamed([*events, [{"index": 1, "delta": {}, "finish_reason": "stop"}]]).text == "A"


def streamed(events: list[list[dict[str, Any]]], **more: Any) -> ChatReply:
    lines = [f"data: {json.dumps({'choices': choices, **more})}\n\n" for choices in events]
    return read_reply("".join([*lines, "data: [DONE]\n\n"]).encode(), clean=str, cap=9)


def test_messages_that_tell_all_so_far_in_every_event_are_not_told_twice() -> None:
    told = ["So", "So 4", "So 4\nAnswer: 4"]
    events = [[{"index": 0, "message": {"content": text}}] for text in told]
    assert streamed(events).text == told[-1]
    whole = [{"index": 0, "message": {"content": "A4"}, "finish_reason": "stop"}]
    assert streamed([*([{"index": 0, "delta": {"content": piece}}] for piece in "A4"), whole]).text == "A4"


def test_streamed_calls_under_one_number_are_told_apart_by_their_ids() -> None:
    calls = [{"index": 0, "id": f"c{i}", "function": {"name": "look", "arguments": ""}} for i in range(2)]
    rest = {"index": 0, "function": {"arguments": '{"a": 1}'}}
    pieces = [calls[0], rest, calls[1], rest]
    read = streamed([[{"index": 0, "delta": {"tool_calls": [piece]}}] for piece in pieces])
    assert [(one.id, one.arguments) for one in read.tool_calls] == [("c0", '{"a": 1}'), ("c1", '{"a": 1}')]


@pytest.mark.parametrize(
    "call",
    [
        {"id": "c", "name": "look", "arguments": '{"a": 1}'},
        {"id": "c", "type": "tool_use", "name": "look", "input": {"a": 1}},
        {"id": "c", "function": {"name": "look", "parameters": {"a": 1}}},
        {"id": "c", "function": {"name": "look", "arguments": json.dumps('{"a": 1}')}},
    ],
)
def test_calls_are_read_in_every_known_form(call: dict[str, Any]) -> None:
    wanted = [("look", '{"a": 1}')]
    assert [(one.name, one.arguments) for one in read({"tool_calls": [call]}).tool_calls] == wanted


def test_calls_with_one_id_get_ids_of_their_own() -> None:
    call = {"id": "c", "function": {"name": "look", "arguments": "{}"}}
    assert [one.id for one in read({"tool_calls": [call, call]}).tool_calls] == ["c", "c_1"]


@pytest.mark.parametrize(
    "content",
    [{"type": "text", "text": "A"}, [{"type": "text", "text": {"value": "A"}}], ["A"], [{"type": "x", "content": "A"}]],
)
def test_text_is_found_in_parts_of_any_form(content: Any) -> None:
    assert read({"content": content}).text == "A"


@pytest.mark.parametrize(
    "fields",
    [
        {"finishReason": "MAX_TOKENS"}, {"stop_reason": "max_tokens"}, {"finish_reason": {"type": "length"}},
        {"finish_reason": "stop", "native_finish_reason": "MAX_TOKENS"}, {"usage": 9},
        {"finish_reason": "null", "usage": 9},
    ],
)  # fmt: skip
def test_a_cut_is_seen_in_other_fields_and_where_the_cap_was_reached_without_a_word(fields: dict[str, Any]) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": fields.pop("usage", 3)}
    choice = {"message": {"content": "1, 2"}, **fields}
    with pytest.raises(Failure) as failure:
        read_reply({"choices": [choice], "usage": usage}, clean=str, cap=9)
    assert failure.value.reason == "truncated"


@pytest.mark.parametrize("finish", [None, "stop"])
def test_half_a_reply_beside_an_error_is_no_reply(finish: str | None) -> None:
    choice = {"message": {"content": "half of"}, "finish_reason": finish}
    for told in ({"choices": [choice], "error": {"code": 502}}, {"choices": [{**choice, "error": {"code": 502}}]}):
        with pytest.raises(ErrorInside):
            read_reply(json.dumps(told).encode(), clean=str)


@pytest.mark.parametrize(
    "body", [{"message": {"role": "assistant", "content": "A"}, "done": True}, {"content": [{"text": "A"}]}]
)
def test_a_reply_by_another_api_is_told_as_such_and_not_as_an_error_of_the_server(body: dict[str, Any]) -> None:
    with pytest.raises(Failure, match="no chat completion"):
        read_reply(json.dumps(body).encode(), clean=str)


def test_events_that_keep_a_stream_alive_are_passed_over_and_an_error_as_text_is_one() -> None:
    good = 'data: {"choices": [{"delta": {"content": "A"}, "finish_reason": "stop"}]}\n\n'
    assert read_reply(f"event: ping\ndata: pong\n\n{good}".encode(), clean=str).text == "A"
    with pytest.raises(ErrorInside):
        read_reply(f"{good}event: error\ndata: overloaded\n\n".encode(), clean=str)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_body_is_read_whole_wherever_it_is_split(size: int) -> None:
    text = json.dumps({"choices": [{"delta": {"content": "\u00e4\U0001f600\u2028"}, "finish_reason": "stop"}]},
                      ensure_ascii=False)  # fmt: skip
    stream = f": alive\r\ndata: {text}\r\n\r\n".encode()
    half = len(stream) // 2
    for raw in (stream, gzip.compress(stream[:half]) + gzip.compress(stream[half:])):
        taken = Body(limit=10_000, is_stream=True)
        for start in range(0, len(raw), size):
            taken.feed(raw[start : start + size])
        assert read_reply(taken.whole(), clean=str).text == "\u00e4\U0001f600\u2028"


@pytest.mark.parametrize(
    ("headers", "error", "wait_s"),
    [
        ({"Retry-After": "Thu, 01 Jan 2099 00:00:00 GMT"}, {}, "long"), ({"retry-after-ms": "250"}, {}, 0.25),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "0"}, {}, 360),
        ({"x-ratelimit-reset-requests": "24h0m0s", "x-ratelimit-remaining-requests": "7"}, {}, None),
        ({"RateLimit-Reset": "7"}, {}, 7), ({"X-RateLimit-Reset": "4102444800"}, {}, "long"),
        ({"anthropic-ratelimit-tokens-reset": "2099-01-01T00:00:00Z"}, {}, "long"),
        ({"RateLimit-Reset": "-1"}, {}, None),
        ({}, {"retry_after": "1m30s"}, 90), ({}, {"details": [{"retryDelay": "37s"}]}, 37),
        ({}, {"details": [{"retryDelay": "250ms"}]}, 0.25), ({}, {"details": [{"retryDelay": {"seconds": 4}}]}, 4),
        ({}, {"metadata": {"headers": {"X-RateLimit-Reset": "4102444800000", "X-RateLimit-Remaining": "0"}}}, "long"),
        ({}, {"message": "limit of requests per minute"}, 12),
    ],
)  # fmt: skip
def test_the_time_to_wait_is_read_wherever_a_server_tells_it(
    headers: dict[str, str], error: dict[str, Any], wait_s: float | str | None
) -> None:
    server = Server("m", "http://127.0.0.1:9/v1", "KEY", str)
    raw = json.dumps({"error": {"message": "slow down", **error}}).encode()
    low = {name.lower(): value for name, value in headers.items()}
    failure = of_status(429, low, raw, server=server, worked_before=True)
    assert isinstance(failure, Failure) and failure.reason == "rate_limited"
    assert (failure.wait_s or 0) > 1e9 if wait_s == "long" else failure.wait_s == wait_s


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "malformed"), (b"[1]", "malformed"), (b'{"choices": null}', "malformed"), (b"1" * 5000, "malformed"),
        (body({"content": 5}), "malformed"), (body({"content": "a", "tool_calls": [{"id": 1}]}), "malformed"),
        (body({"content": "a"}, finish_reason="error"), "malformed"), (body({"content": " \n"}), "empty"),
        (body({"content": "1, 2"}, finish_reason="length"), "truncated"),
        (body({"content": None, "refusal": "no"}), "content_filter"),
    ],
)  # fmt: skip
def test_unusable_bodies_are_classified(raw: bytes, reason: str) -> None:
    with pytest.raises(Failure) as failure:
        read_reply(raw, clean=str)
    assert failure.value.reason == reason


@pytest.mark.parametrize(
    "told",
    [
        {"content": [{"token": "A", "logprob": -0.1}, {"token": ".", "logprob": -2}]},
        {"tokens": ["A", "."], "token_logprobs": [-0.1, -2], "top_logprobs": [{}, {}]},
    ],
)
def test_log_probabilities_are_read_in_both_forms(told: dict[str, Any]) -> None:
    read_one = read({"content": "A."}, logprobs=told)
    assert [(one.token, one.logprob) for one in read_one.logprobs] == [("A", -0.1), (".", -2.0)]
    for odd in (
        None,
        [{"token": "A", "logprob": None}],
        [{"token": "A", "logprob": "1e999x"}],
        [{"token": None, "logprob": 0}],
    ):
        assert read({"content": "A."}, logprobs={"content": odd}).logprobs == ()
    assert read({"content": "A."}, logprobs={"tokens": ["A", "."], "token_logprobs": [None, -2]}).logprobs == ()


def test_log_probabilities_of_a_stream_are_put_together_and_never_spell_the_key() -> None:
    def told(*tokens: str) -> ChatReply:
        pieces = [
            {"delta": {"content": one}, "logprobs": {"content": [{"token": one, "logprob": -1}]}} for one in tokens
        ]
        events = [*pieces, {"delta": {}, "finish_reason": "stop"}]
        raw = "".join(f"data: {json.dumps({'choices': [one]})}\n\n" for one in events)
        return read_reply(raw.encode(), clean=Secret("sk-canary-4f9d1c77aa").clean)

    assert [one.token for one in told("I", " do").logprobs] == ["I", " do"]
    spelled = told("sk-can", "ary-4f9d", "1c77aa")
    assert (spelled.text, spelled.logprobs) == ("[key]", ())


def simulate(knee: Knee, *, slots: int, calls: int, rejects: bool, now_s: float = 0.0) -> float:
    """Drive a knee against a server with so many slots of one second, one burst after another; the time at the end."""
    done = 0
    while done < calls:
        if rejects:
            for over in range(knee.limit - slots, 0, -1):
                knee.rejected(others=slots + over - 1)
        busy = min(slots, knee.limit)
        latency_s = knee.limit / busy
        now_s += 1.0
        for _ in range(busy):
            knee.success(latency_s=latency_s, waiting=True)
        done += busy
    return now_s


@pytest.mark.parametrize("rejects", [False, True])
@pytest.mark.parametrize("slots", [1, 5, 12, 16, 40, 100])
def test_knee_keeps_every_server_busy_without_flooding_it(slots: int, rejects: bool) -> None:
    knee = Knee(most=256)
    simulate(knee, slots=slots, calls=30 * slots, rejects=rejects)
    before_s = simulate(knee, slots=slots, calls=100 * slots, rejects=rejects)
    assert 100 / before_s >= 0.95
    assert knee.limit <= max(2.5 * slots, 22)


class _Jumping(selectors.SelectSelector):
    """Lets a loop jump to its next timer instead of waiting for it."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now_s += timeout or 0.0
        return super().select(0)


@pytest.mark.parametrize("slots", [12, 40])
def test_gate_settles_near_the_slots_of_a_server_that_queues(slots: int) -> None:
    async def ask_all() -> tuple[int, int]:
        gate, free, loop, busiest = Gate(most=256), asyncio.Semaphore(slots), asyncio.get_running_loop(), 0

        async def call() -> None:
            nonlocal busiest
            await gate.enter()
            began_s = loop.time()
            async with free:
                busiest = max(busiest, min(slots, gate.in_flight))
                await asyncio.sleep(1)
            gate.leave("ok", latency_s=loop.time() - began_s)

        await asyncio.gather(*(call() for _ in range(60 * slots)))
        return gate.knee.limit, busiest

    clock = _Jumping()
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now_s  # type: ignore[method-assign]
    limit, busiest = loop.run_until_complete(ask_all())
    loop.close()
    assert busiest == slots and slots - 1 <= limit <= 3 * slots + 4


def test_knee_shrinks_once_for_all_failures_of_a_round_and_comes_back() -> None:
    knee = Knee(most=64)
    simulate(knee, slots=40, calls=2000, rejects=False)
    before = knee.limit
    for _ in range(10):
        knee.failed()
    assert knee.limit == int(before * 0.7)
    simulate(knee, slots=40, calls=2000, rejects=False)
    assert knee.limit >= 40


def test_knee_is_not_moved_by_faults_that_come_by_chance() -> None:
    knee = Knee(most=64)
    simulate(knee, slots=16, calls=500, rejects=False)
    for number in range(700):
        if number % 10 == 0:
            knee.rejected(others=knee.limit - 1)
        elif number % 20 == 3:
            knee.failed()
        else:
            knee.success(latency_s=knee.limit / 16, waiting=True)
    assert knee.limit >= 16


def test_knee_learns_nothing_while_nobody_waits() -> None:
    knee = Knee(most=64)
    for _ in range(100):
        knee.success(latency_s=1.0, waiting=False)
    assert knee.limit == 8


def test_cache_holds_places_and_not_replies_and_survives_a_half_written_line(tmp_path: Path) -> None:
    cache = KeyedRows(tmp_path, CachedReply, writer="0")
    tracemalloc.start()
    for number in range(10_000):
        key, reply = f"{number:032x}", ChatReply(text=f"reply {number} " + "long " * 50)
        cache.put(key, CachedReply(key=key, reply=reply))
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    cache.close()
    assert used < 4_000_000
    with (tmp_path / "part-0.jsonl").open("ab") as file:
        file.write(b'{"key":"' + b"f" * 32 + b'","reply":{"te')
    for writer in ("0", "1"):
        again = KeyedRows(tmp_path, CachedReply, writer=writer)
        found = again.get(f"{9_999:032x}")
        assert found is not None
        assert found.reply.text.startswith("reply 9999 ")
        assert again.get("f" * 32) is None
        again.close()


PRICES = PricesConfig(date="2026-01-31", prompt=2.0, cached_prompt=0.5, completion=10.0)


def test_cost_counts_cached_tokens_at_their_price_and_thinking_as_completion() -> None:
    usage = ChatUsage(
        prompt_tokens=3_000_000, cached_prompt_tokens=1_000_000, completion_tokens=100_000, reasoning_tokens=1
    )
    assert cost_of(usage, PRICES) == 5.5
    assert cost_of(usage, None) is None
    assert cost_of(usage, PRICES.model_copy(update={"completion": None})) is None


def test_estimate_is_calls_times_tokens() -> None:
    assert estimate(calls=1000, prompt_tokens=500, completion_tokens=100, prices=PRICES) == 2.0


def test_what_is_set_aside_counts_until_it_is_given_back_and_a_closed_ledger_writes_on(tmp_path: Path) -> None:
    section = ChatConfig(
        model="m", prices=PricesConfig(date="2026-01-31", prompt=1, completion=1), max_cost=300e-6
    )  # fmt: skip
    call, small = ChatUsage(prompt_tokens=60, completion_tokens=40), ChatUsage(prompt_tokens=1)
    ledger = Ledger(section, tmp_path, writer="a", max_tokens=250)
    assert [ledger.reserve(call), ledger.reserve(call), ledger.reserve(call)] == ["", "", "tokens"]
    ledger.release(call)
    ledger.close()
    for _ in range(2):
        ledger.note_call(purpose="x", outcome="ok", started_s=0, seconds=0, usage=call, most=call)
    ledger.release(call)
    assert (ledger.tokens, round(ledger.spent * 1e6)) == (200, 200)
    again = Ledger(section, tmp_path, writer="a", max_tokens=None)
    assert again.reserve(call) == "" and again.reserve(small) == "cost", "an earlier process counts"
    again.release(call)
    again.note_call(purpose="x", outcome="timeout", started_s=0, seconds=0, usage=None, most=call)
    assert (again.reserve(small), again.tokens) == ("cost", 300)
    ledger.close()
    again.close()


def test_gpu_hours_count_overlapping_calls_once(tmp_path: Path) -> None:
    run, section = RunFolder(tmp_path), ChatConfig(model="m", gpus=2)
    for writer, starts in (("0", (0.0, 900.0)), ("1", (1800.0,))):
        with open_append(run.chat_spend / f"part-{writer}.jsonl") as file:
            for start_s in starts:
                facts = {"purpose": "", "outcome": "ok", "usage": None, "started_s": start_s, "seconds": 1800.0}
                row = {"model": "m", "base_url": section.base_url, **facts}
                append_row(file, SpendRow.model_validate(row))
    summary = spend_summary(run, section)
    assert (summary.busy_s, summary.gpu_hours) == (3600.0, 2.0)


@pytest.mark.parametrize("key", ["k7", "ab-1", "s3cr", "x_9y", "none", "42", "EMPTY", "sk-long-enough"])
def test_a_key_of_any_length_is_cleaned_from_what_a_server_says(key: str) -> None:
    secret = Secret(key)
    told = f"bad token '{key}', sent as Authorization: Bearer {key}."
    assert key not in secret.excerpt(told)
    assert f"Bearer {key}" not in secret.clean(told)
    if not (key.isalpha() or key.isdigit()):
        assert key not in secret.clean(told)


def test_a_short_key_that_is_a_word_or_a_number_does_not_eat_replies() -> None:
    reply = "none of the 42 eggs is EMPTY; nonetheless 142 are"
    assert all(Secret(key).clean(reply) == reply for key in ("none", "42", "EMPTY", "x", "s"))
    assert Secret("k7").clean("k7 and k77") == "[key] and k77"
