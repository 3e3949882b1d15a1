"""The node's whole logic, without ROS: frames in, answers and heartbeats out at a fixed rate.

An adapter gives it topics, timers and a clock, so that it is tested without ROS. Heartbeat, frames and answers have a
topic and a timer each, and none waits for another: a slow model delays its answers and nothing else. No answer is a
guess: where there is none, the message says `abstained` and why.
"""

import json
import logging
import math
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import Field, ValidationError

from aot.answer_records import Answer
from aot.config.base import PathText, Section
from aot.config.reading.strict_yaml import read_yaml
from aot.errors import AotError, ConfigError, SourceError

log = logging.getLogger(__name__)
Topic = Literal["image", "empty"]
"""Kinds of messages that the node listens to: sensor_msgs/Image and std_msgs/Empty."""
_FORWARD, _BACKWARD = slice(0, 3), slice(2, None, -1)
CHANNELS: dict[str, slice | list[int]] = {
    "rgb8": _FORWARD, "bgr8": _BACKWARD, "rgba8": _FORWARD, "bgra8": _BACKWARD, "mono8": [0, 0, 0],
}  # fmt: skip
"""Encodings of pictures (sensor_msgs/image_encodings.hpp) that are read, and where red, green and blue stand."""
_PIXEL_BYTES = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}


class Topics(Section):
    """Names of topics; a name without a leading `/` stands under the node's namespace."""

    image: str = Field(default="camera/image_raw", min_length=1)
    """sensor_msgs/Image; only the newest frame is waited for."""
    reset: str = Field(default="aot/reset", min_length=1)
    """std_msgs/Empty: a new episode begins."""
    answer: str = Field(default="aot/answer", min_length=1)
    """std_msgs/String with JSON, once a cycle."""
    heartbeat: str = Field(default="aot/heartbeat", min_length=1)
    """std_msgs/String with JSON; its last message says `stopped`."""


