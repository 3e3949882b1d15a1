"""Model folders of strangers before any library opens them: what kind of folder it is, and whether its settings can be.

The only module that spells the names of their JSON files. Reads JSON and the headers of weights only. A folder of
another kind (GGUF, an adapter, quantised weights) is told with what to do.
"""

import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from aot.errors import CheckpointError
from aot.files.run_folder import CONTRACT

CONFIG, GENERATION_CONFIG, ADAPTER_CONFIG = "config.json", "generation_config.json", "adapter_config.json"
WEIGHT_INDEX = "model.safetensors.index.json"
WEIGHT_FILES = ("model.safetensors", WEIGHT_INDEX)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
MOST_BYTES = {
    CONFIG: 10 << 20, GENERATION_CONFIG: 10 << 20, "tokenizer_config.json": 50 << 20,
    "special_tokens_map.json": 10 << 20, "added_tokens.json": 50 << 20, "chat_template.jinja": 4 << 20,
    "processor_config.json": 10 << 20, "preprocessor_config.json": 10 << 20, "tokenizer.json": 500 << 20,
    "vocab.json": 100 << 20, "merges.txt": 100 << 20, WEIGHT_INDEX: 100 << 20,
}  # fmt: skip
"""Several times what the largest models have."""
MOST_NESTED = 30
MOST_COUNTED = {"layer": 2_000, "expert": 100_000, "label": 1_000_000, "position": 1_000_000_000}
"""Largest number that a setting with such a word in its name may hold: models are built in loops over them."""
MOST = 10**10
AT_LEAST_ONE = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "n_embd", "n_layer",
    "n_head", "d_model",
)  # fmt: skip
_NEEDS = {"tokenizer.json": "model", "chat_template.json": "chat_template"}
_KERNELS = ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation")
"""Names with a slash there are repositories of compiled code."""
_QUANTISED = ("quantization_config", "compression_config", "quantization")
_QUANTISED_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq", "hf_quant_config.json": "modelopt"}
GGUF_HINT = "GGUF is not read; turn it into safetensors first, as docs/students.md shows"


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings in a folder's config.json.

    Raises:
        CheckpointError: it cannot be read, is no JSON object, or holds what no model has.
    """
    path = folder / CONFIG
    settings = read_object(path)
    _check_values(path, settings)
    return settings


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model folder.

    Raises:
        CheckpointError: it cannot be read, or holds something else.
    """
    try:
        _check_size(path)
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(held, dict):
        raise CheckpointError(f"{path} must hold a JSON object")
    return held


def check_kind(folder: Path, *, quantised: bool) -> None:
    """Look whether a folder holds a model at all, and one that transformers can open with code of its own.

    Args:
        folder: of a model.
        quantised: whether quantised weights can be used.

    Raises:
        CheckpointError: it does not; the message says what it holds instead, and what to do.
    """
    if (folder / ADAPTER_CONFIG).is_file():
        raise CheckpointError(_adapter_told(folder))
    ggufs = sorted(path.name for path in folder.glob("*.gguf"))
    if ggufs and not any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{folder} holds {ggufs[0]!r} and no safetensors: {GGUF_HINT}")
    if not (folder / CONFIG).is_file():
        return
    for name in MOST_BYTES:
        if (folder / name).is_file():
            _check_size(folder / name)
    settings = read_settings(folder)
    _check_type(folder, settings)
    method = "" if quantised else quantised_with(folder, settings)
    if method:
        raise CheckpointError(
            f"{folder} holds weights quantised with {method}, which cannot be trained; give the folder of the model "
            "as it was before (float16, bfloat16 or float32)"
        )
    _check_shards(folder)


