"""Writes docs/settings.md, every setting of a run with its values, default, meaning and readers, from the code.

    python scripts/write_settings.py            # writes the page
    python scripts/write_settings.py --check    # exits with 2 if the page is out of date

What a setting means stands under it in aot/config, who reads it in aot/config/reading/readers.py; this file knows no
setting.
"""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from aot.config import CascadeSection, RunConfig, Section
from aot.config.base import _usable_path, sections_in
from aot.config.reading.readers import CONDITIONS, holders_of
from aot.config.training import EMBEDDED_STUDENTS
from aot.pipeline.printed import meanings_of

PAGE = Path(__file__).parents[1] / "docs/settings.md"
HEAD = """# Settings

Every setting of a config. `python scripts/write_settings.py` makes this page from the docstrings of `aot/config`; a
test checks that it is up to date.

A config is a YAML file. Any setting can also be given on the command line, as in `train.max_steps=100`, and a section
is emptied by `train.adaptive={}`. A key that is misspelt, given twice or not read by the run is an error that names
the key and who would read it. The `config.yaml` of a run folder holds every setting that the run reads, with its
value. "Read by" says which runs may have a setting; where it is missing, every run may.

A run of text needs no more than its data. In place of what is usual for clips it has `student.base: tiny-text`,
`train.arms` with `answers_only` and `pre`, `evaluate.splits: [test]`, and `teacher.planner: given`, or `procedural` for
`toy_math`.
"""
WORDS = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`", dict: "mapping"}
Held = tuple[type[Section], FieldInfo]
"""A section and a field that it has."""
LIMITS = (("ge", "at least {}"), ("gt", "above {}"), ("le", "at most {}"), ("lt", "below {}"))


def meaning_of(section: type[Section], name: str) -> str:
    """The docstring of a field, which a base class may have; empty where there is none."""
    kinds = (kind for kind in section.__mro__ if issubclass(kind, Section) and kind is not Section)
    return next((meanings_of(kind)[name] for kind in kinds if name in meanings_of(kind)), "")


def values_in(annotation: Any) -> str:  # noqa: ANN401 - any type that a setting may have
    """What a setting takes, in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values_in(inner[0])
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in inner)
    if origin is tuple:
        return f"list of: {values_in(inner[0])}"
    if origin is dict or annotation is dict:
        return WORDS[dict]
    if inner:
        return " or ".join(dict.fromkeys(values_in(one) for one in inner if one is not NoneType))
    return WORDS.get(annotation, "any")


def values_of(field: FieldInfo) -> str:
    """What a setting takes, in words, with its limits."""
    marks = [
        *field.metadata,
        *(mark for one in get_args(field.annotation) for mark in getattr(one, "__metadata__", ())),
    ]
    parts = [
        words.format(f"{value:,}")
        for name, words in LIMITS
        for mark in marks
        if (value := getattr(mark, name, None)) is not None
    ]
    is_path = any(getattr(mark, "func", None) is _usable_path for mark in marks)
    return ", ".join(("path" if is_path else values_in(field.annotation), *dict.fromkeys(parts)))


def default_of(field: FieldInfo) -> str:
    """The default of a setting, with that for embedded students where it is another."""
    if field.is_required():
        return "required"
    usual, tiny = (
        field.get_default(call_default_factory=True, validated_data={"base": base})
        for base in ("", next(iter(EMBEDDED_STUDENTS)))
    )
    shown = _shown(usual)
    return shown if usual == tiny else f"{shown}; {_shown(tiny)} with an embedded student"


def _shown(value: object) -> str:
    if value is None or value in ((), {}):
        return "none"
    if isinstance(value, tuple):
        return ", ".join(_shown(one) for one in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def leaves(*sections: type[Section], key: str = "") -> Iterator[tuple[str, type[Section], FieldInfo]]:
    """Every setting below these sections, with the section that has it."""
    for section in sections:
        for name, field in section.model_fields.items():
            if inner := sections_in(field.annotation):
                yield from leaves(*inner, key=f"{key}{name}.")
            else:
                yield f"{key}{name}", section, field


def readers_of(key: str) -> str:
    """Who reads a setting, in words; empty where every run may have it."""
    parts = key.split(".")
    conditions = [CONDITIONS[above] for n in range(1, len(parts) + 1) if (above := ".".join(parts[:n])) in CONDITIONS]
    holders = holders_of(key)
    conditions_in_words = [reader.words for reader in conditions]
    is_said = holders == "video runs, and text runs" or any(words.startswith(holders) for words in conditions_in_words)
    return "; of these, ".join(dict.fromkeys((*([] if is_said else [holders]), *conditions_in_words)))


def _escaped(text: str) -> str:
    """Text as Markdown shows it as it is, within a cell of a table; code stays code."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def _row(key: str, held: list[Held], readers: str) -> str:
    """The line of one setting, which several kinds of a section may have."""
    values = dict.fromkeys(part for _, field in held for part in values_of(field).split(", "))
    defaults = dict.fromkeys(default_of(field) for _, field in held)
    texts = dict.fromkeys(filter(None, (meaning_of(section, key.rpartition(".")[2]) for section, _ in held)))
    words = " Or: ".join(texts) + (f" *Read by {readers}.*" if readers else "")
    return f"| `{key}` | {_escaped(', '.join(values))} | {' or '.join(defaults)} | {_escaped(words.strip())} |"


def table_of(title: str, settings: dict[str, list[Held]], *, read: bool, note: str = "") -> str:
    """The settings of one section; who reads them stands over the table where it is the same for all."""
    readers = {key: readers_of(key) if read else "" for key in settings}
    shared = readers[next(iter(settings))] if len(set(readers.values())) == 1 else ""
    kinds = {section for held in settings.values() for section, _ in held}
    about = [_escaped(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]) for kind in kinds if len(kinds) == 1]
    lines = [note, *about, f"Read by {shared}." if shared else ""]
    rows = [_row(key, held, "" if shared else readers[key]) for key, held in settings.items()]
    head = "| setting | value | default | meaning |\n| --- | --- | --- | --- |"
    return "\n".join([f"## {title}\n", *(f"{line}\n" for line in lines if line), head, *rows, ""])


def page() -> str:
    """The whole page."""
    groups: dict[str, dict[str, list[Held]]] = {}
    for key, section, field in leaves(*get_args(RunConfig)):
        held = groups.setdefault(key.rpartition(".")[0], {}).setdefault(key, [])
        held.extend([(section, field)] if (section, field) not in held else [])
    texts, tops = [HEAD], [*dict.fromkeys(name.partition(".")[0] for name in groups)]
    for name, settings in sorted(groups.items(), key=lambda group: tops.index(group[0].partition(".")[0])):
        if name.partition(".")[0] in ("vision_chat", "judge_chat"):
            continue
        title = name.replace("chat", "chat, vision_chat, judge_chat") if name == "chat" else name or "The whole run"
        note = "The three sections have the same settings." if name == "chat" else ""
        texts.append(table_of(title, settings, read=True, note=note))
    cascade: dict[str, list[Held]] = {}
    for key, section, field in leaves(CascadeSection):
        if not key.startswith("big."):
            cascade.setdefault(key, []).append((section, field))
    note = "Settings of `aot serve --cascade FILE` ([cascade.md](cascade.md)); `big` is a section like `chat`."
    return "\n".join([*texts, table_of("A cascade", cascade, read=False, note=note)])


def main() -> int:
    """Write the page, or say whether it is up to date."""
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == page():
        return 0
    print("docs/settings.md is out of date: run `python scripts/write_settings.py`", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
