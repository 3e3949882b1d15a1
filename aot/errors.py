"""The errors a user can meet: one base class, one subclass per boundary that an input can fail to cross.

An `AotError` is told in one line without a traceback; any other exception is a bug. The `boundary` name is what a
failed row stores, so that failures can be counted.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, get_args

from pydantic import ValidationError

ChatReason = Literal[
    "bad_request", "content_filter", "too_long", "quota", "truncated", "empty",
    "rate_limited", "server_error", "timeout", "connection", "malformed", "setting", "no_script",
]  # fmt: skip
"""Why a request got no usable reply. The first four are refusals of the request itself; `truncated` and `empty` replies
were asked for again once; `setting` is a parameter that the server does not take; the others outlasted all retries, but
for `no_script`, a script without a reply."""
PASSING: tuple[ChatReason, ...] = (
    "rate_limited", "server_error", "timeout", "connection", "malformed", "quota", "setting",
)  # fmt: skip
"""Those that say little about the request itself: the same one may be answered another time."""
UNPROVEN: tuple[ChatReason, ...] = ("bad_request", "too_long", "truncated", "empty")
"""Those that are about the request only where others with the same settings were answered."""


class AotError(Exception):
    """Something the user can mend; the message says what came, what would be fine, and what to do next."""

    boundary = "internal"
    exit_code = 2

    def __init__(self, message: str = "", *, lines: Sequence[str] = ()) -> None:
        """`message` is one line; `lines` may list more below it, such as the commands that would help."""
        super().__init__(message)
        self.lines = tuple(lines)

    def __str__(self) -> str:
        """Message and lines."""
        return "\n".join((str(self.args[0]), *self.lines))


class ConfigError(AotError):
    """A setting is unknown, of the wrong type, or contradicts another one."""

    boundary = "config"


class SourceError(AotError):
    """An input file or row is missing, empty or malformed."""

    boundary = "source"


class OutOfDomainError(SourceError):
    """A question has words, choices or times that a student cannot read, or cannot tell apart."""


class DecodeError(AotError):
    """A clip could not be decoded."""

    boundary = "decode"


VideoReason = Literal[
    "missing", "not_a_local_file", "empty", "unreadable", "not_a_video", "playlist", "no_video_stream", "corrupt",
    "over_budget_bytes", "over_budget_pixels", "over_budget_frames", "over_budget_duration", "over_budget_streams",
    "timeout", "crashed", "no_decoder", "store_missing", "store_damaged", "disk_full", "unwritable",
    "other_kitchen", "no_times",
]  # fmt: skip
"""Why a clip, a frame store or a file of annotations could not be used."""
VIDEO_REASONS: tuple[str, ...] = get_args(VideoReason)


class VideoError(AotError):
    """A clip, frame store or data-set file that cannot be used; `reason` is countable, `message` is for people.

    Messages never hold raw decoder text, which may leak addresses.
    """

    boundary = "decode"

    def __init__(self, reason: VideoReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def __reduce__(self) -> tuple[type["VideoError"], tuple[str, str]]:
        """Errors cross the pipes of child processes."""
        return (VideoError, (self.reason, self.message))


class ChatError(AotError):
    """A chat model refused, failed or answered with nothing; `reason` is short and countable."""

    boundary = "chat"

    def __init__(
        self, message: str, *, reason: "ChatReason", unproven: bool = False, so_far: object | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.so_far = so_far
        """The ChatReply as far as it was written, where somebody may want a part of it."""
        self.unproven = unproven
        """Whether it may be for a setting: no request with the same settings has been answered yet."""


class ToolError(AotError):
    """A tool was called with bad arguments, or found nothing to return."""

    boundary = "tool"


class ParseError(AotError):
    """A model's text does not have the form that was asked for."""

    boundary = "parse"


class CheckpointError(AotError):
    """Stored weights or training state are missing, incomplete or altered."""

    boundary = "checkpoint"


class RunError(AotError):
    """The run folder cannot be used: unwritable, full, or made with another config."""

    boundary = "run"


class GuardStop(AotError):
    """A guard stopped the work (signal, disk, non-finite loss); the same command resumes it."""

    boundary = "guard"
    exit_code = 4


class MissingPackageError(AotError):
    """A package of an extra that the work needs is not installed."""

    boundary = "install"


EXTRA_OF_PACKAGE = {
    "openai": "teacher",
    "httpx2": "teacher",
    "ray": "ray",
    "av": "video",
    "cv2": "video",
    "chardet": "video",
    "torch": "train",
    "transformers": "train",
    "peft": "train",
    "accelerate": "train",
    "deepspeed": "deepspeed",
    "datasets": "train",
    "huggingface_hub": "train",
    "jinja2": "report",
    "PIL": "report",
    "pyarrow": "text",
    "math_verify": "text",
    "reasoning_gym": "text",
    "fastapi": "serving",
    "starlette": "serving",
    "uvicorn": "serving",
    "h11": "serving",
    "prometheus_client": "serving",
    "torchao": "quant",
    "krippendorff": "review",
    "torchvision": "vision",
    "num2words": "vision",
    "cyclonedx": "validate",
    "mlcroissant": "validate",
}
"""Importable packages that are optional, and the extra that brings each of them."""


def missing_package(module: str) -> MissingPackageError | None:
    """What to tell when `module` cannot be imported; None if no extra brings it, so that it is a bug."""
    package = module.partition(".")[0]
    if package not in EXTRA_OF_PACKAGE:
        return None
    command = install_command(EXTRA_OF_PACKAGE[package])
    return MissingPackageError(f"the package {package} is not installed; {command}, and see `aot doctor` for more")


_CLONE = Path(__file__).resolve().parents[1]


def install_command(extra: str, *, clone: Path = _CLONE) -> str:
    """What installs this extra into the environment that runs this: from the clone if we run from one, else as a wheel.

    It names its Python where the `pip` on the path is that of another environment.
    """
    here = ""
    with suppress(OSError):  # it was deleted
        here = str(Path.cwd())
    pip, python = "pip", sys.executable
    if Path(shutil.which("pip") or "").parent != Path(python).parent:  # .venv/bin/aot, not activated
        pip = f"{shlex.quote(python.removeprefix(here + os.sep))} -m pip"
    if (clone / "pyproject.toml").is_file():
        folder = "." if str(clone) == here else clone
        return f"{pip} install -e {shlex.quote(f'{folder}[{extra}]')}"
    return f"{pip} install {shlex.quote(f'aot-distill[{extra}]')}"


def first_problem(error: ValidationError) -> str:
    """The first of what is wrong with a row, and at which of its fields, for a message."""
    problem = error.errors()[0]
    return f"{problem['msg']} at {problem['loc']}"
