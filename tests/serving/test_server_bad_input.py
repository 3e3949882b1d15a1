"""What nobody should send to a server gets a true sentence, and the next request is served."""

import base64
import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from aot import load_student
from aot.serving.server.app import build_app
from aot.serving.server.limits import Limits
from aot.serving.server.served import serve_export
from video_data.datasets.rows import SegmentRow
from video_data.kitchen.pictures import write_clip

CHAT = "/v1/chat/completions"
STEPS = ["wash rice", "chop onion"]
ONION = {"type": "yes_no", "name": "onion", "text": "Is there any onion in the clip?"}
NOUL = {"type": "noul", "instructions": "Is there any onion in the clip?"}


@pytest.fixture(scope="module")
def client(video_export: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("clips").resolve()
    (folder / "note.mp4").write_text("no clip\n" * 50)
    step, rng = SegmentRow(label="wash rice", start_s=0.0, end_s=3.0), np.random.default_rng(7)
    write_clip(folder / "long.mp4", segments=(step,), frame_times_s=[i / 6 for i in range(18)], rng=rng)
    served = serve_export(video_export, limits=Limits(max_clip_s=2.0, max_images=8), allow=(folder,))
    with TestClient(build_app(served), raise_server_exceptions=False) as one:
        yield one
    served.close()


def url(shade: int = 90, *, width: int = 96, height: int = 96) -> str:
    packed = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), shade, dtype=np.uint8)).save(packed, "PNG")
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode()


def image(time_s: float | None = None, **size: int) -> dict[str, Any]:
    timed = {} if time_s is None else {"time_s": time_s}
    return {"type": "image_url", "image_url": {"url": url(**size)}, **timed}


def one_of(*choices: str) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": list(choices)}}}


def post(client: TestClient, *parts: dict[str, Any], text: str = "What is the next step?", **more: Any) -> Any:
    content = [*parts, {"type": "text", "text": text}]
    body = {"model": "tiny-video", "messages": [{"role": "user", "content": content}], **more}
    return client.post(CHAT, json=body)


@pytest.mark.parametrize("more", [{}, {"stream": True}, {"aot": {"mode": "none"}}, {"response_format": one_of(*STEPS)}])
@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([image(2.0), image(1.0)], "ascend"),
        ([image(1.0), image(1.0)], "ascend"),
        ([image(-5.0), image(1.0)], "not negative"),
        ([image(1.0), image()], "1 of 2 images have a time_s"),
        ([image(1.0), image(2.0, width=48)], "one size; one image has 96x96 pixels and another 48x96"),
        ([{**image(), "time_s": True}], "time_s"),
    ],
)
def test_frames_that_ask_refuses_are_refused_however_the_reply_is_made(
    client: TestClient, parts: list[dict[str, Any]], words: str, more: dict[str, Any]
) -> None:
    answer = post(client, *parts, **more)
    assert answer.status_code == 400 and words in answer.json()["error"]["message"]


def test_a_time_that_the_student_cannot_write_is_out_of_its_domain_at_every_door(
    client: TestClient, video_export: Path
) -> None:
    frame = np.full((96, 96, 3), 90, dtype=np.uint8)
    with load_student(video_export) as student:
        asked = [student.ask("What is the next step?", frames=[frame], times_s=[1e9], choices=choices)
                 for choices in ((), STEPS)]  # fmt: skip
        beside = student.ask("What is the next step?", frames=[frame], times_s=[2.5], choices=STEPS)
    written, chosen = (post(client, image(1e9), **more).json() for more in ({}, {"response_format": one_of(*STEPS)}))
    streamed = post(client, image(1e9), stream=True).text
    (decided,) = client.post("/v1/decide", json={"frames": [url()], "times_s": [1e9], "questions": [ONION]}).json()[
        "answers"
    ]
    assert not beside.abstained
    rows = [(one.abstained, one.detail) for one in asked]
    rows += [(one["abstained"], one["detail"]) for one in (written["aot"], chosen["aot"], decided)]
    assert rows[0][0] == "out_of_domain" and "cannot write the time 1e+09 s" in rows[0][1] and len(set(rows)) == 1
    assert '"abstained": "out_of_domain"' in streamed and "data: [DONE]" in streamed
    assert [one["choices"][0]["message"]["content"] for one in (written, chosen)] == ["", ""]


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (["wash rice"], "an enum of one text leaves nothing to decide"),
        (["wash rice", "<end_of_utterance>"], "the model reserves"),
        (["wash rice", "word " * 50_000], "characters"),
        ([f"{i % 100} {i // 100}" for i in range(1000)], "tokens"),
    ],
)
def test_a_choice_that_cannot_be_decided_says_why(client: TestClient, choices: list[str], words: str) -> None:
    answer = post(client, image(1.0), response_format=one_of(*choices))
    assert answer.status_code == 400 and words in answer.json()["error"]["message"]
    assert post(client, image(1.0), response_format=one_of(*STEPS)).status_code == 200


