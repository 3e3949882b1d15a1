"""A server over a cascade says in every reply who gave it, why, and at what cost."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving_kit import export_base
from typer.testing import CliRunner

from aot.chat.server.keys import Secret
from aot.cli import app
from aot.errors import ConfigError
from aot.serving.contract import read_contract
from aot.serving.server import command
from aot.serving.server.app import build_app
from aot.serving.server.limits import Limits
from aot.serving.server.listening import is_address_of, open_port
from aot.serving.server.served import serve_export

CHOICES = ("7", "8")


@pytest.fixture(scope="module")
def server(text_export: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The base of maths under a threshold that nothing reaches but a certainty, over a script."""
    folder = tmp_path_factory.mktemp("cascade")
    script = folder / "replies.jsonl"
    lines = [{"match": "3 + 4", "replies": [{"text": "3 + 4 = 7\nAnswer: 7"}]},
             {"match": "and now", "replies": [{"text": "Now it is late."}]}]  # fmt: skip
    script.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = folder / "cascade.yaml"
    big = {"backend": "scripted", "model": "script", "script": str(script)}
    config.write_text(json.dumps({"big": big, "target": 0.05, "threshold": 1.0, "folder": str(folder / "out")}))
    served = serve_export(text_export, limits=Limits(), cascade=config)
    with TestClient(build_app(served), raise_server_exceptions=False) as client:
        yield client
    served.close()


def post(server: TestClient, *messages: str, **more: Any) -> Any:
    roles = ("user", "assistant") * len(messages)
    rows = [{"role": role, "content": text} for role, text in zip(roles, messages, strict=False)]
    return server.post("/v1/chat/completions", json={"model": "tiny-text", "messages": rows, **more})


def test_an_escalated_reply_is_marked_and_a_fallback_too(server: TestClient) -> None:
    escalated, alone = post(server, "What is 3 + 4?").json(), post(server, "What is 2 + 2?").json()
    aot = escalated["aot"]
    assert (aot["answer"], aot["model"], aot["escalated"]) == ("7", "script", True)
    assert aot["origin"]["base"] is None and aot["disclosure"].startswith("Written by the language model script.")
    assert alone["aot"]["origin"]["base"] == "tiny-text"
    assert escalated["choices"][0]["message"]["content"] == "3 + 4 = 7\nAnswer: 7"
    assert aot["routing"]["promise"] == "none: the threshold was set by hand"
    assert (alone["aot"]["model"], alone["aot"]["escalated"]) == ("tiny-text", False)
    assert alone["aot"]["routing"]["fallback"] == "big_model_refused"


