"""Reads YAML that a stranger may have written: plain words, numbers, lists and sections, within small limits.

YAML can do more than a config needs, and all of it is refused in one sentence: tags, merge keys, several documents,
keys that are no text, a key given twice, control characters, numbers without end, and anchors that grow beyond measure.
A date is text. Limits are counted while the text is read, before anything is built of it.
"""

import re
import unicodedata
from pathlib import Path
from typing import Any, NoReturn

import yaml

from aot.errors import ConfigError

MAX_BYTES = 100_000
MAX_NODES = 10_000
"""Values, keys and sections, each counted again wherever an alias repeats it."""
MAX_DEPTH = 20
MAX_DIGITS = 30
_PLAIN = tuple(f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "int", "null"))
"""What a word without quotes may be read as, besides text."""
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_BAD = {"Cc": "a control character", "Cs": "half a character (a lone surrogate)"}


def read_yaml(path: Path) -> object:
    """What a YAML file holds.

    Raises:
        ConfigError: it cannot be read, or is no YAML of the plain kind.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        cut = len(raw) > MAX_BYTES and error.start > MAX_BYTES - 4
        problem = _TOO_LARGE if cut else "it is not UTF-8; save it as UTF-8"
        raise ConfigError(f"cannot read the config {path}: {problem}") from None
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot read the config {str(path)[:300]}: {problem}; give the path of a YAML file"
        ) from None
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> Any:  # noqa: ANN401 - whatever YAML can hold
    """What `text` holds; `source` names it in errors.

    Raises:
        ConfigError: it is no YAML of the plain kind.

    >>> parse_yaml("{a: 1, b: [on, 2024-01-31]}", source="example")
    {'a': 1, 'b': [True, '2024-01-31']}
    """
    try:
        if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            raise ConfigError(f"{source}: {_TOO_LARGE}")
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _value(loader, node)
    except _RefusedError as error:
        raise ConfigError(f"{source}: {error}") from None
    except yaml.reader.ReaderError as error:
        problem = f"the character U+{int(error.character):04X} at position {error.position} is not allowed"
        raise ConfigError(f"{source} is not valid YAML: {problem}") from None
    except yaml.MarkedYAMLError as error:
        where = _place(error.problem_mark) if error.problem_mark else ""
        problem = f"{error.context or ''} {error.problem or ''}".strip()
        raise ConfigError(f"{source} is not valid YAML: {problem}{where}"[:400]) from None


_TOO_LARGE = f"it is larger than {MAX_BYTES:,} bytes, and no config is; give the YAML file of a run"


class _RefusedError(Exception):
    """What was met that a config may not hold."""


class _Loader(yaml.SafeLoader):
    """Composes nodes and counts them."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the library's own way
        first: [(tag, pattern) for tag, pattern in pairs if tag in _PLAIN]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0
        self._sizes: dict[int, int] = {}
        """By id, how many nodes stand in each finished node, those that aliases repeat included."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        """The next node; stops at the first one that breaks a limit."""
        event = self.peek_event()
        mark = event.start_mark
        self._nodes += 1
        if getattr(event, "tag", None) is not None:
            _refuse(f"the tag {event.tag[:40]!r} is not read here; write the value plainly, text in quotes", mark)
        if self._depth >= MAX_DEPTH:
            _refuse(f"sections and lists stand more than {MAX_DEPTH} deep in each other, and no setting does", mark)
        if isinstance(event, yaml.ScalarEvent):
            _check_text(event.value, mark)
        self._depth += 1
        node: yaml.Node = super().compose_node(parent, index)  # type: ignore[assignment]
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent) and id(node) not in self._sizes:
            _refuse(f"the anchor {str(event.anchor)[:40]!r} holds itself", mark)
        size = self._sizes.setdefault(id(node), 1 + sum(self._sizes[id(child)] for child in _children(node)))
        if max(size, self._nodes) > MAX_NODES:
            _refuse(f"it holds more than {MAX_NODES:,} values, aliases written out, and no config does", mark)
        return node


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [one for pair in node.value for one in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_text(text: str, mark: Any) -> None:  # noqa: ANN401
    for character in text:
        kind = _BAD.get(unicodedata.category(character))
        if kind and character not in "\t\n":
            _refuse(f"{kind} (U+{ord(character):04X}) stands in a text, and no setting holds one", mark)


def _value(loader: _Loader, node: yaml.Node) -> object:
    """What a node says; nothing is shared between two places."""
    if isinstance(node, yaml.MappingNode):
        return _section(loader, node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, one) for one in node.value]
    text = str(node.value)
    if ":" in text:  # 1:30 is no number of minutes
        return text
    if (
        isinstance(node, yaml.ScalarNode) and node.style is None and _LEADING_ZERO.fullmatch(text)
    ):  # for YAML 010 is 8, and 08 a text
        _refuse(f"{text[:80]} begins with 0; write it without, or in quotes if it is text", node.start_mark)
    if node.tag in _PLAIN[1:3] and len(text) > MAX_DIGITS:
        _refuse(f"a number of {len(text):,} characters is larger or finer than any setting", node.start_mark)
    try:
        return loader.construct_object(node)
    except ValueError:  # such as 0b_
        _refuse(f"{text!r} looks like a number and is none; put it into quotes if it is text", node.start_mark)


def _section(loader: _Loader, node: yaml.MappingNode) -> dict[str, object]:
    values: dict[str, object] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
            _refuse("a key must be a word, such as seed", key_node.start_mark)
        key = key_node.value
        if key == "<<" and key_node.style is None:
            _refuse("merge keys (<<) are not read here; write the settings out", key_node.start_mark)
        if key in values:
            raise _RefusedError(f"the key {key[:80]!r} is given twice, in lines {lines[key]} and {line}; keep one")
        lines[key] = line
        values[key] = _value(loader, value_node)
    return values


def _refuse(problem: str, mark: Any) -> NoReturn:  # noqa: ANN401
    raise _RefusedError(f"{problem}{_place(mark)}")


def _place(mark: Any) -> str:  # noqa: ANN401
    return f", in line {mark.line + 1}, column {mark.column + 1}"
