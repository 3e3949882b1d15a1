"""Reads suites in the formats of their authors: BBQ (JSON lines), CrowS-Pairs (CSV) and StereoSet (JSON).

The name of a file tells its format: .jsonl, .csv or .json. A row that cannot be used becomes a refused row with a
countable reason; a file in which no row can be used is an error that says what came and what would be fine. Knows no
student.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from aot.display import one_line
from aot.errors import SourceError
from aot.files.jsonl import RefusedRow, RowProblem, parse_json, read_json_lines, refused_words
from aot.files.tables import read_table

Condition = Literal["ambig", "disambig"]
NUM_OPTIONS = 3
UNKNOWN = "unknown"
"""As BBQ marks the option that says it cannot be told."""
MAX_FILE_BYTES = 256 << 20
FORMS = {
    ".jsonl": "BBQ, one object a line with context, question, ans0 to ans2, label, answer_info and more",
    ".csv": "CrowS-Pairs, a table with the columns sent_more, sent_less, stereo_antistereo and bias_type",
    ".json": "StereoSet, one object with data.intrasentence and data.intersentence",
}
"""Ending of a file, and what is expected in it."""


@dataclass(frozen=True)
class ChoiceItem:
    """One question of BBQ."""

    id: str
    category: str
    group: str
    """Of the template that it was made from: items of one template are no independent draws."""
    condition: Condition
    is_negative: bool
    """Whether the question asks for the person of whom something bad holds."""
    text: str
    """Context and question."""
    choices: tuple[str, ...]
    answer: int
    """Place of the right option, as the next two are places."""
    target: int
    """Of the person whom the stereotype is about."""
    unknown: int

    def is_biased(self, said: int) -> bool:
        """Whether an answer that is no UNKNOWN follows the stereotype."""
        return (said == self.target) == self.is_negative


@dataclass(frozen=True)
class SentencePair:
    """One pair of CrowS-Pairs."""

    id: str
    category: str
    more: str
    """The more stereotypical sentence."""
    less: str

    @property
    def group(self) -> str:
        """Each pair stands alone."""
        return self.id


@dataclass(frozen=True)
class SentenceTriple:
    """One item of StereoSet."""

    id: str
    category: str
    group: str
    """The target term, over which scores are averaged."""
    context: str
    """What comes before the sentences; empty of an intrasentence item, whose sentences are whole."""
    stereotype: str
    anti_stereotype: str
    unrelated: str


Item = ChoiceItem | SentencePair | SentenceTriple
Form = Literal["bbq", "crows_pairs", "stereoset"]


@dataclass(frozen=True)
class Suite:
    """The items of one file."""

    name: str
    """Of the file."""
    form: Form
    items: tuple[Item, ...]
    refused: tuple[RefusedRow, ...]


def read_suite(path: Path) -> Suite:
    """The suite in a file.

    Raises:
        SourceError: there is no such file, it is of no known format, or no row of it can be used.
    """
    ending = path.suffix.lower()
    if ending not in _READERS:
        forms = "; ".join(f"{name}: {words}" for name, words in FORMS.items())
        raise SourceError(f"{path} ends with {ending or 'nothing'!r}, which tells no format of a suite; {forms}")
    if not path.is_file():
        raise SourceError(f"there is no file {path}; check its path")
    form, read = _READERS[ending]
    items: dict[str, Item] = {}
    refused: list[RefusedRow] = []
    for row in read(path):
        if isinstance(row, RefusedRow):
            refused.append(row)
        elif row.id in items:
            refused.append(RefusedRow(row.id, "duplicate_id", "an item of this id stands above"))
        else:
            items[row.id] = row
    if not items:
        came = refused_words(refused, most=1) or "it holds no rows"
        raise SourceError(f"no row of {path} can be used: {came}; a file {ending} should be {FORMS[ending]}")
    return Suite(path.name, form, tuple(items.values()), tuple(refused))


def _bbq(path: Path) -> Iterator[ChoiceItem | RefusedRow]:
    for line in read_json_lines(path):
        if isinstance(line, RefusedRow):
            yield line
            continue
        try:
            yield _question(line.fields)
        except RowProblem as problem:
            yield problem.row(line.place)


def _question(fields: Mapping[str, Any]) -> ChoiceItem:
    """One row of BBQ.

    Raises:
        RowProblem: it lacks something, or its target cannot be told.
    """
    category, number = _text(fields, "category"), _whole(fields, "example_id")
    condition, polarity = _text(fields, "context_condition"), _text(fields, "question_polarity")
    if condition not in ("ambig", "disambig"):
        raise RowProblem("bad_value", f"context_condition is {condition[:40]!r}; ambig and disambig are fine")
    if polarity not in ("neg", "nonneg"):
        raise RowProblem("bad_value", f"question_polarity is {polarity[:40]!r}; neg and nonneg are fine")
    choices = tuple(_text(fields, f"ans{i}") for i in range(NUM_OPTIONS))
    if len(set(choices)) < NUM_OPTIONS:
        raise RowProblem("bad_choices", f"ans0 to ans2 must be three different texts, got {choices}")
    label = _whole(fields, "label")
    if not 0 <= label < NUM_OPTIONS:
        raise RowProblem("bad_value", f"label is {label}; 0, 1 and 2 are fine")
    groups = _groups(fields)
    unknown = [i for i, names in enumerate(groups) if UNKNOWN in names]
    if len(unknown) != 1:
        raise RowProblem("no_unknown", f"answer_info must mark one option as unknown, got {len(unknown)}")
    template = fields.get("question_index", number)
    return ChoiceItem(
        id=f"{category}/{number}", category=category, group=f"{category}/{template}",
        condition=cast(Condition, condition), is_negative=polarity == "neg",
        text=f"{_text(fields, 'context')} {_text(fields, 'question')}", choices=choices, answer=label,
        target=_target(fields, groups, unknown[0]), unknown=unknown[0],
    )  # fmt: skip


def _groups(fields: Mapping[str, Any]) -> list[set[str]]:
    """The groups of each option, in small letters."""
    about = fields.get("answer_info")
    if not isinstance(about, dict):
        raise RowProblem("missing_field", "there is no object answer_info")
    groups = []
    for i in range(NUM_OPTIONS):
        names = about.get(f"ans{i}")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RowProblem("missing_field", f"answer_info has no list of texts ans{i}")
        groups.append({name.casefold() for name in names})
    return groups


def _target(fields: Mapping[str, Any], groups: list[set[str]], unknown: int) -> int:
    """Place of the person whom the stereotype is about.

    As additional_metadata.csv of the authors has it, where somebody merged its column target_loc into the rows; else
    the only option with a stereotyped group.
    """
    place = fields.get("target_loc")
    if isinstance(place, int) and not isinstance(place, bool) and 0 <= place < NUM_OPTIONS and place != unknown:
        return place
    about = fields.get("additional_metadata")
    marked = about.get("stereotyped_groups") if isinstance(about, dict) else None
    if not isinstance(marked, list):
        raise RowProblem("missing_field", "there is no list additional_metadata.stereotyped_groups, and no target_loc")
    stereotyped = {str(name).casefold() for name in marked}
    places = [i for i, names in enumerate(groups) if i != unknown and names & stereotyped]
    if len(places) != 1:
        raise RowProblem(
            "no_target",
            f"{len(places)} options have a group of {sorted(stereotyped)}; merge target_loc of the authors' "
            "additional_metadata.csv into the rows",
        )
    return places[0]


def _crows_pairs(path: Path) -> Iterator[SentencePair | RefusedRow]:
    names, lines = read_table(path)
    wanted = ("sent_more", "sent_less", "stereo_antistereo", "bias_type")
    if lacking := [name for name in wanted if name not in names]:
        shown = one_line(", ".join(names))[:200] or "none"
        raise SourceError(
            f"{path} has no column {', '.join(lacking)}; its columns are {shown}; should be {FORMS['.csv']}"
        )
    for line in lines:
        if isinstance(line, RefusedRow):
            yield line
            continue
        place, cells = line
        fields = dict(zip(names, cells, strict=False))
        try:
            if len(cells) != len(names):
                raise RowProblem("broken_csv", f"it has {len(cells)} cells, the header {len(names)}")
            direction = _text(fields, "stereo_antistereo")
            if direction not in ("stereo", "antistereo"):
                raise RowProblem(
                    "bad_value", f"stereo_antistereo is {direction[:40]!r}; stereo and antistereo are fine"
                )
            # In either direction sent_more is the more stereotypical one, as the authors' README has it.
            more, less = _text(fields, "sent_more"), _text(fields, "sent_less")
            if more == less:
                raise RowProblem("same_sentences", "sent_more and sent_less are the same")
            yield SentencePair(id=place, category=_text(fields, "bias_type"), more=more, less=less)
        except RowProblem as problem:
            yield problem.row(place)


def _stereoset(path: Path) -> Iterator[SentenceTriple | RefusedRow]:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SourceError(f"{path} has more than {MAX_FILE_BYTES >> 20} MB; the official file has 13")
        value = parse_json(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}; check its path") from None
    except ValueError as error:
        raise SourceError(f"{path} is no JSON ({error}); it should be {FORMS['.json']}") from None
    data = value.get("data") if isinstance(value, dict) else None
    parts = {name: data.get(name, []) for name in ("intrasentence", "intersentence")} if isinstance(data, dict) else {}
    if not parts or not all(isinstance(rows, list) for rows in parts.values()):
        shown = ", ".join(map(str, value))[:100] if isinstance(value, dict) else type(value).__name__
        raise SourceError(f"{path} holds {one_line(shown)!r} at its top; it should be {FORMS['.json']}")
    for part, rows in parts.items():
        for number, row in enumerate(rows, start=1):
            try:
                yield _triple(row, part)
            except RowProblem as problem:
                yield problem.row(f"{path.name}:{part}:{number}")


def _triple(row: object, part: str) -> SentenceTriple:
    """One item of StereoSet.

    Raises:
        RowProblem: it lacks something.
    """
    if not isinstance(row, dict):
        raise RowProblem("bad_value", f"an item must be an object, got {type(row).__name__}")
    sentences = row.get("sentences")
    if not isinstance(sentences, list) or not all(isinstance(one, dict) for one in sentences):
        raise RowProblem("missing_field", "there is no list of objects sentences")
    by_label = {_text(one, "gold_label"): _text(one, "sentence") for one in sentences}
    wanted = ("stereotype", "anti-stereotype", "unrelated")
    if len(sentences) != len(wanted) or set(by_label) != set(wanted):
        came = ", ".join(by_label)[:100]
        raise RowProblem(
            "bad_labels", f"sentences must have the gold labels {', '.join(wanted)}, once each; got {came}"
        )
    return SentenceTriple(
        id=_text(row, "id"), category=_text(row, "bias_type"), group=_text(row, "target"),
        context=_text(row, "context") if part == "intersentence" else "",
        stereotype=by_label["stereotype"], anti_stereotype=by_label["anti-stereotype"], unrelated=by_label["unrelated"],
    )  # fmt: skip


def _text(fields: Mapping[str, Any], name: str) -> str:
    """A text that is not empty, and that a file of ours can hold."""
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        came = "nothing" if value is None or value == "" else type(value).__name__
        raise RowProblem("missing_field", f"{name} must be a text, got {came}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RowProblem("bad_text", f"{name} holds bytes that are no UTF-8; save the file as UTF-8") from None
    return value.strip()


def _whole(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RowProblem("missing_field", f"{name} must be a whole number, got {type(value).__name__}")
    return value


_READERS: dict[str, tuple[Form, Callable[[Path], Iterable[Item | RefusedRow]]]] = {
    ".jsonl": ("bbq", _bbq), ".csv": ("crows_pairs", _crows_pairs), ".json": ("stereoset", _stereoset),
}  # fmt: skip
