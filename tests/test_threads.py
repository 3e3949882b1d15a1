"""How threads wait is said before torch is loaded, and only where the user has not."""

import os
import subprocess
import sys

import pytest

from aot.student.train.processes.launch import environment
from aot.threads import THREAD_SETTINGS, set_thread_waiting

TOLD = "import os, sys; from aot.cli import main; sys.argv = ['aot', '--help']\ntry: main()\nexcept SystemExit: pass\n"
TOLD += "print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"


@pytest.mark.parametrize(
    ("own", "told"),
    [({}, f"False {THREAD_SETTINGS['GOMP_SPINCOUNT']} None"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "False None ACTIVE")],
)
def test_the_command_line_says_how_threads_wait_before_torch_is_loaded(own: dict[str, str], told: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_WAIT"))}
    done = subprocess.run([sys.executable, "-c", TOLD], env=kept | own, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == told


def test_training_processes_wait_alike_unless_the_user_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    assert environment(procs=1, device="auto")["GOMP_SPINCOUNT"] == THREAD_SETTINGS["GOMP_SPINCOUNT"]
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    set_thread_waiting()
    assert environment(procs=1, device="auto")["GOMP_SPINCOUNT"] == os.environ["GOMP_SPINCOUNT"] == "7"
