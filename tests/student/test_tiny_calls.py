"""The embedded video student's own words: calls and cards go through its tokenizer unharmed."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoProcessor

from aot.rationales.wording import BOOK_PHRASES, template_words
from aot.student.model.loading import resolve_base
from aot.student.rows.prompts import MODE_SUFFIX, call_text, read_calls
from aot.student.rows.tokens import Renderer
from video_data.kitchen.open_book import KINDS
from video_data.kitchen.world import STEP_LABELS

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from tiny_cards import card_example

WINDOW = {"start_s": 0.0, "end_s": 12.4}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("look_up_recipe", {"steps": ["wash tomato", "chop tomato", "mix egg"]}),
    ("look_up_recipe", {"steps": ["wash rice"]}),
    ("look_up_recipe", {"words": "omelette egg"}),
    ("propose_next", {"history": ["chop onion", "fry onion"]}),
    ("list_steps", WINDOW),
    ("find_moments", {"event": "chop onion", **WINDOW}),
    ("count_events", {"event": "chop onion", **WINDOW}),
    ("detect_objects", {"object": "onion", **WINDOW}),
    ("read_order", {"events": list(STEP_LABELS), **WINDOW}),
]


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(AutoProcessor.from_pretrained(resolve_base("tiny-video")))


@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=[f"{name}-{next(iter(given))}" for name, given in CALLS])
def test_a_call_comes_back_letter_for_letter(renderer: Renderer, name: str, arguments: dict[str, Any]) -> None:
    text = call_text(name, arguments)
    ids = renderer.completion_ids(text)
    assert renderer.decode(ids[:-1]) == text and ids[-1] in renderer.end_ids
    (call,) = read_calls(renderer.decode(renderer.completion_ids(f"Gather: 0.0s-1.5s wash rice.\n{text}")))[1]
    assert (call.name, json.loads(call.arguments)) == (name, arguments)


def test_a_look_up_costs_two_tokens_a_step(renderer: Renderer) -> None:
    ids = renderer.completion_ids(call_text("look_up_recipe", {"steps": list(STEP_LABELS[:5])}))
    assert len(ids) == 2 * 5 + 2


def test_nothing_of_a_talk_about_cards_is_an_unknown_word(renderer: Renderer) -> None:
    cards = {"cards": [{"name": f"dish {n} 7", "text": ", ".join(STEP_LABELS), "score": 0.9} for n in (12, 99)]}
    slots = {"cite": "[1]", "answer": "fry egg", "other": "mix egg", "end": "9.3s"}
    texts = [f"<tool_response>{json.dumps(cards)}</tool_response>", *MODE_SUFFIX.values()]
    texts += [phrase.format(**slots) for phrases in BOOK_PHRASES.values() for phrase in phrases]
    texts += sorted(template_words())
    texts += [f"{start}{asked}" for start in ("", "Card: mix egg, fry egg. ") for asked in KINDS.values()]
    unknown = renderer.tokenizer.unk_token_id
    assert not [text for text in texts if unknown in renderer.tokenizer(text)["input_ids"]]


def test_lessons_about_cards_show_the_places_that_the_book_gives() -> None:
    rng = np.random.default_rng(0)
    shown = [text for text in (card_example(rng)[0] for _ in range(100)) if "*" in text]
    assert shown and not [text for text in shown if re.sub(r" \*[1-9]\d*(?=[,\"])", "", text).count("*")]
