"""The random-weight student that check_gpu.py measures, its run folder, and how many operations a step of it needs.

Nothing is downloaded: the sizes below are those of the published config.json, the weights are drawn, the tokenizer has
a token for each byte, the frames are noise. Speed and memory depend on none of that.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from bench_train import write_material
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast

from aot.arms.lessons import arm_lessons, read_material
from aot.config import RunConfig, dump_config, parse_config
from aot.files.run_folder import LESSONS, RunFolder, publish, publish_rows
from aot.pipeline.planning.shapes import published
from aot.student.model.base import resolve_base
from aot.student.model.loading import load_processor

QWEN = "Qwen/Qwen2.5-VL-7B-Instruct"
"""Whose published settings stand in the package: 8.29e9 parameters, 0.68e9 of them in the vision tower."""
MROPE = {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]}
SMALL_TEXT: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 512, "rope_parameters": {**MROPE, "mrope_section": [2, 3, 3]},
}  # fmt: skip
SMALL_TOWER: dict[str, Any] = {
    "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
    "fullatt_block_indexes": [1],
}  # fmt: skip
SPECIAL = (
    "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
    "<|endoftext|>",
)  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PEAKS = {
    "H200": 989e12, "GH200": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H800": 989e12,
    "B200": 2250e12, "A100": 312e12, "A800": 312e12, "L40S": 362e12, "L40": 181e12, "L4": 121e12, "A10": 125e12,
    "RTX 4090": 165e12,
}  # fmt: skip
"""Dense bfloat16 operations a second by the vendor's data sheets, by a part of the device's name; the first fits."""


@dataclass(frozen=True)
class Shape:
    """What is trained on, and how much of it."""

    small: bool
    """Whether it is the small model of the CPU mode."""
    num_frames: int
    frame_size_hw: tuple[int, int]
    questions_per_step: int
    questions_per_device: int
    warm_up: int
    steps: int
    """Measured, after the first ones."""
    new_tokens: int
    """That a reply may have."""
    asked_questions: int

    @property
    def max_steps(self) -> int:
        """Of the training."""
        return self.warm_up + self.steps


REAL = Shape(False, 16, (240, 320), 4, 2, 3, 8, 128, 32)
"""About 2,000 tokens a row, of which 1,584 are visual, and two rows a question: it answers, and reasons first."""
SMALL = Shape(True, 4, (56, 84), 4, 2, 2, 4, 8, 4)


def peak_of(device_name: str) -> float:
    """Dense bfloat16 operations a second of a GPU; 0 where none is listed."""
    return next((peak for part, peak in PEAKS.items() if part in device_name), 0.0)


def family_of(shape: Shape) -> str:
    """The model type that is built: Idefics3 where small, and torchvision, which Qwen's processor needs, is missing."""
    missing = importlib.util.find_spec("torchvision") is None
    return "idefics3" if shape.small and missing else "qwen2_5_vl"


def build_base(folder: Path, shape: Shape, *, device: str) -> int:
    """Save the model with its processor in `folder`; returns its number of parameters."""
    torch.manual_seed(0)
    if family_of(shape) == "idefics3":
        embedded = resolve_base("tiny-video")
        config, processor = AutoConfig.from_pretrained(embedded), load_processor(embedded)
    else:
        processor = _qwen_processor()
        config = _qwen_config(processor.tokenizer, small=shape.small)
    with torch.device(device):  # drawn where it is fast: billions of numbers take minutes on a CPU
        model: Any = AutoModelForImageTextToText.from_config(
            config, dtype=torch.float32 if shape.small else torch.bfloat16
        )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def _qwen_config(tokenizer: Any, *, small: bool) -> Any:  # noqa: ANN401
    from transformers import Qwen2_5_VLConfig

    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    settings = dict(published()[QWEN]["config"])
    tower = {**settings.pop("vision_config"), **(SMALL_TOWER if small else {})}
    tied = settings.pop("tie_word_embeddings")
    ends = {"bos_token_id": None, "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}
    text = {**settings, "rope_parameters": MROPE, **(SMALL_TEXT if small else {}), **ends}
    text.pop("model_type")  # of the whole
    return Qwen2_5_VLConfig(
        text_config=text, vision_config=tower, tie_word_embeddings=tied,
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip


def _qwen_processor() -> Any:  # noqa: ANN401
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({token: i for i, token in enumerate([*alphabet, *SPECIAL])}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL), clean_up_tokenization_spaces=False,
    )  # fmt: skip
    sizes: dict[str, Any] = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    images = Qwen2VLImageProcessor(size={"shortest_edge": 3136, "longest_edge": 12845056}, **sizes)
    return Qwen2_5_VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(**sizes), chat_template=TEMPLATE)


