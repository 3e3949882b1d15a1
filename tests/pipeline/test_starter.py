"""`aot init`: what it makes loads from anywhere, takes its data from beside itself, and overwrites nothing."""

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


def test_the_list_names_every_kind_and_every_config_of_a_run() -> None:
    lines = listed_configs()
    assert all(any(line.startswith(f"aot init {kind} DIR: ") for line in lines) for kind in KINDS)
    named = [Path(line.split()[0]) for line in lines if line.startswith("configs/")]
    assert Path("configs/text/tiny_math.yaml") in named and len(named) > 40
    assert all(len(line.split()) > 4 for line in lines), "each says what it is for"
