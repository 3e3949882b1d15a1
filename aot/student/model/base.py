"""Base models on disk: where they lie, which files they need, and whether they take images; loads no model.

Only safetensors count as weights, and code of a folder is never run.
"""

import hashlib
import math
import re
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from aot.config import EMBEDDED_STUDENTS
from aot.errors import CheckpointError
from aot.student.model.folders import (
    CONFIG,
    GENERATION_CONFIG,
    GGUF_HINT,
    PROCESSOR_FILES,
    TOKENIZER_FILES,
    WEIGHT_FILES,
    check_kind,
    read_object,
    read_settings,
)

_SAMPLE_BYTES = 1 << 20
_FLOATS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def resolve_base(base: str, *, key: str = "student.base", quantised: bool = False) -> str:
    """Folder or hub name of a model, after a folder's files were looked over.

    Args:
        base: a folder, a hub name, or the name of an embedded student.
        key: of the setting that names it.
        quantised: whether quantised weights can be used.

    Raises:
        CheckpointError: no such folder, or one of its files is missing.
    """
    if base in EMBEDDED_STUDENTS or Path(base).is_dir():
        embedded = EMBEDDED_STUDENTS.get(base)
        folder = str(resources.files("aot.student") / embedded) if embedded else base
        check_base_folder(Path(folder), quantised=quantised)
        return folder
    if Path(base).is_file():
        hint = GGUF_HINT if base.lower().endswith(".gguf") else "give the folder of a model"
        raise CheckpointError(f"{key} {base!r} is a file; {hint}")
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", base):
        return base
    raise CheckpointError(
        f"{key} {base!r} is neither a folder nor one of {', '.join(EMBEDDED_STUDENTS)}; give the folder of a model"
    )


def check_base_folder(folder: Path, *, quantised: bool = False) -> None:
    """Look over the files a model's folder needs: a processor only where the model takes images.

    Raises:
        CheckpointError: naming what is missing, or what would need foreign code.
    """
    check_kind(folder, quantised=quantised)
    groups = {"model configuration": (CONFIG,), "weights": WEIGHT_FILES, "tokenizer": TOKENIZER_FILES}
    if (folder / CONFIG).is_file() and _takes_images(read_settings(folder).get("model_type")):
        groups["processor"] = PROCESSOR_FILES
    for what, names in groups.items():
        if not any((folder / name).is_file() for name in names):
            hint = "; pickled weights are not read, convert them" if what == "weights" else ""
            raise CheckpointError(f"{folder} has no {what}: {' or '.join(names)} is missing{hint}")


def base_digest(folder: str) -> str:
    """Sixteen hex digits that tell base models apart: sizes, first and last megabyte of each weight file."""
    path = Path(folder)
    if not path.is_dir():
        return f"hub:{folder}"
    digest = hashlib.sha256()
    for file in sorted(path.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as handle:
            digest.update(handle.read(_SAMPLE_BYTES))
            handle.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(handle.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def stored_dtype(folder: str) -> str:
    """The type that most weights of a folder are stored in: float32, bfloat16 or float16; float32 for any other.

    Raises:
        CheckpointError: the weights cannot be read.
    """
    if not Path(folder).is_dir():
        kind = str(getattr(AutoConfig.from_pretrained(folder, trust_remote_code=False), "dtype", "")).rpartition(".")[2]
        return kind if kind in _FLOATS.values() else "float32"
    counts: Counter[str] = Counter()
    for path in sorted(Path(folder).glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118 - no dict
                    part = file.get_slice(name)
                    counts[part.get_dtype()] += math.prod(part.get_shape())
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
    return _FLOATS.get(max(counts, key=lambda kind: counts[kind], default=""), "float32")


def takes_images(folder: str) -> bool:
    """Whether the model in this folder, or of this hub name, is an image-text one; all others take text only.

    Raises:
        CheckpointError: its configuration cannot be read.
    """
    if Path(folder).is_dir():
        return _takes_images(read_settings(Path(folder)).get("model_type"))
    try:
        return _takes_images(AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type)
    except Exception as error:  # whatever a library throws at the files of strangers
        raise CheckpointError(f"the configuration of {folder} cannot be loaded: {error}") from error


def told_end_ids(folder: str) -> tuple[int, ...]:
    """The tokens at which transformers ends replies of this folder, or hub name: `generation_config.eos_token_id`.

    Raises:
        CheckpointError: they are no token ids.
    """
    if not Path(folder).is_dir():
        return _ids(_hub_end_ids(folder), folder)
    eos_setting = None
    path = Path(folder) / GENERATION_CONFIG
    if path.is_file():
        eos_setting = read_object(path).get("eos_token_id")
    if eos_setting is None:
        settings = read_settings(Path(folder))
        nested = settings.get("text_config")
        eos_setting = settings.get("eos_token_id", nested.get("eos_token_id") if isinstance(nested, dict) else None)
    return _ids(eos_setting, folder)


def _hub_end_ids(name: str) -> Any:  # noqa: ANN401
    try:
        return GenerationConfig.from_pretrained(name).eos_token_id
    except Exception:  # noqa: BLE001 - it has no such file
        return getattr(AutoConfig.from_pretrained(name, trust_remote_code=False), "eos_token_id", None)


def _ids(eos_setting: Any, folder: str) -> tuple[int, ...]:  # noqa: ANN401
    ids = eos_setting if isinstance(eos_setting, list) else [] if eos_setting is None else [eos_setting]
    wrong = [one for one in ids if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < 1 << 31]
    if wrong:
        raise CheckpointError(
            f"{folder} ends replies at eos_token_id {str(wrong[0])[:60]!r}, which is no token; mend it"
        )
    return tuple(ids)


def _takes_images(model_type: Any) -> bool:  # noqa: ANN401 - from a file
    return isinstance(model_type, str) and model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
