"""Stages of another run are taken over as far as the settings agree, and the other run stays as it was."""

import shutil
from pathlib import Path

import pytest
from settings_recorder import unless_given

from aot.config import RunConfig, load_config
from aot.errors import RunError
from aot.files.run_folder import RunFolder, stage_done
from aot.pipeline import reuse, run_stages

CONFIG = Path(__file__).parents[2] / "configs" / "video" / "toy_kitchen_tiny.yaml"
SMALL = (
    "data.toy={train_clips: 3, test_clips: 1, test_ood_clips: 1}",
    "frames.workers=1",
    "teacher.workers=1",
    "filter.min_kept=1",
)
FIRST_THREE = ("prepare", "generate", "filter")


def config_of(folder: Path, *settings: str) -> RunConfig:
    return load_config(CONFIG, overrides=(f"run.dir={folder}", *unless_given(SMALL, settings), *settings))


def do(config: RunConfig, *stages: str) -> RunFolder:
    return run_stages(config, config_path=CONFIG, command=["test"], stages=stages)[0]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return do(config_of(tmp_path_factory.mktemp("first") / "run"), *FIRST_THREE)


def test_a_moved_threshold_filters_again_and_generates_nothing(first: RunFolder, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in first.root.rglob("*") if path.is_file()}
    moved = ("filter.max_words=9", "filter.min_kept=0")
    run = do(config_of(tmp_path / "run", f"run.reuse={first.root}", *moved), "filter")
    assert {p.name: p.read_bytes() for p in run.traces.iterdir()} == {
        p.name: p.read_bytes() for p in first.traces.iterdir()
    }
    assert first.kept.read_bytes() and not run.kept.read_bytes()
    assert {path: path.read_bytes() for path in first.root.rglob("*") if path.is_file()} == before


def test_stages_after_a_changed_setting_are_made_again(first: RunFolder, tmp_path: Path) -> None:
    run = do(config_of(tmp_path / "run", f"run.reuse={first.root}", "teacher.candidates=1"), "prepare")
    assert [stage_done(run, stage) for stage in FIRST_THREE] == [True, False, False]


def test_what_was_taken_over_outlives_the_other_run(first: RunFolder, tmp_path: Path) -> None:
    other = shutil.copytree(first.root, tmp_path / "other")
    config = config_of(tmp_path / "run", f"run.reuse={other}")
    run = do(config, *FIRST_THREE)
    shutil.rmtree(other)
    assert all(stage_done(do(config, *FIRST_THREE), stage) for stage in FIRST_THREE)
    assert run.kept.read_bytes() == first.kept.read_bytes()


def test_a_kill_while_taking_over_leaves_nothing_half_taken(
    first: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path / "run", f"run.reuse={first.root}")
    before = {part.name: part.read_bytes() for part in first.traces.iterdir()}
    link = reuse._link

    def killed(other: RunFolder, run: RunFolder, stage: str) -> None:
        link(other, run, stage)
        if stage == "generate":
            raise KeyboardInterrupt

    monkeypatch.setattr(reuse, "_link", killed)
    with pytest.raises(KeyboardInterrupt):
        do(config, *FIRST_THREE)
    monkeypatch.undo()
    with pytest.raises(RunError, match="needs prepare"):
        do(config_of(tmp_path / "run"), "filter")
    assert do(config, *FIRST_THREE).kept.read_bytes() == first.kept.read_bytes()
    assert {part.name: part.read_bytes() for part in first.traces.iterdir()} == before


def test_a_run_that_does_not_fit_is_refused(first: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"other settings: seed"):
        do(config_of(tmp_path / "a", f"run.reuse={first.root}", "seed=5"), "prepare")
    with pytest.raises(RunError, match=r"is no run folder"):
        do(config_of(tmp_path / "b", f"run.reuse={tmp_path}"), "prepare")
