"""Lives of a training, each in new processes that a warm one forks: real processes and signals without their start-up.

Used by scripts/check_resume.py and by tests. `python scripts/lives.py` is the warm process: it reads one
line of JSON for each life and answers with one line of JSON, once all processes of that life have ended.
"""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from runpy import run_path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 240.0
WARM = (
    "aot.student.train.arm",
    "aot.student.train.processes.worker",
    "deepspeed",
    "transformers.models.llama.modeling_llama",
)
"""What the warm process imports before any life."""


@dataclass(frozen=True)
class Fault:
    """What happens to a life: in the first forward pass of a step, in the process with this rank."""

    step: int
    """Of this one; a signal comes in the first step of the life that is not before it."""
    act: str
    """Name of a signal to this process, or after `all:` to all; `nan`: the loss of the step is no number; `gradient`:
    what it leads to is written to gradient.safetensors."""
    rank: int = 0
    within_s: float = 0.0
    """A signal comes at a random moment, so long after the beginning of the step at most."""


@dataclass(frozen=True)
class Life:
    """How the processes of a life ended."""

    codes: tuple[int, ...]
    """One for each rank: its exit code, or minus the number of the signal that ended it."""
    log: str
    """What they wrote to stderr."""


class Lives:
    """The warm process, from the other side; a context manager."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "DS_ACCELERATOR": "cpu"},
        )

    def __enter__(self) -> "Lives":
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def live(
        self, run: Path, arm: str, *, procs: int = 1, faults: tuple[Fault, ...] = (), env: dict[str, str] | None = None,
        program: Path | None = None, limit_s: float = LIMIT_S,
    ) -> Life:  # fmt: skip
        """Train `arm` of the run folder in `procs` processes until they end, or are killed after `limit_s`.

        Each runs `program` first, which may change what the training does.
        """
        assert self._process.stdin and self._process.stdout
        order = {"run": str(run), "arm": arm, "procs": procs, "faults": [asdict(f) for f in faults], "env": env or {}}
        order |= {"program": str(program) if program else "", "limit_s": limit_s}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the warm process of scripts/lives.py ended")
        codes, log = json.loads(answer)
        return Life(tuple(codes), log)


def _serve(answers: IO[str]) -> None:
    for line in sys.stdin:
        order = json.loads(line)
        log = Path(order["run"]) / "lives.log"
        start = log.stat().st_size if log.exists() else 0
        codes = _live(order, log)
        answers.write(json.dumps([codes, log.read_bytes()[start:].decode(errors="replace")]) + "\n")
        answers.flush()


def _live(order: dict[str, Any], log: Path) -> list[int]:
    """Fork the processes of one life, give them a store to find each other, and wait for all of them."""
    from torch.distributed import TCPStore

    read_end, write_end = os.pipe()
    pids: list[int] = []
    for rank in range(order["procs"]):
        pid = os.fork()
        if pid == 0:
            os.close(write_end)
            _be_born(order, rank, log, read_end, group=pids[0] if pids else 0)
        os.setpgid(pid, pids[0] if pids else pid)
        pids.append(pid)
    # Only now, because it has a thread of its own, which should not be there while processes are forked.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    os.write(write_end, f"{store.port:08d}".encode() * len(pids))
    os.close(write_end)
    os.close(read_end)
    return _wait(pids, limit_s=order["limit_s"])


def _wait(pids: list[int], *, limit_s: float) -> list[int]:
    """Exit codes; once one has failed and nobody else moves, what stands still is killed, as torchrun does."""
    codes: dict[int, int] = {}
    until_s = time.monotonic() + limit_s
    while len(codes) < len(pids):
        for pid in pids:
            if pid not in codes:
                done, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
                if done and not os.WIFSTOPPED(status):
                    codes[pid] = os.waitstatus_to_exitcode(status)
        left = [pid for pid in pids if pid not in codes]
        if left and (time.monotonic() > until_s or (codes and all(map(_stands_still, left)))):
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return [codes[pid] for pid in pids]


def _stands_still(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"


def _be_born(order: dict[str, Any], rank: int, log: Path, read_end: int, *, group: int) -> None:
    """What the process with this rank does; it does not come back."""
    os.setpgid(0, group)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    procs = order["procs"]
    if procs > 1 or order["env"].pop("ALWAYS", ""):
        port = os.read(read_end, 8).decode()
        os.environ.update(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(procs), LOCAL_WORLD_SIZE=str(procs),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=port, TORCHELASTIC_USE_AGENT_STORE="True",
            TORCHELASTIC_RESTART_COUNT="0",
        )  # fmt: skip
    os.environ.update(order["env"])
    from aot.student.train.processes import worker

    _plant([Fault(**fault) for fault in order["faults"] if fault["rank"] == rank], Path(order["run"]), rank)
    code = 1
    try:
        if order["program"]:
            run_path(order["program"])
        code = worker.main([order["run"], order["arm"]])
    finally:
        sys.stderr.flush()
        os._exit(code)


def _plant(faults: list[Fault], run: Path, rank: int) -> None:
    """Have the faults happen, and write down which questions each step gave to this process."""
    from aot.student.train.trainer import TwoTermTrainer

    count: Callable[..., Any] = TwoTermTrainer.count_supervised
    compute: Callable[..., Any] = TwoTermTrainer.compute_loss
    before: Callable[..., Any] = TwoTermTrainer.before_step
    signals = [fault for fault in faults if fault.act not in ("nan", "gradient")]

    def due(trainer: TwoTermTrainer, act: str) -> bool:
        return any(fault.act == act and fault.step == trainer.state.global_step + 1 for fault in faults)

    def count_supervised(self: TwoTermTrainer, batches: list[dict[str, Any]], device: Any) -> Any:  # noqa: ANN401
        step = self.state.global_step + 1
        with (run / f"seen-{rank}.jsonl").open("a") as file:
            ids = [one for batch in batches for one in batch["question_ids"]]
            file.write(json.dumps([step, ids, time.time()]) + "\n")
        return count(self, batches, device)

    def compute_loss(self: TwoTermTrainer, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401
        while signals and signals[0].step <= self.state.global_step + 1:
            fault = signals.pop(0)
            _send(fault.act, after_s=random.uniform(0, fault.within_s))
        total = compute(self, *arguments, **more)
        return break_loss(self, total) if due(self, "nan") else total

    def before_step(self: TwoTermTrainer, grad_norm: float) -> None:
        if due(self, "gradient"):
            from safetensors.torch import save_file

            gradient = {name: p.grad.clone() for name, p in self._adapted.named_parameters() if p.grad is not None}
            save_file(gradient, run / "gradient.safetensors")
        before(self, grad_norm)

    TwoTermTrainer.count_supervised = count_supervised  # type: ignore[method-assign]
    TwoTermTrainer.compute_loss = compute_loss  # type: ignore[method-assign]
    TwoTermTrainer.before_step = before_step  # type: ignore[method-assign]


def break_loss(trainer: Any, total: Any) -> Any:  # noqa: ANN401
    """Have the last micro-batch look as if its loss were no number."""
    finite, ids = trainer._looked_at.pop()
    trainer._looked_at.append((finite & False, ids))
    trainer._sums = trainer._sums * float("nan")
    return total * float("nan")


def _send(act: str, *, after_s: float) -> None:
    everybody, _, name = act.rpartition(":")
    number = getattr(signal, name)
    send = partial(os.killpg, 0, number) if everybody else partial(os.kill, os.getpid(), number)
    threading.Timer(after_s, send).start() if after_s else send()


def main() -> None:
    """Import what a training needs, then serve lives until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for name in WARM:
        with suppress(ImportError):
            import_module(name)
    gc.collect()
    gc.freeze()  # or each new process walks over all of this, and so gets a copy of its own
    _serve(answers)


if __name__ == "__main__":
    main()
