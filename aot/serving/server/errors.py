"""Errors as clients of OpenAI's API expect them: a status, and a body `{"error": {message, type, param, code}}`.

A message names what the client sent and what would be fine; never a path, an address or a traceback of this side.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from aot.display import storable
from aot.errors import ChatError, ChatReason, GuardStop

log = logging.getLogger(__name__)
RETRY_AFTER_S = 1
_MOST_PLACES, _MOST_CHARS = 100, 300
"""That an error tells of a body."""
TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 404: "invalid_request_error",
    405: "invalid_request_error",
    409: "invalid_request_error", 408: "timeout_error", 413: "invalid_request_error", 422: "invalid_request_error",
    429: "rate_limit_error", 499: "client_closed_request", 500: "server_error", 502: "server_error",
    503: "server_error", 504: "timeout_error",
}  # fmt: skip
_STATUS: dict[ChatReason, int] = {
    "bad_request": 400, "content_filter": 400, "too_long": 400, "rate_limited": 429, "timeout": 504,
    "quota": 502, "server_error": 502, "connection": 502, "malformed": 502, "setting": 502, "no_script": 500,
    "truncated": 502, "empty": 502,
}  # fmt: skip
_OF_THE_BACK_END = "the model behind this server gave no usable reply ({reason}); try again"


class ErrorDetail(BaseModel):
    """What went wrong, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of an answer with an error status."""

    error: ErrorDetail


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": words}
    for status, words in {
        400: "The request cannot be answered as it is", 401: "The key is missing or wrong",
        404: "No such path or model",
        409: "The answer waits for a person, or a person rejected it", 405: "Another method is meant",
        408: "The body came too slowly",
        413: "The body is too large", 422: "The reply cannot be of the form that was asked for",
        429: "Too many requests wait", 502: "The model behind this server gave no usable reply",
        503: "The server is stopping", 504: "The reply took too long",
    }.items()
}  # fmt: skip
"""Of every route, for the OpenAPI description."""
WAITS: dict[int | str, dict[str, Any]] = {202: {"description": "The answer waits for review by a person"}}
"""Of the routes that tell so in the form of their replies."""


class ApiError(Exception):
    """An answer with an error status; the message goes to the client as it is."""

    def __init__(self, status: int, message: str, *, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    @property
    def headers(self) -> dict[str, str]:
        """That go with the status."""
        if self.status in (429, 503):
            return {"Retry-After": str(RETRY_AFTER_S)}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}

    def body(self) -> dict[str, Any]:
        """As OpenAI words it."""
        kind = TYPES.get(self.status, "server_error")
        return {
            "error": {"message": self.message, "type": kind, "param": self.param or None, "code": self.code or None}
        }

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body(), status_code=self.status, headers=self.headers)


def bad(message: str, *, param: str = "", code: str = "") -> ApiError:
    """A request that cannot be answered as it is: status 400."""
    return ApiError(400, message, code=code, param=param)


def of_chat_error(error: ChatError) -> ApiError:
    """What a client is told of a reply that did not come."""
    status = _STATUS[error.reason]
    if status == 400:  # it is about the request, in words of our own
        code = "context_length_exceeded" if error.reason == "too_long" else ""
        return bad(str(error.args[0]), param="messages", code=code)
    log.warning("no reply (%s): %s", error.reason, error.args[0])
    return ApiError(status, _OF_THE_BACK_END.format(reason=error.reason), code=error.reason)


def handle(request: Request, error: Exception) -> JSONResponse:
    """The answer to any exception of a route."""
    return api_error(error).response()


def api_error(error: Exception) -> ApiError:
    """What a client is told of any exception; what is a mistake of this side goes to the log alone."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ChatError):
        return of_chat_error(error)
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    if isinstance(error, HTTPException):
        words = {404: "there is nothing at this path", 405: "this path takes another method"}
        return ApiError(error.status_code, words.get(error.status_code, str(error.detail)))
    if isinstance(error, GuardStop):
        log.warning("%s", error.args[0])
        return ApiError(503, "the server is stopping or has reached a limit; try again later")
    log.error("a request failed", exc_info=error)
    return ApiError(500, "the server failed on this request; the next one may go well", code="internal")


@contextmanager
def naming(param: str) -> Iterator[None]:
    """Errors that leave the block name this field of the body."""
    try:
        yield
    except ApiError as error:
        error.param = param
        raise


def places_of(error: RequestValidationError) -> list[dict[str, Any]]:
    """What is wrong where: type, loc and msg, without the body that came, which may be large or a secret."""
    return [
        {"type": one["type"], "loc": [_short(part) for part in one["loc"]], "msg": _short(one["msg"])}
        for one in error.errors()[:_MOST_PLACES]
    ]


def _short(part: str | int) -> str | int:
    return storable(part)[:_MOST_CHARS] if isinstance(part, str) else part


def _of_validation(error: RequestValidationError) -> ApiError:
    # Of a field that may have several forms the form that came nearest, which is the one looked into deepest.
    first = max(places_of(error), key=lambda one: len(one["loc"]))
    parts = [str(part) for part in first["loc"] if part != "body" and "[" not in str(part)]
    place = ".".join(parts)[:_MOST_CHARS]
    if first.get("type") == "json_invalid":
        return bad("the body is no JSON; send one JSON object")
    return bad(f"{place or 'the body'}: {first['msg']}", param=place)
