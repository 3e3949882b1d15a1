"""All that leans on private parts of transformers: methods of its Trainer, and how its models call their vision tower.

A release of transformers may move any of this without a word. A test compares `moved_signatures` with nothing, so that
an upgrade fails there, by name, and not in the middle of a training.
"""

import inspect
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from aot.student.rows.collate import ClipPlan

SIGNATURES = {
    "_get_num_items_in_batch": ("self", "batch_samples", "device"),
    "_clip_grad_norm": ("self", "model"),
    "_get_grad_norm": ("self", "model", "grad_norm"),
    "_get_train_sampler": ("self", "train_dataset"),
    "_save_checkpoint": ("self", "model", "trial"),
    "_load_from_checkpoint": ("self", "resume_from_checkpoint", "model"),
}
"""Private methods of Trainer that are overridden here, each with the parameters it is called with."""


def moved_signatures(trainer: type[Trainer] = Trainer) -> list[str]:
    """A sentence for each overridden method that the Trainer of this transformers has no more, or calls differently."""
    sentences = []
    for name, wanted in SIGNATURES.items():
        method = getattr(trainer, name, None)
        have = tuple(inspect.signature(method).parameters) if method else None
        if have != wanted:
            state = f"takes ({', '.join(have)})" if have else "is gone"
            sentences.append(f"Trainer.{name} {state}, but ({', '.join(wanted)}) is overridden; see what replaced it")
    return sentences


