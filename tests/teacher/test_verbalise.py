"""Rationales say what the steps returned, in four parts, in words that the template vocabulary lists."""

import re

import pytest
from fixtures.steps import tool_step
from fixtures.synthetic import synthetic_case

from aot.rationales.notation import PARTS, parse_rationale
from aot.rationales.wording import template_words
from aot.records import AnswerType, JsonDict, MediaRef, Question, Step, TimeSpan
from aot.teacher.verbalise import verbalise

LABELS = ("chop onion", "fry onion", "wash fish", "boil rice", "peel carrot", "mix dough")
WINDOW = TimeSpan(start_s=0.0, end_s=9.8)
BOX = (0, 0, 9, 9)


def ask(kind: str, text: str, answer: str, answer_type: AnswerType) -> Question:
    return Question(
        id="q", dataset="d", split="train", kind=kind, text=text, answer=answer, answer_type=answer_type,
        media=MediaRef(uri="a.mp4", end_s=9.8), group="g",
    )  # fmt: skip


def step(index: int, tool: str, arguments: JsonDict, result: JsonDict | None) -> Step:
    return tool_step(index, tool, arguments, result, span=WINDOW)


def parts(question: Question, *steps: Step, answer: str) -> dict[str, str]:
    """Parts of the first seed that uses the plainest phrasing of each."""
    support = tuple(one.index for one in steps)
    for seed in range(64):
        text = verbalise(question=question, steps=steps, support=support, answer=answer, seed=seed)
        found = parse_rationale(text)
        if not found.parts["Identify"].startswith("we need") and re.match(
            r"\d|we see no |onion", found.parts["Gather"]
        ):
            return found.parts
    raise AssertionError("no seed gives the plain phrasing")


def test_present_cites_the_best_sighting() -> None:
    boxes = [{"time_s": 3.2, "score": 0.9, "box_xyxy": BOX}, {"time_s": 1.0, "score": 0.4, "box_xyxy": BOX}]
    seen = step(1, "detect_objects", {"object": "onion"}, {"object": "onion", "boxes": boxes})
    found = parts(ask("present", "Is there a onion?", "yes", "yes_no"), seen, answer="yes")
    assert found["Gather"] == "onion at 3.2s [1]."


def test_absence_names_the_window_that_was_searched() -> None:
    seen = step(1, "detect_objects", {"object": "onion"}, {"object": "onion", "boxes": []})
    found = parts(ask("present", "Is there a onion?", "no", "yes_no"), seen, answer="no")
    assert found["Gather"] == "we see no onion in 0.0s-9.8s [1]."


def test_count_gathers_every_moment() -> None:
    moments = [{"start_s": t, "end_s": t + 0.5, "score": 1.0} for t in range(9)]
    counted = step(1, "count_events", {"event": "chop onion"}, {"event": "chop onion", "count": 9, "moments": moments})
    found = parts(ask("count", "How often does chop onion happen?", "9", "integer"), counted, answer="9")
    assert found["Gather"].count("chop onion") == 9


def test_failed_steps_are_not_used() -> None:
    listing = {"steps": [{"start_s": 1.0, "end_s": 2.0, "label": "fry onion", "score": 1.0}]}
    steps = (step(1, "list_steps", {}, None), step(2, "list_steps", {}, listing))
    found = parts(
        ask("before", "Which step comes right before fry onion?", "wash fish", "text"), *steps, answer="wash fish"
    )
    assert found["Gather"] == "1.0s-2.0s fry onion [2]." and "[1]" not in str(found)


def test_labels_of_any_data_set_stay_inside_their_sentence() -> None:
    listing = {"steps": [{"start_s": 1.0, "end_s": 2.0, "label": "Add 2 tsp. salt: [stir]", "score": 1.0}]}
    question = ask("next_open", "Which step comes next?", "Boil for 10 s.", "text")
    text = verbalise(
        question=question, steps=(step(1, "list_steps", {}, listing),), support=(1,), answer="Boil for 10 s.", seed=0
    )
    assert parse_rationale(text).headings == PARTS
    assert [claim.part for claim in parse_rationale(text).claims] == ["Identify", "Gather", "Combine"]


def test_same_seed_same_words_and_seeds_vary_them() -> None:
    texts = {seed: synthetic_case(0, seed=seed, labels=LABELS).trace.rationale for seed in range(8)}
    assert texts[3] == synthetic_case(0, seed=3, labels=LABELS).trace.rationale
    openings = {text.split()[1] for text in texts.values() if text}
    assert len(openings) > 1


@pytest.mark.parametrize("index", range(14))
def test_every_word_is_template_label_or_number(index: int) -> None:
    case = synthetic_case(index, seed=1, labels=LABELS, failing=0.0)
    known = set(template_words()) | {word for label in LABELS for word in label.split()} | {"omelette"}
    words = re.findall(r"[^\W\d_]+", re.sub(r"[\d.]+s", " ", case.trace.rationale))
    assert set(words) <= known
    assert len(case.trace.rationale.split()) < 100
