"""One step of a written rationale perturbed, and what the rest of the text then implies.

Where a planted defect may be anywhere in a rationale, a perturbation is in one step and leaves it well-formed: another
result, number, time or step name, two neighbours the wrong way round, or the opposite. The edits are those of planted
defects. A step is a sentence of a rationale in parts, a line of a chain, or an equation of a chain in one line.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from numpy.random import Generator

from aot.faults.plant import OPPOSITE, pick, put
from aot.faults.text_edits import NUMBER, carry, names_in, rewritten, shifted, shown, with_result, wrong_result
from aot.faults.video_edits import MIN_SHIFT_S, opposed
from aot.rationales.arithmetic import Equation, find_equations, read_amount
from aot.rationales.notation import (
    ANSWER_MARK,
    CITATION,
    MOMENT,
    SPAN,
    format_span,
    format_time,
    parse_rationale,
    sentences_of,
)
from aot.rationales.text_chain import ORDER
from aot.rationales.wording import in_sentence, phrase_key
from aot.records import Question

StepEdit = Literal["result", "order", "opposite", "time", "label", "number", "name"]
_CITED = re.compile(rf"{CITATION.pattern}|{SPAN.pattern}|{MOMENT.pattern}")
_CONCLUDES = ("Combine", "")
_ASKING = ("Who", "What", "Which")


@dataclass(frozen=True)
class Piece:
    """Where one step of a rationale stands in the text."""

    start: int
    end: int
    part: str = ""
    """Of a rationale in parts its heading; empty in a chain."""


@dataclass(frozen=True)
class Perturbed:
    """One step, perturbed."""

    text: str
    edit: StepEdit
    changes: Mapping[str, str]
    """What was replaced by what, as they stand in the text."""


def pieces_of(text: str, *, start: int = 0) -> list[Piece]:
    r"""The steps before the answer line of a reply, from character `start` on; none where there is no such line.

    >>> [piece.part for piece in pieces_of("Gather: 0.0s-1.5s chop onion [1]. Combine: soup fits [2]. Answer: fry egg")]
    ['Gather', 'Combine']
    >>> len(pieces_of("12 + 7 = 19\n19 - 4 = 15\nAnswer: 15"))
    2
    """
    end = text.rfind(ANSWER_MARK)
    parts = parse_rationale(text[start:end]).parts if end >= 0 else {}
    pieces, at = [], start
    for part, said in _said(parts, text[start : max(end, start)]):
        at = text.index(said, at)
        pieces.append(Piece(at, at + len(said), part))
        at += len(said)
    return pieces


def _said(parts: Mapping[str, str], text: str) -> Iterator[tuple[str, str]]:
    if parts:
        yield from ((part, sentence) for part, body in parts.items() for sentence in sentences_of(body))
        return
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    is_one = len(lines) == 1 and len(find_equations(lines[0])) > 1
    yield from (("", line) for line in (lines[0].rstrip(".").split(", ") if is_one else lines))


def perturb(
    text: str, piece: Piece, *, question: Question, answer: str, labels: Sequence[str], rng: Generator
) -> Perturbed | None:
    """A step with something of it replaced; None where it holds nothing that could be.

    Args:
        text: the whole reply.
        piece: the step in it.
        question: what it replies to.
        answer: the reply's own answer.
        labels: step names that may stand in it, or be written instead.
        rng: of the draw.
    """
    said = text[piece.start : piece.end]
    by_value = [_result, _order]
    by_value += [_opposite] if answer.casefold() in OPPOSITE else []
    by_value += [_time] if SPAN.fullmatch(answer) else []
    by_value += [_number] if answer.isdecimal() else []
    for edit in by_value:
        if made := edit(said, rng):
            return made
    names = (*question.choices, *labels)
    return _label(said, names, question.choices, rng) or _time(said, rng) or _number(said, rng) or _name(
        said, question, rng
    )  # fmt: skip


def perturb_result(
    text: str, *, question: Question, answer: str, labels: Sequence[str], rng: Generator
) -> Perturbed | None:
    """What a tool gave with one thing replaced wherever it stands: the reply's answer, if that is in it.

    Else a step name or a number of it. None where it holds none of these.

    Args:
        text: the result, in words or as JSON.
        question: what was asked.
        answer: the reply's own answer.
        labels: step names that may stand in it, or be written instead.
        rng: of the draw.
    """
    names = sorted({*question.choices, *labels, *([answer] if re.search(r"[^\W\d]", answer) else [])})
    inside = [name for name in names if name not in OPPOSITE and re.search(_whole(name), text)]
    others = [name for name in names if name not in inside and not set(name) & set('"\\')]
    others = [name for name in others if name in question.choices] or others
    if inside and others:
        old = answer if answer in inside else pick(inside, rng)
        new = pick(others, rng)
        return _made(text, re.sub(_whole(old), lambda _: new, text), "label", {old: new})
    numbers = sorted({spot[0] for spot in NUMBER.finditer(text) if read_amount(spot[0]) is not None})
    if not numbers:
        return None
    same = [one for one in numbers if read_amount(one) == read_amount(answer)]
    old = pick(same or numbers, rng)
    new = shown(shifted(read_amount(old), rng))
    return _made(text, NUMBER.sub(lambda spot: new if spot[0] == old else spot[0], text), "number", {old: new})


def _whole(name: str) -> str:
    return rf"(?<!\w){re.escape(name)}(?!\w)"


def _result(said: str, rng: Generator) -> Perturbed | None:
    equations = [one for one in find_equations(said) if one.result is not None and one.operands]
    if not equations:
        return None
    at = pick(equations, rng)
    result = wrong_result(at, rng)
    if result is None or at.result is None:
        return None
    (new,) = rewritten([said], lambda one: with_result(one, result) if one == at else one.text)
    return _made(said, new, "result", {shown(at.result): shown(result)})


def _order(said: str, rng: Generator) -> Perturbed | None:
    places = list(ORDER.finditer(said))
    if not places:
        return None
    place = pick(places, rng)
    names = place[0].split(" > ")
    at = int(rng.integers(len(names) - 1))
    names[at : at + 2] = names[at + 1], names[at]
    return _made(
        said, put(said, place, " > ".join(names)), "order", {names[at + 1]: names[at], names[at]: names[at + 1]}
    )


def _opposite(said: str, rng: Generator) -> Perturbed | None:
    return _made(said, opposed(said), "opposite", OPPOSITE)


def _time(said: str, rng: Generator) -> Perturbed | None:
    """Another span, or moment, in the place of one."""
    spans = list(SPAN.finditer(said))
    places = spans or list(MOMENT.finditer(said))
    if not places:
        return None
    place = pick(places, rng)
    start_s = float(place[1])
    shift_s = float(rng.uniform(MIN_SHIFT_S, 4.0)) * (-1 if start_s > 4.0 and rng.random() < 0.5 else 1)
    new = format_span(start_s + shift_s, float(place[2]) + shift_s) if spans else format_time(start_s + shift_s)
    return _made(said, put(said, place, new), "time", {place[0]: new})


def _label(said: str, labels: Sequence[str], choices: Sequence[str], rng: Generator) -> Perturbed | None:
    """Every label of the step replaced, equal ones by equal ones, and an option by another option."""
    spoken = {in_sentence(label): label for label in labels if label}
    names = sorted(spoken, key=lambda name: (-len(name), name))
    pattern = "|".join(re.escape(name) for name in names if re.search(r"[^\W\d]", name) and name not in OPPOSITE)
    if not pattern:
        return None
    changes: dict[str, str] = {}
    options = [in_sentence(choice) for choice in choices]

    def other(place: re.Match[str]) -> str:
        taken = {phrase_key(one) for one in (*changes, *changes.values(), place[0])}
        pool = [one for one in options if phrase_key(one) not in taken] if place[0] in options else []
        pool = pool or [one for one in sorted(spoken) if phrase_key(one) not in taken]
        if place[0] not in changes and pool:
            changes[place[0]] = pick(pool, rng)
        return changes.get(place[0], place[0])

    return _made(said, re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", other, said), "label", changes)


def _number(said: str, rng: Generator) -> Perturbed | None:
    """Another number in the place of one that is no time and cites nothing."""
    taken = [range(*mark.span()) for mark in _CITED.finditer(said)]
    places = [spot for spot in NUMBER.finditer(said) if not any(spot.start() in one for one in taken)]
    places = [spot for spot in places if read_amount(spot[0]) is not None]
    if not places:
        return None
    place = pick(places, rng)
    new = shown(shifted(read_amount(place[0]), rng))
    return _made(said, put(said, place, new), "number", {place[0]: new})


def _name(said: str, question: Question, rng: Generator) -> Perturbed | None:
    names = [name for name in names_in(question.text) if name not in _ASKING]
    places = [spot for name in names for spot in re.finditer(rf"\b{re.escape(name)}\b", said)]
    if not places or len(names) < 2:
        return None
    place = pick(places, rng)
    new = pick([name for name in names if name != place[0]], rng)
    return _made(said, put(said, place, new), "name", {place[0]: new})


def _made(old: str, new: str, edit: StepEdit, changes: Mapping[str, str]) -> Perturbed | None:
    return Perturbed(new, edit, changes) if new != old else None


def implied_by_result(made: Perturbed, *, answer: str) -> str | None:
    """What stands in a perturbed result in the place of the reply's answer; None where the answer was not in it."""
    keys = {phrase_key(old): new for old, new in made.changes.items()}
    return keys.get(phrase_key(answer))


