"""`aot init`: what it makes loads from anywhere, takes its data from beside itself, and overwrites nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aot.config import load_config
from aot.errors import RunError
from aot.pipeline.commands.plan import plan_lines
from aot.pipeline.commands.starter import KINDS, listed_configs, start_folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_folder_is_ready_from_any_place(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = start_folder(kind, tmp_path / "my own")
    path = tmp_path / "my own" / "my own.yaml"
    assert f"  aot run '{path}'" in lines and "CONFIG" not in path.read_text()
    monkeypatch.chdir("/")
    config = load_config(path)
    assert config.data.root == str(path.parent)
    if kind != "real":  # that one lacks its student and its server
        counted = [line for line in plan_lines(config, config_path=path) if line.startswith(("train: ", "test: "))]
        assert len(counted) == 2, counted


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "problems.jsonl").write_text("mine")
    with pytest.raises(RunError, match=r"problems.jsonl is there already, and nothing is overwritten; delete it or"):
        start_folder("text", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["problems.jsonl"]
    start_folder("video", tmp_path)
    with pytest.raises(RunError, match="nothing is overwritten"):
        start_folder("video", tmp_path)


OPENED = """
import collections, os, sys
opened = collections.Counter()
sys.addaudithook(lambda event, words: opened.update([os.path.basename(str(words[0]))]) if event == "open" else None)
from aot.cli import main
try:
    main()
finally:
    print(opened["problems.jsonl"])
"""


def test_own_data_are_read_once_for_the_notes_and_for_prepare(tmp_path: Path) -> None:
    start_folder("text", tmp_path / "mine")
    config, run = tmp_path / "mine" / "mine.yaml", tmp_path / "run"
    command = [sys.executable, "-c", OPENED, "prepare", str(config), f"run.dir={run}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "training problems without a worked solution" in done.stderr
    # A look for rows that name their split, and one for the problems; each opens the file to see whether it can.
    assert done.stdout.splitlines()[-1] == "4"
    assert json.loads((run / "run.json").read_text())["stages"]["prepare"]["state"] == "done"


def test_the_list_names_every_kind_and_every_config_of_a_run() -> None:
    lines = listed_configs()
    assert all(any(line.startswith(f"aot init {kind} DIR: ") for line in lines) for kind in KINDS)
    named = [Path(line.split()[0]) for line in lines if line.startswith("configs/")]
    assert Path("configs/text/tiny_math.yaml") in named and len(named) > 40
    assert all(len(line.split()) > 4 for line in lines), "each says what it is for"
