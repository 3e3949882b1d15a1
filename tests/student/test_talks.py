"""Talks with tools: what stands between two replies, and which tokens of a talk are learned with which weight."""

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from text_kit import (
    SIZES,
    TEMPLATE,
    THINKING_TEMPLATE,
    bpe_tokenizer,
    lessons_of,
    sums,
    text_config,
    text_run,
    text_tokenizer,
)  # fmt: skip
from transformers import LlamaConfig, LlamaForCausalLM

from aot.config import RunConfig, SpanWeights
from aot.errors import CheckpointError, GuardStop
from aot.files.jsonl import read_json
from aot.files.run_folder import RunFolder, publish_rows
from aot.records import Lesson, LessonTurn, Refusal
from aot.run_records import OfferedTool
from aot.student.model.contract import check_contract, read_contract
from aot.student.model.loading import load_student
from aot.student.rows.collate import Collator
from aot.student.rows.examples import Example, make_examples
from aot.student.rows.packing import IGNORED, EncodedRow
from aot.student.rows.prompts import call_text, read_calls
from aot.student.rows.replies import encode_lesson
from aot.student.rows.talks import check_talk
from aot.student.rows.tokens import Renderer
from aot.student.train.arm import train_arm
from aot.student.train.loss import batch_loss

TOOL_TEMPLATE = (
    "{% if tools %}<user>{{ tools|tojson }}{# calls as <tool_call> #}{% endif %}{% for m in messages %}"
    "{% if m.role == 'tool' %}<user>={{ m.content }}{% else %}<{{ m.role }}>{{ m.content }}"
    "{% if m.role == 'assistant' %}<end>\n{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SHOWN = "<tool_response>3</tool_response>\n<tool_response>4</tool_response>"


def between(template: str | None, texts: list[str]) -> str:
    """What a template writes between a reply with calls and the next one."""
    tokenizer = bpe_tokenizer(template)
    return str(tokenizer.decode(Renderer(tokenizer).result_ids(texts)))


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (TEMPLATE, f"<user>{SHOWN}<assistant>"),
        (TOOL_TEMPLATE, "\n<user>=3<user>=4<assistant>"),
        (THINKING_TEMPLATE, f"<user>{SHOWN}<assistant><think>\n\n</think>\n\n"),
        (None, f"\nUser: {SHOWN}\nAssistant:"),
    ],
    ids=["users", "tools", "thinking", "plain"],
)
def test_results_stand_as_a_template_has_them_else_in_a_message_of_the_user(template: str | None, wanted: str) -> None:
    assert between(template, ["3", "4"]) == wanted


def test_what_a_tool_gave_cannot_end_its_message() -> None:
    written = between(TEMPLATE, ["3<end><assistant>4</tool_response>"])
    assert (written.count("<end>"), written.count("<assistant>"), written.count("</tool_response>")) == (0, 1, 1)


def test_a_template_without_a_second_turn_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no place for what a tool gave"):
        between(TEMPLATE.replace("in messages", "in messages[:1]"), ["3"])


SCHEMA = {"type": "function", "function": {"name": "calculator", "parameters": {"type": "object"}}}
CALL = call_text("calculator", {"expression": "3 + 4"})
TALK = Lesson(
    question_id="s3", mode="tools", rationale="7\n7 + 2 = 9\nAnswer: 9",
    turns=(LessonTurn(role="assistant", text=f"3 + 4 = {CALL}"), LessonTurn(role="tool", text='{"value": "7"}')),
)  # fmt: skip
QUESTION = sums()[3]


def spans_of(renderer: Renderer, row: EncodedRow) -> list[tuple[str, str, float]]:
    """Neighbouring tokens of one span: its name, their text and their weight."""
    assert len(row.spans) == len(row.weights) == len(row.completion_ids)
    runs = groupby(zip(row.completion_ids, row.spans, row.weights, strict=True), key=lambda one: one[1:])
    return [(span, renderer.tokenizer.decode([i for i, *_ in run]), weight) for (span, weight), run in runs]


def test_calls_and_words_of_a_talk_are_learned_with_their_weights_and_results_never() -> None:
    renderer = Renderer(bpe_tokenizer(TEMPLATE))
    row = encode_lesson(renderer, QUESTION, TALK, span_weights=SpanWeights(answer=2, rationale=0.5, call=3))
    assert spans_of(renderer, row) == [
        ("rationale", "3 + 4 = ", 0.5),
        ("call", f"{CALL}<end>", 3.0),
        ("result", '<user><tool_response>{"value": "7"}</tool_response><assistant>', 0.0),
        ("rationale", "7\n7 + 2 = 9\n", 0.5),
        ("answer", "Answer: 9<end>", 2.0),
    ]
    assert renderer.tokenizer.decode(row.learned_ids) == f"3 + 4 = {CALL}<end>7\n7 + 2 = 9\nAnswer: 9<end>"


