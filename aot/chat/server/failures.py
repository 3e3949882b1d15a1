"""What can be wrong with one attempt at a request, and what follows from it; no socket, no waiting.

A failure is transient (the same request may go through later), permanent (it never will), or asks for another try in
another form: with a larger cap on tokens, or without a parameter that the server does not know. What makes all further
requests pointless is a ConfigError instead.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from aot.chat.server.error_bodies import ErrorBody, duration_s, named_parameter, read_error, way_out
from aot.errors import ChatReason, ConfigError
from aot.run_records import ChatUsage

Remedy = Literal[
    "again", "once", "never", "more_tokens", "rename_max_tokens", "open_schema", "drop_schema", "drop_usage"
]
OTHER_FORM: tuple[Remedy, ...] = ("rename_max_tokens", "open_schema", "drop_schema", "drop_usage")
"""What asks for the same request in another form, which changes nothing about what is asked."""


@dataclass
class Failure(Exception):
    """One attempt that gave no usable reply."""

    reason: ChatReason
    remedy: Remedy
    message: str
    """One line without secrets."""
    wait_s: float | None = None
    """How long the server asked to be left alone."""
    usage: ChatUsage | None = None
    billed: bool = False
    """Whether the server did the work, or may have done it."""
    refused_connection: bool = False
    """Whether nobody listens there at all."""
    refusal: str = ""
    """What tells this refusal from others, where the server did not accept the request itself; else empty."""
    unready: bool = False
    """Whether the server says that it is only starting."""
    so_far: object | None = None
    """The ChatReply of one that was cut off or holds nothing."""

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass
class ErrorInside(Exception):
    """An error that came in place of a reply, with status 200."""

    raw: bytes


def transient(reason: ChatReason, message: str, *, billed: bool = False, wait_s: float | None = None) -> Failure:
    """A failure after which the same request may be sent again."""
    return Failure(reason, "again", message, wait_s=wait_s, billed=billed)


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
    status: int,
    headers: Mapping[str, str],
    raw: bytes,
    *,
    server: Server,
    worked_before: bool,
    sent: Collection[str] = (),
) -> Failure | ConfigError:
    """What an HTTP status other than 200 means, or an error that came with 200 and tells its own status.

    `sent` names the parameters of the request.
    """
    error = read_error(raw)
    if status == 200:
        status = error.status or 500
    message = f"HTTP {status} from {server.base_url}: {server.excerpt(error.message) or 'no text'}"
    wait = _wait(headers, error)
    if status in (402, 429) or error.has(_QUOTA_WORDS) or (status >= 400 and error.has(_RATE_WORDS)):
        return _limited(status, error, message, wait)
    if status in (400, 403, 412, 422, 424) and error.has(_STARTING_WORDS):
        return Failure("server_error", "again", message, wait_s=wait, unready=True)
    names_one = error.has(_UNKNOWN_WORDS) and "<html" not in error.words and bool(named_parameter(error, sent))
    if status >= 500 and not worked_before and names_one:
        return _refusal(400, error, message, server, sent)
    if status >= 500 and error.has(_FORM_WORDS) and "response_format" in sent:
        return Failure("server_error", "drop_schema", message)
    if status >= 500 or status in _PASSING_STATUS:
        failure = transient("timeout" if status in (408, 504) else "server_error", message, wait_s=wait)
        failure.unready = status == 503 and error.has(_STARTING_WORDS)
        return failure
    if status in (400, 403, 422) and error.has(_FILTER_WORDS):
        return Failure("content_filter", "never", message)
    if status == 403 and names_one and "key" not in error.words:
        return _refusal(400, error, message, server, sent)
    if status in (401, 403):
        return ConfigError(
            f"the server at {server.base_url} refused the key read from {server.key_env} (HTTP {status}); "
            "put a valid one there, or name another variable in chat.api_key_env"
        )
    if status < 400 or (status in (404, 405) and not (error.own_format or names_one)):
        if worked_before:
            return transient("server_error", message)
        return ConfigError(
            f"{server.base_url} does not serve chat completions (HTTP {status}); "
            "chat.base_url should be the final address and usually ends in /v1"
        )
    if status == 404 and "model" in error.words and not names_one:
        return ConfigError(
            f"the server at {server.base_url} has no model {server.model!r}; correct chat.model or chat.base_url "
            f"({server.excerpt(error.message)})"
        )
    return _refusal(status, error, message, server, sent)


def _wait(headers: Mapping[str, str], error: ErrorBody) -> float | None:
    """How long to wait, by the headers or else by what the error says."""
    now, milliseconds = datetime.now(UTC), headers.get("retry-after-ms")
    in_ms = retry_after_s(milliseconds, now=now) if milliseconds else None
    told_s = in_ms / 1000 if in_ms else retry_after_s(headers.get("retry-after"), now=now) or error.wait_s
    return told_s or _reset_s(headers, now=now) or _reset_s(error.headers, now=now)


def _reset_s(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Seconds until the limits that are used up are full again, by headers such as `x-ratelimit-reset-tokens`."""
    low = {name.lower(): value.strip() for name, value in headers.items()}
    waits = []
    for name in [name for name in low if "ratelimit" in name.replace("-", "") and "reset" in name][:20]:
        left = low.get(name.replace("reset", "remaining"))
        if left == "0" or (left is None and name.endswith("reset")):
            waits.append(_until_s(low[name], now=now))
    return max((wait for wait in waits if wait), default=None)


