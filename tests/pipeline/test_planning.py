"""`aot plan`: shapes are those of transformers, frames those of its processors, and every real config is planned."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aot.config import LoraSection, RunConfig, load_config, parse_config
from aot.errors import ConfigError
from aot.pipeline.commands.plan import config_plan, config_plan_lines, told_plan
from aot.pipeline.planning.costs import DEVICES, micro_batches
from aot.pipeline.planning.frames import frame_cost
from aot.pipeline.planning.lines import plan_numbers
from aot.pipeline.planning.preflight import gpu_lines, gpu_notes, read_gpus
from aot.pipeline.planning.reckon import fits, reckon
from aot.pipeline.planning.shapes import ModelShape, published, published_shape, shape_from

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import write_plans

ROOT = Path(__file__).parents[2]
REAL = sorted(write_plans.config_paths())
CHANGES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True, "num_hidden_layers": 2},
    "qwen3": {"num_hidden_layers": 3, "tie_word_embeddings": True, "head_dim": 64},
    "mistral": {"num_hidden_layers": 2},
    "llava": {"text_config": {"model_type": "llama", "num_hidden_layers": 2}},
    "llava_next": {"text_config": {"model_type": "mistral", "num_hidden_layers": 2}},
    "idefics3": {"text_config": {"model_type": "llama", "num_hidden_layers": 2}, "scale_factor": 2},
    "qwen2_5_vl": {"vision_config": {"depth": 2, "out_hidden_size": 8192}, "text_config": {"num_hidden_layers": 2}},
    "qwen3_vl": {"vision_config": {"depth": 9, "deepstack_visual_indexes": [2, 5]}},
}
"""Settings that published students have not, by model type; what is left out is a default of transformers."""


def meta_model(settings: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    config = AutoConfig.for_model(settings["model_type"], **{k: v for k, v in settings.items() if k != "model_type"})
    sees = hasattr(config, "vision_config")
    with torch.device("meta"):
        model = (AutoModelForImageTextToText if sees else AutoModelForCausalLM).from_config(config)
    return model, config


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def shape(name: str) -> ModelShape:
    made = published_shape(name)
    assert made
    return made


def run_of(base: str, *arms: dict[str, Any], **train: Any) -> RunConfig:
    named = [{"name": f"a{i}", "order": "pre", **arm} for i, arm in enumerate(arms or ({},))]
    raw = {"data": {"dataset": "gsm8k"}, "student": {"base": base, "dtype": "bfloat16", "max_tokens": 1024},
           "teacher": {"planner": "given"}, "train": {"arms": named, **train}}  # fmt: skip
    return parse_config(raw, source="test")


@pytest.mark.parametrize("name", sorted(published()))
def test_a_published_model_has_the_weights_that_transformers_gives_it(name: str) -> None:
    from aot.student.model.lora import add_lora, language_model_name

    model, _ = meta_model(published()[name]["config"])
    made = shape(name)
    assert made.weights == shapes_of(model)
    assert made.language == language_model_name(model)
    if made.parameters < 3e9:
        section = LoraSection(rank=4)
        assert made.trainable(section) == add_lora(model, section).num_trainable


@pytest.mark.parametrize("kind", sorted(CHANGES))
def test_other_settings_and_defaults_of_a_family_are_read_as_transformers_reads_them(kind: str) -> None:
    model, config = meta_model({"model_type": kind, **CHANGES[kind]})
    sparse = shape_from({"model_type": kind, **CHANGES[kind]}, source="", processor={})
    full = shape_from(config.to_dict(), source="", processor={})
    assert full and full.weights == shapes_of(model)
    if "vision_config" not in config.to_dict() or "vision_config" in CHANGES[kind]:
        return  # what a file with a vision part leaves out is told by transformers alone
    assert sparse is None or sparse.weights == full.weights


def test_a_pattern_picks_the_adapted_layers_of_a_published_model() -> None:
    made = shape("Qwen/Qwen3-VL-8B-Instruct")
    whole, some = (made.adapted(LoraSection(target_pattern=p)) for p in (None, r".*language_model.*\.(q|v)_proj"))
    assert (len(whole), len(some)) == (36 * 7, 36 * 2)
    assert all(name.startswith("model.language_model.layers.") for name in whole)


@pytest.mark.parametrize("size_hw", [(270, 480), (480, 270), (72, 96), (336, 336), (1080, 1920)])
def test_frames_cost_the_tokens_that_the_processors_of_transformers_make(size_hw: tuple[int, int]) -> None:
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
    from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    picture = np.zeros((*size_hw, 3), dtype=np.uint8)
    for name in ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"):
        facts = published()[name]["processor"]
        settings = {key: value for key, value in facts.items() if key != "image_processor_type"}
        grid = Qwen2VLImageProcessorPil(**settings)(picture)["image_grid_thw"][0]
        cost = frame_cost(shape(name), size_hw)
        assert cost and (cost.patches, cost.tokens) == (int(np.prod(grid)), int(np.prod(grid)) // 4)
    small = SmolVLMImageProcessorPil(max_image_size={"longest_edge": 384}, size={"longest_edge": 1536})
    views = np.asarray(small([[picture]], return_tensors="np")["pixel_values"]).shape[1]
    for whole, count in ((False, views), (True, 1)):
        cost = frame_cost(shape("HuggingFaceTB/SmolVLM2-2.2B-Instruct"), size_hw, whole=whole)
        assert cost and (cost.views, cost.tokens) == (count, 81 * count)
    for whole, points in ((False, LlavaNextImageProcessorPil.image_grid_pinpoints), (True, [[336, 336]])):
        sizes = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
        images = LlavaNextImageProcessorPil(image_grid_pinpoints=points, **sizes)
        processor = LlavaNextProcessor(
            images, word_tokenizer(), patch_size=14, vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        )  # fmt: skip
        made = processor(text=["<image>"], images=[[picture]])["input_ids"][0]
        cost = frame_cost(shape("llava-hf/LLaVA-NeXT-Video-7B-hf"), size_hw, whole=whole)
        assert cost and cost.tokens == list(made).count(processor.image_token_id)


def word_tokenizer() -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "<image>": 1}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", additional_special_tokens=["<image>"], pad_token="<unk>"
    )


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_the_config_of_a_real_student_is_planned_and_its_dry_run_says_what_is_missing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "x" * 20)
    config = load_config(ROOT / path)
    planned = reckon(config)
    assert planned and planned.training_s > 0 and planned.answering_s > 0
    assert max(arm.memory.total for arm in planned.arms) < planned.device.memory_gb * 1e9
    assert max(arm.row_tokens for arm in planned.arms) < config.student.max_tokens
    lines = "\n".join(config_plan_lines(config))
    assert "note:" not in lines and "unknown" not in lines and f"{planned.shape.parameters:,} parameters" in lines
    told, error = told_plan(config, config_path=ROOT / path)
    missing = [line for line in told if line.startswith("missing: ")]
    assert error and len(missing) == 2
    assert "clips" in missing[0] or "set data.root" in missing[0]
    assert f"{tmp_path / config.student.base} is not there; `aot prefetch CONFIG` fetches" in missing[1]
    assert str(tmp_path) in config.student.base and not (tmp_path / "runs").exists()


def test_the_configs_of_real_students_and_their_table_are_as_the_script_writes_them() -> None:
    stale = [path for path, text in write_plans.written().items() if (ROOT / path).read_text() != text]
    assert not stale, "run python scripts/write_plans.py"


def test_memory_falls_with_each_stage_and_rises_with_the_batch() -> None:
    name = "mistralai/Mistral-7B-Instruct-v0.3"
    planned = reckon(
        run_of(name, {"tuning": "full", "learning_rate": 1e-5}, questions_per_device=4), device=DEVICES["h100"]
    )
    assert planned
    by_stage = [planned.by_stage[stage, 8] for stage in range(4)]
    assert by_stage == sorted(by_stage, reverse=True) and by_stage[3] < by_stage[0] / 4
    assert not [key for key in fits(planned) if key[0] == 0] and (3, 8) in fits(planned)

    def activations(**train: Any) -> float:
        one = reckon(run_of(name, pack_tokens=0, **train))
        assert one
        return one.arms[0].memory.activations

    assert activations(questions_per_device=8) == pytest.approx(2 * activations(questions_per_device=4))
    assert activations(gradient_checkpointing=True) < activations() / 5


def test_work_is_counted_as_two_for_each_weight_and_token_and_pass() -> None:
    name = "TinyLlama/TinyLlama-1.1B-Chat-v1.0"
    base = {"questions_per_step": 8, "questions_per_device": 8, "pack_tokens": 0, "max_steps": 10}
    planned = [reckon(run_of(name, arm, **base, **more)) for arm, more in (
        ({}, {}), ({}, {"gradient_checkpointing": True}), ({"tuning": "full", "learning_rate": 1e-5}, {}),
    )]  # fmt: skip
    lora, recomputed, full = (one.arms[0].step_s if one else 0.0 for one in planned)
    made, device = shape(name), DEVICES["a100-80gb"]
    tokens = 8 * (110 + 180) * 1.15
    forward_s = 2 * tokens * (made.parameters - 2 * made.embedding) / (device.tflops * 1e12 * device.train_mfu)
    launches_s = 22 * device.layer_s
    assert lora == pytest.approx(2 * forward_s + launches_s, rel=0.15)
    assert recomputed == pytest.approx(3 * forward_s + 1.3 * launches_s, rel=0.15)
    assert full == pytest.approx(3 * forward_s + launches_s, rel=0.15)


def test_micro_batches_are_cut_as_training_cuts_them() -> None:
    from aot.student.train.arguments import plan_batch

    for questions, per_device, processes in ((16, 3, 2), (32, 2, 4), (7, 7, 1), (12, 5, 3)):
        train = run_of("x/y", questions_per_step=questions, questions_per_device=per_device).train
        cut = plan_batch(train, processes=processes)
        assert micro_batches(questions, per_device=per_device, processes=processes) == (
            cut.per_device,
            cut.accumulation,
        )


def test_a_student_whose_shape_is_known_nowhere_is_not_guessed() -> None:
    lines = config_plan_lines(run_of("someone/some-model"))
    assert lines[0].startswith("plan: unknown, because the shape of someone/some-model is known nowhere")
    assert lines[-1] == "nothing was started"
    assert not plan_numbers(config_plan(run_of("someone/some-model")), run_of("someone/some-model")).reckoned


def test_of_another_family_the_headers_of_its_weights_tell_the_parameters_and_nothing_more(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    weights = {f"h.{i}.attn.weight": np.zeros((4, 12), dtype=np.float32) for i in range(3)}
    save_file({**weights, "wte.weight": np.zeros((10, 4), dtype=np.float32)}, str(tmp_path / "model.safetensors"))
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    lines = config_plan_lines(run_of(str(tmp_path), lora={"rank": 2}))
    assert "gpt2 (headers of its weights), 184 parameters; adapters have 96" in lines[0]
    assert lines[1].startswith(
        "plan: memory and hours unknown, because gpt2 is none of the types reckoned here (llama,"
    )


def test_a_plan_tells_what_stored_frames_take_before_any_is_decoded() -> None:
    lines = config_plan_lines(load_config(ROOT / "configs/video/coin_smolvlm2_2b.yaml"))
    clips, frames, pixels = 9030 + 2797, 142, 384 * 216
    assert any(f"disk: stored frames {clips * frames * pixels * 3 / 1e9:,.2f} GB, students" in line for line in lines)


def test_rows_that_would_be_dropped_and_gpus_that_are_too_small_are_told() -> None:
    config = load_config(ROOT / "configs/video/coin_llavanextvideo_7b.yaml", overrides=("student.num_frames=8",))
    assert any("longer than the 4,096 tokens that are allowed" in line for line in config_plan_lines(config))
    alone = load_config(ROOT / "configs/video/coin_qwen3vl_8b.yaml", overrides=("train.procs=1", "train.zero_stage=0"))
    small = config_plan_lines(alone, device="rtx4090")
    assert any("are more than a rtx4090 has; train.zero_stage=3" in line for line in small)
    with pytest.raises(ConfigError, match="--device 'tpu' is none of those known: a100-40gb"):
        config_plan_lines(config, device="tpu")


SMI = "0, GPU-aa11, NVIDIA H100 80GB HBM3, 79000, 81559\n1, GPU-bb22, NVIDIA H100 80GB HBM3, 20000, 81559\n"


@pytest.mark.parametrize(
    ("visible", "free_gb"),
    [(None, [82.8, 21.0]), ("1", [21.0]), ("GPU-aa", [82.8]), ("0,1", [82.8, 21.0]), ("", []), ("7", [])],
)
def test_the_gpus_of_a_run_are_those_that_it_may_see(visible: str | None, free_gb: list[float]) -> None:
    assert [round(gpu.free_gb, 1) for gpu in read_gpus(SMI, visible=visible)] == free_gb
    assert read_gpus("No devices were found\n", visible=visible) == []


@pytest.mark.parametrize(
    ("needed_gb", "told"),
    [
        (12.0, "GPU memory: 12.0 GB are needed by this plan, 21.0 of 85.5 GB are free on NVIDIA H100 80GB HBM3"),
        (30.0, "something else uses it: wait for that, or set CUDA_VISIBLE_DEVICES to another GPU"),
        (99.0, "that is more than it has: see the ZeRO stages above"),
    ],
)
def test_the_memory_that_a_plan_needs_stands_beside_what_the_gpu_has(needed_gb: float, told: str) -> None:
    (line,) = gpu_lines(needed_gb, read_gpus(SMI, visible=None))
    assert told in line and line.startswith("note: ") == (needed_gb > 21)
    assert gpu_lines(needed_gb, []) == []


def test_a_dry_run_tells_the_memory_of_the_gpu_that_its_driver_tells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\nprintf '%s' '{SMI}'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (line,) = gpu_notes(load_config(ROOT / "configs/video/coin_qwen3vl_8b.yaml"))
    assert "of 85.5 GB are free on NVIDIA H100" in line
    assert gpu_notes(load_config(ROOT / "configs/video/toy_kitchen.yaml")) == []


def test_a_config_includes_others_below_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("data: {dataset: toy_kitchen, toy: {train_clips: 5}}\ntrain: {max_steps: 7}\n")
    (tmp_path / "student.yaml").write_text("student: {num_frames: 3}\ntrain: {max_steps: 8, save_steps: 2}\n")
    run = tmp_path / "run.yaml"
    run.write_text("include: [data.yaml, student.yaml]\ndata: {toy: {test_clips: 6}}\ntrain: {save_steps: 4}\n")
    config = load_config(run, overrides=("student.num_frames=2",))
    assert config.data.toy.train_clips == 5 and config.data.toy.test_clips == 6  # type: ignore[union-attr]
    assert (config.train.max_steps, config.train.save_steps, config.student.num_frames) == (8, 4, 2)
    for text, told in (
        ("include: data.yaml\n", "must be a list of files"),
        ("include: [run.yaml]\n", "includes others itself"),
        ("include: [gone.yaml]\n", r"gone\.yaml"),
        ("include: [1]\n", "must be a list of files"),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError, match=told):
            load_config(tmp_path / "bad.yaml")


def test_the_verb_plans_without_torch_and_without_data(tmp_path: Path) -> None:
    code = (
        "import sys\nfor name in ('torch', 'transformers', 'cv2', 'av'):\n    sys.modules[name] = None\n"
        "from aot.cli import main\n"
        f"sys.argv = ['aot', 'plan', {str(ROOT / 'configs/video/youcook2_qwen25vl_7b.yaml')!r}, '--json']\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout)
    assert numbers["parameters"] == 8_292_166_656 and numbers["frame"]["tokens"] == 112
    assert numbers["arms"][1]["trainable"] == 80_740_352 and list(tmp_path.iterdir()) == []