def test_an_answer_without_calls_has_the_spans_of_a_talk_too() -> None:
    renderer = Renderer(bpe_tokenizer(TEMPLATE))
    row = encode_lesson(renderer, QUESTION, TALK.model_copy(update={"turns": ()}))
    assert [(span, text) for span, text, _ in spans_of(renderer, row)] == [
        ("rationale", "7\n7 + 2 = 9\n"), ("answer", "Answer: 9<end>"),
    ]  # fmt: skip


@pytest.mark.parametrize("template", [TEMPLATE, TOOL_TEMPLATE, THINKING_TEMPLATE, None])
def test_what_is_trained_are_the_ids_that_a_student_reads_and_writes(template: str | None) -> None:
    renderer = Renderer(bpe_tokenizer(template))
    renderer.offered = (SCHEMA,)
    row = encode_lesson(renderer, QUESTION, TALK)
    prompt = renderer.encode(QUESTION, (), "tools", frame_size_hw=None).prompt_ids
    first, result, last = TALK.turns[0].text, TALK.turns[1].text, TALK.rationale
    talk = [renderer.completion_ids(first), renderer.result_ids([result]), renderer.completion_ids(last)]
    assert (row.prompt_ids, row.completion_ids) == (prompt, tuple(i for ids in talk for i in ids))
    assert read_calls(renderer.decode(talk[0][:-1]))[1][0].arguments == '{"expression": "3 + 4"}'
    check_talk(renderer, QUESTION, TALK)


def test_a_template_with_a_tool_form_tells_the_tools_and_another_one_does_not() -> None:
    shown = {}
    for template in (TEMPLATE, TOOL_TEMPLATE):
        renderer = Renderer(bpe_tokenizer(template))
        renderer.offered = (SCHEMA,)
        shown[template] = [renderer.prompt(QUESTION, (), mode) for mode in ("tools", "direct")]
    assert ["calculator" in text for texts in shown.values() for text in texts] == [False, False, True, False]
    assert shown[TEMPLATE][0].endswith("Use the tools, then answer.<assistant>")


def test_a_tokenizer_that_cannot_write_a_call_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"the call .* comes back as .* keeps JSON"):
        check_talk(Renderer(text_tokenizer()), QUESTION, TALK)


def test_answers_weigh_what_the_config_says_in_lessons_without_tools_too() -> None:
    renderer = Renderer(bpe_tokenizer(TEMPLATE))
    direct, reason, explain, chosen, given = lessons_of(QUESTION)
    made = [encode_lesson(renderer, QUESTION, one, span_weights=SpanWeights(answer=2)) for one in lessons_of(QUESTION)]
    assert [[(span, weight) for span, _, weight in spans_of(renderer, row)] for row in made] == [
        [("answer", 2.0)],
        [("rationale", 1.0), ("answer", 2.0)],
        [("answer", 2.0), ("rationale", 1.0)],
        [("rationale", 1.0), ("answer", 2.0)],
        [("answer", 2.0)],
    ]
    for lesson, row in zip((direct, reason, explain, chosen, given), made, strict=True):
        plain = encode_lesson(renderer, QUESTION, lesson)
        assert (plain.weights, plain.spans) == ((), ())
        assert replace(row, weights=(), spans=()) == plain


def test_a_lesson_is_dropped_for_unknown_words_that_it_would_learn_and_not_for_those_of_a_tool() -> None:
    renderer = Renderer(text_tokenizer())
    words = TALK.model_copy(update={"turns": (LessonTurn(role="tool", text="no such words"),)})
    made = make_examples([words, TALK], questions={"s3": QUESTION}, renderer=renderer, max_tokens=500)
    assert (len(made.examples), made.dropped) == (1, {"unknown_token": 1})
    assert made.examples[0].explains


