"""What servers of the field do differently, each as a function from a request and its good reply to what goes out.

Most were written down from the words of real servers (OpenAI, Mistral, DashScope, Gemini, Groq, llama.cpp, vLLM, TGI,
OpenRouter). `QUIRKS` names them; `mend` are the settings of `chat` that get on with the server, where some are needed.
"""

import gzip
import json
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fault_server import Body, Raw

Reply = Callable[[Body, Body], Raw | None]


@dataclass(frozen=True)
class Quirk:
    """One way to be different."""

    make: Callable[[], Reply]
    """A fresh one, which may count."""
    mend: dict[str, Any] = field(default_factory=dict)
    """Settings of `chat` without which nobody is answered."""
    says: str = ""
    """What the stop tells to do, where settings are needed."""
    structured: str = "off"
    answered: bool = True
    """Whether questions can be answered at all."""
    extra_calls: float = 0.1
    """More calls than questions that may be needed, as a share of these."""


def error(
    message: str, *, status: int = 400, listed: bool = False, headers: dict[str, str] | None = None, **more: Any
) -> Raw:
    """An error in the usual form, or in Gemini's list."""
    body: Any = {"error": {"message": message, **more}}
    return Raw(status, json.dumps([body] if listed else body).encode(), headers or {})


def sent(good: Body, **headers: str) -> Raw:
    """A reply as JSON."""
    return Raw(200, json.dumps(good).encode(), headers)


def refuses(name: str, reply: Raw, when: Callable[[Any], bool] = lambda value: True) -> Callable[[], Reply]:
    """A server that does not take a parameter, or not these values of it."""
    return lambda: lambda body, good: reply if name in body and when(body[name]) else None


def as_events(good: Body, *, end: str = "\n\n", done: bool = True) -> Raw:
    """A reply piece by piece."""
    choice = good["choices"][0]
    said = choice["message"]
    text = said.get("content") or ""
    pieces: list[Body] = [{"role": "assistant", "content": ""}]
    pieces += [{"content": text[i : i + 7]} for i in range(0, len(text), 7)]
    for index, call in enumerate(said.get("tool_calls") or ()):
        function = call["function"]
        pieces.append(
            {
                "tool_calls": [
                    {"index": index, "id": call["id"], "function": {"name": function["name"], "arguments": ""}}
                ]
            }
        )
        pieces += [{"tool_calls": [{"index": index, "function": {"arguments": one}}]} for one in function["arguments"]]
    events: list[Body] = [
        {"model": "m", "choices": [{"index": 0, "delta": piece, "finish_reason": None}]} for piece in pieces
    ]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    events.append({"choices": [], "usage": good["usage"]})
    lines = [": keep alive", *(f"data: {json.dumps(event)}" for event in events), *(["data: [DONE]"] if done else [])]
    return Raw(
        200, "".join(line + end for line in lines).encode(), {"Content-Type": "text/event-stream; charset=utf-8"}
    )


def streams_only() -> Reply:
    """DashScope's older models."""
    told = "This model only support stream mode, please enable the stream parameter to access the model. "
    return lambda body, good: as_events(good) if body.get("stream") else error(told, code="invalid_parameter_error")


def thinks_in_streams() -> Reply:
    """DashScope's hybrid models."""

    def reply(body: Body, good: Body) -> Raw | None:
        if body.get("stream"):
            return as_events(good)
        told = "parameter.enable_thinking must be set to false for non-streaming calls"
        return None if body.get("enable_thinking") is False else error(told, code="invalid_parameter_error")

    return reply


def quota_of_a_minute(most: int, window_s: float) -> Callable[[], Reply]:
    """Gemini's free tier, with a shorter minute."""

    def make() -> Reply:
        state = {"until_s": 0.0, "count": 0}

        def reply(body: Body, good: Body) -> Raw | None:
            now = time.monotonic()
            if now >= state["until_s"]:
                state.update(until_s=now + window_s, count=0)
            state["count"] += 1
            if state["count"] <= most:
                return None
            told = "You exceeded your current quota, please check your plan and billing details. For more information"
            violation = {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "quotaValue": str(most)}
            details = [
                {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]},
                {
                    "@type": "type.googleapis.com/google.rpc.RetryInfo",
                    "retryDelay": f"{state['until_s'] - now + 0.01:.3f}s",
                },
            ]
            return error(told, status=429, listed=True, code=429, details=details)

        return reply

    return make


