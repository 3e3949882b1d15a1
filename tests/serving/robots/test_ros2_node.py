"""The ROS 2 node through an adapter that is no ROS: topics, rate, heartbeat, latency warning, a clean end."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from aot.answer_records import Answer, Seconds
from aot.errors import ConfigError, RunError
from aot.serving.ros2 import RclpyAdapter, Ros2Config, StudentNode, answer_text, frame_of, read_config, serve
from aot.serving.ros2.__main__ import main

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "configs/serving/ros2.yaml"


class Bench:
    """An adapter with a clock of its own: `run_for` lets time pass and calls timers when they are due."""

    def __init__(self) -> None:
        self.time_s, self.callbacks, self.timers = 100.0, {}, []
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.ends: list[Callable[[], None]] = []

    def subscribe(self, topic: str, kind: str, callback: Callable[[Any], None]) -> None:
        self.callbacks[topic, kind] = callback

    def publish(self, topic: str, text: str) -> None:
        self.sent.append((topic, json.loads(text)))

    def now_s(self) -> float:
        return self.time_s

    def timer(self, rate_hz: float, callback: Callable[[], None]) -> None:
        self.timers.append([1 / rate_hz, self.time_s + 1 / rate_hz, callback])

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        self.ends.append(callback)

    def run(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def run_for(self, seconds: float) -> None:
        end_s = self.time_s + seconds
        while (due := min(self.timers, key=lambda one: one[1]))[1] <= end_s + 1e-9:
            self.time_s = due[1]
            due[1] += due[0]
            due[2]()
        self.time_s = end_s

    def of(self, topic: str) -> list[dict[str, Any]]:
        return [message for name, message in self.sent if name == topic]


class Stream:
    """A student that says what it is given."""

    def __init__(self, answer: Answer | Exception | None = None) -> None:
        self.says: Any = answer or Answer(answer="chop onion", mode="decide", age_s=0.3, confidence=0.9)
        self.frames, self.resets, self.closed = [], 0, 0

    def observe(self, frame: np.ndarray, time_s: float) -> None:
        self.frames.append((frame, time_s))

    def answer(self) -> Answer:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        self.closed += 1


def picture(*, encoding: str = "rgb8", stamp_s: float = 0.0, pad: int = 0, **changes: Any) -> SimpleNamespace:
    """A sensor_msgs/Image of 3 x 2 pixels, all different; rows may be padded."""
    depth = {"mono8": 1, "rgba8": 4, "bgra8": 4}.get(encoding, 3)
    rows = np.arange(2 * (3 * depth + pad), dtype=np.uint8).reshape(2, -1)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=int(stamp_s), nanosec=round((stamp_s % 1) * 1e9)))
    fields = {"height": 2, "width": 3, "step": rows.shape[1], "data": rows.tobytes(), "encoding": encoding}
    return SimpleNamespace(header=header, **{**fields, **changes})


def node(stream: Stream | None = None, **settings: Any) -> tuple[StudentNode, Stream, Bench]:
    bench, watched = Bench(), stream or Stream()
    return StudentNode(watched, Ros2Config(student="x", **settings), bench), watched, bench


def test_topics_and_rates_come_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    topics = {"image": "/cam", "reset": "/new", "answer": "/step", "heartbeat": "/alive"}
    path.write_text(yaml.safe_dump({"student": "x", "topics": topics, "rate_hz": 20, "heartbeat_hz": 4}))
    bench = Bench()
    StudentNode(Stream(), read_config(path), bench)
    bench.run_for(1.0)
    assert set(bench.callbacks) == {("/cam", "image"), ("/new", "empty")}
    assert (len(bench.of("/step")), len(bench.of("/alive"))) == (20, 4)


def test_ten_answers_a_second_by_default_with_age_and_confidence() -> None:
    _, _, bench = node()
    bench.run_for(1.0)
    answers = bench.of("aot/answer")
    assert len(answers) == 10
    assert (answers[0]["answer"], answers[0]["age_s"], answers[0]["confidence"]) == ("chop onion", 0.3, 0.9)
    assert answers[0]["abstained"] == ""


def test_an_abstention_is_published_with_its_reason_and_no_answer() -> None:
    _, _, bench = node(Stream(Answer(answer="guess", abstained="stale", detail="no frame for 3 s", mode="decide")))
    bench.run_for(0.1)
    (message,) = bench.of("aot/answer")
    assert (message["answer"], message["abstained"], message["detail"]) == ("", "stale", "no frame for 3 s")
    bench.run_for(0.5)
    assert bench.of("aot/heartbeat")[-1]["abstained"]["stale"] >= 5


def test_a_student_that_fails_is_an_abstention_and_the_node_goes_on() -> None:
    _, stream, bench = node(Stream(RunError("the student was closed; load it again")))
    bench.run_for(0.1)
    assert bench.of("aot/answer")[0]["abstained"] == "failed" and "load it again" in bench.of("aot/answer")[0]["detail"]
    stream.says = Answer(answer="fry egg", mode="decide")
    bench.run_for(0.1)
    assert bench.of("aot/answer")[1]["answer"] == "fry egg"


def test_the_heartbeat_comes_without_any_frame_and_says_how_old_the_last_one_is() -> None:
    made, _, bench = node()
    bench.run_for(1.0)
    assert [one["frame_age_s"] for one in bench.of("aot/heartbeat")] == [None, None]
    made.on_image(picture())
    bench.run_for(1.0)
    assert [one["frame_age_s"] for one in bench.of("aot/heartbeat")[2:]] == [0.5, 1.0]
    assert bench.of("aot/heartbeat")[-1]["frames"] == 1 and bench.of("aot/heartbeat")[-1]["state"] == "running"


def test_the_heartbeat_asks_the_student_nothing() -> None:
    class Stuck(Stream):
        def answer(self) -> Answer:
            raise AssertionError("a heartbeat may not wait for the student")

    made, _, bench = node(Stuck())
    made.beat()
    assert len(bench.of("aot/heartbeat")) == 1


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
@pytest.mark.parametrize("pad", [0, 5])
def test_every_encoding_becomes_the_same_kind_of_frame(encoding: str, pad: int) -> None:
    message = picture(encoding=encoding, pad=pad)
    frame = frame_of(message)
    assert frame.shape == (2, 3, 3) and frame.dtype == np.uint8
    assert frame.flags.c_contiguous and not np.shares_memory(frame, np.frombuffer(message.data, np.uint8))
    first = {"rgb8": [0, 1, 2], "rgba8": [0, 1, 2], "bgr8": [2, 1, 0], "bgra8": [2, 1, 0], "mono8": [0, 0, 0]}
    assert frame[0, 0].tolist() == first[encoding]
    assert frame[1, 0].min() == message.step  # the second row begins after the padding


BAD = {
    "encoding": {"encoding": "bayer_rggb8"}, "cut off": {"data": b"12"}, "no rows": {"height": 0}, "step": {"step": 2},
    "more rows than bytes": {"height": 1000},
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_picture_is_counted_and_told_once(case: str, caplog: pytest.LogCaptureFixture) -> None:
    made, stream, bench = node()
    for _ in range(3):
        made.on_image(picture(**BAD[case]))
    made.on_image(picture())
    bench.run_for(0.5)
    beat = bench.of("aot/heartbeat")[-1]
    assert (beat["refused"], beat["frames"], len(stream.frames)) == (3, 1, 1)
    assert len([one for one in caplog.records if "left out" in one.message]) == 1


def test_a_camera_that_sends_its_last_picture_again_does_not_look_fresh() -> None:
    made, stream, bench = node()
    for stamp_s in (1.0, 1.1, 1.1, 1.1, 1.05):
        made.on_image(picture(stamp_s=stamp_s))
    bench.run_for(0.5)
    assert len(stream.frames) == 2 and bench.of("aot/heartbeat")[-1]["repeated"] == 3
    made.on_reset()
    made.on_image(picture(stamp_s=0.2))  # the stamps of a new episode may start again
    assert len(stream.frames) == 3 and stream.resets == 1


def test_frames_without_a_stamp_are_taken_and_all_get_the_monotonic_time_of_their_arrival() -> None:
    made, stream, bench = node()
    for _ in range(3):
        made.on_image(picture())
        bench.run_for(0.1)
    assert [round(time_s, 3) for _, time_s in stream.frames] == [100.0, 100.1, 100.2]


def test_a_slow_answer_is_warned_of_once_and_the_warnings_are_spread(caplog: pytest.LogCaptureFixture) -> None:
    _, stream, bench = node(warn_every_s=2.0, rate_hz=8)

    def say(i: int, seconds: float) -> None:
        stream.says = Answer(answer="a", mode="decide", frame_times_s=(float(i),), seconds=Seconds(generate=seconds))
        bench.run_for(0.5)

    with caplog.at_level(logging.WARNING):
        say(0, 0.05)
        assert not caplog.records
        for i in range(1, 9):  # four seconds of answers that take a second each
            say(i, 1.0)
    texts = [one.getMessage() for one in caplog.records]
    assert len(texts) == 2 and "longer than a cycle of 125 ms, the last one 1000 ms" in texts[0]
    assert texts[0].startswith("1 answers") and texts[1].startswith("4 answers")
    assert bench.of("aot/heartbeat")[-1]["slow"] == 8


def test_the_end_is_a_last_heartbeat_and_nothing_after_it() -> None:
    made, stream, bench = node()
    bench.run_for(1.0)
    for end in bench.ends:
        end()
    made.stop()
    count = len(bench.sent)
    made.on_image(picture())
    bench.run_for(1.0)
    assert len(bench.sent) == count and bench.sent[-1][1]["state"] == "stopped"
    assert stream.closed == 1 and not stream.frames


def test_an_answer_that_is_ready_after_the_end_is_not_published() -> None:
    class Late(Stream):
        def answer(self) -> Answer:
            made.stop()  # as another thread would, while this one waits for the student
            return super().answer()

    made, _, bench = node(Late())
    made.tick()
    made.beat()
    assert [(topic, fields["state"]) for topic, fields in bench.sent] == [("aot/heartbeat", "stopped")]


def test_a_picture_or_a_reset_that_meets_the_end_is_no_error() -> None:
    class Closing(Stream):
        def observe(self, frame: np.ndarray, time_s: float) -> None:
            made.stop()  # as another thread would, just before this
            raise RunError("the stream was closed; open a new one")

        def reset(self) -> None:
            self.observe(np.empty(0), 0.0)

    for meet in ("on_image", "on_reset"):
        made, stream, bench = node(Closing())
        getattr(made, meet)(picture())
        made.on_reset()
        made.tick()
        assert [fields["state"] for _, fields in bench.sent] == ["stopped"] and stream.closed == 1


def test_the_stream_is_closed_also_where_the_last_heartbeat_cannot_be_sent() -> None:
    made, stream, bench = node()
    bench.publish = lambda topic, text: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        made.stop()
    assert stream.closed == 1


PROGRAM = """
import json, sys, time
import numpy as np
from aot.answer_records import Answer
from aot.serving.ros2 import Ros2Config, serve

