"""Messages as token ids: training, evaluation and inference all get their prompt ids here, and nowhere else.

The renderer needs the processor's tokenizer and chat template, or of a text model the tokenizer alone; it
never sees pixels, only frame sizes, because the number of image tokens of a frame depends on its size alone. It imports
no torch.
"""

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Literal

import numpy as np

from aot.chat.messages import ImagePart, message
from aot.errors import CheckpointError, OutOfDomainError, SourceError
from aot.rationales.notation import format_time
from aot.records import JsonDict, Question
from aot.student.rows.packing import EncodedRow
from aot.student.rows.prompts import (
    CLOSE_THINK,
    MODE_LINES,
    MODE_SUFFIX,
    MODES,
    OPEN_THINK,
    PROBE,
    RESULT_CLOSED,
    RESULT_OPENED,
    TEXT_MODES,
    Mode,
    ThinkStyle,
    has_tool_form,
    plain_text,
    question_message,
    result_messages,
    template_messages,
)
from aot.student.rows.templates import (
    TEMPLATE_DATE,
    asks_for_the_day,
    check_template,
    control_marks,
    first_token,
    library_ids,
    render_chat,
    special_tokens,
    template_of,
)

_PROBE_TIMES_S = (0.5, 1.5)
_PROBE_REPLY, _PROBE_TURN = "one", "Looking it up."


