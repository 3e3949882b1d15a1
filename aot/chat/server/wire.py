"""Requests as JSON bodies of the chat-completions API, and its reply bodies as records: pure functions.

Servers differ in where they put thinking and token counts; every known place is read. A body is taken whole or not at
all: whatever is not what the API promises is a Failure, never a guess.
"""

import base64
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from aot.chat.messages import ChatReply, ChatRequest, ImagePart, Message, TokenLogprob, WrittenCall
from aot.chat.server.bodies import REASONING_FIELDS, first_choice, read_json
from aot.chat.server.error_bodies import is_error
from aot.chat.server.failures import ErrorInside, Failure, Remedy
from aot.config import ChatConfig
from aot.display import storable
from aot.errors import ChatReason
from aot.run_records import ChatUsage

CHARACTERS_PER_TOKEN = 3
TOKENS_PER_IMAGE = 1000
Clean = Callable[[str], str]


def prompt_tokens(request: ChatRequest) -> int:
    """About how many tokens a request has, rather too many than too few."""
    parts = [part for message in request.messages for part in message.parts]
    images = sum(isinstance(part, ImagePart) for part in parts)
    characters = sum(len(part.text) for part in parts if not isinstance(part, ImagePart))
    characters += sum(len(call.arguments) + len(call.name) for m in request.messages for call in m.tool_calls)
    characters += sum(len(json.dumps(tool)) for tool in request.tools)
    return -(-characters // CHARACTERS_PER_TOKEN) + TOKENS_PER_IMAGE * images


@dataclass(frozen=True)
class Form:
    """In which form a server takes requests, as far as it has told; what is asked is the same in all of them."""

    renamed: bool = False
    """Whether the cap is called max_completion_tokens, as newer hosted models want it."""
    schema: int = 0
    """0 tells the wanted form of the reply strictly, 1 without `additionalProperties` (tools neither), 2 not at all."""
    counts: bool = True
    """Whether a stream is asked to tell its tokens."""

    def mended(self, remedy: Remedy) -> "Form":
        """The next form to try."""
        if remedy == "rename_max_tokens":
            return replace(self, renamed=True)
        if remedy == "drop_usage":
            return replace(self, counts=False)
        return replace(self, schema=1 if remedy == "open_schema" and self.schema == 0 else 2)

    def and_of(self, other: "Form") -> "Form":
        """What both have learned."""
        return Form(self.renamed or other.renamed, max(self.schema, other.schema), self.counts and other.counts)


def request_body(request: ChatRequest, *, section: ChatConfig, max_tokens: int, form: Form) -> dict[str, Any]:
    """The JSON body of a request, in the form that the server takes, without what `section` omits."""
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": section.model,
        "messages": [_written(message) for message in request.messages],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": max_tokens,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
    if request.tools:
        tools = list(request.tools) if form.schema == 0 else _without(list(request.tools), "additionalProperties")
        body |= {"tools": tools, "tool_choice": request.tool_choice}
    if request.json_schema is not None and form.schema < 2:
        shape: dict[str, Any] = {"name": "reply", "schema": request.json_schema, "strict": True}
        if form.schema == 1:
            shape = {"name": "reply", "schema": _without(request.json_schema, "additionalProperties")}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    if section.stream:
        body |= {"stream": True} | ({"stream_options": {"include_usage": True}} if form.counts else {})
    for name in section.omit:
        body.pop(name, None)
    if form.renamed and "max_tokens" in body:
        body["max_completion_tokens"] = body.pop("max_tokens")
    return {**body, **section.extra_body}


def read_reply(raw: bytes | dict[str, Any], *, clean: Clean, cap: int | None = None) -> ChatReply:
    """The reply in a body that came with status 200, as it came or put together from events.

    `cap` is the number of tokens asked for at most: a reply that has them all, and no word on why it ended, was cut.

    Raises:
        Failure: cut off, filtered, empty, or not a chat completion at all.
        ErrorInside: the body is an error in spite of its status.
    """
    try:
        body = read_json(raw) if isinstance(raw, bytes) else raw
        choices = body.get("choices") if isinstance(body, dict) else None
        if (not choices and is_error(body)) or (choices and body.get("error")):
            raise ErrorInside(raw if isinstance(raw, bytes) else json.dumps(raw).encode())
        usage = read_usage(body.get("usage"))
        choice = first_choice(body["choices"])
        if choice.get("error"):
            raise ErrorInside(json.dumps(choice).encode())
        capped = cap is not None and usage is not None and usage.completion_tokens >= cap
        model = clean(str(body.get("model") or ""))[:200]
        return _read_choice(choice, usage=usage, model=model, clean=clean, capped=capped)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, ValidationError) as error:
        size = f"of {len(raw)} bytes " if isinstance(raw, bytes) else ""
        message = f"a reply {size}with status 200 is no chat completion ({type(error).__name__})"
        if isinstance(raw, bytes) and raw[:100].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            message += ": it is a web page, as of a network that wants a sign-in or of a chat.base_url without its /v1"
        raise Failure("malformed", "again", message, billed=True) from None


