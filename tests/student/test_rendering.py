"""The renderer shows frames with their times, and expands images exactly as each processor does."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from student_kit import idefics3_processor, llava_processor, make_question
from tokenizers import AddedToken, processors

from aot.errors import SourceError
from aot.student.rows.prompts import MODES
from aot.student.rows.replies import check_prompts
from aot.student.rows.tokens import Renderer

FAMILIES: dict[str, Callable[[], Any]] = {"idefics3": idefics3_processor, "llava": llava_processor}
TIMES_S = (0.5, 1.25, 2.0)


@pytest.fixture(params=FAMILIES)
def renderer(request: pytest.FixtureRequest) -> Renderer:
    return Renderer(FAMILIES[request.param]())


def test_times_and_frames_alternate_even_if_the_template_puts_images_first(renderer: Renderer) -> None:
    prompt = renderer.prompt(make_question(0, uri="c.mp4"), TIMES_S, "direct")
    assert (
        "t=0.5s<image>t=1.2s<image>t=2.0s<image>What is the next step? Choices: fry onion; chop egg; wash rice."
        in prompt
    )


def test_options_that_only_letters_tell_apart_are_shown_with_letters(renderer: Renderer) -> None:
    question = make_question(0, uri="c.mp4").model_copy(update={"answer_index": 0})
    assert "Choices: A. fry onion; B. chop egg; C. wash rice." in renderer.prompt(question, TIMES_S, "direct")


def test_modes_differ_in_their_last_words_only(renderer: Renderer) -> None:
    question = make_question(0, uri="c.mp4")
    direct, reason = (renderer.prompt(question, TIMES_S, mode) for mode in ("direct", "reason"))
    assert direct.replace("Answer directly.", "Reason, then answer.") == reason


def test_prompt_ids_are_those_of_the_processor(renderer: Renderer) -> None:
    question = make_question(0, uri="c.mp4")
    frames = [np.full((24, 32, 3), 9 * i, dtype=np.uint8) for i in range(3)]
    prompt = renderer.prompt(question, TIMES_S, "reason")
    wanted = renderer.processor(text=[prompt], images=[frames])["input_ids"][0]
    row = renderer.encode(question, TIMES_S, "reason", frame_size_hw=(24, 32))
    assert list(row.prompt_ids) == list(wanted)


def test_completion_ends_with_the_token_that_stops_generation(renderer: Renderer) -> None:
    ids = renderer.completion_ids("fry onion")
    assert ids[-1] in renderer.end_ids
    assert renderer.decode(ids) == "fry onion"


def test_prompt_without_frames_holds_the_question_only(renderer: Renderer) -> None:
    row = renderer.encode(make_question(0, uri="c.mp4"), TIMES_S, "direct", frame_size_hw=None, with_frames=False)
    assert renderer.image_token_id not in row.prompt_ids


def test_question_with_an_image_placeholder_is_refused(renderer: Renderer) -> None:
    question = make_question(0, uri="c.mp4").model_copy(update={"text": "What is <image> ?"})
    with pytest.raises(SourceError, match="must not contain '<image>'"):
        renderer.encode(question, TIMES_S, "direct", frame_size_hw=(24, 32))


def test_template_hash_follows_the_chat_template() -> None:
    processor = idefics3_processor()
    before = Renderer(processor).template_hash()
    assert Renderer(idefics3_processor()).template_hash() == before
    processor.chat_template = processor.chat_template.replace("Assistant:", "Answer:")
    assert Renderer(processor).template_hash() != before


def test_processor_without_template_gets_a_plain_prompt() -> None:
    processor = idefics3_processor()
    processor.chat_template = None
    prompt = Renderer(processor).prompt(make_question(1, uri="c.mp4", kind="next_open"), (0.5,), "direct")
    assert prompt == "User: t=0.5s <image> What is the next step? Answer directly.\nAssistant:"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_prompt_with_frames_does_not_end_where_the_tokenizer_ends_every_text(name: str) -> None:
    processor = FAMILIES[name]()
    wanted = Renderer(FAMILIES[name]())
    processor.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    renderer, question = Renderer(processor), make_question(0, uri="c.mp4")
    for mode in MODES:
        ids = [one.encode(question, TIMES_S, mode, frame_size_hw=(24, 32)).prompt_ids for one in (renderer, wanted)]
        assert ids[0] == ids[1]
    check_prompts(renderer)


def test_an_end_of_turn_without_a_name_ends_replies_about_clips() -> None:
    processor = idefics3_processor()
    processor.tokenizer.eos_token = "</s>"
    processor.tokenizer.add_tokens([AddedToken("<turn_end>", special=True)])
    processor.chat_template = processor.chat_template.replace("<end_of_utterance>", "<turn_end>")
    renderer = Renderer(processor)
    turn_end = processor.tokenizer.convert_tokens_to_ids("<turn_end>")
    assert renderer.completion_ids("fry onion")[-1] == turn_end and renderer.end_ids == (turn_end, 2)


def test_a_template_tells_a_clip_the_same_day_always() -> None:
    processor = idefics3_processor()
    processor.chat_template = "{{ strftime_now('%Y') }} " + processor.chat_template
    renderer = Renderer(processor)
    assert renderer.prompt(make_question(0, uri="c.mp4"), TIMES_S, "direct").startswith("2024 User")
    check_prompts(renderer)


def test_the_direct_prompt_about_a_clip_turns_thinking_off_and_no_prompt_turns_it_on() -> None:
    processor = idefics3_processor()
    processor.chat_template += "{% if enable_thinking is defined %} thinks: {{ enable_thinking }}{% endif %}"
    renderer, question = Renderer(processor), make_question(0, uri="c.mp4")
    shown = {mode: renderer.prompt(question, TIMES_S, mode).partition("Assistant:")[2] for mode in MODES}
    assert shown == {"direct": " thinks: False", "reason": ""}
