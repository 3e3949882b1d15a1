"""Parsers and comparisons of calendar dates and clock times.

05/01/2024 is two dates and 3:45 two times of day: such answers are never resolved by guessing. It knows no time zone.
"""

import re
from datetime import date

from aot.answers.clean import undressed
from aot.answers.finding import plain
from aot.answers.forms import Grade, ParsedAnswer, equal_values
from aot.records import Question

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")  # fmt: skip
_MONTH_NUMBERS = {name: i for i, name in enumerate(_MONTHS, 1)} | {name[:3]: i for i, name in enumerate(_MONTHS, 1)}
_MONTH_NUMBERS["sept"] = 9
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTH = rf"({'|'.join(sorted(_MONTH_NUMBERS, key=len, reverse=True))})\.?"
_YEAR_FIRST = re.compile(r"([0-9]{4})([-/.])([0-9]{1,2})\2([0-9]{1,2})")
_YEAR_LAST = re.compile(r"([0-9]{1,2})([-/.])([0-9]{1,2})\2([0-9]{4})")
_DAY_MONTH = re.compile(rf"(?:the )?([0-9]{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH}(?:,? ([0-9]{{4}}))?")
_MONTH_DAY = re.compile(rf"{_MONTH} ([0-9]{{1,2}})(?:st|nd|rd|th)?(?:,? ([0-9]{{4}}))?")
_WEEKDAY = re.compile(rf"({'|'.join(_WEEKDAYS)}|{'|'.join(day[:3] for day in _WEEKDAYS)}),? (?=\S)")
_CLOCK = re.compile(r"([0-9]{1,2})(?:[:.]([0-5][0-9])(?::([0-5][0-9]))?)?\s?(?:([ap])\.?m\.?)?")
_NAMED_CLOCKS = {"noon": "12:00:00 named", "midday": "12:00:00 named", "midnight": "00:00:00 named"}
_HALF_DAY_S = 12 * 3600


def parse_date(answer: str, question: Question) -> ParsedAnswer:
    """A date as ISO text; without a year as `--MM-DD`; as `day?month` order and separator where that is ambiguous."""
    text = plain(undressed(answer))
    weekday = _WEEKDAY.match(text)
    text = text[weekday.end() :] if weekday else text
    if len(text) <= 40 and (last := _YEAR_LAST.fullmatch(text)):
        return _year_last(int(last[1]), int(last[3]), last[2], last[4], weekday[1] if weekday else "")
    year, month, day = _year_month_day(text) if len(text) <= 40 else ("", 0, 0)
    if not month or not _exists(year or "2000", month, day):
        return ParsedAnswer(None, "not_a_date")
    if not year:
        return ParsedAnswer(f"--{month:02}-{day:02}")
    if weekday and not _falls_on(weekday[1], year, month, day):
        return ParsedAnswer(None, "weekday_contradicts_date")
    return ParsedAnswer(f"{year}-{month:02}-{day:02}")


def compare_dates(answer: ParsedAnswer, gold: ParsedAnswer) -> Grade:
    """Equal dates are right; an ambiguous or yearless date can be compared only with its like."""
    forms = [_form(side.value or "") for side in (answer, gold)]
    if forms[0] != forms[1]:
        return Grade("cannot_tell", "no_year" if "yearless" in forms else "day_or_month_first")
    return equal_values(answer, gold)


def parse_clock(answer: str, question: Question) -> ParsedAnswer:
    """A time of day as HH:MM:SS of the 24-hour clock; `bare` follows where am or pm could still be meant."""
    text = plain(undressed(answer)).rstrip(". ")
    if text in _NAMED_CLOCKS:
        return ParsedAnswer(_NAMED_CLOCKS[text].partition(" ")[0], written="named")
    clock = _CLOCK.fullmatch(text) if len(text) <= 40 else None
    if not clock or not (clock[2] or clock[4]):
        return ParsedAnswer(None, "not_a_clock_time")
    hour, half = int(clock[1]), clock[4]
    if hour > 23 or (half and not 1 <= hour <= 12):
        return ParsedAnswer(None, "not_a_clock_time")
    written = "bare" if not half and 1 <= hour <= 12 else "named"
    hour = hour % 12 + (12 if half == "p" else 0) if half else hour
    return ParsedAnswer(f"{hour:02}:{clock[2] or '00'}:{clock[3] or '00'}", written=written)


def compare_clocks(answer: ParsedAnswer, gold: ParsedAnswer) -> Grade:
    """Equal times are right; a time without am or pm is of the 24-hour clock, and twelve hours off `no_am_pm`."""
    apart_s = abs(_seconds(answer.value or "") - _seconds(gold.value or ""))
    if apart_s == _HALF_DAY_S and "bare" in (answer.written, gold.written):
        return Grade("cannot_tell", "no_am_pm")
    return equal_values(answer, gold)


def _year_month_day(text: str) -> tuple[str, int, int]:
    if first := _YEAR_FIRST.fullmatch(text):
        return first[1], int(first[3]), int(first[4])
    if named := _DAY_MONTH.fullmatch(text):
        return named[3] or "", _MONTH_NUMBERS[named[2]], int(named[1])
    if named := _MONTH_DAY.fullmatch(text):
        return named[3] or "", _MONTH_NUMBERS[named[1]], int(named[2])
    return "", 0, 0


def _year_last(first: int, second: int, separator: str, year: str, weekday: str) -> ParsedAnswer:
    readings = {(m, d) for m, d in ((first, second), (second, first)) if _exists(year, m, d)}
    if not readings:
        return ParsedAnswer(None, "not_a_date")
    if weekday and not any(_falls_on(weekday, year, month, day) for month, day in readings):
        return ParsedAnswer(None, "weekday_contradicts_date")
    if len(readings) > 1:
        return ParsedAnswer(f"?{first}{separator}{second}{separator}{year}")
    month, day = readings.pop()
    return ParsedAnswer(f"{year}-{month:02}-{day:02}")


def _falls_on(weekday: str, year: str, month: int, day: int) -> bool:
    return _WEEKDAYS[date(int(year), month, day).weekday()].startswith(weekday[:3])


def _exists(year: str, month: int, day: int) -> bool:
    try:
        date(int(year), month, day)
    except ValueError:
        return False
    return True


def _form(value: str) -> str:
    if value.startswith("?"):
        return f"ambiguous {value.strip('?0123456789')[:1]}"
    return "yearless" if value.startswith("--") else "iso"


def _seconds(value: str) -> int:
    hours, minutes, seconds = (int(part) for part in value.split(":"))
    return hours * 3600 + minutes * 60 + seconds
