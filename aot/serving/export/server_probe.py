"""Asks a server that serves an exported student the same as the export itself, and counts equal replies.

For any OpenAI-compatible server, such as llama.cpp's on a GGUF made from the export, vLLM or SGLang. The server writes
the prompt by its own copy of the chat template, so this is where another template shows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aot.chat.factory import open_chat
from aot.config import ChatConfig
from aot.display import one_line
from aot.errors import ChatError, ConfigError
from aot.records import Prediction, PromptMode, Question
from aot.serving.export.probe import SAME_SHARE, answers
from aot.serving.student import load_student
from aot.student.answer.remote import StudentOfServer
from aot.student.rows.frames import FrameSource


@dataclass(frozen=True)
class ServerLikeness:
    """How many of a server's replies are those of the export."""

    replies: int
    same: int
    refused: tuple[str, ...]
    """Reasons of requests that got no reply, which count as different."""
    left_out: int
    """Replies that the export itself cut off or could not give: nothing to compare with."""
    differs: str

    @property
    def is_enough(self) -> bool:
        """Whether replies were compared, and at least SAME_SHARE of them are the same."""
        return self.replies > 0 and self.same >= SAME_SHARE * self.replies


def server_likeness(
    export: Path, questions: Sequence[Question], *, frames: Path | None, url: str, model: str
) -> ServerLikeness:
    """Ask the export and a server the same questions, greedily, in every mode that the student was taught.

    Args:
        export: an exported folder.
        questions: what is asked.
        frames: the frame store of the run; None where questions show none.
        url: of the server, as in http://127.0.0.1:8080/v1; a key is read from OPENAI_API_KEY.
        model: name of the student there; empty takes that of the contract.

    Raises:
        CheckpointError: the export cannot be loaded.
        ConfigError: the server cannot be asked at all, or the student calls tools.
    """
    with load_student(export, device="cpu") as served:
        student, contract = served.student, served.contract
        if contract.tools:
            raise ConfigError(
                f"{contract.name} answers by calling tools, which other servers do not run, so there is no reply to "
                "compare; serve the export by aot serve, which runs them"
            )
        made = answers(student, questions, modes=contract.modes, frames=frames, batch_size=16)
        store = _store(frames)
        section = ChatConfig(
            model=model or contract.name, base_url=url, temperature=0.0, max_attempts=2, raise_tokens=1
        )
        chat = open_chat(section, run=None, writer="probe")
        try:
            remote = StudentOfServer(chat, student.config, student.renderer, store)
            # What another server calls the end of a reply that was cut off here says nothing about the model.
            return likeness_to(
                remote, questions, made, modes=contract.modes,
                compares=lambda ours: not ours.error and ours.finish_reason != "length",
            )  # fmt: skip
        finally:
            chat.close()


def likeness_to(
    remote: StudentOfServer,
    questions: Sequence[Question],
    made: Sequence[Prediction],
    *,
    modes: Sequence[PromptMode],
    compares: Callable[[Prediction], bool] = lambda ours: not ours.error,
) -> ServerLikeness:
    """How many replies of a server are those in `made`, which answer the questions mode by mode.

    `compares` tells which of those say enough to compare another reply with.

    Raises:
        ConfigError: the server cannot be asked at all.
        GuardStop: it stopped answering.
    """
    same, replies, left_out, refused, differs = 0, 0, 0, list[str](), ""
    asked_of = [(question, mode) for mode in modes for question in questions]
    for (question, mode), ours in zip(asked_of, made, strict=True):
        if not compares(ours):
            left_out += 1
            continue
        replies += 1
        try:
            theirs = remote.predict(question, mode, arm=ours.arm)
        except ChatError as error:
            refused.append(error.reason)
            continue
        said = theirs.error or theirs.raw_text
        # By words: where a server spells out special tokens, what is left around them may differ in blanks.
        is_same = said.split() == ours.raw_text.split() and theirs.finish_reason == ours.finish_reason
        same += is_same
        if not is_same and not differs:
            differs = one_line(f"{question.id} ({mode}): {ours.raw_text[:100]!r}, there {said[:100]!r}")
    return ServerLikeness(replies, same, tuple(refused), left_out, differs)


def _store(frames: Path | None) -> FrameSource | None:
    if frames is None:
        return None
    from video_data.store.shards import FrameStore  # text needs no video package

    return FrameStore(frames)
