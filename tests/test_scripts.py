"""The shell scripts, with a stub in place of the environment they would make."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALL = "all,dev"


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment that looks ready, whose `aot` prints its arguments and whose `python` refuses to install."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    for name, program in (("aot", 'printf "%s\\n" "$@"'), ("python", "echo pip was started >&2; exit 1")):
        (venv / "bin" / name).write_text(f"#!/bin/sh\n{program}\n")
        (venv / "bin" / name).chmod(0o755)
    stamp(venv, ALL)
    return venv


def stamp(venv: Path, extras: str) -> None:
    digest = subprocess.run(
        ["cksum"],
        input=(ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes(),
        capture_output=True,
        check=True,
    )
    (venv / f".ready-{extras}").write_bytes(digest.stdout)


def script(venv: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "distill_video.sh"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=venv.parent,
        env={**os.environ, "AOT_VENV": str(venv)},
    )


def test_a_relative_path_stays_relative_to_the_folder_of_the_caller(venv: Path) -> None:
    (venv.parent / "own.yaml").write_text("data: {dataset: plain}\n")
    done = script(venv, "--config", "own.yaml", "data.root=clips", "run.dir=here")
    assert done.stdout.split() == ["run", "own.yaml", "data.root=clips", "run.dir=here"], done.stderr


def test_the_default_run_folder_lies_in_the_clone_and_tells_variants_apart(venv: Path) -> None:
    done = script(venv, "--limit", "3", "--procs", "2", "--zero", "2")
    assert f"run.dir={ROOT}/runs/toy_kitchen-limit3-procs2-zero2" in done.stdout.split(), done.stderr
    assert str(ROOT / "configs" / "video" / "toy_kitchen.yaml") in done.stdout.split()


def test_a_run_folder_in_the_config_is_kept(venv: Path) -> None:
    (venv.parent / "own.yaml").write_text("run: {dir: mine}\ndata: {dataset: toy_kitchen}\n")
    assert "run.dir=" not in script(venv, "--config", "own.yaml").stdout


@pytest.mark.parametrize("wrong", [("--limit", "0"), ("--procs", "two"), ("--zero",), ("--config", "no.yaml"), ("x",)])
def test_a_wrong_argument_exits_2(venv: Path, wrong: tuple[str, ...]) -> None:
    done = script(venv, *wrong)
    assert done.returncode == 2 and "distill_video.sh:" in done.stderr


@pytest.mark.parametrize(("extras", "enough"), [("video,report,train,dev", True), ("video,train", False)])
def test_a_stamp_of_more_extras_is_enough_and_one_of_fewer_is_not(venv: Path, extras: str, enough: bool) -> None:
    (venv / f".ready-{ALL}").unlink()
    stamp(venv, extras)
    done = script(venv)
    assert (done.returncode == 0) is enough and ("pip was started" in done.stderr) is not enough


@pytest.mark.parametrize(
    ("arguments", "asks"),
    [
        (("--zero", "2"), True),
        (("train.zero_stage=1",), True),
        (("--config", str(ROOT / "configs" / "video" / "coin_qwen3vl_8b.yaml")), True),  # by what it includes
        (("--config", str(ROOT / "configs" / "video" / "coin_qwen3vl_8b.yaml"), "--zero", "0"), False),
        ((), False),
    ],
)
def test_deepspeed_is_installed_where_a_run_asks_for_zero_only(
    venv: Path, arguments: tuple[str, ...], asks: bool
) -> None:
    (venv / f".ready-{ALL}").unlink()
    stamp(venv, "video,train,report")
    assert ("pip was started" in script(venv, *arguments).stderr) is asks


def test_a_stamp_of_another_project_file_is_not_believed(venv: Path) -> None:
    (venv / f".ready-{ALL}").write_text("1 2\n")
    assert "pip was started" in script(venv).stderr


@pytest.mark.slow
def test_hostile_model_folders_are_tried_and_counted() -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    command = [
        sys.executable,
        str(ROOT / "scripts" / "check_bases.py"),
        "--limit-s",
        "300",
        "folder: gguf",
        "file",
        "config: no heads",
        "config: no type",
    ]  # others of its kind are looked over in tests/student/test_hostile_models.py, without a process for each
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tracebacks 0, over time 0, code ran 0, other surprises 0" in done.stdout