class HookedTrainer(Trainer):
    """A Trainer that tells its subclass, by methods with names of ours, when something private happens."""

    loss_is_scaled_for_ga = True

    def count_supervised(self, batches: list[dict[str, Any]], device: torch.device) -> torch.Tensor:
        """What the loss of an accumulated batch is divided by."""
        raise NotImplementedError

    def before_clipping(self) -> None:
        """Gradients are whole, and not clipped yet."""
        raise NotImplementedError

    def before_step(self, grad_norm: float) -> None:
        """The norm is known, and the optimiser has not moved."""
        raise NotImplementedError

    def checkpoint_written(self, folder: Path) -> None:
        """The Trainer has left all its files in `folder`."""
        raise NotImplementedError

    def load_weights(self, folder: Path) -> bool:
        """Take up the weights of a checkpoint; False leaves that to the Trainer."""
        raise NotImplementedError

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, Any]], device: torch.device) -> torch.Tensor | None:
        return self.count_supervised(batch_samples, device) if batch_samples else None

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:  # noqa: ANN401
        self.before_clipping()
        return super()._clip_grad_norm(model)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> float:  # noqa: ANN401
        norm = float(super()._get_grad_norm(model, grad_norm=grad_norm))
        self.before_step(norm)
        return norm

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int]:
        # The data set is in its order already: item i depends on (seed, i) only, which a shuffle here would undo.
        return SequentialSampler(train_dataset or self.train_dataset)  # type: ignore[arg-type]

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:  # noqa: ANN401
        super()._save_checkpoint(model, trial)
        self.checkpoint_written(Path(str(self.args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if not self.load_weights(Path(resume_from_checkpoint)):
            super()._load_from_checkpoint(resume_from_checkpoint, model)


class SharedVision:
    """Stands in for `get_image_features` of a model that is trained, so that its tower sees each clip once.

    However many rows show a clip, and without autograd if the tower is frozen. Works on any model whose forward calls
    `get_image_features` and scatters the result over the image placeholders of all rows in order, which is how these
    models are written; it changes no numbers.
    """

    def __init__(self, model: Any, *, frozen: bool = True) -> None:  # noqa: ANN401 - a PreTrainedModel
        owner = model.base_model if hasattr(model.base_model, "get_image_features") else model
        self._original = owner.get_image_features
        self.frozen = frozen
        """Whether the tower runs without autograd."""
        self.plan: ClipPlan | None = None
        """Which features each row takes; None hands them on as they come."""
        owner.get_image_features = self._features

    def _features(self, pixel_values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if self.plan is not None and self.plan.grids_thw is not None:
            args, kwargs = (), {**kwargs, "image_grid_thw": self.plan.grids_thw.to(pixel_values.device)}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            output = self._original(pixel_values, *args, **kwargs)
        if self.plan is not None:
            output.pooler_output = [_select(output.pooler_output, self.plan)]
            if getattr(output, "deepstack_features", None) is not None:
                output.deepstack_features = [[_select(level, self.plan)] for level in output.deepstack_features]
        return output


class FrameFeatures:
    """What the vision tower of a model makes of frames, made once for each and handed to the model when it reads them.

    Works like SharedVision. Where a model has no `get_image_features` that takes the pixels of one frame, nothing is
    kept and the model looks at its frames itself.
    """

    def __init__(self, model: Any, *, max_frames: int, dim: int = 0) -> None:  # noqa: ANN401 - a PreTrainedModel
        """Takes a model; `dim` is that along which its pixel tensors count images."""
        has_own = hasattr(model.base_model, "get_image_features")
        self._owner = model.base_model if has_own else model
        self._max_frames, self._dim = max_frames, dim
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()

    def has(self, key: Hashable) -> bool:
        """Whether the tower need not look at this frame again."""
        return key in self._kept

    def clear(self) -> None:
        """Let go of all of them."""
        self._kept.clear()

    @contextmanager
    def shown(
        self, frames: Sequence[tuple[Hashable, dict[str, torch.Tensor]]], *, device: torch.device
    ) -> Iterator[None]:
        """While this is open the model, which reads these frames by key and pixels, takes what was kept of them."""
        original = getattr(self._owner, "get_image_features", None)
        taken = frozenset(inspect.signature(original).parameters) if original else frozenset()
        if not frames or original is None or any(set(pixels) - taken for _, pixels in frames):
            yield
            return
        if new := {key: pixels for key, pixels in frames if key not in self._kept}:
            pixels = {
                name: torch.cat([one[name] for one in new.values()], dim=self._dim).to(device)
                for name in next(iter(new.values()))
            }
            pixels["pixel_values"] = pixels["pixel_values"].to(self._owner.dtype)
            self._kept.update(zip(new, _each(original(**pixels, return_dict=True), len(new)), strict=True))
        for key, _ in frames:
            self._kept.move_to_end(key)
        whole = _joined([self._kept[key] for key, _ in frames])
        while len(self._kept) > self._max_frames:
            self._kept.popitem(last=False)
        replaced = vars(self._owner).get("get_image_features")
        self._owner.get_image_features = lambda *args, **kwargs: whole
        try:
            yield
        finally:
            del self._owner.get_image_features  # the method of its class shows again
            if replaced is not None:
                self._owner.get_image_features = replaced


def _each(output: Any, count: int) -> list[Any]:  # noqa: ANN401 - a ModelOutput
    """Of each of so many frames of one size the parts that are read, as [tokens, width]."""
    pooled = _flat(output.pooler_output).chunk(count)
    levels = getattr(output, "deepstack_features", None)
    if levels is None:
        return [type(output)(pooler_output=[one.clone()]) for one in pooled]
    split = [_flat(level).chunk(count) for level in levels]
    return [
        type(output)(pooler_output=[one.clone()], deepstack_features=[[level[i].clone()] for level in split])
        for i, one in enumerate(pooled)
    ]


def _joined(outputs: Sequence[Any]) -> Any:  # noqa: ANN401
    """One output for the frames of several."""
    parts: dict[str, Any] = {"pooler_output": [torch.cat([one.pooler_output[0] for one in outputs])]}
    if getattr(outputs[0], "deepstack_features", None) is not None:
        levels = zip(*(one.deepstack_features for one in outputs), strict=True)
        parts["deepstack_features"] = [[torch.cat([one[0] for one in level])] for level in levels]
    return type(outputs[0])(**parts)


def _flat(features: Any) -> torch.Tensor:  # noqa: ANN401 - a tensor, or a list of them
    whole = features if isinstance(features, torch.Tensor) else torch.cat([one.flatten(0, -2) for one in features])
    return whole.flatten(0, -2)


def _select(features: Any, plan: ClipPlan) -> torch.Tensor:  # noqa: ANN401 - a tensor, or a list of them
    """[tokens of all rows, width] from features of each clip."""
    clips = _flat(features).split(list(plan.tokens_per_clip))
    return torch.cat([clips[clip] for clip in plan.clip_of_row])
