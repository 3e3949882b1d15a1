"""The examples of docs/robots.md about LeRobot run as they are written, and its tables say what the code says."""

import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from robot_data import CAMERA, STEPS, write_data_set
from test_subtask_writer import batch, completion, server

from aot.answer_records import AbstainReason, Answer
from aot.serving.lerobot import LanguageRow, read_episodes, write_language
from aot.serving.ros2 import Topics

PAGE = (Path(__file__).parents[3] / "docs/robots.md").read_text()
LEROBOT = PAGE.partition("## LeRobot")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```python\n(.*?)```", LEROBOT, re.DOTALL)


def run(block: str, **names: Any) -> dict[str, Any]:
    exec(compile(block, "docs/robots.md", "exec"), names)
    return names


def test_the_policy_of_the_page_steers() -> None:
    class Policy:
        def select_action(self, batch: dict[str, Any]) -> str:
            return "an action"

    with server(lambda *_: (200, completion("wipe the table", aot={"confidence": 0.9}))) as url:
        policy = run(BLOCKS[0], URL=url, STEPS=STEPS, Policy=Policy)["SteeredPolicy"]()
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

    run(BLOCKS[1], DATA_SET=str(root), STEPS=STEPS, student=Student())
    assert (tmp_path / "robot_questions/questions.jsonl").stat().st_size > 0
    assert "episode 2 no_subtasks" in capsys.readouterr().out
    assert [row.content for row in read_episodes(root)[0][0].rows] == [STEPS[4]]
    assert CAMERA == "observation.images.front"


def test_the_page_names_every_reason_and_every_topic() -> None:
    for reason in (*filter(None, get_args(AbstainReason)), "connection", "refused", "malformed", "empty", "several"):
        assert f"`{reason}`" in LEROBOT, reason
    ros = PAGE.partition("## ROS 2")[2]
    assert all(f"`{topic}`" in ros for topic in Topics().model_dump().values())
