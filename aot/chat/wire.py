"""Requests as JSON bodies of the chat-completions API, and its reply bodies as records: pure functions.

Servers differ in where they put thinking and token counts; every known place is read. A body is taken whole or not at
all: whatever is not what the API promises is a Failure, never a guess.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from aot.chat.failures import Failure
from aot.chat.messages import ChatReply, ChatRequest, ChatUsage, ImagePart, Message, TokenLogprob, WrittenCall

CHARACTERS_PER_TOKEN = 3
TOKENS_PER_IMAGE = 1000
Clean = Callable[[str], str]
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "reasoning_details", "thoughts")


def prompt_tokens(request: ChatRequest) -> int:
    """About how many tokens a request has, rather too many than too few."""
    characters = sum(len(call.arguments) + len(call.name) for m in request.messages for call in m.tool_calls)
    images = 0
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, ImagePart):
                images += 1
            else:
                characters += len(part.text)
    characters += sum(len(json.dumps(tool)) for tool in request.tools)
    return -(-characters // CHARACTERS_PER_TOKEN) + TOKENS_PER_IMAGE * images


def request_body(request: ChatRequest, *, model: str, max_tokens: int, renamed: bool, schema: bool) -> dict[str, Any]:
    """The JSON body of a request.

    `renamed` calls the cap max_completion_tokens, as newer hosted models want it; without `schema` the wanted form of
    the reply is not told.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": [_written(message) for message in request.messages],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_completion_tokens" if renamed else "max_tokens": max_tokens,
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if sampling.top_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
    if request.tools:
        body |= {"tools": list(request.tools), "tool_choice": request.tool_choice}
    if request.json_schema is not None and schema:
        form = {"name": "reply", "schema": request.json_schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body


def read_reply(raw: bytes, *, clean: Clean) -> ChatReply:
    """The reply in a body that came with status 200.

    Raises:
        Failure: cut off, filtered, empty, or not a chat completion at all.
    """
    try:
        body = json.loads(raw.decode(), parse_constant=_no_constant)
        usage = read_usage(body.get("usage"))
        choice = body["choices"][0]
        return _read_choice(choice, usage=usage, model=clean(str(body.get("model") or ""))[:200], clean=clean)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, ValidationError) as error:
        told = f"a reply of {len(raw)} bytes with status 200 is no chat completion ({type(error).__name__})"
        raise Failure("malformed", "again", told, billed=True) from None


def read_usage(told: Any) -> ChatUsage | None:  # noqa: ANN401 - whatever came
    """Tokens by kind from any of the known names; None where the prompt or the reply is not counted.

    >>> read_usage({"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}})
    ChatUsage(prompt_tokens=9, cached_prompt_tokens=8, completion_tokens=4, reasoning_tokens=0)
    """
    if not isinstance(told, dict):
        return None
    prompt = _count(told, "prompt_tokens", "input_tokens")
    completion = _count(told, "completion_tokens", "output_tokens")
    if prompt is None or completion is None:
        return None
    details = [told.get(name) for name in ("prompt_tokens_details", "input_tokens_details")]
    names = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
    cached = next((n for one in [*details, told] if (n := _count(one, *names)) is not None), 0)
    details = [told.get(name) for name in ("completion_tokens_details", "output_tokens_details")]
    reasoning = next((n for one in [*details, told] if (n := _count(one, "reasoning_tokens")) is not None), 0)
    if reasoning and told.get("total_tokens") == prompt + completion + reasoning:
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
            {"type": "image_url", "image_url": {"url": _data_url(part)}}
            if isinstance(part, ImagePart)
            else {"type": "text", "text": _whole(part.text)}
            for part in message.parts
        ]
    else:
        row["content"] = _whole(message.text)
    if message.tool_calls:
        row["content"] = row["content"] or None
        row["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _whole(call.arguments)}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        row["tool_call_id"] = message.tool_call_id
    return row


def _whole(text: str) -> str:
    """`text` with question marks for half characters, which cannot be sent."""
    return text.encode("utf-8", "replace").decode()


def _data_url(part: ImagePart) -> str:
    return f"data:{part.mime};base64,{base64.b64encode(part.data).decode()}"


def _read_choice(choice: dict[str, Any], *, usage: ChatUsage | None, model: str, clean: Clean) -> ChatReply:
    said, finish = choice["message"], choice.get("finish_reason") or "stop"
    text, thought = _content(said.get("content"))
    beside = next((one for name in _REASONING_FIELDS if (one := _flat(said.get(name)))), "")
    text, thought = clean(text), clean(beside or thought)
    calls = tuple(_call(one, i, clean) for i, one in enumerate(said.get("tool_calls") or ()))
    if finish == "content_filter" or said.get("refusal"):
        told = f"the model's provider filtered the reply ({clean(str(said.get('refusal') or finish))[:200]})"
        raise Failure("content_filter", "never", told, usage=usage, billed=True)
    if finish == "length":
        told = f"the reply was cut off after {_told(usage)}"
        raise Failure("truncated", "more_tokens", told, usage=usage, billed=True)
    if finish not in ("stop", "tool_calls", "function_call", "eos", "end_turn", "stop_sequence"):
        raise ValueError(f"finish reason {finish!r}")
    if not text.strip() and not calls:
        told = f"the reply holds {'thinking only' if thought else 'nothing'} ({_told(usage)})"
        raise Failure("empty", "more_tokens", told, usage=usage, billed=True)
    return ChatReply(
        text=text,
        reasoning=thought,
        tool_calls=calls,
        finish_reason="tool_calls" if calls else "stop",
        model=model,
        usage=usage,
        logprobs=_logprobs(choice.get("logprobs"), clean),
    )


def _told(usage: ChatUsage | None) -> str:
    return "an untold number of tokens" if usage is None else f"{usage.completion_tokens} tokens"


def _content(content: Any) -> tuple[str, str]:  # noqa: ANN401 - whatever came
    """Text and thinking of a message's content, which is a string or a list of parts."""
    if content is None or isinstance(content, str):
        return content or "", ""
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
        return next((one for name in ("text", "thinking", "content", "summary") if (one := _flat(value.get(name)))), "")
    return ""


def _call(call: dict[str, Any], index: int, clean: Clean) -> WrittenCall:
    function = call["function"]
    arguments = function.get("arguments") or "{}"
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments)
    name = function["name"]
    if not isinstance(name, str) or not isinstance(call.get("id") or "", str):
        raise TypeError("a tool call without a name")
    return WrittenCall(id=clean(call.get("id") or f"call_{index}"), name=clean(name), arguments=clean(arguments))


def _logprobs(told: Any, clean: Clean) -> tuple[TokenLogprob, ...]:  # noqa: ANN401 - whatever came
    if not isinstance(told, dict):
        return ()
    return tuple(
        TokenLogprob(
            token=clean(one["token"]),
            logprob=one["logprob"],
            top=tuple((clean(other["token"]), other["logprob"]) for other in one.get("top_logprobs") or ()),
        )
        for one in told.get("content") or ()
    )


def _count(told: Any, *names: str) -> int | None:  # noqa: ANN401 - whatever came
    if not isinstance(told, dict):
        return None
    found = (told.get(name) for name in names)
    return next((n for n in found if isinstance(n, int) and not isinstance(n, bool) and n >= 0), None)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} in a reply")
