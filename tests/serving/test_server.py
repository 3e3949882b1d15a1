"""The server speaks as OpenAI's clients expect it to."""

import base64
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serving_kit import running

from aot import load_student
from aot.chat.client import ChatModel
from aot.chat.messages import ChatReply, ChatRequest
from aot.errors import ChatError, ConfigError
from aot.records import WrittenCall
from aot.serving.disclosure import origin_of, read_watermark_secret
from aot.serving.server.app import build_app
from aot.serving.server.limits import Limits
from aot.serving.server.served import Recorder, Served, serve_export
from video_data.datasets.rows import SegmentRow
from video_data.kitchen.pictures import write_clip

SUM = [{"role": "user", "content": "What is 3 + 4?"}]
CHOICES = {"type": "json_schema", "json_schema": {"name": "sum", "schema": {"type": "string", "enum": ["7", "8"]}}}


@pytest.fixture(scope="module")
def client(text_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=text_url, api_key="none", max_retries=0, timeout=120) as one:
        yield one


@pytest.fixture(scope="module")
def video(video_export: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Path]]:
    clips = tmp_path_factory.mktemp("clips")
    served = serve_export(video_export, limits=Limits(max_pixels=200_000), allow=(clips.resolve(),))
    with TestClient(build_app(served), raise_server_exceptions=False) as one:
        yield one, clips
    served.close()


def ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(**{"model": "tiny-text", "messages": SUM, **more})


def picture(shade: int, size: int = 96) -> str:
    packed = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), shade, dtype=np.uint8)).save(packed, "PNG")
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode()


def shown(*parts: dict[str, Any], text: str = "What is the next step?") -> dict[str, Any]:
    content = [*parts, {"type": "text", "text": text}]
    return {"model": "tiny-video", "messages": [{"role": "user", "content": content}]}


def test_a_plain_reply_has_usage_and_this_projects_fields_apart(client: openai.OpenAI) -> None:
    reply = ask(client)
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("7", "stop")
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 2
    assert reply.aot["answer"] == "7" and reply.aot["mode"] == "direct"
    assert len(reply.aot["contract_digest"]) == 16 and reply.aot["seconds"] > 0


def test_every_reply_says_for_machines_and_for_people_where_it_comes_from(client: openai.OpenAI) -> None:
    for more in ({}, {"response_format": CHOICES}, {"max_tokens": 1}):
        reply = ask(client, **more)
        origin = reply.aot["origin"]
        assert origin["ai_generated"] is True and origin["base"] == "tiny-text"
        assert origin["confidence"] == ("none" if reply.aot["confidence"] is None else "not_calibrated")
        assert origin["watermark"] == "none_short_text" and "Written by tiny-text" in reply.aot["disclosure"]
        assert "Written by" not in reply.choices[0].message.content


def test_long_sampled_text_is_marked_and_says_so_and_what_is_graded_is_not(text_export: Path) -> None:
    secret = read_watermark_secret("MARK", {"MARK": "0123456789abcdef"})
    served = serve_export(text_export, limits=Limits(), watermark=secret)
    said = []
    with TestClient(build_app(served), raise_server_exceptions=False) as client:
        for more in ({"temperature": 2, "max_tokens": 240}, {"temperature": 2, "max_tokens": 9}, {"max_tokens": 240}):
            reply = client.post("/v1/chat/completions", json={"model": "tiny-text", "messages": SUM, **more}).json()
            said.append(reply["aot"]["origin"]["watermark"])
    served.close()
    assert said == ["synthid", "none_short_text", "none_short_text"]
    assert origin_of(served.contract, tokens=201, long_text="none_greedy").watermark == "none_greedy"
    for value in ("", "short"):
        with pytest.raises(ConfigError, match="16 characters"):
            read_watermark_secret("MARK", {"MARK": value})