def damage(folder: Path) -> str:
    """The first file of a folder that is cut off, or is not of its kind, with what is wrong; empty where none is.

    Libraries rarely name the file they stumble over, so this is asked once one has.
    """
    for name in (*MOST_BYTES, "chat_template.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            held = read_object(path) if path.suffix == ".json" else {}
            path.read_text(encoding="utf-8")
        except (CheckpointError, OSError, ValueError) as error:
            return str(error) if isinstance(error, CheckpointError) else f"{path} cannot be read: {error}"
        if (lacks := _NEEDS.get(name, "")) and lacks not in held:
            return f"{path} holds no {lacks!r}"
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np"):
                pass
        except (OSError, ValueError, SafetensorError) as error:
            return f"{path} is damaged or cut off ({' '.join(str(error).split())[:200]})"
    return ""


def _check_shards(folder: Path) -> None:
    """Where weights lie in several files, all of them must be there, and in no other folder."""
    path = folder / WEIGHT_INDEX
    if (folder / "model.safetensors").is_file() or not path.is_file():
        return
    held = read_object(path)
    lacks = next((key for key in ("weight_map", "metadata") if not isinstance(held.get(key), dict)), "")
    if lacks or not held["weight_map"]:
        raise CheckpointError(f"{path} holds no object {lacks or 'weight_map'!r} with entries; restore the file")
    names = list(dict.fromkeys(map(json.dumps, held["weight_map"].values())))
    for name in map(json.loads, names):
        if not isinstance(name, str) or not re.fullmatch(r"[^/\\\0]+\.safetensors", name):
            rule = "weights are read only from safetensors files of its own folder; mend it"
            raise CheckpointError(f"{path} names {str(name)[:100]!r}, but {rule}")
    missing = [name for name in map(json.loads, names) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{path} names {len(names)} files of weights, of which {len(missing)} are not there, first "
            f"{missing[0][:100]!r}; fetch the model again"
        )


def quantised_with(folder: Path, settings: dict[str, Any]) -> str:
    """Name of the method with which the weights of a folder are quantised; empty where they are not."""
    nested = [value for value in settings.values() if isinstance(value, dict)]
    for held in [settings, *nested]:
        for key in _QUANTISED:
            quantisation = held.get(key)
            if not quantisation:
                continue
            names = quantisation if isinstance(quantisation, dict) else {}
            if "load_in_4bit" in names or "load_in_8bit" in names or "bnb_4bit_quant_type" in names:
                return "bitsandbytes"
            method_name = names.get("quant_method") or ("compressed-tensors" if key == "compression_config" else "")
            return repr(str(method_name)[:40]).strip("'") if method_name else f"a method that its {key} does not name"
    return next((method for name, method in _QUANTISED_FILES.items() if (folder / name).is_file()), "")


def _adapter_told(folder: Path) -> str:
    path = folder / ADAPTER_CONFIG
    try:
        _check_size(path)
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        held = {}
    base = held.get("base_model_name_or_path") if isinstance(held, dict) else None
    named = f"; its base is {base[:100]!r}" if isinstance(base, str) and base else ""
    if (folder / CONTRACT).is_file():
        return f"{folder} is an arm that was trained here, not a model{named}; give that base"
    if (folder / CONFIG).is_file():
        return f"{folder} holds a model and an adapter for it; merge them, or take {ADAPTER_CONFIG} out"
    return (
        f"{folder} is an adapter (PEFT) and no model{named}; merge it into its base first, as docs/students.md shows, "
        "and give the merged folder"
    )


def _check_type(folder: Path, settings: dict[str, Any]) -> None:
    """Code from a model folder is never run: where transformers knows the type, its own class is used instead."""
    # Here, because rooms that only ask for names of files work without transformers.
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    nested = [value for value in settings.values() if isinstance(value, dict)]
    kernels = [repr(held[key]) for held in [settings, *nested] for key in _KERNELS if held.get(key)]
    if any("/" in one for one in kernels):
        raise CheckpointError(
            f"{folder / 'config.json'} asks for kernels from elsewhere ({kernels[0][:60]}), which are code and never "
            "run; take that setting out"
        )
    kind = settings.get("model_type")
    is_known_type = isinstance(kind, str) and kind in CONFIG_MAPPING_NAMES
    usable = is_known_type and (
        kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    )
    if "auto_map" in settings and not usable:
        raise CheckpointError(
            f"{folder / 'config.json'} asks to run code from the model folder, which is never done, and transformers "
            f"itself has no language model of type {str(kind)[:60]!r}; take a model whose type it knows"
        )
    if is_known_type and not usable:
        raise CheckpointError(
            f"{folder} holds a model of type {kind!r}, which is neither a causal language model nor an image-text one; "
            "take one that is"
        )


def _check_size(path: Path) -> None:
    most, size = MOST_BYTES.get(path.name, 10 << 20), path.stat().st_size
    if size > most:
        raise CheckpointError(f"{path} has {size} bytes; no model needs more than {most} there; mend it")


def _check_values(path: Path, settings: dict[str, Any]) -> None:
    left: list[tuple[str, Any, int]] = [(key, value, 1) for key, value in settings.items()]
    for key in AT_LEAST_ONE:
        value = settings.get(key)
        if isinstance(value, int) and value < 1:
            raise CheckpointError(f"{path} holds {key} {value}; at least 1 is needed; mend it")
    while left:
        key, value, depth = left.pop()
        if depth > MOST_NESTED:
            raise CheckpointError(f"{path} is nested more than {MOST_NESTED} levels deep at {key[:60]!r}; mend it")
        if isinstance(value, dict):
            left += [(str(name), one, depth + 1) for name, one in value.items()]
        elif isinstance(value, list):
            left += [(key, one, depth + 1) for one in value]
        elif isinstance(value, float) and value != value:
            raise CheckpointError(f"{path} holds {key[:60]} NaN, which is no number; mend it")
        elif "theta" in key and isinstance(value, int | float) and value <= 0:
            raise CheckpointError(f"{path} holds {key[:60]} {value}; it must be over 0; mend it")
        elif isinstance(value, int) and not isinstance(value, bool) and "theta" not in key:
            most = min((limit for word, limit in MOST_COUNTED.items() if word in key), default=MOST)
            if abs(value) > most:
                shown = str(value) if abs(value) < 10**30 else "a number of over 30 digits"
                raise CheckpointError(f"{path} holds {key[:60]} {shown}, beyond any model ({most}); mend it")
