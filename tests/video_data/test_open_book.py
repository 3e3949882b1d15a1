"""Open-book questions of the drawn kitchen: cards that nobody saw, and gold answers that the cards give."""

from functools import cache
from pathlib import Path

import pytest

from aot.rationales.cards import Card, compare
from aot.run_records import RecipeCard
from aot.teacher.tools.book import RecipeBook
from video_data.datasets.rows import CardRow, QuestionRow, VideoData
from video_data.kitchen.dataset import plan_toy_kitchen
from video_data.kitchen.open_book import KINDS, recipe_cards

COUNTS = {"train": 60, "test": 24, "test_ood": 24}


@cache
def kitchen(place: str = "book", count: int = 4) -> VideoData:
    return plan_toy_kitchen(Path("clips"), seed=3, counts=COUNTS, open_book_count=count, card=place)  # type: ignore[arg-type]


def asked(data: VideoData) -> list[QuestionRow]:
    return [q for q in data.questions if q.kind.startswith(("book_", "card_"))]


def seen(question: QuestionRow) -> list[str]:
    (clip,) = (a for a in kitchen().annotations if a.uri == question.uri)
    return [s.label for s in clip.segments if s.start_s < (question.end_s or 0.0)]


def right_cards() -> dict[str, CardRow]:
    cards: dict[str, CardRow] = {}
    for card in kitchen().cards:
        for question_id in card.questions:
            cards.setdefault(question_id, card)
    return cards


def test_no_card_is_used_twice_and_none_in_two_splits() -> None:
    cards = right_cards()
    assert len(asked(kitchen())) > 350 and {q.kind for q in asked(kitchen())} == {f"book_{kind}" for kind in KINDS}
    steps = [cards[q.id].steps for q in asked(kitchen())]
    assert len(set(steps)) == len(steps)


def test_a_book_finds_the_right_card_by_what_was_seen_and_the_card_gives_the_gold_answer() -> None:
    book = RecipeBook(tuple(RecipeCard(name=c.name, steps=c.steps, questions=c.questions) for c in kitchen().cards))
    for question in asked(kitchen()):
        (best, *others) = book.beside(question.id).search(steps=seen(question), most=4)
        assert best.card.steps == right_cards()[question.id].steps
        assert others and others[0].score < best.score
        said = compare(question.kind.removeprefix("book_"), Card(1, "", best.card.steps), seen(question))
        assert said and said.answer == question.answer


def test_who_misreads_what_tells_cards_apart_may_be_led_astray() -> None:
    book = RecipeBook(tuple(RecipeCard(name=c.name, steps=c.steps, questions=c.questions) for c in kitchen().cards))
    lost = 0
    for question in asked(kitchen()):
        right = right_cards()[question.id].steps
        misread = [step if step not in right[::2] else "mix rice" for step in seen(question)]
        best = book.beside(question.id).search(steps=misread, most=1)
        lost += not best or best[0].card.steps != right
    assert lost > len(asked(kitchen())) / 10


def test_the_answer_of_a_card_cannot_be_guessed_from_the_clip() -> None:
    """What comes next and what is missing by a card happens nowhere in the clip, so no recipe that is known helps."""
    for question in asked(kitchen()):
        if question.kind in ("book_next", "book_missing"):
            (clip,) = (a for a in kitchen().annotations if a.uri == question.uri)
            assert not set(question.answer.split(", ")) & {s.label for s in clip.segments}


def test_a_card_in_the_question_stands_in_no_book() -> None:
    data = kitchen("question", 1)
    assert {q.kind.partition("_")[0] for q in asked(data)} == {"card"}
    assert all(q.text.startswith("Card: ") for q in asked(data)) and not any(card.questions for card in data.cards)


@pytest.mark.parametrize("count", [0, 2])
def test_open_book_questions_change_no_other_question(count: int) -> None:
    plain = plan_toy_kitchen(Path("clips"), seed=3, counts=COUNTS)
    assert [q for q in kitchen("book", count).questions if not q.kind.startswith("book_")] == list(plain.questions)


def test_what_comes_next_in_a_new_dish_stands_on_its_own_card_alone() -> None:
    counts = {**COUNTS, "new_dishes": 20}
    data = plan_toy_kitchen(Path("clips"), seed=3, counts=counts)
    assert {q.id for q in kitchen(count=0).questions} < {q.id for q in data.questions}
    book = RecipeBook(tuple(RecipeCard(name=c.name, steps=c.steps, questions=c.questions) for c in data.cards))
    dishes = {a.uri: a for a in data.annotations if a.uri.startswith("train_new_")}
    asked_next = [q for q in data.questions if q.uri in dishes and q.kind.startswith("next_")]
    tagged = {q.id for q in data.questions if q.tags}
    assert tagged == {q.id for q in asked_next} and all(q.tags == (("answered_by", "card"),) for q in asked_next)
    assert len(dishes) == 20 and len(asked_next) > 40 and {q.split for q in asked_next} == {"train"}
    for question in asked_next:
        done = [s.label for s in dishes[question.uri].segments if s.start_s < (question.end_s or 0.0)]
        best = book.beside(question.id).search(steps=done, most=1)[0].card
        to_come = [step for step in best.steps if step not in done]
        assert question.answer in to_come and all(len({*best.steps} & {*r.steps}) <= 3 for r in recipe_cards())
        asked_about = set(question.choices) or {to_come[0]}
        assert asked_about & {to_come[0]} <= {question.answer}