class Fixed(torch.nn.Module):
    """Gives each token logits that depend on its id alone, wherever it stands."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.randn(32, 32, generator=torch.Generator().manual_seed(0))

    def forward(self, input_ids: torch.Tensor, logits_to_keep: Any, **others: Any) -> Any:
        logits = self.table[input_ids]
        picked = logits[logits_to_keep] if isinstance(logits_to_keep, torch.Tensor) else logits[:, -logits_to_keep:]
        return type("Outputs", (), {"logits": picked})()


def loss_of(rows: list[EncodedRow], *, packed: bool) -> tuple[float, list[int], dict[str, Any]]:
    """Loss of a batch, its counts of label and rationale tokens, and the batch."""
    collate = Collator(Renderer(text_tokenizer()), 0, packed=packed, pack_tokens=64 if packed else 0)
    batch = collate([Example("q", (row,)) for row in rows])
    inputs = {key: batch[key] for key in batch if key not in ("question_ids", "num_supervised", "clip_plan")}
    loss, _ = batch_loss(Fixed(), inputs, num_supervised=batch["num_supervised"], rationale_weight=1.0)
    return loss.total.item(), batch["num_supervised"].tolist(), batch


PLAIN = EncodedRow((5, 6, 7), (9, 8, 11, 12, 4))
OTHER = EncodedRow((5, 6), (13, 4), 2)


@pytest.mark.parametrize("packed", [True, False])
def test_a_token_of_weight_0_is_read_but_not_learned_and_others_count_as_they_weigh(packed: bool) -> None:
    weighted = EncodedRow(PLAIN.prompt_ids, PLAIN.completion_ids, weights=(2.0, 0.0, 0.0, 1.0, 0.5))
    total, counts, batch = loss_of([weighted, OTHER], packed=packed)
    assert counts == [2, 3]
    assert (batch["labels"] != IGNORED).sum() == 5
    ids = [*PLAIN.prompt_ids, *PLAIN.completion_ids]
    each = torch.nn.functional.cross_entropy(Fixed().table[ids[2:-1]], torch.tensor(ids[3:]), reduction="none")
    label = torch.nn.functional.cross_entropy(Fixed().table[[6, 13]], torch.tensor([13, 4]))
    wanted = label + (2.0 * each[0] + each[3] + 0.5 * each[4]) / 3
    assert total == pytest.approx(wanted.item(), rel=1e-6)


@pytest.mark.parametrize("packed", [True, False])
def test_rows_without_weights_have_the_very_loss_that_weights_of_1_give(packed: bool) -> None:
    alike = EncodedRow(PLAIN.prompt_ids, PLAIN.completion_ids, weights=(1.0,) * 5)
    plain, weighted = loss_of([PLAIN, OTHER], packed=packed), loss_of([alike, OTHER], packed=packed)
    assert plain[:2] == weighted[:2]
    assert "weights" not in plain[2] and "weights" in weighted[2]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose tokenizer writes everything."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    tokenizer = bpe_tokenizer(TOOL_TEMPLATE)
    LlamaForCausalLM(
        LlamaConfig(**SIZES, vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=tokenizer.eos_token_id)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run_of_talks(root: Path, base: Path, **train: Any) -> tuple[RunFolder, RunConfig]:
    config = text_config(
        base,
        arm={"order": "tool_use", "tools": ["calculator"]},
        max_steps=2,
        save_steps=2,
        questions_per_step=2,
        **train,
    )
    talks = [TALK.model_copy(update={"question_id": question.id}) for question in sums()]
    run = text_run(root, config, lessons=talks)
    publish_rows(run.arm("all") / "tools.jsonl", [OfferedTool.model_validate(SCHEMA)])
    publish_rows(run.arm("all") / "no_lessons.jsonl", [Refusal(item="s9", boundary="lesson", reason="no_call")])
    return run, config


def test_an_arm_that_calls_tools_notes_what_it_learned_and_later_students_are_told_the_same_tools(
    tmp_path: Path, base: Path
) -> None:
    run, config = run_of_talks(tmp_path, base, weights={"call": 2.0})
    train_arm(run, config, config.train.arms[0])
    facts = read_json(run.arm("all") / "training.json")
    row = encode_lesson(Renderer(bpe_tokenizer(TOOL_TEMPLATE)), QUESTION, TALK)
    assert facts["span_tokens"] == {
        span: {"tokens": 12 * row.spans.count(span), "weight": weight}
        for span, weight in (("answer", 1.0), ("call", 2.0), ("rationale", 1.0), ("result", 0.0))
    }
    assert facts["no_lesson"] == {"no_call": 1} and facts["packing"] == "packed"
    student = load_student(str(base), adapter=run.arm("all"), config=config.student)
    assert student.renderer.offered == (SCHEMA,)
    assert "calculator" in student.renderer.prompt(QUESTION, (), "tools")
    contract = read_contract(run.arm("all"))
    assert contract.modes[-1] == "tools"
    student.renderer.offered = ()
    with pytest.raises(CheckpointError, match="learned talks with tools of template"):
        check_contract(contract, base_digest=contract.base_digest, renderer=student.renderer, adapter=tmp_path)


def test_an_arm_of_whose_calls_nothing_is_learned_is_not_trained(tmp_path: Path, base: Path) -> None:
    run, config = run_of_talks(tmp_path, base, weights={"call": 0.0})
    with pytest.raises(GuardStop, match=r"arm all is to call tools, but none of .* train.weights.call is 0"):
        train_arm(run, config, config.train.arms[0])
    assert not (run.arm("all") / "training.json").exists()
