"""Traces and lessons about clips as a data set for others: frames as files, once each, and marks where they stand."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from student_kit import make_question, make_run, make_trace, run_config

from aot.files.run_folder import RunFolder, publish, publish_json, publish_rows, read_rows
from aot.pipeline.data.export import DataExport, Wanted, export_data
from aot.records import MediaRef, Question
from video_data.store.shards import FrameStore

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A filtered run; one of its questions spells out an image mark, one is about a clip without frames."""
    folder = tmp_path_factory.mktemp("video_export")
    run = make_run(folder / "run", run_config(folder / "base"), num_questions=6)
    odd = make_question(6, uri="c0.mp4").model_copy(update={"text": "What is <image> for?"})
    lost = make_question(7, uri="gone.mp4").model_copy(update={"media": MediaRef(uri="gone.mp4")})
    questions = [*read_rows(run.questions, Question), odd, lost]
    publish_rows(run.questions, questions)
    publish_rows(run.kept, [make_trace(question) for question in questions[1:]])
    for path in (run.dropped, run.verdicts):
        publish(path, "")
    funnel = {
        "traces": 9,
        "verified": 8,
        "natural_failures": 1,
        "kept": 7,
        "dropped": 2,
        "by_filter": {},
        "reasons": [],
    }
    publish_json(run.funnel, funnel)
    publish_json(run.run_json, {"command": ["aot"], "stages": {"filter": {"state": "done"}}})
    return run


@pytest.fixture(scope="module")
def exported(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DataExport]:
    out = tmp_path_factory.mktemp("out") / "data"
    return out, export_data(run.root, out, Wanted())[0]


def rows_of(folder: Path, name: str, cache: Path) -> list[dict[str, Any]]:
    return list(datasets.load_dataset(str(folder), name, split="train", cache_dir=str(cache)))


def parts_of(row: dict[str, Any]) -> Counter[str]:
    turns = row.get("messages") or row["prompt"] + row["completion"]
    return Counter(part["type"] for turn in turns for part in turn["content"])


def test_each_row_has_a_picture_part_an_image_mark_and_a_time_for_every_frame(
    run: RunFolder, exported: tuple[Path, DataExport], tmp_path: Path
) -> None:
    store = FrameStore(run.frames)
    for name in exported[1].parts:
        rows = rows_of(exported[0], name, tmp_path)
        assert len(rows) == exported[1].parts[name] > 0
        for row in rows:
            count = len(row["images"])
            marks = sum(turn["value"].count("<image>") for turn in row["conversations"])
            assert count == len(row["image_times_s"]) == parts_of(row)["image"] == marks == 3
            assert set(row["image_times_s"]) <= set(store.clip(row["clip"]).times_s)
            assert ("messages" in row) != ("prompt" in row)  # trl takes no row with pictures that has both
            with Image.open(exported[0] / row["images"][0]) as picture:
                assert picture.size == (32, 24)


def test_a_frame_is_written_once_whatever_shows_it(exported: tuple[Path, DataExport], tmp_path: Path) -> None:
    shown = {
        path for name in exported[1].parts for row in rows_of(exported[0], name, tmp_path) for path in row["images"]
    }
    files = {path.relative_to(exported[0]).as_posix() for path in (exported[0] / "images").rglob("*.jpg")}
    assert shown == files and len(files) == exported[1].images


def test_rows_that_would_be_read_as_something_else_are_left_out_and_counted_on_the_card(
    run: RunFolder, exported: tuple[Path, DataExport]
) -> None:
    made = exported[1]
    assert made.refused["no_frames"] == 1 and made.refused["image_mark_in_text"] == 1  # their lessons were not written
    assert made.parts["traces"] == 5
    assert "image_mark_in_text 1, no_frames 1" in (exported[0] / "README.md").read_text()


def test_without_pictures_clips_and_times_are_written_alone(run: RunFolder, tmp_path: Path) -> None:
    made, _ = export_data(run.root, tmp_path / "data", Wanted(images=False))
    rows = rows_of(tmp_path / "data", "lessons-distilled", tmp_path)
    assert not made.images and not (tmp_path / "data" / "images").exists()
    assert "images" not in rows[0] and rows[0]["image_times_s"] and rows[0]["clip_end_s"] == 3.0


def test_a_run_that_was_not_filtered_has_nothing_to_export(run: RunFolder, tmp_path: Path) -> None:
    from aot.errors import RunError

    with pytest.raises(RunError, match=r"no kept traces yet|is it a run folder"):
        export_data(tmp_path, tmp_path / "data", Wanted())
