"""The page on which a person reviews, behind an address of this machine that only who was told its token can use.

What keeps others out: it listens on loopback; every request names this host, so that no foreign name that was made to
point here (DNS rebinding) gets in; data and verdicts need the token in a header, which no form and no picture of
another site can send; a request that a browser says to come from elsewhere is refused. The page itself holds no data,
puts all of it in as text, and its policy runs no script and loads nothing but what this server has.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aot.display import clean, storable
from aot.errors import AotError, first_problem
from aot.files.jsonl import parse_json
from aot.review.rows import ReviewBook
from aot.review_records import MAX_ANSWER_CHARS, MAX_NAME_CHARS, MAX_NOTE_CHARS, ReviewRow, Said
from aot.serving.review.items import Item, clean_name

MAX_BODY_BYTES = 64_000
TOKEN_HEADER = "x-aot-token"  # noqa: S105 - the name of a header
_PAGE = Path(__file__).with_name("page.html")
_SAME = ("same-origin", "none")


class VerdictIn(BaseModel):
    """What the page sends."""

    model_config = ConfigDict(extra="forbid")

    place: int
    """Number of the item."""
    digest: str = Field(max_length=100)
    reviewer: str = Field(max_length=MAX_NAME_CHARS)
    verdict: Said
    correction: str = Field(default="", max_length=MAX_ANSWER_CHARS)
    note: str = Field(default="", max_length=MAX_NOTE_CHARS)


class RefusedError(Exception):
    """A request that gets nothing but a status and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Reviewing:
    """Items to be reviewed, and the book in which verdicts are noted."""

    def __init__(self, name: str, items: Sequence[Item], book: ReviewBook, *, reviewer: str = "") -> None:
        self.name, self.items, self.book, self.reviewer = name, list(items), book, reviewer
        self.token = secrets.token_urlsafe(24)

    def state(self, reviewer: str) -> dict[str, Any]:
        """What there is, and what this reviewer has said of it; nobody sees what others said before he has spoken."""
        said = [self.book.last(one.id, one.digest, reviewer=reviewer) for one in self.items]
        return {
            "name": self.name, "reviewer": self.reviewer,
            "items": [
                {"id": one.id, "subject": one.subject, "waiting": one.is_waiting,
                 "verdict": row.verdict if row else "", "correction": row.correction if row else "",
                 "note": row.note if row else ""}
                for one, row in zip(self.items, said, strict=True)
            ],
        }  # fmt: skip

    def item(self, place: int) -> Item:
        """The item of that number.

        Raises:
            RefusedError: there is none.
        """
        if not 0 <= place < len(self.items):
            raise RefusedError(404, f"there is no item {place}; there are {len(self.items)}")
        return self.items[place]

    def note(self, given: VerdictIn) -> ReviewRow:
        """Append a verdict.

        Raises:
            RefusedError: the item is not there or has changed, the reviewer has no name, or the correction is none.
            AotError: the disk refuses it.
        """
        reviewer, item = clean_name(given.reviewer), self.item(given.place)
        by_look = {clean(choice): choice for choice in item.question.choices}
        correction = storable(by_look.get(given.correction, given.correction)).strip()
        if item.digest != given.digest:
            raise RefusedError(409, "this item is not here, or is another one by now; load the page again")
        if not reviewer:
            raise RefusedError(422, "say who you are first: an id of printable characters")
        if (given.verdict == "corrected") != bool(correction):
            raise RefusedError(422, "a correction has an answer, and other verdicts have none")
        if correction and item.question.choices and correction not in item.question.choices:
            raise RefusedError(422, "the right answer must be one of the choices; reject it where none is right")
        if correction and correction == item.answer.strip():
            raise RefusedError(422, "the correction is the answer that stands there already; approve it instead")
        if given.verdict == "approved" and not item.answer.strip():
            raise RefusedError(422, "there is no answer to approve; write the right one, or reject it")
        return self.book.note(
            ReviewRow(
                subject=item.subject, item=item.id, digest=item.digest, reviewer=reviewer, time_s=0.0,
                verdict=given.verdict, correction=correction, note=storable(given.note).strip(), answer=item.answer,
                question=item.question,
            )
        )  # fmt: skip


