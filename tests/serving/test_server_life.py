"""`aot serve` as a process: ports, signals, and what clients get when it is killed under load."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import openai
import pytest
from serving_kit import running

from aot.chat.client import ChatModel
from aot.chat.messages import ChatReply, ChatRequest
from aot.serving.server.served import Served
from aot.serving.student import Ask

ROOT = Path(__file__).parents[2]


class Echo:
    """A chat model that says what it is told, once it may."""

    name = "echo"

    def __init__(self) -> None:
        self.may, self.begun = threading.Event(), threading.Event()

    def reply(self, request: ChatRequest) -> ChatReply:
        self.begun.set()
        self.may.wait(60)
        return ChatReply(text=request.messages[-1].text)

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def back_end() -> Iterator[tuple[Echo, str]]:
    echo = Echo()
    model: ChatModel = echo
    served = Served(model)
    with running(served) as url:
        try:
            yield echo, url
        finally:
            echo.may.set()
    served.close()


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "aot", "serve", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **environment}
    )


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves, and the address of its API."""
    process = start(*arguments, **environment)
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("serving "), process.stderr.read()
        yield process, line.split()[3].rstrip(";")
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def say(url: str, words: str, *, key: str = "none") -> tuple[str, str]:
    """The id of a reply and its text."""
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60) as client:
        return put(client, words)


def put(client: openai.OpenAI, words: str, *, model: str = "echo") -> tuple[str, str]:
    reply = client.chat.completions.create(model=model, messages=[{"role": "user", "content": words}])
    return reply.id, str(reply.choices[0].message.content)


def test_a_second_server_on_the_port_ends_with_one_line(back_end: tuple[Echo, str]) -> None:
    echo, url = back_end
    echo.may.set()
    with serving("--student", url, "--port", "0") as (_, address):
        port = address.rpartition(":")[2].partition("/")[0]
        second = start("--student", url, "--port", port)
        out, err = second.communicate(timeout=120)
        assert (second.returncode, out) == (2, "")
        assert err.count("\n") == 1 and f"port {port} on 127.0.0.1 is taken" in err
        assert say(address, "still here")[1] == "still here"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to serve"),
        (("nowhere",), "holds no exported student"),
        (
            ("--student", "http://x", "--host", "0.0.0.0"),
            "--host 0.0.0.0 lets other machines in and no key is asked for",
        ),
        (("--student", "http://x", "--host", "::"), "lets other machines in"),
        (("--student", "http://x", "--host", "no such host", "--key-env", "AOT_TEST_KEY"), "cannot listen on"),
        (("--student", "http://x", "--key-env", "AOT_TEST_NO_KEY"), "this environment variable is not set"),
        (("--student", "http://x", "--allow", "nowhere"), "--allow nowhere is no folder"),
        (("--student", "ftp://x"), "is no address"),
        (("--student", "http://127.0.0.1:9/v1"), "none of the 1 back ends names its model"),
    ],
)
def test_a_server_that_cannot_be_is_refused_in_one_line(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aot import cli

    monkeypatch.setenv("AOT_TEST_KEY", "open-sesame")
    monkeypatch.setattr(sys, "argv", ["aot", "serve", "--port", "0", *arguments])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    with pytest.raises(SystemExit) as end:
        cli.main()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert end.value.code == 2 and words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_finish_what_was_taken_and_takes_nothing_new(
    back_end: tuple[Echo, str], number: signal.Signals
) -> None:
    echo, url = back_end
    with (
        serving("--student", url, "--model", "echo", "--port", "0") as (process, address),
        ThreadPoolExecutor(1) as pool,
    ):
        taken = pool.submit(say, address, "taken")
        assert echo.begun.wait(60)
        process.send_signal(number)
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            try:
                httpx2.get(address.removesuffix("/v1") + "/health", timeout=5)
            except httpx2.TransportError:
                break
            time.sleep(0.02)
        else:
            pytest.fail("it still takes new requests")
        assert process.poll() is None and not taken.done()
        echo.may.set()
        assert taken.result()[1] == "taken"
        assert process.wait(60) == 0


def test_a_second_signal_stops_at_once(back_end: tuple[Echo, str]) -> None:
    echo, url = back_end
    with (
        serving("--student", url, "--model", "echo", "--port", "0") as (process, address),
        ThreadPoolExecutor(1) as pool,
    ):
        taken = pool.submit(say, address, "taken")
        assert echo.begun.wait(60)
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:  # the first may not have been noticed when the second comes
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert process.returncode == 4
        with pytest.raises(openai.APIConnectionError):
            taken.result()


def test_a_key_is_asked_for_and_never_shown(back_end: tuple[Echo, str], tmp_path: Path) -> None:
    echo, url = back_end
    echo.may.set()
    arguments = ("--student", url, "--model", "echo", "--port", "0", "--host", "0.0.0.0", "--key-env", "AOT_TEST_KEY")
    with serving(*arguments, AOT_TEST_KEY="open-sesame") as (process, address):
        address = address.replace("0.0.0.0", "127.0.0.1")
        with pytest.raises(openai.AuthenticationError):
            say(address, "hi", key="wrong")
        assert say(address, "hi", key="open-sesame")[1] == "hi"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "sesame" not in out + err and "401" in err


def test_killed_and_started_again_under_load_every_client_gets_one_answer(
    text_export: Path, text_served: Served, tmp_path: Path
) -> None:
    notes = tmp_path / "rows"
    arguments = (str(text_export), "--port", "0", "--record", str(notes), "--record-text")
    answers: dict[str, tuple[str, str]] = {}
    errors: list[str] = []
    enough, over = threading.Event(), threading.Event()
    addresses: list[str] = []

    def talk(number: int) -> None:
        for turn in range(100_000):
            words = f"What is {number} + {turn}?"
            while words not in answers:
                try:
                    with openai.OpenAI(base_url=addresses[-1], api_key="none", max_retries=0, timeout=120) as client:
                        while words not in answers:
                            answers[words] = put(client, words, model="tiny-text")
                except (openai.APIConnectionError, openai.InternalServerError) as error:
                    errors.append(type(error).__name__)  # a clear one; the same question is put again
                    time.sleep(0.3)  # eight clients that ask all the time keep the new server from beginning
            if turn >= 2:
                enough.set()
            if over.is_set() and turn >= 4:
                return

    with serving(*arguments) as (first, address), ThreadPoolExecutor(8) as pool:
        addresses.append(address)
        clients = [pool.submit(talk, number) for number in range(8)]
        try:
            assert enough.wait(120)
        finally:
            first.kill()
            first.wait()
            before = len(answers)
            with serving(*arguments) as (_, address):
                addresses.append(address)
                over.set()
                for one in clients:
                    one.result(timeout=240)
    assert errors and len(answers) >= max(40, before + 1)
    ids = [id_ for id_, _ in answers.values()]
    rows = [json.loads(line) for line in notes.read_text().splitlines()]
    assert len(set(ids)) == len(ids) == len(answers)
    assert len({row["id"] for row in rows}) == len(rows)
    noted = {row["id"]: (row["question"], row["answer"]) for row in rows}
    assert all(noted[id_] == (words, text) for words, (id_, text) in answers.items())
    assert text_served.student is not None
    alone = text_served.student.ask_many([Ask(words) for words in answers])
    assert [one.raw_text for one in alone] == [text for _, text in answers.values()]
