"""What the body of a server's error says, in whatever form: words, code, named parameter, time to wait, way out of it.

It could not stand in `failures`, which knows what follows from an error and not how servers write one. Everything here
is what a stranger wrote: it is read within limits, and only `ErrorBody.message` is ever shown, after cleaning.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

_MOST_TEXT = 20_000
_WAIT = re.compile(
    r"(?:retry|try again|wait|available again|reset)\D{0,24}"
    r"(\d{1,9}(?:\.\d{1,9})?\s*[a-z]{1,12}(?:\s*\d{1,9}(?:\.\d{1,9})?\s*[a-z]{1,12}){0,2})",
    re.IGNORECASE,
)
_DURATION = re.compile(
    r"(\d{1,13}(?:\.\d{1,9})?)\s*(ms|milliseconds?|h|hours?|m|mins?|minutes?|s|secs?|seconds?)(?![a-z])", re.IGNORECASE
)
_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0}
_SECONDS = re.compile(r"\s*(\d{1,13}(?:\.\d{1,9})?)\s*s?\s*")
_MISSING = re.compile(r"missing (?:required )?(?:parameter|field|argument|property)s?\W{1,4}(\w{1,60})", re.IGNORECASE)
_CAP = re.compile(r"\bmax_?(?:completion_?|output_?|new_?)?tokens\b", re.IGNORECASE)
_CAP_LIMIT = ("too large", "too high", "at most", "exceed", "maximum", "less than", "greater than", "range", "between",
              "larger than", "up to")  # fmt: skip
_CONTEXT = re.compile(r"context length is (\d{1,9})\D.{0,200}?(\d{1,9}) (?:in the messages|input tokens)", re.DOTALL)
_STREAM_ONLY = re.compile(r"only supports? (?:the )?stream|non-?stream\w*|stream\w* (?:mode )?(?:is )?(?:required|only)"
                          r"|(?:enable|use|requires?|set) (?:the )?[`'\"]?stream", re.IGNORECASE)  # fmt: skip
_ALLOWED_NAMES = re.compile(
    r"expected one of|allowed (?:fields|parameters|values)|valid (?:fields|parameters)|supported parameters (?:are|:)"
)
"""What a list of parameters that are taken begins with."""
_NOT_TAKEN = re.compile(
    r"support|permit|allow|unrecogni[sz]ed|unknown|unexpected|extra_forbidden|extra inputs|invalid|must |only|cannot|"
    r"can't|can not|deprecated|not accept|does not take|should be|not available|exclusive|out of range|incompatible|"
    r"not implemented|not enabled|disabled|不支持|无效|非法",
    re.IGNORECASE,
)
_STATUS_WORDS = {
    402: ("insufficient_quota", "insufficient balance", "insufficient_balance", "payment", "insufficient credit"),
    429: ("rate_limit", "rate limit", "too many requests", "resource_exhausted", "quota"),
    401: ("invalid_api_key", "api key", "unauthori", "unauthenticated", "authentication", "permission_denied"),
    404: ("model_not_found",),
    503: ("overloaded", "unavailable"),
    400: (
        "invalid_request",
        "invalid_argument",
        "context_length",
        "bad_request",
        "bad request",
        "invalidparameter",
        "invalid_parameter",
        "invalid parameter",
        "unknown parameter",
        "unsupported_",
    ),
}


@dataclass(frozen=True)
class ErrorBody:
    """What an error body says."""

    message: str
    """As the server wrote it; not fit to be shown."""
    code: str = ""
    param: str = ""
    """The parameter that it is about, or the path to it, where it says so."""
    status: int | None = None
    """Told inside the body."""
    wait_s: float | None = None
    own_format: bool = False
    """Whether the body is of a form that chat servers use."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of a server behind this one, as a router tells them."""

    @cached_property
    def words(self) -> str:
        """Everything in it that can be looked for, in small letters."""
        return f"{self.code} {self.message} {self.param}".lower()

    def has(self, any_of: Collection[str]) -> bool:
        """Whether any of these words is in it."""
        return any(one in self.words for one in any_of)

    def names(self, parameter: str) -> bool:
        """Whether it speaks of this parameter, and not of one whose name only begins alike."""
        return self.place_of(parameter) >= 0

    def place_of(self, parameter: str) -> int:
        """Where it speaks of this parameter first, but in a list of those that are taken; -1 for nowhere."""
        place = re.search(rf"(?<!\w){re.escape(parameter.lower())}(?!\w)", _ALLOWED_NAMES.split(self.words)[0])
        return -1 if place is None else place.start()

    @property
    def kind(self) -> str:
        """The same for refusals that differ only in numbers, names and what they quote."""
        return re.sub(r"`[^`]*`|\"[^\"]*\"|'[^']*'|\S*\d\S*", "_", self.words[:600])

    @property
    def cap_is_too_large(self) -> bool:
        """Whether it is the cap on the reply that the server does not take, rather than a long prompt."""
        if context := _CONTEXT.search(self.message[:4000]):
            return 2 * int(context[2]) < int(context[1])
        return _CAP.search(self.words) is not None and self.has(_CAP_LIMIT)


