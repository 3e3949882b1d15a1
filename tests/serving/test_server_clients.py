"""Other clients than OpenAI's own talk to the server: curl, and the request models of transformers."""

import json
import shutil
import subprocess
from typing import Any

import httpx2
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

QUESTION = {"model": "tiny-text", "messages": [{"role": "user", "content": "What is 3 + 4?"}]}
TOO_OLD = "this transformers has no request model of this kind"


def curl(url: str, body: object, *options: str) -> tuple[int, str]:
    """The status and the body of what curl gets for a JSON body."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("there is no curl on this machine")
    options = ("--silent", "--show-error", "--noproxy", "*", "--max-time", "120", *options)
    head = ("--header", "content-type: application/json")
    command = [program, *options, "--write-out", "\n%{http_code}", *head, "--data-binary", "@-", url]
    done = subprocess.run(command, input=json.dumps(body), capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    text, _, status = done.stdout.rpartition("\n")
    return int(status), text


def events_of(text: str) -> list[ChatCompletionChunk]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [ChatCompletionChunk.model_validate_json(line) for line in lines[:-1]]


def said(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_curl_gets_a_plain_reply(text_url: str) -> None:
    status, text = curl(f"{text_url}/chat/completions", QUESTION)
    reply = ChatCompletion.model_validate_json(text)
    assert (status, reply.choices[0].message.content, reply.choices[0].finish_reason) == (200, "7", "stop")
    assert reply.usage is not None and reply.usage.total_tokens > 0


def test_curl_gets_a_streamed_reply(text_url: str) -> None:
    status, text = curl(f"{text_url}/chat/completions", {**QUESTION, "stream": True}, "--no-buffer")
    chunks = events_of(text)
    assert status == 200 and said(chunks) == "7" and len({chunk.id for chunk in chunks}) == 1


def test_curl_gets_a_decision_and_a_clear_refusal(text_url: str) -> None:
    question = {"type": "choice", "name": "sum", "text": "What is 3 + 4?", "choices": ["7", "8"]}
    status, text = curl(f"{text_url}/decide", {"questions": [question]})
    assert status == 200 and json.loads(text)["answers"][0]["answer"] == "7"
    status, text = curl(f"{text_url}/chat/completions", {**QUESTION, "model": "another"})
    assert status == 404 and json.loads(text)["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_chat_completion_of_transformers_request_model_is_answered(text_url: str, streamed: bool) -> None:
    module = pytest.importorskip("transformers.cli.serving.chat_completion", reason=TOO_OLD, exc_type=ImportError)
    pytest.importorskip("fastapi")
    params = module.TransformersCompletionCreateParamsStreaming
    body: dict[str, Any] = params(
        **QUESTION, stream=streamed, seed=1, max_completion_tokens=20, temperature=0.0, chat_template_kwargs={}
    )
    handler = object.__new__(module.ChatCompletionHandler)
    handler._validate_request(body)
    answer = httpx2.post(f"{text_url}/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200
    if streamed:
        assert said(events_of(answer.text)) == "7"
        return
    reply = ChatCompletion.model_validate(answer.json())
    theirs = handler._build_completion("id", "7", "tiny-text", finish_reason="stop", usage=reply.usage)
    ours = answer.json()
    assert theirs.keys() <= ours.keys() and theirs["choices"][0].keys() <= ours["choices"][0].keys()
    assert theirs["choices"][0]["message"].items() <= ours["choices"][0]["message"].items()
    assert theirs["choices"][0]["finish_reason"] == ours["choices"][0]["finish_reason"]


def test_a_request_of_transformers_system_one_is_answered(text_url: str) -> None:
    module = pytest.importorskip("transformers.cli.serving.systemone", reason=TOO_OLD, exc_type=ImportError)
    request = module.SystemOneRequest(
        model="tiny-text",
        state="",
        questions={
            "sum": {"type": "choice", "instructions": "What is 3 + 4?", "criteria": {"7": None, "8": None}},
            "level": {"type": "score", "instructions": "What is 3 + 4?", "criteria": ["one", "two"]},
        },
    )
    answer = httpx2.post(f"{text_url}/systemone", json=request.model_dump(), timeout=120)
    row = answer.json()
    assert answer.status_code == 200 and set(row) == {"model", "answers", "usage"}
    assert row["answers"]["sum"]["choice"] == "7" and row["answers"]["level"]["type"] == "score"
    wrong = httpx2.post(f"{text_url}/systemone", json={**request.model_dump(), "questions": {}}, timeout=120)
    with pytest.raises(ValueError, match="at least 1") as refused:
        module.SystemOneRequest(**{**request.model_dump(), "questions": {}})
    places = [(one["type"], ["body", *one["loc"]]) for one in refused.value.errors()]  # type: ignore[attr-defined]
    assert wrong.status_code == 422 and [(one["type"], one["loc"]) for one in wrong.json()["detail"]] == places
