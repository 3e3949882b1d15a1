"""Text from data inside Markdown: it stays the text it is, and never becomes a link, a picture, HTML or a heading."""

import json
import re
from html import escape

from aot.display import one_line

_WORDS = re.compile(r"[A-Za-z][\w./-]*( [\w./-]+)*")
_MARKS = re.compile(r"([\\`*|]|\](?=[\[(:]))")
"""What begins something in the middle of a line; a bracket only where a link would follow."""
_BLOCK = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[#~=]|[-+](?:\s|$)))")
"""Where a block would begin at the start of a line."""
_ADDRESS = re.compile(r"(?i)(?<=:)//|(?<=www)\.")


class Ready(str):
    """Text that a template takes as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        """The text itself."""
        return self


def markdown_text(value: object) -> object:
    r"""A value for a Markdown template: text in one line and escaped, a number as it is.

    >>> print(markdown_text("[x](javascript:a) <b> | 41% [3, 7]"))
    [x\](javascript:a) &lt;b&gt; \| 41% [3, 7]
    """
    if not isinstance(value, str | list | tuple | dict) or hasattr(value, "__html__"):
        return value
    marked = _BLOCK.sub(r"\1\\", _MARKS.sub(r"\\\1", one_line(str(value))))
    # Some readers make links of bare addresses.
    return Ready(_ADDRESS.sub(lambda match: "".join(f"&#{ord(char)};" for char in match[0]), escape(marked)))


def code(value: object) -> Ready:
    """A value as code, whatever it holds."""
    return Ready(f"`{escape(one_line(str(value)).replace('`', chr(39)), quote=False) or ' '}`")


def yaml_value(value: object) -> Ready:
    """A value for the head of a card: in quotes unless it is plain words."""
    text = str(value)
    is_plain = _WORDS.fullmatch(text) and text.lower() not in ("true", "false", "null", "yes", "no", "on", "off")
    return Ready(text if is_plain else json.dumps(one_line(text)).replace("<", "\\u003c"))
