"""Loads a student: a base model with its processor, and on request a trained adapter whose contract is checked.

Only safetensors are read and no code from a model folder is ever run. An adapter is refused when a file was altered,
when its tensors are not exactly those the model expects, or when prompts would look different from those it learned.
"""

import hashlib
import json
import logging
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging as hf_logging

from aot.config import StudentConfig
from aot.errors import CheckpointError
from aot.records import Record
from aot.student.checkpoints import check_folder
from aot.student.lora import attach
from aot.student.rendering import Renderer

log = logging.getLogger(__name__)

EMBEDDED = {"tiny-video": "tiny/video"}
"""Students inside the package: name to folder."""
WEIGHTS, SETTINGS, CONTRACT = "adapter_model.safetensors", "adapter_config.json", "contract.json"
ADAPTER_FILES = (WEIGHTS, SETTINGS, CONTRACT)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
_SAMPLE_BYTES = 1 << 20


class Contract(Record):
    """What an adapter was trained to expect; a student that would show it anything else refuses to load it."""

    version: int = 1
    arm: str
    base: str
    """As the config names it."""
    base_digest: str
    template_hash: str
    num_frames: int
    modes: tuple[str, ...]
    rationale_weight: float
    seed: int
    config_digest: str
    max_answer_tokens: int
    max_rationale_tokens: int


@dataclass(frozen=True)
class Student:
    """A model ready for prediction or training, with the renderer that makes its prompts."""

    model: Any
    processor: Any
    renderer: Renderer
    config: StudentConfig
    device: torch.device
    base_digest: str

    @property
    def model_type(self) -> str:
        """The transformers model type, such as idefics3."""
        return str(self.model.config.model_type)

    @property
    def pad_id(self) -> int:
        """Token id that fills up batches."""
        tokenizer = self.renderer.tokenizer
        return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)


def load_student(base: str, *, adapter: Path | None = None, config: StudentConfig) -> Student:
    """The student `base`, with the adapter in the folder `adapter` merged in if one is given.

    Args:
        base: `tiny-video`, the folder of a transformers image-text model, or a name on the model hub.
        adapter: folder of a trained arm.
        config: dtype and device.

    Raises:
        CheckpointError: a file is missing, altered or does not fit; the message names it.
    """
    contract = read_contract(adapter) if adapter else None
    folder = resolve_base(base)
    device = pick_device(config)
    processor = _load_processor(folder)
    model = _load_model(folder, dtype=getattr(torch, config.dtype))
    student = Student(model, processor, Renderer(processor), config, device, base_digest(folder))
    if contract and adapter:
        check_contract(contract, student, adapter)
        model = _with_adapter(model, adapter, merge=config.dtype == "float32")
    model.to(device)
    model.eval()
    model.requires_grad_(False)
    return Student(model, processor, student.renderer, config, device, student.base_digest)


def pick_device(config: StudentConfig) -> torch.device:
    """The device asked for; `auto` takes the GPU of this process if there is one.

    Raises:
        CheckpointError: cuda was asked for and is not there.
    """
    if config.device == "cpu" or (config.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise CheckpointError("student.device is cuda, but torch sees no GPU; use student.device=auto")
    return torch.device("cuda", torch.cuda.current_device())


def resolve_base(base: str) -> str:
    """Folder or hub name of a base student, after a folder's files were looked over.

    Raises:
        CheckpointError: no such folder, or one of its files is missing.
    """
    if base in EMBEDDED:
        folder = Path(str(resources.files("aot.student"))) / EMBEDDED[base]
        check_base_folder(folder)
        return str(folder)
    if Path(base).is_dir():
        check_base_folder(Path(base))
        return base
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not base.startswith("."):
        return base
    raise CheckpointError(
        f"student.base {base!r} is neither a folder nor one of {', '.join(EMBEDDED)}; give the folder of a model"
    )


def check_base_folder(folder: Path) -> None:
    """Look over the files a student folder needs.

    Raises:
        CheckpointError: naming what is missing, or what would need foreign code.
    """
    groups = {
        "model configuration": ("config.json",),
        "weights": WEIGHT_FILES,
        "tokenizer": TOKENIZER_FILES,
        "processor": PROCESSOR_FILES,
    }
    for what, names in groups.items():
        if not any((folder / name).is_file() for name in names):
            hint = "; pickled weights are not read, convert them" if what == "weights" else ""
            raise CheckpointError(f"{folder} has no {what}: none of {', '.join(names)} is there{hint}")
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.json'} cannot be read: {error}") from error
    if "auto_map" in settings:
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


def read_contract(adapter: Path) -> Contract:
    """The contract of a trained arm, after every published file was compared with the manifest.

    Raises:
        CheckpointError: a file is missing, altered or unreadable.
    """
    if not adapter.is_dir():
        raise CheckpointError(f"there is no trained arm in {adapter}; run the train stage first")
    listed = {entry.name for entry in check_folder(adapter).files}
    if missing := [name for name in ADAPTER_FILES if name not in listed]:
        raise CheckpointError(f"the manifest of {adapter} does not list {missing[0]}; train this arm again")
    try:
        contract = Contract.model_validate_json((adapter / CONTRACT).read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"{adapter / CONTRACT}: {error.errors()[0]['msg']}") from None
    if contract.version != 1:
        raise CheckpointError(f"{adapter}: contract version {contract.version} is unknown here; known: 1")
    return contract


def check_contract(contract: Contract, student: Student, adapter: Path) -> None:
    """Compare what an adapter expects with what this student would show it.

    Raises:
        CheckpointError: the base weights or the prompts differ.
    """
    if contract.base_digest != student.base_digest:
        raise CheckpointError(
            f"{adapter} was trained on base {contract.base} ({contract.base_digest}), not on these weights "
            f"({student.base_digest}); give the base it was trained on"
        )
    now = student.renderer.template_hash()
    if contract.template_hash != now:
        raise CheckpointError(
            f"{adapter} learned prompts with template {contract.template_hash}, this tokenizer and template make "
            f"{now}; use the processor files it was trained with"
        )


def _with_adapter(model: Any, adapter: Path, *, merge: bool) -> Any:  # noqa: ANN401
    from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict

    adapted = attach(model, LoraConfig.from_pretrained(str(adapter)))
    state = load_file(adapter / WEIGHTS)
    wrong = sorted(state.keys() ^ get_peft_model_state_dict(adapted).keys())
    if wrong:
        raise CheckpointError(f"{adapter}: {len(wrong)} adapter tensors are missing or unexpected, first {wrong[0]}")
    set_peft_model_state_dict(adapted, state)
    return adapted.merge_and_unload() if merge else adapted


def _load_processor(folder: str) -> Any:  # noqa: ANN401
    try:
        return AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    except ImportError as error:
        raise CheckpointError(f"the processor of {folder} needs a package that is not installed: {error}") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"the processor of {folder} cannot be loaded: {error}") from error


def _load_model(folder: str, *, dtype: torch.dtype) -> Any:  # noqa: ANN401
    hf_logging.disable_progress_bar()
    try:
        AutoConfig.from_pretrained(folder, trust_remote_code=False)
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"the weights of {folder} cannot be loaded: {error}") from error
    model, info = loaded
    if info["missing_keys"] or info.get("mismatched_keys"):
        names = sorted(str(key) for key in [*info["missing_keys"], *info.get("mismatched_keys", [])])
        raise CheckpointError(f"the weights of {folder} lack {len(names)} tensors of the model, first {names[0]}")
    return model
