"""The one prompt renderer: training, evaluation and inference all get their prompt ids here, and nowhere else.

A prompt shows each frame after its true time in seconds (`t=3.2s`), in order, then the question, its choices and how
to answer. The renderer needs the processor's tokenizer and chat template, or of a text model the tokenizer alone; it
never sees pixels, only frame sizes, because the number of image tokens of a frame depends on its size alone. It imports
no torch.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from aot.chat.templates import check_template, render_chat
from aot.errors import CheckpointError, SourceError
from aot.rationale import format_time
from aot.records import PromptMode, Question, ThoughtMode

Mode = PromptMode
MODES: tuple[Mode, ...] = ("direct", "reason")
"""What a video student is asked."""
TEXT_MODES: tuple[Mode, ...] = ("direct", "reason", "explain", "adaptive")
MODE_SUFFIX: dict[Mode, str] = {
    "direct": "Answer directly.",
    "reason": "Reason, then answer.",
    "explain": "Answer, then explain.",
    "adaptive": "Choose how to answer.",
}
MODE_LINES: dict[ThoughtMode, str] = {"direct": "At once.", "short": "Short steps.", "full": "All steps."}
"""First line of an adaptive student's reply."""
OPEN_THINK, CLOSE_THINK = "<think>\n", "\n</think>\n\n"
ThinkStyle = Literal["none", "written", "opened", "closed"]
"""Tags around a rationale: `none`; `written` by the reply; `opened` by the prompt and closed by the reply; or `closed`
by the prompt before any reply, because the template opens them and the reply shall have none."""

_PROBE = Question(
    id="probe", dataset="probe", split="probe", kind="probe", text="What is the next step?",
    choices=("one", "two"), answer="one", answer_type="choice", group="probe",
)  # fmt: skip
_PROBE_TIMES_S = (0.5, 1.5)
_PROBE_REPLY = "one"


@dataclass(frozen=True)
class EncodedRow:
    """Token ids of one prompt and, in training, of the completion that is supervised."""

    prompt_ids: tuple[int, ...]
    """Image placeholders already expanded to one id for each visual token."""
    completion_ids: tuple[int, ...] = ()
    """Answer or rationale, with the token that ends the turn; empty at inference."""
    num_label: int = 0
    """How many leading ids of the completion are learned as a label, the others as a rationale; set for text only."""

    @property
    def num_tokens(self) -> int:
        """Length of prompt and completion together."""
        return len(self.prompt_ids) + len(self.completion_ids)


