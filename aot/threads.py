"""How the threads of torch wait for each other; read by OpenMP when it is loaded, so set before torch is imported.

Torch on a CPU shares each small operation among the cores and waits for the slowest by spinning. Beside another busy
process one of the threads is always late, and the others burn the time that it needs: a step takes ten times as long. A
short spin followed by sleep keeps most of the speed of spinning and gives way to a neighbour.
"""

import os

THREAD_SETTINGS = {"GOMP_SPINCOUNT": "2000"}
"""Environment of a process that trains or predicts; figures in docs/measurements.md (scripts/bench_neighbour.py)."""
_USERS_OWN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def thread_settings() -> dict[str, str]:
    """What to add to the environment of a process that loads torch; nothing where the user has said how to wait."""
    return {} if any(name in os.environ for name in _USERS_OWN) else THREAD_SETTINGS


def set_thread_waiting() -> None:
    """Let threads of this process and its children wait as in THREAD_SETTINGS; torch must not be loaded yet."""
    os.environ.update(thread_settings())
