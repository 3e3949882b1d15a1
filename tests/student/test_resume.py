"""Killed anywhere and started again, an arm ends with the same bytes; a damaged checkpoint is never used."""

import hashlib
import logging
import os
import pickle
import shutil
import signal
from pathlib import Path

import pytest
from lives import Fault, Lives
from student_kit import make_run, read_lines, run_config

from aot.errors import CheckpointError, GuardStop
from aot.files.run_folder import RunFolder
from aot.student.model.loading import load_student
from aot.student.train.arm import train_arm
from aot.student.train.checkpoints import (
    MANIFEST,
    check_folder,
    checkpoint_folders,
    newest_intact,
    note_saved,
    remove_newer,
    write_manifest,
)

PUBLISHED = ("adapter_model.safetensors", "adapter_config.json", "contract.json", "metrics.jsonl", "manifest.json")


def digests(run: RunFolder) -> dict[str, str]:
    return {name: hashlib.sha256((run.arm("distilled") / name).read_bytes()).hexdigest() for name in PUBLISHED}


def config_with_dropout(base: Path):  # noqa: ANN201
    return run_config(base, questions_per_device=2, lora={"rank": 4, "alpha": 8, "dropout": 0.2})


@pytest.fixture(scope="module")
def whole(bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of an uninterrupted run."""
    config = config_with_dropout(bases["idefics3"])
    run = make_run(tmp_path_factory.mktemp("whole") / "run", config)
    train_arm(run, config, config.train.arms[1])
    return digests(run)


@pytest.mark.parametrize("at_step", [1, 3, 6])
def test_kill_9_and_rerun_end_with_the_same_bytes(
    at_step: int, whole: dict[str, str], bases: dict[str, Path], lives: Lives, tmp_path: Path
) -> None:
    config = config_with_dropout(bases["idefics3"])
    run = make_run(tmp_path / "run", config)
    killed = lives.live(run.root, "distilled", faults=(Fault(at_step, "SIGKILL"),))
    assert killed.codes == (-signal.SIGKILL,), killed.log
    train_arm(run, config, config.train.arms[1])
    assert digests(run) == whole
    assert [row["step"] for row in read_lines(run.arm("distilled") / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signal_saves_and_stops_at_the_same_step(
    name: str, whole: dict[str, str], bases: dict[str, Path], tmp_path: Path
) -> None:
    config = config_with_dropout(bases["idefics3"])
    run = make_run(tmp_path / "run", config)

    def progress(done: int, total: int) -> None:
        if done == 2:
            os.kill(os.getpid(), getattr(signal, name))

    with pytest.raises(GuardStop, match=f"{name} stopped training at step 3 of 6"):
        train_arm(run, config, config.train.arms[1], progress=progress)
    found = newest_intact(run.arm("distilled") / "checkpoints")
    assert found and found.step == 3
    train_arm(run, config, config.train.arms[1])
    assert digests(run) == whole


def test_a_signal_at_the_last_step_is_not_lost(bases: dict[str, Path], tmp_path: Path) -> None:
    config = run_config(bases["idefics3"], max_steps=2)
    run = make_run(tmp_path / "run", config)

    def progress(done: int, total: int) -> None:
        if done == total:
            os.kill(os.getpid(), signal.SIGHUP)

    with pytest.raises(KeyboardInterrupt, match="SIGHUP"):
        train_arm(run, config, config.train.arms[1], progress=progress)
    assert (run.arm("distilled") / "DONE").exists()


def stopped_run(bases: dict[str, Path], root: Path) -> RunFolder:
    config = config_with_dropout(bases["idefics3"])
    run = make_run(root, config)

    def progress(done: int, total: int) -> None:
        if done == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(GuardStop):
        train_arm(run, config, config.train.arms[1], progress=progress)
    return run


def test_each_damaged_file_is_found_and_the_older_checkpoint_taken(
    whole: dict[str, str], bases: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = stopped_run(bases, tmp_path / "run")
    root = run.arm("distilled") / "checkpoints"
    newest = root / "checkpoint-5"
    names = [entry.name for entry in check_folder(newest).files] + [MANIFEST]
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= {
        *names
    }
    assert not any(name.endswith(".bin") for name in names)
    for name in names:
        path = newest / name
        intact = path.read_bytes()
        flipped = bytes([intact[0] ^ 1]) + intact[1:]
        for damaged in (None, b"", intact[:-2], flipped):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            found = newest_intact(root)
            assert found and found.step == 4, name
            path.write_bytes(intact)
    (newest / "optimizer.pt").write_bytes(b"")
    config = config_with_dropout(bases["idefics3"])
    with caplog.at_level(logging.WARNING):
        train_arm(run, config, config.train.arms[1])
    assert "skipped checkpoint checkpoint-5" in caplog.text
    assert digests(run) == whole


def test_when_all_checkpoints_are_damaged_training_stops_and_says_what_to_do(
    whole: dict[str, str], bases: dict[str, Path], tmp_path: Path
) -> None:
    run = stopped_run(bases, tmp_path / "run")
    root = run.arm("distilled") / "checkpoints"
    config = config_with_dropout(bases["idefics3"])
    kept = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    for name in (MANIFEST, "optimizer.pt"):
        for damage in (Path.unlink, lambda path: path.write_bytes(b"")):
            for folder in checkpoint_folders(root):
                damage(folder / name)
            with pytest.raises(GuardStop, match=r"checkpoint-5: .*checkpoint-4: .*delete that folder") as told:
                train_arm(run, config, config.train.arms[1])
            assert told.value.exit_code == 4 and len(checkpoint_folders(root)) == 2
            for path, data in kept.items():
                path.write_bytes(data)
    shutil.rmtree(root)
    train_arm(run, config, config.train.arms[1])
    assert digests(run) == whole


def fake_checkpoint(root: Path, step: int, *, finished: bool = True) -> Path:
    folder = root / f"checkpoint-{step}"
    (folder / "global_step").mkdir(parents=True)
    for name in ("latest", "global_step/states.pt"):
        (folder / name).write_text(name)
    if finished:
        write_manifest(folder, step=step)
        note_saved(root)
    return folder


def test_a_first_save_that_was_killed_is_no_damage(tmp_path: Path) -> None:
    assert newest_intact(tmp_path) is None
    fake_checkpoint(tmp_path, 2, finished=False)
    assert newest_intact(tmp_path) is None
    fake_checkpoint(tmp_path, 4)
    (tmp_path / "checkpoint-4" / MANIFEST).unlink()
    with pytest.raises(GuardStop, match=r"checkpoint-4: .* was never finished"):
        newest_intact(tmp_path)


def test_a_file_in_place_of_a_checkpoint_or_of_their_folder_is_damage_and_named(tmp_path: Path) -> None:
    fake_checkpoint(tmp_path, 2)
    (tmp_path / "checkpoint-4").write_text("no folder")
    found = newest_intact(tmp_path)
    assert found and found.step == 2
    remove_newer(tmp_path, step=2)
    assert [one.name for one in checkpoint_folders(tmp_path)] == ["checkpoint-2"]
    for root in (tmp_path / "one", tmp_path / "file"):
        path = root / "checkpoint-2" if root.name == "one" else root
        path.parent.mkdir(exist_ok=True)
        path.write_text("no folder")
        with pytest.raises(GuardStop, match=rf"{path.name}.*delete"):
            newest_intact(root)


@pytest.mark.parametrize("name", ["latest", "global_step/states.pt"])
def test_files_of_any_name_and_in_folders_are_watched(name: str, tmp_path: Path) -> None:
    fake_checkpoint(tmp_path, 2)
    (fake_checkpoint(tmp_path, 4) / name).unlink()
    found = newest_intact(tmp_path)
    assert found and found.step == 2
    (tmp_path / "checkpoint-2" / name).unlink()
    with pytest.raises(GuardStop, match=rf"{name} is missing"):
        newest_intact(tmp_path)


def test_a_fresh_start_is_logged(bases: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = run_config(bases["idefics3"], max_steps=1)
    caplog.set_level(logging.INFO)
    train_arm(make_run(tmp_path / "run", config), config, config.train.arms[1])
    assert "distilled: no checkpoint yet, starting from scratch" in caplog.text


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.canary,)


@pytest.mark.parametrize(
    ("name", "data"),
    [("optimizer.pt", None), ("scheduler.pt", None), ("rng_state.pth", None), ("trainer_state.json", b"[" * 200_000)]
    + [("trainer_state.json", b"[]"), ("trainer_state.json", b'{"global_step": "x"}')],
)
def test_a_state_that_its_manifest_knows_and_nobody_can_read_is_told(
    name: str, data: bytes | None, bases: dict[str, Path], tmp_path: Path
) -> None:
    run = stopped_run(bases, tmp_path / "run")
    folder = run.arm("distilled") / "checkpoints" / "checkpoint-5"
    (folder / name).write_bytes(pickle.dumps(Evil(tmp_path / "canary")) if data is None else data)
    write_manifest(folder, step=5)
    config = config_with_dropout(bases["idefics3"])
    with pytest.raises(CheckpointError, match=r"checkpoint-5 cannot be taken up again .*delete that folder"):
        train_arm(run, config, config.train.arms[1])
    assert not (tmp_path / "canary").exists()


def test_published_adapter_that_was_altered_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    config = run_config(bases["idefics3"], max_steps=1)
    run = make_run(tmp_path / "run", config)
    train_arm(run, config, config.train.arms[1])
    for name in PUBLISHED[:3]:
        path = run.arm("distilled") / name
        intact = path.read_bytes()
        path.write_bytes(intact[:-2] + bytes([intact[-2] ^ 1]) + intact[-1:])
        with pytest.raises(CheckpointError, match=name):
            load_student(str(bases["idefics3"]), adapter=run.arm("distilled"), config=config.student)
        path.write_bytes(intact)
    load_student(str(bases["idefics3"]), adapter=run.arm("distilled"), config=config.student)


def test_checkpoints_of_another_set_up_are_not_resumed(bases: dict[str, Path], tmp_path: Path) -> None:
    run = stopped_run(bases, tmp_path / "run")
    manifest = run.arm("distilled") / "checkpoints" / "checkpoint-5" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"world_size": 1', '"world_size": 2'))
    config = config_with_dropout(bases["idefics3"])
    train_arm(run, config, config.train.arms[1])  # by another number of processes: which may go on
    run = stopped_run(bases, tmp_path / "other")
    manifest = run.arm("distilled") / "checkpoints" / "checkpoint-5" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"zero_stage": 0', '"zero_stage": 2'))
    with pytest.raises(CheckpointError, match="written with ZeRO stage 2, now it is 0; use the same set-up"):
        train_arm(run, config, config.train.arms[1])
