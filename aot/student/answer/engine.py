"""A model in this process as a chat model: a student, or any folder that the `local` chat backend names.

Several requests are answered in one batch, a reply can be read while it is written, and a conversation keeps what the
model has read. A reply depends on its request alone: tokens are drawn by a generator seeded from its seed and sample
index. `json_schema` is not enforced.
"""

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch

from aot.chat.messages import ChatReply, ChatRequest, ImagePart, TokenLogprob
from aot.chat.pictures import unpacked
from aot.chat.server.keys import Secret
from aot.config import ChatConfig
from aot.errors import ChatError, CheckpointError, ConfigError
from aot.run_records import ChatUsage
from aot.student.answer.decoding import TOKEN_MARKS, Prompt, Reading, alike, on_device, read_prompts, steps
from aot.student.answer.sampling import Noted, NotedToken, SampledAlone, each_alone
from aot.student.answer.speaker import Speaker, load_speaker
from aot.student.answer.watermark import Watermark
from aot.student.model.caches import can_drop_tokens, position_counter
from aot.student.model.loading import context_of
from aot.student.rows.frames import FRAME_DIM, Tensors
from aot.student.rows.packing import num_alike
from aot.student.rows.prompts import OPENED, has_tool_form, knows_system, read_calls, template_messages
from aot.student.rows.templates import template_settings, within_limits


@dataclass(frozen=True)
class Piece:
    """Some more text of a reply that is being written; the last piece carries the whole reply."""

    text: str
    reply: ChatReply | None = None


@dataclass(frozen=True)
class _Turn:
    """A request as the model reads it."""

    request: ChatRequest
    prompt: Prompt
    images: tuple[bytes, ...]
    most: int
    """Tokens that its reply may have."""

    @property
    def with_tools(self) -> bool:
        return bool(self.request.tools) and self.request.tool_choice != "none"


@dataclass(frozen=True)
class Progress:
    """What one more step brought to a batch, by number of the request."""

    ended: Mapping[int, ChatReply | ChatError]
    texts: Mapping[int, str] = field(default_factory=dict)
    """As far as they will stay, of those that are still written and shall be shown."""


@dataclass
class Memory:
    """What a conversation has read: ids and images, and the model's reading of them."""

    ids: tuple[int, ...] = ()
    images: tuple[bytes, ...] = ()
    reading: Reading | None = None
    num_cached: int = 0
    """Tokens of the last prompt that were not read again."""


