"""Runs the vision tower once for each clip, however many rows show that clip, and without autograd if frozen.

Works on any transformers model whose forward calls `get_image_features` and scatters the result over the image
placeholders of all rows in order, which is how these models are written; it changes no numbers.
"""

from typing import Any

import torch

from aot.student.rows.collate import ClipPlan


class SharedVision:
    """Stands in for `get_image_features` of one model while that model is trained."""

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


def _select(features: Any, plan: ClipPlan) -> torch.Tensor:  # noqa: ANN401 - a tensor, or a list of them
    """[tokens of all rows, width] from features of each clip."""
    whole = features if isinstance(features, torch.Tensor) else torch.cat([f.flatten(0, -2) for f in features])
    clips = whole.flatten(0, -2).split(list(plan.tokens_per_clip))
    return torch.cat([clips[clip] for clip in plan.clip_of_row])
