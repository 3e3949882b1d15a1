"""How small the steps of chains shall be for a student of a given size.

Small students learn better from coarser steps, and best from a mix (arXiv 2502.18001, 2502.12143).
"""

import json
from pathlib import Path
from typing import Literal

from aot.config import EMBEDDED_STUDENTS

FINE_FROM_PARAMETERS = 3e9
Size = Literal["coarse", "fine", "mixed"]
BYTES_OF_DTYPE = {"float32": 4, "float16": 2, "bfloat16": 2}


def resolve_granularity(setting: Size | Literal["auto"], *, base: str) -> Size:
    """`setting`, with `auto` decided by the size of the student's base; one of unknown size counts as small."""
    if setting != "auto":
        return setting
    parameters = count_parameters(base)
    return "fine" if parameters is not None and parameters >= FINE_FROM_PARAMETERS else "mixed"


def count_parameters(base: str) -> float | None:
    """About how many parameters the model in a folder has, from the size of its weight files; None when unknown."""
    folder = Path(base)
    if base in EMBEDDED_STUDENTS or not folder.is_dir():
        return None
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(settings, dict):
        return None
    dtype = str(settings.get("dtype") or settings.get("torch_dtype") or "bfloat16")
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / BYTES_OF_DTYPE.get(dtype, 2)