def loads_for(seconds: float) -> Callable[[], Reply]:
    """llama.cpp while it reads its weights."""

    def make() -> Reply:
        ready_s: list[float] = []

        def reply(body: Body, good: Body) -> Raw | None:
            ready_s[1:] = []
            if not ready_s:
                ready_s.append(time.monotonic() + seconds)
            return (
                error("Loading model", status=503, code=503, type="unavailable_error")
                if time.monotonic() < ready_s[0]
                else None
            )

        return reply

    return make


def finishes(word: Any) -> Callable[[], Reply]:
    """A server with a finish reason of its own."""
    return lambda: lambda body, good: sent({**good, "choices": [{**good["choices"][0], "finish_reason": word}]})


def changed(change: Callable[[Body], Body]) -> Callable[[], Reply]:
    """A server that puts the message of its reply in another way."""

    def reply(body: Body, good: Body) -> Raw:
        choice = good["choices"][0]
        return sent({**good, "choices": [{**choice, "message": change(choice["message"])}]})

    return lambda: reply


def half_and_an_error(body: Body, good: Body) -> Raw:
    """A router whose provider fails in the middle of a stream, which it tells beside an empty piece."""
    lines = as_events(good, done=False).body.split(b"\n\n")[:4]
    event = {"error": {"code": 502, "message": "provider disconnected"}, "choices": [{"index": 0, "delta": {}}]}
    lines += [b"data: " + json.dumps(event).encode(), b"data: [DONE]"]
    return Raw(200, b"".join(line + b"\n\n" for line in lines), {"Content-Type": "text/event-stream"})


def in_latin_1(body: Body, good: Body) -> Raw:
    """A server that writes an old charset, and says so."""
    choice = good["choices"][0]
    said = {**choice["message"], "reasoning": "caf\u00e9"}
    raw = json.dumps({**good, "choices": [{**choice, "message": said}]}, ensure_ascii=False).encode("latin-1")
    return Raw(200, raw, {"Content-Type": "application/json; charset=ISO-8859-1"})


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def packed(pack: Callable[[bytes], bytes], name: str) -> Callable[[], Reply]:
    """A gateway that always packs."""
    headers = {"Content-Encoding": name} if name else {}
    return lambda: lambda body, good: Raw(200, pack(json.dumps(good).encode()), headers)


def once(make: Callable[[], Reply], times: int) -> Callable[[], Reply]:
    """The first calls only."""

    def fresh() -> Reply:
        reply, count = make(), [0]

        def some(body: Body, good: Body) -> Raw | None:
            count[0] += 1
            return reply(body, good) if count[0] <= times else None

        return some

    return fresh


_FIXED = error(
    "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported.",
    type="invalid_request_error", param="temperature", code="unsupported_value",
)  # fmt: skip
_PROBLEM = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 77}
_EXTRA = Raw(422, json.dumps({"object": "error", "message": {"detail": [_PROBLEM]}}).encode())
_GEMINI = error(
    "Invalid JSON payload received. Unknown name \"additionalProperties\" at 'generation_config.response_schema': "
    "Cannot find field.", listed=True, code=400,
)  # fmt: skip
_RENAMED = error(
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    type="invalid_request_error", param="max_tokens", code="unsupported_parameter",
)  # fmt: skip
_CAP = error("max_tokens is too large: 64. This model supports at most 32 completion tokens, whereas you provided 64.",
             param="max_tokens", code="invalid_value")  # fmt: skip
_GROQ = error("Failed to generate JSON. Please adjust your prompt. See 'failed_generation' for more details.",
              type="invalid_request_error", code="json_validate_failed", failed_generation="x")  # fmt: skip
_BOTH = error("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")