def read_error(raw: bytes) -> ErrorBody:
    """What `raw` says; any bytes will do."""
    text = raw.decode(json.detect_encoding(raw), "replace").removeprefix("\ufeff")
    try:
        body: Any = json.loads(text)
    except (ValueError, RecursionError):
        return ErrorBody(text[:_MOST_TEXT], wait_s=_wait_in(text))
    if isinstance(body, list):  # as Gemini sends them
        body = body[0] if body else {}
    outer = body if isinstance(body, dict) else {}
    error = next((outer[name] for name in ("error", "base_resp") if outer.get(name)), body)
    if isinstance(error, str):
        status, wait_s = _status_of(outer, error), _wait_of(outer, error)
        return ErrorBody(error[:_MOST_TEXT], status=status, wait_s=wait_s, own_format=True)
    if not isinstance(error, dict):
        return ErrorBody(text[:_MOST_TEXT])
    message, param = _message(error)
    details = " ".join(
        _words([error[name] for name in ("details", "params") if isinstance(error.get(name), dict | list)])
    )
    inner = error.get("innererror")
    codes = [error.get(name) for name in ("code", "type", "status", "status_code")]
    codes += [inner.get("code")] if isinstance(inner, dict) else []
    code = " ".join([*(str(one) for one in codes if isinstance(one, str | int)), details])
    within = error.get("metadata")
    headers = within.get("headers") if isinstance(within, dict) else None
    return ErrorBody(
        (message or text)[:_MOST_TEXT],
        code=code,
        param=param[:200],
        status=_status_of(error, f"{code} {message}"),
        wait_s=_wait_of(error, f"{message} {details}") or _wait_of(outer, ""),
        own_format="message" in error or "msg" in error or isinstance(error.get("detail"), list),
        headers={str(name): str(value)[:60] for name, value in list(headers.items())[:50]}
        if isinstance(headers, dict)
        else {},
    )


def is_error(body: Any) -> bool:  # noqa: ANN401 - whatever came
    """Whether a body without a choice is an error that came with status 200."""
    if isinstance(body, list):
        return bool(body) and isinstance(body[0], dict) and bool(body[0].get("error"))
    if not isinstance(body, dict) or (isinstance(said := body.get("message"), dict) and "content" in said):
        return False  # the latter is a reply by another API than chat completions
    return any(body.get(name) for name in ("error", "errors", "message", "msg", "detail", "base_resp"))


def named_parameter(error: ErrorBody, sent: Collection[str]) -> str:
    """The parameter of the request that the server does not take, or misses; empty where it names none."""
    path = [one for one in re.split(r"[^\w]+", error.param) if one and not one.isdigit() and one != "body"]
    if path and path[0] not in ("messages", "model", "input"):
        return next((one for one in path if one in sent), path[0])
    if missing := _MISSING.search(error.message[:4000]):
        return missing[1]
    if _STREAM_ONLY.search(error.message[:4000]):
        return "stream"
    if not _NOT_TAKEN.search(error.message[:4000]):
        return ""
    named = [name for name in sent if name not in ("messages", "model") and error.names(name)]
    return min(named, key=error.place_of, default="")


