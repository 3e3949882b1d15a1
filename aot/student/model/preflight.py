"""Looks a model folder over in a process of its own, before anything is paid for: what hangs or fills memory is killed.

The child loads the configuration, the tokenizer or processor and the chat template, renders and encodes a row, compares
the model with the headers of its weights, and puts adapters on it. It reads no weights. As a module it is that child.
"""

import json
import os
import resource
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

from aot.config import LoraSection, StudentConfig, TrainConfig
from aot.errors import AotError, CheckpointError, missing_package
from aot.records import Question

START_LIMIT_S = 180.0
"""For importing torch and transformers, much longer from a cold disk than from a warm one."""
PATTERN = "train.lora.target_pattern"
LIMITS_S = {"files": 60.0, "chat template": 15.0, "weights": 60.0, PATTERN: 10.0, "layers": 60.0}
"""For each step of the look; where a single operation takes for ever, nothing but an end of the child helps."""
MEMORY_BYTES = 4 << 30
"""Beyond what the imports took."""


def preflight(
    student: StudentConfig, train: TrainConfig, question: Question | None = None, *, with_frames: bool
) -> dict[str, Any]:
    """What the base student of a run is, as fields of `loading.Look`; empty where the packages for it are missing.

    Raises:
        CheckpointError: no arm can be trained on it; the message says why.
    """
    lora = train.lora if any(arm.tuning == "lora" for arm in train.arms) else None
    request = {
        "with_frames": with_frames,
        "student": student.model_dump(mode="json"),
        "lora": lora.model_dump(mode="json") if lora else None,
        "question": question.model_dump(mode="json") if question else None,
    }
    return _ask_child(request, f"student.base {student.base}")


def preflight_chat(model: str) -> None:
    """Look whether the folder of a local chat model can be asked.

    Raises:
        CheckpointError: it cannot be; the message says why.
    """
    _ask_child({"model": model}, f"chat.model {model}")


def _ask_child(request: dict[str, Any], what: str) -> dict[str, Any]:
    here = Path(__file__).resolve().parents[3]
    paths = [str(here), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    quiet = {"CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-m", "aot.student.model.preflight"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONSAFEPATH": "1"},
    )  # fmt: skip
    step, limit_s = "packages", START_LIMIT_S
    try:
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.close()
        while (reply := _line(child.stdout.fileno(), limit_s)) and "step" in reply:
            step, limit_s = str(reply["step"]), LIMITS_S[reply["step"]]
    except TimeoutError:
        problem = f"looking at {what} took longer than {limit_s:g} s ({step}); mend its files"
        if step == PATTERN:
            problem = (
                f"{PATTERN} was not through with the names of the layers of {what} within {limit_s:g} s; write it "
                "without repeats inside repeats, such as (a+)+"
            )
        reply = {"error": problem}
    except OSError:
        reply = None
    finally:
        child.kill()
        child.wait()
    if reply is None:
        problem = f"needs more memory than a model folder may, or crashed the library that reads it ({step})"
        raise CheckpointError(f"looking at {what} {problem}; mend its files")
    if "error" in reply:
        raise CheckpointError(str(reply["error"]))
    look: dict[str, Any] = reply.get("look", {})
    return look


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
    reply: dict[str, Any] = json.loads(data)
    return reply


def main() -> None:
    """The child: reads what to look at from standard input, and tells in a line when it starts and what it found."""
    replies = cast(BinaryIO, os.fdopen(os.dup(1), "wb", buffering=0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a library prints must not reach the replies
    request = json.loads(sys.stdin.readline())
    try:
        look = _look_at_chat() if "model" in request else _look_at_student()
    except ModuleNotFoundError as error:  # clips may be prepared on a machine that will not train
        replies.write(b'{"skipped": true}\n' if missing_package(error.name or "") else b"")
        return
    now = sum(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmData" in line)
    for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_DATA, (now << 10) + MEMORY_BYTES)):
        resource.setrlimit(limit, (value, value))
    reply: dict[str, Any]
    try:
        reply = {"look": look(request, lambda step: _tell(replies, {"step": step}))}
    except AotError as error:
        reply = {"error": str(error)[:2000]}
    except BaseException as error:  # noqa: BLE001 - a panic of a library is no Exception
        words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        name = request.get("model") or request["student"]["base"]
        key = "chat.model" if "model" in request else "student.base"
        reply = {"error": f"{key} {name} cannot be loaded: {words}"}
    _tell(replies, reply)


def _tell(replies: BinaryIO, line: dict[str, Any]) -> None:
    replies.write(json.dumps(line).encode() + b"\n")


def _look_at_student() -> Callable[..., dict[str, Any]]:
    from aot.student.model.loading import look_over

    def look(request: dict[str, Any], step: Callable[[str], None]) -> dict[str, Any]:
        question, lora = request["question"], request["lora"]
        config = StudentConfig.model_validate(request["student"])
        return asdict(
            look_over(
                config.base,
                with_frames=request["with_frames"],
                config=config,
                lora=LoraSection.model_validate(lora) if lora else None,
                question=Question.model_validate(question) if question else None,
                step=step,
            )
        )

    return look


def _look_at_chat() -> Callable[..., dict[str, Any]]:
    import torch

    from aot.student.answer.speaker import load_speaker

    def look(request: dict[str, Any], step: Callable[[str], None]) -> dict[str, Any]:
        load_speaker(request["model"], device=torch.device("meta"), step=step)
        return {}

    return look


if __name__ == "__main__":
    main()
