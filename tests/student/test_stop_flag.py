"""A signal ends training within seconds: at once before the first step, else at the end of a step that ends."""

import os
import signal
import time
from pathlib import Path

import pytest

from aot.student.train import guards
from aot.student.train.guards import StopFlag

ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def raise_here(number: int) -> None:
    os.kill(os.getpid(), number)


def wait_for_interruption() -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.parametrize("number", ALL)
def test_before_the_first_step_a_signal_interrupts_at_once(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt, match=number.name), StopFlag().listening():
        raise_here(number)
        wait_for_interruption()


@pytest.mark.parametrize("number", ALL)
def test_within_a_step_a_signal_only_raises_the_flag(number: signal.Signals) -> None:
    stop = StopFlag()
    with stop.listening():
        stop.step_begins()
        raise_here(number)
        stop.step_ended()
        stop.heard()
    assert stop.name == number.name


def test_a_step_that_does_not_end_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "FIRST_PATIENCE_S", 0.05)
    stop = StopFlag()
    with pytest.raises(KeyboardInterrupt, match="SIGHUP"), stop.listening():
        stop.step_begins()
        raise_here(signal.SIGHUP)
        wait_for_interruption()


def test_a_signal_waits_for_a_step_as_long_as_steps_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "PATIENCE_S", 0.0)
    stop = StopFlag()
    with stop.listening():
        stop.step_begins()
        time.sleep(0.2)
        stop.step_ended()
        stop.step_begins()
        raise_here(signal.SIGTERM)
        time.sleep(0.2)
        stop.step_ended()
        stop.heard()


def test_saving_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "FIRST_PATIENCE_S", 0.05)
    stop = StopFlag()
    with stop.listening():
        stop.step_begins()
        raise_here(signal.SIGTERM)
        stop.heard()
        time.sleep(0.2)


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopFlag().listening():
            raise_here(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_clock_keeps_twice_a_step_and_a_save_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(guards.JOB_END, raising=False)
    assert guards.end_of_time(None) is None
    monkeypatch.setenv(guards.JOB_END, "5000000000")
    assert guards.end_of_time(None) == 5e9
    assert guards.end_of_time(60) == pytest.approx(time.time() + 60, abs=30)  # the earlier one
    stop = StopFlag(end_s=time.time() + 2 * guards.LEAST_MARGIN_S + 3600)
    assert not stop.reason() and stop.margin_s == guards.LEAST_MARGIN_S
    stop.saved(1000)
    stop.saved(900)
    assert stop.margin_s == 2000 and not stop.reason()
    stop.saved(3000)
    assert stop.reason().startswith("the clock")


def test_a_file_that_was_there_before_stops_nothing_until_it_is_touched(tmp_path: Path) -> None:
    file = tmp_path / "STOP"
    stop = StopFlag(file=file)
    assert not stop.reason()
    file.touch()
    assert str(file) in stop.reason()
    later = StopFlag(file=file)
    assert not later.reason()
    os.utime(file, (1, 1))
    assert str(file) in later.reason()
