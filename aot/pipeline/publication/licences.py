"""Under which licences a student and its data are passed on: what files say, and what whoever publishes states."""

import re
from collections.abc import Iterable, Mapping

from aot.errors import ConfigError

SPDX = {
    one.lower(): one
    for one in (
        "Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MPL-2.0", "GPL-2.0-only", "GPL-3.0-only",
        "GPL-3.0-or-later", "LGPL-3.0-only", "AGPL-3.0-only", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0",
        "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0", "CC-BY-NC-ND-4.0", "CC-BY-3.0", "CC-BY-SA-3.0", "CDLA-Permissive-2.0",
        "ODC-By-1.0", "ODbL-1.0", "PDDL-1.0", "OFL-1.1", "Unlicense", "Zlib",
    )
}  # fmt: skip
"""Identifiers of the SPDX list that models and data often have, by their lower case; others are told by their name."""
OPEN = ("unknown", "other")
"""What is said where no file names a licence, or where a file holds one that is not known by its words."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,60}")


def settled(given: Mapping[str, str], statements: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The licences of base, data and student once statements filled their gaps, and whose licences were stated.

    Args:
        given: as the files of base and data name them; see `licences_of`.
        statements: such as `data=CC-BY-4.0`.

    Raises:
        ConfigError: one is still unknown, a statement contradicts a file, or is none.
    """
    stated: dict[str, str] = {}
    for statement in statements:
        what, _, name = (word.strip() for word in statement.partition("="))
        if what not in given or not _NAME.fullmatch(name) or name.lower() in OPEN:
            raise ConfigError(
                f"--licence {statement!r} must be base=NAME, data=NAME or student=NAME, such as data=CC-BY-4.0; a name "
                "has letters, digits, dots, dashes and underscores"
            )
        if stated.setdefault(what, spdx_or_name(name)) != spdx_or_name(name):
            raise ConfigError(f"--licence states {what} twice: {stated[what]} and {name}; give one")
        # A student's licence is up to whoever publishes it; that of somebody else's work is not.
        if what != "student" and given[what] not in OPEN and given[what].lower() != name.lower():
            raise ConfigError(f"--licence {statement}: the files of the {what} say {given[what]}; leave it out")
    licences = {what: stated.get(what, spdx_or_name(name)) for what, name in given.items()}
    if missing := [what for what, name in licences.items() if name in OPEN]:
        options = " ".join(f"--licence {what}=NAME" for what in missing)
        raise ConfigError(
            f"nothing says under which licence the {' and the '.join(missing)} may be passed on; find out, then state "
            f"it with {options}, such as --licence {missing[0]}=CC-BY-4.0"
        )
    return licences, tuple(what for what in given if what in stated)


def spdx_or_name(name: str) -> str:
    """The SPDX identifier of a licence, in its own letters, or the name as it is.

    >>> spdx_or_name("apache-2.0"), spdx_or_name("my-licence")
    ('Apache-2.0', 'my-licence')
    """
    return SPDX.get(name.lower(), name)


def address_of(name: str) -> str:
    """Where the text of a licence stands, if it has an SPDX identifier; else its name."""
    return f"https://spdx.org/licenses/{name}.html" if name in SPDX.values() else name
