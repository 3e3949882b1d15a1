"""Zero-shot models of the transformers library, from a folder or the hub: one loaded model for a whole process.

Only safetensors are read and no code from a model folder is ever run. Image processors without torchvision are enough.
Knows neither clips nor results; the tools on top do.
"""

import hashlib
import json
import re
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModel, AutoModelForZeroShotObjectDetection

from aot.config import HfConfig
from aot.errors import CheckpointError, ConfigError, ToolError
from aot.student.model.base import base_digest
from aot.student.model.folders import WEIGHT_FILES
from aot.student.model.loading import load_model, load_processor
from aot.teacher.tools.clipview import ClipView

Kind = Literal["detector", "similarity"]
FAMILIES: dict[Kind, tuple[str, ...]] = {
    "detector": ("owlv2", "owlvit", "grounding-dino", "mm-grounding-dino"),
    "similarity": ("siglip", "siglip2", "clip"),
}
"""Model types of the transformers library that are known to work, by what they are for."""
MAX_NAME_CHARS = 80
_OPENED: dict[tuple[Kind, str, str], "ZeroShot"] = {}
_OPENING = threading.Lock()


@dataclass
class ZeroShot:
    """One model of this process; loaded at its first use, and used by one thread at a time."""

    kind: Kind
    name: str
    """Folder or hub name."""
    device: str
    model_type: str
    digest: str
    """Identity of configuration, processor and weights."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _loaded: tuple[Any, Any] | None = None

    def infer(self, work: Callable[[Any, Any], Any]) -> Any:  # noqa: ANN401 - whatever `work` gives
        """What `work(model, processor)` gives, with the model to itself.

        Raises:
            ConfigError: the model cannot be loaded.
            ToolError: the model failed on this input, such as for want of memory.
        """
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(self)
            try:
                with torch.inference_mode():
                    return work(*self._loaded)
            except torch.OutOfMemoryError as error:
                raise ToolError(f"{self.name} ran out of memory; lower teacher.hf.batch_frames") from error
            except RuntimeError as error:
                raise ToolError(f"{self.name} failed: {str(error)[:200]}") from error


def open_model(kind: Kind, config: HfConfig) -> ZeroShot:
    """The model of that kind which the config names, the same object for everybody in this process.

    Raises:
        ConfigError: none is named, it is not of a known family, or its files cannot be used.
    """
    name = config.detector if kind == "detector" else config.similarity
    example = "an OWLv2 or Grounding DINO model" if kind == "detector" else "a SigLIP or CLIP model"
    if name is None:
        raise ConfigError(f"teacher.hf.{kind} is not set; give the folder or hub name of {example}")
    device = _device(config)
    with _OPENING:
        opened = _OPENED.get((kind, name, device))
        digest = _digest(name)
        if opened is None or opened.digest != digest:  # Another model may lie in the folder by now.
            opened = ZeroShot(kind, name, device, _model_type(kind, name), digest)
            _OPENED[kind, name, device] = opened
        return opened


def clean_name(name: str) -> str:
    r"""Free text as models are asked for it: one line, no control characters, at most `MAX_NAME_CHARS` characters.

    >>> clean_name("  Red\n pan ")
    'Red pan'

    Raises:
        ToolError: nothing is left.
    """
    shown = "".join(" " if unicodedata.category(one).startswith("C") else one for one in name[: 8 * MAX_NAME_CHARS])
    cleaned = " ".join(shown.split())[:MAX_NAME_CHARS].strip(" .")
    if not cleaned:
        raise ToolError(f"{name[:40]!r} names nothing; give a few words such as `red pan`")
    return cleaned


def image_batches(clip: ClipView, positions: Sequence[int], *, size: int) -> Iterator[list[Any]]:
    """The frames at these positions as PIL images, `size` of them at a time."""
    from PIL import Image  # Here, because opening a model needs no image package.

    for start in range(0, len(positions), size):
        yield [Image.fromarray(clip.frames_THWC[position]) for position in positions[start : start + size]]


def _device(config: HfConfig) -> str:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("teacher.hf.device is cuda, but torch sees no GPU; use teacher.hf.device=auto")
    return "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"


def _model_type(kind: Kind, name: str) -> str:
    folder = Path(name)
    if not folder.is_dir() and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise ConfigError(f"teacher.hf.{kind}: there is no folder {name!r}, and it is no hub name such as owner/model")
    try:
        settings, _ = AutoConfig.from_pretrained(name, trust_remote_code=False, return_unused_kwargs=True)
    except Exception as error:  # whatever a library throws at the files of strangers
        words = f"{type(error).__name__}: {error}"
        raise ConfigError(f"teacher.hf.{kind}: the configuration of {name} cannot be loaded: {words}") from error
    model_type = str(settings.model_type)
    if model_type not in FAMILIES[kind]:
        names = ", ".join(FAMILIES[kind])
        raise ConfigError(f"teacher.hf.{kind}: {name} is a {model_type!r} model; known are {names}")
    if folder.is_dir() and not any((folder / file).is_file() for file in WEIGHT_FILES):
        raise ConfigError(f"teacher.hf.{kind}: {name} has no safetensors; pickled weights are not read, convert them")
    return model_type


def _digest(name: str) -> str:
    """Hub names stand for themselves; a folder for its JSON files and weights, wherever it lies."""
    folder = Path(name)
    if not folder.is_dir():
        return f"hub:{name}"
    digest = hashlib.sha256(base_digest(name).encode())
    for file in sorted(file for file in folder.iterdir() if file.suffix in (".json", ".txt")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _load(one: ZeroShot) -> tuple[Any, Any]:
    kind = AutoModelForZeroShotObjectDetection if one.kind == "detector" else AutoModel
    try:
        processor, model = load_processor(one.name), load_model(one.name, dtype=torch.float32, kind=kind)
    except CheckpointError as error:
        raise ConfigError(f"teacher.hf.{one.kind}: {error}") from error
    return model.to(one.device).eval().requires_grad_(False), processor


def settings_digest(one: ZeroShot, config: HfConfig) -> str:
    """What results of a tool on top of this model depend on besides its arguments."""
    return f"hf:{one.digest}:{json.dumps([one.model_type, config.max_frames])}"
