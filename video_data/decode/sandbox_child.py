"""The child side of sandbox.py: reads requests from standard input, decodes, and answers on standard output.

It limits its own memory and processor time, writes no files, and ends when its parent's end of the pipe closes.
"""

import hashlib
import json
import os
import resource
import select
import sys
import threading
import zlib
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from aot.errors import VideoError, missing_package
from video_data.decode.budgets import Budgets
from video_data.decode.facts import Announce

MEMORY_BYTES = 12 << 30
CORES_COUNTED = 4
"""Processor seconds allowed for each second of the time limit."""


def main() -> None:
    """Serve requests until standard input closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a decoder prints must not reach the answers
    _limit(resource.RLIMIT_CORE, 0)  # a crash of a decoder is expected here
    _limit(resource.RLIMIT_FSIZE, 0)  # pipes stay open; files cannot grow
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with suppress(ImportError):  # before the first time limit starts; a missing one is reported when it is needed
        import video_data.decode.clip  # noqa: F401
    answers.write(b"+")
    answers.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        _allow_seconds(request["limit_s"])

        def announce(gigapixels: float, limit_s: float = request["limit_s"]) -> None:
            """Ask for the time that decoding takes, now that the size of the clip is known."""
            _allow_seconds(limit_s * (1 + gigapixels))
            _reply(answers, {"gigapixels": gigapixels}, memoryview(b""))

        header, data = _answer(request, announce)
        _reply(answers, header, data)


def _answer(request: dict[str, Any], announce: Announce) -> tuple[dict[str, Any], memoryview]:
    """Header and bytes of the answer; every failure becomes a reason, so that no decoder text leaves this process."""
    try:
        return _work(request, announce)
    except VideoError as error:
        reason, message = error.reason, error.message
    except ValueError as error:
        reason, message = "corrupt", f"the decoder cannot use this file: {error}"
    except MemoryError:
        reason, message = "crashed", "decoding needed more memory than is allowed"
    except ImportError as error:
        reason, message = "no_decoder", str(missing_package(error.name or "av") or error)
    except (AttributeError, TypeError) as error:  # the decoder has another interface than ours: no file is to blame
        why = f"{error} (PyAV {metadata.version('av')}); install a version that pyproject.toml allows"
        reason, message = "no_decoder", f"the installed decoder cannot be used: {why}"
    except Exception as error:  # noqa: BLE001 - a failed file becomes a row
        reason, message = "corrupt", f"the decoder gave up on this file ({type(error).__name__})"
    return {"error": reason, "message": message}, memoryview(b"")


def _work(request: dict[str, Any], announce: Announce) -> tuple[dict[str, Any], memoryview]:
    from video_data.decode.clip import probe, read_frames, sample_frames  # a missing package is the answer's to tell

    path = Path(os.fsdecode(bytes.fromhex(request["path"])))
    verb, arguments = request["verb"], {**request["arguments"], "budgets": Budgets(**request["budgets"])}
    if verb == "probe":
        return {"facts": asdict(probe(path, announce=announce, **arguments))}, memoryview(b"")
    frames = (read_frames if verb == "read" else sample_frames)(path, announce=announce, **arguments)
    facts = {name: value for name, value in vars(frames).items() if name != "frames_THWC"}
    if verb == "sample":
        facts["frames_crc32"] = [zlib.crc32(frame) for frame in frames.frames_THWC]
        with path.open("rb") as file:
            facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return {"shape": frames.frames_THWC.shape, "frames": facts}, frames.frames_THWC.reshape(-1).data


def _reply(answers: IO[bytes], header: dict[str, Any], data: memoryview) -> None:
    text = json.dumps(header).encode()
    for part in (len(text).to_bytes(8, "little") + len(data).to_bytes(8, "little") + text, data):
        answers.write(part)
        answers.flush()


def _die_with_parent() -> None:
    """End this process as soon as the parent's end of standard input is closed, even in the middle of a file."""
    poll = select.poll()
    poll.register(0, 0)  # no event is asked for: only a hang-up wakes it
    poll.poll()
    os._exit(1)


def _allow_seconds(limit_s: float) -> None:
    """Let the kernel end a child that spins long after its time limit, in case nobody is left to kill it."""
    used = resource.getrusage(resource.RUSAGE_SELF)  # the limit counts from the start of the process
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime + CORES_COUNTED * limit_s + 10))


def _limit(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    with suppress(ValueError, OSError):  # some systems know a limit by name only
        resource.setrlimit(which, (value, hard))


if __name__ == "__main__":
    main()
