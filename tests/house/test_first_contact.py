"""First contact, as a stranger would have it: from an empty folder to a report, in few commands, on own data."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from video_data.kitchen.dataset import STAMP_NAME, draw_toy_kitchen

ROOT = Path(__file__).parents[2]
Shell = Callable[..., str]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Runs `aot` in an empty folder, and counts the commands that were needed."""
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    commands: list[tuple[str, ...]] = []

    def run(*words: str, codes: tuple[int, ...] = (0,), most: int) -> str:
        commands.append(words)
        assert len(commands) <= most, commands
        command = [sys.executable, "-m", "aot", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, env=environment)
        assert done.returncode in codes, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    return run


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_ten_own_problems_come_to_a_report_in_three_commands(tmp_path: Path, shell: Shell) -> None:
    shell("init", "text", "mine", most=3)
    rows = [
        {"question": f"Tom picks {n} plums and buys {n + 3} more. How many plums has Tom?", "answer": 2 * n + 3,
         **({"rationale": f"{n} + {n + 3} = {2 * n + 3}."} if n < 7 else {})}
        for n in range(10)
    ]  # fmt: skip
    write_rows(tmp_path / "mine/problems.jsonl", rows)
    noted = shell("run", "mine/mine.yaml", "--dry-run", most=3)
    assert "training problems without a worked solution" in noted
    assert "tiny-text does not know 3 words of 10 of 10 problems (picks, plums, and)" in noted
    assert "give student.base the folder of a real model, such as Qwen3-0.6B" in noted
    ended = shell("run", "mine/mine.yaml", "train.max_steps=2", "evaluate.bootstrap_samples=100", most=3)
    assert "rationales only, too few to say anything" in ended and " n=" in ended
    assert "report: runs/mine/report.html" in ended
    assert "too few to say anything" in (tmp_path / "runs/mine/report.html").read_text()


def test_three_own_clips_come_to_a_report_in_five_commands(tmp_path: Path, shell: Shell) -> None:
    shell("init", "video", "mine", most=5)
    mine = tmp_path / "mine"
    for path in (mine / "clips").iterdir():
        path.unlink()
    draw_toy_kitchen(mine / "clips", seed=5, counts={"train": 2, "test": 1, "test_ood": 0}, workers=1)
    (mine / "clips" / STAMP_NAME).unlink(missing_ok=True)
    (mine / "annotations.jsonl").unlink()  # a stranger has none, and takes its line out of the config
    config = mine / "mine.yaml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.lstrip().startswith("annotations:")))
    asked = [("Is there any egg in the clip?", "present", "yes"), ("Is there any rice in the clip?", "present", "no"),
             ("What is the woman wearing?", "clothes", "a coat")]  # fmt: skip
    write_rows(mine / "questions.jsonl", [
        {"id": f"{clip.stem}-{number}", "video": f"clips/{clip.name}", "question": text, "kind": kind, "answer": answer,
         "split": clip.stem.partition("_")[0]}
        for clip in sorted((mine / "clips").iterdir()) for number, (text, kind, answer) in enumerate(asked)
    ])  # fmt: skip
    noted = shell("run", "mine/mine.yaml", "--dry-run", most=5)
    assert (
        "the tools cannot know 3 of 9 questions, such as test_0000-2: no rule for questions of kind 'clothes'" in noted
    )
    assert "docs/own_clips.md" in noted and "estimated disk" in noted.partition("memory of one")[0]
    ended = shell("run", "mine/mine.yaml", "train.max_steps=2", "evaluate.bootstrap_samples=100", most=5)
    assert "the tools cannot know 3 of 9 questions" in ended.partition("prepare: starting")[0]
    assert "rationales only, too few to say anything" in ended and " n=" in ended
    assert "report: runs/mine/report.html" in ended


def test_a_run_whose_tools_know_no_question_ends_before_it_starts(tmp_path: Path, shell: Shell) -> None:
    shell("init", "video", "mine", most=2)
    mine = tmp_path / "mine"
    clips = sorted((mine / "clips").iterdir())
    write_rows(mine / "questions.jsonl", [
        {"id": clip.stem, "video": f"clips/{clip.name}", "question": "Is there any wok in the clip?", "kind": "present",
         "answer": "no", "split": clip.stem.partition("_")[0]} for clip in clips
    ])  # fmt: skip
    refused = shell("run", "mine/mine.yaml", codes=(2,), most=2)
    assert "the tools cannot know 8 of 8 training questions" in refused and "of three ways" in refused
    assert not (tmp_path / "runs").exists()
