import json
from pathlib import Path

import pytest

from aot.errors import SourceError
from aot.pipeline.clips import read_annotations, save_frames
from aot.records import ClipAnnotation
from video_data.datasets.toy_kitchen import draw_toy_kitchen

ROOT = Path(__file__).parents[2]
ANNOTATIONS = ROOT / "configs" / "video" / "real_clips" / "annotations.jsonl"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    draw_toy_kitchen(root, seed=0, counts={"train": 2, "test": 1, "test_ood": 1}, workers=1)
    return root


def test_frames_can_be_saved_again_but_not_over_those_of_another_clip(clips: Path, tmp_path: Path) -> None:
    clip = clips / "train_0000.mp4"
    for _ in range(2):
        *lines, _ = save_frames(clip, out=tmp_path, at_s=[0.0], count=1)
    assert len(lines) == 1 and len(list(tmp_path.iterdir())) == 1
    namesake = clips / "other" / clip.name
    namesake.parent.mkdir()
    namesake.write_bytes((clips / "train_0001.mp4").read_bytes())
    with pytest.raises(SourceError, match="give another folder"):
        save_frames(namesake, out=tmp_path, at_s=[0.0], count=1)


def test_annotations_may_be_those_of_a_data_set_or_of_a_run(tmp_path: Path) -> None:
    documented = list(read_annotations(ANNOTATIONS))
    assert [row.uri for row in documented] == ["cooking_stove.avi", "flipping_a_pancake.mkv"]
    saved = tmp_path / "annotations.jsonl"
    saved.write_text("".join(row.model_dump_json() + "\n" for row in documented))
    assert list(read_annotations(saved)) == documented and isinstance(documented[0], ClipAnnotation)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{", "broken_json"),
        (json.dumps({"video": "a.mp4", "task": "x"}), "missing_field"),
        (json.dumps({"uri": "a.mp4"}), "Field required"),
    ],
)
def test_a_bad_line_of_annotations_is_told_with_its_number(tmp_path: Path, row: str, told: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(ANNOTATIONS.read_text() + row + "\n")
    with pytest.raises(SourceError, match=rf"rows\.jsonl:3: .*{told}"):
        list(read_annotations(path))


def test_a_missing_file_of_annotations_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere\.jsonl"):
        list(read_annotations(tmp_path / "nowhere.jsonl"))