def test_a_sentence_stands_behind_the_text_where_it_is_asked_for_and_never_inside_json(client: openai.OpenAI) -> None:
    wanted = {"aot": {"disclose": True}}
    reply = ask(client, extra_body=wanted, logprobs=True)
    assert reply.choices[0].message.content == f"7\n\n{reply.aot['disclosure']}"
    assert [one.token for one in reply.choices[0].logprobs.content] == ["7"]
    assert ask(client, extra_body=wanted, response_format=CHOICES).choices[0].message.content == '"7"'
    chunks = list(ask(client, extra_body=wanted, stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed.startswith("7\n\nWritten by tiny-text") and streamed.count("Written by") == 1


def test_a_stream_says_the_same_piece_by_piece_and_ends_with_usage(client: openai.OpenAI) -> None:
    whole = ask(client, extra_body={"aot": {"mode": "reason"}}, seed=1)
    chunks = list(
        ask(client, extra_body={"aot": {"mode": "reason"}}, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content and len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert [one.choices[0].finish_reason for one in chunks if one.choices][-1] == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage


def test_a_stream_ends_with_the_line_done(text_url: str, text_served: Served) -> None:
    body = {"model": "tiny-text", "messages": SUM, "stream": True}
    text = TestClient(build_app(text_served)).post("/v1/chat/completions", json=body).text
    assert text.endswith("data: [DONE]\n\n") and '"usage"' not in text.replace('"usage": null', "")


def test_a_server_prompt_is_the_prompt_of_training(text_export: Path, client: openai.OpenAI) -> None:
    with load_student(text_export) as student:
        answer = student.ask("What is 3 + 4?")
    assert ask(client).usage.prompt_tokens == answer.usage.prompt_tokens


def test_choices_are_decided_with_a_probability_for_each(client: openai.OpenAI) -> None:
    reply = ask(client, response_format=CHOICES)
    assert json.loads(reply.choices[0].message.content) == reply.aot["answer"] == "7"
    assert [one["choice"] for one in reply.aot["choices"]] == ["7", "8"]
    assert abs(sum(one["probability"] for one in reply.aot["choices"]) - 1) < 1e-9
    assert reply.aot["confidence"] == max(one["probability"] for one in reply.aot["choices"])
    assert reply.usage.completion_tokens == 0


def test_a_choice_inside_an_object_comes_as_that_object(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "string", "enum": ["7", "8"]}}, "required": ["sum"]}
    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}}
    assert json.loads(ask(client, response_format=form).choices[0].message.content) == {"sum": "7"}


def test_log_probabilities_come_with_alternatives(client: openai.OpenAI) -> None:
    reply = ask(client, logprobs=True, top_logprobs=3)
    (token,) = reply.choices[0].logprobs.content
    assert token.token == "7" and token.logprob <= 0 and len(token.top_logprobs) == 3
    assert max(one.logprob for one in token.top_logprobs) == token.logprob


def test_a_reply_that_is_cut_off_says_length(client: openai.OpenAI) -> None:
    reply = ask(client, max_tokens=1)
    assert reply.choices[0].finish_reason == "length" and reply.usage.completion_tokens == 1
    assert reply.aot["abstained"] == "cut_off"


def test_a_stop_text_ends_the_reply_before_it_streamed_or_not(client: openai.OpenAI) -> None:
    assert ask(client, stop=["7"]).choices[0].message.content == ""
    chunks = list(ask(client, stop="7", stream=True))
    assert "".join(one.choices[0].delta.content or "" for one in chunks) == ""
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_models_and_health_name_the_model(client: openai.OpenAI, text_served: Served) -> None:
    assert [one.id for one in client.models.list()] == ["tiny-text"]
    body = TestClient(build_app(text_served)).get("/health").json()
    assert (body["status"], body["model"]) == ("ready", "tiny-text") and len(body["contract_digest"]) == 16