def test_a_clip_that_cannot_be_decided_about_says_why_and_shows_no_folder(client: TestClient) -> None:
    clip = {"type": "video", "video": {"path": "note.mp4"}}
    answer = post(client, clip, response_format=one_of(*STEPS))
    assert answer.status_code == 400 and "no known video container" in answer.json()["error"]["message"]
    assert "/" not in answer.json()["error"]["message"].replace("MP4/MOV", "").replace("Matroska/WebM", "")


def test_more_images_than_are_taken_are_refused_at_every_door(client: TestClient) -> None:
    asset = {"type": "image", "format": "png", "data_base64": url().partition(",")[2]}
    for number, status in ((8, 200), (9, 400)):
        names = [f"<{i}>" for i in range(number)]
        system_one = {"state": "".join(names), "questions": {"onion": NOUL}, "assets": dict.fromkeys(names, asset)}
        answers = [
            post(client, *[image(float(i)) for i in range(number)]),
            client.post(
                "/v1/decide",
                json={"frames": [url()] * number, "times_s": list(map(float, range(number))), "questions": [ONION]},
            ),
            client.post("/v1/systemone", json=system_one),
        ]
        assert [one.status_code for one in answers] == [status] * 3, answers[-1].text
    assert all("9 images; at most 8 are taken" in one.text for one in answers)


def test_images_without_times_are_refused_where_times_would_be_made_up(client: TestClient) -> None:
    for more in ({}, {"response_format": one_of(*STEPS)}):
        refused = post(client, image(), image(), **more)
        assert refused.status_code == 400 and 'put "time_s"' in refused.json()["error"]["message"]
        assert post(client, image(), **more).json()["aot"]["frame_times_s"] in ([], [0.0])
    refused = client.post("/v1/decide", json={"frames": [url()] * 2, "questions": [ONION]})
    assert refused.status_code == 400 and "2 frames came without times" in refused.text


@pytest.mark.parametrize("door", ["written", "chosen", "/v1/decide", "/v1/systemone"])
def test_a_clip_that_lasts_too_long_is_refused_at_every_door(client: TestClient, door: str) -> None:
    def answer(**window: float) -> Any:
        clip = {"path": "long.mp4", **window}
        if door == "/v1/decide":
            return client.post(door, json={"clip": clip, "questions": [ONION]})
        if door == "/v1/systemone":
            return client.post(door, json={"state": "", "questions": {"onion": NOUL}, "aot": {"clip": clip}})
        more = {"response_format": one_of(*STEPS)} if door == "chosen" else {}
        return post(client, {"type": "video", "video": clip}, **more)

    for window in ({}, {"start_s": 0.5}):
        assert answer(**window).status_code == 400 and "windows up to 2 s are taken" in answer(**window).text
    assert answer(start_s=1.5).status_code == answer(end_s=1.5).status_code == 200


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"messages": [{"role": "system", "content": "x"}]}, "messages", "a message of the user is needed"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", "a message of the user is needed"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages", "is empty"),
        ({"messages": [{"role": "user", "content": []}]}, "messages", "is empty"),
        ({"messages": [{"role": "user", "content": None}]}, "messages", "is empty"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}, "messages", "is empty"),
        ({"aot": {"mode": "fly"}}, "aot.mode", "aot.mode is 'fly'; this model was taught: direct, reason, none"),
        ({"aot": {"mode": ""}}, "aot.mode", "direct, reason, none"),
        ({"aot": {"mode": 3}}, "aot.mode", "string"),
        ({"max_tokens": True}, "max_tokens", "integer"),
        ({"max_completion_tokens": "5"}, "max_completion_tokens", "integer"),
        ({"seed": True}, "seed", "integer"),
        ({"n": True}, "n", "integer"),
        ({"temperature": True}, "temperature", "number"),
        ({"stream": "yes"}, "stream", "boolean"),
        ({"logprobs": 1}, "logprobs", "boolean"),
    ],
)
def test_what_a_request_lacks_or_has_of_a_wrong_type_is_named(
    client: TestClient, body: dict[str, Any], param: str, words: str
) -> None:
    sound = {"model": "tiny-video", "messages": [{"role": "user", "content": "What is the next step?"}]}
    answer = client.post(CHAT, json={**sound, **body})
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == param and words in error["message"]
    assert "Python" not in error["message"] and "index" not in error["message"]