QUIRKS: dict[str, Quirk] = {
    "temp_fixed": Quirk(refuses("temperature", _FIXED, lambda t: t != 1), {"temperature": 1.0}, "chat.temperature"),
    "temp_gone": Quirk(
        refuses("temperature", error("`temperature` is deprecated for this model.")),
        {"omit": ["temperature"]},
        r"chat.omit=\[temperature\]",
    ),
    "temp_xor_top_p": Quirk(
        lambda: lambda body, good: _BOTH if {"temperature", "top_p"} <= body.keys() else None,
        {"omit": ["top_p"]},
        r"chat.omit=\[top_p\]",
    ),
    "seed_forbidden": Quirk(refuses("seed", _EXTRA), {"omit": ["seed"]}, r"chat.omit=\[seed\]"),
    "stream_only": Quirk(streams_only, {"stream": True}, "chat.stream=true"),
    "stream_thinking": Quirk(
        thinks_in_streams, {"extra_body": {"enable_thinking": False}}, r"chat.extra_body=\{enable_thinking: false\}"
    ),
    "cap_too_large": Quirk(refuses("max_tokens", _CAP, lambda cap: cap > 32), {"max_tokens": 32}, "chat.max_tokens"),
    "max_completion_tokens": Quirk(refuses("max_tokens", _RENAMED)),
    "stream_options_unknown": Quirk(
        lambda: (
            lambda body, good: error("Unknown field: stream_options") if "stream_options" in body else as_events(good)
        ),
        {"stream": True},
        "",
    ),
    "gemini_schema": Quirk(
        refuses("response_format", _GEMINI, lambda form: "additionalProperties" in json.dumps(form)), structured="auto"
    ),
    "groq_json": Quirk(refuses("response_format", _GROQ), structured="auto"),
    "grammar_500": Quirk(
        refuses("response_format", error("failed to parse grammar", status=500, code=500, type="server_error")),
        structured="auto",
    ),
    "schema_400": Quirk(
        refuses("response_format", error("This response_format type is unavailable now")), structured="auto"
    ),
    "quota_minute": Quirk(quota_of_a_minute(60, 0.5)),
    "loading_503": Quirk(loads_for(0.4)),
    **{
        f"finish_{word}": Quirk(finishes(word))
        for word in (
            "eos_token",
            "STOP",
            "completed",
            "COMPLETE",
            "tool_use",
            "end_turn",
            "FINISH_REASON_STOP",
            "stop_sequence",
            "eosFound",
            "matched_stop",
            "<|im_end|>",
            "null",
        )
    },
    "event_stream": Quirk(lambda: lambda body, good: as_events(good)),
    "event_stream_crlf": Quirk(lambda: lambda body, good: as_events(good, end="\r\n\r\n", done=False)),
    "event_stream_as_json": Quirk(lambda: lambda body, good: Raw(200, as_events(good).body)),
    "gzip": Quirk(packed(gzip.compress, "gzip")),
    "gzip_untold": Quirk(packed(gzip.compress, "")),
    "deflate": Quirk(packed(zlib.compress, "deflate")),
    "deflate_raw": Quirk(packed(_raw_deflate, "deflate")),
    "bom": Quirk(packed(lambda data: b"\xef\xbb\xbf" + data, "")),
    "reasoning_only": Quirk(
        changed(lambda said: {"role": "assistant", "content": None, "reasoning_content": said["content"]})
    ),
    "error_429_inside": Quirk(once(lambda: lambda body, good: error("slow down", status=200, code=429), 3)),
    "half_and_an_error": Quirk(once(lambda: half_and_an_error, 3), {"stream": True}),
    "throttled_400": Quirk(
        once(lambda: lambda *_: error("Requests rate limit exceeded, try again later.", code="Throttling.RateQuota"), 3)
    ),
    "loading_400": Quirk(once(lambda: lambda *_: error("Model is still loading"), 3)),
    "sign_in_page": Quirk(once(lambda: lambda *_: Raw(200, b"<html>Sign in", {"Content-Type": "text/html"}), 3)),
    "latin_1": Quirk(lambda: in_latin_1),
    "seed_500": Quirk(
        refuses("seed", error("seed is not supported", status=500)), {"omit": ["seed"]}, r"chat.omit=\[seed\]"
    ),
    "seed_403": Quirk(
        refuses("seed", error("parameter seed is not allowed for this model", status=403)),
        {"omit": ["seed"]},
        r"chat.omit=\[seed\]",
    ),
}
