import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from aot.files.children import starting_children

TELLS = "import signal, sys; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())); sys.stdin.read()"


@pytest.fixture(autouse=True)
def heard() -> Iterator[list[int]]:
    came: list[int] = []
    old = {n: signal.signal(n, lambda number, frame: came.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    yield came
    for number, handler in old.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_children_have_begun(heard: list[int], number: signal.Signals) -> None:
    with starting_children():
        os.kill(os.getpid(), number)
        assert heard == []
    assert heard == [number] and signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_children_never_get_ctrl_c_and_still_end_when_they_are_told(heard: list[int]) -> None:
    with starting_children():
        child = subprocess.Popen(
            [sys.executable, "-u", "-c", TELLS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    assert child.stdout is not None and child.stdout.readline() == "True\n"
    child.send_signal(signal.SIGINT)
    assert child.poll() is None
    child.terminate()
    assert child.wait() == -signal.SIGTERM
    child.communicate()


def test_what_a_signal_broke_while_children_began_is_told_as_the_signal(heard: list[int]) -> None:
    with starting_children():
        os.kill(os.getpid(), signal.SIGTERM)
        raise EOFError("the server of the children is gone")
    assert heard == [signal.SIGTERM]
    with pytest.raises(EOFError), starting_children():
        raise EOFError("for another reason")
