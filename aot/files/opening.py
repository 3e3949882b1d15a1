"""Opens a run folder for a config: papers are written before any work, and other settings than before are refused."""

import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from aot.config import RunConfig, chat_settings, differing_keys, dump_config, load_saved, may_change
from aot.errors import RunError
from aot.files.disk import first_file
from aot.files.run_folder import (
    RunFolder,
    publish,
    publish_json,
    read_run_json,
    row_files,
    run_root,
    stage_done,
    write_error,
)

log = logging.getLogger(__name__)


def open_run(config: RunConfig, *, config_path: Path, command: list[str]) -> RunFolder:
    """The run folder of `config`: made if needed, resolved config and provenance saved before any work.

    A folder in which no stage has left a file yet, because the first attempt failed, takes a corrected config.

    Raises:
        RunError: the folder cannot be written, or was made with other settings (they are named).
    """
    run = RunFolder(run_root(config, config_path=config_path))
    different = changed_settings(run, config)
    mended = bool(different) and not _is_unused(run)
    if mended:
        changes = ", ".join(f"{key} from {was!r} to {now!r}" for key, (was, now) in different.items())
        log.info("from here on with other chat settings (%s); earlier rows stay as they are", changes)
    if different or not run.config.exists():
        publish(run.config, dump_config(config))
    old = read_run_json(run) if run.run_json.exists() else {}
    # Provenance is absent where a kill came between the two files.
    renewed = (different and not mended) or "revision" not in old
    facts: dict[str, Any] = {"config_digest": config.digest()}
    if renewed:
        facts = {**provenance(config), "command": command}
    if settings := chat_settings(config):
        facts["chat_settings"] = {**old.get("chat_settings", {}), config.digest(): settings}
    commands = [*old.get("commands", []), command][-50:]
    publish_json(run.run_json, {**old, **facts, "commands": commands, "stages": old.get("stages", {})})
    return run


def claim_run(config: RunConfig, *, config_path: Path) -> RunFolder:
    """The run folder that shards of prepare open beside each other: the first one saves the config, once and for all.

    What else is noted of a run is written by the command that puts the shards together.

    Raises:
        RunError: the folder cannot be written, or was made with other settings (they are named).
    """
    run = RunFolder(run_root(config, config_path=config_path))
    whole = config.model_copy(update={"run": config.run.model_copy(update={"shard": None})})
    try:
        run.root.mkdir(parents=True, exist_ok=True)
        first_file(run.config, dump_config(whole).encode())
    except OSError as error:
        raise write_error(run.config, error) from error
    # A folder in which nothing was done yet takes other settings, but not while shards of it begin.
    mending = "use the same ones for every shard, give another folder with run.dir=, or delete that one"
    if different := changed_settings(run, config, mending=mending):
        raise _other_settings(run, different, mending)
    return run


def changed_settings(
    run: RunFolder, config: RunConfig, *, mending: str = "give another folder with run.dir=, or delete that one"
) -> dict[str, tuple[Any, Any]]:
    """Result-changing settings that differ from those of the folder and may: key to (old, new).

    A folder without a stage takes any; after that those of chat models may be mended until their work is done.

    Raises:
        RunError: others differ from those that some stage worked with.
    """
    different = differing_keys(load_saved(run.config), config) if run.config.exists() else {}
    if different and not _is_unused(run) and (fixed := _fixed_settings(run, config, different)):
        raise _other_settings(run, fixed, mending)
    return different


def _other_settings(run: RunFolder, different: Mapping[str, tuple[Any, Any]], mending: str) -> RunError:
    changes = "; ".join(f"{key}: {old!r} there, {new!r} now" for key, (old, new) in different.items())
    return RunError(f"{run.root} was made with other settings ({changes}); {mending}")


def _fixed_settings(
    run: RunFolder, config: RunConfig, different: Mapping[str, tuple[Any, Any]]
) -> dict[str, tuple[Any, Any]]:
    """Those of `different` that a folder with finished stages does not take any more."""
    stages = read_run_json(run)["stages"] if run.run_json.exists() else {}
    generated, filtered = (name in stages and stage_done(run, name) for name in ("generate", "filter"))
    any_row = any(part.stat().st_size for folder in (run.traces, run.chat_replies) for part in row_files(folder))
    return {
        key: pair
        for key, pair in different.items()
        if not may_change(key, config, generated=generated, filtered=filtered, any_row=any_row)
    }


ARITHMETIC = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA")
"""Environment variables by which torch's libraries choose code paths, and with them the last digits of a result."""


def provenance(config: RunConfig) -> dict[str, Any]:
    """What must be known to repeat a run: revision, versions, seed, hardware and how it is told to calculate."""
    models = ("torch", "transformers", "peft", "accelerate", "deepspeed")
    names = (*models, "av", "opencv-python-headless", "pillow", "numpy", "pydantic")
    return {
        "project": "aot-distill",
        "revision": git_revision(),
        "config_digest": config.digest(),
        "seed": config.seed,
        "python": sys.version.split()[0],
        "versions": {name: version for name in names if (version := _version(name))},
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
        "arithmetic": {name: os.environ[name] for name in ARITHMETIC if name in os.environ},
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _is_unused(run: RunFolder) -> bool:
    """Whether the folder holds no file but its own papers."""
    papers = {run.config, run.run_json, run.log, run.lease}
    return all(path in papers or path.is_dir() or path.suffix in (".tmp", ".lease") for path in run.root.rglob("*"))


def git_revision() -> str:
    """The commit of the checkout this code lies in, or `unknown` where it is none."""
    try:
        here = Path(__file__).parent
        done = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
