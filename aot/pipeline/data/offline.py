"""`aot doctor --offline`: does what a run begins with where no network can be reached, and says who tried to reach one.

A child process does the work. It moves into a network namespace of its own, which has no route to anywhere; where the
kernel does not let it, a guard refuses every connection that Python makes (PEP 578). As a module it is that child.
"""

import ctypes
import errno
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any, Literal

from aot.config import EMBEDDED_STUDENTS, RunConfig, load_config, load_saved
from aot.display import one_line
from aot.errors import AotError
from aot.files.run_folder import RunFolder, run_root
from aot.records import Record

TIME_LIMIT_S = 900.0
LOADED_BYTES = 2 << 30
"""Bases with more weights than this are not loaded as a whole: the look before training has read all their headers."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
_NEWNET, _NEWUSER = 0x40000000, 0x10000000
"""CLONE_NEWNET and CLONE_NEWUSER of sched.h."""
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1
"""SIOCGIFFLAGS, SIOCSIFFLAGS and IFF_UP of netdevice(7)."""
_NOWHERE = ("192.0.2.1", 9)
"""An address for documentation (RFC 5737): nobody has it, but with a network there is a route to it."""
Wall = Literal["namespace", "guard"]
WALLS: dict[Wall, str] = {
    "namespace": "in a network namespace without a route",
    "guard": "behind a guard in the process, as this machine gives no network namespace: what programs that Python "
    "started, or libraries in C, tried to reach was not seen",
}


class OfflineCheck(Record):
    """What `aot doctor --offline CONFIG --json` prints."""

    works: bool
    """Whether all that was tried went well, and nothing asked for a network."""
    lines: tuple[str, ...]
    """A line for each step; the last one says how the network was kept away."""


def check_offline(path: Path, overrides: tuple[str, ...] = ()) -> OfflineCheck:
    """What a config, or a run folder, at `path` did without a network."""
    request = json.dumps({"path": str(path), "overrides": list(overrides)})
    here = str(Path(__file__).resolve().parents[3])
    paths = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "aot.pipeline.data.offline"], input=request, capture_output=True, text=True,
            env={**os.environ, **OFFLINE, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}, timeout=TIME_LIMIT_S,
            check=False, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        waits = f"offline: was not through within {TIME_LIMIT_S:g} s; something waits for an answer of a network"
        return OfflineCheck(works=False, lines=(waits,))
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"step"')]
    lines = [f"{row['step']}: {row['words']}" for row in rows if row["step"] != "wall"]
    wall = next((row["words"] for row in rows if row["step"] == "wall"), None)
    went_well = done.returncode == 0 and wall is not None
    if wall is None or (not went_well and not any(row.get("failed") for row in rows)):
        last = one_line(done.stderr.strip().rpartition("\n")[2])[:300]
        ended = f"offline: the child process ended early (code {done.returncode}): {last}"
        return OfflineCheck(works=False, lines=(*lines, ended))
    verdict = "needs no network" if went_well else "is not ready for a machine without a network"
    return OfflineCheck(works=went_well, lines=(*lines, f"offline: {path} {verdict}; tried {WALLS[wall]}"))


def cut_off() -> Wall:
    """Leave this process and those it starts without a network; says by which means.

    Has to run before any thread is started: a process with threads may not change its user namespace.
    """
    library = ctypes.CDLL(None, use_errno=True)
    for flags in (_NEWNET, _NEWUSER | _NEWNET):
        if library.unshare(flags) == 0:
            _raise_loopback()
            if not _has_route():
                return "namespace"
    return "guard"


def _has_route() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_NOWHERE)  # of a datagram socket: asks for a route and sends nothing
        except OSError:
            return False
    return True


def _raise_loopback() -> None:
    """Processes of one machine may talk to each other all the same."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            flags = struct.unpack_from("16sh", ioctl(control, _GET_FLAGS, struct.pack("16sh22x", b"lo", 0)))[1]
            ioctl(control, _SET_FLAGS, struct.pack("16sh22x", b"lo", flags | _UP))
        except OSError:
            return


class Watch:
    """Notes every address outside of this machine that Python code asks for, and refuses it where that is needed."""

    def __init__(self, *, refuses: bool) -> None:
        self.tried: list[str] = []
        self._refuses = refuses
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
            return
        address = arguments[:2] if event == "socket.getaddrinfo" else arguments[-1]
        if not isinstance(address, tuple) or _is_here(address[0]):  # a path, of a socket in the file system
            return
        self.tried.append(":".join(str(part) for part in address[:2]))
        if self._refuses:
            raise OSError(errno.ENETUNREACH, "no network here: aot doctor --offline")


def _is_here(host: object) -> bool:
    name = host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
    return name in ("", "localhost", "::1", "0.0.0.0") or name.startswith("127.")  # noqa: S104 - compared, not bound


def _steps(path: Path, overrides: tuple[str, ...]) -> Iterator[tuple[str, Callable[[], str]]]:
    """What is tried, one after the other; each says in words what it did."""
    held: dict[str, RunConfig] = {}

    def read_config() -> str:
        config = load_saved(RunFolder(path).config) if path.is_dir() else load_config(path, overrides=overrides)
        held["config"] = config
        return f"data set {config.data.dataset}, student {config.student.base}"

    def read_data() -> str:
        from aot.pipeline.commands.inputs import check_paths
        from aot.pipeline.doors import door_of

        config = held["config"]
        run = RunFolder(path if path.is_dir() else run_root(config, config_path=path))
        check_paths(config, run)
        return "; ".join(map(str, door_of(config).plan(config, run).lines))[:1000]

    def load_base() -> str:
        from aot.serving.export.folder import weight_bytes
        from aot.student.model.base import resolve_base
        from aot.student.model.loading import load_student

        config = held["config"]
        folder = Path(resolve_base(config.student.base))
        if not folder.is_dir():
            raise AotError(f"{config.student.base} is a name on a hub; give a folder, and student.hub")
        size = weight_bytes(folder)
        if size > LOADED_BYTES and config.student.base not in EMBEDDED_STUDENTS:
            return f"{size / 1e9:.1f} GB of weights are there; their headers, the tokenizer and the template were read"
        student = load_student(config.student.base, config=config.student.model_copy(update={"device": "cpu"}))
        return f"loaded, {sum(one.numel() for one in student.model.parameters()):,} parameters, with its tokenizer"

    yield "config", read_config
    yield "inputs", read_data
    yield "base student", load_base


def main() -> int:
    """Do the steps; returns 0 where all went well and nobody asked for a network."""
    wall = cut_off()
    watch = Watch(refuses=wall == "guard")
    _report("wall", wall)
    request = json.loads(sys.stdin.read())
    for step, work in _steps(Path(request["path"]), tuple(request["overrides"])):
        try:
            words = work()
        except AotError as error:
            return _failed(step, str(error), watch)
        except Exception as error:  # noqa: BLE001 - whatever a library throws where its network is gone
            return _failed(step, f"{type(error).__name__}: {error}", watch)
        if watch.tried:
            return _failed(step, words, watch)
        _report(step, words)
    return 0


def _failed(step: str, words: str, watch: Watch) -> int:
    tried = f"; tried to reach {', '.join(dict.fromkeys(watch.tried))}, so fetch it before" if watch.tried else ""
    _report(step, words + tried, failed=True)
    return 1


def _report(step: str, words: str, *, failed: bool = False) -> None:
    sys.stdout.write(json.dumps({"step": step, "words": one_line(words), "failed": failed}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
