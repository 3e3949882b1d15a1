import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aot import STAGES

ROOT = Path(__file__).parents[1]
VERBS = set(STAGES) | {"run", "status", "doctor", "probe", "frames", "ask"}


def aot(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "aot", *arguments], capture_output=True, text=True, cwd=cwd, check=False, env=environment
    )


def test_the_table_of_verbs_is_frozen() -> None:
    lines = aot("--help").stdout.split("Commands:")[1].splitlines()
    assert {line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "} == VERBS


def test_help_imports_no_heavy_library() -> None:
    heavy = ("torch", "transformers", "cv2", "av", "decord", "numpy")
    program = f"import sys, aot, aot.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml"),
        (("run", "configs/video/toy_kitchen.yaml", "train.max_step=3"), "did you mean train.max_steps?"),
        (("run", "configs/video/toy_kitchen.yaml", "rubbish"), "key.sub=value"),
        (("run", "configs/video/toy_kitchen.yaml", "--limit", "0"), "limit"),
        (("status", "tests"), "run folder"),
        (("probe", "README.md"), "README.md"),
        (("probe", "http://localhost/clip.mp4"), "localhost"),
        (("ask", "nowhere.mp4", "What is the next step?"), "nowhere.mp4"),
        (("walk",), "walk"),
    ],
)
def test_bad_input_exits_2_with_one_line_and_no_traceback(arguments: tuple[str, ...], told: str) -> None:
    done = aot(*arguments)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_exits_4_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aot", "run", "configs/video/toy_kitchen.yaml", f"run.dir={tmp_path / 'run'}"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("run/clips/*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.terminate()
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 4, errors
    assert "the same command goes on" in errors and "Traceback" not in errors
