"""Reads YAML and overrides into a `RunConfig`, and says what is wrong with them.

Paths: a relative path given as an override is taken from the working folder. One written in a config file is taken from
the working folder too if it is there; if not, from the nearest folder that holds it, going up from the folder of that
file, so that a shipped config works from anywhere. One that begins with `./` is taken from the folder of that file and
from nowhere else. `data.questions`, `data.annotations`, `data.files` and
`data.annotated` are looked for in `data.root` before all that. `load_config` makes them absolute, so that a run resumes
from any folder; `run.dir` and `run.reuse` are always relative to the working folder.

A config file may begin with `include: [FILE, ...]`, relative to its own folder: their settings come first, each file
over those before it, and those of the file itself over all.
"""

import copy
import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import reduce
from importlib import resources
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, TypeVar, cast

import yaml
from pydantic import ValidationError

from aot.config.base import Section
from aot.config.chat import ChatConfig
from aot.config.data import BY_DATASET, DataConfig
from aot.config.reading.readers import (
    CHATS,
    HOLDERS,
    KINDS,
    RUNS,
    holders_of,
    read_settings,
    unread_keys,
    unread_sentences,
)
from aot.config.reading.strict_yaml import parse_yaml, read_yaml
from aot.config.run import RunConfig
from aot.config.serving import CapsConfig, CascadeSection
from aot.config.teaching import BUILT_IN_PROMPTS
from aot.config.training import EMBEDDED_STUDENTS
from aot.errors import ConfigError

CONFIGS = "configs"
MOST_TOLD = 10
"""Mistakes that one message names."""
_KEY = re.compile(r"[A-Za-z_][\w]*(\.[\w]+)*")
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxtuple = _SHORT.maxlevel = 3


def load_config(path: Path, *, overrides: tuple[str, ...] = ()) -> RunConfig:
    """The config in `path` with `key.sub=value` overrides applied, and paths made absolute (see the top).

    Raises:
        ConfigError: the file is missing or no YAML, an override is malformed, a key unknown or one that the run would
            not read, or a value unfit.
    """
    path = found_config(path)
    raw = _whole(path)
    given = tuple(override.partition("=")[0] for override in overrides)
    _apply_overrides(raw, overrides)
    return _located(parse_config(raw, source=str(path)), folder=path.parent, given=given)


def shipped_configs() -> Path:
    """The folder of the configs that come with the package."""
    return Path(str(resources.files("aot"))) / CONFIGS


def found_config(path: Path) -> Path:
    """`path` itself; where it is no file and begins with `configs/`, that of the package if it has one of this name."""
    if path.is_absolute() or path.parts[:1] != (CONFIGS,) or _exists(path):
        return path
    shipped = shipped_configs().joinpath(*path.parts[1:])
    return shipped if shipped.is_file() and ".." not in path.parts else path


def load_saved(path: Path) -> RunConfig:
    """The resolved config of a run folder, as it was saved; whether its keys are read was looked at when it began.

    Older folders list the keys of every kind of run; those that this one has not are left out.

    Raises:
        ConfigError: it is missing or damaged.
    """
    raw = _read(path)
    config = _checked(raw, source=str(path), is_left_out=lambda key, value: True)
    return _located(config, folder=path.parent, given=())


def load_cascade_config(path: Path) -> CascadeSection:
    """The cascade that the YAML file at `path` describes, with absolute paths but for its own folder.

    Raises:
        ConfigError: the file is missing or no YAML, a key unknown, or a value unfit.
    """
    try:
        section = CascadeSection.model_validate(_read(path))
    except ValidationError as error:
        items = error.errors(include_url=False)
        lines = [_of_cascade(dict(item)) for item in items[:MOST_TOLD]]
        more = [f"and {len(items) - MOST_TOLD} more"] if len(items) > MOST_TOLD else []
        raise ConfigError(f"{path}: " + "; ".join([*lines, *more])) from None
    bases = list(_bases(path.parent))

    def place(key: str, name: str) -> str:
        is_hub_name = key == "big.model" and (section.big.backend != "local" or name in EMBEDDED_STUDENTS)
        there = None if is_hub_name else next((base / name for base in bases if _exists(base / name)), None)
        return name if there is None else str(there.resolve())

    return _with_paths(section, dict.fromkeys(("student", "big.script", "big.model"), place))