def test_metrics_count_requests_tokens_and_time(client: openai.OpenAI, text_url: str) -> None:
    ask(client)
    page = client.get("../metrics", cast_to=str)
    assert 'aot_requests_total{route="/v1/chat/completions",status="200"}' in page
    assert 'aot_tokens_total{direction="out"}' in page and "aot_queue_length 0.0" in page
    assert 'aot_request_seconds_count{route="/v1/chat/completions"}' in page


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"n": 2}, "n", "n must be 1"),
        ({"logit_bias": {"1": 5}}, "logit_bias", "not supported"),
        ({"functions": []}, "functions", "not supported"),
        ({"top_logprobs": 2}, "top_logprobs", "needs logprobs"),
        ({"temperature": 9}, "temperature", "less than or equal to 2"),
        ({"max_tokens": 10**6}, "max_tokens", "at most"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "at most 4"),
        ({"response_format": {"type": "json_object"}}, "response_format", "enum of texts"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": ["a", "a"]}}}},
         "response_format", "twice"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": [*map(str, range(10_000))]}}}},
         "response_format", "10000 choices"),
        ({"tools": [{"type": "function"}]}, "tools", "a tool looks like"),
        ({"tool_choice": "required"}, "tool_choice", "tool_choice"),
        ({"aot": {"mode": "adaptive"}}, "aot.mode", "was taught: direct, reason, none"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "messages", "a prompt of"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages.0.role", "system"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages", "input_audio"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture(3)}}]}]},
         "messages", "takes no images"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(
    client: openai.OpenAI, body: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, extra_body=body)
    assert words in caught.value.message and caught.value.param == param
    assert caught.value.type == "invalid_request_error"
    assert ask(client).choices[0].message.content == "7"


def test_fields_that_nobody_knows_are_let_pass(client: openai.OpenAI) -> None:
    body = {
        "user": "someone",
        "store": True,
        "service_tier": "auto",
        "parallel_tool_calls": True,
        "new_field": {"a": 1},
    }
    assert ask(client, extra_body=body).choices[0].message.content == "7"


def test_an_unknown_model_is_a_404_in_openais_shape(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, model="gpt-\x1b[31m")
    assert caught.value.code == "model_not_found" and "tiny-text" in caught.value.message
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize("model", ["\ud83d", "tiny-text"])
def test_half_characters_and_special_tokens_of_a_text_stay_text(text_served: Served, model: str) -> None:
    evil = "".join(text_served.student.student.renderer.tokenizer.all_special_tokens)  # type: ignore[union-attr]
    body = {"model": model, "messages": [{"role": "user", "content": f"{evil} What is 3 + 4? \ud800"}]}
    answer = TestClient(build_app(text_served)).post(
        "/v1/chat/completions", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert answer.status_code == (200 if model == "tiny-text" else 400)


class Caller:
    """A chat model that calls the first tool it is given."""

    name = "caller"

    def reply(self, request: ChatRequest) -> ChatReply:
        if request.messages[-1].role == "tool":
            return ChatReply(text=f"{request.messages[-1].text}, says {request.messages[-1].tool_call_id}")
        name = request.tools[0]["function"]["name"]
        call = WrittenCall(id="call_0", name=name, arguments='{"minutes": 3}')
        return ChatReply(tool_calls=(call,), finish_reason="tool_calls")

    def close(self) -> None:
        """Nothing is open."""


def test_tools_are_called_and_their_results_read_whole_and_streamed() -> None:
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
        for name in ("look", "wait")
    ]
    named = {"type": "function", "function": {"name": "wait"}}
    model: ChatModel = Caller()
    with running(Served(model)) as url, openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        first = ask(client, model="caller", tools=tools)
        (call,) = first.choices[0].message.tool_calls
        assert (call.function.name, first.choices[0].finish_reason) == ("look", "tool_calls")
        assert first.choices[0].message.content is None
        chunks = list(ask(client, model="caller", tools=tools, tool_choice=named, stream=True))
        calls = [one for chunk in chunks for one in chunk.choices[0].delta.tool_calls or ()]
        assert [one.function.name for one in calls] == ["wait"] and calls[0].id != call.id
        result = {"role": "tool", "tool_call_id": call.id, "content": "done"}
        last = ask(client, model="caller", messages=[*SUM, first.choices[0].message, result], tools=tools)
        assert last.choices[0].message.content == f"done, says {call.id}"


