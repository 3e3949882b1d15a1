"""Random students of the families that configs/parts/students/ names, built from their published configs, made small.

Ratios and special options are kept: grouped heads, biases, tied tables, windows, levels of features, tiles. Those of
video train on frames as images. Qwen's processors need torchvision; where it cannot be imported their processor is
skipped, and the model is taught from pixels that the part of it without torchvision makes.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import save_base
from gpu_model import SPECIAL as QWEN_SPECIAL
from student_kit import TEMPLATE, make_run, read_lines, run_config, save_model, word_tokenizer
from text_kit import text_config, text_run
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from aot.config import LoraSection, RunConfig
from aot.files.run_folder import RunFolder
from aot.pipeline.planning.frames import frame_cost
from aot.pipeline.planning.shapes import published, shape_in
from aot.student.model.loading import load_student
from aot.student.model.lora import add_lora
from aot.student.model.vision import SharedVision
from aot.student.rows.collate import ClipPlan
from aot.student.train.arm import train_arm
from aot.student.train.loss import two_term_loss

TEXT = (
    "Qwen/Qwen3-0.6B", "Qwen/Qwen2.5-7B-Instruct", "mistralai/Mistral-7B-Instruct-v0.3",
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
)  # fmt: skip
QWEN = ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-8B-Instruct")
TILED = ("HuggingFaceTB/SmolVLM2-2.2B-Instruct", "llava-hf/LLaVA-NeXT-Video-7B-hf")
HEAD_DIM = 16
STORED_HW = (24, 32)
QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TILES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5))


def short(name: str) -> str:
    return name.rpartition("/")[2]


def small_decoder(text: dict[str, Any], *, layers: int) -> dict[str, Any]:
    """The published settings of a language model, narrow and shallow, with the ratios that they had."""
    heads, kv_heads = text["num_attention_heads"], text["num_key_value_heads"]
    group = heads // kv_heads
    heads, kv_heads = (group, 1) if group > 1 else (2, 2)
    full_width = text["num_attention_heads"] * text.get("head_dim", text["hidden_size"] // text["num_attention_heads"])
    hidden = int(heads * HEAD_DIM * Fraction(text["hidden_size"], full_width))
    inner = int(hidden * Fraction(text["intermediate_size"], text["hidden_size"])) // 8 * 8
    sizes = {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "hidden_size": hidden}
    sizes |= {"intermediate_size": inner, "num_hidden_layers": layers, "max_position_embeddings": 1024}
    if "head_dim" in text:
        sizes["head_dim"] = HEAD_DIM
    return {**{key: value for key, value in text.items() if key != "vision_config"}, **sizes}


def small_vision(vision: dict[str, Any], decoder: dict[str, Any]) -> dict[str, Any]:
    """The same of a vision tower: as few layers as its special ones leave."""
    small = {
        **vision,
        "hidden_size": 32,
        "intermediate_size": int(32 * vision["intermediate_size"] / vision["hidden_size"]),
    }
    if "depth" in vision:  # Qwen: windows but for some layers, or features of several of them
        small |= {"num_heads": 2, "depth": 4, "out_hidden_size": decoder["hidden_size"]}
        small |= {"fullatt_block_indexes": [1, 3]} if "fullatt_block_indexes" in vision else {}
        small |= (
            {"deepstack_visual_indexes": [0, 1, 2], "num_position_embeddings": 16}
            if "deepstack_visual_indexes" in vision
            else {}
        )
        return small
    side = 3 * vision["patch_size"] if vision["model_type"].startswith("smolvlm") else 2 * vision["patch_size"]
    return {**small, "num_attention_heads": 2, "num_hidden_layers": 3, "image_size": side}


def save_family(name: str, folder: Path) -> Path:
    """A base of this family in a folder, with a processor that needs no torchvision, or for Qwen one that does."""
    facts = published()[name]
    settings, kind = facts["config"], facts["config"]["model_type"]
    text = small_decoder(settings.get("text_config", settings), layers=4 if "deepstack" in str(settings) else 2)
    vision = small_vision(settings["vision_config"], text)
    processor = processor_of(kind, vision)
    ids = processor.tokenizer.convert_tokens_to_ids
    text |= {"vocab_size": len(processor.tokenizer), "pad_token_id": 0, "bos_token_id": None}
    text["eos_token_id"] = processor.tokenizer.eos_token_id
    text.pop("tie_word_embeddings", None)
    whole: dict[str, Any] = {"vision_config": vision, "tie_word_embeddings": settings["tie_word_embeddings"]}
    if kind in ("qwen2_5_vl", "qwen3_vl"):
        names = ("image_token", "video_token", "vision_start_token", "vision_end_token")
        whole |= {f"{one}_id": ids(QWEN_SPECIAL[i]) for one, i in zip(names, (4, 5, 2, 3), strict=True)}
        section = [2, 3, 3] if kind == "qwen2_5_vl" else [4, 2, 2]
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": section}
        text["rope_parameters"] |= {"mrope_interleaved": True} if kind == "qwen3_vl" else {}
        if kind == "qwen3_vl":
            text = {key: value for key, value in text.items() if key not in ("bos_token_id", "eos_token_id")}
        else:
            text.pop("model_type")
    elif kind == "smolvlm":
        whole |= {"image_token_id": ids("<image>"), "scale_factor": settings["scale_factor"], "pad_token_id": 0}
    else:
        side = vision["image_size"]
        points = [[high // 336 * side, wide // 336 * side] for high, wide in settings["image_grid_pinpoints"]]
        whole |= {"image_token_id": ids("<image>"), "image_grid_pinpoints": points}
        whole |= {key: settings[key] for key in ("vision_feature_layer", "vision_feature_select_strategy")}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, text_config=text, **whole)
    save_model(AutoModelForImageTextToText.from_config(config), folder)
    processor.save_pretrained(folder)
    return folder


def processor_of(kind: str, vision: dict[str, Any]) -> Any:
    if kind in ("qwen2_5_vl", "qwen3_vl"):
        return qwen_processor(kind, vision)
    side = vision["image_size"]
    special = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *TILES)
    tokenizer = word_tokenizer(extra=special, eos_token="<end_of_utterance>")
    if kind == "smolvlm":  # SmolVLM's own class is this one and a part for videos, which needs torchvision
        images = SmolVLMImageProcessorPil(max_image_size={"longest_edge": side}, size={"longest_edge": 4 * side})
        return Idefics3Processor(images, tokenizer, image_seq_len=1, chat_template=TEMPLATE)
    points = [[side, 2 * side], [2 * side, side], [2 * side, 2 * side], [3 * side, side], [side, 3 * side]]
    sizes = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    images = LlavaNextImageProcessorPil(image_grid_pinpoints=points, **sizes)
    return LlavaNextProcessor(
        images, tokenizer, patch_size=vision["patch_size"], vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=TEMPLATE,
    )  # fmt: skip


def qwen_images(vision: dict[str, Any]) -> Any:
    sizes = {"patch_size": vision["patch_size"], "merge_size": 2, "temporal_patch_size": 2}
    return Qwen2VLImageProcessorPil(size={"shortest_edge": 2048, "longest_edge": 8192}, **sizes)


def qwen_tokenizer() -> Any:
    return word_tokenizer(extra=QWEN_SPECIAL, bos_token=None, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def qwen_processor(kind: str, vision: dict[str, Any]) -> Any:
    """Qwen's own processor; the test is skipped where torchvision cannot be imported."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:  # RuntimeError: it was built for another torch
        pytest.skip(f"torchvision cannot be imported: {error}")
    from transformers import (
        Qwen2_5_VLProcessor,
        Qwen2VLVideoProcessor,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    sizes = {"patch_size": vision["patch_size"], "merge_size": 2, "temporal_patch_size": 2}
    make, videos = (
        (Qwen2_5_VLProcessor, Qwen2VLVideoProcessor)
        if kind == "qwen2_5_vl"
        else (Qwen3VLProcessor, Qwen3VLVideoProcessor)
    )
    return make(qwen_images(vision), qwen_tokenizer(), videos(**sizes), chat_template=QWEN_TEMPLATE)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, RunFolder, RunConfig]]:
    """The base, run and config of a family after two steps in a view, each trained once."""

    @cache
    def after_two_steps(name: str, view: str) -> tuple[Path, RunFolder, RunConfig]:
        root = tmp_path_factory.mktemp("family")
        config = run_config(save_family(name, root / "base"), max_steps=2, save_steps=2)
        config = config.model_copy(update={"student": config.student.model_copy(update={"frame_view": view})})
        run = make_run(root / "run", config, num_questions=6)
        train_arm(run, config, config.train.arms[1])
        return root / "base", run, config

    return after_two_steps


