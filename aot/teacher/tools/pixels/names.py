"""Matches a name in a call with the names that the card knows; never guesses, but says which is near."""

import difflib
from collections.abc import Iterable

from aot.errors import ToolError


def known_name(name: str, known: Iterable[str], *, what: str) -> str:
    """The known name that equals `name` but for case and spaces.

    Raises:
        ToolError: there is none; the nearest known names are told.
    """
    by_key = {" ".join(known_name.casefold().split()): known_name for known_name in known}
    key = " ".join(name.casefold().split())
    if key in by_key:
        return by_key[key]
    near = [by_key[k] for k in difflib.get_close_matches(key, by_key, n=3, cutoff=0.6)] or list(by_key.values())[:5]
    raise ToolError(f"no known {what} is called {name!r}; near: {', '.join(near) or 'the card lists none'}")
