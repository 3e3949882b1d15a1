"""What the documents show of the student in Python runs as it is printed there."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest
from serving_kit import python_blocks

from aot.cli import app
from aot.files.run_folder import RunFolder, publish_rows
from aot.records import MediaRef, Question

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


def readme_lines() -> list[str]:
    """How the README says that a student is used, line by line."""
    section = (ROOT / "README.md").read_text().partition("## Use the student")[2].partition("##")[0]
    lines = section.partition("```\n")[2].partition("```")[0].splitlines()
    assert len(lines) == 5
    return lines


def test_the_lines_of_the_readme_that_predict_and_grade_run(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(shop / "runs" / "toy_kitchen")
    question = Question(
        id="q", dataset="kitchen", split="test", kind="next_open", text="What is the next step?", answer="chop onion",
        answer_type="text", media=MediaRef(uri="test_0000.mp4", end_s=5.0), group="g",
    )  # fmt: skip
    decided = question.model_copy(update={"id": "d", "choices": ("chop onion", "wash rice"), "answer_type": "choice"})
    publish_rows(run.questions, [question, decided])
    monkeypatch.chdir(shop)
    commands = [part for line in readme_lines() for part in line.partition("#")[0].split(";") if " predict " in part]
    commands += [part for line in readme_lines() for part in line.split(";") if "aot score " in part]
    for command in commands:
        name, *arguments = shlex.split(command)
        assert name == "aot" and not app(arguments, standalone_mode=False)
    printed = capsys.readouterr().out
    assert len(commands) == 3 and re.match(r"(wash rice|chop onion) \(\d+\.\d%\)\n", printed), printed
    assert "2 questions answered" in printed and "accuracy" in printed


def test_the_line_of_python_in_the_readme_runs(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"python -c '(.*)'", "\n".join(readme_lines()))
    (shop / "line.py").write_text(program)
    monkeypatch.chdir(shop)
    runpy.run_path(str(shop / "line.py"))
    printed = capsys.readouterr().out
    assert re.match(r"answer='[a-z]+ [a-z]+' abstained=''", printed), printed


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
