"""Two machines made on this one, with networks of their own where that is allowed, train together by one script."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, which
from typing import Any

import psutil
import pytest
from fake_slurm import ROOT, Slurm

from aot.config import load_config
from aot.files.jsonl import read_json
from aot.files.run_folder import CHECKPOINTS, RunFolder
from aot.pipeline import run_stages

pytest.importorskip("torch", reason="needs the train extra")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CONFIG = """
data: {dataset: toy_math, math: {train: 40, test: 4, test_ood: 4}}
teacher: {planner: procedural}
student: {base: tiny-text, max_tokens: 512, max_answer_tokens: 8, max_rationale_tokens: 16}
train: {max_steps: 5, questions_per_step: 4, questions_per_device: 2, save_steps: 1, arms: [{name: pre, order: pre}]}
evaluate: {splits: [test]}
"""
ENDS_S = 240
"""Far more than a machine that lost the other needs, for a test machine that is busy."""


@dataclass
class Machines:
    """Two machines that share the disk, and how to start something on one of them."""

    address: str
    prefixes: tuple[list[str], list[str]]


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    names = [f"aot{os.getpid()}n{rank}" for rank in range(2)]
    links = [f"av{os.getpid() % 100_000}n{rank}" for rank in range(2)]
    ip = which("ip") or "ip"
    steps = [[ip, "netns", "add", name] for name in names]
    steps.append(
        [ip, "link", "add", links[0], "netns", names[0], "type", "veth", "peer", "name", links[1], "netns", names[1]]
    )
    for rank, name in enumerate(names):
        inside = [ip, "-n", name]
        steps.append([*inside, "addr", "add", f"10.77.0.{rank + 1}/24", "dev", links[rank]])
        # The same name on both, as the cards of machines have.
        steps.append([*inside, "link", "set", links[rank], "name", "aot0"])
        steps += [[*inside, "link", "set", link, "up"] for link in ("lo", "aot0")]
    try:
        allowed = os.geteuid() == 0 and all(_done(step) for step in steps)
        if allowed:
            prefixes = [ip, "netns", "exec", names[0]], [ip, "netns", "exec", names[1]]
            yield Machines("10.77.0.1:29400", prefixes)
        else:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            yield Machines(f"127.0.0.1:{port}", ([], []))
    finally:
        for name in names:
            _done([ip, "netns", "del", name])


def _done(words: list[str]) -> bool:
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nodes")
    (folder / "own.yaml").write_text(CONFIG)
    config = load_config(folder / "own.yaml", overrides=(f"run.dir={folder / 'run'}",))
    run_stages(config, config_path=folder / "own.yaml", command=["aot"], stages=("prepare", "generate", "filter"))
    return folder


def start(folder: Path, machines: Machines, rank: int) -> subprocess.Popen[str]:
    """The script on one machine, told its place as a workload manager other than Slurm does."""
    place = {"AOT_NODE_RANK": str(rank), "MASTER_ADDR": "", "OMP_NUM_THREADS": "1"}
    place["MASTER_ADDR"], place["MASTER_PORT"] = machines.address.split(":")
    words = [
        "bash",
        str(ROOT / "scripts/distill_video.sh"),
        "--config",
        "own.yaml",
        "--nodes",
        "2",
        "train",
        "run.dir=run",
    ]
    return subprocess.Popen(
        [*machines.prefixes[rank], *words], cwd=folder, text=True, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, **place, "AOT_VENV": str(real_environment(folder))},
    )  # fmt: skip


def real_environment(folder: Path) -> Path:
    """An environment that looks ready to the scripts, whose `aot` is that of this clone in this interpreter."""
    if not (folder / "venv").exists():
        slurm = Slurm(folder)
        aot = slurm.folder / "venv/bin/aot"
        aot.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec "{slurm.folder}/venv/bin/python" -m aot "$@"\n')
        python = slurm.folder / "venv/bin/python"
        target = os.readlink(python)
        python.unlink()
        python.write_text(f'#!/bin/sh\nexec "{target}" "$@"\n')  # a link would lose the packages of its environment
        python.chmod(0o755)
    return folder / "venv"


def trained(folder: Path, machines: Machines) -> bytes:
    """What a life of both machines publishes, to its end."""
    nodes = [start(folder, machines, rank) for rank in range(2)]
    told = [node.communicate(timeout=ENDS_S)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], told
    facts = read_json(RunFolder(folder / "run").arm("pre") / "training.json")
    assert facts["processes"] == 2
    return (RunFolder(folder / "run").arm("pre") / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(filtered: Path, lives: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What two processes of one machine publish that nothing disturbs."""
    folder = Path(copytree(filtered, tmp_path_factory.mktemp("alone") / "work"))
    config, path = load_config(folder / "own.yaml", overrides=(f"run.dir={folder / 'run'}",)), folder / "own.yaml"
    run, _ = run_stages(config, config_path=path, command=["aot"], stages=("train",), job="pre:lessons")
    life = lives.live(run.root, "pre", procs=2)
    assert life.codes == (0, 0), life.log
    return (run.arm("pre") / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("victim", [1])  # 0 passes as well, and takes as long again
def test_a_machine_that_is_cut_off_ends_the_other_with_a_reason_and_both_go_on_to_the_same_adapter(
    victim: int, filtered: Path, undisturbed: bytes, machines: Machines, tmp_path: Path
) -> None:
    folder = Path(copytree(filtered, tmp_path / "work"))
    nodes = [start(folder, machines, rank) for rank in range(2)]
    saved = RunFolder(folder / "run").arm("pre") / CHECKPOINTS / "SAVED"
    while not saved.exists():
        assert all(node.poll() is None for node in nodes), [node.communicate()[1] for node in nodes]
        time.sleep(0.02)
    lost = psutil.Process(nodes[victim].pid)
    for process in [lost, *lost.children(recursive=True)]:
        process.send_signal(signal.SIGKILL)
    other = nodes[1 - victim]
    told = other.communicate(timeout=ENDS_S)[1]
    nodes[victim].communicate()
    assert other.returncode == 4 and ("the first node" if victim == 0 else "node 1") in told, told
    assert "is gone" in told and "Traceback" not in told, told
    assert trained(folder, machines) == undisturbed
