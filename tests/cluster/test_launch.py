"""How the processes of a training are started and ended, on one machine and on several."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from aot.config import RunConfig, parse_config
from aot.errors import ConfigError, GuardStop, RunError
from aot.files.lease import Holder, hold
from aot.files.run_folder import RunFolder
from aot.interrupts import Interrupted
from aot.pipeline.follow import follow
from aot.student.train.processes import launch
from aot.student.train.processes.launch import STOP, Call, Others, Place, command, node_lease, read_call

ROOT = Path(__file__).parents[2]


def config_of(**train: Any) -> RunConfig:
    run = {"node_rank": train.pop("node_rank", 1), "rendezvous": "localhost:29500"}
    raw = {
        "data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "student": {"base": "tiny-text"},
        "run": run, "train": {"nodes": 2, "arms": [{"name": "pre", "order": "pre"}], **train},
    }  # fmt: skip
    return parse_config(raw, source="test")


def torchrun(place: Place) -> list[str]:
    """The words of torchrun on a machine."""
    call = Call(arm="pre", id="a1", lease_id="")
    words = command(RunFolder(Path("run")), config_of().train.arms[0], procs=8, place=place, call=call, lease=None)
    assert words[:3] == [sys.executable, "-m", "aot.student.train.processes.launch"]
    assert words[-4:] == ["-m", "aot.student.train.processes.worker", "run", "pre"]
    return words[3:-4]


@pytest.mark.parametrize("nodes", [2, 4])
def test_machines_meet_at_the_first_one_which_alone_listens(nodes: int) -> None:
    for rank in range(nodes):
        words = torchrun(Place.of(nodes, rank, "localhost:29500"))
        options = dict(zip(words[::2], words[1::2], strict=True))
        assert (options["--nnodes"], options["--nproc-per-node"], options["--rdzv-id"]) == (str(nodes), "8", "a1")
        assert (options["--rdzv-backend"], options["--rdzv-endpoint"]) == ("c10d", "localhost:29500")
        assert f"is_host={int(rank == 0)}," in options["--rdzv-conf"]
        assert options["--local-addr"] == ("127.0.0.1" if rank else "localhost")


def test_one_machine_needs_nobody_to_meet() -> None:
    assert torchrun(Place.of(1, 0, None)) == ["--nproc-per-node", "8", "--standalone"]


@pytest.mark.parametrize(
    ("place", "why"),
    [((2, 0, None), "need an address to meet at"), ((2, 2, "a:1"), "the ranks of 2 machines are 0 to 1")],
)
def test_a_place_that_there_is_not_is_refused(place: tuple[int, int, str | None], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Place.of(*place)


def leave(path: Path, *, pid: int) -> None:
    """The lease of a process, as if it had been killed or were at work."""
    me = Holder.me(["aot"])
    path.write_text(me.model_copy(update={"pid": pid} if pid != os.getpid() else {}).model_dump_json())


def dead() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_machines_that_never_came_and_those_that_are_gone_are_told_by_name(tmp_path: Path) -> None:
    leases = {f"node {rank}": tmp_path / f"{rank}.lease" for rank in (1, 2)}
    others = Others(leases, mine=None)
    assert others.missing() == [] and others.never_came() == ["node 1, node 2 never came"]
    leave(leases["node 1"], pid=os.getpid())
    assert others.missing() == [] and others.never_came() == ["node 2 never came"]
    leave(leases["node 1"], pid=dead())
    assert "node 1 (" in others.missing()[0] and "is gone" in others.missing()[0]
    leases["node 1"].unlink()
    assert "has ended" in others.missing()[0]


def test_a_call_counts_for_its_arm_as_long_as_who_called_is_at_work(tmp_path: Path) -> None:
    first = tmp_path / "lease.json"
    with hold(first, root=tmp_path, command=["aot"]) as lease:
        call = Call(arm="pre", id="a1", lease_id=lease.id)
        (tmp_path / ".lease.json.call.tmp").write_text(call.model_dump_json())
        now_s = lease.now_s()
        assert read_call("pre", first=first, now_s=now_s) == call
        assert read_call("post", first=first, now_s=now_s) is None
    assert read_call("pre", first=first, now_s=now_s) is None
    with hold(first, root=tmp_path, command=["aot"]):
        assert read_call("pre", first=first, now_s=now_s) is None


DEAF = "import signal; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGUSR2, signal.SIGTERM)]"
WRITES = "import os, signal, sys, time; signal.signal(signal.SIGUSR2, lambda *_: os._exit(5))"
LASTS = "print('begun', flush=True); time.sleep(600)"


def run_words(folder: Path, words: list[str], others: Others, report: Any = lambda: None) -> tuple[int, str]:
    log_path = folder / "log"
    return launch._run(words, dict(os.environ), log_path=log_path, report=report, others=others)


def test_processes_that_wait_for_a_machine_that_is_gone_are_ended_and_killed_where_they_do_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("POLL_S", 0.02), ("GONE_S", 0.1), ("ENDS_S", 0.1)):
        monkeypatch.setattr(launch, name, value)
    leases = {"node 1": tmp_path / "1.lease"}
    leave(leases["node 1"], pid=os.getpid())
    others = Others(leases, mine=None)
    others.missing()
    leave(leases["node 1"], pid=dead())
    with pytest.raises(
        GuardStop, match=r"node 1 .* is gone, so the training was stopped here; the same command goes on"
    ):
        run_words(tmp_path, [sys.executable, "-c", f"{DEAF}; import time; {LASTS}"], others)


def test_the_first_signal_is_handed_on_once_and_a_second_ctrl_c_waits_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "POLL_S", 0.02)
    sent: list[int] = []

    def send() -> None:
        if "begun" in (tmp_path / "log").read_text() and not sent:
            sent.append(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    others = Others({}, mine=None)
    code, name = run_words(tmp_path, [sys.executable, "-c", f"{WRITES}; {LASTS}"], others, report=send)
    assert (code, name) == (5, "SIGTERM")

    def send_twice() -> None:
        if (tmp_path / "log").read_text().count("begun") == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(launch, "ENDS_S", 0.1)
    with pytest.raises(Interrupted, match="SIGINT"):
        run_words(tmp_path, [sys.executable, "-c", f"{DEAF}; import time; {LASTS}"], others, report=send_twice)


def test_a_machine_has_nothing_to_do_once_all_is_trained_and_waits_not_for_ever_for_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["aot.pipeline.follow"], "PATIENCE_S", 0.0)
    run = RunFolder(tmp_path)
    with pytest.raises(GuardStop, match="no first node has been at work on"):
        follow(run, config_of())
    with (
        hold(node_lease(run.lease, 1), root=run.root, command=["aot", "run"]),
        pytest.raises(RunError, match="in use by `aot run`"),
    ):
        follow(run, config_of())
    (run.arm("pre")).mkdir(parents=True)
    for name in ("DONE", "lessons.DONE"):
        (run.arm("pre") / name).touch()
    follow(run, config_of())
    follow(run, config_of(), name="pre:lessons")


WORKER = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def save(number, frame):
    (folder / "heard").open("a").write(signal.Signals(number).name + "\\n")
    time.sleep(1)  # a second signal to torchrun would come meanwhile
    (folder / "saved").touch()
    os._exit(4)
for number in (signal.SIGTERM, signal.SIGUSR2):
    signal.signal(number, save)
(folder / "begun").touch()
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", ["one word", "the end of its parent"])
def test_torchrun_heeds_no_signal_but_the_one_of_its_starter_and_lets_its_processes_save(
    tmp_path: Path, end: str
) -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    (tmp_path / "worker.py").write_text(WORKER)
    words = [sys.executable, "-m", "aot.student.train.processes.launch", "--standalone", "--nproc-per-node", "1"]
    starter = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); sys.exit(p.wait())"
    command = [sys.executable, "-c", starter, *words, str(tmp_path / "worker.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        agent = int(process.stdout.readline())
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.05)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(agent, number)
        if end == "one word":
            os.kill(agent, STOP)
        else:
            process.kill()
        threading.Event().wait(0.2)
        os.kill(agent, signal.SIGTERM)
        while Path(f"/proc/{agent}").exists() and "Z" not in Path(f"/proc/{agent}/stat").read_text().split()[2]:
            time.sleep(0.05)
    assert (tmp_path / "saved").exists() and (tmp_path / "heard").read_text() == "SIGUSR2\n"
