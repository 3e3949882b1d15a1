"""Zero-shot tools: boxes where the square was drawn, moments where the colour was shown, one model for all."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the train extra")
import torch
from safetensors.torch import load_file, save_file
from teacher_scenes import context_of, view_of
from tiny_zero_shot import clip_folder, dino_folder, owl_folder, siglip_folder
from transformers import AutoModel, AutoProcessor
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoObjectDetectionOutput

from aot.config import HfConfig, RunConfig, parse_config
from aot.errors import ConfigError, ToolError
from aot.records import TimeSpan
from aot.teacher.tools import ToolContext
from aot.teacher.tools.base import Tool, sight_of
from aot.teacher.tools.clipview import ClipView, spread
from aot.teacher.tools.models.detect import hf_detector, read_boxes
from aot.teacher.tools.models.moments import MAX_MOMENTS, hf_moments, moments_of, similarities
from aot.teacher.tools.models.zero_shot import clean_name, image_batches, open_model
from aot.teacher.tools.registry import make_tools

RED, GREEN, GREY = (255, 0, 0), (0, 255, 0), (128, 128, 128)
Size = tuple[int, int]
SQUARES = (((320, 160), (220, 100)), ((160, 320), (100, 220)), ((320, 320), (20, 260)))
"""Sizes of frames, width first, and where a square of 40 pixels begins in them."""
BOXES = (((300, 100), (30.0, 20.0, 90.0, 60.0)), ((100, 300), (10.0, 60.0, 30.0, 180.0)))
"""Sizes of frames, and a fifth of their width by two fifths of their height in them."""


@pytest.fixture(scope="module")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return owl_folder(tmp_path_factory.mktemp("owl") / "model")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_folder(tmp_path_factory.mktemp("clip") / "model")


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dino_folder(tmp_path_factory.mktemp("dino") / "model")


def square_view(size: Size, *, corner: Size, colours: list[tuple[int, int, int]], scale: int = 1) -> ClipView:
    """One frame a second, each with a square of 40 pixels at `corner`."""
    width, height = size
    frames = np.full((len(colours), height, width, 3), GREY, np.uint8)
    for frame, colour in zip(frames, colours, strict=True):
        frame[corner[1] : corner[1] + 40, corner[0] : corner[0] + 40] = colour
    return view_of(frames, tuple(float(i) for i in range(len(colours))), scale=scale)


def colour_view(colours: list[tuple[int, int, int]]) -> ClipView:
    return square_view((40, 40), corner=(0, 0), colours=colours)


def called(tool: Tool[Any, Any], context: ToolContext, **arguments: Any) -> Any:
    span = {"start_s": context.clip.start_s, "end_s": context.clip.end_s}
    return tool.run(tool.Arguments.model_validate({**span, **arguments}), context)


def config_with(**hf: Any) -> RunConfig:
    return parse_config(
        {
            "run": {"dir": "x"}, "data": {"dataset": "toy_kitchen"},
            "teacher": {"tools": {"detect_objects": "hf", "find_moments": "hf"}, "hf": hf},
        },
        source="test",
    )  # fmt: skip


@pytest.mark.parametrize(("size", "corner"), SQUARES)
@pytest.mark.parametrize("scale", [1, 3])
def test_owlv2_finds_a_square_within_two_percent_of_its_place(owl: Path, size: Size, corner: Size, scale: int) -> None:
    view = square_view(size, corner=corner, colours=[RED, GREEN, RED], scale=scale)
    found = called(hf_detector(HfConfig(detector=str(owl), batch_frames=2)), context_of(view), object="Red")
    assert (found.object, [box.time_s for box in found.boxes]) == ("Red", [0.0, 2.0])
    want = np.array([*corner, corner[0] + 40, corner[1] + 40]) * scale
    for box in found.boxes:
        assert np.abs(np.array(box.box_xyxy) - want).max() <= 0.02 * min(size) * scale


def test_detector_is_asked_for_the_words_of_the_call(owl: Path) -> None:
    context = context_of(square_view((320, 160), corner=(220, 100), colours=[RED, GREEN]))
    tool = hf_detector(HfConfig(detector=str(owl)))
    assert [box.time_s for box in called(tool, context, object="a green thing", min_score=0.5).boxes] == [1.0]
    assert called(tool, context, object="a blue thing").boxes == ()


@pytest.mark.parametrize(("size", "box"), BOXES)
def test_boxes_of_grounding_dino_are_shares_of_each_side(dino: Path, size: Size, box: tuple[float, ...]) -> None:
    view = square_view(size, corner=(0, 0), colours=[GREY])
    logits = torch.full((1, 3, 8), -9.0)
    logits[0, 1, 2] = 2.0
    crafted = GroundingDinoObjectDetectionOutput(
        logits=logits, pred_boxes=torch.tensor([[[0.5] * 4, [0.2, 0.4, 0.2, 0.4], [0.5] * 4]]),
        input_ids=torch.tensor([[101, 2006, 1012, 102]]),
    )  # fmt: skip
    processor = AutoProcessor.from_pretrained(dino)
    (found,) = read_boxes(processor, crafted, images=next(image_batches(view, [0], size=1)), min_score=0.5)
    assert found is not None
    assert np.allclose(found.box_xyxy, box, atol=0.01)
    assert found.score == pytest.approx(0.881, abs=0.001)


def test_grounding_dino_runs_from_frames_to_boxes_inside_the_true_frame(dino: Path) -> None:
    view = square_view((120, 60), corner=(10, 10), colours=[RED, RED, RED], scale=2)
    tool = hf_detector(HfConfig(detector=str(dino), batch_frames=2))
    found = called(tool, context_of(view), object="red. pan", min_score=0.0)
    assert [box.time_s for box in found.boxes] == [0.0, 1.0, 2.0]
    for x0, y0, x1, y1 in (box.box_xyxy for box in found.boxes):
        assert 0 <= x0 < x1 <= 240
        assert 0 <= y0 < y1 <= 120


def test_moments_are_where_the_colour_of_the_words_is_shown(clip: Path) -> None:
    context = context_of(colour_view([GREEN] * 4 + [RED] * 3 + [GREEN] * 5 + [RED] * 2))
    found = called(hf_moments(HfConfig(similarity=str(clip), batch_frames=4)), context, event="red")
    assert [(one.start_s, one.end_s) for one in found.moments] == [(3.5, 6.5), (11.5, 13.2)]
    assert [one.score for one in found.moments] == [1.0, 1.0]


def test_frames_that_all_fit_alike_or_are_too_few_are_an_error_and_not_absence(clip: Path) -> None:
    tool = hf_moments(HfConfig(similarity=str(clip)))
    with pytest.raises(ToolError, match="not tell whether it happens"):
        called(tool, context_of(colour_view([RED] * 6)), event="red")
    with pytest.raises(ToolError, match="only 2 frames to compare"):
        called(tool, context_of(colour_view([RED, GREEN])), event="red")


@pytest.mark.parametrize("second", [False, True])
def test_similarities_are_those_of_the_whole_siglip_model(tmp_path: Path, second: bool) -> None:
    folder = siglip_folder(tmp_path / "model", second=second)
    images = next(image_batches(square_view((60, 40), corner=(20, 0), colours=[RED, GREEN, GREY]), [0, 1, 2], size=99))
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    text = processor.tokenizer(["red pan"], padding="max_length", max_length=64, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**text, **processor.image_processor(images, return_tensors="pt")).logits_per_image[:, 0]
    cosines = (logits - model.logit_bias) / model.logit_scale.exp()
    found = similarities(open_model("similarity", HfConfig(similarity=str(folder))), images, text="red pan")
    assert np.allclose(found, cosines.detach(), atol=1e-5)
    assert np.std(found) > 1e-4


def test_scores_that_are_no_numbers_are_not_taken_for_nothing_seen(clip: Path, dino: Path, tmp_path: Path) -> None:
    context = context_of(colour_view([RED, GREEN, RED]))
    for sound, tensor, make in ((clip, "text_projection", similarity_tool), (dino, "bbox_embed.0", detector_tool)):
        broken = Path(shutil.copytree(sound, tmp_path / sound.parent.name))
        weights = load_file(broken / "model.safetensors")
        save_file(
            {name: torch.full_like(one, torch.nan) if tensor in name else one for name, one in weights.items()},
            broken / "model.safetensors", metadata={"format": "pt"},
        )  # fmt: skip
        tool, arguments = make(broken)
        with pytest.raises(ToolError, match="no numbers"):
            called(tool, context, **arguments)


def similarity_tool(folder: Path) -> tuple[Tool[Any, Any], dict[str, str]]:
    return hf_moments(HfConfig(similarity=str(folder))), {"event": "red"}


def detector_tool(folder: Path) -> tuple[Tool[Any, Any], dict[str, str]]:
    return hf_detector(HfConfig(detector=str(folder))), {"object": "red"}


def test_moments_are_capped_and_the_best_are_kept_in_time_order() -> None:
    scores = np.repeat([0.0, 0.3] * (MAX_MOMENTS + 2), 3) * np.linspace(1, 1.2, 6 * (MAX_MOMENTS + 2))
    times_s = [float(i) for i in range(len(scores))]
    found = moments_of(scores, times_s, TimeSpan(start_s=0.0, end_s=times_s[-1]))
    assert len(found) == MAX_MOMENTS
    assert found == sorted(found, key=lambda one: one.start_s)
    assert found[0].start_s == 14.5  # The two earliest are the worst.


def test_long_stretches_are_looked_at_in_evenly_spaced_frames(owl: Path) -> None:
    context = context_of(square_view((320, 160), corner=(220, 100), colours=[RED] * 9))
    found = called(hf_detector(HfConfig(detector=str(owl), max_frames=3)), context, object="red")
    assert [box.time_s for box in found.boxes] == [0.0, 4.0, 8.0]
    assert spread([3, 4, 5], most=1) == [4]


def test_all_tools_and_threads_of_a_process_share_one_loaded_model(owl: Path) -> None:
    config = HfConfig(detector=str(owl))
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: open_model("detector", config), range(8)))
        assert all(one is opened[0] for one in opened)
        models = list(pool.map(lambda one: one.infer(lambda model, _: id(model)), opened))
    assert len(set(models)) == 1


def test_results_are_stored_under_the_model_and_not_under_the_card(owl: Path, tmp_path: Path) -> None:
    context = context_of(colour_view([RED] * 3))
    moved, altered = (Path(shutil.copytree(owl, tmp_path / name)) for name in ("moved", "altered"))
    settings = json.loads((altered / "config.json").read_text())
    (altered / "config.json").write_text(json.dumps({**settings, "logit_scale_init_value": 1.0}))
    here, there, other = (hf_detector(HfConfig(detector=str(one))) for one in (owl, moved, altered))
    assert sight_of(here, context) == sight_of(there, context) != sight_of(other, context)
    assert context.looker.card.digest not in sight_of(here, context)


def test_config_chooses_both_tools_by_name(owl: Path, clip: Path) -> None:
    tools = make_tools(config_with(detector=str(owl), similarity=str(clip)).teacher)
    assert [tools[name].source for name in ("detect_objects", "find_moments")] == ["models", "models"]


def test_models_that_cannot_be_used_are_refused_before_any_work(owl: Path, clip: Path, tmp_path: Path) -> None:
    pickled = Path(shutil.copytree(owl, tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    for name, told in (
        (None, "teacher.hf.detector is not set"),
        ("no-such-folder", "there is no folder"),
        (str(tmp_path), "configuration of .* cannot be loaded"),
        (str(clip), "is a 'clip' model; known are owlv2"),
        (str(pickled), "has no safetensors"),
    ):
        with pytest.raises(ConfigError, match=told):
            hf_detector(HfConfig(detector=name))


def test_weights_that_lack_a_tensor_are_a_config_error(owl: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(owl, tmp_path / "cut"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["box_head.dense2.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tool = hf_detector(HfConfig(detector=str(folder)))
    with pytest.raises(
        ConfigError, match=r"1 tensors of the model are not there, or of another size, first box_head\.dense2\.weight"
    ):
        called(tool, context_of(colour_view([RED] * 3)), object="red")


def test_names_are_one_short_line_of_plain_text() -> None:
    assert clean_name("  Red\n\x00pan. ") == "Red pan"
    assert len(clean_name("pan " * 100_000)) <= 80
    with pytest.raises(ToolError, match="names nothing"):
        clean_name(" \n. ")