def read_usage(counts: Any) -> ChatUsage | None:  # noqa: ANN401 - whatever came
    """Tokens by kind from any of the known names; None where the prompt or the reply is not counted.

    >>> read_usage({"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}})
    ChatUsage(prompt_tokens=9, cached_prompt_tokens=8, completion_tokens=4, reasoning_tokens=0)
    """
    if not isinstance(counts, dict):
        return None
    prompt = _count(counts, "prompt_tokens", "input_tokens")
    completion = _count(counts, "completion_tokens", "output_tokens")
    if prompt is None or completion is None:
        return None

    def detail(beside: tuple[str, str], *names: str) -> int:
        places = [*(counts.get(f"{name}_details") for name in beside), counts]
        return next((n for place in places if (n := _count(place, *names)) is not None), 0)

    in_cache = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
    cached = detail(("prompt_tokens", "input_tokens"), *in_cache)
    reasoning = detail(("completion_tokens", "output_tokens"), "reasoning_tokens")
    if reasoning and counts.get("total_tokens") == prompt + completion + reasoning:
        completion += reasoning  # some servers count thinking beside the reply instead of within it
    return ChatUsage(
        prompt_tokens=prompt,
        cached_prompt_tokens=min(cached, prompt),
        completion_tokens=completion,
        reasoning_tokens=min(reasoning, completion),
    )


def _written(message: Message) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.role}
    if any(isinstance(part, ImagePart) for part in message.parts):
        row["content"] = [
            {
                "type": "image_url",
                "image_url": {"url": f"data:{part.mime};base64,{base64.b64encode(part.data).decode()}"},
            }
            if isinstance(part, ImagePart)
            else {"type": "text", "text": storable(part.text)}
            for part in message.parts
        ]
    else:
        row["content"] = storable(message.text)
    if message.tool_calls:
        row["content"] = row["content"] or None
        row["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": storable(call.arguments)}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        row["tool_call_id"] = message.tool_call_id
    return row


def _read_choice(
    choice: dict[str, Any], *, usage: ChatUsage | None, model: str, clean: Clean, capped: bool
) -> ChatReply:
    said, finish = _said(choice), _finish(choice) or ("length" if capped else "stop")
    text, thought = _content(said.get("content"))
    beside = next((one for name in REASONING_FIELDS if (one := _flat(said.get(name)))), "")
    text, thought = clean(text), clean(beside or thought)
    calls = _calls(said, clean)
    refusal = said.get("refusal") or _refusal_part(said.get("content"))
    word = repr(" ".join(clean(str(refusal or finish)).split())[:200])
    failures: dict[str, tuple[ChatReason, Remedy, str]] = {
        "filtered": ("content_filter", "never", f"the model's provider filtered the reply ({word})"),
        "cut": ("truncated", "more_tokens", f"the reply was cut off after {_counted(usage)}"),
        "failed": ("malformed", "again", f"the server gave up in the middle of a reply (finish reason {word})"),
        "unknown": (
            "malformed",
            "once",
            f"a reply with the finish reason {word}, of which nobody can tell whether it means that the reply is "
            "whole; it was not taken",
        ),
    }
    reply = ChatReply(
        text=text,
        reasoning=thought,
        tool_calls=calls,
        finish_reason="tool_calls" if calls else "stop",
        model=model,
        usage=usage,
        logprobs=_logprobs(choice.get("logprobs"), clean),
    )
    if failure := failures.get(meaning := "filtered" if refusal else meaning_of(finish)):
        raise Failure(*failure, usage=usage, billed=True, so_far=reply if meaning == "cut" else None)
    if not text.strip() and not calls and _states_answer(thought):
        reply = reply.model_copy(update={"text": thought, "reasoning": ""})
    if not reply.text.strip() and not calls:
        message = f"the reply holds {'thinking only' if thought else 'nothing'} ({_counted(usage)})"
        raise Failure("empty", "more_tokens", message, usage=usage, billed=True, so_far=reply)
    return reply


