"""Options of a training that come from packages of their own or make it faster: what they need, and a proof of each.

Kernels may change how a loss is calculated and never what it is. So each is tried on the first lessons before the first
step, and one that gives another loss than the plain calculation ends the training.
"""

import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from aot.config import StudentConfig, TrainConfig
from aot.errors import EXTRA_OF_PACKAGE, ConfigError, install_command
from aot.student.model.lora import decoder_layers
from aot.student.rows.collate import Collator
from aot.student.train.loss import batch_loss, take_out
from aot.student.train.session import Session

log = logging.getLogger(__name__)

PROBED = 2
"""Questions that an option is tried on."""
TOLERANCE, TOLERANCE_BF16 = 1e-4, 2e-2
"""How far the loss with an option may be from that without it, as a share of it; bfloat16 has three digits."""
ATTENTION = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
PACKAGES = {"flash_attn": "flash-attn", "flash_attn_interface": "flash-attn-3", "liger_kernel": "liger-kernel"}
"""Names under which packages are installed, where they are others than those of their modules."""
COMPILER = "inductor"
LIGER = {"rope": True, "rms_norm": True, "swiglu": True, "cross_entropy": False, "fused_linear_cross_entropy": False}
"""Its losses would never be called: ours needs logits, and makes them of supervised tokens only."""


def require_options(student: StudentConfig, train: TrainConfig) -> None:
    """Look whether the packages of all options are installed; imports none of them.

    Raises:
        ConfigError: one is missing, or is for GPUs and the CPU is asked for; or one process is to share its model.
    """
    if train.sharding == "fsdp2" and train.procs * train.nodes == 1:
        raise ConfigError(
            "train.sharding: fsdp2 spreads a model over processes, and there is one; use train.procs=2 or more, or "
            "take it out"
        )
    if train.sharding == "zero" and train.zero_stage:
        _require(f"train.zero_stage: {train.zero_stage}", ("deepspeed",))
    kernels: dict[str, tuple[str, ...]] = {}
    if student.attention in ATTENTION:
        kernels[f"student.attention: {student.attention}"] = (ATTENTION[student.attention],)
    if train.liger:
        kernels["train.liger: true"] = ("liger_kernel", "triton")
    for setting, names in kernels.items():
        _require(setting, names)
        if student.device == "cpu":
            raise ConfigError(f"{setting} is for GPUs, and student.device is cpu; take one of them out")
    for tracker in train.trackers:
        _require(f"train.trackers: {tracker}", (tracker,))


def _require(setting: str, names: tuple[str, ...]) -> None:
    missing = next((name for name in names if importlib.util.find_spec(name) is None), None)
    if missing:
        package, extra = PACKAGES.get(missing, missing), EXTRA_OF_PACKAGE.get(missing)
        command = install_command(extra) if extra else f"pip install {package}"
        raise ConfigError(
            f"{setting} needs the package {package}, which is not installed; {command}, or take the setting out"
        )


def take_options(session: Session, collator: Collator) -> None:
    """Switch on what the config asks for, one option after the other, and compare the loss before and after each.

    Raises:
        ConfigError: an option is not to be had here, or changes the loss.
    """
    options = list(_options(session))
    if not options:  # the plain calculation needs no proof, and a pass over it would be paid at every start
        return
    wanted = probe_loss(session, collator)
    bf16 = session.student.model.dtype == torch.bfloat16 or session.trainer_args.bf16
    bound = (TOLERANCE_BF16 if bf16 else TOLERANCE) * max(1.0, abs(wanted))
    for setting, switch_on in options:
        try:
            switch_on()
            got = probe_loss(session, collator)
        except ConfigError:
            raise
        except Exception as error:  # whatever kernels, compilers and their packages throw
            words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise ConfigError(f"{setting} fails on the first lessons ({words}); take it out") from error
        if not abs(got - wanted) <= bound:
            raise ConfigError(
                f"{setting} changes the loss of the first lessons from {wanted:.6f} to {got:.6f}, and at most "
                f"{bound:.6f} would be rounding; take it out"
            )
        log.info("%s: %s keeps the loss of the first lessons: %.6f, %.6f", session.arm.name, setting, wanted, got)