@pytest.mark.parametrize("name", TEXT, ids=short)
def test_a_text_family_trains_two_steps(name: str, tmp_path: Path) -> None:
    settings = published()[name]["config"]
    sizes = small_decoder(settings, layers=2)
    kind, ratio = sizes.pop("model_type"), Fraction(sizes["num_attention_heads"], sizes["num_key_value_heads"])
    for left_out in ("vocab_size", "max_position_embeddings"):
        sizes.pop(left_out)
    assert ratio == Fraction(settings["num_attention_heads"], settings["num_key_value_heads"]) > 1
    base = save_base(tmp_path / "base", kind, **{"tie_word_embeddings": False, **sizes})
    config = text_config(base, max_steps=2, save_steps=2)
    run = text_run(tmp_path / "run", config)
    train_arm(run, config, config.train.arms[0])
    rows = read_lines(run.arm("all") / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2] and all(row["grad_norm"] > 0 for row in rows)


@pytest.mark.parametrize("view", ["saved", "whole"])
@pytest.mark.parametrize("name", [*QWEN, *TILED], ids=short)
def test_a_video_family_trains_two_steps_on_frames_as_images(name: str, view: Any, taught: Any) -> None:
    if view == "whole" and name in QWEN:
        pytest.skip("its processor cuts no frame into tiles")
    base, run, config = taught(name, view)
    rows = read_lines(run.arm("distilled") / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2] and all(row["grad_norm"] > 0 for row in rows)
    student = load_student(str(base), adapter=run.arm("distilled"), config=config.student)
    shape = shape_in(base)
    assert shape and shape.parameters == sum(p.numel() for p in student.model.parameters())
    cost = frame_cost(shape, STORED_HW, whole=view == "whole")
    shown = student.renderer.expansion(STORED_HW)
    assert cost and shown.count(student.renderer.image_token_id) == cost.tokens
    assert abs(len(shown) - cost.tokens - (cost.marks if name in TILED else 0)) <= 4


