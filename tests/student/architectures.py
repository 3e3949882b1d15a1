"""Tiny random bases of many model types, each saved as a folder with the exact tokenizer of the text tests."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from text_kit import TEMPLATE, text_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

SMALL: dict[str, Any] = {
    # widths and depths, under every name that a configuration may have for them
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "lru_width": 32, "word_embed_proj_dim": 32, "embedding_dim": 32,
    "attention_hidden_size": 32, "intermediate_size": 48, "ffn_dim": 48, "decoder_ffn_dim": 48,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "decoder_layers": 2, "num_blocks": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "attention_heads": 4,
    "decoder_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "rotary_dim": 4,
    "max_position_embeddings": 512, "n_positions": 512, "n_ctx": 512, "sliding_window": 20, "window_size": 20,
    "attention_window_size": 20,
    # experts
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "shared_intermediate_size": 16, "n_group": 1,
    "topk_group": 1,
    # latent attention
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    # recurrent layers
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "state_size": 8, "ssm_state_size": 8, "mamba_d_state": 8, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64,
    "mamba_n_groups": 1, "n_groups": 1, "mamba_chunk_size": 8, "chunk_size": 8, "mamba_num_heads": 8,
    "mamba_head_dim": 8, "mamba_dt_rank": 4, "time_step_rank": 4, "n_mamba_heads": 2, "block_size": 8,
    "tie_word_embeddings": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 4,
}  # fmt: skip
RECURRENT_FIRST = {"layer_types": ["linear_attention", "full_attention"]}
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1,
        "use_mamba_kernels": False,
    },
    "llama": {"tie_word_embeddings": True},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8},
    "minimax": {**RECURRENT_FIRST, "sliding_window": None},
    "nemotron_h": {"layers_block_type": ["mamba", "attention"]},
    "olmo_hybrid": RECURRENT_FIRST,
    "qwen3_5_text": RECURRENT_FIRST,
    "qwen3_next": RECURRENT_FIRST,
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},
    "zamba2": {
        "hybrid_layer_ids": [1], "layers_block_type": ["mamba", "hybrid"], "attention_head_dim": 16,
        "num_mem_blocks": 1,
    },
}  # fmt: skip
SEEDS = {"apertus": 2, "gpt_neo": 3, "lfm2": 3, "qwen3": 2}
"""With the usual one, all its replies are alike, or one goes on to the end of the context."""
ITS_OWN_WORDS = ("qwen2",)
"""Transformers reads the tokenizers of these as it thinks they are, whatever their files say of words."""


def tiny_config(model_type: str, **more: Any) -> PreTrainedConfig:
    """The configuration of a model of this type that takes milliseconds."""
    kind = type(AutoConfig.for_model(model_type))
    known = {*getattr(kind, "__dataclass_fields__", {}), *inspect.signature(kind.__init__).parameters}
    sizes = {key: value for key, value in SMALL.items() if key in known or key in kind.attribute_map}
    if "qk_rope_head_dim" in known:  # then the width of a head follows from its parts
        sizes |= {"num_key_value_heads": 4}
        sizes.pop("head_dim", None)
    return kind(**{**sizes, **OWN.get(model_type, {}), **more})


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each byte."""
    special = ["<pad>", "<unk>", "<user>", "<assistant>", "<end>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({token: i for i, token in enumerate([*special, *alphabet])}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>"], chat_template=TEMPLATE, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def save_base(folder: Path, model_type: str, **more: Any) -> Path:
    """A base of this type in `folder`; its weights are so large that replies depend on all of the prompt."""
    tokenizer = byte_tokenizer() if model_type in ITS_OWN_WORDS else text_tokenizer()
    torch.manual_seed(SEEDS.get(model_type, 1))
    model = AutoModelForCausalLM.from_config(tiny_config(model_type, vocab_size=len(tokenizer), **more))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.4)
        model.get_input_embeddings().weight.mul_(0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# Image-text models


_VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8,
    "image_size": 32,
}  # fmt: skip
_TEXT: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "vocab_size": 64, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2,
}  # fmt: skip
_QWEN_VISION: dict[str, Any] = {
    "depth": 2, "intermediate_size": 64, "num_heads": 2, "patch_size": 8, "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}  # fmt: skip
_QWEN: dict[str, Any] = {
    "image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 7, "vision_end_token_id": 8,
}  # fmt: skip
_ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
_LLAMA, _CLIP = {**_TEXT, "model_type": "llama"}, {**_VISION, "model_type": "clip_vision_model", "projection_dim": 32}


def _image_text(model_type: str, **settings: Any) -> Callable[[], Any]:
    return lambda: AutoModelForImageTextToText.from_config(AutoConfig.for_model(model_type, **settings))


TINY_TOWERS: dict[str, Callable[[], Any]] = {
    "idefics3": _image_text("idefics3", vision_config=_VISION, text_config=_LLAMA, scale_factor=2, image_token_id=5),
    "smolvlm": _image_text("smolvlm", vision_config=_VISION, text_config=_LLAMA, scale_factor=2, image_token_id=5),
    "llava": _image_text("llava", vision_config=_CLIP, text_config=_LLAMA, image_token_id=5),
    "llava_next": _image_text(
        "llava_next", vision_config=_CLIP, text_config=_LLAMA, image_token_id=5, image_grid_pinpoints=[[32, 64]],
    ),
    "llava_next_video": _image_text(
        "llava_next_video", vision_config=_CLIP, text_config=_LLAMA, image_token_id=5, video_token_id=6,
        image_grid_pinpoints=[[32, 64]],
    ),
    "qwen2_vl": _image_text(
        "qwen2_vl", vision_config={**_QWEN_VISION, "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2},
        text_config={**_TEXT, "rope_parameters": _ROPE}, **_QWEN,
    ),
    "qwen2_5_vl": _image_text(
        "qwen2_5_vl", **_QWEN, text_config={**_TEXT, "rope_parameters": _ROPE},
        vision_config={
            **_QWEN_VISION, "hidden_size": 32, "out_hidden_size": 32, "window_size": 32, "fullatt_block_indexes": [1],
        },
    ),
    "qwen3_vl": _image_text(
        "qwen3_vl", **_QWEN,
        text_config={**_TEXT, "head_dim": 16, "rope_parameters": {**_ROPE, "mrope_interleaved": True}},
        vision_config={
            **_QWEN_VISION, "hidden_size": 32, "out_hidden_size": 32, "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0, 1],
        },
    ),
}  # fmt: skip
"""Random image-text models, by model type."""


def frames_of(model_type: str, count: int) -> Callable[[int, int], dict[str, torch.Tensor]]:
    """So many frames of noise, as a model of this type takes those from one number up to another."""
    if model_type.startswith("qwen"):  # 4 x 8 patches of 2 x 8 x 8 pixels of three colours
        pixels, grids = torch.randn(count, 32, 3 * 2 * 8 * 8), torch.tensor([[1, 4, 8]] * count)
        return lambda start, end: {
            "pixel_values": pixels[start:end].flatten(0, 1), "image_grid_thw": grids[start:end],
        }  # fmt: skip
    pixels = torch.randn(count, 3, 32, 32)
    if model_type in ("idefics3", "smolvlm"):
        return lambda start, end: {"pixel_values": pixels[None, start:end]}
    if model_type.startswith("llava_next"):
        tiles, sizes = torch.randn(count, 3, 3, 32, 32), torch.tensor([[24, 40]] * count)
        return lambda start, end: {"pixel_values": tiles[start:end], "image_sizes": sizes[start:end]}
    return lambda start, end: {"pixel_values": pixels[start:end]}