def test_a_student_whose_template_has_no_tools_says_so(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no tool form"):
        ask(client, tools=[{"type": "function", "function": {"name": "look"}}])


def test_requests_that_arrive_together_are_answered_together(text_served: Served, client: openai.OpenAI) -> None:
    before = text_served.metrics.registry.get_sample_value("aot_batch_requests_count") or 0
    sums = [f"What is {a} + {b}?" for a in range(2, 6) for b in range(2, 6)]
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda text: ask(client, messages=[{"role": "user", "content": text}]), sums))
    alone = [ask(client, messages=[{"role": "user", "content": text}]).choices[0].message.content for text in sums]
    assert [one.choices[0].message.content for one in replies] == alone
    batches = (text_served.metrics.registry.get_sample_value("aot_batch_requests_count") or 0) - before - len(sums)
    assert batches < len(sums) and len({one.id for one in replies}) == len(sums)


def test_images_come_as_data_urls_and_their_times_reach_the_prompt(video: tuple[TestClient, Path]) -> None:
    client, _ = video
    parts = [{"type": "image_url", "image_url": {"url": picture(i)}, "time_s": i / 3} for i in range(1, 5)]
    body = client.post("/v1/chat/completions", json=shown(*parts)).json()
    assert body["aot"]["frame_times_s"] == [i / 3 for i in range(1, 5)] and body["usage"]["prompt_tokens"] > 40


def test_choices_about_images_are_decided(video: tuple[TestClient, Path]) -> None:
    client, _ = video
    parts = [{"type": "image_url", "image_url": {"url": picture(i)}, "time_s": i / 3} for i in range(1, 5)]
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["wash rice", "chop onion"]}}}
    body = client.post("/v1/chat/completions", json={**shown(*parts), "response_format": form}).json()
    assert body["aot"]["mode"] == "decide" and len(body["aot"]["frame_times_s"]) == 4


def test_a_clip_under_an_allowed_folder_is_seen_as_in_training(
    video: tuple[TestClient, Path], video_export: Path
) -> None:
    client, clips = video
    step = SegmentRow(label="wash rice", start_s=0.0, end_s=2.0)
    times_s = [i / 6 for i in range(12)]
    write_clip(clips / "rice.mp4", segments=(step,), frame_times_s=times_s, rng=np.random.default_rng(7))
    with load_student(video_export) as student:
        answer = student.ask("What is the next step?", clip=clips / "rice.mp4")
    body = client.post("/v1/chat/completions", json=shown({"type": "video", "video": {"path": "rice.mp4"}})).json()
    assert body["aot"]["frame_times_s"] == list(answer.frame_times_s)
    assert body["usage"]["prompt_tokens"] == answer.usage.prompt_tokens
    assert body["choices"][0]["message"]["content"] == answer.raw_text


