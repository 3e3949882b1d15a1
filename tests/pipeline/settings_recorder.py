"""As a program: `aot`, which notes each setting that its stages read as a line `Section.key` in the file SETTINGS_READ.

Worker processes import this module too, and note theirs. Reads by aot.config itself do not count, but for what it works
out for others. A setting that is read by `getattr` counts; one that is read by way of `model_dump` does not.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from aot import cli
from aot.config import RunConfig, Section, read_settings

FOR_OTHERS = ("kinds_under_review", "steps_of", "chat_jobs", "chat_for", "teacher_chats", "recipes")
"""Functions of aot.config that read for whoever calls them."""
SECTIONS = {"chat", "vision_chat", "judge_chat", "faults"}
"""No values, though they may be None."""
_noted: set[str] = set()


def _noting(section: Section, name: str) -> object:
    value = object.__getattribute__(section, name)
    line = f"{type(section).__name__}.{name}"
    if name in type(section).__pydantic_fields__ and line not in _noted and not _holds_section(value):
        caller = sys._getframe(1)
        while caller.f_code.co_name in FOR_OTHERS and caller.f_back:
            caller = caller.f_back
        if not caller.f_globals.get("__name__", "").startswith(("aot.config", "pydantic")):
            _noted.add(line)
            with open(os.environ["SETTINGS_READ"], "a") as file:
                file.write(line + "\n")
    return value


def _holds_section(value: object) -> bool:
    return isinstance(value, Section) or (isinstance(value, tuple) and any(isinstance(one, Section) for one in value))


def unless_given(defaults: tuple[str, ...], given: tuple[str, ...]) -> list[str]:
    """The settings of `defaults` that `given` does not give again, alone or in a whole section."""
    sections = [f"{one.partition('=')[0]}." for one in given]
    return [one for one in defaults if not any(f"{one.partition('=')[0]}.".startswith(each) for each in sections)]


def unlike_the_table(config: RunConfig, noted: Path) -> tuple[list[str], list[str]]:
    """What a run should have read and nobody did, and what was read though the table says that nobody would."""
    seen, said = set(noted.read_text().split()), set(_values(read_settings(config), config))
    return sorted(said - seen), sorted(key for key in seen - said if key.partition(".")[2] not in SECTIONS)


def _values(settings: object, section: object) -> Iterator[str]:
    if isinstance(settings, dict):
        for name, value in settings.items():
            inner = getattr(section, name)
            if not _holds_section(inner):
                yield f"{type(section).__name__}.{name}"
            yield from _values(value, inner)
    elif isinstance(settings, list) and _holds_section(section):
        for value, part in zip(settings, section, strict=True):  # type: ignore[call-overload]
            yield from _values(value, part)


if "SETTINGS_READ" in os.environ:
    Section.__getattribute__ = _noting  # type: ignore[assignment, method-assign]
if __name__ == "__main__":
    cli.main()
