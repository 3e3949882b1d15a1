"""Starts the processes of one arm through torchrun and turns their end back into our errors.

Each process runs `aot.student.train.processes.worker`, which reads what to train from the arm's folder. The first
writes its numbers there too; the one that fails first writes the reason, which is raised again here.

Where several machines train together, each runs one torchrun. The first calls the others by a file in the arm's folder,
and they meet at its address; whoever hears no more of the others ends its own processes.

`python -m aot.student.train.processes.launch` is torchrun that ends its processes at one word of whoever started it,
and heeds no other signal: Slurm sends a signal to every process of a job, so torchrun would get it twice, once more
through us, and the second would tear apart the end that the first began, leaving processes behind that are just saving.
"""

import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self

from pydantic import ValidationError

from aot import errors
from aot.config import ArmConfig, RunConfig, dump_config
from aot.errors import AotError, ConfigError, GuardStop
from aot.files.jsonl import parse_json, read_json
from aot.files.lease import Lease, lease_over, look
from aot.files.run_folder import ARM_SETTINGS, FAILURE, STEPS, TRAINING, RunFolder, publish
from aot.interrupts import Interrupted
from aot.records import Record
from aot.student.train.processes.ranks import clear_notes, lost_ranks
from aot.threads import thread_settings

log = logging.getLogger(__name__)
PROCESS_CONFIG = "processes.yaml"
"""In the folder of an arm: the settings of this life. The run's own config keeps those of the first, as far as they
change no result: a time limit that is given later would not reach the processes."""
HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that end a training; the first that comes is handed on to torchrun."""
STOP = signal.SIGUSR2
"""As what it is handed on, and what torchrun hands on to its processes, which then save and end."""
POLL_S = 2.0
SAVING_S = 240
"""Longest time between a signal and the end of the processes: the running step, and a checkpoint."""
MEETING_S = 900
"""So long torchrun waits for all machines: each loads its packages first, some from a slow disk."""
GONE_S = 30.0
"""After another machine was missed, the processes here have so long to end by themselves, with a reason."""
ENDS_S = 20.0
"""Then they are stopped, and killed after this time: what they wait for will not come."""


class Call(Record):
    """What the first of several machines leaves beside its lease while an arm is trained, for the others."""

    arm: str
    id: str
    """Of the rendezvous; another at each attempt."""
    lease_id: str
    """Of the lease that the first machine works under: once that is gone, or another, the call means nothing more."""


@dataclass(frozen=True)
class Place:
    """This machine among those that train together."""

    nodes: int
    rank: int
    rendezvous: str
    """`HOST:PORT` of the first; empty where there is only one."""

    @property
    def address(self) -> str:
        """Where the others reach this machine: as they call the first, or by the network that leads to it."""
        host, _, port = self.rendezvous.rpartition(":")
        if self.rank == 0:
            return host
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.connect((host, int(port)))  # sends nothing
            return str(way.getsockname()[0])

    @classmethod
    def of(cls, nodes: int, rank: int, rendezvous: str | None) -> Self:
        """The place that the settings `train.nodes`, `run.node_rank` and `run.rendezvous` give this machine.

        Raises:
            ConfigError: there is no such place, or no address for the others.
        """
        if nodes > 1 and not rendezvous:
            raise ConfigError(
                f"train.nodes is {nodes}, and machines need an address to meet at: give run.rendezvous=HOST:PORT of "
                "the first one, and run.node_rank on each; scripts/distill_video.sh does so (docs/cluster.md)"
            )
        if rank >= nodes:
            raise ConfigError(f"run.node_rank is {rank}, but the ranks of {nodes} machines are 0 to {nodes - 1}")
        return cls(nodes, rank, rendezvous or "")


def node_lease(lease: Path, rank: int) -> Path:
    """Where the machine of that rank tells that it takes part, beside the lease of the first."""
    return lease.with_name(f"{lease.stem}-node{rank}.lease")


def _call_path(lease: Path) -> Path:
    return lease.with_name(f".{lease.name}.call.tmp")


def launch(
    run: RunFolder, config: RunConfig, arm: ArmConfig, *, progress: Callable[[int, int], None] | None = None
) -> None:
    """Train `arm` in `train.procs` processes on this machine, and with those of the others, and wait for them.

    Raises:
        AotError: what stopped the process that failed first.
        GuardStop: a signal stopped them, or they ended without saying why; their output is in the arm's folder.
    """
    folder, lease = run.arm(arm.name), lease_over(run.root)
    place = Place.of(config.train.nodes, config.run.node_rank, config.run.rendezvous)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILURE).unlink(missing_ok=True)
    clear_notes(folder)
    publish(folder / ARM_SETTINGS, arm.model_dump_json() + "\n")
    publish(folder / PROCESS_CONFIG, dump_config(config))
    call = Call(arm=arm.name, id=secrets.token_hex(8), lease_id=lease.id if lease else "")
    others = Others(
        {f"node {rank}": node_lease(lease.path, rank) for rank in range(1, place.nodes)} if lease else {}, mine=lease
    )
    called = _call_path(lease.path) if lease and place.nodes > 1 else None
    if called:
        publish(called, call.model_dump_json() + "\n")
    log_path = folder / "processes.log"
    try:
        code, signal_name = _run(
            command(run, arm, procs=config.train.procs, place=place, call=call, lease=lease),
            environment(procs=config.train.procs, device=config.student.device, place=place),
            log_path=log_path,
            report=lambda: _report(folder, config.steps_of(arm), progress),
            others=others,
        )
    finally:
        if called:
            called.unlink(missing_ok=True)
    _report(folder, config.steps_of(arm), progress)
    if code == 0:
        return
    reason = _failure(folder / FAILURE, signal_name)
    if reason and not others.missing():
        raise reason
    end = f"was stopped by {signal_name}; the same command goes on" if signal_name else f"ended with code {code}"
    processes = place.nodes * config.train.procs
    words = [f"{processes} processes {end}", lost_ranks(folder, processes=processes, ended=True)]
    words = [one for one in (*words, *others.missing(), *others.never_came()) if one]
    raise GuardStop(f"training {arm.name} in {'; '.join(words)}; see {log_path}" + (f" ({reason})" if reason else ""))


def join(
    run: RunFolder, arm: ArmConfig, *, place: Place, procs: int, device: str, call: Call, mine: Lease,
    first: Path,
) -> None:  # fmt: skip
    """Take part in a training of `arm` that the machine under the lease `first` has called for, and wait for its end.

    Raises:
        GuardStop: a signal stopped it, or it ended before all steps were taken; the first machine tells why.
    """
    log_path = run.arm(arm.name) / f"processes-node{place.rank}.log"
    others = Others({"the first node": first}, mine=mine)
    code, signal_name = _run(
        command(run, arm, procs=procs, place=place, call=call, lease=Lease(first, root=run.root, id=call.lease_id)),
        environment(procs=procs, device=device, place=place),
        log_path=log_path,
        report=lambda: None,
        others=others,
    )
    if code:
        end = f"was stopped by {signal_name}" if signal_name else f"ended with code {code} on node {place.rank}"
        why = "; ".join(others.missing()) or "why stands in the log of the first node"
        raise GuardStop(f"training {arm.name} on {place.nodes} nodes {end}; {why}; see {log_path}")


def read_call(arm: str, *, first: Path, now_s: float) -> Call | None:
    """The call for a training of that arm; None where there is none by who works under the lease `first` now."""
    try:
        call = Call.model_validate_json(_call_path(first).read_bytes())
        seen = look(first, live_at_s=now_s)
    except (OSError, ValidationError):  # not yet, not any more, or just being replaced
        return None
    return call if seen and seen.holder.id == call.lease_id and call.arm == arm else None


class Others:
    """The machines that train together with this one, as far as their leases tell."""

    def __init__(self, leases: dict[str, Path], *, mine: Lease | None) -> None:
        """`leases` by what their machine is called; times are compared with that of the lease `mine`."""
        self._leases, self._mine = leases, mine
        self._hosts: dict[str, str] = {}
        """Of those that were seen at work."""
        self._missed_s: float | None = None

    def missing(self) -> list[str]:
        """A sentence for each machine that was there and is no more."""
        gone = []
        now_s = time.time()
        with suppress(OSError):
            now_s = self._mine.now_s() if self._mine else now_s
        for title, path in self._leases.items():
            with suppress(OSError):  # a file server that is away says nothing about anybody
                seen = look(path)
                if seen and seen.is_live(now_s=now_s):
                    self._hosts[title] = seen.holder.host
                elif title in self._hosts:
                    how = f"gave no sign of life for {now_s - seen.touched_s:.0f} s" if seen else "has ended"
                    how = "is gone" if seen and seen.holder.is_gone else how
                    gone.append(f"{title} ({self._hosts[title]}) {how}")
        return gone

    def never_came(self) -> list[str]:
        """A sentence about the machines that were not seen at all, if any."""
        absent = [title for title in self._leases if title not in self._hosts]
        return [f"{', '.join(absent)} never came"] if absent else []

    def require(self) -> None:
        """Look after them, now and then.

        Raises:
            GuardStop: one has been missing for GONE_S, and the processes here still wait for it.
        """
        gone = self.missing()
        if not gone:
            self._missed_s = None
        elif self._missed_s is None:
            self._missed_s = time.monotonic()
            log.warning("%s; waiting %.0f s for the processes here to end", "; ".join(gone), GONE_S)
        elif time.monotonic() - self._missed_s > GONE_S:
            raise GuardStop(f"{'; '.join(gone)}, so the training was stopped here; the same command goes on")


def command(run: RunFolder, arm: ArmConfig, *, procs: int, place: Place, call: Call, lease: Lease | None) -> list[str]:
    """The torchrun call as an argument list; the processes work under `lease`."""
    torchrun = [sys.executable, "-m", "aot.student.train.processes.launch", "--nproc-per-node", str(procs)]
    if place.nodes == 1:
        torchrun.append("--standalone")
    else:
        conf = {"is_host": int(place.rank == 0), "join_timeout": MEETING_S, "read_timeout": MEETING_S}
        torchrun += ["--nnodes", str(place.nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", place.rendezvous]
        # Else machines call each other by the names they give themselves, which others may not know.
        torchrun += ["--local-addr", place.address]
        torchrun += ["--rdzv-id", call.id, "--rdzv-conf", ",".join(f"{key}={value}" for key, value in conf.items())]
    under = [str(lease.path), lease.id] if lease else []
    return [*torchrun, "-m", "aot.student.train.processes.worker", str(run.root), arm.name, *under]


def environment(*, procs: int, device: str, place: Place | None = None) -> dict[str, str]:
    """Environment of the processes: this machine's cores shared out, DeepSpeed told of a CPU, gloo of the network."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # of this job
    cores = max(1, here // procs)
    extra = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores)), "TOKENIZERS_PARALLELISM": "false"}
    extra["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(SAVING_S)
    if device == "cpu":
        extra["CUDA_VISIBLE_DEVICES"] = ""
    if place and place.nodes > 1 and "GLOO_SOCKET_IFNAME" not in os.environ and (card := _network_card(place)):
        extra["GLOO_SOCKET_IFNAME"] = card
    root = Path(__file__).resolve().parents[4]
    paths = [str(root), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **os.environ,
        **compile_caches(os.environ),
        **thread_settings(),
        **extra,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
    }


def compile_caches(given: Mapping[str, str]) -> dict[str, str]:
    """Where compiled kernels go in a Slurm job: its local scratch, for a shared home is slow and its locks may lie.

    What the environment names already stays as it is; elsewhere the usual places are kept, so that nothing is built
    again.
    """
    scratch = given.get("SLURM_TMPDIR") or (given.get("TMPDIR") if given.get("SLURM_JOB_ID") else None)
    if not scratch or not os.access(scratch, os.W_OK):
        return {}
    places = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton", "TORCH_EXTENSIONS_DIR": "extensions"}
    return {
        name: str(Path(scratch, f"aot-{os.getuid()}", place)) for name, place in places.items() if name not in given
    }


def _network_card(place: Place) -> str:
    """The network card by which the others reach this machine; empty where that cannot be seen.

    gloo would take that of the machine's own name, which many systems give the address 127.0.1.1.
    """
    import psutil  # comes with accelerate

    with suppress(OSError):
        address = socket.gethostbyname(place.address)
        for card, addresses in psutil.net_if_addrs().items():
            if address in {one.address for one in addresses}:
                return str(card)
    return ""


def write_failure(folder: Path, error: AotError) -> None:
    """Leave the reason of a failed process where the launcher finds it; the first one stays.

    torchrun ends the other processes once one has failed, so what they then say is no cause.
    """
    text = json.dumps({"error": type(error).__name__, "message": str(error)})
    with suppress(FileExistsError), (folder / FAILURE).open("x", encoding="utf-8") as file:
        file.write(text + "\n")


def _failure(path: Path, signal_name: str) -> AotError | None:
    """The reason that a process left; a signal bears the name of that which came, not of what it was handed on as."""
    if not path.exists():
        return None
    try:
        data = read_json(path)
        kind: type[AotError] = getattr(errors, data["error"], AotError)
        return kind(data["message"].replace(STOP.name, signal_name or STOP.name))
    except (ValueError, KeyError, TypeError, AttributeError):  # the process was killed while it wrote
        return None


def _run(
    words: list[str], env: dict[str, str], *, log_path: Path, report: Callable[[], None], others: Others
) -> tuple[int, str]:
    """Start torchrun, wait for it, hand the first signal on to it, and report now and then.

    Returns:
        Its exit code, and the name of the first signal that came meanwhile ("" for none).

    Raises:
        Interrupted: a signal came too late to stop it.
        GuardStop: another machine is gone.
    """
    in_main = threading.current_thread() is threading.main_thread()
    numbers = [n for n in HANDED_ON if signal.getsignal(n) != signal.SIG_IGN] if in_main else []
    caught: list[str] = []
    process: subprocess.Popen[bytes] | None = None

    def forward(number: int, frame: FrameType | None) -> None:
        caught.append(signal.Signals(number).name)
        if len(caught) == 1 and process:
            process.send_signal(STOP)
        elif len(caught) > 1 and number == signal.SIGINT:  # of a person who does not want to wait
            raise Interrupted(caught[0])

    old: dict[int, Any] = {number: signal.signal(number, forward) for number in numbers}
    try:
        with log_path.open("ab") as log_file:
            process = subprocess.Popen(words, stdout=log_file, stderr=subprocess.STDOUT, env=env)
        if caught:
            process.send_signal(STOP)
        while True:
            try:
                code = process.wait(timeout=POLL_S)
                if code == 0 and caught:
                    raise Interrupted(caught[0])
                return code, caught[0] if caught else ""
            except subprocess.TimeoutExpired:
                report()
                others.require()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        if process:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Stop torchrun if it still runs; kill it and its processes where that takes long, as they wait for somebody."""
    if process.poll() is not None:
        return
    import psutil  # comes with accelerate

    process.send_signal(STOP)
    try:
        process.wait(timeout=ENDS_S)
    except subprocess.TimeoutExpired:
        with suppress(psutil.Error):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()


def _report(folder: Path, max_steps: int, progress: Callable[[int, int], None] | None) -> None:
    path = folder / STEPS
    if progress and path.exists():
        if not max_steps:  # they follow from the lessons, which the first process counted
            max_steps = int(str(read_json(folder / TRAINING)["max_steps"]))
        lines = path.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines[-2:] if line.endswith(b"\n")]
        if whole:
            progress(int(parse_json(whole[-1])["step"]), max_steps)


def torchrun(arguments: list[str]) -> None:
    """Run torchrun with `arguments`, deaf to all signals but STOP, which also comes once its parent is gone."""
    for number in HANDED_ON:
        if number != STOP:
            signal.signal(number, lambda *_: None)  # the processes would inherit SIG_IGN, and must hear signals
    threading.Thread(target=_stop_with_parent, args=(os.getppid(),), name="aot-parent", daemon=True).start()
    from torch.distributed.run import main

    main(["--signals-to-handle", STOP.name, *arguments])


def _stop_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_S / 2)
    os.kill(os.getpid(), STOP)


if __name__ == "__main__":
    torchrun(sys.argv[1:])
