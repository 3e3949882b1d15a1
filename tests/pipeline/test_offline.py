"""`aot doctor --offline`: a config is tried where no network is, and who asks for one is named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


@pytest.mark.slow
def test_a_config_of_what_is_here_needs_no_network_and_the_last_line_says_how_that_was_tried() -> None:
    done = python("-m", "aot", "doctor", "--offline", "configs/text/tiny_math_tiny.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["config", "inputs", "base student", "offline"]
    assert "needs no network; tried" in lines[-1]
    assert "network namespace without a route" in lines[-1] or "behind a guard" in lines[-1]


def test_what_is_not_here_is_told_and_ends_with_code_2(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "data: {dataset: hf, hf: {path: someone/sums, revision: main}}\nteacher: {planner: given}\n"
        "student: {base: tiny-text}\ntrain: {arms: [{name: a, order: pre}]}\n"
    )
    done = python("-m", "aot", "doctor", "--offline", str(config))
    assert done.returncode == 2 and "run `aot prefetch CONFIG`" in done.stdout
    assert "is not ready for a machine without a network" in done.stdout.splitlines()[-1]


def test_settings_without_a_config_to_try_are_refused() -> None:
    done = python("-m", "aot", "doctor", "seed=1")
    assert done.returncode == 2 and "none is given" in done.stderr


GUARDED = """
import socket
from aot.pipeline.data.offline import Watch
watch = Watch(refuses=True)
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
for tried in (lambda: socket.create_connection(("192.0.2.7", 443)), lambda: socket.getaddrinfo("hub.example", 443)):
    try:
        tried()
    except OSError as error:
        print(error.strerror)
print(watch.tried)
"""


def test_the_guard_refuses_and_names_every_address_but_those_of_this_machine() -> None:
    done = python("-c", GUARDED)
    assert done.stdout.count("no network here") == 2, done.stderr
    assert done.stdout.splitlines()[-1] == "['192.0.2.7:443', 'hub.example:443']"


CUT_OFF = """
import socket
from aot.pipeline.data.offline import cut_off
wall = cut_off()
print(wall)
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.7", 9))
    print("route")
except OSError:
    print("no route")
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname(), timeout=5).close()
    print("loopback")
"""


def test_a_namespace_has_no_route_to_anywhere_but_this_machine() -> None:
    lines = python("-c", CUT_OFF).stdout.split("\n")
    if lines[0] == "guard":
        pytest.skip("this machine gives no network namespace")
    assert lines[:3] == ["namespace", "no route", "loopback"]


SCRATCH = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCH_EXTENSIONS_DIR")


def test_compiled_kernels_go_to_the_scratch_of_a_job_unless_a_place_is_named(tmp_path: Path) -> None:
    from aot.student.train.processes.launch import compile_caches

    in_job = compile_caches({"SLURM_JOB_ID": "7", "TMPDIR": str(tmp_path)})
    assert set(in_job) == set(SCRATCH) and all(path.startswith(str(tmp_path)) for path in in_job.values())
    assert compile_caches({"TMPDIR": str(tmp_path)}) == {}
    named = {"SLURM_TMPDIR": str(tmp_path), SCRATCH[0]: "/elsewhere"}
    assert set(compile_caches(named)) == set(SCRATCH[1:])
