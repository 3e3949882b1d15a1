"""Text from outside made fit to be shown: in a line of a terminal or a log, in JSON, in a page.

File names, labels, answers, replies and errors may hold what a terminal obeys: escape sequences, control characters,
marks that turn the direction of text, characters without width, halves of characters. They are shown as escapes
instead. Letters of any script, accents and pictures stay. This module knows nothing else.
"""

import logging
import re
from types import TracebackType

_INVISIBLE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f"
)
"""Control and format characters but for tab and newline, and surrogates that stand alone."""
_OBEYED = re.compile(f"[{_INVISIBLE}]")
_WHITE = re.compile("[\t\n\x0b\x0c\r\x1c-\x1f\x85\u2028\u2029]+")
_JOINS = re.compile("[\u200b-\u200d\u2060\ufeff]")
"""Of no width: dropped, because pictures and some scripts use them between characters."""


def one_line(text: str) -> str:
    r"""`text` in one line, with white space as blanks and everything else that a terminal obeys as an escape.

    >>> one_line("a\x1b[31mb\n[c\u202ed]")
    'a\\x1b[31mb [c\\u202ed]'
    """
    return clean(_WHITE.sub(" ", text))


def clean(text: str) -> str:
    """`text` with its newlines and tabs, and everything else that a terminal obeys as an escape."""
    return _OBEYED.sub(lambda match: _escaped(match[0]), _JOINS.sub("", text))


def storable(text: str) -> str:
    """`text` with question marks for halves of characters, which no file and no request can hold."""
    return text.encode("utf-8", "replace").decode()


def counted(number: int, thing: str) -> str:
    """A number of things.

    >>> counted(1, "answer"), counted(2024, "rationale"), counted(3, "reply")
    ('1 answer', '2,024 rationales', '3 replies')
    """
    many = f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"
    return f"{number:,} {thing if number == 1 else many}"


def clean_json(text: str) -> str:
    r"""JSON whose strings hold such characters as escapes of JSON, so that it means the same.

    >>> clean_json('{"a": "\x9b\u202e"}')
    '{"a": "\\u009b\\u202e"}'
    """
    return _OBEYED.sub(lambda match: _json_escaped(match[0]), text)


def _escaped(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode() if ord(char) > 0x7F else f"\\x{ord(char):02x}"


def _json_escaped(char: str) -> str:
    return "".join(f"\\u{unit:04x}" for unit in memoryview(char.encode("utf-16-le", "surrogatepass")).cast("H"))


class PlainFormatter(logging.Formatter):
    """Log lines of which each is one line of clean text; a traceback below keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return one_line(super().formatMessage(record))

    def formatException(
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        """The lines of a traceback."""
        return clean(super().formatException(ei))
