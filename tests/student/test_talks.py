"""Talks with tools: what stands between two replies, and which tokens of a talk are learned with which weight."""

from typing import Any

import pytest
import torch
from text_kit import TEMPLATE, THINKING_TEMPLATE, bpe_tokenizer, text_tokenizer

from aot.errors import CheckpointError
from aot.student.rows.collate import Collator
from aot.student.rows.examples import Example
from aot.student.rows.packing import IGNORED, EncodedRow
from aot.student.rows.tokens import Renderer
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
