"""Looks a model folder over in a process of its own, before anything is paid for: what hangs or fills memory is killed.

The child loads the configuration, the tokenizer or processor and the chat template, renders and encodes a prompt, and
compares the model with the headers of its weights. It reads no weights. Run as a module it is that child.
"""

import json
import os
import resource
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from aot.config import LoraSection, RunConfig, StudentConfig
from aot.errors import AotError, CheckpointError, missing_package

START_LIMIT_S = 180.0
"""For importing torch and transformers, much longer from a cold disk than from a warm one."""
LIMIT_S = 60.0
"""For all of the look."""
MEMORY_BYTES = 4 << 30
"""Beyond what the imports took."""


def preflight(config: RunConfig) -> None:
    """Look whether the base student of a run can be trained; silent where the packages for it are not installed.

    Raises:
        CheckpointError: it cannot be; the message says why.
    """
    here = Path(__file__).resolve().parents[2]
    paths = [str(here), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    quiet = {"CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-m", "aot.student.preflight"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONSAFEPATH": "1"},
    )  # fmt: skip
    base, asked = config.student.base, {"door": config.door, "student": config.student.model_dump(mode="json")}
    if any(arm.tuning == "lora" for arm in config.train.arms):
        asked["lora"] = config.train.lora.model_dump(mode="json")
    try:
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps(asked).encode() + b"\n")
        child.stdin.close()
        started = _line(child.stdout.fileno(), START_LIMIT_S)
        found = _line(child.stdout.fileno(), LIMIT_S) if started == {} else started
    except TimeoutError:
        found = {"error": f"looking at student.base {base} took longer than {LIMIT_S:g} s; mend its files"}
    except OSError:
        found = None
    finally:
        child.kill()
        child.wait()
    if found is None:
        told = "needs more memory than a model folder may, or crashed the library that reads it; mend its files"
        raise CheckpointError(f"looking at student.base {base} {told}")
    if "error" in found:
        raise CheckpointError(str(found["error"]))


def _line(stream: int, limit_s: float) -> dict[str, Any] | None:
    """The next line of the child, or None if it ended without one."""
    until, data = time.monotonic() + limit_s, b""
    while not data.endswith(b"\n"):
        left_s = until - time.monotonic()
        if left_s <= 0 or not select.select([stream], [], [], left_s)[0]:
            raise TimeoutError
        block = os.read(stream, 1)  # no more than this line
        if not block:
            return None
        data += block
    told: dict[str, Any] = json.loads(data)
    return told


def main() -> None:
    """The child: reads what to look at from standard input, and tells in a line when it starts and what it found."""
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a library prints must not reach the replies
    asked = json.loads(sys.stdin.readline())
    try:
        from aot.student.loading import look_over
    except ModuleNotFoundError as error:  # clips may be prepared on a machine that will not train
        replies.write(b'{"skipped": true}\n' if missing_package(error.name or "") else b"")
        return
    replies.write(b"{}\n")
    now = sum(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line)
    for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_DATA, (now << 10) + MEMORY_BYTES)):
        resource.setrlimit(limit, (value, value))
    config = StudentConfig.model_validate(asked["student"])
    lora = LoraSection.model_validate(asked["lora"]) if "lora" in asked else None
    found: dict[str, Any] = {"ok": True}
    try:
        look_over(config.base, door=asked["door"], config=config, lora=lora)
    except AotError as error:
        found = {"error": str(error)[:2000]}
    except BaseException as error:  # noqa: BLE001 - a panic of a library is no Exception
        words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        found = {"error": f"student.base {config.base} cannot be loaded: {words}"}
    replies.write(json.dumps(found).encode() + b"\n")


if __name__ == "__main__":
    main()
