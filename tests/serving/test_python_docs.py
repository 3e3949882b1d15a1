"""What python.md and the example show of the student runs as it is printed there; tests/house runs the other pages."""

import re
import runpy
import shutil
from pathlib import Path

import pytest
from serving_kit import python_blocks

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shop(video_export: Path, text_export: Path, kitchen_clips: Path, tmp_path: Path) -> Path:
    """A folder with what the documents name."""
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "kitchen").symlink_to(video_export)
    (tmp_path / "exports" / "maths").symlink_to(text_export)
    clip, run = next(kitchen_clips.glob("test_*.mp4")), tmp_path / "runs" / "toy_kitchen"
    (run / "clips").mkdir(parents=True)
    shutil.copy(clip, run / "clips" / "test_0000.mp4")
    shutil.copy(clip, tmp_path / "clip.mp4")
    return tmp_path


def test_every_block_of_python_runs(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = python_blocks("python.md")
    program = shop / "program.py"
    program.write_text("\n".join(blocks))
    monkeypatch.chdir(shop)
    runpy.run_path(str(program))
    printed = capsys.readouterr().out
    assert len(blocks) >= 6 and re.search(r"^(wash rice|chop onion) 0\.\d+ \(", printed), printed
    assert "['5', '6', '7', '8', '7']" in printed and printed.endswith("7\n")


def test_the_embedded_student_speaks_while_a_clip_plays(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = ROOT / "examples/embed_student.py"
    choices = ["--choice", "wash rice", "--choice", "chop onion"]
    monkeypatch.chdir(shop)
    monkeypatch.setattr("sys.argv", [str(program), "exports/kitchen", "clip.mp4", *choices])
    runpy.run_path(str(program), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 3 and all(re.fullmatch(r" *\d+\.\d\d s  .+  \[\d+ ms\]", line) for line in lines)
    assert len(program.read_text().splitlines()) < 60
