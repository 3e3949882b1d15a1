"""Figures of a watch for Prometheus, as a text file that its node exporter collects."""

from collections.abc import Iterator
from pathlib import Path

from aot.drift.records import WatchFile
from aot.files.run_folder import publish
from aot.served_records import Sight


def write_metrics(path: Path, sight: Sight, state: WatchFile, *, name: str) -> None:
    """Write the figures whole, so that nobody reads half of them; no text of a question is among them.

    Raises:
        AotError: the file cannot be written.
    """
    publish(path, "".join(f"{line}\n" for line in metric_lines(sight, state, name=name)))


def metric_lines(sight: Sight, state: WatchFile, *, name: str) -> Iterator[str]:
    """In the text format of Prometheus."""
    student = f'student="{_escaped(name)}"'
    alarms = {one.test for one in sight.alarms}
    yield from _family("aot_watch_alarm", "gauge", "Whether a test has alarmed.")
    yield from (f'aot_watch_alarm{{{student},test="{test}"}} {int(test in alarms)}'
                for test in sorted({*sight.wealth, *alarms}))  # fmt: skip
    yield from _family("aot_watch_log_e_value", "gauge", "Log of the wealth of a test.")
    yield from (f'aot_watch_log_e_value{{{student},test="{test}"}} {log:.6g}' for test, log in sight.wealth.items())
    yield from _family("aot_watch_rows_total", "counter", "Rows of the log that were read, used or not.")
    yield f"aot_watch_rows_total{{{student}}} {sight.read}"
    yield from _family("aot_watch_odd_rows_total", "counter", "Rows that were not used, or lack something.")
    yield from (f'aot_watch_odd_rows_total{{{student},reason="{_escaped(reason)}"}} {count}'
                for reason, count in sight.odd.items())  # fmt: skip
    yield from _family("aot_watch_canaries", "gauge", "Canaries by what came of them when they were last asked.")
    for which, count in (("all", sight.canaries), ("asked", sight.canaries_asked), ("lost", sight.canaries_lost),
                         ("gained", sight.canaries_gained)):  # fmt: skip
        yield f'aot_watch_canaries{{{student},which="{which}"}} {count}'
    if state.last_s is not None:
        yield from _family("aot_watch_last_row_seconds", "gauge", "Time of the last row, in seconds since 1970.")
        yield f"aot_watch_last_row_seconds{{{student}}} {state.last_s:.3f}"


def _family(name: str, kind: str, words: str) -> tuple[str, str]:
    return f"# HELP {name} {words}", f"# TYPE {name} {kind}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
