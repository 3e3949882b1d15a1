"""Talks that go on together, turn by turn: every reply of a turn is written, then what is said to each is read.

Token ids are only ever appended: prompt, reply, what was said to it, reply. Where a model bears it, what it has read is
kept from turn to turn, and a reply that has ended waits for the longest one behind tokens that nobody sees; else all
is read again. Knows no tools and no questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from aot.student.answer.decoding import Prompt, Reading, Writer, alike, read_prompts, steps
from aot.student.answer.likelihood import score
from aot.student.answer.sampling import Pick, likeliest
from aot.student.model.caches import can_drop_tokens
from aot.student.model.loading import context_of
from aot.student.rows.packing import num_alike


@dataclass
class Talk:
    """The tokens of one talk so far."""

    prompt: Prompt
    ids: tuple[int, ...]
    """The prompt, and all that was said since."""
    num_written: int = 0
    """How many of them the student wrote."""
    reply_from: int = 0
    """Where the last reply begins."""
    unread: tuple[int, ...] = ()
    """The last of them, where the others are in the cache."""


class Talks:
    """The talks of a batch; whoever is not said anything to has left."""

    def __init__(self, writer: Writer, prompts: Sequence[Prompt]) -> None:
        """Reads nothing yet."""
        self._writer = writer
        self.talks = [Talk(prompt, prompt.ids) for prompt in prompts]
        self._open = list(range(len(prompts)))
        """Numbers of the talks that go on, in the order of their rows."""
        self._reading: Reading | None = None
        self.tokens_read = 0
        """By the model, those of prompts and of everything read again included."""

    @property
    def open(self) -> tuple[int, ...]:
        """Numbers of the talks that go on."""
        return tuple(self._open)

    def room(self, number: int) -> int:
        """How many more tokens a talk may have."""
        return context_of(self._writer.model) - len(self.talks[number].ids)

    @torch.inference_mode()
    def write(self, *, max_tokens: int, pick: Pick = likeliest) -> dict[int, list[int]]:
        """One reply in each talk that goes on, by its number; the token that ends it included.

        Args:
            max_tokens: a longer one is cut off there, or where the context of the model ends.
            pick: the way to the next token, which is told the numbers of the talks.
        """
        made = self._write_on(max_tokens, pick) if self._keeps else self._write_anew(max_tokens, pick)
        for number, reply in made.items():
            talk = self.talks[number]
            talk.reply_from = len(talk.ids)
            talk.ids += tuple(reply)
            talk.num_written += len(reply)
            talk.unread = tuple(reply[-1:])
            self.tokens_read += len(reply) - 1
        return made

    @torch.inference_mode()
    def say(self, said: Mapping[int, tuple[int, ...]]) -> None:
        """Go on with the talks that are said something to: ids that follow the token which ended the last reply."""
        rows = [row for row, number in enumerate(self._open) if number in said]
        left_some = len(rows) < len(self._open)
        self._open = [self._open[row] for row in rows]
        for number in self._open:
            talk = self.talks[number]
            talk.ids += said[number]
            talk.unread += said[number]
        if self._reading is None or not rows:
            return
        if left_some and self._writer.habits.gives_rows:
            self._reading.take(torch.tensor(rows, device=self._writer.device))
        elif left_some:
            self._reading = None  # those that left cannot be taken out, so all is read again
            return
        self._read_on(self._reading, [self.talks[number].unread for number in self._open])

    def likeliest(self, replies: Mapping[int, Sequence[tuple[int, ...]]]) -> dict[int, int]:
        """For each talk by its number: the place of the likeliest of some whole replies instead of its last one.

        Talks that have no room for them are left out.
        """
        numbers, prompts, endings = list[int](), list[Prompt](), list[list[tuple[int, ...]]]()
        for number, ways in replies.items():
            talk, longest = self.talks[number], max(map(len, ways))
            # What all of them begin with decides nothing, and each must have a token left to be scored by.
            begun = min(*(num_alike(ways[0], way) for way in ways), *(len(way) - 1 for way in ways))
            if talk.reply_from + longest <= context_of(self._writer.model):
                numbers.append(number)
                prompts.append(replace(talk.prompt, ids=talk.ids[: talk.reply_from] + ways[0][:begun]))
                endings.append([way[begun:] for way in ways])
        made = score(self._writer, prompts, endings) if numbers else []
        return {number: probs.index(max(probs)) for number, probs in zip(numbers, made, strict=True)}

    @property
    def _keeps(self) -> bool:
        habits = self._writer.habits
        return habits.bears_padding and habits.bears_gaps and habits.takes_spans

    def _read_on(self, reading: Reading, unread: Sequence[tuple[int, ...]]) -> None:
        """Read on with tokens of each row, which end together so that the logits of the last are those of all."""
        width, pad = max(map(len, unread)), self._writer.pad_id
        ids = torch.tensor([(pad,) * (width - len(one)) + one for one in unread], device=self._writer.device)
        real = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in unread], device=ids.device)
        reading.read_on(ids, real)
        self.tokens_read += sum(map(len, unread))

    def _write_on(self, max_tokens: int, pick: Pick) -> dict[int, list[int]]:
        reading = self._reading or self._read(self._open)
        # Windows and states count tokens that nobody sees, too, however short the trial of the model was.
        self._reading = reading if can_drop_tokens(reading.cache) else None
        return self._replies(reading, self._open, max_tokens, pick, stay=self._reading is not None)

    def _write_anew(self, max_tokens: int, pick: Pick) -> dict[int, list[int]]:
        made: dict[int, list[int]] = {}
        for group in alike(self._writer, [self._whole(number) for number in self._open]):
            numbers = [self._open[i] for i in group]
            made |= self._replies(self._read(numbers), numbers, max_tokens, pick, stay=False)
        return {number: made[number] for number in self._open}

    def _read(self, numbers: Sequence[int]) -> Reading:
        prompts = [self._whole(number) for number in numbers]
        self.tokens_read += sum(len(prompt.ids) for prompt in prompts)
        return read_prompts(self._writer, prompts)

    def _replies(
        self, reading: Reading, numbers: Sequence[int], max_tokens: int, pick: Pick, *, stay: bool
    ) -> dict[int, list[int]]:
        def of_talks(logits_BV: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
            return pick(logits_BV, [numbers[row] for row in rows])

        limits = [max_tokens] * len(numbers)
        *_, made = steps(self._writer, reading, pick=of_talks, max_tokens=limits, stay=stay)
        return dict(zip(numbers, made, strict=True))

    def _whole(self, number: int) -> Prompt:
        talk = self.talks[number]
        return replace(talk.prompt, ids=talk.ids)