def huge() -> str:
    """The head of a PNG of 20,000 x 20,000 pixels; there is nothing behind it."""
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    file = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 8) + b"IDAT" + bytes(12)
    return "data:image/png;base64," + base64.b64encode(file).decode()


def test_an_image_of_far_too_many_pixels_says_so(client: TestClient) -> None:
    chat = post(client, {"type": "image_url", "image_url": {"url": huge()}}).json()["error"]
    decide = client.post("/v1/decide", json={"frames": [huge()], "questions": [ONION]}).json()["error"]
    for error, param in ((chat, "messages"), (decide, "frames")):
        assert (error["code"], error["param"]) == ("image_too_large", param) and "4,000,000" in error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"frames": ["https://example.org/a.png"]}, "frames"),
        ({"frames": ["data:image/png;base64,AAAA"]}, "frames"),
        ({"frames": [url()[:-400]]}, "frames"),
        ({"frames": [url()], "times_s": [-1.0]}, "frames"),
        ({"clip": {"path": "nowhere.mp4"}}, "clip"),
        ({"clip": {"path": "file:///a.mp4"}}, "clip"),
        ({"clip": {"path": "note.mp4", "start_s": 3, "end_s": 1}}, "clip"),
        ({"clip": {"path": "note.mp4"}}, "clip"),
    ],
)
def test_what_is_wrong_with_frames_or_a_clip_of_a_decision_names_that_field(
    client: TestClient, body: dict[str, Any], param: str
) -> None:
    answer = client.post("/v1/decide", json={"questions": [ONION], **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        (CHAT, '{"model": "a", "model": "tiny-video", "messages": [{"role": "user", "content": "Hi"}]}'),
        (CHAT, '{"model": "tiny-video", "messages": [{"role": "user", "content": "Hi", "content": "Ho"}]}'),
        ("/v1/decide", '{"questions": [{"type": "yes_no", "text": "Is it?", "text": "Is it not?"}]}'),
        ("/v1/systemone", '{"state": "a", "questions": {"a": {"type": "noul"}, "a": {"type": "noul"}}}'),
    ],
)
def test_a_key_that_stands_twice_is_refused_as_in_plain_data(client: TestClient, path: str, raw: str) -> None:
    answer = client.post(path, content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and "stands twice" in answer.text
    assert "detail" in answer.json() if path == "/v1/systemone" else answer.json()["error"]["type"]


@pytest.mark.parametrize(
    "body",
    [
        {"state": "s", "questions": {str(i): {**NOUL, "instructions": "x" * 10_000} for i in range(100)}},
        {"state": "s", "questions": {"a": {**NOUL, "criteria": {"maybe": "x" * 1_000_000}}}},
        {"state": "s", "questions": {"a": {"type": "choice", "criteria": "x" * 1_000_000}}},
        {"state": "s", "questions": {"a": {"type": "x" * 1_000_000}}},
        {"state": "s", "questions": {"x" * 1_000_000: 3, "y" * 1_000_000: {"type": 3}}},
        {"state": "s", "questions": {"a": NOUL}, "x" * 1_000_000: 1},
        {"state": "s", "questions": {"a": {**NOUL, "x" * 1_000_000: 1}}},
        {"state": "s", "questions": {"a": NOUL}, "assets": {f"x{i}": i for i in range(100_000)}},
        {"state": 3, "questions": {"a": NOUL}, "model": ["x" * 1_000_000]},
    ],
)
@pytest.mark.parametrize("path", ["/v1/systemone", "/v1/decide", CHAT])
def test_a_refusal_never_sends_the_body_back(client: TestClient, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code in (400, 422) and len(answer.content) < 20_000
    if answer.status_code == 422:
        assert all(set(one) == {"type", "loc", "msg"} for one in json.loads(answer.content)["detail"])
