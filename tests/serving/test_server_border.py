"""What comes to the border of a server and is turned away there, and that the next request is answered."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from serving_kit import running

from aot.chat.messages import ChatReply
from aot.chat.server.keys import Secret
from aot.serving.server.desk import Desk
from aot.serving.server.limits import Limits
from aot.serving.server.metrics import Metrics
from aot.serving.server.served import Served

PATH = "/v1/chat/completions"
BODY = {"model": "held", "messages": [{"role": "user", "content": "hi"}]}


@dataclass(frozen=True)
class Step:
    """As the engine's Progress, without torch."""

    ended: dict[int, ChatReply]
    texts: dict[int, str]


class Held:
    """A model that writes the letters of `word` one at a time, each when it may."""

    name = "held"

    def __init__(self, word: str = "abc") -> None:
        self.word, self.may, self.begun, self.closed = word, threading.Semaphore(0), threading.Event(), 0
        self.batches: list[int] = []

    def writing(self, requests: Any, *, shown: Any = ()) -> Iterator[Any]:
        self.batches.append(len(requests))
        self.begun.set()
        try:
            for size in range(1, len(self.word) + 1):
                self.may.acquire()
                yield Step({}, dict.fromkeys(shown, self.word[:size]))
            yield Step({i: ChatReply(text=self.word) for i in range(len(requests))}, {})
        finally:
            self.closed += 1

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def held(limits: Limits, *, word: str = "abc", key: Secret | None = None) -> Iterator[tuple[Held, str]]:
    model, metrics = Held(word), Metrics()
    desk = Desk(model, student=None, limits=limits, metrics=metrics)
    served = Served(desk, desk=desk, limits=limits, metrics=metrics)
    with running(served, key=key) as url:
        try:
            yield model, url
        finally:
            model.may.release(10_000)
    served.close()


def post(url: str, body: Any = BODY, **headers: str) -> httpx2.Response:
    return httpx2.post(url.removesuffix("/v1") + PATH, json=body, headers=headers, timeout=60)


def raw(url: str, *pieces: bytes, end: bool = False) -> bytes:
    """What a server sends back to bytes as they are, until it closes the connection or has said enough."""
    parts = urlsplit(url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=60) as wire:
        try:
            for piece in pieces:
                wire.sendall(piece)
        except (ConnectionResetError, BrokenPipeError):
            pass
        if end:
            wire.shutdown(socket.SHUT_WR)
        got = b""
        while b"}}" not in got:
            chunk = wire.recv(65536)
            if not chunk:
                break
            got += chunk
        return got


def answered(model: Held, url: str) -> bool:
    """Whether the server is well: the next request is answered."""
    model.may.release(len(model.word))
    return bool(post(url).json()["choices"][0]["message"]["content"] == model.word)


def until(url: str, words: str) -> None:
    """Return once the figures of a server say so."""
    deadline_s = time.monotonic() + 60
    while words not in httpx2.get(url.removesuffix("/v1") + "/metrics").text:
        assert time.monotonic() < deadline_s, f"never {words}"
        time.sleep(0.01)


def error_of(answer: httpx2.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    return error


def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n".encode()
    with held(Limits(max_body_mb=1)) as (model, url):
        assert raw(url, head).startswith(b"HTTP/1.1 413")  # not a byte of the body was sent
        assert raw(url, head, b" " * 3_000_000).startswith(b"HTTP/1.1 413")
        assert answered(model, url)


def test_a_hundred_megabytes_in_pieces_are_refused_at_the_limit() -> None:
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with held(Limits(max_body_mb=1)) as (model, url):
        got = raw(url, head, *[piece] * 100, b"0\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 413") and b"body_too_large" in got
        assert answered(model, url)


def test_a_body_that_comes_too_slowly_gets_408() -> None:
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n".encode()
    with held(Limits(body_s=0.2)) as (model, url):
        got = raw(url, head, b'{"model"')
        assert got.startswith(b"HTTP/1.1 408") and b"slow_body" in got
        assert answered(model, url)


@pytest.mark.parametrize("begun", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: "])
def test_a_head_that_never_ends_is_given_up(begun: bytes) -> None:
    with held(Limits(header_s=0.2)) as (model, url):
        assert raw(url, begun).startswith(b"HTTP/1.1 408")
        assert answered(model, url)


def test_a_head_that_never_ends_on_a_used_connection_is_given_up() -> None:
    with held(Limits(header_s=0.2, idle_s=60)) as (model, url):
        parts = urlsplit(url)
        with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=60) as wire:
            wire.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert wire.recv(65536).startswith(b"HTTP/1.1 200")
            wire.sendall(b"GET /health HTTP/1.1\r\nho")
            while chunk := wire.recv(65536):
                assert b"ready" in chunk or chunk.startswith(b"HTTP/1.1 408")
        assert answered(model, url)


def test_an_idle_connection_is_closed() -> None:
    with held(Limits(idle_s=1)) as (_, url):
        parts = urlsplit(url)
        with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=60) as wire:
            wire.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            got = b""
            while chunk := wire.recv(65536):
                got += chunk
            assert got.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "body", [b"{", b"[" * 100_000, b"null", b'{"model": NaN}', b"\xff\xfe", b'{"model": "held", "messages": 3}', b""]
)
def test_what_is_no_json_or_no_request_gets_400(body: bytes) -> None:
    with held(Limits()) as (model, url):
        headers = {"content-type": "application/json"}
        answer = httpx2.post(url.removesuffix("/v1") + PATH, content=body, headers=headers, timeout=60)
        assert answer.status_code == 400 and error_of(answer)["type"] == "invalid_request_error"
        assert answered(model, url)


