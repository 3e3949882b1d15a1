"""The examples of docs/robots.md run as they are written, and its tables say what the code says."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from robot_data import CAMERA, STEPS, write_data_set
from serving_kit import python_blocks, run_block
from test_subtask_writer import batch, completion, server

from aot.answer_records import AbstainReason, Answer
from aot.serving.lerobot import LanguageRow, read_episodes, write_language
from aot.serving.ros2 import Topics

PAGE = (Path(__file__).parents[3] / "docs/robots.md").read_text()
LEROBOT = PAGE.partition("## LeRobot")[2].partition("\n## ")[0]
BLOCKS = python_blocks("robots.md", section="LeRobot")
SEEN = ("wash rice", "chop onion", "fry egg")
LONG_S = 120.0
"""Longer than an answer takes on the busiest machine."""


def test_the_ten_lines_of_the_page_run_as_printed(video_export: Path) -> None:
    lines = python_blocks("robots.md")[0]
    acted: list[tuple[str, float, float]] = []

    def camera() -> Iterator[np.ndarray]:
        until_s = time.monotonic() + LONG_S
        for number in itertools.count():
            if acted or time.monotonic() > until_s:
                return
            yield np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)

    names = {"EXPORT": video_export, "STEPS": SEEN, "camera": camera(), "act": lambda *said: acted.append(said)}
    run_block(lines.replace("min_confidence=0.6", "min_confidence=0.0"), **names)
    assert len(lines.splitlines()) <= 14 and acted[0][0] in SEEN and acted[0][2] < 2.0


def test_the_policy_of_the_page_steers() -> None:
    class Policy:
        def select_action(self, batch: dict[str, Any]) -> str:
            return "an action"

    with server(lambda *_: (200, completion("wipe the table", aot={"confidence": 0.9}))) as url:
        policy = run_block(BLOCKS[0], URL=url, STEPS=STEPS, Policy=Policy)["SteeredPolicy"]()
        given = batch()
        assert policy.select_action(given) == "an action" and policy.supports_text_generation()
        assert policy.generate_text(given) == "wipe the table"


def test_the_data_set_of_the_page_is_read_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_data_set(tmp_path / "robot")
    starts = [float(one) for one in np.float32([0.0, 0.5, 1.0])]
    rows = [LanguageRow(style="subtask", content=STEPS[i], timestamp=at_s) for i, at_s in enumerate(starts)]
    write_language(root, {0: rows, 1: [rows[0].model_copy(update={"content": STEPS[3]}), rows[1]]})

    class Student:
        def ask(self, question: str, *, choices: tuple[str, ...]) -> Answer:
            return Answer(answer=choices[4], mode="decide")

    run_block(BLOCKS[1], DATA_SET=str(root), STEPS=STEPS, student=Student())
    assert (tmp_path / "robot_questions/questions.jsonl").stat().st_size > 0
    assert "episode 2 no_subtasks" in capsys.readouterr().out
    assert [row.content for row in read_episodes(root)[0][0].rows] == [STEPS[4]]
    assert CAMERA == "observation.images.front"


def test_the_page_names_every_reason_and_every_topic() -> None:
    for reason in (*filter(None, get_args(AbstainReason)), "connection", "refused", "malformed", "empty", "several"):
        assert f"`{reason}`" in LEROBOT, reason
    ros = PAGE.partition("## ROS 2")[2]
    assert all(f"`{topic}`" in ros for topic in Topics().model_dump().values())
