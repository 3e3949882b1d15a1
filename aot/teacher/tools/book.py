"""A recipe book: cards read from a folder or from a run, and the search over them.

Cards come from strangers: a card that is too long is cut, one that cannot be read, says nothing or holds the answer of
a test question is refused, and each of that is a counted row. What a search finds depends on the cards and the words
alone; of equal cards the one that sorts first comes first.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aot.errors import SourceError
from aot.files.jsonl import RefusedRow, RowProblem, parse_json
from aot.rationales.wording import phrase_key, stems_of
from aot.records import Question
from aot.run_records import RecipeCard
from aot.seeds import rng

ENDINGS = (".json", ".jsonl", ".txt", ".md")
MAX_CARD_BYTES = 64_000_000
"""A larger file is not read."""
MAX_CARD_CHARS, MAX_STEP_CHARS, MAX_STEPS = 4000, 300, 100
"""More of a card, or of one step, is cut off."""
MOST_COMPARED = 50
"""Cards with most words in common, which are compared step by step."""
MIN_OVERLAP = 0.5
"""Of the words of two steps, below which they have nothing to do with each other."""
MIN_QUESTION_WORDS = 4
"""A shorter question, such as `What is next?`, may stand in a card without being a leak."""
_BULLET = re.compile(r"^\s*(?:[-*\u2022]|\(?\d{1,3}[.):])\s+")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+")


@dataclass(frozen=True)
class ReadCards:
    """What was read, and what was not."""

    cards: tuple[RecipeCard, ...]
    refused: tuple[RefusedRow, ...] = ()


@dataclass(frozen=True)
class FoundCard:
    """A card with how well it fits."""

    card: RecipeCard
    score: float
    """How much of what was looked for it has, rare steps counting more; over 0 and at most 1."""


@dataclass(frozen=True)
class RecipeBook:
    """Cards that can be searched; many threads may share one."""

    cards: tuple[RecipeCard, ...]

    def beside(self, question_id: str) -> "RecipeBook":
        """The cards that lie beside a question; where none does, those that lie beside all."""
        return self._shelves.get(question_id) or self._shelves.get("") or RecipeBook(())

    def search(self, *, steps: Sequence[str] = (), words: str = "", most: int) -> list[FoundCard]:
        """The `most` best cards that have anything of what is looked for, the best first.

        Weighted overlap: of each step, or word, that is looked for, how much a card has of it, weighted by its idf,
        log(1 + N / n). A step that a card has in other words counts by the words that both share (Jaccard), from half
        of them on.
        """
        wanted = stems_of(" ".join([*steps, words]))
        shared: Counter[int] = Counter(place for word in wanted for place in self._places.get(word, ()))
        near = sorted(shared, key=lambda at: (-shared[at], self.cards[at].name, at))[:MOST_COMPARED]
        keyed, sorted_words = [(phrase_key(step), stems_of(step)) for step in steps], sorted(wanted)
        scores = [self._by_steps(at, keyed) if steps else self._by_words(at, sorted_words) for at in near]
        hits = [FoundCard(self.cards[at], score) for at, score in zip(near, scores, strict=True)]
        hits.sort(key=lambda one: (-round(one.score, 9), one.card.name, one.card.steps))
        return [one for one in hits if one.score > 0][:most]

    def _by_steps(self, place: int, steps: Sequence[tuple[str, frozenset[str]]]) -> float:
        """How much of the steps, by key and stems, a card has, 0 to 1."""
        weights = [self._idf(key) for key, _ in steps]
        shares = [_share(key, stems, self._stems_by_key[place]) for key, stems in steps]
        return sum(w * s for w, s in zip(weights, shares, strict=True)) / sum(weights)

    def _by_words(self, place: int, words: Sequence[str]) -> float:
        weights = [self._idf(word) for word in words]
        has = [place in self._places.get(word, ()) for word in words]
        return sum(w for w, there in zip(weights, has, strict=True) if there) / sum(weights)

    def shuffled(self, seed: int) -> "RecipeBook":
        """The same cards, names and lengths, all steps dealt anew: a control that must lead astray."""
        dealt: list[RecipeCard] = []
        for key, shelf in sorted(self._shelves.items()):
            steps = [step for card in shelf.cards for step in card.steps]
            order = iter([steps[int(at)] for at in rng(seed, "shuffled_book", key).permutation(len(steps))])
            dealt += [card.model_copy(update={"steps": tuple(next(order) for _ in card.steps)}) for card in shelf.cards]
        return RecipeBook(tuple(dealt))

    @cached_property
    def _shelves(self) -> dict[str, "RecipeBook"]:
        shelves: defaultdict[str, list[RecipeCard]] = defaultdict(list)
        for card in self.cards:
            for question_id in card.questions or ("",):
                shelves[question_id].append(card)
        return {key: RecipeBook(tuple(cards)) for key, cards in shelves.items()}

    @cached_property
    def _stems_by_key(self) -> tuple[dict[str, frozenset[str]], ...]:
        """Of each card the stems of each step, by its key."""
        return tuple({phrase_key(step): stems_of(step) for step in card.steps} for card in self.cards)

    @cached_property
    def _places(self) -> dict[str, frozenset[int]]:
        """Which cards have a step, by its key, or a word, by its stem."""
        places: defaultdict[str, set[int]] = defaultdict(set)
        for place, card in enumerate(self.cards):
            for term in {*map(phrase_key, card.steps), *stems_of(" ".join([card.name, *card.steps]))}:
                places[term].add(place)
        return {term: frozenset(some) for term, some in places.items()}

    def _idf(self, term: str) -> float:
        return math.log1p(len(self.cards) / max(1, len(self._places.get(term, ()))))


def _share(key: str, wanted: frozenset[str], others: Mapping[str, frozenset[str]]) -> float:
    """How much of a step is among the steps of a card: 1 for the same, else the best overlap of words."""
    if key in others:
        return 1.0
    best = max((len(wanted & words) / max(1, len(wanted | words)) for words in others.values()), default=0.0)
    return best if best >= MIN_OVERLAP else 0.0


def read_cards(folder: Path) -> ReadCards:
    """The cards of a folder, in the order of its file names.

    A `.json` file holds a card (`name`, and `steps` or `text`) or a list of them, a `.jsonl` file one on each line; a
    `.txt` or `.md` file is one card, named by the file, with a step on each line.

    Raises:
        SourceError: there is no such folder, or no file of a card in it.
    """
    if not folder.is_dir():
        raise SourceError(f"there is no folder {folder} of recipe cards; set data.book to one, or to embedded")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not files:
        raise SourceError(f"{folder} holds no recipe card: put files ending in {', '.join(ENDINGS)} there")
    cards: list[RecipeCard] = []
    refused: list[RefusedRow] = []
    for path in files:
        place = str(path.relative_to(folder))
        try:
            for number, raw in enumerate(_raw_cards(path), start=1):
                try:
                    card, note = _card(raw, name=path.stem)
                    cards.append(card)
                    refused += [RefusedRow(f"{place}:{number}", "card_cut", note)] if note else []
                except RowProblem as problem:
                    refused.append(problem.row(f"{place}:{number}"))
        except RowProblem as problem:
            refused.append(problem.row(place))
    kept, doubled = _told_apart(cards)
    return ReadCards(kept, (*refused, *doubled))


def without_answers(cards: Iterable[RecipeCard], held_out: Iterable[Question]) -> ReadCards:
    """The cards that do not hold a held-out question together with its answer: `holds_test_answer` otherwise.

    Cards that only list the steps of a dish answer many questions, and leak none.
    """
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for question in held_out:
        key = phrase_key(question.text)
        if len(key.split()) >= MIN_QUESTION_WORDS:
            answers[key].add(phrase_key(question.right_answer))
    kept, refused = [], []
    for card in cards:
        text = f" {phrase_key(' '.join([card.name, *card.steps]))} "
        leak = next((key for key in answers if key in text and any(f" {a} " in text for a in answers[key])), "")
        if leak:
            refused.append(RefusedRow(card.name[:200], "holds_test_answer", f"it holds the question {leak[:200]!r}"))
        else:
            kept.append(card)
    return ReadCards(tuple(kept), tuple(refused))


def _raw_cards(path: Path) -> Iterator[Any]:
    """What stands in a file, card by card; raises RowProblem where it cannot be read."""
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise RowProblem("too_large", f"a file of cards may have {MAX_CARD_BYTES // 1_000_000} MB")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise RowProblem("unreadable", str(error.strerror)) from None
    except UnicodeDecodeError:
        raise RowProblem("not_utf8", "save the file as UTF-8") from None
    if path.suffix.lower() in (".txt", ".md"):
        yield {"text": text}
        return
    try:
        if path.suffix.lower() == ".json":
            value = parse_json(text)
            yield from value if isinstance(value, list) else [value]
            return
        for line in text.splitlines():
            if line.strip():
                yield parse_json(line)
    except ValueError as error:
        raise RowProblem("broken_json", str(error)[:200]) from None


def _card(raw: Any, *, name: str) -> tuple[RecipeCard, str]:  # noqa: ANN401 - any JSON
    """One card, and what was cut of it in words; raises RowProblem where it is none."""
    if not isinstance(raw, Mapping):
        raise RowProblem("no_card", "a card is an object with name and steps, or with text")
    given, text = raw.get("steps"), raw.get("text")
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        lines = [str(one) for one in given]
    elif isinstance(text, str) and given is None:
        lines = _lines(text[: 2 * MAX_CARD_CHARS])
    else:
        raise RowProblem("no_card", "a card has `steps`, a list of texts, or `text`")
    whole = sum(map(len, lines)) if given is not None else len(text or "")
    steps = [shown for one in lines[: 10 * MAX_STEPS] if (shown := " ".join(one.split()))]
    kept: list[str] = []
    while len(kept) < min(MAX_STEPS, len(steps)) and sum(map(len, kept)) < MAX_CARD_CHARS:
        kept.append(steps[len(kept)][:MAX_STEP_CHARS])
    if not kept:
        raise RowProblem("empty_card", "it lists no step")
    was_cut = kept != steps or whole > 2 * MAX_CARD_CHARS
    title = " ".join(str(raw.get("name") or name).split())[:MAX_STEP_CHARS]
    note = f"{title}: of {whole} characters the first {sum(map(len, kept))} are used" if was_cut else ""
    return RecipeCard(name=title, steps=tuple(kept)), note


def _lines(text: str) -> list[str]:
    """The steps of a text: its lines without bullets and headings, or the sentences of a single line."""
    lines = [_BULLET.sub("", line) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return _SENTENCE.split(lines[0]) if len(lines) == 1 else lines


def _told_apart(cards: Sequence[RecipeCard]) -> tuple[tuple[RecipeCard, ...], list[RefusedRow]]:
    """Each card once; one that contradicts another of its name stays, under a number of its own, and is counted."""
    by_name: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    kept: list[RecipeCard] = []
    notes: list[RefusedRow] = []
    for card in cards:
        others = by_name[phrase_key(card.name)]
        if card.steps in others:
            notes.append(RefusedRow(card.name, "repeated_card", "the same card is there already"))
            continue
        others.append(card.steps)
        if len(others) > 1:
            name = f"{card.name} {len(others)}"
            notes.append(RefusedRow(card.name, "contradicts_card", f"another card has this name; kept as {name!r}"))
            card = card.model_copy(update={"name": name})
        kept.append(card)
    return tuple(kept), notes
