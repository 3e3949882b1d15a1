"""What a signal raises, and that it is not lost where Python throws exceptions away."""

import os
import signal
import sys
import threading
from contextlib import suppress


class Interrupted(KeyboardInterrupt):
    """A signal, by name, that ends the command.

    A class of its own, because Python ends by SIGINT, whatever exit code was given, once a plain KeyboardInterrupt has
    passed through code that a library runs from C.
    """


AGAIN_S = 0.05


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
