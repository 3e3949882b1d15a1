"""Base models on disk: where they lie, which files they need, and whether they take images; loads no model.

Only safetensors count as weights, and a folder that brings code is refused.
"""

import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from aot.config import EMBEDDED_STUDENTS
from aot.errors import CheckpointError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
_SAMPLE_BYTES = 1 << 20


def resolve_base(base: str) -> str:
    """Folder or hub name of a base student, after a folder's files were looked over.

    Raises:
        CheckpointError: no such folder, or one of its files is missing.
    """
    if base in EMBEDDED_STUDENTS:
        folder = Path(str(resources.files("aot.student"))) / EMBEDDED_STUDENTS[base]
        check_base_folder(folder)
        return str(folder)
    if Path(base).is_dir():
        check_base_folder(Path(base))
        return base
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not base.startswith("."):
        return base
    raise CheckpointError(
        f"student.base {base!r} is neither a folder nor one of {', '.join(EMBEDDED_STUDENTS)}; "
        "give the folder of a model"
    )


def check_base_folder(folder: Path) -> None:
    """Look over the files a student folder needs: a processor only where the model takes images.

    Raises:
        CheckpointError: naming what is missing, or what would need foreign code.
    """
    groups = {"model configuration": ("config.json",), "weights": WEIGHT_FILES, "tokenizer": TOKENIZER_FILES}
    if (folder / "config.json").is_file() and _takes_images(_settings(folder).get("model_type")):
        groups["processor"] = PROCESSOR_FILES
    for what, names in groups.items():
        if not any((folder / name).is_file() for name in names):
            hint = "; pickled weights are not read, convert them" if what == "weights" else ""
            raise CheckpointError(f"{folder} has no {what}: none of {', '.join(names)} is there{hint}")
    if "auto_map" in _settings(folder):
        raise CheckpointError(f"{folder / 'config.json'} asks to run code from the model folder, which is never done")


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


def takes_images(folder: str) -> bool:
    """Whether the model in this folder, or of this hub name, is an image-text one; all others take text only.

    Raises:
        CheckpointError: its configuration cannot be read.
    """
    if Path(folder).is_dir():
        return _takes_images(_settings(Path(folder)).get("model_type"))
    try:
        return _takes_images(AutoConfig.from_pretrained(folder, trust_remote_code=False).model_type)
    except Exception as error:  # whatever a library throws at the files of strangers
        raise CheckpointError(f"the configuration of {folder} cannot be loaded: {error}") from error


def _takes_images(model_type: Any) -> bool:  # noqa: ANN401 - from a file
    return isinstance(model_type, str) and model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


def _settings(folder: Path) -> dict[str, Any]:
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / 'config.json'} cannot be read: {error}") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{folder / 'config.json'} must hold a JSON object")
    return settings