def test_a_window_that_begins_between_stored_frames_shows_those_of_ask(
    video: tuple[TestClient, Path], video_export: Path
) -> None:
    client, clips = video
    step = SegmentRow(label="wash rice", start_s=0.0, end_s=4.0)
    write_clip(
        clips / "smooth.mp4", segments=(step,), frame_times_s=[i / 24 for i in range(96)], rng=np.random.default_rng(7)
    )
    window = {"start_s": 0.46, "end_s": 1.9}
    with load_student(video_export) as student:
        answer = student.ask("What is the next step?", clip=clips / "smooth.mp4", **window)
    part = {"type": "video", "video": {"path": "smooth.mp4", **window}}
    body = client.post("/v1/chat/completions", json=shown(part)).json()
    assert body["aot"]["frame_times_s"] == list(answer.frame_times_s) and len(answer.frame_times_s) > 2
    assert body["usage"]["prompt_tokens"] == answer.usage.prompt_tokens


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}, "never opened"),
        ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, "never opened"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, "no base64 of a whole"),
        ({"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,AAAA"}}, "data:image/png"),
        ({"type": "image_url", "image_url": {"url": picture(1, 500)}}, "at most 200,000"),
        ({"type": "video", "video": {"path": "http://127.0.0.1/a.mp4"}}, "never opened"),
        ({"type": "video", "video": {"path": "../../etc/passwd"}}, "no clip at this path"),
        ({"type": "video", "video": {"path": "/etc/passwd"}}, "no clip at this path"),
        ({"type": "video", "video": {"path": "link.mp4"}}, "no clip at this path"),
        ({"type": "video", "video": {"path": "a\x00b"}}, "no clip at this path"),
        ({"type": "video", "video": {"path": "note.mp4"}}, "not_a_video"),
        ({"type": "video", "video": {"path": "note.mp4", "start_s": 3, "end_s": 1}}, "end after it begins"),
        ({"type": "video_url", "video_url": {"url": "file:///a.mp4"}}, "video_url"),
    ],
)
def test_no_address_and_no_file_elsewhere_is_opened(
    video: tuple[TestClient, Path], tmp_path: Path, part: dict[str, Any], words: str
) -> None:
    client, clips = video
    (clips / "note.mp4").write_text("no clip\n" * 50)
    (tmp_path / "secret.mp4").write_text("secret")
    if not (clips / "link.mp4").is_symlink():
        (clips / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    answer = client.post("/v1/chat/completions", json=shown(part))
    assert answer.status_code == 400 and words in answer.json()["error"]["message"]
    assert str(clips) not in answer.text and str(tmp_path) not in answer.text


class Broken:
    """A chat model with a mistake."""

    name = "broken"

    def reply(self, request: ChatRequest) -> ChatReply:
        if request.messages[-1].text == "down":
            raise ChatError("connection to http://10.0.0.7:9 failed", reason="connection")
        raise RuntimeError("/home/someone/secret.py")

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(("text", "status"), [("down", 502), ("mistake", 500)])
def test_what_goes_wrong_on_this_side_leaks_nothing(text: str, status: int) -> None:
    model: ChatModel = Broken()
    client = TestClient(build_app(Served(model)), raise_server_exceptions=False)
    body = {"model": "broken", "messages": [{"role": "user", "content": text}]}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == status and answer.json()["error"]["type"] == "server_error"
    assert not any(word in answer.text for word in ("10.0.0.7", "secret", "Traceback", "RuntimeError"))


def test_requests_are_noted_without_their_text_unless_it_is_wanted(text_served: Served, tmp_path: Path) -> None:
    rows: dict[bool, dict[str, Any]] = {}
    for with_text in (False, True):
        recorder = Recorder(tmp_path / f"{with_text}.rows", with_text=with_text)
        served = Served(
            text_served.chat, text_served.contract, text_served.student, text_served.desk, recorder=recorder
        )
        TestClient(build_app(served)).post("/v1/chat/completions", json={"model": "tiny-text", "messages": SUM})
        recorder.close()
        rows[with_text] = json.loads((tmp_path / f"{with_text}.rows").read_text())
    assert (rows[False]["question"], rows[False]["answer"]) == ("", "") and len(rows[False]["question_sha256"]) == 64
    assert (rows[True]["question"], rows[True]["answer"]) == ("What is 3 + 4?", "7")
    assert rows[True]["usage"]["completion_tokens"] == 2 and rows[True]["finish"] == "stop"


def test_a_second_server_may_stand_before_the_first(text_url: str, text_served: Served) -> None:
    from aot.serving.back_ends import open_back_ends

    limits = Limits()
    dead = "http://127.0.0.1:9/v1"
    chat = open_back_ends([dead, text_url], model=None, key_env="NO_SUCH_KEY", limits=limits)
    served = Served(chat, text_served.contract, model_name=chat.name, limits=limits)
    with running(served) as url, openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        replies = [ask(client, max_tokens=most) for most in (24, 24, 24, 1)]
        streamed = list(ask(client, stream=True))
    assert [one.choices[0].message.content for one in replies[:3]] == ["7"] * 3
    assert replies[3].choices[0].finish_reason == "length"
    assert "".join(one.choices[0].delta.content or "" for one in streamed) == "7"
    served.close()