class Engine:
    """Replies of one model; may be asked from many threads, which take turns."""

    def __init__(
        self,
        speaker: Speaker,
        *,
        max_prompt_tokens: int = 100_000,
        raise_tokens: float = 1.0,
        deadline_s: float = 600.0,
        lock: AbstractContextManager[Any] | None = None,
        watermark: Secret | None = None,
    ) -> None:
        """Takes a loaded model.

        Args:
            speaker: who replies.
            max_prompt_tokens: longer prompts are refused.
            raise_tokens: a reply may have so many times the tokens that were asked for: since it is drawn by seed, a
                second try would only write the same again.
            deadline_s: a reply that takes longer is given up.
            lock: held while the model works, where others use it too.
            watermark: secret of a mark that is put into replies that are sampled and may be long.
        """
        self.name, self._lock = speaker.name, lock or threading.RLock()
        self._held: Speaker | None = speaker
        self._watermark = Watermark(watermark.reveal()) if watermark else None
        self._max_prompt_tokens, self._raise_tokens, self._deadline_s = max_prompt_tokens, raise_tokens, deadline_s

    def reply(self, request: ChatRequest) -> ChatReply:
        """The reply to one request.

        Raises:
            ChatError: bad_request, too_long, truncated, timeout or empty.
        """
        (reply,) = self.replies([request])
        if isinstance(reply, ChatError):
            raise reply
        return reply

    def replies(self, requests: Sequence[ChatRequest]) -> list[ChatReply | ChatError]:
        """The replies to several requests, written together; one that gets none has its error in its place."""
        made: dict[int, ChatReply | ChatError] = {}
        with self._lock:
            for progress in self.writing(requests):
                made.update(progress.ended)
        return [made[i] for i in range(len(requests))]

    def writing(self, requests: Sequence[ChatRequest], *, shown: Collection[int] = ()) -> Iterator["Progress"]:
        """How the replies to several requests come along, after each step; others may be answered between two steps.

        Args:
            requests: which are written together.
            shown: numbers of those whose text is told after each step.
        """
        made: dict[int, ChatReply | ChatError] = {}
        turns: dict[int, _Turn] = {}
        with self._lock:  # Tokenizers cannot be used by two threads at once either.
            for i, request in enumerate(requests):
                try:
                    turns[i] = self._turn(request)
                except ChatError as error:
                    made[i] = error
            groups = list(self._groups(turns))
        yield Progress(made)
        for group in groups:
            yield from self._written({i: turns[i] for i in group}, shown)

    def stream(self, request: ChatRequest) -> Iterator[Piece]:
        """The reply piece by piece as it is written; other requests may be answered between two pieces.

        Raises:
            ChatError: as for `reply`.
        """
        return self.resume(request, Memory())

    def conversation(self) -> "Conversation":
        """A chat model over this one that does not read twice what its requests have in common."""
        return Conversation(self)

    def prompt(self, request: ChatRequest) -> Prompt:
        """What the model reads when it is asked this.

        Raises:
            ChatError: the request cannot be put to this model.
        """
        return self._turn(request).prompt

    def close(self) -> None:
        """Let go of the model; a reply that is being written ends with an error."""
        with self._lock:
            self._held = None

    @property
    def _speaker(self) -> Speaker:
        if self._held is None:
            raise ChatError(f"{self.name} is closed; load it again", reason="bad_request")
        return self._held

    def _turn(self, request: ChatRequest) -> _Turn:
        speaker, with_tools = self._speaker, bool(request.tools) and request.tool_choice != "none"
        if with_tools and not has_tool_form(speaker.template):
            raise ChatError(
                f"the chat template of {self.name} has no tool form that can be read (tools told, calls as JSON in "
                "<tool_call> tags); use a model that has one, or a server",
                reason="bad_request",
            )
        images = tuple(part.data for one in request.messages for part in one.parts if isinstance(part, ImagePart))
        if images and not speaker.sees:
            raise ChatError(f"{self.name} takes no images; name an image-text model", reason="bad_request")
        prompt = self._encoded(request, list(map(unpacked, images)), with_tools=with_tools)
        context, size = context_of(speaker.model), len(prompt.ids)
        longest = min(context - 1, self._max_prompt_tokens)
        if size > longest:
            raise ChatError(f"a prompt of {size} tokens; {self.name} takes {longest}", reason="too_long")
        most = min(int(request.sampling.max_tokens * self._raise_tokens), context - size)
        return _Turn(request, prompt, images, most)

    def _encoded(self, request: ChatRequest, pictures: list[Any], *, with_tools: bool) -> Prompt:
        speaker = self._speaker
        messages = template_messages(
            request.messages,
            with_system=knows_system(speaker.template),
            special=speaker.special,
            in_parts=speaker.sees,
            image_in_text=speaker.image_in_text,
        )
        waiting = iter(pictures)
        for part in (part for one in messages if speaker.sees for part in one["content"] if part["type"] == "image"):
            part["image"] = next(waiting)
        settings = template_settings(speaker.processor, with_tools=with_tools)
        if pictures and speaker.image_in_text:
            settings["processor_kwargs"] = {"images": pictures}
        try:
            # With pictures in hand the processor does all of it; a tokenizer alone knows the same call.
            with within_limits(speaker.processor):
                inputs = speaker.processor.apply_chat_template(
                    messages, tools=list(request.tools) if with_tools else None, add_generation_prompt=True,
                    tokenize=True, return_dict=True, return_tensors="pt", **settings,
                )  # fmt: skip
        except Exception as error:  # a template can raise anything
            words = f"the chat template of {self.name} cannot take this request: {str(error)[:200]}"
            raise ChatError(words, reason="bad_request") from error
        left_out = ("input_ids", "attention_mask", "token_type_ids")
        return Prompt(tuple(inputs["input_ids"][0].tolist()), {k: v for k, v in inputs.items() if k not in left_out})

    def _groups(self, turns: Mapping[int, _Turn]) -> Iterator[list[int]]:
        """The turns that may share a batch, by number: with images of one shape, or none, and as the model bears it."""
        dim = self._image_dim
        by_shape: dict[Any, list[int]] = {}
        for i, turn in turns.items():
            shapes = {k: (*v.shape[:dim], *v.shape[dim + 1 :]) for k, v in turn.prompt.shown.items()}
            by_shape.setdefault(repr({k: v for k, v in shapes.items() if k not in TOKEN_MARKS}), []).append(i)
        for numbers in by_shape.values():
            for group in alike(self._speaker, [turns[i].prompt for i in numbers]):
                yield [numbers[k] for k in group]

    def _written(self, turns: Mapping[int, _Turn], shown: Collection[int]) -> Iterator["Progress"]:
        group, left = list(turns.values()), dict(enumerate(turns))
        with self._lock:
            notes = self._noted(group)
            running = self._steps(group, notes, Memory())
        replies: list[list[int]] = [[] for _ in group]
        while left:
            try:
                with self._lock:
                    step = next(running, None)
                    replies = replies if step is None else step
                    over = [k for k in left if step is None or self._is_over(group[k], replies[k])]
                    ended = {left.pop(k): self._ended(group[k], replies[k], notes.of.get(k, ())) for k in over}
                    texts = {
                        i: _shown(self._text(replies[k]), with_tools=group[k].with_tools)
                        for k, i in left.items()
                        if i in shown
                    }
            except ChatError as error:
                # What one of them did, such as to fill the memory, is not the others' fault.
                if len(group) == 1:
                    yield Progress(dict.fromkeys(left.values(), error))
                    return
                for i in left.values():
                    yield from self._written({i: turns[i]}, shown)
                return
            yield Progress(ended, texts)

    def _is_over(self, turn: _Turn, ids: Sequence[int]) -> bool:
        return bool(ids) and (ids[-1] in self._speaker.end_ids or len(ids) >= turn.most)

    def _ended(self, turn: _Turn, ids: Sequence[int], notes: Sequence[NotedToken]) -> ChatReply | ChatError:
        try:
            return self._reply(turn, ids, notes)
        except ChatError as error:
            return error

    def resume(self, request: ChatRequest, memory: Memory) -> Iterator[Piece]:
        """The pieces of `stream`, read on from what a conversation remembers, which is then kept in it."""
        with self._lock:
            turn = self._turn(request)
            notes = self._noted([turn])
            running = self._steps([turn], notes, memory)
        sent, ids = "", list[int]()
        while True:
            with self._lock:
                replies = next(running, None)
                if replies is None:
                    reply = self._reply(turn, ids, notes.of.get(0, ()), num_cached=memory.num_cached)
                    break
                ids = replies[0]
                text = _shown(self._text(ids), with_tools=turn.with_tools)
            if len(text) > len(sent):
                yield Piece(text[len(sent) :])
                sent = text
        unsent_text = reply.text[len(sent) :] if reply.text.startswith(sent) else ""
        yield Piece(unsent_text, reply)

    def _noted(self, turns: Sequence[_Turn]) -> Noted:
        samplers, mark = [], self._watermark
        for turn in turns:
            sampling = turn.request.sampling
            samplers.append(
                SampledAlone(
                    temperature=sampling.temperature, top_p=sampling.top_p, seed=sampling.seed or 0,
                    sample_index=turn.request.sample_index, device=self._speaker.device,
                    marker=mark.marker(self._speaker.device) if mark and sampling.takes_watermark else None,
                )
            )  # fmt: skip
        wanted = [turn.request.sampling.top_logprobs for turn in turns]
        return Noted(each_alone(samplers), top=max(one or 0 for one in wanted))

    def _steps(self, turns: list[_Turn], notes: Noted, memory: Memory) -> Iterator[list[list[int]]]:
        """The ids of all replies after each step, until the end or the deadline; a memory keeps what was read."""
        started_s = time.monotonic()
        pick = notes if any(turn.request.sampling.top_logprobs is not None for turn in turns) else notes.pick
        size = max(len(turn.prompt.ids) for turn in turns)
        replies: list[list[int]] = [[]]
        reading = None
        try:
            reading = self._read(turns, memory)
            limits = [turn.most for turn in turns]
            for replies in steps(self._speaker, reading, pick=pick, max_tokens=limits):
                yield replies
                if time.monotonic() - started_s >= self._deadline_s:
                    break
        except torch.OutOfMemoryError as error:
            reading = None
            raise ChatError(f"{self.name} ran out of memory on a prompt of {size} tokens; use shorter ones, or a "
                            "smaller model", reason="too_long") from error  # fmt: skip
        except (RuntimeError, ValueError, IndexError, TypeError, CheckpointError) as error:
            reading = None
            words = f"{self.name} failed on this request: {str(error)[:200]}"
            raise ChatError(words, reason="bad_request") from error
        finally:
            memory.reading = reading
            if reading is not None:  # of a reply that was given up, too
                memory.ids = (*turns[0].prompt.ids, *replies[0])[: reading.mask.shape[1]]
                memory.images = turns[0].images

    def _read(self, turns: list[_Turn], memory: Memory) -> Reading:
        """The prompts as read from their beginning, or from where a conversation has read the only one of them."""
        prompt = turns[0].prompt
        start = self._start(turns[0], memory)
        new = _images_after(prompt.shown, len(memory.images), len(turns[0].images), dim=self._image_dim)
        memory.num_cached = 0
        if memory.reading is None or not start or new is None:
            return read_prompts(self._speaker, [turn.prompt for turn in turns])
        memory.num_cached, reading = start, memory.reading
        reading.forget(len(memory.ids) - start)
        ids = torch.tensor([prompt.ids[start:]], device=self._speaker.device)
        reading.read_on(ids, shown=on_device(self._speaker, new))
        return reading

    def _start(self, turn: _Turn, memory: Memory) -> int:
        """How many tokens of a prompt need not be read again; 0 where the model has to read it from its beginning."""
        if memory.reading is None or not self._speaker.habits.takes_spans:
            return 0
        if turn.images and position_counter(self._speaker.model) is not None:  # it counts them from the whole prompt
            return 0
        new = turn.prompt.ids[:-1]  # the last one is read in any case, for what may come after it
        start = num_alike(memory.ids, new)
        image = self._speaker.image_token_id
        if memory.images != turn.images[: len(memory.images)] or image in memory.ids[start:]:
            return 0
        return start if start == len(memory.ids) or can_drop_tokens(memory.reading.cache) else 0

    @property
    def _image_dim(self) -> int:
        return FRAME_DIM.get(str(self._speaker.model.config.model_type), 0)

    def _reply(self, turn: _Turn, ids: Sequence[int], notes: Sequence[NotedToken], *, num_cached: int = 0) -> ChatReply:
        text = self._text(ids)
        text, calls = read_calls(text) if turn.with_tools else (text, ())
        decode, wanted = self._speaker.tokenizer.decode, turn.request.sampling.top_logprobs
        reply = ChatReply(
            text=text.strip(),
            tool_calls=calls,
            finish_reason="tool_calls" if calls else "stop",
            model=self.name,
            usage=ChatUsage(
                prompt_tokens=len(turn.prompt.ids), cached_prompt_tokens=num_cached, completion_tokens=len(ids)
            ),
            token_ids=tuple(ids),
            logprobs=tuple(
                TokenLogprob(
                    token=decode([one.token]),
                    logprob=one.logprob,
                    top=tuple((decode([token]), logprob) for token, logprob in one.top[:wanted]),
                )
                for one in notes[: len(ids) if wanted is not None else 0]
            ),
        )
        if not ids or ids[-1] not in self._speaker.end_ids:
            words = f"the reply was cut off after {len(ids)} tokens; raise chat.max_tokens"
            if len(ids) < turn.most:
                limit = f"{self._deadline_s:.0f} s; raise chat.deadline_s"
                words = f"{self.name} wrote {len(ids)} tokens and no end within {limit}"
            raise ChatError(words, reason="timeout" if len(ids) < turn.most else "truncated", so_far=reply)
        if not reply.text and not calls:
            words = f"the reply of {self.name} holds nothing ({len(ids)} tokens)"
            raise ChatError(words, reason="empty", so_far=reply)
        return reply

    def _text(self, ids: Sequence[int]) -> str:
        """Only tokens that end or fill up are left out: think and tool tags are special tokens of some models."""
        tokenizer = self._speaker.tokenizer
        dropped = {*self._speaker.end_ids, tokenizer.pad_token_id, tokenizer.bos_token_id}
        return str(tokenizer.decode([one for one in ids if one not in dropped], clean_up_tokenization_spaces=False))


