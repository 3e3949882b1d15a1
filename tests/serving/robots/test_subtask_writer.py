"""The text head for LeRobot's policies: one subtask or an error with its reason, in this process and over HTTP."""

import base64
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aot import load_student
from aot.answer_records import Answer
from aot.errors import ConfigError
from aot.serving.lerobot import RemoteStudent, SubtaskError, SubtaskWriter
from aot.serving.lerobot.frames import EpisodeFrames, picture
from aot.serving.lerobot.policy import one_subtask
from aot.serving.lerobot.remote import png

STEPS = ("wash rice", "chop onion", "fry egg")
FRAME = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)


class Scripted:
    """A student that says what it is given, and notes what it was asked."""

    def __init__(self, **answer: Any) -> None:
        self.answer_is, self.asks = Answer(**{"mode": "direct", **answer}), []

    def ask(self, question: str, **about: Any) -> Answer:
        self.asks.append({"question": question, **about})
        return self.answer_is


def batch(**more: Any) -> dict[str, Any]:
    """What `lerobot-rollout` hands a policy: float pictures with channels first, and a batch of one."""
    picture = FRAME.astype(np.float32).transpose(2, 0, 1)[None] / 255
    facts = {"query_kind": "next_subtask", "query_text": "tidy the table", "task": ["wash rice"]}
    return {"observation.images.front": picture, "observation.state": np.zeros((1, 6), np.float32), **facts, **more}


def test_an_exported_student_gives_one_of_the_closed_subtasks(video_export: Path) -> None:
    with load_student(video_export) as student:
        writer = SubtaskWriter(student, subtasks=STEPS)
        writer.observe(batch(timestamp=0.0))
        assert writer.supports_text_generation() and writer.generate_text(batch(timestamp=0.5)) in STEPS


def test_asking_changes_neither_the_batch_nor_the_random_numbers_of_the_policy(video_export: Path) -> None:
    import torch

    given = batch(action=np.ones((1, 4, 6), np.float32), timestamp=np.array([0.5], np.float32))
    before = {key: np.array(value, copy=True) for key, value in given.items()}
    with load_student(video_export) as student:
        state = torch.random.get_rng_state()
        writer = SubtaskWriter(student, subtasks=STEPS)
        writer.observe(batch(timestamp=0.0))
        writer.generate_text(given)
        assert torch.equal(torch.random.get_rng_state(), state)
    assert given.keys() == before.keys() and all(np.array_equal(given[key], before[key]) for key in before)


def test_tensors_floats_and_uint8_are_the_same_picture() -> None:
    import torch

    floats = FRAME.astype(np.float32).transpose(2, 0, 1) / 255
    for form in (FRAME, FRAME[None], floats, floats[None], torch.tensor(floats), torch.tensor(FRAME)[None]):
        assert np.array_equal(picture(form, "x"), FRAME)
    assert np.abs(picture(torch.tensor(floats).bfloat16(), "x").astype(int) - FRAME).max() <= 1
    assert not np.shares_memory(picture(FRAME, "x"), FRAME)


@pytest.mark.parametrize(
    "value",
    [
        np.full((3, 4, 4), np.nan, np.float32), np.full((3, 4, 4), 2.0, np.float32), -np.ones((3, 4, 4), np.float32),
        np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1), np.uint8), np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.int64), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 3), np.float32), "x", None,
        [[1, 2], [3]],
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused_as_a_bad_batch(value: object) -> None:
    writer = SubtaskWriter(Scripted(answer="a"))
    with pytest.raises(SubtaskError) as told:
        writer.generate_text({"observation.images.front": value})
    assert told.value.reason == "bad_batch" and "observation.images.front" in str(told.value)


def test_a_batch_without_the_camera_names_those_that_it_has() -> None:
    with pytest.raises(SubtaskError, match=r"observation\.images\.wrist; it has observation\.images\.front"):
        SubtaskWriter(Scripted(answer="a"), camera="wrist").generate_text(batch())


@pytest.mark.parametrize(
    "reason", ["stale", "deadline", "uncertain", "out_of_domain", "unparsable", "cut_off", "failed"]
)
def test_an_abstention_is_raised_with_its_reason(reason: str) -> None:
    student = Scripted(abstained=reason, detail="no frame for 3 s")
    with pytest.raises(SubtaskError, match="no frame for 3 s") as told:
        SubtaskWriter(student).generate_text(batch())
    assert told.value.reason == reason and str(told.value).startswith(reason)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "empty"), (" \n", "empty"), ("wash rice\nchop onion", "several"), ("dance", "not_a_choice")],
)
def test_what_is_not_exactly_one_subtask_is_raised(text: str, reason: str) -> None:
    with pytest.raises(SubtaskError) as told:
        one_subtask(text, STEPS if reason == "not_a_choice" else ())
    assert told.value.reason == reason