def review_app(reviewing: Reviewing, *, hosts: Sequence[str]) -> FastAPI:
    """The application; `hosts` are the names, with the port, under which a browser may ask for it."""
    app = FastAPI(title="aot review", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def border(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            check_request(request, hosts=hosts, token=reviewing.token)
            response = await call(request)
        except RefusedError as error:
            response = JSONResponse({"error": error.message}, error.status)
        response.headers.update(_headers())
        return response

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return JSONResponse({"error": error.message}, error.status)

    @app.get("/")
    async def page() -> Response:
        return HTMLResponse(page_text())

    @app.get("/api/state")
    async def state(reviewer: str = "") -> Response:
        return JSONResponse(_shown(reviewing.state(clean_name(reviewer[:MAX_NAME_CHARS]))))

    @app.get("/api/items/{place}")
    async def item(place: int) -> Response:
        return JSONResponse(_shown(reviewing.item(place).shown()))

    @app.get("/api/items/{place}/frames/{number}")
    def frame(place: int, number: int) -> Response:
        one = reviewing.item(place)
        if one.read_picture is None or not 0 <= number < len(one.frames_s):
            raise RefusedError(404, "there is no such frame")
        try:
            return Response(one.read_picture(number), media_type="image/jpeg")
        except (AotError, KeyError, OSError) as error:
            raise RefusedError(404, f"the frame cannot be shown ({type(error).__name__})") from None

    @app.post("/api/verdicts")
    async def note(request: Request) -> Response:
        given = await _verdict_in(request)
        try:
            row = reviewing.note(given)
        except AotError as error:
            raise RefusedError(507, f"the verdict was not written: {error.args[0]}") from None
        return JSONResponse(_shown(row.model_dump(include={"time_s", "verdict", "correction", "note"})))

    return app


def check_request(request: Request, *, hosts: Sequence[str], token: str) -> None:
    """Let in who was told the token and asks for this host from the page itself.

    Raises:
        RefusedError: it is somebody else.
    """
    headers = request.headers
    if headers.get("host", "") not in hosts:
        raise RefusedError(421, f"this server answers for {hosts[0]} only")
    if "origin" in headers and headers["origin"] not in [f"http://{host}" for host in hosts]:
        raise RefusedError(403, "a page of another site may not ask this server")
    is_page = request.method == "GET" and request.url.path == "/"
    if not is_page and headers.get("sec-fetch-site", "same-origin") not in _SAME:
        raise RefusedError(403, "a page of another site may not ask this server")
    given = request.query_params.get("token", "") if is_page else headers.get(TOKEN_HEADER, "")
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise RefusedError(403, "the token is missing or wrong; open the address that `aot review` printed")
    if request.method not in ("GET", "POST"):
        raise RefusedError(405, "GET and POST are meant")


async def _verdict_in(request: Request) -> VerdictIn:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise RefusedError(415, "a verdict is sent as application/json")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise RefusedError(413, f"a verdict may have {MAX_BODY_BYTES:,} bytes; write a shorter note")
    try:
        return VerdictIn.model_validate(parse_json(bytes(body), keys="unique"))
    except ValidationError as error:
        raise RefusedError(422, first_problem(error)) from None
    except ValueError as error:
        raise RefusedError(400, f"the body is no usable JSON ({error})") from None


def _shown(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """A value with what turns the direction of text, or hides, as an escape in each of its texts."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {name: _shown(inner) for name, inner in value.items()}
    return [_shown(inner) for inner in value] if isinstance(value, list | tuple) else value


@cache
def page_text() -> str:
    """The page, which is the same for every run."""
    return _PAGE.read_text(encoding="utf-8")


@cache
def _headers() -> dict[str, str]:
    """Of every response; script and style are known by their hashes, so that no other one runs."""
    hashes = {}
    for tag in ("script", "style"):
        inner = re.findall(f"<{tag}>(.*?)</{tag}>", page_text(), re.S)[0]
        hashes[tag] = base64.b64encode(hashlib.sha256(inner.encode()).digest())
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes['script'].decode()}'; style-src "
        f"'sha256-{hashes['style'].decode()}'; img-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin", "X-Frame-Options": "DENY",
    }  # fmt: skip
