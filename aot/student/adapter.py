"""Publishes a trained adapter: tensors, adapter settings and contract first, then their manifest, then ARM_MARKER.

Every file appears by rename, and a reader trusts nothing that the manifest does not describe.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from safetensors.torch import load_file

from aot.errors import CheckpointError
from aot.runs import ARM_MARKER, publish
from aot.student.checkpoints import MANIFEST, FileEntry, Manifest, read_json
from aot.student.loading import ADAPTER_FILES, CONTRACT, SETTINGS, WEIGHTS, Contract


def publish_adapter(
    folder: Path, *, checkpoint: Path, memory: dict[str, torch.Tensor] | None, config: PeftConfig, contract: Contract
) -> None:
    """Publish the adapter of `checkpoint` in `folder` and mark the arm as done.

    Args:
        folder: folder of the arm.
        checkpoint: the intact checkpoint after the last step.
        memory: tensors to compare the published file with; None when memory holds only pieces of them.
        config: adapter settings.
        contract: what the adapter expects.

    Raises:
        CheckpointError: the file read back is not what memory holds.
    """
    settings = json.dumps(_plain_settings(config, base=contract.base), indent=1, sort_keys=True) + "\n"
    publish(folder / WEIGHTS, (checkpoint / WEIGHTS).read_bytes())
    publish(folder / SETTINGS, settings)
    publish(folder / CONTRACT, contract.model_dump_json(indent=1) + "\n")
    _compare(folder / WEIGHTS, memory)
    files = tuple(_entry(folder / name) for name in ADAPTER_FILES)
    manifest = Manifest(step=_step(checkpoint), files=files)
    publish(folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
    publish(folder / ARM_MARKER, json.dumps({"config_digest": contract.config_digest, "arm": contract.arm}) + "\n")


def is_done(folder: Path, *, config_digest: str) -> bool:
    """Whether this arm was trained to the end under this config.

    Raises:
        CheckpointError: it was trained under another one.
    """
    if not (folder / ARM_MARKER).exists():
        return False
    found = read_json(folder / ARM_MARKER).get("config_digest")
    if found != config_digest:
        raise CheckpointError(
            f"{folder} was trained with config {found}, this one is {config_digest}; use another run.dir"
        )
    return True


def _compare(path: Path, memory: dict[str, torch.Tensor] | None) -> None:
    stored = load_file(path)
    broken = [key for key, value in stored.items() if value.numel() == 0 or not torch.isfinite(value).all()]
    if memory is not None:
        broken += sorted(stored.keys() ^ memory.keys())
        broken += [key for key in stored.keys() & memory.keys() if not torch.equal(stored[key], memory[key])]
    if broken or not stored:
        raise CheckpointError(f"{path}: {len(broken)} tensors are not those in memory, first {broken[:1]}; save again")


def _plain_settings(config: PeftConfig, *, base: str) -> dict[str, Any]:
    """Adapter settings as JSON values in a stable order, naming the base as the run config does."""
    settings = {**config.to_dict(), "base_model_name_or_path": base, "inference_mode": True}
    return {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}


def _entry(path: Path) -> FileEntry:
    data = path.read_bytes()
    return FileEntry(name=path.name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
