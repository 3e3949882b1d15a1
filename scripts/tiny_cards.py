"""What the student `cards` of build_tiny_students.py is taught about recipe cards and tool calls, as text alone.

Single skills, each in words of its own: to read a card that it is shown (which step comes after another, which are not
among those that are done, which of two orders differs), and to write a call for steps that it is told. It is never
asked about a card while it sees frames, and never to call anything about a clip: that is what distillation teaches.
"""

import json
from collections.abc import Callable, Mapping, Sequence

import torch
from numpy.random import Generator
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from aot.rationales.wording import BOOK_PHRASES, book_words
from aot.student.rows.prompts import CLOSED, MODE_LINES, MODE_SUFFIX, OPENED
from aot.teacher.tools.look_up_recipe import MARK
from video_data.kitchen.world import ACTIONS, INGREDIENTS, STEP_LABELS

TOOL_NAMES = (
    "look_up_recipe", "list_steps", "find_moments", "detect_objects", "recognise_action", "count_events", "read_order",
    "propose_next",
)  # fmt: skip
_LISTS = {"look_up_recipe": "steps", "propose_next": "history", "read_order": "events"}
_NAMED = {"find_moments": "event", "count_events": "event", "detect_objects": "object"}
RESULT_MARKS = ("<tool_response>", "</tool_response>")
_HEADS = tuple(f'{OPENED}{{"name": "{tool}", "arguments": {{"{key}": ["' for tool, key in _LISTS.items())
JSON_MARKS = (
    *_HEADS, f'{OPENED}{{"name": "look_up_recipe", "arguments": {{"words": "', f'{OPENED}{{"name": "',
    '", "arguments": {"', f'", "arguments": {{}}}}{CLOSED}', '": ["', '": "', '": ', '", "', ', "', '"], "',
    f'"]}}}}{CLOSED}', f'"}}}}{CLOSED}', f"}}}}{CLOSED}", OPENED, CLOSED, *RESULT_MARKS,
    '{"cards": [{"name": "', '", "text": "', '", "score": ', '}, {"name": "', "}]}", '{"cards": []}',
)  # fmt: skip
"""Pieces of the one JSON form of calls, and of what a recipe book gives: one token each, blanks included."""
MAX_DECIMAL = 25
SKILLS = ("recite", "after", "left_out", "missing", "early", "then")
SHARES = (0.25, 0.1, 0.15, 0.2, 0.15, 0.15)
"""What is asked of cards, and how often."""
CARD_WORDS = """Card card dish By by was too early still missing left out Use tools then Call Which fits not among that
event object say steps words history events start_s end_s min_score fps among Seen seen Write"""


CARDS_CARD = """# tiny-cards

The student tiny-video with more words ({parameters:,} parameters), taught {steps} steps more by
`scripts/build_tiny_students.py --student cards` (seed {seed}) from frames and texts that the same script draws;
Apache-2.0. Besides what tiny-video can, it reads recipe cards that it is shown as text, and writes tool calls for steps
that it is told. It never saw frames and a card together, and was never asked to call anything about a clip.

Token accuracy on its last batch: {seen:.3f} naming steps, {read:.3f} on text. Neither can reach 1: the moment between
two frames at which a step ends cannot be seen, and which step of a partial order comes first is a free choice.
"""


def card_words() -> set[str]:
    """Words and decimals that cards, calls and the ways of being asked add to the vocabulary."""
    asked = " ".join([*MODE_SUFFIX.values(), *MODE_LINES.values()])
    words = "".join(c if c.isalnum() or c == "_" else " " for c in f"{CARD_WORDS} {asked}").split()
    decimals = [f"{tenth / 10:.1f}" for tenth in range(MAX_DECIMAL * 10 + 1)]
    return {*words, *TOOL_NAMES, *decimals, *'"{}<>/()=*[]'}


