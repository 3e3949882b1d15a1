"""The written form of a video rationale, and the one parser that everyone reads it with.

A rationale has four parts in this order, each on its own line::

    Identify: the question asks for the step after 9.6s.
    Gather: 0.2s-2.4s chop onion [1]. 2.4s-5.1s fry onion [1].
    Combine: this is omelette, where add egg comes after fry onion [2].
    Answer: add egg

`[n]` cites step n of the trace; `0.2s-2.4s` is a time span and `9.6s` a moment, in seconds with one decimal. What was
said, seen in words or answered is quoted::

    Gather: 0.5s-3.2s said "crack an egg" [1]. 0.0s-5.0s asked "is there a pan?" answered "yes" [2].

Inside such a quote nothing is notation: no time, citation, heading or end of a sentence. The teacher's verbaliser
writes this form, filters and the evaluation parse it; nobody else knows the notation.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

PARTS = ("Identify", "Gather", "Combine", "Answer")
ANSWER_MARK = "Answer:"
"""Before the answer of a rationale, and of every other reply."""
EVIDENCE = ("Gather", "Combine")
"""The parts that say what was seen and what follows from it."""
SPAN = re.compile(r"(\d+(?:\.\d+)?)\s?s\s?-\s?(\d+(?:\.\d+)?)\s?s")
MOMENT = re.compile(r"(?<![\d.\-])(\d+(?:\.\d+)?)\s?s\b")
CITATION = re.compile(r"\[\s?(\d+)\s?\]")
_MARK = re.compile("|".join(pattern.pattern for pattern in (SPAN, MOMENT, CITATION)))
_HEADING = re.compile(r"\b(Identify|Gather|Combine|Answer)\s?:")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=\S)")
QUOTE = re.compile(r'\b(?:asked "([^"\n]*)" )?(not said|said|seen|answered) "([^"\n]*)"')
"""The question of an answer, how the text came, and the text. Quotation marks elsewhere are not part of the notation:
what they enclose is read like any other words, so that nothing can hide in them."""


def format_time(time_s: float) -> str:
    """A moment as a rationale writes it.

    >>> format_time(3.25)
    '3.2s'
    """
    return f"{time_s:.1f}s"


def format_span(start_s: float, end_s: float) -> str:
    """A time span as a rationale writes it.

    >>> format_span(0.21, 2.4)
    '0.2s-2.4s'
    """
    return f"{format_time(start_s)}-{format_time(end_s)}"


def parse_span(text: str) -> tuple[float, float] | None:
    """The first time span in `text` as (start_s, end_s), or None."""
    mark = SPAN.search(text)
    return (float(mark[1]), float(mark[2])) if mark else None


@dataclass(frozen=True, slots=True)
class Quoted:
    """A text that a rationale quotes."""

    how: str
    """`said`, `seen`, `answered`, or `not said`."""
    text: str
    question: str = ""
    """What an answer was asked for."""


@dataclass(frozen=True)
class Claim:
    """One sentence of the Gather or Combine part, with what it cites."""

    part: str
    text: str
    """The sentence without its citations and times."""
    citations: tuple[int, ...]
    spans_s: tuple[tuple[float, float], ...]
    moments_s: tuple[float, ...]
    """Single times, not those of the spans."""
    sentence: str
    """As it was written."""
    quotes: tuple[Quoted, ...] = ()

    def without_quotes(self) -> "Claim":
        """What is claimed besides the quotes."""
        if not self.quotes:
            return self
        text = " ".join(without_quotes(self.text).split())
        return replace(self, text=text, sentence=without_quotes(self.sentence), quotes=())


@dataclass(frozen=True)
class Rationale:
    """A rationale taken apart."""

    headings: tuple[str, ...]
    """Part names in the order in which they stand in the text, repeats included."""
    parts: dict[str, str]
    """Text under the first heading of each name."""
    claims: tuple[Claim, ...]

    @property
    def answer(self) -> str:
        """Text of the answer part; empty when there is none."""
        return self.parts.get("Answer", "").strip().rstrip(".").strip()


def parse_rationale(text: str) -> Rationale:
    """Take `text` apart; never fails: what is missing is simply absent from the result."""
    marks = list(_HEADING.finditer(_masked(text)))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    parts: dict[str, str] = {}
    for mark, end in zip(marks, ends, strict=False):
        parts.setdefault(mark[1], text[mark.end() : end].strip())
    claims = [
        _parse_claim(part, sentence)
        for part in ("Identify", *EVIDENCE)
        for sentence in sentences_of(parts.get(part, ""))
    ]
    return Rationale(headings=tuple(mark[1] for mark in marks), parts=parts, claims=tuple(claims))


def sentences_of(text: str) -> list[str]:
    """The sentences of a part; a quote never ends one.

    >>> sentences_of('1.0s-2.0s said "Wait. Now flip!" [1]. 2.0s-3.0s fry egg [2].')
    ['1.0s-2.0s said "Wait. Now flip!" [1].', '2.0s-3.0s fry egg [2].']
    """
    sentences, start = [], 0
    for gap in _SENTENCE_END.finditer(_masked(text)):
        sentences.append(text[start : gap.start()])
        start = gap.end()
    return [sentence for sentence in (*sentences, text[start:]) if sentence.strip()]


def without_quotes(text: str) -> str:
    """`text` with a space for each of its quotes."""
    return QUOTE.sub(" ", text) if '"' in text else text


def outside_quotes(text: str, change: Callable[[str], str]) -> str:
    """`text` with every stretch between its quotes changed, and the quotes as they are."""
    changed, end = [], 0
    for quote in QUOTE.finditer(text):
        changed += [change(text[end : quote.start()]), quote[0]]
        end = quote.end()
    return "".join([*changed, change(text[end:])])


def _masked(text: str) -> str:
    """`text` with a neutral character for each one of a quote: places stay, and nothing in a quote is a mark."""
    return QUOTE.sub(lambda quote: "_" * len(quote[0]), text) if '"' in text else text


def _parse_claim(part: str, sentence: str) -> Claim:
    marks = list(_MARK.finditer(_masked(sentence)))
    starts, ends = [0, *(mark.end() for mark in marks)], [*(mark.start() for mark in marks), len(sentence)]
    quotes = QUOTE.finditer(sentence) if '"' in sentence else ()
    words = " ".join(sentence[start:end] for start, end in zip(starts, ends, strict=True)).split()
    return Claim(
        part=part,
        text=" ".join(words).strip(" .!?,:;"),
        citations=tuple(int(mark[4]) for mark in marks if mark[4]),
        spans_s=tuple((float(mark[1]), float(mark[2])) for mark in marks if mark[1]),
        moments_s=tuple(float(mark[3]) for mark in marks if mark[3]),
        sentence=sentence,
        quotes=tuple(Quoted(quote[2], quote[3], quote[1] or "") for quote in quotes),
    )
