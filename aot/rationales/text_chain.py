"""A text rationale taken apart: its step lines, its answer lines, its equations and its orders.

Read with the text of the rationale alone. Nothing here knows the question or judges anything.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from aot.rationales.arithmetic import Equation, find_equations

ANSWER_LINE = re.compile(r"Answer:[ \t]*(.*)")
ORDER = re.compile(r"\b[^\W\d]\w*+(?: > [^\W\d]\w*+)+")
"""A ranking as chains write it, such as `Cid > Ann > Bob`."""
_NOTE = re.compile(r"<<[^<>\n]*>>")


@dataclass(frozen=True)
class TextChain:
    """What a text rationale consists of."""

    lines: tuple[str, ...]
    """All lines that are neither empty nor an answer line."""
    answers: tuple[str, ...]
    """What each answer line says."""
    equations: tuple[Equation, ...]
    """Those of `lines`; their line numbers count in `lines`."""
    orders: tuple[tuple[tuple[str, ...], ...], ...]
    """For each of `lines` the orders in it, such as (Cid, Ann, Bob) for `Cid > Ann > Bob`."""

    @cached_property
    def by_line(self) -> dict[int, list[Equation]]:
        """The equations of each line that has any."""
        return {line: list(group) for line, group in groupby(self.equations, key=lambda one: one.line)}

    @property
    def is_formal(self) -> bool:
        """Whether it holds something that can be checked, however few words it has."""
        return bool(self.equations) or any(self.orders)


def parse_chain(rationale: str) -> TextChain:
    r"""Take `rationale` apart; never fails.

    >>> chain = parse_chain("12 + 7 = 19.\nAnswer: 19")
    >>> chain.lines, chain.answers, len(chain.equations)
    (('12 + 7 = 19.',), ('19',), 1)
    """
    lines: list[str] = []
    answers: list[str] = []
    for line in rationale.split("\n"):
        mark = ANSWER_LINE.fullmatch(line.strip())
        if mark:
            answers.append(mark[1].strip())
        elif line.strip():
            lines.append(line)
    orders = tuple(tuple(tuple(order.split(" > ")) for order in ORDER.findall(line)) for line in lines)
    return TextChain(tuple(lines), tuple(answers), tuple(find_equations("\n".join(lines))), orders)


def without_notes(text: str) -> str:
    """`text` without calculator notes, which repeat the equation beside them.

    >>> without_notes("48/2 = <<48/2=24>>24 clips")
    '48/2 = 24 clips'
    """
    return _NOTE.sub("", text)
