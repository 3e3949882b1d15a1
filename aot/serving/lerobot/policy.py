"""A text head for LeRobot's policies: `generate_text(batch)` gives exactly one subtask, or raises and says why.

`lerobot-rollout` with auto-steer asks the policy every few seconds for the next subtask (`query_kind` `next_subtask`),
and an operator may ask it about the scene (`vqa`); what came back is applied, and an exception stops the sequencer. The
convention is that of `src/lerobot/policies/pretrained.py` and `rollout/inference/{base,sync}.py` of version 0.6:
`supports_text_generation()` is a method. Nothing here touches actions: no tensor is changed, nothing is kept of the
batch but copies of frames, no random number is drawn.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from aot.answer_records import Answer
from aot.errors import AotError
from aot.serving.lerobot.frames import EpisodeFrames, SubtaskError, frame_of, scalar, text_of

QUESTION = "What is the next step?"
"""As training questions word it."""


class Askable(Protocol):
    """A student in this process (`ServedStudent`) or behind a server (`RemoteStudent`)."""

    def ask(
        self, question: str, *, frames: Sequence[np.ndarray], times_s: Sequence[float], choices: Sequence[str]
    ) -> Answer:
        """The answer to one question about frames."""


@runtime_checkable
class Streamed(Protocol):
    """A student that watches all the time (`StudentStream`); its question stands already."""

    def observe(self, frame: np.ndarray, time_s: float) -> object:
        """Take a frame; never blocks."""

    def answer(self, deadline_s: float | None = None) -> Answer:
        """The freshest answer."""

    def reset(self) -> object:
        """Forget the episode."""


class SubtaskWriter:
    """What a policy hands its text queries to; one for each robot, may be used from any thread."""

    def __init__(
        self,
        student: Askable | Streamed,
        *,
        subtasks: Sequence[str] = (),
        question: str = QUESTION,
        camera: str = "",
        min_confidence: float = 0.0,
        max_frames: int = 16,
        frame_gap_s: float = 1 / 3,
        deadline_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is asked yet.

        Args:
            student: in this process, a stream of one, or behind a server.
            subtasks: the closed set of answers, where there is one: then exactly one of them comes back.
            question: as the student was trained; `{task}` stands for the goal.
            camera: such as `front`; the first by name if not given.
            min_confidence: below it there is no subtask, for the reason `uncertain`.
            max_frames: of an episode, spread over it; a student looks at `contract.frames.num_frames` of them.
            frame_gap_s: the student's sampling rule: frames of one clip were taken so far apart.
            deadline_s: how long a stream may take to answer; None takes the freshest answer at once.
            clock: of a stream, and for batches without `timestamp`.
        """
        self._student, self._subtasks, self._question, self._camera = student, tuple(subtasks), question, camera
        self._min_confidence, self._deadline_s, self._clock = min_confidence, deadline_s, clock
        self._ring, self._lock = EpisodeFrames(max_frames, frame_gap_s), threading.Lock()

    def supports_text_generation(self) -> bool:
        """True: LeRobot asks before it queues a question."""
        return True

    def reset(self) -> None:
        """Forget the frames, at the start of an episode."""
        with self._lock:
            self._ring.reset()
            if isinstance(self._student, Streamed):
                self._student.reset()

    def observe(self, batch: Mapping[str, Any]) -> None:
        """Take the frame of a batch, such as in each `select_action`: it sees what is between questions.

        Raises:
            SubtaskError: the batch holds no usable picture; the reason is `bad_batch`.
        """
        frame, time_s = frame_of(batch, self._camera), scalar(batch.get("timestamp"), "timestamp")
        if isinstance(self._student, Streamed):
            # A stream tells by its clock what is stale; a batch counts from the beginning of its episode.
            self._student.observe(frame, self._clock())
            return
        with self._lock:
            self._ring.add(self._clock() if time_s is None else time_s, frame)

    def generate_text(self, batch: Mapping[str, Any]) -> str:
        """The next subtask, one non-empty line, of closed subtasks one of them; or the answer to a `vqa` batch.

        Raises:
            SubtaskError: the student abstained, could not be reached, or said nothing that is one subtask.
        """
        self.observe(batch)
        kind, text = text_of(batch.get("query_kind")), text_of(batch.get("query_text"))
        goal = text or text_of(batch.get("task"))
        asks_scene = kind == "vqa" and bool(text)
        if asks_scene and isinstance(self._student, Streamed):
            raise SubtaskError(
                f"a stream answers its own question only, not {text[:80]!r}; give SubtaskWriter a student of "
                "load_student, or a RemoteStudent",
                "bad_batch",
            )
        question = text if asks_scene else self._question.replace("{task}", goal)
        answer = self._ask(question, () if asks_scene else self._subtasks)
        if answer.abstained:
            raise SubtaskError(answer.detail or "the student abstained", answer.abstained)
        if answer.confidence is not None and answer.confidence < self._min_confidence:
            raise SubtaskError(
                f"{answer.answer!r} has probability {answer.confidence:.2f}, not {self._min_confidence:g}",
                "uncertain",
            )
        return answer.answer.strip() if asks_scene else one_subtask(answer.answer, self._subtasks)

    def _ask(self, question: str, choices: tuple[str, ...]) -> Answer:
        student = self._student
        try:
            if isinstance(student, Streamed):
                return student.answer() if self._deadline_s is None else student.answer(deadline_s=self._deadline_s)
            with self._lock:
                times_s, frames = self._ring.all()
            return student.ask(question, frames=frames, times_s=times_s, choices=choices)
        except SubtaskError:
            raise
        except AotError as error:
            raise SubtaskError(str(error), "failed") from None


def one_subtask(text: str, subtasks: Sequence[str] = ()) -> str:
    r"""The one subtask that `text` is, without blanks around it.

    >>> one_subtask(" pick up the cup\n")
    'pick up the cup'

    Raises:
        SubtaskError: it is empty, several, or none of the closed `subtasks`.
    """
    line = text.strip()
    if not line:
        raise SubtaskError("the student said nothing", "empty")
    if subtasks and line not in subtasks:
        raise SubtaskError(f"{line[:80]!r} is none of the {len(subtasks)} subtasks", "not_a_choice")
    if len(line.splitlines()) > 1:
        raise SubtaskError(f"{line[:80]!r} is more than one line, and a subtask is one", "several")
    return line