class Plain:
    ends, stopping = [], False
    def subscribe(self, topic, kind, callback): pass
    def publish(self, topic, text): print(topic, text, flush=True)
    def now_s(self): return time.monotonic()
    def timer(self, rate_hz, callback): self.callbacks = [*getattr(self, "callbacks", []), callback]
    def on_shutdown(self, callback): self.ends.append(callback)
    def run(self):
        while not self.stopping:
            for callback in self.callbacks: callback()
            time.sleep(0.02)
        for end in self.ends: end()
    def stop(self): self.stopping = True

class Stream:
    def observe(self, frame, time_s): pass
    def answer(self): return Answer(answer="fry egg", mode="decide")
    def reset(self): pass
    def close(self): print("closed", flush=True)

serve(Stream(), Ros2Config(student="x"), Plain())
print("done", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly_with_a_last_heartbeat(number: signal.Signals) -> None:
    child = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    first = child.stdout.readline()
    os.kill(child.pid, number)
    lines = child.stdout.read().splitlines()
    assert child.wait(60) == 0 and first.startswith("aot/")
    assert lines[-2:] == ["closed", "done"]
    topic, _, text = lines[-3].partition(" ")
    assert topic == "aot/heartbeat" and json.loads(text)["state"] == "stopped"


def test_the_shipped_config_is_read() -> None:
    config = read_config(SHIPPED)
    assert (config.rate_hz, config.topics.heartbeat, config.choices) == (10, "aot/heartbeat", ())
    assert config.min_confidence == "calibrated"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no settings"), ("[1]", "holds no settings"), ("rate_hz: 5", "student: Field required"),
        ("{student: x, rate: 5}", "rate: Extra inputs"), ("{student: x, rate_hz: 0}", "rate_hz: Input"),
        ("{student: x, min_confidence: 2}", "min_confidence"),
        ("{student: x, rate_hz: true}", "must be a number"), ("{student: x, topics: {image: ''}}", "topics.image"),
        ("{student: x, node: 9}", "node"),
        ("a: !!python/object:os.system x", "node.yaml"),
    ],
)  # fmt: skip
def test_a_bad_config_is_told_in_one_line(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "node.yaml"
    path.write_text(text)
    assert main([str(path)]) == 2
    assert sentence in capsys.readouterr().err
    with pytest.raises(ConfigError):
        read_config(path)


def test_without_ros_the_command_says_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(SHIPPED)]) == 2
    assert "source /opt/ros/" in capsys.readouterr().err