def _of_cascade(item: dict[str, Any]) -> str:
    """What is wrong with one key of a cascade's file."""
    if item["type"] != "extra_forbidden":
        return _explain(item)
    key = ".".join(map(str, item["loc"]))
    keys = [*CascadeSection.model_fields, *(f"big.{one}" for one in ChatConfig.model_fields)]
    keys += [f"caps.{one}" for one in CapsConfig.model_fields]
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    siblings = [one for one in keys if one.rpartition(".")[0] == key.rpartition(".")[0]]
    return f"unknown key {key[:200]}; " + (f"did you mean {near[0]}?" if near else f"known here: {', '.join(siblings)}")


def parse_config(raw: dict[str, Any], *, source: str) -> RunConfig:
    """`raw` as a checked config.

    Raises:
        ConfigError: naming every bad key, with the nearest known key for unknown ones, and every key that the run would
            not read, with those who do (aot/config/reading/readers.py).
    """
    # What is empty gives no setting: a section of another data set can be emptied on the command line.
    config = _checked(
        raw, source=source, is_left_out=lambda key, value: value == {} or (value is None and key in CHATS)
    )
    if unread := unread_keys(config):
        raise ConfigError(f"{source}: " + "; ".join(unread_sentences(unread)))
    return config


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML: every setting that the run reads, and no other."""
    return yaml.safe_dump(read_settings(config), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> dict[str, Any]:
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        words = "nothing" if raw is None else _SHORT.repr(raw)
        raise ConfigError(f"{path} must hold `key: value` lines, got {words}")
    return raw


INCLUDE = "include"
"""Key of a config file that names others; no setting of a run."""


def _whole(path: Path) -> dict[str, Any]:
    """What a config file says, over what it includes; a file that is included must not include others."""
    raw = _read(path)
    names = raw.pop(INCLUDE, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ConfigError(f"{path}: {INCLUDE} must be a list of files, such as [coin.yaml], got {_SHORT.repr(names)}")
    whole: dict[str, Any] = {}
    for name in names:
        part = _read(path.parent / name)
        if INCLUDE in part:
            raise ConfigError(f"{path}: {name[:200]} includes others itself; name them all in {path.name}")
        whole = _over(whole, part)
    return _over(whole, raw)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """The settings of both; where both give one, that of `above`. Lists are replaced, sections are joined."""
    joined = dict(below)
    for key, value in above.items():
        under = below.get(key)
        joined[key] = _over(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return joined


_RUN_OF = {dataset: run for run in RUNS for dataset in HOLDERS["data.dataset"][run]}


def _validated(raw: dict[str, Any]) -> RunConfig:
    """`raw` as a run of the kind that its data set makes; raises ValidationError."""
    data = raw.get("data")
    dataset = data.get("dataset") if isinstance(data, dict) else None
    if isinstance(dataset, str) and dataset in _RUN_OF:
        return _RUN_OF[dataset].model_validate(raw)
    _Which.model_validate({"data": data} if "data" in raw else {})
    raise LookupError(f"no kind of run has the data set {dataset!r}")


class _Which(Section):
    """Enough to say what is wrong with the data set of a run of no known kind."""

    data: Annotated[DataConfig, BY_DATASET]


def _checked(raw: dict[str, Any], *, source: str, is_left_out: Callable[[str, object], bool]) -> RunConfig:
    """`raw` as a run, without those keys of other kinds of run that may be left out."""
    try:
        return _validated(raw)
    except ValidationError as error:
        foreign = [
            parts
            for item in error.errors(include_url=False)
            if item["type"] == "extra_forbidden"
            and (key := _bare(parts := _parts(item["loc"]))) in HOLDERS
            and is_left_out(key, item["input"])
        ]
        if foreign:
            return _checked(_without(raw, foreign), source=source, is_left_out=is_left_out)
        unread: dict[str, str] = {}
        lines: list[str] = []
        for item in error.errors(include_url=False):
            if item["type"] == "extra_forbidden":
                lines += _of_strange_key(_parts(item["loc"]), item["input"], unread)
            elif item["type"] != _FOLLOWS:
                lines.append(_explain(dict(item)))
            if item["type"].startswith("union_tag"):  # nobody looked into a section of no known kind
                lines += _strange_keys(_parts(item["loc"]), item["input"])
        if error.title == _Which.__name__:
            lines += _strange_keys([], raw)
        else:
            lines += _further(raw, error)
        more = len(lines) - MOST_TOLD
        lines = [*lines[:MOST_TOLD], *([f"and {more} more"] if more > 0 else []), *unread_sentences(unread)]
        raise ConfigError(f"{source}: " + "; ".join(lines)) from None


def _further(raw: dict[str, Any], error: ValidationError) -> list[str]:
    """What else is wrong, of settings that do not fit together: the library looks at these once each is fine alone.

    So those that are not are left out, which gives them their defaults.
    """
    wrong = [parts for item in error.errors(include_url=False) if item["type"] != "missing"
             if (parts := _parts(item["loc"]))]  # fmt: skip
    try:
        _validated(_without(raw, [parts[:-1] if isinstance(parts[-1], int) else parts for parts in wrong]))
    except ValidationError as second:
        items = second.errors(include_url=False)
        alone = {item["loc"] for item in error.errors(include_url=False)}
        return [_explain(dict(item)) for item in items if item["type"] == "value_error" and item["loc"] not in alone]
    return []


def _without(raw: dict[str, Any], keys: list[list[int | str]]) -> dict[str, Any]:
    raw = copy.deepcopy(raw)
    for *parents, name in keys:
        with suppress(KeyError, TypeError, IndexError):  # it went with its section
            section: Any = reduce(lambda node, part: node[part], parents, cast(Any, raw))
            del section[name]
    return raw


def _located(config: RunConfig, *, folder: Path, given: tuple[str, ...]) -> RunConfig:
    """`config` with absolute paths; those of the keys in `given` came from the command line, the rest from `folder`."""

    def bases_of(key: str, name: str) -> list[Path]:
        if any(key == one or key.startswith(f"{one}.") for one in given):  # from the command line
            return [Path.cwd()]
        return [Path.cwd() / folder] if name == "." or name.startswith("./") else list(_bases(folder))

    def locate(key: str, name: str) -> str | None:
        return next((str((base / name).resolve()) for base in bases_of(key, name) if _exists(base / name)), None)

    def absolute(key: str, name: str) -> str:
        return locate(key, name) or str(bases_of(key, name)[0] / name)

    def beside(key: str, name: str) -> str:
        """A file of the data set: in its root, or where any other path may be."""
        if root is None:  # a run folder has files of the same names as questions and annotations
            return name if key in ("data.questions", "data.annotations") else absolute(key, name)
        inside = Path(absolute("data.root", root)) / name
        return str(inside) if _exists(inside) else locate(key, name) or str(inside)

    def model(key: str, name: str) -> str:
        """The folder of a model; a name that is no folder is one on the hub, or of an embedded student.

        One that `aot prefetch` makes has the same name before it is there.
        """
        there = None if name in EMBEDDED_STUDENTS else locate(key, name)
        return there or (absolute(key, name) if key in fetched else name)

    root: str | None = getattr(config.data, "root", None)
    hf = getattr(config.teacher, "hf", None)
    hubs = {
        "student.base": config.student.hub,
        "teacher.hf.detector": hf and hf.detector_hub,
        "teacher.hf.similarity": hf and hf.similarity_hub,
        **{f"{chat}.model": section and section.hub for chat in CHATS for section in (getattr(config, chat, None),)},
    }
    fetched = {key for key, hub in hubs.items() if hub}
    places: dict[str, Callable[[str, str], str]] = {
        "data.root": absolute,
        "teacher.appearance": absolute,
        "teacher.prompts": lambda key, name: name if name in BUILT_IN_PROMPTS else absolute(key, name),
        **dict.fromkeys(("student.base", "teacher.hf.detector", "teacher.hf.similarity", "data.hf.path"), model),
        "data.hf.test_file": absolute,
        **{f"data.{key}": beside for key in ("questions", "annotations")},
        **{f"data.{files}.{key}": beside for files in ("files", "annotated") for key in ("train", "test")},
        **{f"{chat}.{key}": absolute for chat in CHATS for key in ("script", "record")},
        **{f"{chat}.model": model for chat in CHATS if getattr(getattr(config, chat, None), "backend", "") == "local"},
    }
    return _with_paths(config, places)


Part = TypeVar("Part", bound=Section)


def _with_paths(section: Part, places: dict[str, Callable[[str, str], str]], prefix: str = "") -> Part:
    """`section` with each path of `places` where that finds it."""
    changed: dict[str, Section | str] = {}
    for name in type(section).model_fields:
        value, key = getattr(section, name), prefix + name
        if isinstance(value, Section):
            changed[name] = _with_paths(value, places, f"{key}.")
        elif key in places and value is not None:
            changed[name] = places[key](key, value)
    return section.model_copy(update=changed)


def _bases(folder: Path) -> Iterator[Path]:
    """Where a path written in a config file in `folder` may start, in the order of trying."""
    here = Path.cwd()
    yield here
    yield here / folder
    yield from (here / folder).parents


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or not to be looked at
        return False


def _apply_overrides(raw: dict[str, Any], overrides: tuple[str, ...]) -> None:
    """Change `raw`; a section may be given first and then keys that it does not hold, but no key twice.

    Raises:
        ConfigError: an override is malformed, or would undo an earlier one.
    """
    given: dict[str, Any] = {}
    for override in overrides:
        key = override.partition("=")[0]
        value = _apply_override(raw, override)
        for other, before in given.items():
            if f"{other}.".startswith(f"{key}.") or (
                key.startswith(f"{other}.") and _holds(before, key[len(other) + 1 :])
            ):
                words = key if key == other else f"{max(key, other)} (once in {min(key, other)})"
                raise ConfigError(f"{words[:200]} is given twice on the command line; keep one")
        given[key] = value


def _holds(section: object, key: str) -> bool:
    """Whether a section has `key`, or a value where `key` needs a section."""
    first, _, below = key.partition(".")
    return not isinstance(section, dict) or (first in section and (not below or _holds(section[first], below)))


def _apply_override(raw: dict[str, Any], override: str) -> object:
    """The value of `override`, now in `raw`; nothing in it is shared with that."""
    key, sign, text = override.partition("=")
    if not sign or not _KEY.fullmatch(key):
        words = _SHORT.repr(override)
        raise ConfigError(f"override {words} is not of the form key.sub=value, for example train.max_steps=100")
    *parents, last = key.split(".")
    node = raw
    for name in parents:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise ConfigError(f"override {_SHORT.repr(override)}: {name} is a value, not a section")
    node[last] = parse_yaml(text, source=f"override {key[:80]}")
    return copy.deepcopy(node[last])


_WORDS = {
    "missing": "is needed",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of usual size",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must have the form {pattern}",
    "tuple_type": "must be a list",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "model_type": "must be a section of `key: value` lines",
    "union_tag_not_found": "must be a section of `key: value` lines",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
}
"""Kinds of mistake to what is told of a value; others are told in the words of pydantic."""


_AS_WRITTEN = {"True": "true", "False": "false", "None": "null"}


_FOLLOWS = "default_factory_not_called"
"""Kind of mistake that is told of a key only because another one is wrong."""


def _explain(item: dict[str, Any]) -> str:
    parts, value, context = _parts(item["loc"]), item.get("input"), item.get("ctx", {})
    key, kinds = ".".join(map(str, parts))[:200], KINDS.get(_bare(parts))
    if kinds and item["type"] == "union_tag_invalid":
        listed, tag = re.sub(r", ('[^']*')$", r" or \1", context["expected_tags"]), context["tag"]
        if isinstance(value, dict) and kinds.by not in value:  # the default is for another kind of run
            return f"{key}.{kinds.by}: is needed here, and must be {listed}"
        written = value[kinds.by] if isinstance(value, dict) else tag
        holders = HOLDERS[f"{_bare(parts)}.{kinds.by}"]
        others = " or ".join(RUNS[run] for run, names in holders.items() if tag in names)
        near = difflib.get_close_matches(tag, [name for names in holders.values() for name in names], n=1, cutoff=0.75)
        hint = f", which is for {others}" if others else f"; did you mean {near[0]}?" if near else ""
        return f"{key}.{kinds.by}: must be {listed}, got {_AS_WRITTEN.get(repr(written)) or _SHORT.repr(written)}{hint}"
    if kinds and item["type"] == "union_tag_not_found" and isinstance(value, dict):
        return f"{key}.{kinds.by}: is needed"
    words = _WORDS.get(item["type"], "{msg}").format(**context, msg=item["msg"]).removeprefix("Value error, ")
    if not key:  # a sentence of our own, about several sections
        return words
    if item["type"] == "missing" or ".extra_body" in key:  # whose values may be secrets
        return f"{key}: {words}"
    return f"{key}: {words}, got {_AS_WRITTEN.get(repr(value)) or _SHORT.repr(value)[:200]}"


def _strange_keys(parts: list[int | str], section: object) -> Iterator[str]:
    """What is wrong with the keys of a section that no kind of it has."""
    for name, value in section.items() if isinstance(section, dict) else ():
        if _bare([*parts, name]) not in HOLDERS:
            yield from _of_strange_key([*parts, name], value, {})


def _of_strange_key(parts: list[int | str], value: object, unread: dict[str, str]) -> Iterator[str]:
    """What is wrong with a key that its section has not; one of other runs goes to `unread`, with those in words."""
    key = ".".join(map(str, parts))
    bare = _bare(parts)
    if "." in str(parts[-1]) and bare in HOLDERS:  # a key of several words, which only the command line takes
        section, _, last = key.rpartition(".")
        yield f"unknown key {key[:200]!r}; in a file write `{last}:` indented under `{section}:`"
    elif bare not in HOLDERS:
        near = difflib.get_close_matches(key, HOLDERS, n=1, cutoff=0.5)
        siblings = [k for k in HOLDERS if k.rpartition(".")[0] == bare.rpartition(".")[0]]
        yield f"unknown key {key[:200]}; " + (
            f"did you mean {near[0]}?" if near else f"known here: {', '.join(siblings)}"
        )
    elif isinstance(value, dict) and value and any(k.startswith(f"{bare}.") for k in HOLDERS):
        for name, one in value.items():
            yield from _of_strange_key([*parts, name], one, unread)
    else:
        unread[key] = holders_of(bare)


def _parts(loc: tuple[int | str, ...]) -> list[int | str]:
    """Fields and numbers that lead to the key of an error, without the names of kinds that pydantic puts between."""
    parts: list[int | str] = []
    follows_kind = False
    for part in loc:
        if follows_kind and isinstance(part, str):
            follows_kind = False
        else:
            parts.append(part)
            follows_kind = _bare(parts) in KINDS
    return parts


def _bare(parts: Sequence[int | str]) -> str:
    """The key without the numbers of arms."""
    return ".".join(part for part in parts if isinstance(part, str))