class Renderer:
    """Turns questions into prompts and token ids for one processor, or for the tokenizer of a text model."""

    def __init__(
        self,
        processor: Any,  # noqa: ANN401 - processors share no useful base type
        *,
        think_tags: Literal["auto", "none"] = "auto",
    ) -> None:
        """Looks the chat template over; raises CheckpointError where it cannot be used."""
        self.processor = processor
        self.is_text = not hasattr(processor, "image_processor")
        """Whether the model takes text only."""
        self.tokenizer = processor if self.is_text else processor.tokenizer
        self.image_token: str = getattr(processor, "image_token", None) or "<image>"
        self.image_token_id = -1 if self.is_text else int(self.tokenizer.convert_tokens_to_ids(self.image_token))
        self._has_template = bool(getattr(processor, "chat_template", None))
        check_template(processor)
        self.think_style: ThinkStyle = "none"
        """Only a text model's replies get tags."""
        self._times_in_text = False
        self._times_in_text = not (self.is_text or self._interleaves())
        if _PROBE.text not in self.prompt(_PROBE, (), "direct"):
            raise CheckpointError(
                f"the chat template of {self.tokenizer.name_or_path} leaves the question out; mend it"
            )
        if self.is_text:
            self.think_style = self._find_think_style(think_tags)
        self._expansions: dict[tuple[int, int], tuple[int, ...]] = {}
        self.needs_token_types = False
        """Whether the model wants mm_token_type_ids (1 for visual tokens); known after the first frame size."""
        self._completion_frame = self._find_completion_frame()

    def prompt(
        self, question: Question, frame_times_s: Sequence[float], mode: Mode, *, with_frames: bool = True
    ) -> str:
        """The prompt as text, one image placeholder for each frame; without frames it holds the question only."""
        text = self._template(self._messages(question, frame_times_s if with_frames else (), mode), prompt=True)
        if self.think_style not in ("opened", "closed"):
            return text
        thinks = self.think_style == "opened" and mode in ("reason", "adaptive")
        return text.rstrip().removesuffix(OPEN_THINK.strip()) + OPEN_THINK + ("" if thinks else CLOSE_THINK)

    def encode(
        self,
        question: Question,
        frame_times_s: Sequence[float],
        mode: Mode,
        *,
        frame_size_hw: tuple[int, int] | None,
        completion: str | None = None,
        with_frames: bool = True,
    ) -> EncodedRow:
        """Ids of the prompt, and of the completion if one is given.

        Args:
            question: what is asked.
            frame_times_s: true times of the frames shown, ascending.
            mode: answer directly, or reason first.
            frame_size_hw: height and width of the stored frames in pixels; None when no frame is shown.
            completion: what the student shall learn to say.
            with_frames: False gives the control without frames.

        Raises:
            SourceError: the question's text contains the model's image placeholder, or a token that ends a turn.
        """
        times = tuple(frame_times_s) if with_frames else ()
        if self.is_text and (mark := self.reserved_mark(" ".join((question.text, *question.choices)))):
            raise SourceError(f"question {question.id}: its text must not contain {mark!r}, which the model reserves")
        ids = self._text_ids(self.prompt(question, times, mode))
        if ids.count(self.image_token_id) != len(times):
            raise SourceError(
                f"question {question.id}: its prompt holds {ids.count(self.image_token_id)} image placeholders for "
                f"{len(times)} frames; the text must not contain {self.image_token!r}"
            )
        if times:
            if frame_size_hw is None:
                raise ValueError("frame_size_hw is needed to encode frames")
            ids = _splice(ids, self.image_token_id, self.expansion(frame_size_hw))
        return EncodedRow(tuple(ids), self.completion_ids(completion) if completion is not None else ())

    def completion_ids(self, text: str) -> tuple[int, ...]:
        """Ids of a reply as the chat template writes it, ending with the token that ends the turn."""
        lead, end = self._completion_frame
        return tuple(self.tokenizer(lead + text + end, add_special_tokens=False)["input_ids"])

    def beginning_ids(self, text: str) -> tuple[int, ...]:
        """Ids of the beginning of a reply that goes on."""
        return tuple(self.tokenizer(self._completion_frame[0] + text, add_special_tokens=False)["input_ids"])

    def completion_starts(self, text: str) -> tuple[int, ...]:
        """For each of `completion_ids`, where its characters start in `text`; negative before it.

        Raises:
            CheckpointError: the tokenizer cannot tell.
        """
        lead, end = self._completion_frame
        try:
            made = self.tokenizer(lead + text + end, add_special_tokens=False, return_offsets_mapping=True)
        except NotImplementedError as error:
            raise CheckpointError(
                "the tokenizer does not tell which characters a token stands for; use a model with a tokenizer.json"
            ) from error
        return tuple(start - len(lead) for start, _ in made["offset_mapping"])

    def reserved_mark(self, text: str) -> str:
        """The first special token, or tag around a rationale, that `text` spells out; empty if there is none."""
        tags = () if self.think_style == "none" else (OPEN_THINK.strip(), CLOSE_THINK.strip())
        return next((mark for mark in (*self.tokenizer.all_special_tokens, *tags) if mark in text), "")

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids at which generation stops: the end of the turn, and the end of text if that is another token.

        Raises:
            CheckpointError: there is neither.
        """
        ids = list(self.completion_ids("")[-1:])
        if not ids and self.tokenizer.eos_token_id is None:
            raise CheckpointError(
                f"no reply of {self.tokenizer.name_or_path} could end: its chat template closes a turn with no special "
                "token, and its tokenizer has no eos_token; mend its files, or take a chat model"
            )
        if self.tokenizer.eos_token_id is not None and self.tokenizer.eos_token_id not in ids:
            ids.append(self.tokenizer.eos_token_id)
        return tuple(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a reply, without special tokens."""
        if self.think_style == "none":
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()
        tags = self.tokenizer.convert_tokens_to_ids([OPEN_THINK.strip(), CLOSE_THINK.strip()])
        hidden = set(self.tokenizer.all_special_ids) - set(tags)
        return str(self.tokenizer.decode([i for i in ids if i not in hidden], skip_special_tokens=False)).strip()

    def template_hash(self) -> str:
        """Sixteen hex digits over everything that shapes a prompt; stored with an adapter and checked on load."""
        if self.is_text:
            asked = [self.prompt(_PROBE, (), mode) for mode in TEXT_MODES]
            ids = [self._text_ids(text) for text in asked]
            text = repr((asked, ids, self.completion_ids(_PROBE_REPLY), self.think_style, MODE_LINES))
            return hashlib.sha256(text.encode()).hexdigest()[:16]
        shown = [self.prompt(_PROBE, _PROBE_TIMES_S, mode, with_frames=w) for mode in MODES for w in (True, False)]
        ids = [self._text_ids(text) for text in shown]
        text = repr((shown, ids, self.completion_ids(_PROBE_REPLY)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def expansion(self, frame_size_hw: tuple[int, int]) -> tuple[int, ...]:
        """Ids that stand for one frame of this size (height, width), in pixels.

        Raises:
            CheckpointError: the processor expands images in a way that depends on their neighbours.
        """
        if frame_size_hw not in self._expansions:
            self._expansions[frame_size_hw] = self._probe_expansion(frame_size_hw)
        return self._expansions[frame_size_hw]

    def _probe_expansion(self, size_hw: tuple[int, int]) -> tuple[int, ...]:
        blank_HWC = np.full((*size_hw, 3), 127, dtype=np.uint8)
        one = self.processor(text=[self.image_token], images=[[blank_HWC]], add_special_tokens=False)
        ids = tuple(int(i) for i in np.asarray(one["input_ids"]).reshape(-1))
        text = self.prompt(_PROBE, _PROBE_TIMES_S, "direct")
        special = {} if self._adds_special_tokens(text) else {"add_special_tokens": False}
        whole = self.processor(text=[text], images=[[blank_HWC] * len(_PROBE_TIMES_S)], **special)
        wanted = [int(i) for i in np.asarray(whole["input_ids"]).reshape(-1)]
        if _splice(self._text_ids(text), self.image_token_id, ids) != wanted:
            raise CheckpointError(
                f"{type(self.processor).__name__} expands neighbouring frames together, which this renderer cannot "
                "follow; use a model whose processor expands each image on its own"
            )
        self.needs_token_types = "mm_token_type_ids" in one
        return ids

    def _messages(self, question: Question, times_s: Sequence[float], mode: Mode) -> list[dict[str, Any]]:
        words = [question.text]
        if question.choices:
            words.append(f"Choices: {'; '.join(question.shown_choices)}.")
        words.append(MODE_SUFFIX[mode])
        text = " ".join(words)
        if self.is_text:
            return [{"role": "user", "content": text}]
        if self._times_in_text:
            shown = "".join(f"t={format_time(t)}{self.image_token}" for t in times_s)
            return [{"role": "user", "content": [{"type": "text", "text": shown + text}]}]
        content: list[dict[str, str]] = []
        for time_s in times_s:
            content += [{"type": "text", "text": f"t={format_time(time_s)}"}, {"type": "image"}]
        return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]

    def _template(self, messages: list[dict[str, Any]], *, prompt: bool) -> str:
        if self._has_template:
            return render_chat(self.processor, messages, prompt=prompt)
        lines = [f"{message['role'].capitalize()}: {self._plain(message['content'])}" for message in messages]
        end = self.tokenizer.eos_token or ""
        return "\n".join(lines) + ("\nAssistant:" if prompt else end)

    def _plain(self, content: str | list[dict[str, str]]) -> str:
        if isinstance(content, str):
            return content
        return " ".join(self.image_token if part["type"] == "image" else part["text"] for part in content)

    def _interleaves(self) -> bool:
        """Whether the template keeps times and images in order; some put all images first."""
        shown = self.prompt(_PROBE, _PROBE_TIMES_S, "direct")
        first, second = (f"t={format_time(t)}" for t in _PROBE_TIMES_S)
        image = re.escape(self.image_token)
        return bool(re.search(f"{re.escape(first)}.*{image}.*{re.escape(second)}.*{image}", shown, re.DOTALL))

    def _find_completion_frame(self) -> tuple[str, str]:
        """What the template puts before and after a reply, up to the token that ends the turn."""
        user = self._messages(_PROBE, (), "direct")
        said: Any = _PROBE_REPLY if self.is_text else [{"type": "text", "text": _PROBE_REPLY}]
        reply = {"role": "assistant", "content": said}
        before, whole = self._template(user, prompt=True), self._template([*user, reply], prompt=False)
        eos = self.tokenizer.eos_token or ""
        if not whole.startswith(before) or _PROBE_REPLY not in whole[len(before) :]:
            return "", eos
        lead, _, tail = whole[len(before) :].partition(_PROBE_REPLY)
        ends = [(tail.find(token), token) for token in self.tokenizer.all_special_tokens if token in tail]
        if lead.strip() or not ends:
            return "", eos
        return lead, min(ends)[1]

    def _find_think_style(self, think_tags: Literal["auto", "none"]) -> ThinkStyle:
        if OPEN_THINK.strip() not in str(getattr(self.processor, "chat_template", None)):
            return "none"
        opened = self._template(self._messages(_PROBE, (), "reason"), prompt=True).rstrip().endswith(OPEN_THINK.strip())
        if think_tags == "none":
            return "closed" if opened else "none"
        return "opened" if opened else "written"

    def _text_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=self._adds_special_tokens(text))["input_ids"])

    def _adds_special_tokens(self, text: str) -> bool:
        bos = self.tokenizer.bos_token
        return not (bos and text.startswith(bos))


def _splice(ids: Sequence[int], placeholder: int, expansion: Sequence[int]) -> list[int]:
    return [new for old in ids for new in (expansion if old == placeholder else (old,))]
