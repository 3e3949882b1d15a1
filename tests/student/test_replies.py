"""Lessons become ids with the right ones supervised, and replies come back as they were, with and without tags."""

from importlib import resources
from typing import Any

import pytest
from text_kit import (
    TEMPLATE,
    THINKING_TEMPLATE,
    WRITTEN_TEMPLATE,
    bpe_tokenizer,
    lessons_of,
    sums,
    text_tokenizer,
)  # fmt: skip
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoProcessor, PreTrainedTokenizerFast

from aot.errors import CheckpointError, SourceError
from aot.records import Lesson
from aot.student.rows.examples import make_examples
from aot.student.rows.prompts import TEXT_MODES
from aot.student.rows.replies import answer_of, check_round_trip, encode_lesson, plain_reply, thought_ids
from aot.student.rows.tokens import Renderer

TEMPLATES = {"none": TEMPLATE, "opened": THINKING_TEMPLATE, "written": WRITTEN_TEMPLATE}
QUESTION = sums()[3]


def said(renderer: Renderer, lesson: Lesson) -> tuple[str, str, str]:
    """End of the prompt, label and rationale of a lesson's row."""
    row = encode_lesson(renderer, QUESTION, lesson)
    label, rationale = row.completion_ids[: row.num_label], row.completion_ids[row.num_label :]
    texts = ["".join(renderer.tokenizer.convert_ids_to_tokens(list(ids))) for ids in (row.prompt_ids, label, rationale)]
    return texts[0].rpartition("<assistant>")[2], texts[1], texts[2]


def test_given_tokens_are_not_supervised_and_the_end_token_is() -> None:
    renderer = Renderer(text_tokenizer())
    found = [said(renderer, lesson) for lesson in lessons_of(QUESTION)]
    steps = "3 + 4 = 7\n7 + 2 = 9"
    assert found == [
        ("", "9<end>", ""),
        ("", "", f"{steps}\nAnswer: 9<end>"),
        ("", "Answer: 9\n", f"{steps}<end>"),
        ("", "All steps.\n", f"{steps}\nAnswer: 9<end>"),
        ("At once.\n", "", "Answer: 9<end>"),
    ]


def test_a_template_that_opens_the_thinking_is_not_opened_twice_and_closed_for_direct_replies() -> None:
    renderer = Renderer(text_tokenizer(THINKING_TEMPLATE))
    direct, reason, explain, chosen, given = (said(renderer, lesson) for lesson in lessons_of(QUESTION))
    assert direct == ("<think>\n\n</think>\n\n", "9<end>", "")
    assert reason == ("<think>\n", "", "3 + 4 = 7\n7 + 2 = 9\n</think>\n\nAnswer: 9<end>")
    assert explain[0] == direct[0]
    assert chosen[2] == reason[2]
    assert given == ("<think>\nAt once.\n", "", "</think>\n\nAnswer: 9<end>")


def test_a_template_that_knows_tags_without_opening_them_gets_them_in_the_reply() -> None:
    renderer = Renderer(text_tokenizer(WRITTEN_TEMPLATE))
    assert said(renderer, lessons_of(QUESTION)[0]) == ("", "9<end>", "")
    assert said(renderer, lessons_of(QUESTION)[1])[2].startswith("<think>\n3 + 4")
    assert Renderer(text_tokenizer(WRITTEN_TEMPLATE), think_tags="none").think_style == "none"


@pytest.mark.parametrize("make", [text_tokenizer, bpe_tokenizer])
@pytest.mark.parametrize("style", TEMPLATES)
@pytest.mark.parametrize("tags", ["auto", "none"])
def test_replies_of_every_mode_come_back_as_they_were(make: Any, style: str, tags: Any) -> None:
    tokenizer = make()
    tokenizer.chat_template = TEMPLATES[style]
    renderer = Renderer(tokenizer, think_tags=tags)
    assert tags == "none" or renderer.think_style == style
    check_round_trip(renderer)


def test_a_tokenizer_that_loses_line_ends_is_refused() -> None:
    tokenizer = text_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with pytest.raises(CheckpointError, match=r"mode \w+: .* is not .* with this tokenizer"):
        check_round_trip(Renderer(tokenizer))