class Conversation:
    """A chat model that reads on where the request before it ended, as far as both begin alike.

    Its replies are those of the engine. One request at a time.
    """

    def __init__(self, engine: Engine) -> None:
        self.name, self._engine, self._memory = engine.name, engine, Memory()

    def reply(self, request: ChatRequest) -> ChatReply:
        """The reply to one request; `usage` tells how much of its prompt was not read again.

        Raises:
            ChatError: as for `Engine.reply`.
        """
        *_, last = self.stream(request)
        assert last.reply is not None
        return last.reply

    def stream(self, request: ChatRequest) -> Iterator[Piece]:
        """The reply piece by piece.

        Raises:
            ChatError: as for `Engine.reply`.
        """
        return self._engine.resume(request, self._memory)

    def close(self) -> None:
        """Forget what was read; the engine stays open."""
        self._memory = Memory()


def load_engine(section: ChatConfig) -> Engine:
    """The engine of a section with backend `local`.

    Raises:
        ConfigError: its model cannot be asked.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        speaker = load_speaker(section.model, device=device)
    except CheckpointError as error:
        raise ConfigError(f"chat.model: {error}") from error
    return Engine(
        speaker,
        max_prompt_tokens=section.max_prompt_tokens,
        raise_tokens=section.raise_tokens,
        deadline_s=section.deadline_s,
    )


def _images_after(shown: Tensors, num_read: int, num_images: int, *, dim: int) -> Tensors | None:
    """What a model takes of the images after the first ones; None where images cannot be told apart in it."""
    if num_read == num_images:
        return {}
    pixels = {key: value for key, value in shown.items() if key not in TOKEN_MARKS}
    if any(value.shape[dim] != num_images for value in pixels.values()):
        return None
    return {key: value.narrow(dim, num_read, num_images - num_read) for key, value in pixels.items()}


def _shown(text: str, *, with_tools: bool) -> str:
    """As much of the beginning of a reply as will stay whatever is written after it."""
    if with_tools:
        text = text.partition(OPENED)[0]
        size = next((n for n in range(len(OPENED) - 1, 0, -1) if text.endswith(OPENED[:n])), 0)
        text = text[: len(text) - size]
    return text.rstrip("\ufffd").strip()  # half a character is another one in the end
