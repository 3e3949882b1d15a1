"""What can be wrong with one attempt at a request, and what follows from it; no socket, no waiting.

A failure is transient (the same request may go through later), permanent (it never will), or asks for another try in
another form: with a larger cap on tokens, or without a parameter that the server does not know. What makes all further
requests pointless is a ConfigError instead.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from aot.chat.messages import ChatUsage
from aot.errors import ChatReason, ConfigError

Remedy = Literal["again", "never", "more_tokens", "rename_max_tokens", "drop_schema"]


@dataclass
class Failure(Exception):
    """One attempt that gave no usable reply."""

    reason: ChatReason
    remedy: Remedy
    told: str
    """One line without secrets."""
    wait_s: float | None = None
    """How long the server asked to be left alone."""
    usage: ChatUsage | None = None
    billed: bool = False
    """Whether the server did the work, or may have done it."""
    refused_connection: bool = False
    """Whether nobody listens there at all."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.told}"


def transient(reason: ChatReason, told: str, *, billed: bool = False, wait_s: float | None = None) -> Failure:
    """A failure after which the same request may be sent again."""
    return Failure(reason, "again", told, wait_s=wait_s, billed=billed)


def retry_after_s(value: str | None, *, now: datetime) -> float | None:
    """Seconds to wait by a Retry-After header, given in seconds or as an HTTP date; None where it says nothing usable.

    >>> retry_after_s("2", now=datetime(2026, 1, 1, tzinfo=UTC))
    2.0
    >>> retry_after_s("Thu, 01 Jan 2026 00:00:30 GMT", now=datetime(2026, 1, 1, tzinfo=UTC))
    30.0
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, TypeError, OverflowError, IndexError):
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    return seconds if 0 < seconds < float("inf") else None


@dataclass(frozen=True)
class Server:
    """What an error message about a server has to name."""

    model: str
    base_url: str
    key_env: str
    excerpt: Callable[[str], str]
    """Makes what the server said fit to be shown."""


def of_status(
    status: int, headers: Mapping[str, str], raw: bytes, *, server: Server, worked_before: bool
) -> Failure | ConfigError:
    """What an HTTP status other than 200 means."""
    code, message, own_format = _error_facts(raw)
    words = f"{code} {message}".lower()
    told = f"HTTP {status} from {server.base_url}: {server.excerpt(message) or 'no text'}"
    wait = retry_after_s(headers.get("retry-after-ms") and str(_ms(headers["retry-after-ms"])), now=datetime.now(UTC))
    wait = wait or retry_after_s(headers.get("retry-after"), now=datetime.now(UTC))
    if status == 402 or _has(words, _QUOTA_WORDS):
        return Failure("quota", "never", told)
    if status == 429:
        return transient("rate_limited", told, wait_s=wait)
    if status >= 500 or status in (408, 409, 425):
        return transient("timeout" if status in (408, 504) else "server_error", told, wait_s=wait)
    if status in (400, 403, 422) and _has(words, _FILTER_WORDS):
        return Failure("content_filter", "never", told)
    if status in (401, 403):
        return ConfigError(
            f"the server at {server.base_url} refused the key read from {server.key_env} (HTTP {status}); "
            "put a valid one there, or name another variable in chat.api_key_env"
        )
    if status < 400 or (status in (404, 405) and not own_format):
        if worked_before:
            return transient("server_error", told)
        return ConfigError(
            f"{server.base_url} does not serve chat completions (HTTP {status}); "
            "chat.base_url should be the final address and usually ends in /v1"
        )
    if status == 404 and "model" in words:
        return ConfigError(
            f"the server at {server.base_url} has no model {server.model!r}; correct chat.model or chat.base_url "
            f"({server.excerpt(message)})"
        )
    return _refusal(status, words, told)


def _refusal(status: int, words: str, told: str) -> Failure:
    """What it means that a request itself was not accepted."""
    if "max_completion_tokens" in words and "max_tokens" in words:
        return Failure("bad_request", "rename_max_tokens", told)
    if _has(words, ("response_format", "json_schema", "guided_json", "structured output")):
        return Failure("bad_request", "drop_schema", told)
    if status == 413 or _has(words, _LONG_WORDS):
        return Failure("too_long", "never", told)
    return Failure("bad_request", "never", told)


_QUOTA_WORDS = ("insufficient_quota", "exceeded your current quota", "billing_hard_limit", "insufficient balance",
                "insufficient credit", "insufficient_balance", "credit balance")  # fmt: skip
_FILTER_WORDS = ("content_filter", "content filter", "content management policy", "content_policy", "moderation",
                 "flagged", "responsibleai")  # fmt: skip
_LONG_WORDS = ("context_length", "context length", "maximum context", "context window", "max_model_len", "too long",
               "too large", "string_above_max_length", "exceeds the maximum", "prompt is longer")  # fmt: skip


def _has(words: str, any_of: tuple[str, ...]) -> bool:
    return any(one in words for one in any_of)


def _ms(value: str) -> float:
    try:
        return float(value) / 1000
    except ValueError:
        return 0.0


def _error_facts(raw: bytes) -> tuple[str, str, bool]:
    """Code and message of an error body, and whether it is of a form that chat servers use."""
    text = raw.decode("utf-8", "replace")
    try:
        body: Any = json.loads(text)
    except (ValueError, RecursionError):
        return "", text, False
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, str):
        return "", error, True
    if not isinstance(error, dict):
        return "", text, False
    inner = error.get("innererror")
    code = f"{error.get('code')} {error.get('type')} {inner.get('code') if isinstance(inner, dict) else ''}"
    message = error.get("message")
    return code, message if isinstance(message, str) else text, "message" in error
