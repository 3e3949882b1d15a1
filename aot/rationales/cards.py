"""What recipe cards say about steps that were seen: the next one, one left out, one too early, those still missing.

A card is the steps that a tool `listed` under the task before them, or those that a question tells itself. The rule
planner answers by these comparisons, and the filters hold rationales to them; nothing here knows a tool.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aot.rationales.wording import phrase_key
from aot.records import Finding, Question, Step

COMPARED = ("next", "left_out", "early", "missing")
"""What a card can be asked."""
ABOUT_CARDS = ("book_", "card_")
"""How kinds of questions begin that a card answers: one in a book, or one in the question."""
_TOLD = re.compile(r"Card: ([^.]+)\.")


@dataclass(frozen=True)
class Card:
    """The steps of one recipe, in order."""

    step: int
    """Of the trace, which it comes from; 0 for one that the question tells."""
    name: str
    labels: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Its labels as they are compared."""
        return tuple(map(phrase_key, self.labels))


@dataclass(frozen=True)
class CardAnswer:
    """What a card says, and by which other step of it."""

    answer: str
    other: str = ""


def about_card(question: Question) -> str:
    """What is asked of a card, such as `next`; empty where nothing is."""
    return next((question.kind.removeprefix(one) for one in ABOUT_CARDS if question.kind.startswith(one)), "")


def cards_in(steps: Iterable[Step]) -> list[Card]:
    """The cards that ok steps of a trace returned, in their order."""
    cards: list[Card] = []
    for step in steps:
        if step.status == "ok":
            cards += [Card(step.index, name, labels) for name, labels in _listed(step.findings) if labels]
    return cards


def told_card(question: Question) -> Card | None:
    """The card that a question tells itself: `Card: wash rice, boil rice. ...`."""
    written = _TOLD.search(question.text) if about_card(question) else None
    return Card(0, "", tuple(part.strip() for part in written[1].split(","))) if written else None


def cards_of(question: Question, steps: Iterable[Step]) -> list[Card]:
    """The card of a question, if it tells one, and those that steps returned."""
    in_question = told_card(question)
    return [*([in_question] if in_question else []), *cards_in(steps)]


def compare(kind: str, card: Card, seen: Sequence[str]) -> CardAnswer | None:
    """The answer of a card to someone who saw the steps `seen`, in order; None where it says nothing.

    Args:
        kind: next, left_out, early or missing.
        card: what is compared.
        seen: labels of the steps seen, strangers and repeats among them.
    """
    order = list(dict.fromkeys(map(phrase_key, seen)))
    done = {key: order.index(key) for key in card.keys if key in order}
    return _COMPARE[kind](card, done) if kind in _COMPARE and done else None


def misread_card(
    question: Question, answer: str, steps: Iterable[Step], *, seen: Sequence[str], mentions: set[str]
) -> str:
    """Why a conclusion that rests on cards cannot be drawn from them; empty where it can, or where there is no card.

    Args:
        question: what is asked.
        answer: what is concluded.
        steps: those that the conclusion cites.
        seen: labels of the steps that its trace saw, in order.
        mentions: keys of the phrases that it names.
    """
    cards, key = cards_of(question, steps), phrase_key(answer)
    if not cards:
        return ""
    names = {phrase_key(card.name): card for card in cards}
    kind = about_card(question)
    if kind not in COMPARED:
        # Which of the steps that a card has not shown yet comes next, the options may tell.
        named = [card for name, card in names.items() if name in mentions]
        listed = {one for card in named or cards for one in card.keys}
        return "" if key in listed or key not in mentions else "not_on_the_card"
    fitting = [one for card in cards if (one := compare(kind, card, seen)) and phrase_key(one.answer) == key]
    sayable = {phrase_key(part) for one in fitting for part in (one.answer, one.other, *one.answer.split(","))}
    return "" if fitting and mentions <= sayable | names.keys() else "card_says_otherwise"


def _next(card: Card, done: dict[str, int]) -> CardAnswer | None:
    last = max(card.keys.index(key) for key in done)
    return CardAnswer(card.labels[last + 1], card.labels[last]) if last + 1 < len(card.labels) else None


def _left_out(card: Card, done: dict[str, int]) -> CardAnswer | None:
    gaps = [place for place, key in enumerate(card.keys) if key not in done]
    for place in gaps:
        behind = [at for at in range(place + 1, len(card.keys)) if card.keys[at] in done]
        if behind:
            return CardAnswer(card.labels[place], card.labels[behind[0]])
    return None


def _early(card: Card, done: dict[str, int]) -> CardAnswer | None:
    for key in sorted(done, key=lambda one: done[one]):
        place = card.keys.index(key)
        late = [at for at in range(place) if done.get(card.keys[at], -1) > done[key]]
        if late:
            return CardAnswer(card.labels[place], card.labels[late[-1]])
    return None


def _missing(card: Card, done: dict[str, int]) -> CardAnswer | None:
    missing = [label for label, key in zip(card.labels, card.keys, strict=True) if key not in done]
    return CardAnswer(", ".join(missing)) if missing else None


_COMPARE = {"next": _next, "left_out": _left_out, "early": _early, "missing": _missing}


def _listed(findings: Iterable[Finding]) -> list[tuple[str, tuple[str, ...]]]:
    """Names of cards with the labels listed behind each."""
    cards: list[tuple[str, list[str]]] = []
    for one in findings:
        if one.kind == "task":
            cards.append((one.label, []))
        elif one.kind == "listed" and cards:
            cards[-1][1].append(one.label)
    return [(name, tuple(labels)) for name, labels in cards]
