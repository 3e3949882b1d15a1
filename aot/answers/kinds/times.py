"""Parsers and comparisons of calendar dates and clock times.

05/01/2024 is two dates and 3:45 two times of day: such answers are never resolved by guessing. It knows no time zone.
"""

import re
from datetime import date

from aot.answers.clean import undressed
from aot.answers.finding import plain
from aot.answers.forms import DIFFERENT, Grade, ParsedAnswer
from aot.records import Question

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")  # fmt: skip
_MONTH_NUMBERS = {name: i for i, name in enumerate(_MONTHS, 1)} | {name[:3]: i for i, name in enumerate(_MONTHS, 1)}
_MONTH_NUMBERS["sept"] = 9
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTH = rf"({'|'.join(sorted(_MONTH_NUMBERS, key=len, reverse=True))})\.?"
_LEADING_ZERO = re.compile(r"\b0(?=[0-9]\b)")
_YEAR_FIRST = re.compile(r"([0-9]{4})([-/.])([0-9]{1,2})\2([0-9]{1,2})")
_YEAR_LAST = re.compile(r"([0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4})")
_DAY_MONTH = re.compile(rf"(?:the )?([0-9]{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? ([0-9]{{4}}))?")
_MONTH_DAY = re.compile(rf"{_MONTH} ([0-9]{{1,2}})(?:st|nd|rd|th)?(?:,? ([0-9]{{4}}))?")
_WEEKDAY = re.compile(rf"({'|'.join(_WEEKDAYS)}|{'|'.join(day[:3] for day in _WEEKDAYS)}),? (?=\S)")
_CLOCK = re.compile(r"([0-9]{1,2})(?:[:.]([0-5][0-9])(?::([0-5][0-9]))?)?\s?(?:([ap])\.?m\.?)?")
_NAMED_CLOCKS = {"noon": "12:00:00", "midday": "12:00:00", "midnight": "00:00:00"}
_MAX_CHARS = 40


def parse_date(answer: str, question: Question) -> ParsedAnswer:
    """A date as ISO text; without a year as `--MM-DD`; as `day?month` order and separator where that is ambiguous."""
    text = plain(undressed(answer))
    weekday = _WEEKDAY.match(text)
    text = text[weekday.end() :] if weekday else text
    year, months_and_days = _readings(text) if len(text) <= _MAX_CHARS else ("", [])
    days = {day for one in months_and_days if (day := _date(year or "2000", *one))}
    if not days:
        return ParsedAnswer(None, "not_a_date")
    if not year:
        return ParsedAnswer(f"--{days.pop():%m-%d}")
    if weekday and not any(_WEEKDAYS[day.weekday()].startswith(weekday[1][:3]) for day in days):
        return ParsedAnswer(None, "weekday_contradicts_date")
    if len(days) > 1:
        return ParsedAnswer(f"?{_LEADING_ZERO.sub('', text)}")
    return ParsedAnswer(days.pop().isoformat())


def _readings(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The year, empty where none is told, and month and day in every order in which they may be meant."""
    if last := _YEAR_LAST.fullmatch(text):
        first, second = int(last[1]), int(last[3])
        return last[4], [(first, second), (second, first)]
    if first_year := _YEAR_FIRST.fullmatch(text):
        return first_year[1], [(int(first_year[3]), int(first_year[4]))]
    if named := _DAY_MONTH.fullmatch(text):
        return named[3] or "", [(_MONTH_NUMBERS[named[2]], int(named[1]))]
    if named := _MONTH_DAY.fullmatch(text):
        return named[3] or "", [(_MONTH_NUMBERS[named[1]], int(named[2]))]
    return "", []


def _date(year: str, month: int, day: int) -> date | None:
    try:
        return date(int(year), month, day)
    except ValueError:
        return None


def compare_dates(answer: ParsedAnswer, gold: ParsedAnswer) -> Grade:
    """An ambiguous or yearless date can be compared only with its like."""
    forms = [_form(side.value or "") for side in (answer, gold)]
    if forms[0] != forms[1]:
        return Grade("cannot_tell", "no_year" if "yearless" in forms else "day_or_month_first")
    return DIFFERENT


def _form(value: str) -> str:
    if value.startswith("?"):
        return f"ambiguous {value.strip('?0123456789')[:1]}"
    return "yearless" if value.startswith("--") else "iso"


def parse_clock(answer: str, question: Question) -> ParsedAnswer:
    """A time of day as HH:MM:SS of the 24-hour clock; `bare` is written where am or pm could still be meant."""
    text = plain(undressed(answer)).rstrip(". ")
    if text in _NAMED_CLOCKS:
        return ParsedAnswer(_NAMED_CLOCKS[text], written="named")
    clock = _CLOCK.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if not clock or not (clock[2] or clock[4]):
        return ParsedAnswer(None, "not_a_clock_time")
    hour, half = int(clock[1]), clock[4]
    if hour > 23 or (half and not 1 <= hour <= 12):
        return ParsedAnswer(None, "not_a_clock_time")
    written = "bare" if not half and 1 <= hour <= 12 else "named"
    hour = hour % 12 + (12 if half == "p" else 0) if half else hour
    return ParsedAnswer(f"{hour:02}:{clock[2] or '00'}:{clock[3] or '00'}", written=written)


def compare_clocks(answer: ParsedAnswer, gold: ParsedAnswer) -> Grade:
    """A time without am or pm is of the 24-hour clock, and twelve hours off `no_am_pm`."""
    (hour, minutes), (gold_hour, gold_minutes) = ((side.value or "").split(":", 1) for side in (answer, gold))
    is_half_a_day_off = minutes == gold_minutes and abs(int(hour) - int(gold_hour)) == 12
    if is_half_a_day_off and "bare" in (answer.written, gold.written):
        return Grade("cannot_tell", "no_am_pm")
    return DIFFERENT
