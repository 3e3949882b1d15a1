"""A student behind a server: a question as a chat request, and the reply as the prediction that it would be here.

The server writes the prompt by its own copy of the chat template; whether it serves what it should is for others to
prove (aot.serving.export.server_probe). Nothing here knows whether an answer is right.
"""

import time
from dataclasses import dataclass
from typing import Any

from aot.chat.client import ChatModel
from aot.chat.messages import ChatReply, ChatRequest, ImagePart, Sampling
from aot.chat.pictures import png
from aot.config import StudentConfig
from aot.errors import ChatError, SourceError
from aot.records import MediaRef, Prediction, PromptMode, Question
from aot.student.rows.frames import FrameSource, choose_indices
from aot.student.rows.prompts import question_message
from aot.student.rows.replies import answer_of, plain_reply
from aot.student.rows.tokens import Renderer


@dataclass(frozen=True)
class StudentOfServer:
    """Asks one model of a server greedily, under the caps of a student."""

    chat: ChatModel
    config: StudentConfig
    """Its frames and caps."""
    renderer: Renderer
    """Knows its tags around rationales, and its special tokens, which some servers leave in."""
    store: FrameSource | None
    """Frames of clips; None where no question shows any."""
    engine: str = ""
    """What its predictions say of who made them."""

    def predict(self, question: Question, mode: PromptMode, *, arm: str, with_frames: bool = True) -> Prediction:
        """The prediction that one reply is; one with an error where the frames cannot be shown, or the prompt is long.

        In mode `explain` it is the first line, and a reply may go on behind it as far as the cap of an answer.

        Raises:
            ChatError: there was no reply, nor the beginning of one.
        """
        row: dict[str, Any] = {"question_id": question.id, "arm": arm, "mode": mode, "engine": self.engine}
        try:
            shown = []
            if with_frames and question.media and self.store is not None:
                shown = shown_frames(self.store, question.media, num_frames=self.config.num_frames)
        except SourceError as error:
            return Prediction.model_validate({**row, "raw_text": "", "answer": None, "error": str(error)})
        short = mode in ("direct", "explain")
        most = self.config.max_answer_tokens if short else self.config.max_rationale_tokens
        request = ChatRequest(
            messages=(question_message(question, shown, mode),),
            sampling=Sampling(temperature=0.0, max_tokens=most),
            purpose="answer",
        )
        started_s = time.perf_counter()
        reply, is_cut = _whole_or_cut(self.chat, request)
        row["latency_s"] = time.perf_counter() - started_s
        used = reply.usage
        # Nobody here has counted the tokens of the prompt: the server's count is the first that can be compared.
        if used and used.prompt_tokens > self.config.max_tokens:
            text = f"the prompt has {used.prompt_tokens} tokens, student.max_tokens is {self.config.max_tokens}"
            return Prediction.model_validate({**row, "raw_text": "", "answer": None, "error": text})
        said, is_whole = self.renderer.shown(_said(reply)), not is_cut
        if mode == "explain":
            # Nothing ends a reply there behind its first line, so the cap may fall later and cut off no answer.
            said, newline, _ = said.partition("\n")
            said, is_whole = said.rstrip(), is_whole or bool(newline)
        style = self.renderer.think_style
        return Prediction.model_validate({
            **row,
            "raw_text": plain_reply(said) if style != "none" else said,
            "answer": answer_of(said, style=style, mode=mode) if is_whole else None,
            "finish_reason": "stop" if is_whole else "length",
            "prompt_tokens": used.prompt_tokens if used else 0,
            "completion_tokens": used.completion_tokens if used else 0,
        })  # fmt: skip


def shown_frames(store: FrameSource, media: MediaRef, *, num_frames: int) -> list[ImagePart]:
    """The frames that a student is shown of a clip, as pictures without loss, each with its time.

    Raises:
        SourceError: the store holds none of that window.
    """
    chosen = choose_indices(store, media, num_frames=num_frames)
    frames = store.frames(media.uri, chosen.indices)
    pairs = zip(frames, chosen.times_s, strict=True)
    return [ImagePart(data=png(frame), mime="image/png", time_s=time_s) for frame, time_s in pairs]


def _whole_or_cut(chat: ChatModel, request: ChatRequest) -> tuple[ChatReply, bool]:
    """The reply, and whether it was cut off; one that says nothing is a reply too."""
    try:
        return chat.reply(request), False
    except ChatError as error:
        # To a teacher these are no replies; of a student they are what it said, and count as such.
        if not isinstance(error.so_far, ChatReply) or error.reason not in ("truncated", "empty"):
            raise
        return error.so_far, error.reason == "truncated"


def _said(reply: ChatReply) -> str:
    """What was said, with what a server took out as reasoning put back between its tags."""
    return f"<think>\n{reply.reasoning}\n</think>\n\n{reply.text}" if reply.reasoning else reply.text
