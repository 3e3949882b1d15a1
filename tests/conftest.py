"""What every test starts with, and a warm process for trainings in any folder."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    signal.signal(number, handler)  # nohup and background jobs ignore them, and child processes would inherit that


@pytest.fixture(scope="session")
def lives() -> Iterator[Any]:
    """A warm process that begins, and ends, the lives of trainings: `Lives` of scripts/lives.py."""
    sys.path.append(str(Path(__file__).parents[1] / "scripts"))
    from lives import Lives

    with Lives() as warm:
        yield warm