class Ros2Config(Section):
    """What the node reads from its YAML file."""

    student: PathText
    """An exported folder."""
    question: str = Field(default="What is the next step?", min_length=1)
    choices: tuple[str, ...] = ()
    """A closed set of steps; empty: the student writes."""
    node: str = Field(default="aot_student", pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    topics: Topics = Topics()
    rate_hz: float = Field(default=10.0, gt=0, le=1000)
    """Answers a second; also what is called slow: an answer that takes longer than one cycle."""
    heartbeat_hz: float = Field(default=2.0, gt=0, le=100)
    stale_s: float = Field(default=2.0, gt=0)
    """An answer about a picture that was last seen so long ago is withheld."""
    deadline_s: float | None = Field(default=None, gt=0)
    """An answer that is ready so long after its picture was taken is withheld; none: no limit."""
    min_confidence: Annotated[float, Field(ge=0, le=1)] | Literal["calibrated"] | None = "calibrated"
    """A less probable choice is withheld; `calibrated`: see StudentStream; none: every choice is given."""
    warn_every_s: float = Field(default=5.0, ge=0)
    """Slow answers are told at most so often."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Streamed(Protocol):
    """A student that watches (`StudentStream`)."""

    def observe(self, frame: np.ndarray, time_s: float) -> object:
        """Take a frame at a moment of the monotonic clock; never blocks."""

    def answer(self) -> Answer:
        """The freshest answer, at once."""

    def reset(self) -> object:
        """Forget the episode."""

    def close(self) -> object:
        """Let go of the student."""


class Adapter(Protocol):
    """What the node needs of a robot's middleware."""

    def subscribe(self, topic: str, kind: Topic, callback: Callable[[Any], None]) -> None:
        """Call back with each message of a topic."""

    def publish(self, topic: str, text: str) -> None:
        """Send a text; never blocks."""

    def now_s(self) -> float:
        """Seconds of the monotonic clock."""

    def timer(self, rate_hz: float, callback: Callable[[], None]) -> None:
        """Call back so often, whatever other callbacks are doing."""

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call back once when the adapter ends, while it can still publish."""

    def run(self) -> None:
        """Work until somebody asks for the end."""

    def stop(self) -> None:
        """Ask for the end, from any thread or signal."""


class StudentNode:
    """Frames in, answers and heartbeats out; its callbacks may come from several threads at once."""

    def __init__(self, stream: Streamed, config: Ros2Config, adapter: Adapter) -> None:
        self._stream, self._config, self._adapter = stream, config, adapter
        self._lock, self._sending = threading.Lock(), threading.Lock()
        self._counts: Counter[str] = Counter()
        self._abstained: Counter[str] = Counter()
        self._frame_s = self._stamp_s = self._warned_s = -math.inf
        self._slow_unsaid, self._last = 0, Answer(mode="decide", abstained="stale")
        self._state: Literal["running", "stopped"] = "running"
        adapter.subscribe(config.topics.image, "image", self.on_image)
        adapter.subscribe(config.topics.reset, "empty", self.on_reset)
        adapter.timer(config.heartbeat_hz, self.beat)
        adapter.timer(config.rate_hz, self.tick)
        adapter.on_shutdown(self.stop)

    def on_image(self, message: Any) -> None:  # noqa: ANN401 - sensor_msgs/Image
        """Hand a picture to the student, but not again one with the stamp of the last: that camera stands still."""
        now_s = self._adapter.now_s()
        try:
            frame, stamp_s = frame_of(message), stamp_of(message)
        except SourceError as error:
            with self._lock:
                self._counts["refused"] += 1
                first = self._counts["refused"] == 1
            if first:
                log.warning("pictures of this kind are left out: %s", error)
            return
        with self._lock:
            if self._state == "stopped":
                return
            # A driver that hangs may send its last picture again and again; its age must then grow.
            if stamp_s > 0 and stamp_s <= self._stamp_s:
                self._counts["repeated"] += 1
                return
            self._stamp_s, self._frame_s = stamp_s, now_s
            self._counts["frames"] += 1
        with self._until_stopped():
            self._stream.observe(frame, now_s)

    def on_reset(self, _message: object = None) -> None:
        """Begin a new episode, whose stamps may start again."""
        with self._lock:
            if self._state == "stopped":
                return
            self._stamp_s = -math.inf
            self._counts["resets"] += 1
        with self._until_stopped():
            self._stream.reset()

    def tick(self) -> None:
        """Publish the freshest answer, once a cycle."""
        if self._state == "stopped":
            return
        try:
            answer = self._stream.answer()
        except AotError as error:
            answer = Answer(mode="decide", abstained="failed", detail=str(error))
        with self._lock:
            if self._state == "stopped":  # meanwhile: it is no failure that the stream was closed then
                return
            self._counts["answers"] += 1
            if answer.abstained:
                self._abstained[answer.abstained] += 1
        self._watch_latency(answer)
        self._publish(self._config.topics.answer, answer_text(answer))

    def beat(self) -> None:
        """Publish a heartbeat; asks neither the student nor the camera."""
        self._publish(self._config.topics.heartbeat, self._heartbeat())

    def stop(self) -> None:
        """End: the last heartbeat says `stopped`, and nothing is published after it; a second call does nothing."""
        with self._sending:
            with self._lock:
                if self._state == "stopped":
                    return
                self._state = "stopped"
            try:
                self._adapter.publish(self._config.topics.heartbeat, self._heartbeat())
            finally:
                self._stream.close()

    @contextmanager
    def _until_stopped(self) -> Iterator[None]:
        """Bear that the stream is closed by another thread while this one uses it."""
        try:
            yield
        except AotError:
            if self._state == "running":
                raise

    def _publish(self, topic: str, text: str) -> None:
        """Send a text, unless the last heartbeat was sent meanwhile."""
        with self._sending:
            if self._state == "running":
                self._adapter.publish(topic, text)

    def _watch_latency(self, answer: Answer) -> None:
        """Say that an answer took longer than a cycle: once for each answer, and not too often."""
        same = (answer.frame_times_s, answer.seconds) == (self._last.frame_times_s, self._last.seconds)
        self._last = answer
        if same or answer.seconds.total <= 1 / self._config.rate_hz:
            return
        now_s = self._adapter.now_s()
        with self._lock:
            self._counts["slow"] += 1
            self._slow_unsaid += 1
            if now_s - self._warned_s < self._config.warn_every_s:
                return
            count, self._slow_unsaid, self._warned_s = self._slow_unsaid, 0, now_s
        log.warning(
            "%d answers took longer than a cycle of %.0f ms, the last one %.0f ms; lower rate_hz",
            count, 1000 / self._config.rate_hz, 1000 * answer.seconds.total,
        )  # fmt: skip

    def _heartbeat(self) -> str:
        with self._lock:
            seen = math.isfinite(self._frame_s)
            fields = {
                "state": self._state,
                "node": self._config.node,
                "rate_hz": self._config.rate_hz,
                "frame_age_s": round(self._adapter.now_s() - self._frame_s, 3) if seen else None,
                **{name: self._counts[name] for name in ("frames", "repeated", "refused", "answers", "slow", "resets")},
                "abstained": dict(self._abstained),
            }
        return json.dumps(fields)


def answer_text(answer: Answer) -> str:
    """An answer as the JSON that is published; `answer` is empty where `abstained` is not."""
    names = {
        "answer", "abstained", "detail", "confidence", "age_s", "choices", "choice_probs", "rationale", "model",
        "contract_digest", "frame_times_s", "escalated",
    }  # fmt: skip
    fields = {**answer.model_dump(include=names), "seconds": answer.seconds.total}
    return json.dumps(fields | ({"answer": ""} if answer.abstained else {}), ensure_ascii=False)


def frame_of(message: Any) -> np.ndarray:  # noqa: ANN401 - sensor_msgs/Image
    """The picture of a message, a copy, uint8 (height, width, 3), RGB.

    Raises:
        SourceError: its encoding is not read here, or it holds fewer bytes than it says.
    """
    encoding = str(message.encoding).lower()
    if encoding not in CHANNELS:
        raise SourceError(f"encoding {encoding[:40]!r} is not read; {', '.join(CHANNELS)} are fine")
    height, width, step, depth = int(message.height), int(message.width), int(message.step), _PIXEL_BYTES[encoding]
    data = np.frombuffer(memoryview(message.data), dtype=np.uint8)
    if height < 1 or width < 1 or step < width * depth or data.size < height * step:
        raise SourceError(
            f"a picture of {width}x{height} {encoding} with rows of {step} bytes holds {data.size} bytes; it is cut off"
        )
    rows = data[: height * step].reshape(height, step)[:, : width * depth]
    return rows.reshape(height, width, depth)[:, :, CHANNELS[encoding]].copy()


def stamp_of(message: Any) -> float:  # noqa: ANN401 - sensor_msgs/Image
    """When the picture was taken, in seconds of the camera's clock; 0 where its driver does not say."""
    stamp = message.header.stamp
    return float(stamp.sec) + float(stamp.nanosec) * 1e-9


def read_config(path: Path) -> Ros2Config:
    """The node's settings.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or wrong.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds no settings; `student: FOLDER` is the least")
    try:
        return Ros2Config.model_validate(values)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise ConfigError(f"{path}: {problems[0]}", lines=problems[1:]) from None


def serve(stream: Streamed, config: Ros2Config, adapter: Adapter) -> None:
    """Run the node until SIGTERM or SIGINT; ends with a last heartbeat whatever happens."""
    node = StudentNode(stream, config, adapter)
    try:
        with _Signals(adapter.stop):
            adapter.run()
    finally:
        node.stop()


class _Signals:
    """Ask for the end at the first SIGTERM or SIGINT; a second one ends at once, as it would have."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop, self._before = stop, dict[signal.Signals, Any]()

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._on_signal)

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._restore()
        self._stop()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
