"""How child processes begin and end: not torn apart by a signal that reaches them and their parent, and not left alone.

Ctrl-C and a closing terminal reach a whole group of processes. It is the parent that ends its children then.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from types import FrameType

NOT_FOR_CHILDREN = (signal.SIGINT, signal.SIGHUP)


@contextmanager
def starting_children() -> Iterator[None]:
    """Start children in the block: Ctrl-C never reaches them, and a signal to this process waits until all have begun.

    A child that is begun while its parent is interrupted finds half of what it needs, and tells so in a traceback.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    in_main = threading.current_thread() is threading.main_thread()
    numbers = (*NOT_FOR_CHILDREN, signal.SIGTERM) if in_main else ()
    old = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    for number in old:
        signal.signal(number, note)
    resource_tracker.ensure_running()  # at its start it lets Ctrl-C through again
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_FOR_CHILDREN)  # children inherit that, and keep it
    try:
        yield
    except (EOFError, OSError):
        if not came:  # else the signal ended what was being started
            raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in old.items():
            signal.signal(number, handler)
    for first in came[:1]:
        signal.raise_signal(first)


def die_with_parent() -> None:
    """End this process as soon as its parent is gone, even if that was killed.

    The sentinel is a pipe that only the parent holds open, so it works below a fork server too.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