def test_a_streamed_reply_comes_as_one_piece_with_the_same_marks(server: TestClient) -> None:
    events = post(server, "What is 3 + 4?", stream=True).text.split("\n\n")
    rows = [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: {")]
    text = "".join(row["choices"][0]["delta"].get("content") or "" for row in rows if row["choices"])
    assert text == "3 + 4 = 7\nAnswer: 7" and "data: [DONE]" in events
    assert [row["aot"]["escalated"] for row in rows if "aot" in row] == [True]


def test_a_conversation_goes_to_the_big_model(server: TestClient) -> None:
    reply = post(server, "Hi.", "Hello.", "And now?").json()
    assert reply["choices"][0]["message"]["content"] == "Now it is late."
    assert reply["aot"]["routing"]["reason"] == "conversation" and reply["aot"]["escalated"]


def test_health_and_figures_count_what_was_routed(server: TestClient) -> None:
    post(server, "What is 3 + 4?")
    counts = server.get("/health").json()["cascade"]
    assert counts["questions"] >= counts["escalated"] >= 1
    assert "aot_routed_total{" in server.get("/metrics").text and "aot_escalations_total" in server.get("/metrics").text


def test_choices_below_the_threshold_are_escalated_with_their_options(tmp_path: Path, text_export: Path) -> None:
    script, config = tmp_path / "replies.jsonl", tmp_path / "cascade.yaml"
    script.write_text(json.dumps({"match": "Which", "replies": [{"text": "Answer: 8"}]}) + "\n")
    big = {"backend": "scripted", "model": "script", "script": str(script)}
    config.write_text(json.dumps({"big": big, "target": 0.05, "threshold": 1.0, "folder": None}))
    served = serve_export(text_export, limits=Limits(), cascade=config)
    form = {"type": "json_schema", "json_schema": {"name": "step", "schema": {"type": "string", "enum": list(CHOICES)}}}
    with TestClient(build_app(served), raise_server_exceptions=False) as client:
        reply = post(client, "Which?", response_format=form).json()
    served.close()
    assert json.loads(reply["choices"][0]["message"]["content"]) == "8"
    assert reply["aot"]["escalated"] and reply["aot"]["routing"]["agreed"] in (True, False)


def test_a_cascade_of_another_export_is_refused(tmp_path: Path, text_export: Path) -> None:
    other = export_base("tiny-text", tmp_path / "other", max_answer_tokens=23)
    config = tmp_path / "cascade.yaml"
    config.write_text(json.dumps({"student": str(other), "big": {"model": "x"}, "target": 0.05, "threshold": 1.0}))
    assert read_contract(other).digest() != read_contract(text_export).digest()
    with pytest.raises(ConfigError, match="student is another export"):
        serve_export(text_export, limits=Limits(), cascade=config)


def test_decisions_say_that_no_cascade_routes_them(server: TestClient) -> None:
    question = {"type": "choice", "name": "sum", "text": "What is 3 + 4?", "choices": ["7", "8"]}
    routing = server.post("/v1/decide", json={"questions": [question]}).json()["aot"]["routing"]
    assert routing["reason"] == "student_only" and routing["promise"].startswith("none: ")
    body = {"state": "", "questions": {"a": {"type": "choice", "instructions": "What is 3 + 4?",
            "criteria": {"7": None, "8": None}}}, "aot": {}}  # fmt: skip
    assert server.post("/v1/systemone", json=body).json()["aot"]["routing"] == routing


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("which", ["cascade", "student"])
def test_a_server_that_would_ask_itself_is_refused(
    tmp_path: Path, text_export: Path, monkeypatch: pytest.MonkeyPatch, host: str, which: str
) -> None:
    with open_port("127.0.0.1", 0, key=None) as listener:
        url = f"http://{host}:{listener.getsockname()[1]}/v1"
        config = tmp_path / "cascade.yaml"
        config.write_text(json.dumps({"big": {"model": "x", "base_url": url}, "target": 0.05, "threshold": 1.0}))
        monkeypatch.setattr(command, "open_port", lambda host, port, *, key: listener)
        arguments = ["--cascade", str(config)] if which == "cascade" else ["--student", url, "--model", "x"]
        done = CliRunner().invoke(app, ["serve", str(text_export), *arguments, "--port", "0"])
    assert isinstance(done.exception, ConfigError) and "is this server itself" in str(done.exception)


def test_only_the_address_of_a_listener_is_its_own() -> None:
    with open_port("127.0.0.1", 0, key=None) as one, open_port("0.0.0.0", 0, key=Secret("x")) as wide:
        port, wide_port = one.getsockname()[1], wide.getsockname()[1]
        assert is_address_of(one, f"http://127.0.0.1:{port}/v1") and is_address_of(
            wide, f"http://127.0.0.1:{wide_port}"
        )
        assert is_address_of(wide, f"http://{socket.gethostbyname('localhost')}:{wide_port}/v1")
        others = [f"http://127.0.0.1:{wide_port}/v1", f"http://127.0.0.2:{port}", "http://127.0.0.1/v1", "no address",
                  f"http://no-such-host.invalid:{port}", "http://127.0.0.1:99999/v1", "http://[::1"]  # fmt: skip
        assert not any(is_address_of(one, url) for url in others)


def test_the_verb_refuses_a_cascade_over_servers() -> None:
    done = CliRunner().invoke(
        app, ["serve", "--cascade", "c.yaml", "--student", "http://127.0.0.1:9/v1", "--port", "0"]
    )
    assert isinstance(done.exception, ConfigError) and "leave --student out" in str(done.exception)
