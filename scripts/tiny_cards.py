"""What the video student of build_tiny_students.py is taught about recipe cards and tool calls, as text alone.

Single skills: to read a card that it is shown behind steps that it is told (which comes next, was left out, came too
early, is missing, or is the first that is not done), and to write a call for steps that it is told. Questions about
cards are worded as those about clips are. It is never asked about a card while it sees frames, and never to call
anything about a clip: that is what distillation teaches.
"""

import json
from collections.abc import Callable, Mapping, Sequence

import torch
from numpy.random import Generator
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from aot.rationales.wording import BOOK_PHRASES, book_words, template_words
from aot.student.rows.prompts import CLOSED, MODE_LINES, MODE_SUFFIX, OPENED
from aot.teacher.tools.look_up_recipe import MARK
from video_data.kitchen.open_book import KINDS, draw_card, draw_tempting_card
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
MAX_PLACE = 24
"""The last place in a search that has a token of its own."""
CARD_ROWS, CARD_RATE = 48, 1e-3
"""Texts of a step and learning rate while cards are taught."""
MIX_ROWS, MIX_RATE = (16, 24), 7e-4
"""Clips and texts of a step after that, while all skills are kept."""
FIRST_OPEN = "first_open"
SHARES = {"next": 0.19, "left_out": 0.19, "early": 0.22, "missing": 0.18, FIRST_OPEN: 0.22}
"""What is asked of cards, and how often: more often what is harder."""
CARD_WORDS = """According to Card card dish then Call event object say steps words history events start_s end_s fps
min_score seen Seen write Write Use tools Done"""


def card_words() -> set[str]:
    """Words and decimals that cards, calls and the ways of being asked add to the vocabulary."""
    asked = " ".join([*MODE_SUFFIX.values(), *MODE_LINES.values(), *KINDS.values()])
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
    words = sorted((card_words() | book_words() | template_words()) - old.keys())
    vocab = {**old, **{word: len(old) + place for place, word in enumerate(words)}}
    tokenizer.model = models.WordLevel(vocab, unk_token="<unk>")
    pattern = Regex(r"\d+\.\d+s?|\[\d+\]|\w+|[^\w\s]")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(pattern, "isolated")]
    )
    tokenizer.add_tokens([AddedToken(mark, normalized=False, special=False) for mark in JSON_MARKS])
    places = [MARK.format(place).strip() for place in range(1, MAX_PLACE + 1)]
    tokenizer.add_tokens([AddedToken(place, normalized=False, special=False) for place in reversed(places)])
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
    """A card, a call, a list or a sentence to repeat, or a lesson of those who know no cards: (prompt, target)."""
    kind = rng.random()
    if kind < 0.17:
        return plain(rng) if kind < 0.09 else echo_sentence(rng) if kind < 0.13 else list_example(rng)
    return card_example(rng) if kind < 0.75 else call_example(rng)


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
    """A question about the first of the cards that a book gave for steps that are done: (prompt, target)."""
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    done = [str(label) for label in rng.choice(STEP_LABELS, size=int(rng.integers(3, 9)), replace=False)]
    others = [str(label) for label in rng.permutation([label for label in STEP_LABELS if label not in done])]
    if kind == FIRST_OPEN:
        card, answer, asked = _first_open_step(rng, done, others)
    else:
        (card, answer), asked = draw_card(rng, kind, done, others), KINDS[kind]
    cards = [card, *([draw_tempting_card(rng, card, done, others)] if rng.random() < 0.8 else [])]
    told = f"Done: {', '.join(done)}. " if rng.random() < 0.5 else ""
    return f"{told}{_shown(rng, cards, done)} {asked}", answer


def _first_open_step(rng: Generator, done: Sequence[str], others: Sequence[str]) -> tuple[tuple[str, ...], str, str]:
    """A card in another order than things were done in, its first step that is not done, and the question.

    With options, the first of these steps that is an option.
    """
    count = int(rng.integers(1, min(len(done), 5) + 1))
    open_steps = list(others[: max(1, 6 - count)])
    card = tuple(str(step) for step in rng.permutation([*rng.choice(done, size=count, replace=False), *open_steps]))
    open_steps.sort(key=card.index)
    if rng.random() < 0.5:
        return card, open_steps[0], "Which step comes next?"
    answer = open_steps[0 if rng.random() < 0.6 else int(rng.integers(len(open_steps)))]
    strangers = [*done, *others[len(open_steps) :]]
    options = [answer, *(str(step) for step in rng.choice(strangers, size=3, replace=False))]
    return card, answer, f"What is the next step? Choices: {'; '.join(str(one) for one in rng.permutation(options))}."


def _shown(rng: Generator, cards: Sequence[Sequence[str]], done: Sequence[str]) -> str:
    """Cards as a recipe book gives them to who looked for what is done."""
    marks = {step: MARK.format(place) for place, step in enumerate(done, start=1)}
    rows = []
    for steps in cards:
        name = f"dish {rng.integers(100)} {rng.integers(100)}"
        text = ", ".join(f"{one}{marks.get(one, '')}" for one in steps)
        rows.append({"name": name, "text": text, "score": round(float(rng.random()), 1)})
    return f"{RESULT_MARKS[0]}{json.dumps({'cards': rows})}{RESULT_MARKS[1]}"


def list_example(rng: Generator) -> tuple[str, str]:
    """Steps to say again: (prompt, target). Reading a card needs that first of all."""
    steps = ", ".join(str(label) for label in rng.choice(STEP_LABELS, size=int(rng.integers(3, 9)), replace=False))
    return f"Repeat: {steps}.", f"{steps}."


def _call(tool: str, arguments: Mapping[str, object]) -> str:
    return f"{OPENED}{json.dumps({'name': tool, 'arguments': arguments})}{CLOSED}"
