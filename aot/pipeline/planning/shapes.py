"""Which weights a model has, from its config.json alone: name in memory to shape, and what of them is trained.

Covers the families that configs of ours name; for any other type the headers of its weights are read, where they are
there. Opens no weights and imports no torch. That names and shapes are those of transformers is tested.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import prod
from pathlib import Path
from typing import Any

from aot.config import EMBEDDED_STUDENTS, LoraSection, StudentConfig
from aot.errors import CheckpointError
from aot.files.jsonl import read_json
from aot.student.model.folders import PROCESSOR_FILES, WEIGHT_INDEX, read_object, read_settings

Shapes = dict[str, tuple[int, ...]]

_NOT_ADAPTED = ("embed", "wte", "wpe", "lm_head", ".experts.")
_SEES = ("vision", "visual", "connector", "projector", "image")
"""Parts of names of stored weights that are no linear layers of the language model."""
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "mistral": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
                "num_key_value_heads": 8},
    "siglip": {"hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 16,
               "image_size": 224, "patch_size": 32},
    "clip": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
             "image_size": 224, "patch_size": 32},
    "qwen2_5_vl": {"depth": 32, "hidden_size": 3584, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14,
                   "out_hidden_size": 3584, "window_size": 112},
    "qwen3_vl": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
                 "out_hidden_size": 3584, "num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24]},
}  # fmt: skip
"""What a config.json may leave out, from the classes of transformers 5.23."""


@dataclass(frozen=True)
class Decoder:
    """The language model, in numbers."""

    layers: int
    hidden: int
    inner: int
    """Width between the layers of its MLP."""
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    """Positions it knows; 0 where its config sets no limit."""


@dataclass(frozen=True)
class Tower:
    """The part that sees, in numbers."""

    layers: int
    hidden: int
    inner: int
    heads: int
    patch: int
    """Side of a patch in pixels."""
    image: int
    """Side in pixels of what it sees at once; 0 where it takes any size."""
    merge: int
    """Patches along each side that become one token."""


@dataclass(frozen=True)
class ModelShape:
    """What a model is made of."""

    model_type: str
    source: str
    """Where its numbers were read, in words."""
    weights: Shapes
    """Every parameter by its name; one that is tied to another stands once."""
    language: str
    """Name of the language model in memory; empty where only stored names are known."""
    decoder: Decoder | None
    tower: Tower | None
    processor: dict[str, Any]
    settings: dict[str, Any]

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        return sum(map(prod, self.weights.values()))

    @property
    def embedding(self) -> int:
        """Parameters of the table of tokens, which multiplies nothing."""
        return sum(prod(shape) for name, shape in self.weights.items() if name.endswith("embed_tokens.weight"))

    @property
    def seeing(self) -> int:
        """Parameters of vision tower and connector."""
        return sum(prod(shape) for name, shape in self.weights.items() if self._sees(name))

    @property
    def speaking(self) -> int:
        """Parameters of language model and output layer: what full tuning trains."""
        return self.parameters - self.seeing

    @property
    def output(self) -> int:
        """Multiplications of the output layer for one token; it may be the table of tokens itself."""
        return self.decoder.vocabulary * self.decoder.hidden if self.decoder else 0

    def adapted(self, lora: LoraSection) -> Shapes:
        """The linear layers that adapters stand on, by name, as [outputs, inputs]."""
        linear: Shapes = {
            name.removesuffix(".weight"): shape
            for name, shape in self.weights.items()
            if len(shape) == 2 and name.endswith(".weight") and not any(part in name for part in _NOT_ADAPTED)
        }
        wanted: Shapes = {
            name: linear[name] for name in linear if lora.target_pattern and re.fullmatch(lora.target_pattern, name)
        }
        # A model may be stored under other names than those it has in memory, which the pattern is about.
        return wanted or {name: shape for name, shape in linear.items() if not self._sees(name + ".weight")}

    def trainable(self, lora: LoraSection) -> int:
        """Parameters of fresh adapters."""
        return lora.rank * sum(sum(shape) for shape in self.adapted(lora).values())

    def _sees(self, name: str) -> bool:
        if self.language:
            return not name.startswith((f"{self.language}.", "lm_head."))
        return any(part in name for part in _SEES)


def shape_of(student: StudentConfig) -> ModelShape | None:
    """What the base of a student is made of; None where neither its folder nor published facts say so."""
    embedded = EMBEDDED_STUDENTS.get(student.base)
    folder = Path(str(resources.files("aot.student"))) / embedded if embedded else Path(student.base)
    if folder.is_dir():
        return shape_in(folder)
    return published_shape(student.hub.name if student.hub else student.base)


def shape_in(folder: Path) -> ModelShape | None:
    """What the model in a folder is made of: from its config.json, or from the headers of its weights."""
    try:
        settings = read_settings(folder)
    except CheckpointError:
        settings = {}
    processor: dict[str, Any] = {}
    for name in reversed(PROCESSOR_FILES):
        try:
            read = read_object(folder / name)
        except CheckpointError:
            continue
        processor |= read | read.get("image_processor", {})
    shape = shape_from(settings, source="config.json of its folder", processor=processor)
    if shape is not None:
        return shape
    weights = stored_shapes(folder)
    source, kind = "headers of its weights", str(settings.get("model_type", "unknown"))
    return ModelShape(kind, source, weights, "", None, None, processor, settings) if weights else None


def published_shape(name: str) -> ModelShape | None:
    """What the model of this hub name is made of, where the facts of its config.json come with this package."""
    facts = published().get(name)
    if facts is None:
        return None
    commit = f" at {facts['commit'][:12]}" if facts["commit"] else ""
    return shape_from(
        facts["config"], source=f"published config of {name}{commit}", processor=facts.get("processor", {})
    )


@cache
def published() -> dict[str, Any]:
    """Hub name to the facts of published models: commit, config and processor."""
    text = (resources.files("aot.pipeline.planning") / "published.json").read_text(encoding="utf-8")
    models: dict[str, Any] = json.loads(text)["models"]
    return models


def shape_from(settings: dict[str, Any], *, source: str, processor: dict[str, Any]) -> ModelShape | None:
    """What a model of these settings is made of; None where its family is not one of those known here.

    >>> shape_from({"model_type": "rwkv"}, source="", processor={}) is None
    True
    """
    kind = str(settings.get("model_type"))
    nested = settings.get("text_config")
    text = nested if isinstance(nested, dict) else settings
    vision = settings.get("vision_config")
    family = FAMILIES.get(kind)
    if family is None:
        return None
    language, make = family
    text_kind = str(text.get("model_type", "llama")) if text is not settings else kind
    try:
        decoder = _decoder(text, text_kind)
        weights = dict(_decoder_weights(decoder, text, kind=text_kind, prefix=language))
        tower = None
        if make is not None:
            assert isinstance(vision, dict)
            tower, seen = make(vision, settings, decoder)
            weights |= seen
    except (KeyError, TypeError, ValueError, AssertionError, ZeroDivisionError):
        return None
    if not settings.get("tie_word_embeddings", text.get("tie_word_embeddings", False)):
        weights["lm_head.weight"] = (decoder.vocabulary, decoder.hidden)
    return ModelShape(kind, source, weights, language, decoder, tower, processor, settings)


def stored_shapes(folder: Path) -> Shapes:
    """Name to shape of every stored weight of a folder, from the headers of its files; none where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    shapes: Shapes = {}
    try:
        whole = (folder / "model.safetensors").is_file()  # which transformers takes first
        names = {"model.safetensors"} if whole else set(read_json(folder / WEIGHT_INDEX)["weight_map"].values())
        for name in sorted(names):
            with safe_open(folder / name, framework="np") as file:
                shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError):
        return {}
    return shapes


