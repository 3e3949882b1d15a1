"""Plants defects in verified traces, as a messy teacher would make them, so that filters can be measured.

Each planted defect is real: the rationale then says something that the trace does not support, contradicts itself or
has lost its form. The trace's answer and status stay as they were. What was planted is stored where no filter looks.
Defects that have nothing to do with what a rationale is about stand here: cut off, going round in a loop, garbled.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from numpy.random import Generator, default_rng

from aot.rationales.calls import called_steps, rests_on_tools
from aot.rationales.wording import phrase_key
from aot.records import Question, Step, Trace
from aot.run_records import PlantedFault
from aot.seeds import hashed

Item = TypeVar("Item")
Target = TypeVar("Target")

OPPOSITE = {"yes": "no", "no": "yes"}
"""Answers to questions that have two."""
_BROKEN = ("\ufffd\ufffd", "Ã¼Ã©", "\x00\x01", "â€œ")


@dataclass(frozen=True)
class Edits(Generic[Target]):
    """The defects that rationales of one form can have."""

    kinds: Mapping[str, Callable[[Target, Generator], str | None]]
    """Kind of defect to the edit that makes it: a new rationale, or None where it does not apply."""
    target: Callable[[Trace, Question], Target | None]
    """A verified trace, ready to be damaged; None where its rationale has not the form."""
    name: Callable[[Trace], str]
    """What the random numbers of a trace depend on, besides the seed."""


def plant(
    trace: Trace, question: Question, edits: Edits[Target], *, rate: float, seed: int
) -> tuple[Trace, PlantedFault | None]:
    """The trace with one defect in its rationale with probability `rate`, and which one; or the trace unchanged.

    Call it for verified traces. What happens depends on the seed and the name of the trace only.
    """
    rng = rng_of(seed, f"{edits.name(trace)}:fault")
    if rng.random() >= rate or trace.status != "ok" or (target := edits.target(trace, question)) is None:
        return trace, None
    for place in rng.permutation(len(edits.kinds)):
        kind = tuple(edits.kinds)[int(place)]
        rationale = edits.kinds[kind](target, rng)
        if rationale is not None and rationale != trace.rationale:
            fault = PlantedFault(question_id=trace.question_id, sample_index=trace.sample_index, fault=kind)
            return with_rationale(trace, rationale), fault
    return trace, None


def with_rationale(trace: Trace, rationale: str) -> Trace:
    """The trace with another rationale; where its steps are lines of text, with the steps that it then has.

    Otherwise the old steps would give the defect away. Calls stay where claims rest on them: they are what was really
    done. Those of a chain's equations are made again, as its teacher would have made them.
    """
    update: dict[str, object] = {"rationale": rationale}
    if trace.steps and not rests_on_tools(trace):
        lines = [line for line in rationale.split("\n") if line.strip() and not line.startswith("Answer:")]
        steps = tuple(Step(index=index, text=line) for index, line in enumerate(lines, start=1))
        if any(step.call for step in trace.steps):
            steps = called_steps(lines)
        update |= {"steps": steps, "support": tuple(step.index for step in steps) if trace.support else ()}
    return trace.model_copy(update=update)


def rng_of(seed: int, name: str) -> Generator:
    """Random numbers that depend on a seed and a name only."""
    return default_rng(hashed(seed, name))


def pick(items: Sequence[Item], rng: Generator) -> Item:
    """One of `items`, which must not be empty."""
    return items[int(rng.integers(len(items)))]


def put(text: str, place: re.Match[str], new: str) -> str:
    """`text` with `new` in a place that was found in it."""
    return text[: place.start()] + new + text[place.end() :]


def other_option(options: Sequence[str], answer: str, rng: Generator) -> str | None:
    """One of `options` that says something else than `answer`; None where all say the same."""
    others = [option for option in options if phrase_key(option) != phrase_key(answer)]
    return pick(others, rng) if others else None


def beginning(text: str, rng: Generator) -> str | None:
    """The text up to the middle of a sentence, at least three tenths of it; None where there is no such place."""
    text = text.rstrip()
    places = [at for at in range(len(text) * 3 // 10, len(text)) if not text[:at].rstrip().endswith((".", "!", "?"))]
    return text[: pick(places, rng)].rstrip() if places else None


def looping(sentence: str, copies: int, rng: Generator) -> str:
    """A sentence whose last words come again and again."""
    words = sentence.rstrip(".").split()
    tail = words[-int(rng.integers(1, min(4, len(words)) + 1)) :]
    return " ".join(words + tail * copies) + "."


def garbled(
    words: Sequence[str],
    rng: Generator,
    *,
    foreign: Sequence[str],
    shuffle: Callable[[str, Generator], str],
    min_letters: int = 0,
) -> str:
    """At least three words, some of them in another language, with shuffled letters, or in a broken encoding.

    At least two words of `min_letters` must look otherwise once their letters are shuffled, or all are spoilt.
    """
    count = int(rng.integers(2, min(6, len(words)) + 1))
    at = int(rng.integers(0, len(words) - count + 1))
    old, how = words[at : at + count], int(rng.integers(3))
    if how == 0:
        new = pick(foreign, rng).split()
    elif how == 1:
        new = [shuffle(word, rng) for word in old]
        if sum(len(word) >= min_letters and word != was for word, was in zip(new, old, strict=True)) < 2:
            new = [word + "xq" for word in old]
    else:
        new = [word[:1] + pick(_BROKEN, rng) + word[2:] for word in old]
    return " ".join([*words[:at], *new, *words[at + count :]])


def shuffled_letters(word: str, rng: Generator) -> str:
    """The letters of a word in another order."""
    return "".join(rng.permutation(list(word)))