def _options(session: Session) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each setting that asks for something, and what switches it on; the compiler last, as it compiles the others."""
    attention, model, device = session.config.student.attention, session.student.model, session.student.device
    if attention != "sdpa":
        yield f"student.attention: {attention}", lambda: model.set_attn_implementation(attention)
    if session.train.liger:
        if device.type != "cuda":
            raise ConfigError("train.liger: true is for GPUs, and torch sees none here; take it out")
        yield "train.liger: true", lambda: _use_liger(model)
    if session.train.compile:
        yield "train.compile: true", lambda: _compile_layers(model)


def _use_liger(model: Any) -> None:  # noqa: ANN401
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN
    from transformers.integrations.liger import apply_liger_kernel

    if model.config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:  # which that passes over without a word
        raise ConfigError(f"train.liger: true has no kernels for model type {model.config.model_type}; take it out")
    apply_liger_kernel(model, LIGER)


def _compile_layers(model: Any) -> None:  # noqa: ANN401
    """In place and layer by layer: names of weights stay, and layers that are alike are compiled once."""
    for layer in decoder_layers(model):
        layer.compile(backend=COMPILER, dynamic=True)


def probe_loss(session: Session, collator: Collator) -> float:
    """The loss of the first questions of the training, without dropout and with all that is switched on now."""
    # The very lessons of the first step: their lengths and pictures are those that the kernels will meet.
    schedule, model, device = session.schedule(), session.adapted.model, session.student.device
    batch = collator([schedule[number] for number in range(min(PROBED, len(schedule)))])
    _, counts = take_out(batch, vision=session.vision)
    inputs = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}
    for key, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and key.startswith("pixel_values"):
            inputs[key] = value.to(session.student.model.dtype)
    was_training = model.training
    model.eval()
    with (
        torch.no_grad(),
        _whole_weights(model, zero_stage=session.train.zero_stage),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=session.trainer_args.bf16),
    ):
        loss, _ = batch_loss(
            model, inputs, num_supervised=counts.to(device), rationale_weight=session.arm.rationale_weight
        )
    model.train(was_training)
    return float(loss.total)


def _whole_weights(model: torch.nn.Module, *, zero_stage: int) -> Any:  # noqa: ANN401
    """ZeRO-3 has cut them up when the model was loaded, and puts them together by itself only once training begins."""
    if zero_stage < 3:
        return nullcontext()
    from deepspeed.zero import GatheredParameters

    return GatheredParameters(list(model.parameters()))


@contextmanager
def tracking(trackers: tuple[str, ...], folder: Path) -> Iterator[None]:
    """While this is open trackers write into `folder`, and wandb sends nothing unless the environment has it so."""
    there: dict[str, dict[str, object]] = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": folder / "tensorboard"},
        "wandb": {"WANDB_MODE": "offline", "WANDB_DIR": folder, "WANDB_PROJECT": "aot", "WANDB_SILENT": "true"},
        "trackio": {"TRACKIO_DIR": folder / "trackio"},
        "mlflow": {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", "MLFLOW_EXPERIMENT_NAME": "aot"},
    }
    settings = {key: str(value) for name in trackers for key, value in there[name].items() if key not in os.environ}
    if trackers:
        folder.mkdir(parents=True, exist_ok=True)
    before = tuple(os.environ)
    os.environ |= settings
    try:
        yield
    finally:
        for name, end in (("wandb", "finish"), ("mlflow", "end_run")):  # or the next arm would go on in this one's
            if name in trackers and name in sys.modules:
                getattr(sys.modules[name], end)()
        for key in (*settings, *({"MLFLOW_EXPERIMENT_ID"} - set(before))):  # which mlflow notes there itself
            os.environ.pop(key, None)
