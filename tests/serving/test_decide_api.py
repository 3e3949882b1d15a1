"""`/v1/decide` and `/v1/systemone` decide what they are asked, and refuse in the shapes that their clients read."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from aot.serving.decisions.decider import Decider, State
from aot.serving.decisions.questions import choice, score, yes_no
from aot.serving.server.app import build_app
from aot.serving.server.limits import Limits
from aot.serving.server.served import Served, serve_export

STEPS = ["wash rice", "chop onion", "boil egg", "fry fish"]
NEXT = {"type": "choice", "name": "next", "text": "What is the next step?", "choices": STEPS}
ONION = {"type": "yes_no", "name": "onion", "text": "Is there any onion in the clip?"}
OFTEN = {"type": "score", "name": "often", "text": "How often does chop happen?", "high": 5}
NOUL = {"type": "noul", "instructions": "Is there any onion in the clip?"}


@pytest.fixture(scope="module")
def served(video_export: Path, kitchen_clips: Path) -> Iterator[Served]:
    one = serve_export(video_export, limits=Limits(), allow=(kitchen_clips,))
    yield one
    one.close()


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[TestClient]:
    with TestClient(build_app(served), raise_server_exceptions=False) as one:
        yield one


def pictures(seed: int = 0, count: int = 4) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 255, (count, 96, 96, 3), dtype=np.uint8))


def packed(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def urls(seed: int = 0, count: int = 4) -> list[str]:
    return [f"data:image/png;base64,{packed(one)}" for one in pictures(seed, count)]


def assets(names: list[str], seed: int = 0) -> dict[str, dict[str, str]]:
    shown = pictures(seed, len(names))
    return {
        name: {"type": "image", "format": "png", "data_base64": packed(one)}
        for name, one in zip(names, shown, strict=True)
    }


def test_each_kind_of_question_is_decided_as_in_python(client: TestClient, served: Served) -> None:
    body = {"frames": urls(1), "times_s": [0.0, 0.5, 1.0, 1.5], "questions": [NEXT, ONION, OFTEN]}
    row = client.post("/v1/decide", json=body).json()
    state = State(frames=pictures(1), times_s=[0.0, 0.5, 1.0, 1.5])
    assert served.student is not None
    wanted = Decider(served.student).decide(
        state, [choice(NEXT["text"], STEPS), yes_no(ONION["text"]), score(OFTEN["text"], high=5)]
    )
    for answer, one in zip(row["answers"], wanted, strict=True):
        assert [pair["probability"] for pair in answer["probabilities"]] == pytest.approx(one.choice_probs, abs=1e-6)
        assert (answer["answer"], answer["confidence"]) == (one.answer, pytest.approx(one.confidence, abs=1e-6))
    often = row["answers"][2]
    assert often["score"] == pytest.approx(
        sum(float(pair["choice"]) * pair["probability"] for pair in often["probabilities"])
    )
    assert row["aot"]["frame_times_s"] == [0.0, 0.5, 1.0, 1.5] and row["aot"]["contract_digest"]
    assert row["usage"]["completion_tokens"] == 0 and row["model"] == "tiny-video"


def test_frames_already_seen_are_read_from_the_cache(client: TestClient) -> None:
    body = {"frames": urls(2), "times_s": [0.0, 1.0, 2.0, 3.0], "questions": [NEXT]}
    first, second = (client.post("/v1/decide", json=body).json() for _ in range(2))
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 30
    assert second["answers"][0]["confidence"] == pytest.approx(first["answers"][0]["confidence"], abs=1e-4)


def test_a_clip_under_an_allowed_folder_is_decided_about(client: TestClient, kitchen_clips: Path) -> None:
    clip = next(kitchen_clips.rglob("*.mp4")).relative_to(kitchen_clips)
    row = client.post("/v1/decide", json={"clip": {"path": str(clip), "end_s": 4.0}, "questions": [NEXT]}).json()
    times_s = row["aot"]["frame_times_s"]
    assert row["answers"][0]["answer"] in STEPS and len(times_s) == 8 and max(times_s) <= 4.0
    body = {
        "state": "", "questions": {"next": {"type": "choice", "criteria": dict.fromkeys(STEPS),
        "instructions": "What is the next step?"}}, "aot": {"clip": {"path": str(clip), "end_s": 4.0}},
    }  # fmt: skip
    one = client.post("/v1/systemone", json=body).json()
    assert one["answers"]["next"]["choice"] == row["answers"][0]["answer"] and one["aot"]["frame_times_s"] == times_s


def test_one_bad_question_does_not_stop_its_neighbours(client: TestClient) -> None:
    bad = {"type": "choice", "name": "bad", "text": "What?", "choices": ["fry egg", "fry egg"]}
    odd = {"type": "choice", "name": "odd", "text": "What <image>?", "choices": STEPS}
    row = client.post("/v1/decide", json={"questions": [NEXT, bad, odd, ONION]}).json()
    assert [one["answer"] is None for one in row["answers"]] == [False, True, True, False]
    assert "given twice" in row["answers"][1]["detail"] and "reserves" in row["answers"][2]["detail"]
    assert {one["abstained"] for one in row["answers"][1:3]} == {"failed"}


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"model": "another"}, 404, "there is no model"),
        ({"questions": []}, 400, "questions"),
        ({"questions": [{"type": "poem", "text": "?"}]}, 400, "questions.0"),
        ({"questions": [{**ONION, "mood": 1}]}, 400, "mood"),
        ({"questions": [ONION] * 65}, 400, "questions"),
        ({"frames": ["https://example.org/a.png"]}, 400, "addresses are never opened"),
        ({"frames": ["data:image/png;base64,AAAA"]}, 400, "could not be read"),
        ({"frames": urls(), "clip": {"path": "a.mp4"}}, 400, "give one of them"),
        ({"times_s": [0.0]}, 400, "none were given"),
        ({"frames": urls(), "times_s": [3.0, 1.0, 2.0, 4.0]}, 400, "must ascend"),
        ({"frames": urls(), "times_s": [1.0]}, 400, "1 times"),
        ({"frames": urls(count=2) * 33}, 400, "66 images"),
        ({"clip": {"path": "../../etc/passwd"}}, 400, "no clip at this path"),
        ({"clip": {"path": "file:///etc/passwd"}}, 400, "never opened"),
    ],
)
def test_a_request_that_cannot_be_answered_says_what_would_be_fine(
    client: TestClient, change: dict[str, Any], status: int, words: str
) -> None:
    answer = client.post("/v1/decide", json={"questions": [ONION], **change})
    assert answer.status_code == status and words in answer.json()["error"]["message"]
    assert client.post("/v1/decide", json={"questions": [ONION]}).status_code == 200


def test_ten_thousand_choices_are_refused_and_a_thousand_of_them_too_long(client: TestClient) -> None:
    many = [{**NEXT, "choices": [f"{i % 100} {i // 100}" for i in range(count)]} for count in (10_000, 900)]
    row = client.post("/v1/decide", json={"questions": [*many, ONION]}).json()
    assert "at most 1,000" in row["answers"][0]["detail"] and "tokens" in row["answers"][1]["detail"]
    assert row["answers"][2]["answer"] in ("yes", "no")


def test_system_one_answers_in_the_shapes_of_transformers(client: TestClient) -> None:
    body = {
        "model": "tiny-video",
        "state": {"frames": ["img-1", "img-2", "img-3"], "note": "wash rice"},
        "questions": {
            "next": {"type": "choice", "instructions": "What is the next step?", "criteria": dict.fromkeys(STEPS)},
            "onion": NOUL,
            "often": {"type": "score", "instructions": "How often?", "criteria": ["not", "one step", "often"]},
        },
        "assets": assets(["img-1", "img-2", "img-3"]),
    }
    row = client.post("/v1/systemone", json=body).json()
    assert set(row) == {"model", "answers", "usage"} and list(row["answers"]) == ["next", "onion", "often"]
    assert row["usage"]["output_tokens"] == 0 and row["usage"]["input_tokens"] > 100
    chosen, onion, often = row["answers"].values()
    assert set(chosen) == {"type", "choice", "confidence", "probabilities"} and set(onion) == {"type", "noul"}
    assert list(chosen["probabilities"]) == STEPS and sum(chosen["probabilities"].values()) == pytest.approx(1)
    best = max(chosen["probabilities"].values())
    assert chosen["confidence"] == pytest.approx((best - 1 / 4) / (1 - 1 / 4)) and 0 <= onion["noul"] <= 1
    assert often["legend"] == {"0": "not", "1": "one step", "2": "often"} and 0 <= often["score"] <= 2
    distance = sum(p * abs(int(k) - int(max(often["probabilities"], key=often["probabilities"].get)))
                   for k, p in often["probabilities"].items())  # fmt: skip
    assert often["confidence"] == pytest.approx(max(0, 1 - distance / (2 / 3)))


def test_images_are_shown_at_their_times_and_more_than_four_are_taken(client: TestClient) -> None:
    names = [f"<f{i}>" for i in range(6)]
    times_s = {name: 0.5 * (6 - i) for i, name in enumerate(names)}
    body: dict[str, Any] = {"state": "".join(names), "questions": {"onion": NOUL}, "assets": assets(names, seed=7)}
    plain = client.post("/v1/systemone", json=body).json()
    timed = client.post("/v1/systemone", json={**body, "aot": {"times_s": times_s}}).json()
    assert timed["aot"]["frame_times_s"] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0] and "aot" not in plain
    shown = [f"data:image/png;base64,{packed(one)}" for one in pictures(7, 6)]
    direct = {"frames": shown, "times_s": [float(i) for i in range(6)], "questions": [ONION]}
    (same,) = client.post("/v1/decide", json=direct).json()["answers"]
    assert plain["answers"]["onion"]["noul"] == pytest.approx(same["probabilities"][0]["probability"], abs=1e-4)
    back = {**direct, "frames": direct["frames"][::-1], "times_s": sorted(times_s.values())}
    (turned,) = client.post("/v1/decide", json=back).json()["answers"]
    assert timed["answers"]["onion"]["noul"] == pytest.approx(turned["probabilities"][0]["probability"], abs=1e-4)


def test_an_image_that_one_question_names_is_shown_to_that_one_only(client: TestClient) -> None:
    body = {
        "state": "a1",
        "questions": {"one": NOUL, "two": {"type": "noul", "instructions": "Is there any onion in the clip? b1"}},
        "assets": assets(["a1", "b1"], seed=8),
    }
    row = client.post("/v1/systemone", json=body).json()["answers"]
    alone = {**body, "questions": {"one": NOUL}, "assets": assets(["a1"], seed=8)}
    (same,) = client.post("/v1/systemone", json=alone).json()["answers"].values()
    assert list(row) == ["one", "two"] and row["one"]["noul"] == pytest.approx(same["noul"], abs=1e-4)
    assert abs(row["two"]["noul"] - row["one"]["noul"]) > 1e-9


def test_the_times_of_all_images_are_named_where_questions_show_different_ones(client: TestClient) -> None:
    about = {name: {"type": "noul", "instructions": f"Is there any onion in {name}?"} for name in ("a1", "b1")}
    body = {"state": "", "questions": about, "assets": assets(["a1", "b1"]), "aot": {"times_s": {"a1": 2.5, "b1": 0.5}}}
    assert client.post("/v1/systemone", json=body).json()["aot"]["frame_times_s"] == [0.5, 2.5]


INVALID: list[tuple[dict[str, Any], list[tuple[str, tuple[str, ...]]]]] = [
    ({}, [("missing", ("body", "state")), ("missing", ("body", "questions"))]),
    ({"state": "s", "questions": {}}, [("too_short", ("body", "questions"))]),
    ({"state": "s", "questions": {"a": 1}}, [("dict_type", ("body", "questions", "a"))]),
    ({"state": "s", "questions": []}, [("dict_type", ("body", "questions"))]),
    (
        {"state": 3, "questions": {"a": NOUL}},
        [
            ("string_type", ("body", "state", "str")), ("dict_type", ("body", "state", "dict[str,any]")),
            ("list_type", ("body", "state", "list[any]")),
        ],
    ),
    ({"state": "s", "questions": {str(i): NOUL for i in range(65)}}, [("too_long", ("body", "questions"))]),
    ({"state": "s", "questions": {"a": NOUL}, "assets": {"x": "y"}}, [("dict_type", ("body", "assets", "x"))]),
    ({"state": "s", "questions": {"a": NOUL}, "bogus": 1}, [("extra_forbidden", ("body", "bogus"))]),
    ({"state": "s", "questions": {"a": NOUL}, "model": 5}, [("string_type", ("body", "model"))]),
    *(
        ({"state": "s", "questions": {"a": question}}, [("value_error", ("body", "questions"))])
        for question in (
            {}, {"type": "x"}, {"type": "choice"}, {"type": "choice", "criteria": {}},
            {"type": "score", "criteria": []}, {"type": "score", "criteria": {"a": "b"}}, {**NOUL, "extra": 1},
            {"type": "noul", "criteria": {"maybe": "x"}}, {"type": "noul", "instructions": 4},
            {"type": "choice", "criteria": {"a": 3}}, {"type": "score", "criteria": ["a", None]},
            {"type": "choice", "criteria": {str(i): None for i in range(1001)}},
        )
    ),
]  # fmt: skip
"""Bodies that transformers 5.24 refuses, with the types and places of its errors, as read there."""


@pytest.mark.parametrize(("body", "wanted"), INVALID)
def test_system_one_refuses_what_transformers_refuses_and_in_its_shape(
    client: TestClient, body: dict[str, Any], wanted: list[tuple[str, tuple[str, ...]]]
) -> None:
    answer = client.post("/v1/systemone", json=body)
    assert answer.status_code == 422, answer.text
    assert [(one["type"], tuple(one["loc"])) for one in answer.json()["detail"]] == wanted


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "another"}, "Server is pinned to 'tiny-video'"),
        ({"assets": assets(["nowhere"])}, "is named nowhere"),
        ({"state": "a1", "assets": {"a1": {"type": "image"}}}, "data_base64"),
        ({"state": "a1", "assets": {"a1": {"data_base64": "AAAA"}}}, "could not be read"),
        ({"state": "a1", "assets": assets(["a1"]), "aot": {"times_s": {"b1": 1.0}}}, "no asset"),
        ({"state": "a1", "assets": assets(["a1"]), "aot": {"clip": {"path": "a.mp4"}}}, "give one of them"),
        ({"questions": {"a": {"type": "choice", "criteria": {"entropy": None, "fry egg": None}}}}, "does not know"),
        ({"questions": {"a": {**NOUL, "instructions": "<end_of_utterance>"}}}, "reserves"),
    ],
)
def test_what_the_student_cannot_be_asked_is_a_400_with_a_detail(
    client: TestClient, change: dict[str, Any], words: str
) -> None:
    answer = client.post("/v1/systemone", json={"state": "wash rice", "questions": {"a": NOUL}, **change})
    assert answer.status_code == 400 and words in answer.json()["detail"]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'"s"', b'{"state": NaN, "questions": {}}', b'{"state": 1e999, "questions": 1}',
            b"[" * 100_000, b'{"state": "\\ud800", "questions": {"a": {"type": "noul"}}}', b"\xff\xfe"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/systemone", "/v1/decide"])
def test_bodies_that_are_no_json_of_ours_are_refused(client: TestClient, path: str, raw: bytes) -> None:
    answer = client.post(path, content=raw, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422) and json.loads(answer.content)
    assert client.post("/v1/decide", json={"questions": [ONION]}).status_code == 200


def test_requests_and_answers_are_those_of_the_transformers_that_is_installed(client: TestClient) -> None:
    module = pytest.importorskip(
        "transformers.cli.serving.systemone", reason="this transformers has no System One; 5.24 and later have"
    )
    from fastapi import HTTPException
    from transformers.decision import DecisionConfig, parse_questions

    handler = object.__new__(module.SystemOneHandler)
    handler.decision_config = None
    handler.model_manager = type("Manager", (), {"force_model": "tiny-video"})()
    for body, wanted in INVALID:
        with pytest.raises(HTTPException) as refused:
            handler._validate_request(body)
        detail: Any = refused.value.detail
        assert refused.value.status_code == 422
        assert [(one["type"], tuple(one["loc"])) for one in detail] == wanted
    questions = {
        "next": {"type": "choice", "instructions": "What is the next step?", "criteria": dict.fromkeys(STEPS)},
        "onion": NOUL, "often": {"type": "score", "instructions": "How often?", "criteria": ["not", "often"]},
    }  # fmt: skip
    body = {"model": "tiny-video", "state": "a1", "questions": questions, "assets": assets(["a1"])}
    handler._validate_request(body)
    row = client.post("/v1/systemone", json=body).json()
    for question in parse_questions(questions, DecisionConfig()):
        ours = row["answers"][question.name]
        probs = list(ours["probabilities"].values()) if "probabilities" in ours else [ours["noul"], 1 - ours["noul"]]
        assert ours == pytest.approx(question.answer(probs)) if question.type == "noul" else True
        theirs = question.answer(probs)
        assert ours.keys() == theirs.keys() and ours["type"] == theirs["type"]
        if question.type != "noul":
            assert ours["confidence"] == pytest.approx(theirs["confidence"])
            assert (ours.get("choice"), ours.get("legend")) == (theirs.get("choice"), theirs.get("legend"))