def way_out(name: str, error: ErrorBody, sent: Collection[str]) -> str:
    """The setting that mends what the server says about a parameter."""
    if _STREAM_ONLY.search(error.message[:4000]) and "stream" not in sent:
        parameter = next((one for one in ("enable_thinking", "thinking") if error.names(one)), "")
        switch = f"chat.extra_body={{{parameter}: false}} or " if parameter else ""
        return f"set {switch}chat.stream=true"
    if name == "stream":
        return "set chat.stream=" + ("false" if "stream" in sent else "true")
    if error.names("temperature") and error.names("top_p"):
        return "leave one of both out by chat.omit=[top_p] or chat.omit=[temperature]"
    mending = {
        "temperature": "give chat.temperature a value that it takes, or leave it out by chat.omit=[temperature]",
        "top_p": "give chat.top_p a value that it takes, or leave it out by chat.omit=[top_p]",
        "seed": "leave it out by chat.omit=[seed]",
        "max_tokens": "lower chat.max_tokens, or leave the cap to the server by chat.omit=[max_tokens]",
        "response_format": "leave it out by chat.omit=[response_format]",
        "tool_choice": "leave it out by chat.omit=[tool_choice]",
        "tools": "take a model and server that call tools, or another teacher.planner",
        "stream_options": "leave it out by chat.omit=[stream_options]",
        "logprobs": "set chat.logprobs=false, or take a server that tells log-probabilities",
        "top_logprobs": "leave it out by chat.omit=[top_logprobs], or set chat.logprobs=false",
    }
    mending["max_completion_tokens"] = mending["max_tokens"]
    if name in mending:
        return mending[name]
    if name in sent:
        return f"change or take out {name} in chat.extra_body"
    return f"give it what it wants by chat.extra_body={{{name}: …}}"


def _message(error: dict[str, Any]) -> tuple[str, str]:
    """Message and named parameter; a list of problems becomes one line without what it echoes of the request."""
    message = next((error[name] for name in ("message", "msg", "detail", "status_msg") if error.get(name)), "")
    param = error.get("param") if isinstance(error.get("param"), str) else ""
    if isinstance(message, dict):
        message = message.get("detail", message)
    if isinstance(message, list):
        problems = [one for one in message[:20] if isinstance(one, dict)]
        places = [[str(part) for part in one.get("loc") or ()][:6] for one in problems]
        texts = [
            f"{one.get('type', '')} {'.'.join(place)}: {one.get('msg', '')}"
            for one, place in zip(problems, places, strict=True)
        ]
        return "; ".join(texts), param or next((".".join(place) for place in places if place), "")
    return (message if isinstance(message, str) else json.dumps(message)[:_MOST_TEXT]), param or ""


def _words(value: Any, depth: int = 0) -> Iterator[str]:  # noqa: ANN401 - whatever came
    """Texts and names inside a value, few levels deep."""
    if isinstance(value, str):
        yield value[:300]
    elif isinstance(value, dict | list) and depth < 5:
        for one in list(value.values() if isinstance(value, dict) else value)[:20]:
            yield from _words(one, depth + 1)


def _status_of(error: dict[str, Any], words: str) -> int | None:
    """The HTTP status that an error names itself, or that its words stand for."""
    for name in ("code", "status", "status_code", "statusCode"):
        value = error.get(name)
        number = int(value) if isinstance(value, int) or (isinstance(value, str) and value.isdecimal()) else 0
        if 400 <= number < 600:
            return number
    low = words.lower()
    return next((status for status, some in _STATUS_WORDS.items() if any(one in low for one in some)), None)


def _wait_of(error: dict[str, Any], words: str) -> float | None:
    """Seconds to wait by a field of an error, by its details, or by its words."""
    details = error.get("details")
    places = [error, *(one for one in (details if isinstance(details, list) else []) if isinstance(one, dict))]
    for place in places[:20]:
        for name in ("retryDelay", "retry_delay", "retry_after", "retryAfter", "estimated_time"):
            value = place.get(name)
            value = value.get("seconds") if isinstance(value, dict) else value
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                continue
            if seconds := duration_s(str(value)[:60]):
                return seconds
    return _wait_in(words)


def _wait_in(words: str) -> float | None:
    """Seconds in words such as `Please retry in 4.2s` or `try again in 1m30s`."""
    for mention in _WAIT.finditer(words[:4000]):
        if (seconds := _sum_s(mention[1])) > 0:
            return seconds
    return None


def duration_s(text: str) -> float | None:
    """Seconds, given as a number or with units; None for anything else.

    >>> [duration_s(told) for told in ("37s", "1m30s", "250ms", "12", "0.5", "soon")]
    [37.0, 90.0, 0.25, 12.0, 0.5, None]
    """
    if seconds_only := _SECONDS.fullmatch(text):
        return float(seconds_only[1])
    seconds = _sum_s(text) if not _DURATION.sub("", text).strip() else 0.0
    return seconds if seconds > 0 else None


def _sum_s(text: str) -> float:
    parts = _DURATION.findall(text)
    units = [0.001 if unit.lower().startswith(("ms", "mil")) else _UNIT_S[unit[0].lower()] for _, unit in parts]
    return sum(float(number) * unit for (number, _), unit in zip(parts, units, strict=True))