def meaning_of(finish: Any) -> str:  # noqa: ANN401 - whatever came
    """What a finish reason means: `ended`, `cut`, `filtered`, `failed` or `unknown`.

    >>> [meaning_of(word) for word in ("eos_token", "MAX_TOKENS", "SAFETY", "abort", "banana")]
    ['ended', 'cut', 'filtered', 'failed', 'unknown']
    """
    if not isinstance(finish, str):
        return "unknown"
    word = re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", finish)).strip("_").lower()
    word = word.removeprefix("finish_reason_").removeprefix("stop_reason_")
    if meaning := next((meaning for meaning, words in _MEANINGS.items() if words.search(word)), ""):
        return meaning
    parts = set(word.split("_"))
    return "ended" if parts & _ENDS and parts <= _ENDS | _BESIDE_ENDS else "unknown"


def _finish(choice: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever came
    """Why a reply ended, by whichever name that is told; None where it is not, or as a word for nothing."""
    reason = next((choice[name] for name in _FINISH_FIELDS if choice.get(name)), None)
    if isinstance(reason, dict):
        reason = next((reason[name] for name in ("type", "reason") if reason.get(name)), reason)
    if isinstance(reason, str) and reason.lower().rpartition("_")[2] in ("null", "none", "unspecified"):
        reason = None
    native = choice.get("native_finish_reason")  # what the model's own server said, where a router stands between
    return native if isinstance(native, str) and meaning_of(native) == "cut" else reason


_FINISH_FIELDS = ("finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason")
_ENDS = {"eos", "eot", "stop", "stopped", "end", "eosfound", "endoftext", "natural", "s"}
_BESIDE_ENDS = {"token", "tokens", "id", "ids", "word", "string", "str", "sequence", "hit", "found", "matched", "by",
                "of", "text", "turn", "im", "reason", "stop", "message"}  # fmt: skip
"""Words that say nothing else beside one that means the end, as in `matched_stop` and `<|im_end|>`."""

_MEANINGS = {
    "filtered": re.compile(
        r"filter|safety|recitation|block|prohibit|spii|sensitiv|toxic|guardrail|moderat|refus|policy|language"
    ),
    "failed": re.compile(
        r"error|abort|cancel|fail|time_?out|interrupt|overload|network|insufficient|malformed|preempt|unload|user|expired"
    ),
    "cut": re.compile(r"length|limit|max_|context|truncat|incomplete|not_finished|unfinished|budget|out_of_"),
    "ended": re.compile(
        r"^(?:stop|stopped|stop_(?:sequence|sequences|string|str|token|word|words|turn|reason)|eos|eos_token|end|eot|end_of_text|"
        r"end_?turn|end_of_turn|end_of_sequence|ended|complete|completed|completion|finish|finished|done|success|succeeded|normal|tool|tool_use|tool_calls?|"
        r"function|function_calls?)$"
    ),
}
"""Finish reasons by what they mean, looked for in this order: what is cut short must never count as whole, so that only
words known for it mean the end."""


def _states_answer(thought: str) -> bool:
    """Whether thinking without a reply beside it is the reply: some servers put all of it into the field for thinking.

    The rule: behind the last end of a thought, its last line states the answer (`Answer:`, `the answer is`, `####` or a
    box) or stands below such a heading, or it ends with a JSON object. Whoever reads it decides what it says.
    """
    said = thought.rpartition("</think>")[2].strip()
    if said.endswith(("}", "```")) and _JSON_OBJECT.search(said[-200_000:]):
        return True
    lines = said[-20_000:].rsplit("\n", 2)
    heading = len(lines) > 1 and _ANSWER_HEADING.fullmatch(lines[-2].strip()) is not None
    return heading or _ANSWER_LINE.search(lines[-1]) is not None


_JSON_OBJECT = re.compile(r"\{\s*\"\w+\"\s*:")
_ANSWER_HEADING = re.compile(r"\W{0,8}(?:final )?answer\W{0,8}", re.IGNORECASE)
_ANSWER_LINE = re.compile(r"\banswer(?:\*\*)?\s?(?::|\bis\b)|####|\\(?:boxed|fbox)\s?\{", re.IGNORECASE)


def _counted(usage: ChatUsage | None) -> str:
    return "an untold number of tokens" if usage is None else f"{usage.completion_tokens} tokens"


def _content(content: Any) -> tuple[str, str]:  # noqa: ANN401 - whatever came
    """Text and thinking of a message's content, which is a string or a list of parts."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if isinstance(content, dict) and "text" in content:
        content = [content]
    if not isinstance(content, list):
        raise TypeError("content is neither text nor a list")
    parts = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in content]
    thought = [part for part in parts if part.get("type") in ("thinking", "reasoning")]
    return _flat([part for part in parts if part not in thought]), _flat(thought)


def _flat(value: Any) -> str:  # noqa: ANN401 - whatever came
    """The text inside strings, lists and parts of any of the known forms; nothing for the rest."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_flat(one) for one in value)
    if isinstance(value, dict):
        return next(
            (one for name in ("text", "value", "thinking", "content", "summary") if (one := _flat(value.get(name)))), ""
        )
    return ""


def _said(choice: dict[str, Any]) -> dict[str, Any]:
    """The message of a choice, also one that came as a piece of a stream or as mere text."""
    said = next((choice[name] for name in ("message", "delta") if choice.get(name)), None)
    if said is None and isinstance(choice.get("text"), str):
        return {"content": choice["text"]}
    if not isinstance(said, dict):
        raise TypeError("a choice without a message")
    return said


def _refusal_part(content: Any) -> Any:  # noqa: ANN401 - whatever came
    parts = content if isinstance(content, list) else []
    return next((one.get("refusal") for one in parts if isinstance(one, dict) and one.get("type") == "refusal"), None)


def _calls(said: dict[str, Any], clean: Clean) -> tuple[WrittenCall, ...]:
    """The tool calls of a message; each has an id of its own, since results are sent back under it."""
    written = said.get("tool_calls") or ()
    written = [written] if isinstance(written, dict) else list(written)
    parts = said.get("content") if not written else None
    if isinstance(parts, list):
        written += [one for one in parts if isinstance(one, dict) and one.get("type") in ("tool_use", "tool_call")]
    if said.get("function_call") and not written:
        written = [{"function": said["function_call"]}]
    calls: dict[str, WrittenCall] = {}
    for index, one in enumerate(written):
        call = _call(one, index, clean)
        own_id = call.id if call.id not in calls else f"{call.id}_{index}"
        calls[own_id] = call.model_copy(update={"id": own_id})
    return tuple(calls.values())


def _call(call: dict[str, Any], index: int, clean: Clean) -> WrittenCall:
    function = call["function"] if isinstance(call.get("function"), dict) else call
    arguments = next((function[name] for name in ("arguments", "parameters", "input") if function.get(name)), "{}")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments)
    elif arguments.lstrip().startswith('"'):  # packed twice
        with suppress(ValueError):
            arguments = json.loads(arguments)
    name, number = function["name"], call.get("id")
    if not isinstance(name, str) or not isinstance(number, str | int | None):
        raise TypeError("a tool call without a name")
    call_id = f"call_{index}" if number is None or number == "" else str(number)
    return WrittenCall(id=clean(call_id), name=clean(name), arguments=clean(arguments))


