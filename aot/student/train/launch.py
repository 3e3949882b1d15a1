"""Starts the processes of one arm through torchrun and turns their end back into our errors.

Each process runs `aot.student.train.worker`, which reads what to train from the arm's folder. The first writes its
numbers there too; the one that fails first writes the reason, which is raised again here.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from aot import errors
from aot.config import ArmConfig, RunConfig
from aot.errors import AotError, GuardStop
from aot.files.jsonl import parse_json, read_json
from aot.files.lease import lease_over
from aot.files.run_folder import ARM_SETTINGS, FAILURE, STEPS, RunFolder, publish
from aot.interrupts import Interrupted
from aot.student.train.ranks import clear_notes, lost_ranks
from aot.threads import thread_settings

POLL_S = 2.0
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that are handed on to torchrun, which tells its processes."""


def launch(
    run: RunFolder, config: RunConfig, arm: ArmConfig, *, progress: Callable[[int, int], None] | None = None
) -> None:
    """Train `arm` in `train.procs` processes on this machine and wait for them.

    Raises:
        AotError: what stopped the process that failed first.
        GuardStop: a signal stopped them, or they ended without saying why; their output is in the arm's folder.
    """
    folder = run.arm(arm.name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILURE).unlink(missing_ok=True)
    clear_notes(folder)
    publish(folder / ARM_SETTINGS, arm.model_dump_json() + "\n")
    log_path = folder / "processes.log"
    with log_path.open("ab") as log_file:
        process = subprocess.Popen(
            command(run, arm, procs=config.train.procs),
            stdout=log_file,
            stderr=subprocess.STDOUT,
            env=environment(procs=config.train.procs, device=config.student.device),
        )
        code, signal_name = _wait(process, lambda: _report(folder, config.steps_of(arm), progress))
    _report(folder, config.steps_of(arm), progress)
    if code == 0:
        return
    end = f"was stopped by {signal_name}; the same command goes on" if signal_name else f"ended with code {code}"
    lost = lost_ranks(folder, processes=config.train.procs, ended=True)
    raise _failure(folder / FAILURE) or GuardStop(
        f"training {arm.name} in {config.train.procs} processes {end}{f' ({lost})' if lost else ''}; see {log_path}"
    )


def command(run: RunFolder, arm: ArmConfig, *, procs: int) -> list[str]:
    """The torchrun call as an argument list; the processes work under the lease of this one."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(procs)]
    lease = [str(held.path), held.id] if (held := lease_over(run.root)) else []
    return [*torchrun, "-m", "aot.student.train.worker", str(run.root), arm.name, *lease]


def environment(*, procs: int, device: str) -> dict[str, str]:
    """Environment of the processes: the machine's cores shared out, and DeepSpeed told about a CPU."""
    cores = max(1, (os.cpu_count() or 1) // procs)
    extra = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(cores)), "TOKENIZERS_PARALLELISM": "false"}
    if device == "cpu":
        extra["CUDA_VISIBLE_DEVICES"] = ""
    here = Path(__file__).resolve().parents[3]
    paths = [str(here), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, **thread_settings(), **extra, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def write_failure(folder: Path, error: AotError) -> None:
    """Leave the reason of a failed process where the launcher finds it; the first one stays.

    torchrun ends the other processes once one has failed, so what they then say is no cause.
    """
    text = json.dumps({"error": type(error).__name__, "message": str(error)})
    with suppress(FileExistsError), (folder / FAILURE).open("x", encoding="utf-8") as file:
        file.write(text + "\n")


def _failure(path: Path) -> AotError | None:
    if not path.exists():
        return None
    try:
        data = read_json(path)
        kind: type[AotError] = getattr(errors, data["error"], AotError)
        return kind(data["message"])
    except (ValueError, KeyError, TypeError):  # the process was killed while it wrote
        return None


def _wait(process: "subprocess.Popen[bytes]", report: Callable[[], None]) -> tuple[int, str]:
    """Wait for torchrun, hand signals on to it, and report now and then.

    Returns:
        Its exit code, and the name of the first signal that came meanwhile ("" for none).

    Raises:
        Interrupted: a signal came too late to stop it.
    """
    in_main = threading.current_thread() is threading.main_thread()
    numbers = [n for n in FORWARDED if signal.getsignal(n) != signal.SIG_IGN] if in_main else []

    caught: list[str] = []

    def forward(number: int, frame: FrameType | None) -> None:
        caught.append(signal.Signals(number).name)
        process.send_signal(number)

    old: dict[int, Any] = {number: signal.signal(number, forward) for number in numbers}
    try:
        while True:
            try:
                code = process.wait(timeout=POLL_S)
                if code == 0 and caught:
                    raise Interrupted(caught[0])
                return code, caught[0] if caught else ""
            except subprocess.TimeoutExpired:
                report()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        if process.poll() is None:
            process.terminate()
            process.wait()


def _report(folder: Path, max_steps: int, progress: Callable[[int, int], None] | None) -> None:
    path = folder / STEPS
    if progress and path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines[-2:] if line.endswith(b"\n")]
        if whole:
            progress(int(parse_json(whole[-1])["step"]), max_steps)