def run_config(base: Path, shape: Shape, settings: Mapping[str, Any]) -> RunConfig:
    """The config of the run that is measured: adapters of rank 16 on the language model, one arm.

    Args:
        base: folder of the model.
        shape: of the rows and steps.
        settings: others, or other values, by their names, such as train.gradient_checkpointing.
    """
    raw: dict[str, Any] = {
        "data": {"dataset": "plain"},
        "student": {
            "base": str(base), "num_frames": shape.num_frames, "max_tokens": 8192,
            "dtype": "float32" if shape.small else "bfloat16", "device": "cpu" if shape.small else "cuda",
            "max_answer_tokens": shape.new_tokens, "max_rationale_tokens": shape.new_tokens,
        },
        "train": {
            "arms": [{"name": "distilled"}], "max_steps": shape.max_steps, "save_steps": shape.max_steps,
            "questions_per_step": shape.questions_per_step, "questions_per_device": shape.questions_per_device,
            "warmup_steps": 2, "learning_rate": 1e-3, "lora": {"rank": 16, "alpha": 32},
        },
    }  # fmt: skip
    for name, value in settings.items():
        section, key = name.split(".")
        raw[section][key] = value
    return parse_config(raw, source="check_gpu")


def write_run(run: RunFolder, config: RunConfig, shape: Shape) -> None:
    """A run folder as the stages before training leave it."""
    write_material(run, clips=8, frames=48, size_hw=shape.frame_size_hw, fps=6)
    write_lessons(run, config)


def write_lessons(run: RunFolder, config: RunConfig) -> None:
    """Its config, and what its arm learns."""
    arm = config.train.arms[0]
    publish(run.config, dump_config(config))
    publish_rows(run.arm(arm.name) / LESSONS, arm_lessons(read_material(run, config), arm, seed=config.seed))


class Operations:
    """Counts floating-point operations of the matrix products that a step needs; recomputed ones count once.

    A linear layer with W weights does 2 W operations for each row it reads; backward the same again where its input
    needs a gradient, and once more where its weights do (https://arxiv.org/abs/2001.08361, section 2.1).
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self.total = 0.0

    @contextmanager
    def counted(self) -> Iterator["Operations"]:
        """While this is open, every linear layer and convolution adds what it does."""
        kinds = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Conv3d)
        layers = [module for module in self._model.modules() if isinstance(module, kinds)]
        hooks = [layer.register_forward_hook(self._add) for layer in layers]
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def _add(self, layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:  # noqa: ANN401
        if torch._C._current_graph_task_id() != -1:  # inside backward: gradient checkpointing does it once more
            return
        weight = layer.weight
        width = layer.out_features if isinstance(layer, torch.nn.Linear) else layer.out_channels
        passes = 1 + int(torch.is_grad_enabled() and inputs[0].requires_grad)
        passes += int(torch.is_grad_enabled() and weight.requires_grad)
        self.total += 2.0 * passes * weight.numel() * (output.numel() / width)


def attention_operations(text_config: Any, row_lengths: list[int]) -> float:  # noqa: ANN401
    """Those of the decoder's attention over rows of these lengths, forward and backward, half of the square as causal.

    Two products of T x T x width forward and four backward, 2 operations each: 12 T^2 width / 2 for each layer.
    """
    heads = text_config.num_attention_heads
    width = heads * (getattr(text_config, "head_dim", None) or text_config.hidden_size // heads)
    return sum(6.0 * length**2 * width * text_config.num_hidden_layers for length in row_lengths)
