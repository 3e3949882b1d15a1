"""What a signal raises, and that it is not lost where Python, or the bare `except` of a library, throws it away."""

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn


class Interrupted(KeyboardInterrupt):
    """A signal, by name, that ends the command.

    A class of its own, because Python ends by SIGINT, whatever exit code was given, once a plain KeyboardInterrupt has
    passed through code that a library runs from C.
    """


AGAIN_S = 0.05
_came: list[str] = []
"""Names of the signals that `interrupt` raised since `forget_interrupts`."""


def interrupt(name: str) -> NoReturn:
    """Raise a signal, and remember that it came: a library that is being imported may swallow whatever is raised."""
    _came.append(name)
    raise Interrupted(name)


def was_interrupted() -> bool:
    """Whether a signal came to this command, whatever became of what it raised."""
    return bool(_came)


def check_interrupt() -> None:
    """Raise Interrupted again if a signal came; work calls this between its pieces, in case it was swallowed."""
    if _came and threading.current_thread() is threading.main_thread():
        raise Interrupted(_came[0])


def forget_interrupts() -> None:
    """A command begins, to which no signal came."""
    _came.clear()


def watch_for_lost_interrupts() -> None:
    """Send a signal once more that was raised where nothing can be raised, such as in the end of an object."""

    def hook(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(lost)
            return
        number = signal.SIGINT
        with suppress(KeyError, IndexError, AttributeError):
            number = signal.Signals[lost.exc_value.args[0]]  # type: ignore[union-attr]
        timer = threading.Timer(AGAIN_S, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = hook
