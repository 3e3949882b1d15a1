"""Asks a server that serves an exported student the same as the export itself, and counts equal replies.

For any OpenAI-compatible server, such as llama.cpp's on a GGUF made from the export, vLLM or SGLang. The server writes
the prompt by its own copy of the chat template, so this is where another template shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aot.chat.client import ChatModel
from aot.chat.factory import open_chat
from aot.chat.messages import ChatRequest, ImagePart, Sampling
from aot.chat.pictures import png
from aot.config import ChatConfig
from aot.display import one_line
from aot.errors import ChatError
from aot.records import MediaRef, Prediction, PromptMode, Question
from aot.serving.export.probe import SAME_SHARE, answers
from aot.serving.student import load_student
from aot.student.model.loading import Student
from aot.student.rows.frames import FrameSource, choose_indices
from aot.student.rows.prompts import question_message
from aot.student.rows.replies import plain_reply


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
        ConfigError: the server cannot be asked at all.
    """
    with load_student(export, device="cpu") as served:
        student, contract = served.student, served.contract
        made = answers(student, questions, modes=contract.modes, frames=frames, batch_size=16)
        store = _store(frames)
        section = ChatConfig(model=model or contract.name, base_url=url, temperature=0.0, max_attempts=2)
        chat = open_chat(section, run=None, writer="probe")
        try:
            return _compared(student, chat, questions, made, contract.modes, store)
        finally:
            chat.close()


def _compared(
    student: Student,
    chat: ChatModel,
    questions: Sequence[Question],
    made: Sequence[Prediction],
    modes: Sequence[PromptMode],
    store: FrameSource | None,
) -> ServerLikeness:
    same, replies, left_out, refused, differs = 0, 0, 0, list[str](), ""
    asked_of = [(question, mode) for mode in modes for question in questions]
    for (question, mode), ours in zip(asked_of, made, strict=True):
        if ours.error or ours.finish_reason == "length":
            left_out += 1
            continue
        replies += 1
        try:
            theirs = _reply(student, chat, question, mode, store)
        except ChatError as error:
            refused.append(error.reason)
            continue
        same += theirs == ours.raw_text.strip()
        if theirs != ours.raw_text.strip() and not differs:
            differs = one_line(f"{question.id} ({mode}): {ours.raw_text[:100]!r}, there {theirs[:100]!r}")
    return ServerLikeness(replies, same, tuple(refused), left_out, differs)


def _reply(student: Student, chat: ChatModel, question: Question, mode: PromptMode, store: FrameSource | None) -> str:
    shown = _pictures(store, question.media, student.config.num_frames) if store and question.media else []
    short = mode in ("direct", "explain")
    most = student.config.max_answer_tokens if short else student.config.max_rationale_tokens
    if mode == "explain":  # its first line alone counts, and nothing ends a reply there but its end
        most = student.config.max_rationale_tokens
    request = ChatRequest(
        messages=(question_message(question, shown, mode),), sampling=Sampling(temperature=0.0, max_tokens=most)
    )
    reply = chat.reply(request)
    text = f"<think>\n{reply.reasoning}\n</think>\n\n{reply.text}" if reply.reasoning else reply.text
    text = plain_reply(text) if student.renderer.think_style != "none" else text
    return text.partition("\n")[0].strip() if mode == "explain" else text.strip()


def _pictures(store: FrameSource, media: MediaRef, num_frames: int) -> list[ImagePart]:
    chosen = choose_indices(store, media, num_frames=num_frames)
    frames = store.frames(media.uri, chosen.indices)
    pairs = zip(frames, chosen.times_s, strict=True)
    return [ImagePart(data=png(frame), mime="image/png", time_s=time_s) for frame, time_s in pairs]


def _store(frames: Path | None) -> FrameSource | None:
    if frames is None:
        return None
    from video_data.store.shards import FrameStore  # text needs no video package

    return FrameStore(frames)