def _logprobs(logprobs: Any, clean: Clean) -> tuple[TokenLogprob, ...]:  # noqa: ANN401 - whatever came
    """Those of a reply's tokens, in the form of chat completions or, as some servers have them, in two lists."""
    if not isinstance(logprobs, dict):
        return ()
    pairs = zip(logprobs.get("tokens") or (), logprobs.get("token_logprobs") or (), strict=False)
    rows = logprobs.get("content") or [{"token": token, "logprob": logprob} for token, logprob in pairs]
    if not all(isinstance(one["token"], str) and isinstance(one["logprob"], int | float) for one in rows):
        return ()  # some give null for the first token, which takes nothing from a good reply
    spelled = "".join(one["token"] for one in rows)
    if clean(spelled) != storable(spelled):  # the key, in pieces that no longer look like it
        return ()
    return tuple(
        TokenLogprob(
            token=clean(one["token"]),
            logprob=one["logprob"],
            top=tuple((clean(other["token"]), other["logprob"]) for other in one.get("top_logprobs") or ()),
        )
        for one in rows
    )


def _count(counts: Any, *names: str) -> int | None:  # noqa: ANN401 - whatever came
    if not isinstance(counts, dict):
        return None
    values = (counts.get(name) for name in names)
    return next((n for n in values if isinstance(n, int) and not isinstance(n, bool) and n >= 0), None)


def _without(schema: Any, name: str) -> Any:  # noqa: ANN401 - JSON
    """A JSON value without any entry of that name."""
    if isinstance(schema, dict):
        return {key: _without(value, name) for key, value in schema.items() if key != name}
    return [_without(one, name) for one in schema] if isinstance(schema, list) else schema
