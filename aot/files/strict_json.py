"""JSON as this project writes it: whatever else a file holds is one error, a ValueError of one line.

Python's own reader takes NaN, turns `1e999` into infinity, and answers nesting without end with a RecursionError. This
module knows no record and no folder.
"""

import json
import math
from pathlib import Path
from typing import Any

_MOST_DIGITS = 300
"""Of a whole number: more of them fit into no arithmetic with floats."""


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The value that `text` holds.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}

    Raises:
        ValueError: it is no JSON, nested too deeply, or holds a number that nothing can be computed with.
    """
    try:
        return json.loads(text, parse_constant=_constant, parse_float=_float, parse_int=_int)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path) -> Any:  # noqa: ANN401
    """The value in a file.

    Raises:
        OSError: it cannot be read.
        ValueError: as for `parse_json`.
    """
    return parse_json(path.read_bytes())


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _float(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _int(text: str) -> int:
    if len(text.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"the number {text[:20]}... has {len(text)} digits")
    return int(text)