def with_cards(model: PreTrainedModel, fast: PreTrainedTokenizerFast) -> None:
    """Give a video student the words of cards and calls, one token for each step, and calls that come back unharmed.

    Words that it has keep their ids and what they mean. A decimal begins as the time of the same number, a step as the
    mean of its two words, any other new token as an average one. As two words each, steps of one list share words, and
    only who keeps pairs apart could copy it.
    """
    tokenizer, old = fast.backend_tokenizer, dict(fast.get_vocab())
    words = sorted((card_words() | book_words()) - old.keys())
    vocab = {**old, **{word: len(old) + place for place, word in enumerate(words)}}
    tokenizer.model = models.WordLevel(vocab, unk_token="<unk>")
    pattern = Regex(r"\d+\.\d+s?|\[\d+\]|\w+|[^\w\s]")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(pattern, "isolated")]
    )
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in JSON_MARKS])
    tokenizer.add_tokens(
        [AddedToken(label, normalized=False, special=False, single_word=True) for label in STEP_LABELS]
    )
    tokenizer.decoder = _decoder()
    before_VD = model.get_input_embeddings().state_dict()["weight"].clone()
    after_VD = before_VD.mean(0) + 0.02 * torch.randn(len(fast), before_VD.shape[1])
    after_VD[: len(before_VD)] = before_VD
    for token, place in fast.get_vocab().items():
        like = [f"{token}s"] if f"{token}s" in old else token.split()
        if place >= len(before_VD) and set(like) <= old.keys():
            after_VD[place] = before_VD[[old[one] for one in like]].mean(0)
    model.resize_token_embeddings(len(fast), mean_resizing=False)
    model.get_input_embeddings().load_state_dict({"weight": after_VD})


def _decoder() -> decoders.Decoder:
    """Puts no blank beside the pieces of a call that have none."""
    plain = [decoders.WordPiece(prefix="##", cleanup=True), *(decoders.Replace(f" {mark}", mark) for mark in ":-;")]
    blanks = [decoders.Replace(f" {mark}", mark) for mark in JSON_MARKS if mark[0] not in "<{"]
    blanks += [decoders.Replace(f"{mark} ", mark) for mark in JSON_MARKS if mark[-1] not in ">}"]
    opened, closed = RESULT_MARKS
    ends = [decoders.Replace(f"{opened} ", opened), decoders.Replace(f" {closed}", closed)]
    return decoders.Sequence([*plain, decoders.Fuse(), *blanks, *ends])


def card_lesson(plain: Callable[[Generator], tuple[str, str]], rng: Generator) -> tuple[str, str]:
    """A list to repeat, a card, a call, or a lesson of those who know no cards: (prompt, target)."""
    kind = rng.random()
    if kind < 0.25:
        return plain(rng) if rng.random() < 0.7 else echo_sentence(rng)
    return list_example(rng) if kind < 0.45 else card_example(rng) if kind < 0.85 else call_example(rng)


def echo_sentence(rng: Generator) -> tuple[str, str]:
    """A sentence of a rationale about a card, to repeat."""
    name = str(rng.choice(list(BOOK_PHRASES)))
    phrase = BOOK_PHRASES[name][int(rng.integers(len(BOOK_PHRASES[name])))]
    answer, other = (str(label) for label in rng.choice(STEP_LABELS, size=2, replace=False))
    text = f"{name.partition('.')[0].capitalize()}: {phrase.format(answer=answer, other=other, cite='[1]')}"
    text += f" Answer: {answer}" if rng.random() < 0.5 else ""
    return f"Repeat: {text}", text


def call_example(rng: Generator) -> tuple[str, str]:
    """Told a tool and what to give it, the call: (prompt, target)."""
    tool = "look_up_recipe" if rng.random() < 0.5 else str(rng.choice(TOOL_NAMES))
    steps = [str(label) for label in rng.choice(STEP_LABELS, size=int(rng.integers(2, 8)), replace=False)]
    start = round(float(rng.uniform(0, 12)), 1)
    window = {"start_s": start, "end_s": round(start + float(rng.uniform(1, 12)), 1)}
    if tool == "look_up_recipe" and rng.random() < 0.2:
        words = " ".join(str(word) for word in rng.choice([*ACTIONS, *INGREDIENTS], size=2, replace=False))
        return f"Call {tool}, words: {words}.", _call(tool, {"words": words})
    if tool in _LISTS:
        return f"Call {tool}, {_LISTS[tool]}: {', '.join(steps)}.", _call(tool, {_LISTS[tool]: steps})
    told = f"start_s: {window['start_s']}, end_s: {window['end_s']}"
    if tool not in _NAMED:
        return f"Call {tool}, {told}.", _call(tool, window)
    name = str(rng.choice(list(INGREDIENTS))) if tool == "detect_objects" else steps[0]
    return f"Call {tool}, {_NAMED[tool]}: {name}, {told}.", _call(tool, {_NAMED[tool]: name, **window})


