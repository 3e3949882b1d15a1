"""Tool `detect_objects` through a zero-shot detector (OWLv2, OWL-ViT, Grounding DINO): any object that has a name.

Boxes leave here as pixels of the true frame. OWLv2 looks at frames padded to a square; the padding is done here, at the
right and the bottom, so that boxes are the same with any image processor, and none needs scipy.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from aot.config import HfConfig
from aot.errors import ToolError
from aot.teacher.tools.base import Tool, ToolContext, clamp_window
from aot.teacher.tools.models.zero_shot import (
    ZeroShot,
    clean_name,
    image_batches,
    open_model,
    settings_digest,
)
from aot.teacher.tools.pixels.detect_objects import DetectObjectsArguments, DetectObjectsResult, seen_in
from aot.teacher.tools.pixels.looks import Box, Found


class HfDetectArguments(DetectObjectsArguments):
    """An object to look for in a stretch, in any words."""

    object: str = Field(min_length=1, description="What to look for, in a few words, such as `red pan`.")
    min_score: float = Field(default=0.25, ge=0, le=1, description="Leave out boxes that score less.")


def hf_detector(config: HfConfig) -> Tool[HfDetectArguments, DetectObjectsResult]:
    """The tool over the detector that the config names.

    Raises:
        ConfigError: none is named, or it cannot be used.
    """
    detector = open_model("detector", config)

    def run(arguments: HfDetectArguments, context: ToolContext) -> DetectObjectsResult:
        name, clip = clean_name(arguments.object), context.clip
        span = clamp_window(arguments.start_s, arguments.end_s, clip)
        positions = clip.positions(span, most=config.max_frames)
        best: list[Found | None] = []
        for images in image_batches(clip, positions, size=config.batch_frames):
            best += best_boxes(detector, images, name=name.casefold(), min_score=arguments.min_score)
        return seen_in(name, clip, zip(positions, best, strict=True))

    return Tool(
        name="detect_objects",
        version="hf-1",
        description=f"Find an object, named in any words, in up to {config.max_frames} frames between start_s and "
        "end_s: times, boxes in pixels, scores.",
        Arguments=HfDetectArguments,
        Result=DetectObjectsResult,
        run=run,
        source="models",
        digest=settings_digest(detector, config),
        max_frames=config.max_frames,
    )


def best_boxes(detector: ZeroShot, images: Sequence[Any], *, name: str, min_score: float) -> list[Found | None]:
    """The best box in each image, in pixels of that image; None where nothing scores `min_score`."""
    if detector.model_type == "owlv2":
        return list(detector.infer(lambda model, processor: _owlv2(model, processor, images, name, min_score)))
    return list(detector.infer(lambda model, processor: _other(model, processor, images, name, min_score)))


def _owlv2(model: Any, processor: Any, images: Sequence[Any], name: str, min_score: float) -> list[Found | None]:  # noqa: ANN401
    size = processor.image_processor.size
    squares = [_padded(image, width=size["width"], height=size["height"]) for image in images]
    tokens = _tokens(model, processor, [[name]] * len(images))
    inputs = processor(text=None, images=squares, do_pad=False, do_resize=False, return_tensors="pt")
    outputs = model(**tokens, pixel_values=inputs["pixel_values"].to(model.device))
    return read_boxes(processor, outputs, images=images, min_score=min_score)


def _other(model: Any, processor: Any, images: Sequence[Any], name: str, min_score: float) -> list[Found | None]:  # noqa: ANN401
    if model.config.model_type == "owlvit":
        inputs = processor(images=list(images), return_tensors="pt").to(model.device)
        inputs = {**inputs, **_tokens(model, processor, [[name]] * len(images))}
    else:  # A dot ends a name for Grounding DINO.
        text = [[name.replace(".", " ")]] * len(images)
        inputs = processor(images=list(images), text=text, truncation=True, return_tensors="pt").to(model.device)
    return read_boxes(processor, model(**inputs), images=images, min_score=min_score)


def _tokens(model: Any, processor: Any, texts: list[list[str]]) -> dict[str, Any]:  # noqa: ANN401
    """Token ids cut to what the text side of an OWL model can read."""
    flat = [name for texts_of_image in texts for name in texts_of_image]
    length = model.config.text_config.max_position_embeddings
    ids = processor.tokenizer(flat, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    return {"input_ids": ids["input_ids"].to(model.device), "attention_mask": ids["attention_mask"].to(model.device)}


def _padded(image: Any, *, width: int, height: int) -> Any:  # noqa: ANN401
    """The image at the left top of a black square of the size that the model looks at."""
    from PIL import Image

    square = Image.new("RGB", (max(image.size), max(image.size)))
    square.paste(image, (0, 0))
    return square.resize((width, height), Image.Resampling.BILINEAR)


def read_boxes(processor: Any, outputs: Any, *, images: Sequence[Any], min_score: float) -> list[Found | None]:  # noqa: ANN401
    """The best box of each image in what a model put out, cut to the image.

    Raises:
        ToolError: scores or boxes are no numbers, which must not be taken for nothing seen.
    """
    if outputs.logits.isnan().any() or outputs.pred_boxes.isnan().any():
        raise ToolError("the detector gave scores that are no numbers; try other weights or teacher.hf.device=cpu")
    sizes_HW = [(image.height, image.width) for image in images]
    rows = processor.post_process_grounded_object_detection(outputs, threshold=min_score, target_sizes=sizes_HW)
    return [_best(row, height=height, width=width) for row, (height, width) in zip(rows, sizes_HW, strict=True)]


def _best(row: Any, *, height: int, width: int) -> Found | None:  # noqa: ANN401
    best: Found | None = None
    for score, (x0, y0, x1, y1) in zip(row["scores"].tolist(), row["boxes"].tolist(), strict=True):
        box: Box = (max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1))
        inside = box[0] < box[2] and box[1] < box[3]  # The padding of a square holds no object.
        if inside and (best is None or score > best.score):
            best = Found(score, box)
    return best