def test_an_unsure_answer_is_raised_below_the_limit_and_given_above() -> None:
    student = Scripted(answer="wash rice", confidence=0.6)
    assert SubtaskWriter(student, min_confidence=0.5).generate_text(batch()) == "wash rice"
    with pytest.raises(SubtaskError, match="uncertain"):
        SubtaskWriter(student, min_confidence=0.7).generate_text(batch())


def test_the_goal_and_questions_about_the_scene_reach_the_student() -> None:
    student = Scripted(answer="a red one")
    writer = SubtaskWriter(student, question="To {task}, what is next?", subtasks=("a red one",))
    writer.generate_text(batch())
    assert writer.generate_text(batch(query_kind="vqa", query_text="Which cup?")) == "a red one"
    assert [(one["question"], one["choices"]) for one in student.asks] == [
        ("To tidy the table, what is next?", ("a red one",)),
        ("Which cup?", ()),
    ]


def test_the_student_sees_what_happened_between_questions_and_nothing_of_the_last_episode() -> None:
    student = Scripted(answer="a")
    writer = SubtaskWriter(student, max_frames=8, frame_gap_s=0.1)
    for i in range(50):
        writer.observe(batch(timestamp=np.array([i / 10], np.float32)))
    writer.generate_text(batch(timestamp=5.0))
    times_s = student.asks[0]["times_s"]
    assert len(times_s) <= 8 and times_s[0] == 0 and times_s[-1] == 5 and times_s == sorted(times_s)
    writer.generate_text(batch(timestamp=0.0))
    assert student.asks[1]["times_s"] == [0]
    writer.reset()
    writer.generate_text(batch(timestamp=3.0))
    writer.generate_text(batch(timestamp=3.5))
    assert student.asks[3]["times_s"] == [0, 0.5]


def test_a_ring_is_bounded_over_a_long_episode_and_spread_evenly() -> None:
    ring = EpisodeFrames(16, 0.0)
    for i in range(10_000):
        ring.add(i / 30, FRAME)
    times_s, frames = ring.all()
    assert 8 <= len(frames) <= 16 and times_s[-1] == 9999 / 30
    assert np.ptp(np.diff(times_s[:-1])) < 1e-6


def test_a_stream_of_an_exported_student_gives_a_subtask_or_says_why_not(video_export: Path) -> None:
    from aot.serving.stream.loop import StudentStream

    with (
        load_student(video_export) as student,
        StudentStream(student, question="What is the next step?", choices=STEPS) as stream,
    ):
        writer = SubtaskWriter(stream, deadline_s=60)
        assert writer.generate_text(batch(timestamp=0.5)) in STEPS
        writer.reset()
        with pytest.raises(SubtaskError) as told:
            SubtaskWriter(stream, clock=lambda: 1e9).generate_text(batch())  # from the future: no frame is taken
    assert told.value.reason == "stale"


class ScriptedStream(Scripted):
    """A stream that says what it is given, and notes its frames and deadlines."""

    def __init__(self, **answer: Any) -> None:
        super().__init__(**answer)
        self.seen, self.asked_within = list[float](), list[float | None]()

    def observe(self, frame: np.ndarray, time_s: float) -> None:
        self.seen.append(time_s)

    def answer(self, deadline_s: float | None = None) -> Answer:
        self.asked_within.append(deadline_s)
        return self.answer_is

    def reset(self) -> None:
        self.seen.clear()


def test_a_question_about_the_scene_is_refused_where_the_question_of_a_stream_stands() -> None:
    stream = ScriptedStream(answer="wash rice")
    writer = SubtaskWriter(stream)
    with pytest.raises(SubtaskError, match="a stream answers its own question only, not 'Which cup") as told:
        writer.generate_text(batch(query_kind="vqa", query_text="Which cup?"))
    assert told.value.reason == "bad_batch" and not stream.asked_within and len(stream.seen) == 1
    assert writer.generate_text(batch()) == "wash rice"


def test_a_stream_answers_within_its_deadline() -> None:
    stream = ScriptedStream(answer="wash rice")
    assert SubtaskWriter(stream, deadline_s=0.5, clock=lambda: 7.0).generate_text(batch(timestamp=1.5)) == "wash rice"
    assert (stream.seen, stream.asked_within) == ([7.0], [0.5])


