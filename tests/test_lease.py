"""Leases: one holder at a time, whoever starts when; and what becomes of those whose holder is gone, silent or late."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aot.errors import GuardStop, RunError
from aot.files import lease
from aot.files.lease import Holder, Lease, check_lease, hold, look, working_under
from aot.files.run_folder import RunFolder, publish

ROOT = Path(__file__).parents[1]
RACER = """
import os, sys
from pathlib import Path
from aot.errors import RunError
from aot.files.lease import hold
path = Path(sys.argv[1])
print("ready", flush=True)
os.read(int(sys.argv[3]), 1)  # ends for all at once
try:
    with hold(path, root=path.parent, command=["aot", "run", sys.argv[2]]):
        print("holds", flush=True)
        sys.stdin.read()
except RunError as error:
    print(error, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "lease.json"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(lease, "WATCH_S", 0.2)
    yield


def holding(path: Path, *, command: str = "run") -> "lease.contextmanager[Lease]":  # type: ignore[type-arg]
    return hold(path, root=path.parent, command=["aot", command])


def left_by(path: Path, *, silent_s: float = 0.0, **changes: object) -> Holder:
    """A lease that a holder left behind, `silent_s` ago."""
    holder = Holder.me(["aot", "run", "x.yaml"]).model_copy(update=changes)
    path.write_text(holder.model_dump_json())
    os.utime(path, (time.time() - silent_s, time.time() - silent_s))
    return holder


def race(path: Path, *, starts: int) -> list[str]:
    """What each of so many processes was told that tried at once; the one that holds it ends last."""
    gate, opened = os.pipe()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), str(n), str(gate)], cwd=ROOT, text=True, pass_fds=(gate,),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for n in range(starts)
    ]  # fmt: skip
    outputs = [racer.stdout for racer in racers if racer.stdout]
    assert [output.readline() for output in outputs] == starts * ["ready\n"]
    os.close(opened)
    told = [output.readline() for output in outputs]
    for racer in racers:
        racer.communicate()
    os.close(gate)
    return told


def test_of_ten_starts_at_once_exactly_one_holds_it_and_the_others_say_who(path: Path) -> None:
    told = race(path, starts=10)
    assert told.count("holds\n") == 1
    winner = told.index("holds\n")
    assert all(f"in use by `aot run {winner}` (pid " in line for n, line in enumerate(told) if n != winner)
    assert list(path.parent.iterdir()) == [], "it is given back, and nothing is left behind"


def test_of_ten_starts_after_a_killed_holder_exactly_one_takes_over(path: Path) -> None:
    left_by(path, pid=dead_pid())
    told = race(path, starts=10)
    assert told.count("holds\n") == 1 and sum("is in use by" in line for line in told) == 9
    assert list(path.parent.iterdir()) == []


def dead_pid() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_a_second_holder_is_told_who_where_since_when_and_at_what(path: Path) -> None:
    second = hold(path, root=path.parent, command=["aot"], doing=lambda: "stage train, 3 of 9")
    with holding(path, command="train"), pytest.raises(RunError) as refused, second:
        pass
    for told in (
        f"pid {os.getpid()} on ",
        "`aot train`",
        "since 2",
        "stage train, 3 of 9",
        "last sign of life 0 s ago",
    ):
        assert told in str(refused.value)
    assert refused.value.exit_code == 2 and not path.exists()


def test_a_number_that_another_process_has_now_is_no_sign_of_life(path: Path) -> None:
    left_by(path, pid=os.getpid(), started="1")
    with holding(path) as mine:
        assert mine.is_mine


def test_a_dead_child_that_nobody_waited_for_is_dead(path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    left_by(path, pid=child.pid, started=lease._began(child.pid))
    with pytest.raises(RunError), holding(path):
        pass
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with holding(path):
        pass
    child.wait()


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"space": "another boot or container"}])
@pytest.mark.parametrize("silent_s", [0.0, 30.0, 400 * 86400.0])
def test_a_holder_that_cannot_be_seen_from_here_is_believed_once_it_touches_its_lease(
    path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], silent_s: float
) -> None:
    left_by(path, pid=dead_pid(), silent_s=silent_s, **changes)
    monkeypatch.setattr(lease.time, "sleep", lambda seconds: os.utime(path))  # it lives while this process watches
    with pytest.raises(RunError, match="last sign of life 0 s ago"), holding(path):
        pass


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("silent_s", [0.0, 2 * lease.STALE_S, 400 * 86400.0])
def test_a_lease_of_another_host_that_stays_silent_is_taken_over(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, silent_s: float
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(lease, "STALE_S", 0.2)
    left_by(path, host="elsewhere", silent_s=silent_s)
    with holding(path) as mine:
        assert mine.is_mine and [one.name for one in path.parent.iterdir()] == ["lease.json"]
    assert "gave no sign of life" in caplog.text and "ended" not in caplog.text


@pytest.mark.usefixtures("impatient")
def test_a_lease_that_cannot_be_read_is_somebodys_until_it_is_silent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"\x00" * 40)
    with monkeypatch.context() as patched:
        patched.setattr(lease.time, "sleep", lambda seconds: os.utime(path))
        with pytest.raises(RunError, match="in use by `unknown`"), holding(path):
            pass
    os.utime(path, (0, 0))
    with holding(path) as mine:
        assert mine.is_mine


def test_who_was_pushed_out_publishes_nothing_and_takes_nothing_away(path: Path) -> None:
    run = RunFolder(path.parent)
    with holding(path):
        publish(run.metrics, "mine")
        other = left_by(path, host="elsewhere")
        with pytest.raises(GuardStop, match=r"taken over by `aot run x.yaml` \(pid \d+ on elsewhere") as stop:
            publish(run.metrics, "late")
    assert stop.value.exit_code == 4 and run.metrics.read_text() == "mine"
    seen = look(path)
    assert seen is not None and seen.holder == other
    assert [one.name for one in path.parent.glob(".*")] == []


def test_a_process_of_the_holder_stops_with_the_lease(path: Path) -> None:
    holder = left_by(path, host="elsewhere")
    with working_under(Lease(path, root=path.parent, id=holder.id)):
        check_lease(path.parent / "student")
        left_by(path)
        check_lease(path.parent.parent / "another folder")
        with pytest.raises(GuardStop):
            check_lease(path.parent / "student")
    check_lease(path.parent / "student")


def test_the_holder_touches_its_lease_and_changes_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.01)
    touched, utime = threading.Event(), os.utime
    with holding(path):
        before = path.read_bytes()
        utime(path, (0, 0))
        monkeypatch.setattr(os, "utime", lambda name: (utime(name), touched.set()))
        assert touched.wait(60) and path.stat().st_mtime > 0
        assert path.read_bytes() == before and json.loads(before)["pid"] == os.getpid()


def test_a_file_system_without_links_has_one_holder_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*names: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    left_by(path, pid=dead_pid())
    with holding(path), pytest.raises(RunError), holding(path):
        pass
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(shutil.which("ps") is None, reason="no ps here")
def test_without_proc_the_beginning_of_a_process_is_asked_of_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "Path", lambda name: Path("/nowhere") / name.lstrip("/"))
    began = lease._began(os.getpid())
    assert began == lease._began(os.getpid()) and any(c.isdigit() for c in began)
    assert lease._began(dead_pid()) == "" and lease._space() == ""


def test_what_a_lease_says_cannot_write_to_the_terminal(path: Path) -> None:
    left_by(path, command="\x1b[2Jrun", since="a\nb")
    with pytest.raises(RunError) as refused, holding(path):
        pass
    assert "\x1b" not in str(refused.value) and "\n" not in str(refused.value)
