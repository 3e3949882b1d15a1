"""The recipe book: what a search finds, what the tool says, and cards of strangers."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from teacher_scenes import CARD, annotation, drawn_view, question

from aot.config import FilterConfig
from aot.errors import SourceError
from aot.files.parts import KeyedRows
from aot.filtering.evidence import evidence
from aot.filtering.subject import Subject
from aot.records import Question, Step, ToolCall, Trace
from aot.run_records import RecipeCard
from aot.teacher.bench import Budget, Parts
from aot.teacher.executor import call_tool, context_of, run_candidate
from aot.teacher.rules import RulesPlanner
from aot.teacher.tools.base import CachedResult
from aot.teacher.tools.book import MAX_CARD_CHARS, RecipeBook, read_cards, without_answers
from aot.teacher.tools.clipview import ClipView
from aot.teacher.tools.look_up_recipe import recipe_tool
from aot.teacher.tools.pixels.matcher import Looker
from aot.teacher.tools.procedure import ProcedureModel, procedures
from aot.teacher.tools.registry import TOOLS

STORY = ("wash tomato", "chop tomato", "mix egg")
OMELETTE = RecipeCard(name="omelette", steps=("wash tomato", "chop tomato", "mix egg", "pour egg"))
TEA = ("Boil water", "Steep")
SALAD = RecipeCard(name="salad", steps=("wash tomato", "chop tomato", "mix cucumber"))
SOUP = RecipeCard(name="soup", steps=("Peel the carrots", "Chop the carrots finely", "Boil them"))
OWN = RecipeCard(
    name="dish 1 2", steps=("wash tomato", "fry fish", "mix egg", "bake dough"), questions=("q-book_next",)
)
BOOK = RecipeBook((SALAD, OMELETTE, SOUP, OWN))


@pytest.fixture(scope="module")
def view() -> ClipView:
    return drawn_view(*STORY)


def parts(book: RecipeBook) -> Parts:
    rows = [annotation("0", "omelette", *OMELETTE.steps)]
    return Parts(
        planner=RulesPlanner(), tools={**TOOLS, "look_up_recipe": recipe_tool(book)}, looker=Looker(CARD),
        procedure=ProcedureModel.from_annotations(rows), cache=KeyedRows(None, CachedResult),
        budget=Budget(max_calls=6, time_limit_s=60.0), seed=0, config_digest="d",
    )  # fmt: skip


def looked_up(book: RecipeBook, question_id: str = "", **arguments: object) -> Step:
    hands = parts(book)
    context = replace(context_of(hands), question_id=question_id)
    return call_tool(ToolCall(tool="look_up_recipe", arguments=dict(arguments)), context, hands, index=1).step


def test_the_card_that_shares_the_rarest_steps_comes_first_and_ties_go_by_name() -> None:
    assert [one.card.name for one in BOOK.beside("").search(steps=STORY, most=2)] == ["omelette", "salad"]
    tied = BOOK.beside("").search(steps=["wash tomato"], most=3)
    assert [(one.card.name, one.score) for one in tied] == [("omelette", 1.0), ("salad", 1.0)]


def test_steps_in_other_words_and_words_alone_are_looked_up_too() -> None:
    assert BOOK.search(steps=["chopping carrots"], most=1)[0].card is SOUP
    assert BOOK.search(words="something with boiled carrots", most=1)[0].card is SOUP
    assert BOOK.search(words="zebra", most=1) == [] == BOOK.search(steps=["!!"], most=1)


def test_a_card_that_lies_beside_one_question_is_found_by_no_other() -> None:
    assert [c.name for c in BOOK.beside("q-book_next").cards] == ["dish 1 2"]
    assert "dish 1 2" not in [card.name for card in BOOK.beside("another").cards]
    assert looked_up(BOOK, "q-book_next", steps=["mix egg"]).result == {
        "cards": [{"name": "dish 1 2", "text": "wash tomato, fry fish, mix egg *1, bake dough", "score": 1.0}]
    }


def test_a_shuffled_book_has_the_same_names_and_lengths_and_tells_other_things() -> None:
    shuffled = BOOK.shuffled(0)
    assert sorted((c.name, len(c.steps)) for c in shuffled.cards) == sorted((c.name, len(c.steps)) for c in BOOK.cards)
    assert shuffled.beside("").cards != BOOK.beside("").cards and shuffled.cards == BOOK.shuffled(0).cards


def test_the_tool_says_what_its_cards_list() -> None:
    findings = looked_up(BOOK, steps=list(STORY)).findings
    assert [(f.kind, f.label) for f in findings if f.kind in ("task", "after")] == [
        ("task", "omelette"), ("task", "salad"), ("after", "mix egg")
    ]  # fmt: skip
    assert [f.label for f in findings if f.kind == "listed"] == [*OMELETTE.steps, *SALAD.steps]


@pytest.mark.parametrize(
    ("book", "arguments", "error"),
    [
        (RecipeBook(()), {"steps": ["mix egg"]}, "the recipe book is empty"),
        (BOOK, {}, "give steps"),
        (BOOK, {"steps": []}, "give steps"),
        (BOOK, {"steps": ["x"] * 65}, "at most 64 items"),
        (BOOK, {"words": "x" * 1001}, "at most 1000 characters"),
        (BOOK, {"step": ["mix egg"]}, "bad arguments"),
    ],
)
def test_a_search_that_makes_no_sense_is_a_failed_step(
    book: RecipeBook, arguments: dict[str, object], error: str
) -> None:
    step = looked_up(book, **arguments)
    assert step.status == "failed" and error in step.error


CARD_QUESTIONS = [
    (question("book_next", "By the card, which step comes next?", answer="x"), OWN.steps, "bake dough"),
    (question("book_left_out", "By the card, which step was left out?"), OWN.steps, "fry fish"),
    (question("book_early", "By the card, which step came too early?"), STORY[1:] + STORY[:1], "wash tomato"),
    (question("book_missing", "By the card, what is still missing?"), OWN.steps, "fry fish, bake dough"),
    (question("card_missing", f"Card: {', '.join(OWN.steps)}. What is still missing?"), (), "fry fish, bake dough"),
]


@pytest.mark.parametrize("candidate", range(4))
@pytest.mark.parametrize(("asked", "steps", "answer"), CARD_QUESTIONS, ids=[q.kind for q, *_ in CARD_QUESTIONS])
def test_the_rule_planner_compares_what_it_saw_with_the_card(
    view: ClipView, asked: Question, steps: tuple[str, ...], answer: str, candidate: int
) -> None:
    cards = [RecipeCard(name="dish 3 4", steps=steps, questions=(asked.id,))] if steps else []
    kit = parts(RecipeBook((SALAD, *cards)))
    with closing(kit.cache):
        trace = run_candidate(asked, view, kit, candidate=candidate)
    assert (trace.status, trace.answer) == ("ok", answer)
    assert [s.call.tool for s in trace.steps if s.call][1:] == (["look_up_recipe"] if steps else [])
    subject = Subject(trace, asked.model_copy(update={"answer": answer}), FilterConfig())
    assert (verdict := evidence(subject)).keep, verdict


def told(trace: Trace, *replaced: tuple[str, str]) -> str:
    text = trace.rationale
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)
    return text


def test_a_conclusion_that_no_card_bears_is_dropped(view: ClipView) -> None:
    asked = CARD_QUESTIONS[0][0]
    kit = parts(BOOK)
    trace = run_candidate(asked, view, kit, candidate=0)
    assert "the card" in trace.rationale and trace.answer == "bake dough"

    def reason(text: str, **changed: object) -> str:
        return evidence(Subject(trace.model_copy(update={"rationale": text, **changed}), asked, FilterConfig())).reason

    assert reason(trace.rationale) == "ok"
    assert reason(told(trace, ("after mix egg", "after wash tomato"))) == "card_says_otherwise"
    lie = told(trace, ("bake dough", "fry fish"))
    assert reason(lie, answer="fry fish") == "card_says_otherwise"


def test_next_steps_come_from_the_book_where_there_is_one(view: ClipView) -> None:
    asked = question("next_open", "Which step comes next?", answer="pour egg")
    trace = run_candidate(asked, view, parts(BOOK), candidate=0)
    assert trace.answer == "pour egg" and trace.steps[1].call and trace.steps[1].call.tool == "look_up_recipe"
    assert "this is omelette," in trace.rationale
    options = question("next_choice", "What is the next step?", choices=("mix cucumber", "fry fish"))
    second = run_candidate(options, view, parts(BOOK), candidate=0)
    assert second.answer == "mix cucumber" and "salad" in second.rationale


def test_an_empty_book_fails_the_plan_and_says_so(view: ClipView) -> None:
    trace = run_candidate(CARD_QUESTIONS[0][0], view, parts(RecipeBook(())), candidate=0)
    assert trace.status == "failed" and trace.error and "the recipe book is empty" in trace.error.message


def test_cards_of_strangers_are_read_cut_or_refused_and_counted(tmp_path: Path) -> None:
    files = {
        "a.json": json.dumps([{"name": "tea", "steps": TEA}, {"name": "tea", "steps": TEA[1:]}, 7]),
        "b.jsonl": '{"name": "tea", "steps": ["Boil water", "Steep"]}\n{"name": "no steps"}\n{broken\n',
        "omelette.txt": "# Omelette\n1. Beat the eggs\n2) Fry them\n- Fold\n\n",
        "soup.md": "Chop the carrots. Boil them. Serve.",
        "long.txt": "stir and wait\n" * 80_000,
        "empty.txt": "  \n",
        "notes.csv": "not,a,card",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.txt").write_bytes("Crème brûlée".encode("latin-1"))
    read = read_cards(tmp_path)
    by_name = {card.name: card.steps for card in read.cards}
    assert by_name["omelette"] == ("Beat the eggs", "Fry them", "Fold")
    assert by_name["soup"] == ("Chop the carrots.", "Boil them.", "Serve.")
    assert (by_name["tea"], by_name["tea 2"]) == (("Boil water", "Steep"), ("Steep",))
    assert sum(map(len, by_name["long"])) <= MAX_CARD_CHARS + 300
    assert sorted((row.item, row.reason) for row in read.refused) == [
        ("a.json:3", "no_card"), ("b.jsonl", "broken_json"), ("b.jsonl:2", "no_card"), ("empty.txt:1", "empty_card"),
        ("latin.txt", "not_utf8"), ("long.txt:1", "card_cut"), ("tea", "contradicts_card"), ("tea", "repeated_card"),
    ]  # fmt: skip


def test_a_folder_without_cards_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no recipe card"):
        read_cards(tmp_path)
    with pytest.raises(SourceError, match="there is no folder"):
        read_cards(tmp_path / "nowhere")


def test_a_card_that_holds_a_test_question_with_its_answer_is_refused() -> None:
    asked = question("mine", "Which spice does the cook take last?", answer="smoked paprika")
    leak = RecipeCard(name="notes", steps=("Which spice does the cook take last? Smoked paprika.",))
    plain = RecipeCard(name="goulash", steps=("Add smoked paprika", "Stir"))
    read = without_answers([leak, plain], [asked])
    assert read.cards == (plain,) and [row.reason for row in read.refused] == ["holds_test_answer"]


def test_procedures_are_counted_from_training_clips_alone() -> None:
    rows = [annotation(str(i), "tea", "boil water", "steep", split="train") for i in range(3)]
    rows += [annotation("3", "tea", "boil water", "add milk", "steep", split="train")]
    rows += [annotation("4", "tea", "steep", "sing", "boil water", split="test")] * 9
    assert procedures(rows) == {"tea": ("boil water", "steep")}
