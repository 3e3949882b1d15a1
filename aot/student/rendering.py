"""The one prompt renderer: training, evaluation and inference all get their prompt ids here, and nowhere else.

A prompt shows each frame after its true time in seconds (`t=3.2s`), in order, then the question, its choices and how
to answer. The renderer needs the processor's tokenizer and chat template; it never sees pixels, only frame sizes,
because the number of image tokens of a frame depends on its size alone. It imports no torch.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from aot.errors import CheckpointError, SourceError
from aot.rationale import format_time
from aot.records import Question

Mode = Literal["direct", "reason"]
MODES: tuple[Mode, ...] = ("direct", "reason")
MODE_SUFFIX: dict[Mode, str] = {"direct": "Answer directly.", "reason": "Reason, then answer."}

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

    @property
    def num_tokens(self) -> int:
        """Length of prompt and completion together."""
        return len(self.prompt_ids) + len(self.completion_ids)


class Renderer:
    """Turns questions into prompts and token ids for one processor."""

    def __init__(self, processor: Any) -> None:  # noqa: ANN401 - processors share no useful base type
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.image_token: str = getattr(processor, "image_token", None) or "<image>"
        self.image_token_id: int = self.tokenizer.convert_tokens_to_ids(self.image_token)
        self._has_template = bool(getattr(processor, "chat_template", None))
        self._times_in_text = False
        self._times_in_text = not self._interleaves()
        self._expansions: dict[tuple[int, int], tuple[int, ...]] = {}
        self.needs_token_types = False
        """Whether the model wants mm_token_type_ids (1 for visual tokens); known after the first frame size."""
        self._completion_frame = self._find_completion_frame()

    def prompt(
        self, question: Question, frame_times_s: Sequence[float], mode: Mode, *, with_frames: bool = True
    ) -> str:
        """The prompt as text, one image placeholder for each frame; without frames it holds the question only."""
        return self._template(self._messages(question, frame_times_s if with_frames else (), mode), prompt=True)

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
            SourceError: the question's text contains the model's image placeholder.
        """
        times = tuple(frame_times_s) if with_frames else ()
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

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids at which generation stops: the end of the turn, and the end of text if that is another token."""
        ids = [self.completion_ids("")[-1]]
        if self.tokenizer.eos_token_id is not None and self.tokenizer.eos_token_id not in ids:
            ids.append(self.tokenizer.eos_token_id)
        return tuple(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a reply, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def template_hash(self) -> str:
        """Sixteen hex digits over everything that shapes a prompt; stored with an adapter and checked on load."""
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
            words.append(f"Choices: {'; '.join(question.choices)}.")
        words.append(MODE_SUFFIX[mode])
        text = " ".join(words)
        if self._times_in_text:
            shown = "".join(f"t={format_time(t)}{self.image_token}" for t in times_s)
            return [{"role": "user", "content": [{"type": "text", "text": shown + text}]}]
        content: list[dict[str, str]] = []
        for time_s in times_s:
            content += [{"type": "text", "text": f"t={format_time(time_s)}"}, {"type": "image"}]
        return [{"role": "user", "content": [*content, {"type": "text", "text": text}]}]

    def _template(self, messages: list[dict[str, Any]], *, prompt: bool) -> str:
        if self._has_template:
            return str(self.processor.apply_chat_template(messages, add_generation_prompt=prompt, tokenize=False))
        lines = [f"{message['role'].capitalize()}: {self._plain(message['content'])}" for message in messages]
        end = self.tokenizer.eos_token or ""
        return "\n".join(lines) + ("\nAssistant:" if prompt else end)

    def _plain(self, content: list[dict[str, str]]) -> str:
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
        reply = {"role": "assistant", "content": [{"type": "text", "text": _PROBE_REPLY}]}
        before, whole = self._template(user, prompt=True), self._template([*user, reply], prompt=False)
        eos = self.tokenizer.eos_token or ""
        if not whole.startswith(before) or _PROBE_REPLY not in whole[len(before) :]:
            return "", eos
        lead, _, tail = whole[len(before) :].partition(_PROBE_REPLY)
        ends = [(tail.find(token), token) for token in self.tokenizer.all_special_tokens if token in tail]
        if lead.strip() or not ends:
            return "", eos
        return lead, min(ends)[1]

    def _text_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=self._adds_special_tokens(text))["input_ids"])

    def _adds_special_tokens(self, text: str) -> bool:
        bos = self.tokenizer.bos_token
        return not (bos and text.startswith(bos))


def _splice(ids: Sequence[int], placeholder: int, expansion: Sequence[int]) -> list[int]:
    return [new for old in ids for new in (expansion if old == placeholder else (old,))]