class Renderer:
    """Turns questions into prompts and token ids for one processor, or for the tokenizer of a text model."""

    def __init__(
        self,
        processor: Any,  # noqa: ANN401 - processors share no useful base type
        *,
        think_tags: Literal["auto", "none"] = "auto",
        eos_ids: Sequence[int] = (),
        date: str = TEMPLATE_DATE,
    ) -> None:
        """Looks the chat template over.

        Args:
            processor: of an image-text model, or the tokenizer of a text model.
            think_tags: `none` keeps tags away from rationales.
            eos_ids: tokens at which the model's generation settings end a reply.
            date: the day that the template is told.

        Raises:
            CheckpointError: the template cannot be used.
        """
        self.processor = processor
        self._date, self._may_think = date, think_tags != "none"
        self.takes_images = hasattr(processor, "image_processor")
        """Whether prompts may show frames; else the model takes text only."""
        self.tokenizer = processor.tokenizer if self.takes_images else processor
        self.image_token: str = getattr(processor, "image_token", None) or "<image>"
        self.image_token_id = int(self.tokenizer.convert_tokens_to_ids(self.image_token)) if self.takes_images else -1
        self.has_template = bool(getattr(processor, "chat_template", None))
        """Without one, prompts are plain."""
        self.offered: tuple[JsonDict, ...] = ()
        """Tools that prompts of mode `tools` tell of, in OpenAI's form, where the template has a place for them."""
        check_template(processor)
        self._specials = special_tokens(self.tokenizer)
        self._eos_ids = tuple(dict.fromkeys(eos_ids))
        self._ends = [text for one in self._eos_ids if (text := self._written(one))]
        self._eos = self.tokenizer.eos_token or next(iter(self._ends), "")
        self.think_style: ThinkStyle = "none"
        """Only a text model's replies get tags."""
        self.ends_turns = False
        """Whether the template ends a reply with a token; else the end of text is taken."""
        self.times_in_text = False
        self.times_in_text = self.takes_images and not self._interleaves()
        if PROBE.text not in self.prompt(PROBE, (), "direct"):
            raise CheckpointError(
                f"the chat template of {self.tokenizer.name_or_path} leaves the question out; mend it"
            )
        if not self.takes_images:
            self.think_style = self._find_think_style(think_tags)
        self._expansions: dict[tuple[int, int], tuple[int, ...]] = {}
        self.needs_token_types = False
        """Whether the model wants mm_token_type_ids (1 for visual tokens); known after the first frame size."""
        self._completion_frame = self._find_completion_frame()
        self._anchor = self._find_anchor()

    @property
    def date(self) -> str:
        """The day that the template writes into prompts, such as 2024-07-26; empty where it asks for none."""
        return self._date if asks_for_the_day(self.processor) else ""

    def prompt(
        self, question: Question, frame_times_s: Sequence[float], mode: Mode, *, with_frames: bool = True
    ) -> str:
        """The prompt as text, one image placeholder for each frame; without frames it holds the question only."""
        messages = self._messages(question, frame_times_s if with_frames else (), mode)
        return self._asking(messages, mode)

    def library_ids(self, question: Question, mode: Mode, reply: str | None = None) -> tuple[int, ...]:
        """Ids of a prompt without frames, or of it and a reply, as transformers' own `apply_chat_template` makes them.

        Empty where there is no template, or where it does not close the thinking that it opens.

        Raises:
            CheckpointError: transformers cannot make them.
        """
        messages, tools = self._messages(question, (), mode), self._tools(mode)
        text = self._template(messages, prompt=True, thinks=self._thinks(mode), tools=tools)
        if not self.has_template or self.prompt(question, (), mode) != text:
            return ()
        if reply is not None:
            said: Any = [{"type": "text", "text": reply}] if self.takes_images else reply
            messages.append({"role": "assistant", "content": said})
        switch = self._switch(thinks=self._thinks(mode))
        ids = library_ids(self.processor, messages, prompt=reply is None, date=self._date, thinks=switch, tools=tools)
        behind = self._added_ids[1]  # some processors end a prompt as if it were a whole text
        return tuple(ids[: -len(behind)] if self.takes_images and behind and ids[-len(behind) :] == behind else ids)

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
        if not self.takes_images and (mark := self.reserved_mark(" ".join((question.text, *question.choices)))):
            raise SourceError(f"question {question.id}: its text must not contain {mark!r}, which the model reserves")
        try:
            ids = self._text_ids(self.prompt(question, times, mode))
        except SourceError as error:
            raise SourceError(f"question {question.id}: {error}") from error
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
        return tuple(self._after_prompt(lead + text + end)["input_ids"])

    def beginning_ids(self, text: str) -> tuple[int, ...]:
        """Ids of the beginning of a reply that goes on."""
        return tuple(self._after_prompt(self._completion_frame[0] + text)["input_ids"])

    def completion_starts(self, text: str) -> tuple[int, ...]:
        """For each of `completion_ids`, where its characters start in `text`; negative before it.

        Raises:
            CheckpointError: the tokenizer cannot tell.
        """
        lead, end = self._completion_frame
        try:
            made = self._after_prompt(lead + text + end, return_offsets_mapping=True)
        except NotImplementedError as error:
            raise CheckpointError(
                "the tokenizer does not tell which characters a token stands for; use a model with a tokenizer.json"
            ) from error
        return tuple(start - len(lead) for start, _ in made["offset_mapping"])

    def result_ids(self, texts: Sequence[str]) -> tuple[int, ...]:
        """Ids between the token that ends a reply with calls and the next reply: what the tools gave, a text a call.

        Raises:
            CheckpointError: the template has no place for a second turn.
        """
        text, end = self._after_turn(texts), self._completion_frame[1]
        behind = self._behind(end, text)
        return tuple(self._tokens(text)["input_ids"] if behind is None else behind)

    def reserved_mark(self, text: str) -> str:
        """The first special token, or tag around a rationale, that `text` spells out; empty if there is none."""
        tags = () if self.think_style == "none" else (OPEN_THINK.strip(), CLOSE_THINK.strip())
        return next((mark for mark in (*self._specials, *tags) if mark in text), "")

    @cached_property
    def keeps_lines(self) -> bool:
        """Whether the tokenizer writes line ends; small ones for images drop them with all other blanks."""
        return "\n" in self.decode(self.beginning_ids("1\n2"))

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the chat template tells a model its tools."""
        return has_tool_form(template_of(self.processor, with_tools=True))

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """Ids at which generation stops: the end of the turn, the end of text, and those of the generation settings.

        Raises:
            CheckpointError: there is none, or the template's end of a turn is no token.
        """
        end = self._completion_frame[1]
        alone = self._tokens(end)["input_ids"] if end else []
        if len(alone) > 1:
            raise CheckpointError(
                f"{end!r} ends a reply of {self.tokenizer.name_or_path}, but its tokenizer writes it as {len(alone)} "
                "tokens; mend its files"
            )
        named = self.tokenizer.eos_token_id
        ids = [*self.completion_ids("")[-1:], *([] if named is None else [named]), *self._eos_ids]
        if not ids:
            raise CheckpointError(
                f"no reply of {self.tokenizer.name_or_path} could end: its chat template closes a turn with no special "
                "token, and its tokenizer has no eos_token; mend its files, or take a chat model"
            )
        return tuple(dict.fromkeys(ids))

    def has_unknown(self, ids: Sequence[int]) -> bool:
        """Whether the tokenizer wrote something as its unknown token.

        Some tokenizers name their end token as the unknown one too, and never make it from a word.
        """
        unknown_id = self.tokenizer.unk_token_id
        return unknown_id is not None and unknown_id not in self.end_ids and unknown_id in ids

    def check_times(self, times_s: Sequence[float]) -> None:
        """Refuse times that this tokenizer cannot write.

        Raises:
            OutOfDomainError: there is one, so the student was trained on none like it.
        """
        marks = {time_s: f"t={format_time(time_s)}" for time_s in times_s}
        if not times_s or not self.has_unknown(self._tokens(" ".join(marks.values()))["input_ids"]):
            return
        strange = [time_s for time_s, mark in marks.items() if self.has_unknown(self._tokens(mark)["input_ids"])]
        if strange:
            raise OutOfDomainError(
                f"the student's tokenizer cannot write the time {strange[0]:g} s; give times from the start of the clip"
            )

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a reply, without special tokens."""
        if self.think_style == "none":
            return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()
        tags = self.tokenizer.convert_tokens_to_ids([OPEN_THINK.strip(), CLOSE_THINK.strip()])
        hidden = set(self.tokenizer.convert_tokens_to_ids(list(self._specials))) - set(tags)
        return str(self.tokenizer.decode([i for i in ids if i not in hidden], skip_special_tokens=False)).strip()

    def shown(self, text: str) -> str:
        """What a server told of a reply, without special tokens, as `decode` leaves them out."""
        tags = () if self.think_style == "none" else (OPEN_THINK.strip(), CLOSE_THINK.strip())
        for token in (token for token in self._specials if token not in tags):
            text = text.replace(f" {token} ", " ").replace(token, "")  # some tokenizers set blanks between all tokens
        return text.strip()

    def template_hash(self) -> str:
        """Sixteen hex digits over everything that shapes a prompt; stored with an adapter and checked on load."""
        if self.takes_images:
            shown = [self.prompt(PROBE, _PROBE_TIMES_S, mode, with_frames=w) for mode in MODES for w in (True, False)]
        else:
            shown = [self.prompt(PROBE, (), mode) for mode in TEXT_MODES]
        of_text = () if self.takes_images else (self.think_style, MODE_LINES)
        ids = [self._text_ids(text) for text in shown]
        text = repr((shown, ids, self.completion_ids(_PROBE_REPLY), *of_text))
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
        text = self.prompt(PROBE, _PROBE_TIMES_S, "direct")
        special = {} if self._front_ids(text) else {"add_special_tokens": False}
        whole = self.processor(text=[text], images=[[blank_HWC] * len(_PROBE_TIMES_S)], **special)
        wanted = [int(i) for i in np.asarray(whole["input_ids"]).reshape(-1)]
        ours = _splice(self._text_ids(text), self.image_token_id, ids)
        if ours != wanted[: len(ours)] or wanted[len(ours) :] not in ([], self._added_ids[1]):
            raise CheckpointError(
                f"{type(self.processor).__name__} expands neighbouring frames together, which this renderer cannot "
                "follow; use a model whose processor expands each image on its own"
            )
        self.needs_token_types = "mm_token_type_ids" in one
        return ids

    def _after_turn(self, texts: Sequence[str]) -> str:
        """What the template writes between a reply with calls and the next one, in its own form where it has one."""
        question, end = question_message(PROBE, (), "tools"), self._completion_frame[1]
        special = (*self._specials, *self._ends, self.image_token, RESULT_OPENED, RESULT_CLOSED)
        results = [plain_text(text, special).strip() for text in texts]
        for role in ("tool", "user") if self.takes_tools else ("user",):
            said = [question, message("assistant", _PROBE_TURN), *result_messages(results, role=role)]
            with suppress(CheckpointError):  # of a template that refuses such a turn
                rows = template_messages(said, with_system=True, in_parts=self.takes_images)
                whole = self._asking(rows, "tools").partition(_PROBE_TURN)[2]
                for tail in (whole.partition(end)[2] if end else "", whole):  # some have no end there
                    if all(text in tail for text in results) and tail.strip():
                        return tail
        raise CheckpointError(
            f"the chat template of {self.tokenizer.name_or_path} has no place for what a tool gave; take a model whose "
            "template takes several turns, or no arm of order tool_use"
        )

    def _messages(self, question: Question, times_s: Sequence[float], mode: Mode) -> list[dict[str, Any]]:
        said = question_message(question, [ImagePart(data=b"", time_s=time_s) for time_s in times_s], mode)
        image_in_text = self.image_token if self.times_in_text else ""
        return template_messages([said], with_system=True, in_parts=self.takes_images, image_in_text=image_in_text)

    def _written(self, token: int) -> str:
        """How a token is written, if that text gives the token back; else nothing."""
        text = str(self.tokenizer.decode([token]))
        return text if text.strip() and self._tokens(text)["input_ids"] == [token] else ""

    def _thinks(self, mode: Mode) -> bool:
        """Whether a reply of this mode may think first."""
        return self._may_think and mode in ("reason", "adaptive")

    def _tools(self, mode: Mode) -> tuple[JsonDict, ...]:
        """Those that a prompt of this mode tells of."""
        return self.offered if mode == "tools" and self.takes_tools else ()

    def _switch(self, *, thinks: bool) -> bool | None:
        """How a template's switch of thinking is set; replies about clips have no tags, so it is never on there."""
        return None if self.takes_images and thinks else thinks

    def _asking(self, messages: list[dict[str, Any]], mode: Mode) -> str:
        """Messages as text, up to where a reply of this mode begins."""
        text = self._template(messages, prompt=True, thinks=self._thinks(mode), tools=self._tools(mode))
        opened = text.rstrip().endswith(OPEN_THINK.strip())  # a template with a switch of its own has closed them
        if self.think_style not in ("opened", "closed") or self._thinks(mode) or not opened:
            return text
        return text.rstrip().removesuffix(OPEN_THINK.strip()) + OPEN_THINK + CLOSE_THINK

    def _template(
        self, messages: list[dict[str, Any]], *, prompt: bool, thinks: bool, tools: Sequence[JsonDict] = ()
    ) -> str:
        if self.has_template:
            switch = self._switch(thinks=thinks)
            return render_chat(self.processor, messages, prompt=prompt, date=self._date, thinks=switch, tools=tools)
        lines = [f"{message['role'].capitalize()}: {self._plain(message['content'])}" for message in messages]
        end = self._eos
        return "\n".join(lines) + ("\nAssistant:" if prompt else end)

    def _plain(self, content: str | list[dict[str, str]]) -> str:
        if isinstance(content, str):
            return content
        return " ".join(self.image_token if part["type"] == "image" else part["text"] for part in content)

    def _interleaves(self) -> bool:
        """Whether the template keeps times and images in order; some put all images first."""
        shown = self.prompt(PROBE, _PROBE_TIMES_S, "direct")
        first, second = (f"t={format_time(t)}" for t in _PROBE_TIMES_S)
        image = re.escape(self.image_token)
        return bool(re.search(f"{re.escape(first)}.*{image}.*{re.escape(second)}.*{image}", shown, re.DOTALL))

    def _find_completion_frame(self) -> tuple[str, str]:
        """What the template puts before and after a reply, up to the token that ends the turn."""
        user = self._messages(PROBE, (), "direct")
        said: Any = [{"type": "text", "text": _PROBE_REPLY}] if self.takes_images else _PROBE_REPLY
        reply = {"role": "assistant", "content": said}
        whole = self._template([*user, reply], prompt=False, thinks=False)
        lead, tail = "", ""
        for thinks in (False, True):  # of some templates only one of them goes on as a conversation does
            before = self._template(user, prompt=True, thinks=thinks)
            if whole.startswith(before) and _PROBE_REPLY in whole[len(before) :]:
                lead, _, tail = whole[len(before) :].partition(_PROBE_REPLY)
                break
        else:
            if whole.count(_PROBE_REPLY) > before.count(_PROBE_REPLY):
                tail = whole.rpartition(_PROBE_REPLY)[2]
        tokens = [*self._specials, *self._ends]
        end = first_token(tail, tokens)
        marks = control_marks(tail) if not end else [] if first_token(whole, tokens) else control_marks(whole)
        if marks:
            raise CheckpointError(
                f"the chat template of {self.tokenizer.name_or_path} writes {marks[-1]!r}, which is no token of its "
                "tokenizer, so no reply could end as it shows; take the template that belongs to this tokenizer"
            )
        self.ends_turns = bool(end)
        return (lead, end) if end and not lead.strip() else ("", end or self._eos)

    def _find_anchor(self) -> str:
        """The end of a prompt, where replies have other tokens behind it than alone; else nothing.

        Sentencepiece writes a blank before a text that stands alone, and none after a prompt.
        """
        anchor = self.prompt(PROBE, (), "direct").rpartition(MODE_SUFFIX["direct"])[2]
        lead, end = self._completion_frame
        for said in (_PROBE_REPLY, "15", f"Answer: {_PROBE_REPLY}", *MODE_LINES.values()):
            alone = self._tokens(lead + said + end)["input_ids"]
            if self._behind(anchor, lead + said + end) not in (None, alone):
                return anchor
        return ""

    def _behind(self, anchor: str, text: str) -> list[int] | None:
        """Ids of `text` behind `anchor`; None where the two melt into one token."""
        before, both = (self._tokens(t)["input_ids"] for t in (anchor, anchor + text))
        return both[len(before) :] if both[: len(before)] == before else None

    def _after_prompt(self, text: str, **options: bool) -> dict[str, list[Any]]:
        """What the tokenizer makes of a reply behind a prompt; offsets count from the beginning of `text`."""
        if not self._anchor or self._behind(self._anchor, text) is None:
            return dict(self._tokens(text, **options))
        made = self._tokens(self._anchor + text, **options)
        skip, shift = len(self._tokens(self._anchor)["input_ids"]), len(self._anchor)
        ids = {"input_ids": made["input_ids"][skip:]}
        if "offset_mapping" not in made:
            return ids
        return {**ids, "offset_mapping": [(a - shift, b - shift) for a, b in made["offset_mapping"][skip:]]}

    def _find_think_style(self, think_tags: Literal["auto", "none"]) -> ThinkStyle:
        if OPEN_THINK.strip() not in str(getattr(self.processor, "chat_template", None)):
            return "none"
        messages = self._messages(PROBE, (), "reason")
        opened = self._template(messages, prompt=True, thinks=self._may_think).rstrip().endswith(OPEN_THINK.strip())
        if think_tags == "none":
            return "closed" if opened else "none"
        return "opened" if opened else "written"

    def _text_ids(self, text: str) -> list[int]:
        return [*self._front_ids(text), *self._tokens(text)["input_ids"]]

    def _tokens(self, text: str, **options: bool) -> Any:  # noqa: ANN401 - a BatchEncoding
        try:
            return self.tokenizer(text, add_special_tokens=False, **options)
        except NotImplementedError:
            raise
        except Exception as error:  # such as for a word that a tokenizer without an unknown token does not know
            words = " ".join(str(error).split())[:200]
            raise SourceError(
                f"the tokenizer of {self.tokenizer.name_or_path} cannot write {text[:60]!r}: {words}"
            ) from error

    def _front_ids(self, text: str) -> list[int]:
        """What stands before a prompt without being in its text, as transformers has it.

        A tokenizer adds nothing to what a chat template wrote, a processor what it adds to any text. What they would
        add behind is left out in any case: it ends a prompt that shall go on.
        """
        bos = self.tokenizer.bos_token
        written = not self.takes_images and self.has_template
        return [] if written or (bos and text.startswith(bos)) else self._added_ids[0]

    @cached_property
    def _added_ids(self) -> tuple[list[int], list[int]]:
        """Ids that the tokenizer adds before and behind a text."""
        bare, full = (self.tokenizer(PROBE.text, add_special_tokens=add)["input_ids"] for add in (False, True))
        at = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
        return full[:at], full[at + len(bare) :]


def _splice(ids: Sequence[int], placeholder: int, expansion: Sequence[int]) -> list[int]:
    return [new for old in ids for new in (expansion if old == placeholder else (old,))]
