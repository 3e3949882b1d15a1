"""Helper processes of multiprocessing, started so that signals to the whole group end their parent and not them.

A terminal that goes away sends SIGHUP to all its processes. The resource tracker and the fork server leave alone what
Ctrl-C sends, but not that, and would be started again in the middle of the end.
"""

import signal
import threading
from multiprocessing import forkserver, resource_tracker


def start_helpers() -> None:
    """Start the resource tracker and the fork server, if they do not run yet, deaf to SIGHUP."""
    if threading.current_thread() is not threading.main_thread():  # only there can signals be set
        return
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which a started process inherits
    try:
        resource_tracker.ensure_running()
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGHUP, handler)
