r"""Makes cues of the text of an .srt or .vtt file: tolerant of what people write, strict about what it cannot tell.

The cutting is done here and not by a library: none reads two thirds of the shapes that people meet, because they want
one form of clock, lose what stands between `<` and `>` or after a blank line, take `-->` in a text for a time, or glue
the text under a broken time to the cue before. docs/measurements.md has the counts.
"""

import html
import re
import unicodedata
from dataclasses import dataclass, field, replace
from html.entities import html5
from itertools import pairwise

MAX_CUE_CHARACTERS = 500
MAX_RAW_CHARACTERS = 10 * MAX_CUE_CHARACTERS
"""With markup; more of a cue is not looked at."""
ROLLING_LINES = 4
"""So many lines of a cue are looked for in the next one; captions roll by two or three."""
HOLD_S = 0.05
"""A cue of rolling captions that is this short holds lines that were said before (10 ms at YouTube)."""
TOUCH_S = 0.1
"""Cues that are this near touch each other."""
MAX_TIME_LINE = 300

_ARROW = r"(?:(?:[-–—−]\s?){1,3}>?|→)"
_CLOCK = r"(\d{1,4}(?:\s?:\s?\d{1,4}){1,3})(?:\s?[.,;]\s?(\d{0,18})|\s(\d{3})(?![\w%:.,]))?\s?:?"
_TIME_LINE = re.compile(rf"(?:#?\d{{1,6}}[.)]?\s)?\[?{_CLOCK}\s?{_ARROW}\s?{_CLOCK}\]?(?!\S)\s?(.*)")
_NEAR_CLOCK = r"[-+−]?[\dxX?oOlI]{1,4}\s?:[\w\s:.,;+−-]*"
_BROKEN_TIME_LINE = re.compile(rf"{_NEAR_CLOCK}-->\s?(?:{_NEAR_CLOCK}.*)?$|-->\s?{_NEAR_CLOCK}")
_SETTINGS = re.compile(r"(?:align|position|line|size|vertical|region|[xy][12])\s?:|[adlst]:\S|\d+%", re.IGNORECASE)
_DASH = re.compile(r"[-–—−－→]")
_NUMBER = re.compile(r"\s*#?-?\d{1,9}[.):]?\s*$")
_HEADER = re.compile(r"\s*WEBVTT", re.IGNORECASE)
_COMMENT = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")

_INNER_TIME = re.compile(r"<\d{1,4}(?::\d{1,2}){1,2}(?:[.,]\d{1,6})?>")
_BREAK = re.compile(r"<[Bb][Rr]\s?/?>|\\[Nh]")
_OVERRIDE = re.compile(r"\{[^{}]*\\p[1-9][^{}]*\}[^{}]*|\{\\[^{}]*\}")
"""`{\\p1}` makes what follows a drawing."""
_TAG = re.compile(
    r"<(?P<slash>/?)(?:(?P<name>[biusc]|em|strong|strike|ruby|rt|rp)(?:\.[^\s<>]{1,100})?(?:\s\w+=[^<>]{0,200})?\s?/?"
    r"|(?P<other>v|lang|font|span|p|div)(?:[.\s][^<>]{0,300})?)>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[Xx][\dA-Fa-f]{1,6}|[A-Za-z]\w{1,30});")


