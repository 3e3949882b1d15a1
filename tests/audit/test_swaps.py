import pytest

from aot.audit.answers import beyond_name, category_of, category_rows, changes_of, follows_gender, pair_rows
from aot.audit.swaps import Pair, pairs_of, swap_words, words
from aot.evaluation.intervals import Bootstrap
from aot.records import MediaRef, Prediction, Question

BOOTSTRAP = Bootstrap(200, 0)
MODES = {"student": "reason", "base": "direct", "teacher": "none"}


def question(text: str, answer: str = "Ann", number: int = 0, **about: object) -> Question:
    row = {"id": f"q{number}", "dataset": "d", "split": "test", "kind": "order", "text": text, "answer": answer,
           "answer_type": "text", "group": f"q{number}"}  # fmt: skip
    return Question.model_validate(row | about)


def said(question_id: str, answer: str | None) -> Prediction:
    return Prediction(question_id=question_id, arm="student", mode="reason", raw_text="", answer=answer)


def swaps(text: str, **about: object) -> dict[str, Pair]:
    return {pair.swap: pair for pair in pairs_of([question(text, **about)], seed=0)}  # type: ignore[arg-type]


def test_names_become_others_of_their_kind_or_of_the_other() -> None:
    women, men = words().names
    made = swaps("Ann is taller than Bob. Who is the tallest?")
    assert set(made) == {"name", "gender"}
    assert made["name"].mapping["Ann"] in women and made["name"].mapping["Bob"] in men
    assert made["gender"].mapping["Ann"] in men and made["gender"].mapping["Bob"] in women
    assert made["gender"].swapped.answer == made["gender"].mapping["Ann"] and made["gender"].names_only


def test_no_name_is_a_name_of_both_kinds() -> None:
    assert not words().names[0] & words().names[1]


def test_words_of_a_gender_go_with_the_names() -> None:
    made = swaps("Ann lost her pen. Mr Smith told her mother. She cries. Is the pen hers?", answer="yes")["gender"]
    told = made.swapped.text.replace(made.mapping["Ann"], "X")
    assert told == "X lost his pen. Mrs Smith told his father. He cries. Is the pen his?" and not made.names_only


def test_her_without_a_word_behind_it_is_him() -> None:
    assert swap_words("Give it to her.", {"her": "his"}) == "Give it to him."


def test_places_become_other_places() -> None:
    made = swaps("A train goes from Rome to Paris.", answer="Paris")
    assert set(made) == {"place"} and made["place"].swapped.answer == made["place"].mapping["Paris"]


def test_only_what_the_student_learned_from_is_swapped_in() -> None:
    seen = ["Ann, Eve and Fay met Dan and Gus."]
    for number in range(8):
        row = question("Ann is taller than Bob.", number=number)
        by_swap = {pair.swap: set(pair.mapping.values()) for pair in pairs_of([row], seen=seen, seed=0)}
        assert by_swap["name"] <= {"Eve", "Fay", "Dan", "Gus"} and by_swap["gender"] <= {
            "Ann",
            "Eve",
            "Fay",
            "Dan",
            "Gus",
        }


def test_where_no_name_is_left_people_change_places() -> None:
    row = question("Ann, Eve and Fay.")
    by_swap = {pair.swap: pair for pair in pairs_of([row], seen=["Ann Eve Fay Bob Dan"], seed=0)}
    assert by_swap["name"].mapping == {"Ann": "Eve", "Eve": "Fay", "Fay": "Ann"}
    assert "gender" not in by_swap, "two men cannot stand for three women"


def test_choices_are_swapped_with_the_question() -> None:
    made = swaps("Who is it?", answer="Ann", choices=("Ann", "Bob"), answer_type="choice")["gender"]
    assert made.swapped.choices == (made.mapping["Ann"], made.mapping["Bob"])


def test_an_answer_that_is_the_swapped_name_has_not_changed() -> None:
    (pair,) = [p for p in pairs_of([question("Ann is taller than Bob.")], seed=0) if p.swap == "gender"]
    same, other = pair.mapping["Ann"], pair.mapping["Bob"]
    for answer, changed in ((same, False), (other, True), (None, True)):
        rows = {"q0": said("q0", "Ann"), pair.swapped.id: said(pair.swapped.id, answer)}
        assert [one.changed for one in changes_of([pair], rows)] == [changed]


def test_two_spellings_of_a_number_are_one_answer() -> None:
    row = question("Ann has 2 pens. How many?", answer="2", answer_type="number")
    pairs = pairs_of([row], seed=0)
    rows = {"q0": said("q0", "2")} | {pair.swapped.id: said(pair.swapped.id, "2.0") for pair in pairs}
    assert not any(one.changed for one in changes_of(pairs, rows))


def _answers(pairs: list[Pair], *, follows: str) -> dict[str, Prediction]:
    """Always right; but where `follows` is swapped it says another one."""
    rows = {pair.question.id: said(pair.question.id, pair.question.answer) for pair in pairs}
    for pair in pairs:
        answer = "nobody" if pair.swap == follows else pair.swapped.answer
        rows[pair.swapped.id] = said(pair.swapped.id, answer)
    return rows


@pytest.mark.parametrize(("follows", "is_found"), [("gender", True), ("name", False), ("", False)])
def test_answers_follow_gender_only_where_they_change_more_than_with_a_name(follows: str, is_found: bool) -> None:
    pairs = pairs_of([question("Ann is taller than Bob.", number=i) for i in range(20)], seed=0)
    changes = changes_of(pairs, _answers(pairs, follows=follows))
    result = beyond_name(changes, BOOTSTRAP)
    assert result and follows_gender(result) == is_found
    rows = list(pair_rows({"student": changes}, MODES, "student", BOOTSTRAP))
    shares = {row.metric: row.value for row in rows if row.metric in ("changed_by_gender", "changed_by_name")}
    assert shares == {"changed_by_name": float(follows == "name"), "changed_by_gender": float(follows == "gender")}


def test_categories_come_from_tags_and_kinds_and_missing_ones_are_told() -> None:
    rows = [question("What is 1 + 1?", "2", i, kind="sum", tags={"category": "arithmetic"}) for i in range(10)]
    of_teacher = {one.id: said(one.id, "2") for one in rows}
    of_student = {one.id: said(one.id, "2" if i % 2 else "3") for i, one in enumerate(rows)}
    heard = {"student": of_student, "teacher": of_teacher}
    made, missing = category_rows(rows, heard, MODES, student="student", teacher="teacher")
    (kept,) = [row for row in made if row.metric == "recovery"]
    assert (kept.value, kept.kind, kept.n) == (0.5, "arithmetic", 10) and kept.low < 0.5 < kept.high
    assert missing == [
        f"{name}: no question of this category"
        for name in ("algebra", "logic", "temporal order", "commonsense relations")
    ]


def test_video_has_categories_of_its_own() -> None:
    clip = MediaRef(uri="a.mp4")
    rows = [question("Which step comes next?", "cut", i, kind="next_open", media=clip) for i in range(2)]
    heard = {"student": {one.id: said(one.id, "cut") for one in rows}}
    made, missing = category_rows(rows, heard, MODES, student="student", teacher="teacher")
    assert {(row.kind, row.metric) for row in made} == {("next", "accuracy")}
    assert [line.split(":")[0] for line in missing] == ["before", "after", "count", "when", "present"]


def test_a_tag_goes_before_the_kind() -> None:
    assert category_of(question("x", kind="count", tags={"category": "temporal"})) == "temporal order"
    assert category_of(question("x", kind="TP")) == "before" and category_of(question("x", kind="mine")) == ""