def implied_by_step(text: str, piece: Piece, made: Perturbed, *, answer: str) -> str | None:
    r"""The answer that a reply leads to once one of its steps is perturbed; None where its words do not tell.

    A step that states the answer as the conclusion leads to what stands there instead. A number is carried through the
    equations after it, if they led to the answer before.
    """
    if piece.part not in _CONCLUDES:
        return None
    if amount := _carried(text, piece, made, answer):
        return amount
    pieces = pieces_of(text)
    if made.edit == "result" or (piece.part == "" and pieces and piece.end != pieces[-1].end):
        return None
    keys = {phrase_key(old): new for old, new in made.changes.items()}
    return keys.get(phrase_key(answer))


def _carried(text: str, piece: Piece, made: Perturbed, answer: str) -> str | None:
    if made.edit not in ("result", "number") or piece.part:
        return None
    equations: list[Equation] = find_equations(text[: text.rfind(ANSWER_MARK)])
    readable = [one for one in equations if one.result is not None and one.operands]
    last = read_amount(answer)
    if not readable or len(readable) != len(equations) or last is None or readable[-1].result != last:
        return None
    until = len(find_equations(text[: piece.end]))
    ((old, new),) = made.changes.items()
    old_amount, new_amount = read_amount(old), read_amount(new)
    if old_amount is None or new_amount is None:
        return None
    carried = carry(readable, start=until, old=old_amount, new=new_amount)
    return shown(carried[1]) if carried else None
