"""Open-book questions about synthetic clips: a new recipe card for each, and what it says about what was seen.

A card mixes steps that the clip shows, in its order, with steps of other dishes, so nobody can know it by heart. It
stands in the question, or only in a book, beside cards that share some of its steps. What is drawn depends on (seed,
name of the clip) only; splits never share a card, because each takes cards of its own remainder of a hash. Draws no
pixels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from aot import seeds
from video_data.datasets.rows import CardRow, QuestionRow
from video_data.kitchen.stories import Performance
from video_data.kitchen.world import RECIPES, STEP_LABELS

KINDS = {
    "next": "According to the card, which step comes next?",
    "left_out": "According to the card, which step was left out?",
    "early": "According to the card, which step came too early?",
    "missing": "According to the card, which steps are still missing?",
}
"""What is asked of a card, and how."""
Place = Literal["book", "question"]
SPLITS = ("train", "test", "test_ood")
DISTRACTORS = 3
"""Cards that lie beside the right one, each with all but one or two of the steps that were seen."""
MIN_SEEN = 3
END_BEFORE_S = 0.1
"""The window ends so long before the last step that it shows does."""


@dataclass(frozen=True)
class OpenBook:
    """Questions about one clip, and the cards that answer them."""

    questions: tuple[QuestionRow, ...]
    cards: tuple[CardRow, ...]
    """The right one of each question first, then those that tempt; empty where they stand in the questions."""


def recipe_cards() -> tuple[CardRow, ...]:
    """The kitchen's own recipes as cards, their steps in an order in which they can be cooked."""
    return tuple(CardRow(recipe.name, recipe.steps) for recipe in RECIPES.values())


def cards_of_new_dishes(performance: Performance, questions: Iterable[QuestionRow], *, seed: int) -> list[CardRow]:
    """The card of a dish that only a card tells, and those that tempt, beside each question of what comes next."""
    rows: list[CardRow] = []
    card = performance.recipe.steps
    others = sorted({*STEP_LABELS} - {*card} - {segment.label for segment in performance.segments})
    for question in (one for one in questions if one.kind.startswith("next_")):
        rng = seeds.rng(seed, "beside", question.id)
        names = [int(number) for number in rng.choice(10_000, size=DISTRACTORS + 1, replace=False)]
        seen = [s.label for s in performance.segments if question.end_s is None or s.start_s < question.end_s]
        tempting = [draw_tempting_card(rng, card, seen, others) for _ in range(DISTRACTORS)]
        rows += _shelf([card, *tempting], names, question.id)
    return rows


def _shelf(cards: Sequence[tuple[str, ...]], numbers: Sequence[int], question_id: str) -> list[CardRow]:
    """Cards beside a question; their names say nothing."""
    return [
        CardRow(f"dish {number // 100} {number % 100}", steps, (question_id,))
        for number, steps in zip(numbers, cards, strict=True)
    ]


def open_book(performances: Iterable[Performance], *, seed: int, count: int, place: Place) -> OpenBook:
    """`count` questions about each clip, at most four; a card that was there before is not asked about again."""
    used: set[tuple[str, ...]] = set()
    questions: list[QuestionRow] = []
    cards: list[CardRow] = []
    for performance in performances:
        for question, shelf in _of_clip(performance, seed=seed, count=count, place=place):
            if shelf[0].steps in used:
                continue
            used.add(shelf[0].steps)
            questions.append(question)
            cards += shelf if place == "book" else ()
    return OpenBook(tuple(questions), tuple(cards))


def _of_clip(
    performance: Performance, *, seed: int, count: int, place: Place
) -> Iterable[tuple[QuestionRow, list[CardRow]]]:
    """Questions about one clip, each with its right card and those beside it, every kind at most once."""
    rng = seeds.rng(seed, "open_book", performance.uri)
    labels = [segment.label for segment in performance.segments]
    kinds = [str(kind) for kind in rng.permutation(list(KINDS))][:count]
    cuts = [cut for cut in range(MIN_SEEN - 1, len(labels)) if len(_once(labels[: cut + 1])) >= MIN_SEEN]
    for kind, cut in zip(kinds, rng.permutation(cuts), strict=False):
        seen = labels[: int(cut) + 1]
        others = sorted(set(STEP_LABELS) - set(labels))
        while True:
            steps, answer = draw_card(rng, kind, _once(seen), [str(one) for one in rng.permutation(others)])
            if seeds.hashed(0, ",".join(steps), "card") % len(SPLITS) == SPLITS.index(performance.split):
                break
        question = _question(performance, kind, int(cut), answer=answer, steps=steps if place == "question" else ())
        names = rng.choice(10_000, size=DISTRACTORS + 1, replace=False)
        shelf = [steps, *(draw_tempting_card(rng, steps, seen, others) for _ in range(DISTRACTORS))]
        yield question, _shelf(shelf, [int(number) for number in names], question.id)


def _once(labels: Sequence[str]) -> list[str]:
    """The steps that happen exactly once: nothing could be said of the order of the others."""
    return [label for label in labels if list(labels).count(label) == 1]


def draw_card(
    rng: np.random.Generator, kind: str, seen: Sequence[str], others: Sequence[str]
) -> tuple[tuple[str, ...], str]:
    """The steps of a card, and the answer that it gives to someone who saw `seen`; `others` were not seen."""
    most = min(len(seen), 5 if kind in ("next", "early") else 4)
    places = sorted(int(i) for i in rng.choice(len(seen), size=int(rng.integers(MIN_SEEN, most + 1)), replace=False))
    steps = [seen[i] for i in places]
    to_come = list(others[: int(rng.integers(2, 4))])
    if kind == "next":
        return (*steps, *to_come), to_come[0]
    if kind == "left_out":
        gap = to_come.pop()
        steps.insert(int(rng.integers(0, len(steps))), gap)
        return (*steps, *to_come), gap
    if kind == "missing":
        if rng.random() < 0.5:
            steps.insert(int(rng.integers(0, len(steps))), to_come.pop())
        steps += to_come
        return tuple(steps), ", ".join(step for step in steps if step not in seen)
    early = int(rng.integers(0, len(steps) - 1))
    moved = steps.pop(early)
    steps.insert(int(rng.integers(early + 1, len(steps) + 1)), moved)
    return (*steps, *to_come), moved


def draw_tempting_card(
    rng: np.random.Generator, card: Sequence[str], seen: Sequence[str], others: Sequence[str]
) -> tuple[str, ...]:
    """A card with all but one or two of the seen steps of `card`, in some order, among steps of its own."""
    shared = [str(step) for step in rng.permutation([step for step in card if step in seen])]
    shared = shared[: len(shared) - int(rng.integers(1, 3))]
    fresh = [str(step) for step in rng.permutation([step for step in others if step not in card])]
    steps = [*shared, *fresh[: len(card) - len(shared)]]
    return tuple(str(step) for step in rng.permutation(steps))


def _question(performance: Performance, kind: str, cut: int, *, answer: str, steps: Sequence[str]) -> QuestionRow:
    stem = performance.uri.removesuffix(".mp4")
    text, name = KINDS[kind], f"book_{kind}"
    if steps:
        text, name = f"Card: {', '.join(steps)}. {text}", f"card_{kind}"
    end_s = round(performance.segments[cut].end_s - END_BEFORE_S, 1)
    return QuestionRow(
        id=f"{stem}-{name}-{cut}", split=performance.split, kind=name, text=text, choices=(), answer=answer,
        answer_type="text", uri=performance.uri, start_s=0.0, end_s=end_s, group=stem,
    )  # fmt: skip
