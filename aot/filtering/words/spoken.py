"""Reads what people write as the notation has it: short forms, idioms, and times however they are told.

`0:03`, `about three seconds`, `from 2 to 4 seconds` and `starts at 2 s and ends at 4 s` become stretches and moments. A
time that is told roughly, in whole seconds or with a word such as `about`, becomes the time that it stands for among
those which the steps gave; where there is none it stays as it is, and nothing will bear it out. No label is known here.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial

from aot.answers import NUMBER_WORDS
from aot.rationales.notation import MOMENT, SPAN
from aot.records import Span

ROUGH_S = 0.61
"""A time in whole seconds may be rounded, and the time that it stands for is rounded itself."""
EXACT_S = 0.11
_VALUES = {
    word: value for word, value in NUMBER_WORDS.items() if word not in ("once", "twice", "thrice", "none", "never")
}
_FIRST_WORDS = frozenset(word.split()[0] for word in _VALUES) | {"half"}
_DIGIT = re.compile(r"\d+s\b")
_WORDS = rf"(?:{'|'.join(sorted(_VALUES, key=len, reverse=True)).replace(' ', '[ -]')})"
_DIGITS = r"\d+(?:\.\d+)?"
_NUMBER = rf"(?:{_DIGITS}|{_WORDS}(?: and a half)?|half a)"
_HEDGE = (
    r"(?:(?:about|around|roughly|approximately|approx\.?|nearly|almost|circa|ca\.|close to|just (?:over|under|before|"
    r"after|past)|a (?:little|bit) (?:over|under|before|after|past)|~|\u2248)\s*)"
)
_UNIT = r"[\s-]?(?:s|secs?|seconds?)\b"
_TO = r"(?:[-\u2013\u2014\u2192]|->|to|until|till|through|up to)"
_CLOCK = re.compile(r"(?<![\d:.])(\d{1,2}):([0-5]\d)(\.\d+)?(?![\d:])")
_MINUTES = re.compile(rf"\b({_NUMBER})\s?min(?:utes?)?\.?,?(?: and)? ({_NUMBER}){_UNIT}", re.IGNORECASE)


def _patterns(number: str) -> tuple[re.Pattern[str], ...]:
    """Two times joined by `between .. and`, two joined by `to`, and one; with the hedge before each."""
    one, last = rf"({_HEDGE})?(?<![\w.])({number})", rf"({_HEDGE})?({number}){_UNIT}"
    texts = (
        rf"\bbetween ({_HEDGE})?({number})(?:{_UNIT})?\s+and\s+{last}",
        rf"{one}(?:{_UNIT})?(?: onwards?| on)?\s*[(,]?\s*{_TO}\s*{last}",
    )
    return tuple(re.compile(text, re.IGNORECASE) for text in (*texts, rf"{one}{_UNIT}"))


_IN_DIGITS, _IN_WORDS = _patterns(_DIGITS), _patterns(_NUMBER)
_TOLD = r"(~?\d+(?:\.\d+)?)s\b"
_STRETCHES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\bbetween {_TOLD}\s+and\s+{_TOLD}",
        rf"\b(?:start|begin|beg[au]n|open)\w* (?:at|from) {_TOLD},?\s+and\s+(?:end|finish|stop|clos|last)\w* "
        rf"(?:at|by|until) {_TOLD}",
        rf"{_TOLD}\s*(?:[-\u2013\u2014\u2192]|->|to|until|till|through|up to)\s*{_TOLD}",
    )
)
_BACKWARDS = re.compile(
    rf"\b(?:to|until|till|up to) {_TOLD},? (?:(?:start|begin)\w* )?(?:from|at|since) {_TOLD}", re.IGNORECASE
)
_FROM_START = re.compile(
    rf"\bfrom (?:the )?(?:very )?(?:start|beginning|outset)(?: of the \w+)?,? (?:to|until|till|through) {_TOLD}", re.I
)
_LENGTH = re.compile(
    r"\b(for|last(?:s|ed|ing)?|takes?|took|taking|over|during)\s+"
    r"((?:(?:about|around|another|some|more|a|the|whole|full|total|of|all|first|last)\s+)*)"
    rf"{_TOLD}(?!\s?[-\u2013\u2014])(?:\s+(?:long|in all|more))?",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"(?:\[\s?\d+\s?\][\s,]*)+|\n|(?<=[^\d\s])[.!?]\s|(?<=\ds)[.!?]\s")


_NOTHING_MORE = (
    r",?\s*\b(?:and|but|or)? ?(?:(?:at|in) no other \w+|nowhere else|nothing else|no ?one else|"
    r"never (?:again|otherwise)|no more(?:,? (?:and|or|nor) no less)?|no less|not (?:just|only|until)|not yet|"
    r"(?:is|was)n't until)\b|\bno (?:further|other|additional|second|third|more) \w+"
    r"|\b(?:could|did|can)(?:n't| not|not) (?:find|see|spot) (?:a (?:second|third|fourth)|any (?:more|other))"
    r"(?: one)?\b"
)
"""What says that there was no more denies nothing of what there was."""
_SHORT_FORMS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("\u2019", "\u02bc"), r"[\u2019\u02bc]", "'"),
    (("i.",), r"\bi\.\s?e\.,?", "that is"),
    (("e.g", "e. g"), r"\be\.\s?g\.,?", "for example"),
    (("no.", "number", "#"), r"(?:\bno\.|\bnumber|#)\s?\d+\b(?!\s?s)", "one"),
    (("\n",), r"\.?\n\s*(?:[-*\u2022\u2013]|\d+[.)])\s+", ". "),
    (
        ("once",),
        r"\bonce (?=[a-z])(?!(?:more|again|only|in|at|during|from|and|here|within|or|per|for|by|with|to|is|was|"
        r"it's)\b)",
        "after ",
    ),
    (("answer",), r"\bthe (?=answers?\b(?! is| was| given| obtained| must| has))(\w+)", "the reply"),
    (("kick",), r"\bkick(?:s|ed|ing)? (?:off|in)\b", "starts"),
    (
        ("wind", "wound", "wrap"),
        r"\bw(?:inds?|ound|inding) (?:down|up)\b|\bwrap(?:s|ped|ping)? (?:things )?up\b",
        "ends",
    ),
    (("pop", "crop"), r"\b(?:pop|crop)(?:s|ped|ping)? up\b", "appears"),
    (("spread",), r"\bspread (?=over|across|between)", "seen "),
    (("the bat",), r"\b(?:right )?off the bat\b", "at first"),
    (
        ("source", "result", "tool", "observation", "piece", "text", "description", "search", "lookup", "answer"),
        r"\b(?:two|three|four|both)(?= (?:\w+ )?(?:sources|results|tools|observations|pieces|texts|descriptions|"
        r"searches|look-?ups|answers)\b)",
        "the",
    ),
    (
        (". it", ". the", ". both"),
        r"(?<!\d)\.\s+(?=(?:these|those|it|they|both)\s(?:[a-z]+\s){1,3}\d)",
        ", ",
    ),
    (("once ",), r"\bonce (?=more\b|again\b)", ""),
    (("nothing ",), r"\bnothing (?:separates \w+|(?:in )?between\b)", ""),
    (("no ",), r"\bno \w+ (?:early on|at first|before (?:that|then)|until then|to begin with),?", ""),
    (("nothing ",), r"\bnothing (?:but|other than|except)\b", "only"),
    (
        ("no ", "without "),
        r"\b(?:no|without(?: an?y?)?) (?:doubt|question|wonder|surprise|mistake)\b|\bnot to mention\b",
        "surely",
    ),
    (
        ("tell", "say", "sure"),
        r"\b(?:can't|cannot|can not|couldn't|could not) (?:tell|say|be sure)\b|\bnot (?:quite |so |yet )?sure\b",
        "am unsure",
    ),
    ((" need to",), r"\b(?:don't|do not|no) need to\b", "may"),
    (("hand",), r"\b(?:at|in|to|on) hand\b", "here"),
    (("thumb",), r"\brules? of thumb\b", "rule"),
    (("eye",), r"\b(?:keep|kept|keeping) an eye (?:on|out for)\b", "watch"),
    (("eye",), r"\bto the (?:naked )?eye\b", "clearly"),
    (("bill",), r"\bthe bill\b", "that"),
    (("on the cards",), r"\bon the cards\b", "likely"),
    (("down the ", "corner"), r"\bdown the (?:road|line)\b|\baround the corner\b", "later"),
    (("boil",), r"\bboil(?:s|ed|ing)? down to\b", "comes to"),
    (("(",), r"\(\d{1,2}\.?\)\s*(?=[a-z])", ""),
    (
        ("other", "remaining"),
        r"\b(?:the )?(?:others?|remaining)(?: (?:options|choices|candidates|ones))? "
        r"(?:never|do not|don't|did not|cannot) \w+|\bno others?\b",
        "",
    ),
    (("double",), r"\bdouble[- ]check", "check"),
    (("step",), r"\b(?:one|two|three|four|five|\d+) steps? (?=back|earlier|later|before|ahead)", ""),
    (("hand",), r"\bhand in hand\b|\bon the (?:one|other) hand\b|\bhands[- ]down\b", "also"),
    (("no", "t "), _NOTHING_MORE, ""),
    (("can't", "cannot"), r"\b(can)(?:'t|not)\b", r"\1 not"),
    (("n't",), r"n't\b", " not"),
    (("no one", "no-one", "nobody"), r"\bno[ -]one\b|\bnobody\b", "not one"),
    (
        ("nowhere", "un", "absent", "lacking", "missing", "devoid"),
        r"\b(?:nowhere|unseen|unmentioned|absent|lacking|missing|devoid)\b",
        "not there",
    ),
    (("lack", "fail"), r"\b(?:lacks?|lacked|fails? to|failed to)\b", "has no"),
    (
        ("zero ", "nil ", "not a single", "without a"),
        r"\b(?:zero|nil)(?= [a-z]{4,}s\b(?<!seconds))|\bnot a single\b|\bwithout an?\b",
        "no",
    ),
    (
        ("empty",),
        r"\b(came|comes|come|turned up|returned|was|is) (?:back |up )?empty\b",
        r"\1 back with nothing",
    ),
)
"""What one of stands in a text in small letters, so that its pattern is worth a look; the pattern; what it comes to."""
_COMPILED = tuple((hints, re.compile(pattern, re.IGNORECASE), put) for hints, pattern, put in _SHORT_FORMS)
_SEVERAL = re.compile(r"\d\s?(?:,|and|&)\s?\d+\s?\]")
_CITATIONS = re.compile(
    r"\[\s?(?:steps?\s*)?\d+(?:\s*(?:,|and|&)\s*(?:step\s*)?\d+)+\s?\]|\[steps?\s*\d+\]"
    r"|\((?:see |cf\. |from )?steps?\s*\d+(?:\s*(?:,|and|&)\s*\d+)*\)",
    re.IGNORECASE,
)


def short_forms(text: str) -> str:
    """`text` with short forms and idioms in plain words, citations each as `[1]`, denials as `no` or `not`.

    >>> short_forms("It isn't there, i.e. nowhere (steps 1 and 2)")
    'It is not there, that is not there [1] [2]'
    """
    words = text.casefold()
    for hints, pattern, put in _COMPILED:
        if any(hint in words for hint in hints):
            text = pattern.sub(put, text)
    if "step" in words or _SEVERAL.search(text):
        text = _CITATIONS.sub(lambda mark: " ".join(f"[{one}]" for one in re.findall(r"\d+", mark[0])), text)
    return text


def read_times(text: str, spans: Sequence[Span]) -> str:
    """`text` with its times as the notation has them; rough ones become those of `spans` that they may stand for.

    >>> read_times("From about two to four seconds, for two seconds", [(2.1, 4.2)])
    'From 2.1s-4.2s, for a while'
    """
    words = set(text.casefold().replace("-", " ").split())
    if ":" in text:
        text = _CLOCK.sub(lambda m: f"{60 * int(m[1]) + int(m[2])}{m[3] or ''}s", text)
    if any(word.startswith("min") for word in words):
        text = _MINUTES.sub(lambda m: f"{_plain(60 * _value(m[1]) + _value(m[2]))}s", text)
    between, pair, single = _IN_DIGITS if _FIRST_WORDS.isdisjoint(words) else _IN_WORDS
    if "between" in words:
        text = between.sub(lambda m: f"{_written(m[1], m[2])}-{_written(m[3], m[4])}", text)
    text = pair.sub(lambda m: f"{_written(m[1], m[2])}-{_written(m[3], m[4])}", text)
    text = single.sub(lambda m: _written(m[1], m[2]), text)
    if not _DIGIT.search(text):
        return text
    text = _LENGTH.sub(partial(_without_length, spans=spans), text)
    text = _FROM_START.sub(lambda m: f"{min((start for start, _ in spans), default=0.0):.1f}s-{m[1]}s", text)
    text = _BACKWARDS.sub(r"\2s-\1s", text)
    for pattern in _STRETCHES:
        text = pattern.sub(r"\1s-\2s", text)
    return _snapped(text, spans)


def join_moments(text: str, spans: Sequence[Span], count_labels: Callable[[str], int]) -> str:
    """`text` where a clause with one label tells when it starts and when it ends, as one stretch.

    >>> join_moments("It ends at 4.2s, having begun at 2.1s [1].", [(2.1, 4.2)], lambda _: 1)
    'It ends at 2.1s-4.2s, having begun at  [1].'
    """
    joined, end = [], 0
    for mark in [*_CLAUSE.finditer(text), None]:
        clause = text[end : mark.start()] if mark else text[end:]
        joined += [_joined(clause, spans, count_labels), mark[0] if mark else ""]
        end = mark.end() if mark else end
    return "".join(joined)


def _joined(clause: str, spans: Sequence[Span], count_labels: Callable[[str], int]) -> str:
    marks = list(MOMENT.finditer(clause))
    if len(marks) > 2 and ";" in clause:
        return ";".join(_joined(part, spans, count_labels) for part in clause.split(";"))
    if SPAN.search(clause) or len(marks) != 2 or count_labels(clause) > 1:
        return clause
    first, last = sorted(float(mark[1]) for mark in marks)
    if not any(abs(first - a) <= EXACT_S and abs(last - b) <= EXACT_S for a, b in spans):
        return clause
    head, between, tail = (
        clause[: marks[0].start()],
        clause[marks[0].end() : marks[1].start()],
        clause[marks[1].end() :],
    )
    return f"{head}{first}s-{last}s{between}{tail}"


def _value(text: str) -> float:
    words = text.casefold()
    if words[0].isdigit():
        return float(words)
    if words == "half a":
        return 0.5
    words, half, _ = words.partition(" and a half")
    return _VALUES[words.replace("-", " ")] + (0.5 if half else 0.0)


def _written(hedge: str | None, number: str) -> str:
    """A time as it was told: whole, or with decimals and then `~` before it where it is said to be rough."""
    value = _value(number)
    if number[0].isdigit():
        return f"{'~' if hedge and '.' in number else ''}{number}s"
    return f"{'~' if value % 1 else ''}{_plain(value)}s"


def _plain(value: float) -> str:
    return f"{value:g}"


def _is_near(written: str, time_s: float) -> bool:
    value = float(written.lstrip("~"))
    if "." in written and not written.startswith("~"):
        return abs(value - time_s) <= EXACT_S
    return abs(value - time_s) <= ROUGH_S or ("." not in written and 0 <= time_s - value < 1)


def _without_length(mark: re.Match[str], *, spans: Sequence[Span]) -> str:
    """`for 2s` as `for a while` where something took so long; else as an exact time, which nothing will bear out."""
    if any(_is_near(mark[3], end - start) for start, end in spans):
        return f"{mark[1]} a while"
    is_length = mark[1].casefold() not in ("over", "during")
    return f"{mark[1]} {mark[2]}{float(mark[3].lstrip('~'))}s" if is_length else mark[0]


_ROUGH_SPAN = re.compile(rf"{_TOLD}-{_TOLD}")
_ROUGH_MOMENT = re.compile(rf"(?<![\d.\-~]){_TOLD}(?!-)")


def _snapped(text: str, spans: Sequence[Span]) -> str:
    edges = sorted({edge for span in spans for edge in span})

    def span(mark: re.Match[str]) -> str:
        near = [one for one in spans if _is_near(mark[1], one[0]) and _is_near(mark[2], one[1])]
        first, last = float(mark[1].lstrip("~")), float(mark[2].lstrip("~"))
        if not near or (_is_exact(mark[1]) and _is_exact(mark[2])):
            return f"{first}s-{last}s"
        start, end = min(near, key=lambda one: abs(one[0] - first) + abs(one[1] - last))
        return f"{start:.1f}s-{end:.1f}s"

    def moment(mark: re.Match[str]) -> str:
        value = float(mark[1].lstrip("~"))
        near = [edge for edge in edges if _is_near(mark[1], edge)]
        if not near or _is_exact(mark[1]):
            return f"{value}s"
        return f"{min(near, key=lambda edge: abs(edge - value)):.1f}s"

    return _ROUGH_MOMENT.sub(moment, _ROUGH_SPAN.sub(span, text))


def _is_exact(written: str) -> bool:
    return "." in written and not written.startswith("~")