def test_bytes_that_are_no_http_get_400() -> None:
    with held(Limits()) as (model, url):
        assert raw(url, b"\x16\x03\x01\x02\x00\r\n\r\n", end=True).startswith(b"HTTP/1.1 400")
        assert answered(model, url)


def test_a_wrong_or_missing_key_gets_401_and_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with held(Limits(), key=Secret("open-sesame")) as (model, url):
        model.may.release(3)
        for headers in ({}, {"authorization": "Bearer open"}, {"authorization": "Basic open-sesame"}):
            answer = post(url, **headers)
            assert answer.status_code == 401 and error_of(answer)["code"] == "invalid_api_key"
            assert "sesame" not in answer.text
        assert post(url, authorization="Bearer open-sesame").status_code == 200
        assert httpx2.get(url.removesuffix("/v1") + "/health").status_code == 200
        assert httpx2.get(url.removesuffix("/v1") + "/metrics").status_code == 401
    assert "sesame" not in caplog.text


def test_more_than_may_wait_get_429_and_those_who_wait_are_answered() -> None:
    limits = Limits(max_queue=2, max_batch=1)
    with held(limits) as (model, url), ThreadPoolExecutor(4) as pool:
        first = pool.submit(post, url)
        assert model.begun.wait(60)
        waiting: list[Future[httpx2.Response]] = [pool.submit(post, url) for _ in range(2)]
        until(url, "aot_queue_length 2.0")
        full = post(url)
        assert full.status_code == 429 and int(full.headers["retry-after"]) >= 1
        assert error_of(full)["type"] == "rate_limit_error"
        model.may.release(1000)
        assert [one.result().status_code for one in (first, *waiting)] == [200, 200, 200]


def test_a_client_that_leaves_while_it_is_written_to_ends_the_writing() -> None:
    with held(Limits(), word="abcdefghij") as (model, url):
        model.may.release(2)
        with httpx2.stream("POST", f"{url}/chat/completions", json={**BODY, "stream": True}, timeout=60) as answer:
            lines = answer.iter_lines()
            while '"content": "a' not in next(lines):
                pass
        deadline_s = time.monotonic() + 60
        while model.closed == 0 and time.monotonic() < deadline_s:
            model.may.release(1)
            time.sleep(0.01)
        assert model.closed == 1
        model.may.release(1000)
        assert answered(model, url)


def test_a_client_that_leaves_while_it_waits_is_never_asked_about() -> None:
    with held(Limits(max_batch=1)) as (model, url), ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, url)
        assert model.begun.wait(60)
        body = json.dumps(BODY).encode()
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        parts = urlsplit(url)
        with socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=60) as wire:
            wire.sendall(head.encode() + body)
            until(url, "aot_queue_length 1.0")
        until(url, 'status="499"')
        model.may.release(1000)
        assert first.result().status_code == 200 and answered(model, url)
        assert model.batches == [1, 1]


def test_streams_and_whole_replies_stand_in_one_batch() -> None:
    with held(Limits()) as (model, url), ThreadPoolExecutor(3) as pool:
        pool.submit(post, url)
        assert model.begun.wait(60)
        both = [pool.submit(post, url, {**BODY, "stream": stream}) for stream in (True, False)]
        until(url, "aot_queue_length 2.0")
        model.may.release(1000)
        assert [one.result().status_code for one in both] == [200, 200] and model.batches[1:] == [2]


def test_a_reply_without_the_call_that_is_required_is_an_error_whole_and_streamed() -> None:
    look = {"type": "function", "function": {"name": "look"}}
    body = {**BODY, "tools": [look], "tool_choice": "required"}
    with held(Limits()) as (model, url):
        model.may.release(1000)
        whole, streamed = post(url, body), post(url, {**body, "stream": True})
    assert whole.status_code == 422 and error_of(whole)["code"] == "no_tool_call"
    *_, last, done = streamed.text.strip().split("\n\n")
    assert json.loads(last.removeprefix("data: ")) == whole.json() and done == "data: [DONE]"


def test_control_characters_of_a_path_never_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    import logging

    from aot.display import PlainFormatter

    caplog.set_level("INFO", logger="aot.access")
    with held(Limits()) as (_, url):
        assert httpx2.get(url.removesuffix("/v1") + "/%1b%5b31m%0aHTTP").status_code == 404
    shown = [PlainFormatter("%(message)s").format(one) for one in caplog.records if one.name == "aot.access"]
    assert shown and not any("\x1b" in line or "\n" in line for line in shown)
    assert logging.getLogger("aot.access").propagate