def _decoder(text: dict[str, Any], kind: str) -> Decoder:
    numbers = {**_DEFAULTS.get(kind, {}), **text}
    hidden, heads = int(numbers["hidden_size"]), int(numbers["num_attention_heads"])
    return Decoder(
        layers=int(numbers["num_hidden_layers"]),
        hidden=hidden,
        inner=int(numbers["intermediate_size"]),
        heads=heads,
        kv_heads=int(numbers.get("num_key_value_heads") or heads),
        head_dim=int(numbers.get("head_dim") or (128 if kind.startswith("qwen3") else hidden // heads)),
        vocabulary=int(numbers.get("vocab_size", 32_000)),
        context=int(numbers.get("max_position_embeddings") or 0),
    )


def _decoder_weights(
    one: Decoder, text: dict[str, Any], *, kind: str, prefix: str
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{prefix}.embed_tokens.weight", (one.vocabulary, one.hidden)
    yield f"{prefix}.norm.weight", (one.hidden,)
    queries, keys = one.heads * one.head_dim, one.kv_heads * one.head_dim
    linear = {
        "self_attn.q_proj": (queries, one.hidden), "self_attn.k_proj": (keys, one.hidden),
        "self_attn.v_proj": (keys, one.hidden), "self_attn.o_proj": (one.hidden, queries),
        "mlp.gate_proj": (one.inner, one.hidden), "mlp.up_proj": (one.inner, one.hidden),
        "mlp.down_proj": (one.hidden, one.inner),
    }  # fmt: skip
    attention, of_mlp = bool(text.get("attention_bias")), bool(text.get("mlp_bias"))
    biased = {name for name in linear if (attention if "attn" in name else of_mlp)}
    if kind.startswith("qwen2"):
        biased = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}
    norms = {"input_layernorm": one.hidden, "post_attention_layernorm": one.hidden}
    if kind.startswith("qwen3"):
        norms |= {"self_attn.q_norm": one.head_dim, "self_attn.k_norm": one.head_dim}
    for layer in range(one.layers):
        for name, shape in linear.items():
            yield f"{prefix}.layers.{layer}.{name}.weight", shape
            if name in biased:
                yield f"{prefix}.layers.{layer}.{name}.bias", shape[:1]
        for name, width in norms.items():
            yield f"{prefix}.layers.{layer}.{name}.weight", (width,)


def _affine(name: str, shape: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _encoder_layers(prefix: str, tower: Tower) -> Shapes:
    """Layers of a SigLIP or CLIP tower."""
    wide, inner = tower.hidden, tower.inner
    square = {f"self_attn.{name}_proj": (wide, wide) for name in ("k", "v", "q", "out")}
    linear: Shapes = {**square, "mlp.fc1": (inner, wide), "mlp.fc2": (wide, inner)}
    linear |= {"layer_norm1": (wide,), "layer_norm2": (wide,)}
    layers: Shapes = {}
    for layer in range(tower.layers):
        for name, shape in linear.items():
            layers |= _affine(f"{prefix}.encoder.layers.{layer}.{name}", shape)
    return layers


def _image_tower(vision: dict[str, Any], defaults: str, *, merge: int) -> Tower:
    numbers = {**_DEFAULTS[defaults], **vision}
    return Tower(
        layers=int(numbers["num_hidden_layers"]), hidden=int(numbers["hidden_size"]),
        inner=int(numbers["intermediate_size"]), heads=int(numbers["num_attention_heads"]),
        patch=int(numbers["patch_size"]), image=int(numbers["image_size"]), merge=merge,
    )  # fmt: skip


def _siglip(vision: dict[str, Any], settings: dict[str, Any], decoder: Decoder) -> tuple[Tower, Shapes]:
    tower = _image_tower(vision, "siglip", merge=int(settings.get("scale_factor", 2)))
    name, wide = "model.vision_model", tower.hidden
    weights = _affine(f"{name}.embeddings.patch_embedding", (wide, 3, tower.patch, tower.patch))
    weights[f"{name}.embeddings.position_embedding.weight"] = ((tower.image // tower.patch) ** 2, wide)
    weights |= _encoder_layers(name, tower) | _affine(f"{name}.post_layernorm", (wide,))
    weights["model.connector.modality_projection.proj.weight"] = (decoder.hidden, wide * tower.merge**2)
    return tower, weights


def _clip(vision: dict[str, Any], settings: dict[str, Any], decoder: Decoder) -> tuple[Tower, Shapes]:
    assert str(vision.get("model_type", "clip_vision_model")).startswith("clip")  # other towers have other weights
    tower = _image_tower(vision, "clip", merge=1)
    name, wide, joined = "model.vision_tower", tower.hidden, "model.multi_modal_projector"
    weights: Shapes = {
        f"{name}.embeddings.class_embedding": (wide,),
        f"{name}.embeddings.patch_embedding.weight": (wide, 3, tower.patch, tower.patch),
        f"{name}.embeddings.position_embedding.weight": ((tower.image // tower.patch) ** 2 + 1, wide),
    }
    weights |= _affine(f"{name}.pre_layrnorm", (wide,)) | _affine(f"{name}.post_layernorm", (wide,))
    weights |= _encoder_layers(name, tower)
    weights |= _affine(f"{joined}.linear_1", (decoder.hidden, wide))
    weights |= _affine(f"{joined}.linear_2", (decoder.hidden, decoder.hidden))
    if "next" in str(settings["model_type"]):
        weights["model.image_newline"] = (decoder.hidden,)
    return tower, weights


def _qwen(vision: dict[str, Any], settings: dict[str, Any], decoder: Decoder) -> tuple[Tower, Shapes]:
    kind = str(settings["model_type"])
    numbers = {**_DEFAULTS[kind], **vision}
    merge, time = int(numbers.get("spatial_merge_size", 2)), int(numbers.get("temporal_patch_size", 2))
    tower = Tower(
        layers=int(numbers["depth"]), hidden=int(numbers["hidden_size"]), inner=int(numbers["intermediate_size"]),
        heads=int(numbers["num_heads"]), patch=int(numbers["patch_size"]), image=0, merge=merge,
    )  # fmt: skip
    wide, inner, joined, out = tower.hidden, tower.inner, tower.hidden * merge**2, int(numbers["out_hidden_size"])
    patches, name = (wide, 3, time, tower.patch, tower.patch), "model.visual"
    block: Shapes = _affine("attn.qkv", (3 * wide, wide)) | _affine("attn.proj", (wide, wide))
    if kind == "qwen3_vl":
        block |= _affine("norm1", (wide,)) | _affine("norm2", (wide,))
        block |= _affine("mlp.linear_fc1", (inner, wide)) | _affine("mlp.linear_fc2", (wide, inner))
        weights = _affine(f"{name}.patch_embed.proj", patches)
        weights[f"{name}.pos_embed.weight"] = (int(numbers["num_position_embeddings"]), wide)
        mergers = {"merger": wide}
        mergers |= {f"deepstack_merger_list.{i}": joined for i in range(len(numbers["deepstack_visual_indexes"]))}
        for merger, width in mergers.items():
            weights |= _affine(f"{name}.{merger}.norm", (width,))
            weights |= _affine(f"{name}.{merger}.linear_fc1", (joined, joined))
            weights |= _affine(f"{name}.{merger}.linear_fc2", (out, joined))
    else:
        block |= {"norm1.weight": (wide,), "norm2.weight": (wide,)}
        block |= _affine("mlp.gate_proj", (inner, wide)) | _affine("mlp.up_proj", (inner, wide))
        block |= _affine("mlp.down_proj", (wide, inner))
        weights = {f"{name}.patch_embed.proj.weight": patches, f"{name}.merger.ln_q.weight": (wide,)}
        weights |= _affine(f"{name}.merger.mlp.0", (joined, joined)) | _affine(f"{name}.merger.mlp.2", (out, joined))
    weights |= {f"{name}.blocks.{i}.{part}": shape for i in range(tower.layers) for part, shape in block.items()}
    return tower, weights


FAMILIES: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), ("model", None)),
    **dict.fromkeys(("idefics3", "smolvlm"), ("model.text_model", _siglip)),
    **dict.fromkeys(("llava", "llava_next", "llava_next_video"), ("model.language_model", _clip)),
    **dict.fromkeys(("qwen2_5_vl", "qwen3_vl"), ("model.language_model", _qwen)),
}
"""Model type to the name of its language model in memory, and to what makes its vision part."""
