"""Dropout goes by seed, step and row: not by what else is in the batch."""

import pytest
import torch
from torch import nn

from aot.student.rows.packing import EncodedRow, packed_rows, segment_row
from aot.student.train.dropout import KeyedDropout, key_dropout, token_keys

ROWS = [EncodedRow((5, 6, 7), (9, 4)), EncodedRow((5, 9, 10, 11), (11,)), EncodedRow((5, 6, 7), (9, 8, 4))]


def packed(rows: list[EncodedRow], width: int) -> dict[str, torch.Tensor]:
    """One row in which all stand one after the other, filled up as a collator does it."""
    (row,) = packed_rows(rows, pack_tokens=1000)
    fill = (0,) * (width - len(row.ids))
    batch = {"input_ids": torch.tensor([row.ids + fill]), "position_ids": torch.tensor([row.positions + fill])}
    return {**batch, "attention_mask": torch.ones(1, 1, width, width, dtype=torch.bool)}


def padded(rows: list[EncodedRow], width: int) -> dict[str, torch.Tensor]:
    ids = [segment_row(row).ids for row in rows]
    fill = [one + (0,) * (width - len(one)) for one in ids]
    mask = [(1,) * len(one) + (0,) * (width - len(one)) for one in ids]
    return {"input_ids": torch.tensor(fill), "attention_mask": torch.tensor(mask)}


def of_row(batch: dict[str, torch.Tensor], row: EncodedRow, *, step: int = 3) -> list[int]:
    """The keys of the tokens of a row, wherever it stands."""
    ids = list(row.prompt_ids + row.completion_ids)
    keys = token_keys(batch, seed=7, step=step)
    for line, key_line in zip(batch["input_ids"].tolist(), keys.tolist(), strict=True):
        for start in range(len(line)):
            if line[start : start + len(ids)] == ids:
                return key_line[start : start + len(ids)]
    raise AssertionError(f"{ids} stands nowhere")


def test_keys_of_a_row_are_the_same_alone_packed_or_padded() -> None:
    for row in ROWS:
        alone = of_row(packed([row], len(row.prompt_ids) + len(row.completion_ids)), row)
        assert len(set(alone)) == len(alone)
        for batch in (packed(ROWS, 16), packed(ROWS[::-1], 24), padded([row], 9), padded(ROWS, 12)):
            assert of_row(batch, row) == alone
    assert of_row(padded(ROWS, 12), ROWS[0], step=4) != of_row(padded(ROWS, 12), ROWS[0], step=3)
    assert not set(of_row(padded(ROWS, 12), ROWS[0])) & set(of_row(padded(ROWS, 12), ROWS[2]))


def test_a_share_of_the_features_is_dropped_other_ones_in_each_layer_and_token() -> None:
    model = nn.Sequential(nn.Dropout(0.25), nn.ModuleDict({"default": nn.Dropout(0.25)}), nn.Dropout(0.0))
    shared = key_dropout(model)
    assert shared and type(model[2]) is nn.Dropout
    first, second = model[0], model[1]["default"]
    assert isinstance(first, KeyedDropout) and isinstance(second, KeyedDropout)
    shared.keys_BT = token_keys(padded([EncodedRow(tuple(range(1, 200)), (4,))], 200), seed=1, step=1)
    values = torch.ones(1, 200, 512)
    masks = [first(values), second(values)]
    for mask in masks:
        assert mask.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
        assert abs(float((mask == 0).float().mean()) - 0.25) < 0.01
        of_tokens, of_features = ((mask == 0).float().mean(dim=dim).std() for dim in (2, 1))
        assert 0.01 < of_tokens < 0.03 and 0.02 < of_features < 0.045  # 0.019 and 0.031 of a fair coin of this weight
    both = float(((masks[0] == 0) & (masks[1] == 0)).float().mean())
    neighbours = float(((masks[0][:, 1:] == 0) & (masks[0][:, :-1] == 0)).float().mean())
    assert abs(both - 0.0625) < 0.01 and abs(neighbours - 0.0625) < 0.01
    assert torch.equal(first(values), masks[0])
    assert torch.equal(first(values.reshape(200, 512)), masks[0][0])
    before = torch.get_rng_state()
    first(values)
    assert torch.equal(torch.get_rng_state(), before)
    model.eval()
    assert torch.equal(first(values), values)


def test_values_that_are_of_no_token_are_dropped_as_torch_does() -> None:
    model = nn.Sequential(nn.Dropout(0.5))
    shared = key_dropout(model)
    assert shared
    shared.keys_BT = torch.zeros(2, 3, dtype=torch.int64)
    torch.manual_seed(0)
    there = model(torch.ones(5, 7, 8))
    torch.manual_seed(0)
    assert torch.equal(there, nn.functional.dropout(torch.ones(5, 7, 8), 0.5))
    assert key_dropout(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0))) is None