@pytest.mark.parametrize("name", TILED, ids=short)
def test_whoever_loads_an_adapter_shows_it_frames_as_it_learned_them(name: str, taught: Any) -> None:
    base, run, config = taught(name, "whole")
    plain = config.student.model_copy(update={"frame_view": "saved"})
    lengths = [
        len(load_student(str(base), adapter=adapter, config=settings).renderer.expansion((48, 64)))
        for adapter, settings in (
            (run.arm("distilled"), config.student), (run.arm("distilled"), plain), (None, plain),
        )
    ]  # fmt: skip
    assert lengths[0] == lengths[1] < lengths[2]


@pytest.mark.parametrize("name", QWEN, ids=short)
def test_the_model_of_a_qwen_family_learns_from_pixels_without_torchvision(name: str) -> None:
    settings = published()[name]["config"]
    kind, tokenizer = settings["model_type"], qwen_tokenizer()
    text = small_decoder(settings.get("text_config", settings), layers=4)
    vision, ids = small_vision(settings["vision_config"], text), tokenizer.convert_tokens_to_ids
    section = (
        {"mrope_section": [2, 3, 3]}
        if kind == "qwen2_5_vl"
        else {"mrope_section": [4, 2, 2], "mrope_interleaved": True}
    )
    text |= {"vocab_size": len(tokenizer), "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, **section}}
    for left_out in ("model_type", "tie_word_embeddings"):
        text.pop(left_out, None)
    torch.manual_seed(0)
    image, video = ids(QWEN_SPECIAL[4]), ids(QWEN_SPECIAL[5])
    config = AutoConfig.for_model(
        kind, text_config=text, vision_config=vision, image_token_id=image, video_token_id=video,
        vision_start_token_id=ids(QWEN_SPECIAL[2]), vision_end_token_id=ids(QWEN_SPECIAL[3]), tie_word_embeddings=False,
    )  # fmt: skip
    model = AutoModelForImageTextToText.from_config(config)
    shared, adapted = SharedVision(model), add_lora(model, LoraSection(rank=4, alpha=8))
    assert all(one.startswith("model.language_model.") for one in adapted.matched) and not adapted.trains_vision
    frames = np.random.default_rng(0).integers(0, 256, (2, *STORED_HW, 3), dtype=np.uint8)
    pixels = qwen_images(vision)(list(frames), return_tensors="pt")
    tokens = [int(grid.prod()) // 4 for grid in pixels["image_grid_thw"]]
    row = [ids("fry"), *[image] * tokens[0], ids("egg"), *[image] * tokens[1], ids("onion"), ids("wash"), ids("rice")]
    input_ids = torch.tensor([row, row])
    labels = torch.where(torch.arange(len(row)) >= len(row) - 2, input_ids, -100)
    shared.plan = ClipPlan((sum(tokens),), (0, 0), pixels["image_grid_thw"])
    inputs = {
        "input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "pixel_values": pixels["pixel_values"],
        "image_grid_thw": pixels["image_grid_thw"].repeat(2, 1), "mm_token_type_ids": (input_ids == image).long(),
    }  # fmt: skip
    optimiser = torch.optim.AdamW([p for p in adapted.model.parameters() if p.requires_grad], lr=0.005)
    losses = []
    for _ in range(3):
        counts = {"num_supervised": torch.tensor([4, 0]), "rationale_weight": 1.0}
        logits = adapted.model(**inputs, use_cache=False).logits
        loss = two_term_loss(logits, labels, is_rationale_BT=torch.zeros_like(labels, dtype=torch.bool), **counts)
        optimiser.zero_grad()
        loss.total.backward()
        named = {n: p.grad for n, p in adapted.model.named_parameters() if p.requires_grad}
        assert len(named) == 2 * len(adapted.matched) and all(grad is not None for grad in named.values())
        optimiser.step()
        losses.append(loss.total.item())
    assert losses[2] < losses[0]
