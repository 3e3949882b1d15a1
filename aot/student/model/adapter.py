"""Publishes a trained arm: tensors, their settings and the contract first, then their manifest, then ARM_MARKER.

Every file appears by rename, and a reader trusts nothing that the manifest does not describe.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig

from aot.errors import CheckpointError
from aot.files.run_folder import ARM_MARKER, CONTRACT, MANIFEST, publish, publishing
from aot.student.model.contract import SETTINGS, WEIGHTS, Contract, Tuning, arm_files
from aot.student.model.loading import stored_state
from aot.student.train.checkpoints import Manifest, file_entry, read_json


def publish_arm(
    folder: Path,
    *,
    checkpoint: Path,
    memory: dict[str, torch.Tensor] | None,
    adapter_config: PeftConfig | None,
    contract: Contract,
) -> None:
    """Publish what `checkpoint` holds in `folder` and mark the arm as done.

    Args:
        folder: folder of the arm.
        checkpoint: the intact checkpoint after the last step.
        memory: tensors to compare the published file with; None when memory holds only pieces of them.
        adapter_config: adapter settings; None after full fine-tuning, when the checkpoint holds the model's own.
        contract: what the arm expects.

    Raises:
        CheckpointError: the file read back is not what memory holds.
    """
    tuning: Tuning = "lora" if adapter_config else "full"
    _copy(checkpoint / WEIGHTS[tuning], folder / WEIGHTS[tuning])
    if adapter_config:
        settings = json.dumps(_plain_settings(adapter_config, base=contract.base), indent=1, sort_keys=True) + "\n"
        publish(folder / SETTINGS[tuning], settings)
    else:
        _copy(checkpoint / SETTINGS[tuning], folder / SETTINGS[tuning])
    publish(folder / CONTRACT, contract.model_dump_json(indent=1) + "\n")
    stored = stored_state(folder, tuning=tuning, whole=memory is not None)
    if not stored or (wrong := wrong_tensors(stored, memory)):
        problem = f"{len(wrong)} tensors are not those in memory, first {wrong[0]}" if stored else "it holds no tensor"
        raise CheckpointError(f"{folder / WEIGHTS[tuning]}: {problem}; save again")
    files = tuple(file_entry(folder / name, folder=folder) for name in arm_files(tuning))
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
    stored_digest = read_json(folder / ARM_MARKER).get("config_digest")
    if stored_digest != config_digest:
        raise CheckpointError(
            f"{folder} was trained with config {stored_digest}, this one is {config_digest}; use another run.dir"
        )
    return True


def wrong_tensors(stored: dict[str, torch.Tensor], memory: dict[str, torch.Tensor] | None) -> list[str]:
    """Names of the tensors that are not as in memory, or hold nothing, or something that is no number.

    Args:
        stored: what a reader gets, see loading.stored_state.
        memory: what it should be; None where memory holds only pieces of it.
    """
    wrong = [key for key, value in stored.items() if value.numel() == 0 or not torch.isfinite(value).all()]
    if memory is not None:
        wrong += sorted(stored.keys() ^ memory.keys())
        wrong += [key for key, value in memory.items() if key in stored and not torch.equal(stored[key], value.cpu())]
    return wrong


def _plain_settings(config: PeftConfig, *, base: str) -> dict[str, Any]:
    """Adapter settings as JSON values in a stable order, naming the base as the run config does."""
    settings = {**config.to_dict(), "base_model_name_or_path": base, "inference_mode": True}
    return {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as there, publishing(target) as here:
        shutil.copyfileobj(there, here)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
