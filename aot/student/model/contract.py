"""What a trained arm expects of whoever loads it, and the files it is made of; loads no model.

An arm is an adapter, or after full fine-tuning all the weights; the manifest beside the files tells which.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from aot.errors import CheckpointError
from aot.files.run_folder import CONTRACT
from aot.records import JsonDict, Record
from aot.student.model.folders import ADAPTER_CONFIG, CONFIG
from aot.student.rows.talks import talk_hash
from aot.student.rows.tokens import Renderer
from aot.student.train.checkpoints import check_folder, read_manifest

WEIGHTS = {"lora": "adapter_model.safetensors", "full": "model.safetensors"}
SETTINGS = {"lora": ADAPTER_CONFIG, "full": CONFIG}
"""By tuning: what says how the weights are used."""
Tuning = Literal["lora", "full"]


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
    frame_view: Literal["saved", "whole"] = Field(default="saved", exclude_if=lambda view: view == "saved")
    """How frames were shown to it; later students see them so too. Written where it is not the usual way only."""
    template_date: str = ""
    """The day that the chat template was told, where it writes one; later students are told the same."""
    tools: tuple[JsonDict, ...] = Field(default=(), exclude_if=lambda tools: not tools)
    """What it learned to call, in OpenAI's form; a template that has a place for tools tells it of them."""
    talk_hash: str = Field(default="", exclude_if=lambda made: not made)
    """Over what shapes its talks with tools (rows.talks); empty where it calls none."""


def arm_files(tuning: Tuning) -> tuple[str, ...]:
    """Names of the files of a trained arm, in the order in which they are published."""
    return WEIGHTS[tuning], SETTINGS[tuning], CONTRACT


def tuning_of(adapter: Path) -> Tuning:
    """How the published arm in this folder was trained.

    Raises:
        CheckpointError: its manifest is missing or unreadable.
    """
    listed = {entry.name for entry in read_manifest(adapter).files}
    return "full" if WEIGHTS["full"] in listed else "lora"


def read_contract(adapter: Path) -> Contract:
    """The contract of a trained arm, after every published file was compared with the manifest.

    Raises:
        CheckpointError: a file is missing, altered or unreadable.
    """
    if not adapter.is_dir():
        raise CheckpointError(f"there is no trained arm in {adapter}; run the train stage first")
    listed = {entry.name for entry in check_folder(adapter).files}
    if missing := [name for name in arm_files(tuning_of(adapter)) if name not in listed]:
        raise CheckpointError(f"the manifest of {adapter} does not list {missing[0]}; train this arm again")
    try:
        contract = Contract.model_validate_json((adapter / CONTRACT).read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"{adapter / CONTRACT}: {error.errors()[0]['msg']}") from None
    if contract.version != 1:
        raise CheckpointError(f"{adapter}: contract version {contract.version} is unknown here; known: 1")
    return contract


def check_contract(contract: Contract, *, base_digest: str, renderer: Renderer, adapter: Path) -> None:
    """Compare what the arm in `adapter` expects with a base and what a renderer would show it.

    Raises:
        CheckpointError: the base weights or the prompts differ.
    """
    if contract.base_digest != base_digest:
        raise CheckpointError(
            f"{adapter} was trained on base {contract.base} ({contract.base_digest}), not on these weights "
            f"({base_digest}); give the base it was trained on"
        )
    now = renderer.template_hash()
    if contract.template_hash != now:
        raise CheckpointError(
            f"{adapter} learned prompts with template {contract.template_hash}, this tokenizer and template make "
            f"{now}; use the processor files it was trained with"
        )
    if contract.talk_hash and contract.talk_hash != (now := talk_hash(renderer)):
        raise CheckpointError(
            f"{adapter} learned talks with tools of template {contract.talk_hash}, this tokenizer and template make "
            f"{now}; use the processor files it was trained with"
        )
