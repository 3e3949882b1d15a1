"""What commands print, and how they end: only this file writes to the terminal.

Whatever is printed goes through `tell`, `tell_json` and `tell_error`, and what is logged through a formatter: names,
labels and replies from outside never reach the terminal as they came.
"""

import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from pydantic_core import to_json

from aot.display import PlainFormatter, clean, clean_json, one_line
from aot.errors import AotError, GuardStop

resumable = threading.Event()
"""Set while stages of a run are done: only they keep what a signal leaves."""


def tell(lines: Iterable[str]) -> None:
    """Print lines on standard output, each in one line of clean text.

    Raises:
        GuardStop: they cannot be written there.
    """
    write("".join(f"{one_line(line)}\n" for line in lines))


def tell_json(text: str) -> None:
    """Print JSON on standard output; raises GuardStop when it cannot be written there."""
    write(clean_json(text) + "\n")


def tell_record(value: object) -> None:
    """Print a record, or a list of records, as JSON; `aot schema VERB` says of what type each verb prints one.

    Raises:
        GuardStop: it cannot be written there.
    """
    tell_json(to_json(value, indent=1).decode())


def tell_error(*lines: str) -> None:
    """Print lines on standard error, each in one line of clean text; lost where nobody takes them."""
    try:
        sys.stderr.write("".join(f"{one_line(line)}\n" for line in lines))
        sys.stderr.flush()
    except OSError:
        _lose_buffer(sys.stderr)
    except ValueError:  # it is closed
        pass


def write(text: str) -> None:
    """Print text that is clean already; raises GuardStop when standard output does not take it."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _lose_buffer(sys.stdout)
        if isinstance(error, BrokenPipeError):  # whoever read has seen enough
            return
        raise GuardStop(f"standard output cannot be written ({error.strerror}); send it elsewhere") from error


def _lose_buffer(stream: TextIO) -> None:
    """Send what is left in the buffer nowhere: the interpreter would flush it, fail, and end with a code of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def tell_failure(error: AotError) -> int:
    """Print what went wrong, in one line; returns its exit code."""
    tell_error(f"aot: {error.args[0]}", *error.lines)
    return error.exit_code


def tell_bug() -> int:
    """Print the traceback of a mistake of ours; returns its exit code."""
    tell_error(*clean(traceback.format_exc()).splitlines())
    return 1


def mend_streams() -> None:
    """Open those of the standard streams that are closed, or the next file gets their number; let all take any text."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def log_to_stderr() -> None:
    """Send log records and warnings to standard error, as clean lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.raiseExceptions = False  # a line that nobody takes is lost
    logging.captureWarnings(True)
    for noisy in ("httpx", "urllib3", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for noisy in ("torchao", "torch.utils._pytree"):  # kernels of other machines, at each import of transformers
        logging.getLogger(noisy).setLevel(logging.ERROR)


@contextmanager
def told_as_stop() -> Iterator[None]:
    """Ctrl-C and SIGTERM end with one line and exit code 4; here, because click turns them into an abort."""
    try:
        yield
    except KeyboardInterrupt:
        raise stopped_by_signal() from None


@contextmanager
def done_anyway() -> Iterator[None]:
    """Where the work is done and on disk, a summary that cannot be printed is told and nothing more."""
    try:
        yield
    except GuardStop as error:
        tell_error(f"aot: the work is done, but {error}")


def stopped_by_signal() -> GuardStop:
    """The error of a command that a signal ended."""
    kept = "; finished work is kept, the same command goes on from there" if resumable.is_set() else ""
    return GuardStop(f"stopped by a signal{kept}")


def typed(words: str) -> str:
    """What was meant by words of the command line that came through a terminal of another encoding."""
    return words.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