def card_example(rng: Generator) -> tuple[str, str]:
    """A question about a card that is shown, or about two: (prompt, target)."""
    cards = _cards(rng)[: 1 + int(rng.integers(2))]
    name, steps = cards[0]
    skill = str(rng.choice(SKILLS, p=SHARES))
    if skill == "recite":
        which, listed = cards[int(rng.integers(len(cards)))]
        return f"{_shown(rng, cards, ())} Recite {which}.", ", ".join(listed) + "."
    if skill == "after":
        at = int(rng.integers(0, len(steps) - 1))
        return f"{_shown(rng, cards, ())} In {name} what comes after {steps[at]}?", steps[at + 1]
    done, answer, asked = _compared(rng, skill, name, steps)
    done = _mixed(rng, done, steps)
    return f"Done: {', '.join(done)}. {_shown(rng, cards, done)} {asked}", answer


def _compared(rng: Generator, skill: str, name: str, steps: list[str]) -> tuple[list[str], str, str]:
    """What is done, what a card says about it, and the question."""
    if skill == "left_out":
        last = int(rng.integers(2, len(steps)))
        gap = int(rng.integers(0, last))
        done = [step for at, step in enumerate(steps[: last + 1]) if at != gap]
        return done, steps[gap], f"Which step of {name} is left out?"
    if skill == "missing":
        count = int(rng.integers(max(1, len(steps) - 4), len(steps)))
        chosen = sorted(int(at) for at in rng.choice(len(steps), size=count, replace=False))
        done = [steps[at] for at in chosen]
        return done, ", ".join(step for step in steps if step not in done), f"What is missing in {name}?"
    if skill == "early":
        order = list(steps[: int(rng.integers(3, len(steps) + 1))])
        early = order.pop(int(rng.integers(1, len(order))))
        order.insert(int(rng.integers(0, steps.index(early))), early)
        return order, early, f"Which step of {name} is too early?"
    last = int(rng.integers(1, len(steps)))
    return steps[:last], steps[last], f"What does {name} say then?"


def _shown(rng: Generator, cards: list[tuple[str, list[str]]], done: Sequence[str]) -> str:
    """Cards as a recipe book gives them, with its place in the search behind what is done; or one in plain words."""
    if len(cards) == 1 and rng.random() < 0.3:
        return f"Card {cards[0][0]}: {', '.join(cards[0][1])}."
    marks = {step: MARK.format(place) for place, step in enumerate(done, start=1)}
    marked = [(name, ", ".join(f"{one}{marks.get(one, '')}" for one in steps)) for name, steps in cards]
    rows = [{"name": name, "text": text, "score": round(float(rng.random()), 1)} for name, text in marked]
    return f"{RESULT_MARKS[0]}{json.dumps({'cards': rows})}{RESULT_MARKS[1]}"


def list_example(rng: Generator) -> tuple[str, str]:
    """Steps to say again: (prompt, target). Reading a card needs that first of all."""
    steps = ", ".join(str(label) for label in rng.choice(STEP_LABELS, size=int(rng.integers(3, 9)), replace=False))
    return f"Repeat: {steps}.", f"{steps}."


def _cards(rng: Generator) -> list[tuple[str, list[str]]]:
    """Two cards of steps in no order that any recipe has; they share some."""
    first = [str(label) for label in rng.choice(STEP_LABELS, size=int(rng.integers(4, 7)), replace=False)]
    shared = [step for step in first if rng.random() < 0.5]
    others = [
        str(label)
        for label in rng.choice([label for label in STEP_LABELS if label not in first], size=4, replace=False)
    ]
    second = [*shared, *others][: max(4, len(first))]
    rng.shuffle(second)
    names = rng.choice(100, size=4, replace=False)
    return [(f"dish {names[0]} {names[1]}", first), (f"dish {names[2]} {names[3]}", second)]


def _mixed(rng: Generator, done: list[str], card: list[str]) -> list[str]:
    """What is done, in one list of four with a step among it that the card has not."""
    if rng.random() > 0.25:
        return done
    stranger = str(rng.choice([label for label in STEP_LABELS if label not in card]))
    at = int(rng.integers(0, len(done) + 1))
    return [*done[:at], stranger, *done[at:]]


def _call(tool: str, arguments: Mapping[str, object]) -> str:
    return f"{OPENED}{json.dumps({'name': tool, 'arguments': arguments})}{CLOSED}"