def _until_s(text: str, *, now: datetime) -> float | None:
    """Seconds until a moment, given as a duration, as seconds or milliseconds since 1970, or as a date."""
    seconds = duration_s(text)
    if seconds is None:
        try:
            seconds = (datetime.fromisoformat(text) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    elif seconds > 1e9:
        seconds = seconds / (1000 if seconds > 1e11 else 1) - now.timestamp()
    return seconds if seconds > 0 else None


def _limited(status: int, error: ErrorBody, message: str, wait: float | None) -> Failure:
    """Too much was asked: of this minute, which passes while one waits, or of the account."""
    if error.has(("request too large", "request is too large")) and error.has(_MINUTE_WORDS):
        return Failure("rate_limited", "never", message)  # by the limits of today this one never fits
    if error.has(("(rpd)", "(tpd)")) and wait is not None:
        return transient("rate_limited", message, wait_s=wait)  # a day that moves along with the clock
    of_account = status == 402 or (error.has(_QUOTA_WORDS) and not error.has(_MINUTE_WORDS))
    if of_account and (status == 402 or wait is None or error.has(_BILL_WORDS)):
        return Failure("quota", "never", message)
    if error.has(_DAY_WORDS) and not error.has(_MINUTE_WORDS):
        return Failure("quota", "never", message)
    if wait is None and error.has(_MINUTE_WORDS) and not error.has(("second", "_second")):
        wait = _PART_OF_A_MINUTE_S
    return transient("rate_limited", message, wait_s=wait)


def _refusal(status: int, error: ErrorBody, message: str, server: Server, sent: Collection[str]) -> Failure:
    """What it means that a request itself was not accepted; a setting that is to be mended is named with the way."""

    def refused(reason: ChatReason, remedy: Remedy = "never") -> Failure:
        return Failure(reason, remedy, message, refusal=error.kind)

    parameter = "max_tokens" if error.cap_is_too_large else server.excerpt(named_parameter(error, sent))
    setting = Failure("setting", "never", f"{message}; {way_out(parameter, error, sent)}", refusal=error.kind)
    if error.cap_is_too_large:
        return setting
    if "max_tokens" in sent and (
        error.names("max_completion_tokens") or (error.names("max_tokens") and error.has(_UNKNOWN_WORDS))
    ):
        return refused("bad_request", "rename_max_tokens")
    if "additionalproperties" in error.words and {"response_format", "tools"} & set(sent):
        return refused("bad_request", "open_schema")
    if "response_format" in sent and error.has(_FORM_WORDS):
        return refused("bad_request", "drop_schema")
    if "stream_options" in sent and error.names("stream_options"):
        return refused("bad_request", "drop_usage")
    if status == 413 or error.has(_LONG_WORDS):
        return refused("too_long")
    return setting if parameter else refused("bad_request")


_QUOTA_WORDS = ("insufficient_quota", "exceeded your current quota", "quota exceeded", "billing_hard_limit",
                "insufficient balance", "insufficient credit", "insufficient_balance", "credit balance",
                "more credits", "out of credits", "balance is insufficient", "arrearage",
                "good standing", "欠费", "余额不足")  # fmt: skip
_BILL_WORDS = ("insufficient_quota", "billing_hard_limit", "balance", "insufficient credit", "more credits",
               "out of credits", "arrearage", "good standing", "欠费")  # fmt: skip
_RATE_WORDS = ("rate limit", "rate_limit", "ratelimit", "rate-limit", "too many requests", "throttl", "(rpm)", "(tpm)",
               "resource_exhausted", "too many concurrent", "concurrency limit", "capacity exceeded")  # fmt: skip
_PASSING_STATUS = (408, 409, 421, 423, 424, 425, 440, 449, 460, 498, 499)
"""Below 500, yet about the moment and not about the request."""
_PART_OF_A_MINUTE_S = 12.0
"""How long to wait for a limit by the minute that tells no time."""
_MINUTE_WORDS = ("per minute", "perminute", "per_minute", "per-minute", "per second", "persecond", "per_second",
                 "(rpm)", "(tpm)", "requests per min", "tokens per min")  # fmt: skip
_DAY_WORDS = ("per day", "perday", "per_day", "daily", "per month", "permonth", "monthly")
_STARTING_WORDS = ("loading", "warming up", "starting up", "still starting", "not ready", "initializing",
                   "initialising", "cold start")  # fmt: skip
_FILTER_WORDS = ("content_filter", "content filter", "content management policy", "content_policy", "moderation",
                 "flagged", "responsibleai", "data_inspection_failed")  # fmt: skip
_FORM_WORDS = ("response_format", "response format", "response_schema", "responseschema", "json_schema", "json schema",
               "guided_json", "guided decoding", "guided_decoding", "structured output", "structured_output", "grammar",
               "additionalproperties", "json mode", "json_mode", "json_object", "output_config", "output_format",
               "json_validate_failed", "failed to generate json", "initialize samplers")  # fmt: skip
_UNKNOWN_WORDS = ("unsupported", "not support", "unknown", "unrecognized", "not permitted", "extra_forbidden",
                  "unexpected", "not allowed", "not implemented", "extra fields", "不支持")  # fmt: skip
_LONG_WORDS = ("context_length", "context length", "maximum context", "context window", "max_model_len", "too long",
               "too large", "string_above_max_length", "exceeds the maximum", "prompt is longer",
               "exceed_context_size", "exceeds the available context", "at least 1, got -")  # fmt: skip