class FakeRos:
    """Stands for the modules of ROS, with the signatures of its documentation; plays timers and a topic."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[Any] = []
        self.callbacks: list[Callable[..., None]] = []
        names = ["rclpy", *(f"rclpy.{one}" for one in ("executors", "signals", "qos", "callback_groups"))]
        names += ["sensor_msgs", "sensor_msgs.msg", "std_msgs", "std_msgs.msg"]
        modules = {name: ModuleType(name) for name in names}
        modules["rclpy"].__dict__.update(init=self.init, create_node=self.create_node, ok=lambda: True)
        modules["rclpy"].__dict__.update(try_shutdown=lambda: self.log.append("context closed"))
        modules["rclpy.executors"].MultiThreadedExecutor = lambda num_threads: self
        modules["rclpy.signals"].SignalHandlerOptions = SimpleNamespace(NO="no")
        modules["rclpy.qos"].QoSProfile = lambda *, depth, reliability=None: (depth, reliability)
        modules["rclpy.qos"].ReliabilityPolicy = SimpleNamespace(BEST_EFFORT="best effort")
        modules["rclpy.callback_groups"].MutuallyExclusiveCallbackGroup = object
        modules["sensor_msgs.msg"].Image = "Image"
        modules["std_msgs.msg"].Empty = "Empty"
        modules["std_msgs.msg"].String = lambda *, data: data
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)

    def init(self, *, args: list[str] | None = None, signal_handler_options: object = None) -> None:
        self.log.append(("init", args, signal_handler_options))

    def create_node(self, node_name: str) -> "FakeRos":
        return self

    def add_node(self, node: object) -> None:
        assert node is self

    def create_subscription(self, msg_type, topic, callback, qos_profile, *, callback_group=None) -> None:  # noqa: ANN001
        self.log.append((msg_type, topic, qos_profile))
        self.callbacks.append(callback)

    def create_publisher(self, msg_type, topic, qos_profile) -> SimpleNamespace:  # noqa: ANN001
        return SimpleNamespace(publish=lambda message: self.log.append((topic, json.loads(message))))

    def create_timer(self, timer_period_sec, callback, callback_group=None) -> None:  # noqa: ANN001
        self.callbacks.append(callback)

    def spin_once(self, timeout_sec: float | None = None) -> None:
        assert timeout_sec is not None  # else a signal would wait for the next message
        self.callbacks[0](picture())
        for callback in self.callbacks[2:]:
            callback()
        signal.raise_signal(signal.SIGTERM)

    def shutdown(self) -> None:
        self.log.append("executor closed")

    def destroy_node(self) -> None:
        self.log.append("node closed")


def test_the_adapter_of_ros_sends_the_last_heartbeat_before_the_context_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    ros, stream = FakeRos(monkeypatch), Stream()
    adapter = RclpyAdapter("aot_student", ["--ros-args", "-r", "a:=b"])
    serve(stream, Ros2Config(student="x"), adapter)
    assert ros.log[0] == ("init", ["--ros-args", "-r", "a:=b"], "no")
    assert ros.log[1:3] == [("Image", "camera/image_raw", (1, "best effort")), ("Empty", "aot/reset", (10, None))]
    said = [(topic, fields.get("state", fields.get("answer"))) for topic, fields in ros.log[3:6]]
    assert said == [("aot/heartbeat", "running"), ("aot/answer", "chop onion"), ("aot/heartbeat", "stopped")]
    assert ros.log[6:] == ["executor closed", "node closed", "context closed"]
    assert len(stream.frames) == stream.closed == 1


def test_the_node_runs_on_a_stream_of_an_exported_student(video_export: Path) -> None:
    from aot import load_student
    from aot.serving.stream.loop import StudentStream

    choices = ("wash rice", "chop onion")
    with load_student(video_export) as student:
        bench = Bench()
        stream = StudentStream(student, question="What is the next step?", choices=choices, clock=bench.now_s)
        made = StudentNode(stream, Ros2Config(student="x", choices=choices), bench)
        bench.run_for(0.1)
        for value in (0, 90, 180):
            bench.run_for(0.5)
            data = np.full((96, 96, 3), value, np.uint8).tobytes()
            made.on_image(picture(height=96, width=96, step=288, data=data, stamp_s=bench.time_s))
        stream.answer(deadline_s=60)  # until it has seen them
        bench.run_for(0.1)
        first, last = bench.of("aot/answer")[0], bench.of("aot/answer")[-1]
        assert first["abstained"] == "stale" and last["answer"] in choices and last["age_s"] < 1
        bench.run_for(5.0)
        assert bench.of("aot/answer")[-1]["abstained"] == "stale"
        made.stop()


def test_published_json_is_plain_json_for_every_answer() -> None:
    text = answer_text(Answer(answer="größer", mode="decide", confidence=None, frame_times_s=(0.5,)))
    assert json.loads(text)["answer"] == "größer" and "NaN" not in text
