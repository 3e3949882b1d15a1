"""How models call their vision tower, and what may stand in for it: shared, remembered or measured.

A release of transformers may change that without a word; the tests of prefixes and of trainings would tell.
"""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from aot.student.rows.collate import ClipPlan
from aot.student.rows.frames import Tensors


def vision_owner(model: Any) -> Any:  # noqa: ANN401 - a PreTrainedModel
    """The part of a model whose `get_image_features` its forward calls, where it has one of that name."""
    return model.base_model if hasattr(model.base_model, "get_image_features") else model


@contextmanager
def features_from(owner: Any, make: Callable[..., Any]) -> Iterator[None]:  # noqa: ANN401 - a part of a PreTrainedModel
    """While this is open the model takes what `make` gives for what its vision tower makes of images."""
    replaced = vars(owner).get("get_image_features")
    owner.get_image_features = make
    try:
        yield
    finally:
        del owner.get_image_features  # the method of its class shows again
        if replaced is not None:
            owner.get_image_features = replaced


class SharedVision:
    """Stands in for `get_image_features` of a model that is trained, so that its tower sees each clip once.

    However many rows show a clip, and without autograd if the tower is frozen. Works on any model whose forward calls
    `get_image_features` and scatters the result over the image placeholders of all rows in order, which is how these
    models are written; it changes no numbers.
    """

    def __init__(self, model: Any, *, frozen: bool = True) -> None:  # noqa: ANN401 - a PreTrainedModel
        owner = vision_owner(model)
        self._original = owner.get_image_features
        self._taken = frozenset(inspect.signature(self._original).parameters)
        self._width = int(model.config.get_text_config().hidden_size)
        self.frozen = frozen
        """Whether the tower runs without autograd."""
        self.plan: ClipPlan | None = None
        """Which features each row takes; None hands them on as they come."""
        owner.get_image_features = self._features

    @torch.no_grad()
    def look(self, shown: Tensors, *, count: int) -> torch.Tensor:
        """What the tower makes of so many frames of one size: [frames, tokens, width], its levels side by side."""
        output = self._original(**{key: value for key, value in shown.items() if key in self._taken}, return_dict=True)
        levels = [output.pooler_output, *(getattr(output, "deepstack_features", None) or ())]
        return torch.cat([_flat(level) for level in levels], dim=-1).unflatten(0, (count, -1))

    def _features(self, pixel_values: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if self.plan is not None and self.plan.made:
            output = self._made_before(pixel_values)
        else:
            if self.plan is not None and self.plan.grids_thw is not None:
                args, kwargs = (), {**kwargs, "image_grid_thw": self.plan.grids_thw.to(pixel_values.device)}
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                output = self._original(pixel_values, *args, **kwargs)
        if self.plan is not None:
            output.pooler_output = [_select(output.pooler_output, self.plan)]
            if getattr(output, "deepstack_features", None) is not None:
                output.deepstack_features = [[_select(level, self.plan)] for level in output.deepstack_features]
        return output

    def _made_before(self, features: torch.Tensor) -> Any:  # noqa: ANN401 - a ModelOutput
        """What the tower would give, from what `look` gave for each frame [tokens, width of all levels]."""
        pooled, *levels = features.split(self._width, dim=-1)
        output: Any = BaseModelOutputWithPooling(pooler_output=pooled)
        if levels:
            output.deepstack_features = levels
        return output


class FrameFeatures:
    """What the vision tower of a model makes of frames, made once for each and handed to the model when it reads them.

    Works like SharedVision. Where a model has no `get_image_features` that takes the pixels of one frame, nothing is
    kept and the model looks at its frames itself.
    """

    def __init__(self, model: Any, *, max_frames: int, dim: int = 0) -> None:  # noqa: ANN401 - a PreTrainedModel
        """Takes a model; `dim` is that along which its pixel tensors count images."""
        self._owner = vision_owner(model)
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
        with features_from(self._owner, lambda *args, **kwargs: whole):
            yield


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