def test_template_hash_of_text_follows_every_mode_and_the_tags() -> None:
    hashes = {Renderer(text_tokenizer(template)).template_hash() for template in TEMPLATES.values()}
    assert len(hashes) == len(TEMPLATES)
    prompts = {Renderer(text_tokenizer()).prompt(QUESTION, (), mode) for mode in TEXT_MODES}
    assert len(prompts) == len(TEXT_MODES)


def test_answer_is_read_after_the_rationale_only() -> None:
    text = "<think>\nAnswer: 3? No.\n</think>\n\nAnswer: 9"
    assert answer_of(text, style="written", mode="reason") == "9"
    assert answer_of("<think>\nAnswer: 3", style="written", mode="reason") is None
    assert answer_of("Answer: 3", style="opened", mode="reason") is None
    assert answer_of("Answer: 3", style="opened", mode="direct") == "3"
    assert plain_reply(text) == "Answer: 3? No.\nAnswer: 9"


def test_lessons_that_cannot_be_taught_as_they_stand_are_dropped_and_counted() -> None:
    renderer = Renderer(text_tokenizer())
    asked = {QUESTION.id: QUESTION}
    labels = ["9", "9 <end>", "nine", "", "9" * 60]
    lessons = [Lesson(question_id=QUESTION.id, mode="direct", label=label) for label in labels]
    made = make_examples(lessons, questions=asked, renderer=renderer, max_tokens=60)
    assert [row.num_label for row in made.rows()] == [2]
    assert made.dropped == {"nothing_to_learn": 1, "reserved_token": 1, "row_too_long": 1, "unknown_token": 1}
    with pytest.raises(SourceError, match="no question of the train split"):
        make_examples(lessons, questions={}, renderer=renderer, max_tokens=60)


def test_a_question_that_spells_a_special_token_is_refused() -> None:
    question = QUESTION.model_copy(update={"text": "What is <end>?"})
    with pytest.raises(SourceError, match="must not contain '<end>'"):
        Renderer(text_tokenizer()).encode(question, (), "direct", frame_size_hw=None)


def test_an_adaptive_student_of_few_words_begins_its_replies_in_the_words_of_prompts() -> None:
    base = resources.files("aot.student") / "tiny" / "video"
    renderer = Renderer(AutoProcessor.from_pretrained(str(base)))
    unknown = renderer.tokenizer.unk_token_id
    lines = thought_ids(renderer)
    assert len(set(lines)) == 3 and not any(unknown in line for line in lines)
    for lesson, line in zip(lessons_of(QUESTION)[3:], (lines[2], lines[0]), strict=True):
        row = encode_lesson(renderer, QUESTION, lesson)
        whole = row.prompt_ids + row.completion_ids
        prompt = renderer.encode(QUESTION, (), "adaptive", frame_size_hw=None).prompt_ids
        assert whole[len(prompt) : len(prompt) + len(line)] == line
        assert row.num_label == (len(line) if lesson.label else 0)


def test_an_answer_before_its_explanation_ends_where_generation_stops_though_the_tokenizer_drops_line_ends() -> None:
    base = resources.files("aot.student") / "tiny" / "video"
    renderer = Renderer(AutoProcessor.from_pretrained(str(base)))
    assert not renderer.keeps_lines and Renderer(text_tokenizer()).keeps_lines
    steps = "Gather: wash tomato [1].\nCombine: omelette fits [2]."
    row = encode_lesson(
        renderer, QUESTION, Lesson(question_id="q", mode="explain", label="Answer: pour egg\n", rationale=steps)
    )
    ends = [i for i, token in enumerate(row.completion_ids, start=1) if token in renderer.end_ids]
    assert ends == [row.num_label, len(row.completion_ids)]
    reply = renderer.decode(row.completion_ids[: row.num_label - 1])
    assert (reply, answer_of(reply, style="none", mode="explain")) == ("Answer: pour egg", "pour egg")
    assert renderer.decode(row.completion_ids[row.num_label : -1]) == steps.replace("\n", " ")


def test_a_tokenizer_that_cannot_tell_the_ways_apart_is_refused_by_name() -> None:
    words = {"<unk>": 0, "<user>": 1, "<assistant>": 2, "<end>": 3, **{w: i + 4 for i, w in enumerate(["What", "is"])}}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    few = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="<end>", pad_token="<end>")
    with pytest.raises(CheckpointError, match="no arm of order adaptive"):
        thought_ids(Renderer(few))
