"""Tool `find_moments` through a model that compares frames with words (SigLIP, CLIP): any event that can be described.

A model of this kind says which frames fit the words better, not whether any fits. Frames are split where their scores
part best (Otsu's threshold, https://doi.org/10.1109/TSMC.1979.4310076). A stretch in which all frames fit about equally
well is a failed call and not one without moments: the event may fill it, or be absent.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from aot.config import HfConfig
from aot.display import counted
from aot.errors import ToolError
from aot.records import TimeSpan
from aot.teacher.tools.base import Moment, Tool, ToolContext, clamp_window, rounded_s
from aot.teacher.tools.models.zero_shot import (
    ZeroShot,
    clean_name,
    image_batches,
    open_model,
    settings_digest,
)
from aot.teacher.tools.pixels.steps import EventArguments, FindMomentsResult

Floats = npt.NDArray[np.float64]
PROMPT = "This is a photo of {}."
"""What these models were trained on captions like; the zero-shot pipelines of transformers ask so, too."""
MIN_FRAMES = 3
MIN_CONTRAST = 0.02
"""Cosine by which fitting frames must be nearer to the words than the others, on average."""
MAX_MOMENTS = 8
"""Of more, the best are kept."""


class HfEventArguments(EventArguments):
    """An event to look for in a stretch, in any words."""

    event: str = Field(min_length=1, description="What to look for, in a few words, such as `a hand flips a pancake`.")


def hf_moments(config: HfConfig) -> Tool[HfEventArguments, FindMomentsResult]:
    """The tool over the model that the config names.

    Raises:
        ConfigError: none is named, or it cannot be used.
    """
    model = open_model("similarity", config)

    def run(arguments: HfEventArguments, context: ToolContext) -> FindMomentsResult:
        event, clip = clean_name(arguments.event), context.clip
        span = clamp_window(arguments.start_s, arguments.end_s, clip)
        positions = clip.positions(span, most=config.max_frames)
        if len(positions) < MIN_FRAMES:
            raise ToolError(
                f"only {counted(len(positions), 'frame')} to compare; ask for a stretch of {MIN_FRAMES} or more"
            )
        text = PROMPT.format(event.casefold())
        scores: list[float] = []
        for images in image_batches(clip, positions, size=config.batch_frames):
            scores += similarities(model, images, text=text)
        if not np.isfinite(scores).all():
            raise ToolError(f"{model.name} gave scores that are no numbers; try other weights or teacher.hf.device=cpu")
        times_s = [clip.times_s[position] for position in positions]
        moments = [one for one in moments_of(np.array(scores), times_s, span) if one.score >= arguments.min_score]
        if not moments:
            raise ToolError(
                f"no frame of {span.start_s:.1f}-{span.end_s:.1f} s fits {event!r} better than the others, which does "
                "not tell whether it happens; ask for a longer stretch, or another tool"
            )
        return FindMomentsResult(event=event, moments=tuple(moments))

    return Tool(
        name="find_moments",
        version="hf-2",
        description=f"Find when something happens, described in any words, in up to {config.max_frames} frames between "
        "start_s and end_s; scores compare with the best frame of the stretch.",
        Arguments=HfEventArguments,
        Result=FindMomentsResult,
        run=run,
        source="models",
        digest=settings_digest(model, config),
        max_frames=config.max_frames,
    )


def similarities(model: ZeroShot, images: Sequence[Any], *, text: str) -> list[float]:
    """Cosine between each image and the text."""

    def work(loaded: Any, processor: Any) -> list[float]:  # noqa: ANN401
        length = loaded.config.text_config.max_position_embeddings
        tokens = processor.tokenizer(
            [text], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        tokens.pop("token_type_ids", None)
        pixels = processor.image_processor(list(images), return_tensors="pt")
        text_D = loaded.get_text_features(**tokens.to(loaded.device)).pooler_output[0]
        images_TD = loaded.get_image_features(**pixels.to(loaded.device)).pooler_output
        return list(torch.nn.functional.cosine_similarity(images_TD, text_D[None], dim=-1).tolist())

    return list(model.infer(work))


def moments_of(scores_T: Floats, times_s: Sequence[float], span: TimeSpan) -> list[Moment]:
    """Runs of frames that fit, in time order; each reaches half-way to its neighbours.

    A moment's score is its mean between the frames that do not fit (0) and the best frame (1).
    """
    smooth_T = _median_of_three(scores_T)
    threshold = _otsu(smooth_T)
    fits_T = smooth_T > threshold
    low, best = float(smooth_T[~fits_T].mean()), float(smooth_T.max())
    if not fits_T.any() or float(smooth_T[fits_T].mean()) - low < MIN_CONTRAST:
        return []
    edges_s = [span.start_s, *((a + b) / 2 for a, b in pairwise(times_s)), span.end_s]
    changes = np.flatnonzero(np.diff(np.concatenate([[0], fits_T.astype(int), [0]])))
    moments = [
        Moment(
            start_s=rounded_s(edges_s[first]),
            end_s=rounded_s(edges_s[end]),
            score=round(float((smooth_T[first:end].mean() - low) / (best - low)), 2),
        )
        for first, end in zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True)
    ]
    kept = sorted(moments, key=lambda one: -one.score)[:MAX_MOMENTS]
    return sorted(kept, key=lambda one: one.start_s)


def _median_of_three(scores_T: Floats) -> Floats:
    """One odd frame neither makes nor splits a moment; the first and the last frame count twice."""
    padded = np.concatenate([scores_T[:1], scores_T, scores_T[-1:]])
    return np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)


def _otsu(scores_T: Floats) -> float:
    """The score that splits frames in two groups whose means lie farthest apart, weighted by their sizes."""
    ordered = np.sort(scores_T)
    count = len(ordered)
    sizes = np.arange(1, count)
    sums = np.cumsum(ordered)[:-1]
    apart = sizes * (count - sizes) * (sums / sizes - (ordered.sum() - sums) / (count - sizes)) ** 2
    cut = int(np.argmax(apart))
    return float((ordered[cut] + ordered[cut + 1]) / 2)
