"""The report as a list of sections: each says to which data it applies, and none asks where the data come from.

A section is made of blocks, which one template shows; what a block holds is text until that template has escaped it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aot.reporting.charts import Drawing
from aot.reporting.load import RunData
from aot.reporting.pivot import Pivot


@dataclass(frozen=True)
class Block:
    """One piece of a section; `kind` names the macro that shows it."""

    kind: Literal["words", "note", "absent", "heading", "sentences", "tables", "charts", "figures", "pre", "template"]
    text: str = ""
    items: Sequence[Any] = ()
    """Sentences as (text, small print), drawings, or (name, value)."""
    tables: Sequence[Pivot] = ()
    """The first one stands open."""
    values: dict[str, Any] = field(default_factory=dict)
    """For a block that has a template of its own, named by `text`."""


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading."""

    name: str
    """Its anchor."""
    title: str
    """In the list of contents."""
    heading: str
    content: Callable[[RunData], list[Block]]
    text: str = ""
    """Its first paragraph; where that depends on the data, it stands in the content."""
    applies: Callable[[RunData], bool] = lambda data: True
    needs: str = ""
    """What the data must hold, for the sentence that names the sections left out; empty: it names this one not."""

    def blocks(self, data: RunData) -> list[Block]:
        """All that it shows."""
        return [words(self.text), *self.content(data)] if self.text else self.content(data)


def words(text: str) -> Block:
    """A paragraph."""
    return Block("words", text)


def note(text: str) -> list[Block]:
    """Small print; nothing if there is no text."""
    return [Block("note", text)] if text else []


def charts(drawings: Sequence[Drawing]) -> list[Block]:
    """Charts beside each other."""
    return [Block("charts", items=drawings)] if drawings else []


def tables(pivots: Sequence[Pivot], *, more: str = "the other splits") -> list[Block]:
    """The first table, and the others folded away under `more`; nothing if there is none."""
    return [Block("tables", more, tables=pivots)] if pivots else []


def open_tables(pivots: Iterable[Pivot]) -> list[Block]:
    """Every table, one below the other."""
    return [block for one in pivots for block in tables([one])]


def sentences(rows: Sequence[tuple[str, str]], *, fold: str = "") -> list[Block]:
    """Findings in words, each with the tests behind it; folded away under `fold`, if that is given."""
    return [Block("sentences", fold, items=rows)] if rows else []


def absent(data: RunData, what: str, stage: str, why: str = "the run folder holds none any more") -> Block:
    """That there is nothing to show, and which stage makes it, or why a finished one made nothing."""
    return Block("absent", f"Nothing to show: {why}." if stage in data.finished else f"Nothing to show: {what}.",
                 values={} if stage in data.finished else {"stage": stage})  # fmt: skip


def no_metrics(data: RunData) -> Block:
    """That no student has been measured."""
    why = f"metrics.json holds no accuracy on {', '.join(data.splits)}"
    return absent(data, "no metrics yet", "evaluate", why)
