"""The pixel tools see drawn steps, stay inside the window, and find nothing where there is nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from teacher_scenes import CARD, STEP_S, context_of, drawn_view, view_of

from aot.errors import ConfigError, ToolError
from aot.teacher.tools import ToolContext, openai_schema
from aot.teacher.tools.pixels.appearance import Appearance, load_appearance
from aot.teacher.tools.pixels.matcher import silhouette
from aot.teacher.tools.registry import TOOLS
from video_data.kitchen.world import STEP_LABELS

STORY = ("chop onion", "fry onion", "pour rice", "boil carrot", "chop onion")


def call(name: str, context: ToolContext, **arguments: Any) -> Any:
    tool = TOOLS[name]
    return tool.run(tool.Arguments.model_validate(arguments), context)


@pytest.fixture(scope="module")
def context() -> ToolContext:
    return context_of(drawn_view(*STORY, scale=4))


def test_list_steps_names_the_drawn_steps_with_their_times(context: ToolContext) -> None:
    steps = call("list_steps", context, start_s=0.0, end_s=10.0).steps
    assert [step.label for step in steps] == list(STORY)
    assert all(abs(step.start_s - STEP_S * i) <= 0.4 for i, step in enumerate(steps))


def test_at_least_nine_of_ten_drawn_steps_are_recognised() -> None:
    right = total = 0
    for seed in range(8):
        labels = np.random.default_rng(seed).choice(STEP_LABELS, size=6, replace=False)
        found = call("list_steps", context_of(drawn_view(*labels, seed=seed)), start_s=0.0, end_s=12.0).steps
        hits = (any(f.label == label and abs(f.start_s - 2 * i) < 0.7 for f in found) for i, label in enumerate(labels))
        right += sum(hits)
        total += len(labels)
    assert right / total >= 0.9


def test_fewer_frames_a_second_still_list_the_steps(context: ToolContext) -> None:
    steps = call("list_steps", context, start_s=0.0, end_s=10.0, fps=1.5).steps
    assert [step.label for step in steps] == list(STORY)


def test_moments_count_and_order_agree(context: ToolContext) -> None:
    window = {"start_s": 0.0, "end_s": 10.0}
    moments = call("find_moments", context, event="chop onion", **window).moments
    counted = call("count_events", context, event="Chop  Onion", **window)
    order = call("read_order", context, events=["pour rice", "fry onion"], **window).order
    assert counted.count == len(moments) == 2
    assert [row.label for row in order] == ["fry onion", "pour rice"]


def test_recognise_action_looks_at_its_stretch_only(context: ToolContext) -> None:
    result = call("recognise_action", context, start_s=4.2, end_s=5.8)
    assert result.label == "pour rice"
    assert result.score > max(other.score for other in result.alternatives)


def test_boxes_are_pixels_of_the_true_frame(context: ToolContext) -> None:
    boxes = call("detect_objects", context, object="carrot", start_s=0.0, end_s=10.0).boxes
    assert boxes
    assert all(6.0 <= box.time_s <= 8.0 for box in boxes)
    x0, _, x1, y1 = boxes[0].box_xyxy
    assert 0 <= x0 < x1 <= 96 * 4
    assert x1 - x0 > 30
    assert y1 <= 72 * 4


def test_noise_shows_no_step_and_no_object() -> None:
    noise = np.random.default_rng(0).integers(0, 256, size=(12, 72, 96, 3), dtype=np.uint8)
    context = context_of(view_of(noise, tuple(i / 3 for i in range(12))))
    assert call("list_steps", context, start_s=0.0, end_s=3.0).steps == ()
    assert call("detect_objects", context, object="tomato", start_s=0.0, end_s=3.0).boxes == ()
    with pytest.raises(ToolError, match="no known step"):
        call("recognise_action", context, start_s=0.0, end_s=3.0)


def test_looking_past_the_window_is_refused(context: ToolContext) -> None:
    with pytest.raises(ToolError, match=r"stay within 0\.0-10\.0 s"):
        call("list_steps", context, start_s=0.0, end_s=12.0)


def test_unknown_event_is_told_with_near_names(context: ToolContext) -> None:
    with pytest.raises(ToolError, match="chop onion"):
        call("find_moments", context, event="chop onions", start_s=0.0, end_s=9.0)


def test_a_look_depends_on_the_frames_of_the_call_alone() -> None:
    view = drawn_view(*STORY)
    used, fresh = context_of(view), context_of(view)
    call("list_steps", used, start_s=0.0, end_s=10.0)
    arguments = {"start_s": 2.0, "end_s": 6.0}
    assert call("list_steps", used, **arguments) == call("list_steps", fresh, **arguments)


def test_schemas_have_the_openai_form() -> None:
    for tool in TOOLS.values():
        schema = openai_schema(tool.name, tool.description, tool.Arguments)
        assert schema["type"] == "function"
        assert schema["function"]["name"] == tool.name
        assert schema["function"]["description"]
        assert schema["function"]["parameters"]["type"] == "object"
        assert schema["function"]["parameters"]["additionalProperties"] is False


def test_card_survives_json_and_its_digest_changes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text(CARD.model_dump_json())
    assert load_appearance(path).digest == CARD.digest
    assert CARD.model_copy(update={"name": "other"}).model_dump() != CARD.model_dump()
    assert Appearance.model_validate({**CARD.model_dump(), "name": "other"}).digest != CARD.digest


@pytest.mark.parametrize("text", ["{", '{"name": "x", "objects": {}, "labels": ["fry egg"]}', '{"nmae": 1}'])
def test_bad_card_is_a_config_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"card\.json"):
        load_appearance(path)


def test_silhouettes_fill_what_their_names_say() -> None:
    shares = {name: silhouette(name, width=40, height=40).mean() for name in ("bar", "circle", "triangle", "diamond")}
    assert shares["bar"] == 1.0
    assert shares["circle"] == pytest.approx(0.785, abs=0.05)
    assert shares["triangle"] == pytest.approx(0.5, abs=0.05)
    assert shares["diamond"] == pytest.approx(0.5, abs=0.05)