@dataclass(frozen=True)
class Cue:
    """One piece of text and when it is shown."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class Subtitles:
    """The cues of a file, in time order, and what was odd about it."""

    cues: tuple[Cue, ...]
    skipped: int = 0
    """Cues that could not be used: a broken or empty time, or no text."""
    folded: int = 0
    """Cues that lost lines, or all of their text, because the cue before shows it, or a twin has it."""
    shortened: int = 0
    """Cues cut after `MAX_CUE_CHARACTERS`."""
    outside: int = 0
    """Pieces of text that belong to no cue."""
    guessed_encoding: str = ""
    """Empty where nothing had to be guessed."""
    bad_characters: int = 0
    """Characters that could not be decoded, each U+FFFD in the text."""


@dataclass(frozen=True)
class _Line:
    text: str
    is_timed: bool
    """Whether its words have times of their own; they are said now, not held."""


@dataclass(frozen=True)
class _Draft:
    """A cue as it stands in the file; one with a broken time ends before it starts."""

    start_s: float
    end_s: float
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Shown:
    """A cue with its lines in plain text."""

    start_s: float
    end_s: float
    lines: list[_Line]
    is_cut: bool

    def is_after(self, before: "_Shown") -> bool:
        """Whether it begins where the other ends."""
        return abs(self.start_s - before.end_s) <= TOUCH_S


def parse_subtitles(text: str, *, ending: str = ".srt") -> Subtitles:
    r"""The cues of the text of a file with this ending; never fails.

    >>> parse_subtitles("1\n00:00:01,500 --> 00:00:03,000\n<i>Flip</i> it.\n").cues
    (Cue(start_s=1.5, end_s=3.0, text='Flip it.'),)
    """
    lines = _lines(text)
    drafts, outside = _cut(lines, is_webvtt=_is_webvtt(lines, ending))
    shown = [_shown(draft) for draft in drafts if draft.end_s > draft.start_s]
    shown = sorted((one for one in shown if one.lines), key=lambda one: (one.start_s, one.end_s))
    said, folded = _said(shown)
    texts = [" ".join(line.text for line in one.lines) for one in said]
    unique = {
        Cue(one.start_s, one.end_s, text[:MAX_CUE_CHARACTERS].rstrip()) for one, text in zip(said, texts, strict=True)
    }
    return Subtitles(
        tuple(sorted(unique, key=lambda cue: (cue.start_s, cue.end_s, cue.text))),
        skipped=len(drafts) - len(shown),
        folded=folded + len(said) - len(unique),
        shortened=sum(one.is_cut or len(text) > MAX_CUE_CHARACTERS for one, text in zip(said, texts, strict=True)),
        outside=outside,
    )


def _lines(text: str) -> list[str]:
    r"""The lines, whether they end in \n, \r\n, \r or \r\r\n; several empty ones are one."""
    # CR CR LF is CR LF that was written as text on Windows.
    text = re.sub(r"\r+\n?", lambda end: "\n" if end[0][-1] == "\n" else "\n" * len(end[0]), text)
    return re.sub(r"\n{3,}", "\n\n", text).split("\n")


def _is_webvtt(lines: list[str], ending: str) -> bool:
    """Whether the rules of WebVTT hold: by the header, or by the ending if no number stands before the first time."""
    filled = [line for line in lines[:100] if line.strip()]
    if filled and _HEADER.match(filled[0]):
        return True
    before = next((before for before, line in pairwise(["", *filled]) if _TIME_LINE.match(_squeezed(line))), "1")
    return ending == ".vtt" and not _NUMBER.match(before)


def _cut(lines: list[str], *, is_webvtt: bool) -> tuple[list[_Draft], int]:
    """The cues as they stand in the file, and how many pieces of text belong to none.

    In WebVTT an empty line ends a cue that has text. In SRT only the next time ends it, because people leave blank
    lines inside of cues; the number before a time belongs to the time, and so does the name of a cue in WebVTT.
    """
    drafts: list[_Draft] = []
    outside = 0
    cue: _Draft | None = None
    block: list[str] = []
    is_fresh = True  # the block began after a blank line
    for line in lines:
        opened = _opened(line, block, is_in_cue=cue is not None, is_fresh=is_fresh)
        if opened is None and (line if is_webvtt else line.strip()):
            block.append(line)
            continue
        if opened is None and is_fresh and len(block) == 1 and _NUMBER.match(block[0]):
            continue  # the number of the next cue, set apart, or a number that is said: the next line tells
        if opened is not None and block and (_NUMBER.match(block[-1]) or (is_webvtt and is_fresh)):
            block.pop()
        outside += _give(block, cue, is_comment=is_webvtt and is_fresh)
        if opened is not None:
            drafts.append(opened)
            cue = opened
        elif is_webvtt and cue is not None and cue.lines:
            cue = None
        block, is_fresh = [], opened is None
    return drafts, outside + _give(block, cue, is_comment=is_webvtt and is_fresh)


def _give(block: list[str], cue: _Draft | None, *, is_comment: bool) -> int:
    """Gives a block to the open cue; 1 if there is none, and the block is text."""
    if not block or (is_comment and _COMMENT.match(block[0])):
        return 0
    if cue is None:
        return 0 if _HEADER.match(block[0]) or all(_NUMBER.match(line) for line in block) else 1
    cue.lines.extend(block)
    return 0


def _opened(line: str, block: list[str], *, is_in_cue: bool, is_fresh: bool) -> _Draft | None:
    """A cue if the line is a time. Where a time has its place, odd arrows are read, and broken times told from text.

    `block` holds the lines before it, back to the last blank line if `is_fresh`.
    """
    if "-->" not in line and not (_DASH.search(line) and (":" in line or "：" in line)):
        return None
    squeezed = _squeezed(line)
    has_arrow = "-->" in squeezed
    has_number = bool(block) and _NUMBER.match(block[-1]) is not None
    times = _TIME_LINE.match(squeezed)
    if times and (has_arrow or has_number or is_fresh):
        return _draft(times)
    if not has_arrow or _HEADER.match((block or [line])[0]) or _COMMENT.match((block or [line])[0]):
        return None
    return _Draft(0.0, 0.0) if has_number or not is_in_cue or _BROKEN_TIME_LINE.match(squeezed) else None


def _draft(times: re.Match[str]) -> _Draft:
    """An open cue, with the text that follows on the line of its time; without use if there are no such times."""
    start_s = _seconds(times[1], times[2] or times[3] or "")
    end_s = _seconds(times[4], times[5] or times[6] or "")
    if start_s is None or end_s is None:
        return _Draft(0.0, 0.0)
    return _Draft(start_s, end_s, [times[7]] if times[7] and not _SETTINGS.match(times[7]) else [])


def _squeezed(line: str) -> str:
    """The line in plain characters and with single blanks; empty if it is too long for a time."""
    if len(line) > MAX_TIME_LINE:
        line = line.strip()
    # NFKC: digits and colons of full width; unescape: arrows that went through a web page.
    return _printable(unicodedata.normalize("NFKC", html.unescape(line))) if len(line) <= MAX_TIME_LINE else ""


def _seconds(clock: str, fraction: str) -> float | None:
    """The time, or None if there is no such time.

    >>> _seconds("01:02:03", "5"), _seconds("00:01:500", ""), _seconds("75:30", "")
    (3723.5, 1.5, 4530.0)
    """
    parts = [part.strip() for part in clock.split(":")]
    # `00:01:500`: a colon in place of the comma.
    if not fraction and (len(parts) == 4 or (len(parts) == 3 and len(parts[2]) > 2)):
        fraction = parts.pop()
    if len(parts) > 3:
        return None
    *hours, minutes, seconds = map(int, parts)
    if seconds > 60 or (hours and minutes > 60):  # 60 comes from rounding
        return None
    return round(sum(hours) * 3600 + minutes * 60 + seconds + float(f"0.{fraction or 0}"), 6)


def _shown(draft: _Draft) -> _Shown:
    """The cue without markup and control characters; lines without text are left out."""
    raw = "\n".join(draft.lines).replace("\0", " ")  # \0 marks inner times below
    text = _INNER_TIME.sub("\0", raw[:MAX_RAW_CHARACTERS])
    text = _BREAK.sub(" ", _OVERRIDE.sub("", text))
    closed = {_name(tag) for tag in _TAG.finditer(text) if tag["slash"]}
    text = _ENTITY.sub(_character, _TAG.sub(lambda tag: tag[0] if _is_mathematics(tag, closed) else "", text))
    lines = [_Line(_printable(line.replace("\0", "")), "\0" in line) for line in text.split("\n")]
    return _Shown(draft.start_s, draft.end_s, [line for line in lines if line.text], len(raw) > MAX_RAW_CHARACTERS)


def _is_mathematics(tag: re.Match[str], closed: set[str]) -> bool:
    """Whether `<b>` stands between letters and is never closed, as in `a<b>c`."""
    around = tag.string[max(0, tag.start() - 1) : tag.start()], tag.string[tag.end() : tag.end() + 1]
    is_open = not tag["slash"] and _name(tag) not in closed
    return is_open and len(_name(tag)) == 1 and all(one.isalnum() for one in around)


def _name(tag: re.Match[str]) -> str:
    return (tag["name"] or tag["other"]).lower()


def _character(entity: re.Match[str]) -> str:
    """The character of a known entity; `&notes;` stays, though a browser would read `&not` in it."""
    return html.unescape(entity[0]) if entity[0][1] == "#" or entity[0][1:] in html5 else entity[0]


def _printable(text: str) -> str:
    text = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())


def _said(shown: list[_Shown]) -> tuple[list[_Shown], int]:
    """What is said when, and how many cues lost lines: those of rolling captions that the cue before shows as well.

    A phrase that is said again has a line of its own: it stands under the first one, or comes after a gap.
    """
    if not _is_rolling(shown):
        return shown, 0
    said = shown[:1]
    folded = 0
    for before, now in pairwise(shown):
        held = _held(before, now)
        if held == len(now.lines) and not now.is_after(before):
            held = 0
        folded += held > 0
        if held < len(now.lines):
            said.append(replace(now, lines=now.lines[held:]))
    return said, folded


def _is_rolling(shown: list[_Shown]) -> bool:
    """Whether most touching cues begin with lines of the one before, and it cannot be chance.

    Sure signs are a cue of 10 ms that only holds lines, words with times of their own, and three cues that carry a line
    on.
    """
    touching = [(before, now, _held(before, now)) for before, now in pairwise(shown) if now.is_after(before)]
    holding = [now for _, now, held in touching if held == len(now.lines)]
    carrying = [now for _, now, held in touching if 0 < held < len(now.lines)]
    is_sure = (
        any(now.end_s - now.start_s <= HOLD_S for now in holding)
        or len(carrying) >= 3
        or any(line.is_timed for now in carrying for line in now.lines)
    )
    return is_sure and 2 * (len(holding) + len(carrying)) >= len(touching)


def _held(before: _Shown, now: _Shown) -> int:
    """How many of the first lines of a cue are the last lines of the one before."""
    for count in range(min(len(before.lines), len(now.lines), ROLLING_LINES), 0, -1):
        first = now.lines[:count]
        is_same = [line.text for line in before.lines[-count:]] == [line.text for line in first]
        if is_same and not any(line.is_timed for line in first):
            return count
    return 0
