"""The page of a watch: each sign over time with its band, the wealth of every test, and what to do."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

from aot.drift.advice import alarm_line, when
from aot.drift.log import SIGNS
from aot.drift.look import sight_lines
from aot.drift.records import Period, WatchFile
from aot.files.run_folder import publish
from aot.reporting.charts import BandPoint, Drawing, band_chart
from aot.reporting.pivot import word_table
from aot.reporting.report import render
from aot.reporting.sections import Block, charts, note, open_tables, sentences
from aot.served_records import Sight
from aot.wilson import Z95

_SHOWN = {**SIGNS, "canaries_lost": "the share of canaries lost"}
_DAY_S = 86_400.0


def write_page(path: Path, sight: Sight, state: WatchFile, *, name: str) -> None:
    """Write one file of HTML that loads nothing.

    Raises:
        AotError: jinja2 is not installed, or the file cannot be written.
    """
    alarms = [(alarm_line(one), "") for one in sight.alarms]
    blocks: list[Block] = [
        *sentences(alarms or [("No alarm.", "")]),
        *sentences([(line.removeprefix("- "), "") for line in sight.advice]),
        *charts(sign_charts(state)),
        *charts(wealth_charts(state, sight)),
        *_odd_rows(sight),
        *note(
            "Bands are 95% of what the mean of so many rows varies by chance, in one stretch at a time; alarms rest on "
            "bets that count every look, and not on bands."
        ),
    ]
    lead = sight_lines(sight, state)[0]
    publish(path, render("watch.html.j2", title=f"{name} · watch", name=name, lead=lead, blocks=blocks, thumbs=()))


def sign_charts(state: WatchFile) -> list[Drawing]:
    """A chart for each sign: its mean in each stretch, with a band, and lines where an alarm says that it began."""
    return [
        band_chart(
            [_point(one, sign, state.periods[0]) for one in state.periods if one.counts.get(sign)],
            name=words,
            x_name=f"days since {_day(state.periods[0].start_s)}",
            events=[(_days(since_s, state.periods[0]), "began") for since_s in _since(state, sign)],
        )
        for sign, words in _SHOWN.items()
        if any(one.counts.get(sign) for one in state.periods)
    ]


def wealth_charts(state: WatchFile, sight: Sight) -> list[Drawing]:
    """The log of the wealth of each test that has moved, at the end of the stretches with a look."""
    drawings = []
    for test in sight.wealth:
        points = [
            BandPoint(_days(one.start_s, state.periods[0]), one.wealth[test] / math.log(10), None, None, test)
            for one in state.periods
            if test in one.wealth
        ]
        if len(points) > 1 or any(alarm.test == test for alarm in sight.alarms):
            drawings.append(
                band_chart(points, name=f"evidence of {test}: log10 of the e-value",
                           x_name=f"days since {_day(state.periods[0].start_s)}", events=())
            )  # fmt: skip
    return drawings


def _point(period: Period, sign: str, first: Period) -> BandPoint:
    count, total = period.counts[sign], period.sums[sign]
    mean = total / count
    spread = math.sqrt(max(0.0, period.squares[sign] / count - mean * mean) / count)
    tip = f"{when(period.start_s)}: {mean:.3g}, n={count}"
    return BandPoint(_days(period.start_s, first), mean, mean - Z95 * spread, mean + Z95 * spread, tip)


def _since(state: WatchFile, sign: str) -> list[float]:
    return [one.since_s for one in state.alarms if one.test == sign and one.since_s is not None]


def _days(time_s: float, first: Period) -> float:
    return (time_s - first.start_s) / _DAY_S


def _day(time_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time_s))


def _odd_rows(sight: Sight) -> Sequence[Block]:
    rows = [(reason, str(count), sight.examples.get(reason, "")) for reason, count in sight.odd.items()]
    table = word_table("Rows that were not used, or lack something", ("reason", "rows", "first"), rows)
    return open_tables(table) if rows else []
