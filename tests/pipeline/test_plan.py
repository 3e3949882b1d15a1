"""What `--dry-run` says a run will take: the disk follows the model, its tuning, its checkpoints and its helpers."""

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from aot.config import RunConfig, parse_config
from aot.pipeline.commands.plan import plan_lines, students_mb
from aot.pipeline.planning.reckon import reckon


def config(base: str, *arms: dict[str, Any], **train: Any) -> RunConfig:
    raw = {"data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "student": {"base": base},
           "train": {"arms": [{"name": f"a{i}", **arm} for i, arm in enumerate(arms)], **train},
           "evaluate": {"splits": ["test"]}}  # fmt: skip
    return parse_config(raw, source="test")


def smollm(folder: Path) -> Path:
    """The weights of a 135M Llama as a file with a hole in it: the header is true, the numbers are not there."""
    wide, narrow, inner = 576, 192, 1536
    shapes: dict[str, list[int]] = {"model.embed_tokens.weight": [49152, wide], "model.norm.weight": [wide]}
    linear = {"self_attn.q_proj": [wide, wide], "self_attn.k_proj": [narrow, wide], "self_attn.v_proj": [narrow, wide],
              "self_attn.o_proj": [wide, wide], "mlp.gate_proj": [inner, wide], "mlp.up_proj": [inner, wide],
              "mlp.down_proj": [wide, inner], "input_layernorm": [wide]}  # fmt: skip
    shapes |= {f"model.layers.{i}.{name}.weight": shape for i in range(30) for name, shape in linear.items()}
    header, end = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + 4 * prod(shape)]}
        end += 4 * prod(shape)
    text = json.dumps(header).encode()
    folder.mkdir()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return folder


def test_the_disk_of_a_135m_model_is_what_its_runs_took(tmp_path: Path) -> None:
    base = str(smollm(tmp_path / "base"))
    two = ({"order": "answers_only"}, {"order": "pre"})
    assert students_mb(config(base, *two, max_steps=8, save_steps=4)) == pytest.approx(270, rel=0.05)
    full = {"order": "pre", "tuning": "full", "learning_rate": 1e-5}
    whole = students_mb(config(base, *two, full, max_steps=8, save_steps=8))
    few = students_mb(config(base, *two, max_steps=8, save_steps=8))
    assert whole is not None and few is not None and whole - few == pytest.approx(2150, rel=0.02)


def test_the_disk_counts_kept_checkpoints_rank_and_helpers() -> None:
    def mb(*arms: dict[str, Any], **train: Any) -> float:
        found = students_mb(config("tiny-text", *arms, **{"max_steps": 10, "save_steps": 10, **train}))
        assert found is not None
        return found

    pre = {"order": "pre"}
    one = mb(pre)
    assert mb(pre, lora={"rank": 32}) == pytest.approx(2 * one)
    assert mb(pre, save_steps=5) == pytest.approx(one * 7 / 4), "the arm, and each checkpoint three times as much"
    assert mb(pre, save_steps=1, keep_checkpoints=2) == pytest.approx(one * 10 / 4), "a third one before the first goes"
    assert mb({"order": "adaptive"}, adaptive={"folds": 3}) == pytest.approx(4 * one)
    own = {"order": "pre", "chains": "self", "chain_share": 0.5}
    assert mb(own, own_chains={"rounds": 2}) == pytest.approx(3 * one)
    assert mb(pre, lora={"target_pattern": r".*\.q_proj"}) < one / 3
    assert mb(pre, lora={"target_pattern": "no_such_layer"}) == one
    assert mb(pre, zero_stage=2) > one


def test_the_time_of_a_run_about_clips_counts_helper_students() -> None:
    def seconds(max_steps: int, train: dict[str, Any] | None = None, **arm: Any) -> float:
        raw = {"data": {"dataset": "toy_kitchen", "toy": {"train_clips": 4, "test_clips": 2, "test_ood_clips": 2}},
               "train": {"arms": [{"name": "a", "order": "pre", **arm}], "max_steps": max_steps, **(train or {})},
               }  # fmt: skip
        planned = reckon(parse_config(raw, source="test"))
        assert planned
        return planned.training_s

    own = seconds(10, {"own_chains": {"rounds": 2}}, chains="self", chain_share=0.5)
    assert own == pytest.approx(seconds(30)) and own > seconds(10), "two rounds and the arm"
    assert seconds(10, {"adaptive": {"folds": 4, "fold_steps": 0.5}}, order="adaptive") == pytest.approx(own)


@pytest.mark.parametrize("content", [None, b"", b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}"])
def test_weights_that_are_not_here_or_unreadable_are_not_guessed(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    assert students_mb(config(str(tmp_path), {"order": "pre"})) is None
    assert students_mb(config("org/a-name-of-the-hub", {"order": "pre"})) is None


def test_a_plan_tells_the_disk_of_students_apart_and_what_to_do_where_it_is_too_much(tmp_path: Path) -> None:
    arm = {"order": "pre", "tuning": "full", "learning_rate": 1e-4}

    def told(keep: int) -> str:
        made = config("tiny-text", arm, max_steps=keep, save_steps=1, keep_checkpoints=keep)
        made = made.model_copy(update={"run": made.run.model_copy(update={"dir": str(tmp_path / "run")})})
        return "\n".join(plan_lines(made, config_path=tmp_path / "x.yaml"))

    assert "(students and their checkpoints 29 MB)" in told(1) and "more than there is" not in told(1)
    assert "note: that is more than there is" in told(10**8)
