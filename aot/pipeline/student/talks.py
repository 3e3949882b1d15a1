"""Stored replies as talks, and the beginnings of one in which a step, or what a tool gave, is perturbed.

A reply without tools is a talk of one turn. Knows no model.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from aot.answer_records import FaithfulReply
from aot.faults.perturb import Perturbed, Piece
from aot.rationales.notation import ANSWER_MARK
from aot.records import LessonTurn, Prediction, Trace, Turn, WrittenCall
from aot.student.answer.batches import PromptItem
from aot.student.answer.begun import Begun, Continued, call_key
from aot.student.rows.prompts import CLOSED, OPENED, call_text

RESULT = "result"
"""Part of a piece that is what a tool gave; it then counts turns, not characters."""


@dataclass(frozen=True)
class Stored:
    """What a student said to one question."""

    prediction: Prediction
    text: str
    """Its last reply."""
    turns: tuple[LessonTurn, ...] = ()
    """Those before it; empty where no tool was called."""
    gave: Mapping[str, str] = field(default_factory=dict)
    """What the tools gave, by `call_key`."""


def stored_talk(prediction: Prediction, trace: Trace | None = None) -> Stored:
    """A prediction as a talk, with the turns of its trace where there is one."""
    if trace is None or not trace.turns:
        return Stored(prediction, prediction.raw_text)
    turns: list[LessonTurn] = []
    gave: dict[str, str] = {}
    waiting: list[WrittenCall] = []
    for turn in trace.turns:
        if turn.role == "assistant":
            waiting = list(turn.calls)
            turns.append(LessonTurn(role="assistant", text=_written(turn)))
        elif turn.role == "tool":
            turns.append(LessonTurn(role="tool", text=turn.text))
            if waiting:
                gave[call_key(waiting.pop(0))] = turn.text
    last = turns.pop().text if turns and turns[-1].role == "assistant" else ""
    return Stored(prediction, last, tuple(turns), gave)


def _written(turn: Turn) -> str:
    return turn.text + "".join(_call_text(call) for call in turn.calls)


def _call_text(call: WrittenCall) -> str:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        arguments = None
    if isinstance(arguments, dict):
        return call_text(call.name, arguments)
    return f'{OPENED}{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}{CLOSED}'


def result_pieces(turns: tuple[LessonTurn, ...]) -> list[Piece]:
    """The turns that are what a tool gave, by number."""
    return [Piece(number, number + 1, RESULT) for number, turn in enumerate(turns) if turn.role == "tool"]


@dataclass(frozen=True)
class Case:
    """One talk that is taken up."""

    item: PromptItem
    reply: FaithfulReply
    stored: Stored
    pieces: tuple[Piece, ...]
    """What tools gave, then the steps of the last reply."""
    made: tuple[Perturbed | None, ...]
    """What becomes of each of them."""

    def places(self) -> list[int]:
        """The pieces that are perturbed, by number."""
        return [at for at, made in enumerate(self.made) if made is not None]

    def is_last_given(self, at: int) -> bool:
        """Whether nothing is called after a result, so that the last reply rests on it."""
        return len(self._turns(at, context=True, step=True)) == len(self.stored.turns)

    def original(self, at: int) -> str:
        """A piece as it was."""
        piece = self.pieces[at]
        return (
            self.stored.turns[piece.start].text if piece.part == RESULT else self.stored.text[piece.start : piece.end]
        )

    def asked_at(self, at: int, *, context: bool, step: bool) -> Begun:
        """The talk made to answer right after a piece: True stands for what is intact."""
        said = ANSWER_MARK
        if self.pieces[at].part != RESULT:
            gap = "\n" if "\n" in self.stored.text else " "
            said = f"{self._before(at, intact=context)}{self._piece(at, intact=step)}{gap}{ANSWER_MARK}"
        return Begun(self.item, said, self._said_answer, self._turns(at, context=context, step=step))

    def begun(self, at: int) -> Begun:
        """The talk up to the perturbed piece, and what stood behind it in the last reply."""
        text, turns = self.stored.text, self._turns(at, context=True, step=False)
        if self.pieces[at].part == RESULT:
            said, then = "", text if len(turns) == len(self.stored.turns) else ""
        else:
            next_at = self.pieces[at + 1].start if at + 1 < len(self.pieces) else text.rfind(ANSWER_MARK)
            said = (
                f"{self._before(at, intact=True)}{self._piece(at, intact=False)}{text[self.pieces[at].end : next_at]}"
            )
            then = text[next_at:]
        return Begun(self.item, said, then, turns, self._gave(at))

    def ended(self, at: int | None, went_on: Continued | None = None) -> Begun | None:
        """The talk at its answer line, as it was or as it went on from a perturbed piece; None where it has none."""
        if at is None or went_on is None:
            text, turns, least = self.stored.text, self.stored.turns, 0
        else:
            begun = self.begun(at)
            text = went_on.text if went_on.turns else begun.said + went_on.text
            turns, least = begun.turns + went_on.turns, len(text) - len(went_on.text)
        end = text.rfind(ANSWER_MARK, least)
        return Begun(self.item, text[: end + len(ANSWER_MARK)], self._said_answer, turns) if end >= 0 else None

    def perturbed_text(self, at: int) -> str:
        """The whole last reply with one of its steps perturbed."""
        return self._before(at, intact=True) + self._piece(at, intact=False) + self.stored.text[self.pieces[at].end :]

    def _before(self, at: int, *, intact: bool) -> str:
        """All that stands before a step in the last reply, with the steps in it as they are or perturbed."""
        parts, end = [], 0
        for number, piece in enumerate(self.pieces[:at]):
            if piece.part != RESULT:
                parts += [self.stored.text[end : piece.start], self._piece(number, intact=intact)]
                end = piece.end
        return "".join([*parts, self.stored.text[end : self.pieces[at].start]])

    def _piece(self, at: int, *, intact: bool) -> str:
        made = self.made[at]
        return self.original(at) if intact or made is None else made.text

    def _turns(self, at: int, *, context: bool, step: bool) -> tuple[LessonTurn, ...]:
        """The turns before the last reply; of a result those up to the last one that was given together with it."""
        turns, end = list(self.stored.turns), len(self.stored.turns)
        for number, piece in enumerate(self.pieces):
            is_intact = step if number == at else context or number > at
            if piece.part == RESULT and not is_intact:
                turns[piece.start] = LessonTurn(role="tool", text=self._piece(number, intact=False))
        if self.pieces[at].part == RESULT:
            behind = range(self.pieces[at].end, len(turns))
            end = next((number for number in behind if turns[number].role != "tool"), end)
        return tuple(turns[:end])

    def _gave(self, at: int) -> dict[str, str]:
        """What the tools give when they are called again."""
        old, new = self.original(at), self._piece(at, intact=False)
        is_result = self.pieces[at].part == RESULT
        return {key: new if is_result and text == old else text for key, text in self.stored.gave.items()}

    @property
    def _said_answer(self) -> str:
        return f" {self.stored.text.rpartition(ANSWER_MARK)[2].strip()}"
