"""One contract for whatever form a chat model answers in."""

import contextlib
import time

import pytest

from aot.records import Question
from text_cot.teacher.chat_reply import UnreadableReply, read_reply, schema_of

NUMBER = Question(
    id="q", dataset="d", split="train", kind="k", text="2 + 3?", answer="5", answer_type="integer", group="q"
)
CHOICE = NUMBER.model_copy(
    update={"answer_type": "choice", "choices": ("fry onion", "chop onion"), "answer": "fry onion"}
)
WANTED = (("2 + 3 = 5.",), "5")


@pytest.mark.parametrize(
    "text",
    [
        "2 + 3 = 5.\nAnswer: 5",
        "Answer: 5\n2 + 3 = 5.",
        "<think>Hm, 4? No.</think>\n2 + 3 = 5.\n\n**Answer: 5**",
        "1. 2 + 3 = 5.\nThe final answer is 5.",
        "**Step 1:** 2 + 3 = 5.\n\\boxed{5}",
        "2 + 3 = 5.\n#### 5",
        '{"steps": ["2 + 3 = 5."], "answer": "5"}',
        'Here it is:\n```json\n{"answer": 5, "steps": "2 + 3 = 5."}\n```',
        "2 + 3 = 5. The answer is 5.",
        "2 + 3 = 5.\n<answer>\nAnswer: 5\n</answer>",
        "2 + 3 = 5.\r\nAnswer: $5$.\r\n",
    ],
)
def test_every_form_of_reply_gives_the_same_chain(text: str) -> None:
    chain = read_reply(text, question=NUMBER)
    assert (chain.steps, chain.answer) == WANTED


def test_thinking_gives_the_steps_only_where_the_reply_has_none() -> None:
    assert read_reply("Answer: 5", reasoning="2 + 3 = 5.", question=NUMBER).steps == WANTED[0]
    assert read_reply("<think>2 + 3 = 5.</think>5", question=NUMBER).steps == WANTED[0]
    assert read_reply("2 + 3 = 5.\nAnswer: 5", reasoning="Let me see.", question=NUMBER).steps == WANTED[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Answer: 5", "no_steps"),
        ('{"steps": [], "answer": "5"}', "no_steps"),
        ("2 + 3 = 5.\nThat was easy.", "no_answer"),
        ("So.\nAnswer: 5\nAnswer: 6", "no_answer"),
        ("2 + 3\nAnswer: " + "5" * 300, "no_answer"),
        ("<think>2 + 3 = 5. Answer: 5", "open_thought"),
        ("{" * 50_000, "no_answer"),
        ('{"steps": ["2 + 3"], "answer": null}', "no_answer"),
        ("a = a\n" * 1000 + "Answer: 5", "too_many_steps"),
    ],
)
def test_an_unreadable_reply_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(UnreadableReply) as caught:
        read_reply(text, question=NUMBER)
    assert caught.value.reason == reason


def test_latex_in_json_survives_a_model_that_forgot_to_escape_it() -> None:
    chain = read_reply(r'{"steps": ["\frac{4}{2} \times 1 = 2 \(so\)"], "answer": "2"}', question=NUMBER)
    assert chain.steps == (r"\frac{4}{2} \times 1 = 2 \(so\)",)


def test_a_letter_becomes_the_option_it_stands_for() -> None:
    assert read_reply("Pans are hot.\nAnswer: (A)", question=CHOICE).answer == "fry onion"


def test_half_characters_and_control_characters_can_be_stored() -> None:
    chain = read_reply("2 + 3 \ud83d= 5.\x00\nAnswer: 5", question=NUMBER)
    "".join((*chain.steps, chain.answer)).encode("utf-8")
    assert "\x00" not in chain.steps[0]


def test_the_schema_asks_for_the_fields_in_the_order_of_thought() -> None:
    assert [next(iter(schema_of(order)["properties"])) for order in ("pre", "post")] == ["steps", "answer"]


@pytest.mark.parametrize(
    "piece", ["\\boxed{", "```json {", "<think>", "</think>", '{"steps": [', "Answer: ", "1. ", "\\"]
)
def test_a_hostile_reply_is_read_in_linear_time(piece: str) -> None:
    start_s = time.process_time()
    with contextlib.suppress(UnreadableReply):
        read_reply(piece * (400_000 // len(piece)), question=NUMBER)
    assert time.process_time() - start_s < 10  # 0.1 s alone; where it is quadratic, minutes
