import json
import subprocess
import sys
from pathlib import Path

import pytest

from aot.errors import SourceError
from aot.pipeline.commands.clips import ask_clip, probe_clip, read_annotations, save_frames
from aot.records import ClipAnnotation
from aot.teacher.ask import ask
from video_data.kitchen.dataset import draw_toy_kitchen

ROOT = Path(__file__).parents[2]
ANNOTATIONS = ROOT / "configs" / "video" / "real_clips" / "annotations.jsonl"


def spoil_second_half(source: Path, path: Path) -> Path:
    """A copy of an MP4 file in which the second half of the picture data are zeros."""
    data = bytearray(source.read_bytes())
    start = data.find(b"mdat") + 4
    end = start - 8 + int.from_bytes(data[start - 8 : start - 4], "big")
    middle = (start + end) // 2
    data[middle:end] = bytes(end - middle)
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    draw_toy_kitchen(root, seed=0, counts={"train": 2, "test": 1, "test_ood": 1}, workers=1)
    return root


def test_frames_can_be_saved_again_but_not_over_those_of_another_clip(clips: Path, tmp_path: Path) -> None:
    clip = clips / "train_0000.mp4"
    for _ in range(2):
        *lines, _ = save_frames(clip, out=tmp_path, at_s=[0.0], count=1).lines
    assert len(lines) == 1 and len(list(tmp_path.iterdir())) == 1
    namesake = clips / "other" / clip.name
    namesake.parent.mkdir()
    namesake.write_bytes((clips / "train_0001.mp4").read_bytes())
    with pytest.raises(SourceError, match="give another folder"):
        save_frames(namesake, out=tmp_path, at_s=[0.0], count=1)


@pytest.mark.parametrize(
    ("question", "as_json", "code", "told"),
    [
        ("Is there any pan in the clip?", (), 3, "parse: no known object in"),
        ("Is there any pan in the clip?", ("--json",), 3, '"status": "failed"'),
        ("Is there any egg in the clip?", (), 0, "answer: "),
        ("Is there any egg in the clip?", ("--json",), 0, '"status": "ok"'),
        ("Why is the cook sad?", (), 3, "no rule knows what this question asks"),
    ],
)
def test_a_question_asked_in_vain_prints_its_trace_and_exits_with_3(
    clips: Path, question: str, as_json: tuple[str, ...], code: int, told: str
) -> None:
    command = [sys.executable, "-m", "aot", "ask", str(clips / "train_0000.mp4"), question, *as_json]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    assert told in done.stdout and "kind 'other'" not in done.stdout
    if as_json:
        assert json.loads(done.stdout)["question_id"] == "ask"


def test_a_moment_past_the_end_is_told_and_nothing_is_saved(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"--at 99 lies past the end of train_0000\.mp4, which lasts \d+"):
        save_frames(clips / "train_0000.mp4", out=tmp_path / "out", at_s=[0.0, 99.0], count=1)
    assert not (tmp_path / "out").exists()


def test_moments_where_nothing_can_be_decoded_are_counted(clips: Path, tmp_path: Path) -> None:
    cut = spoil_second_half(clips / "train_0000.mp4", tmp_path / "cut.mp4")
    late_s = probe_clip(cut).duration_s - 0.1
    lines = save_frames(cut, out=tmp_path / "out", at_s=[0.0, late_s], count=1).lines
    assert "partial" in lines[-1]
    assert lines[-2] == "1 of the moments asked for lie where no frame can be decoded"


def test_a_question_about_a_partial_clip_looks_at_what_decodes_and_says_so(
    clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut = spoil_second_half(clips / "train_0000.mp4", tmp_path / "cut.mp4")
    whole = probe_clip(clips / "train_0000.mp4")
    facts = probe_clip(cut)
    asked = ask(cut, "Is there any onion in the clip?")
    assert facts.verdict == "partial" and facts.spans_s[-1][1] < 0.8 * whole.duration_s
    assert "are looked at" in asked.note
    assert all(step.span is None or step.span.end_s <= facts.spans_s[0][1] for step in asked.trace.steps)
    ask_clip(cut, "Is there any onion?", choices=(), appearance=None, annotations=None, config=None)
    assert "partial clip: " in caplog.text


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