@contextmanager
def server(reply: Callable[[dict[str, Any], Any], tuple[int, bytes]]) -> Iterator[str]:
    """A server of OpenAI's shape on a free port, which answers as `reply` says from body and headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, json.dumps({"object": "list", "data": [{"id": "first"}]}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(*reply({"path": self.path, **body}, self.headers))

        def answer(self, status: int, raw: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()


def completion(text: str | None, **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    return json.dumps({"object": "chat.completion", "model": "m", "choices": [choice], "usage": usage, **more}).encode()


def test_over_http_a_subtask_comes_back_and_the_server_sees_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    seen: list[dict[str, Any]] = []

    def reply(body: dict[str, Any], headers: Any) -> tuple[int, bytes]:
        seen.append({**body, "key": headers["Authorization"]})
        return 200, completion('"chop onion"')

    monkeypatch.setenv("AOT_API_KEY", "s3cret")
    with server(reply) as url:
        for model in ("m", ""):
            writer = SubtaskWriter(RemoteStudent(url, model=model), subtasks=STEPS)
            assert writer.generate_text(batch()) == "chop onion"
    body, other = seen
    assert (body["path"], body["key"], body["model"]) == ("/v1/chat/completions", "Bearer s3cret", "m")
    assert body["response_format"]["json_schema"]["schema"]["enum"] == list(STEPS)
    image, text = body["messages"][0]["content"]
    raw = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(raw))), FRAME)
    assert image["time_s"] == 0 and other["model"] == "first"
    assert text == {"type": "text", "text": "What is the next step?"}


REPLIES = {
    "abstained": (200, completion("", aot={"abstained": "uncertain", "detail": "0.2"}), "uncertain"),
    "says nothing": (200, completion(None), "empty"),
    "another answer": (200, completion("dance"), "not_a_choice"),
    "no JSON": (200, b"<html>", "malformed"),
    "a list": (200, b"[]", "malformed"),
    "no choices": (200, b"{}", "empty"),
    "wrong key": (401, b'{"error": {"message": "wrong key"}}', "refused"),
    "too busy": (429, b"{}", "refused"),
    "redirect": (302, b"", "refused"),
    "cut off": (
        200,
        json.dumps({"choices": [{"message": {"content": "wash"}, "finish_reason": "length"}]}).encode(),
        "cut_off",
    ),
}


@pytest.mark.parametrize("case", REPLIES)
def test_what_a_server_says_instead_becomes_an_error_with_its_reason(case: str) -> None:
    status, raw, reason = REPLIES[case]
    with server(lambda *_: (status, raw)) as url, pytest.raises(SubtaskError) as told:
        SubtaskWriter(RemoteStudent(url), subtasks=STEPS).generate_text(batch())
    assert told.value.reason == reason and "\n" not in str(told.value)


def test_a_server_that_is_gone_or_silent_is_told_apart() -> None:
    with server(lambda *_: (200, completion("x"))) as url:
        pass
    with pytest.raises(SubtaskError) as told:
        SubtaskWriter(RemoteStudent(url)).generate_text(batch())
    assert told.value.reason == "connection"
    let_go = threading.Event()

    def silent(*_: object) -> tuple[int, bytes]:
        let_go.wait(30)
        return 200, completion("x")

    with server(silent) as url:
        with pytest.raises(SubtaskError) as told:
            SubtaskWriter(RemoteStudent(url, timeout_s=0.1)).generate_text(batch())
        let_go.set()
    assert told.value.reason == "deadline"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "file:///etc/passwd", "http://host:notaport", "http://"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError):
        RemoteStudent(url)


def test_the_bridge_needs_neither_torch_nor_pyarrow_nor_pil_to_ask_a_server() -> None:
    program = """
import sys
blocked = {"torch", "pyarrow", "PIL", "transformers", "lerobot", "openai", "httpx", "cv2", "av"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from aot.serving.lerobot import RemoteStudent, SubtaskError, SubtaskWriter
import numpy as np
try:
    SubtaskWriter(RemoteStudent("http://127.0.0.1:9")).generate_text(
        {"observation.images.a": np.zeros((4, 4, 3), np.uint8)})
except SubtaskError as error:
    print(error.reason)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("connection\n", 0), done.stderr


def test_a_png_holds_its_picture() -> None:
    from PIL import Image

    wide = np.random.default_rng(1).integers(0, 256, (5, 301, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(wide)))), wide)
