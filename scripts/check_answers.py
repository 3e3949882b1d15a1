"""Checks the answer checker on files of pairs: a gold answer, a model's reply, and what the verdict must be.

    python scripts/check_answers.py FILE...

A file has one JSON object a line with the fields `gold`, `reply` (or `pred`, `prediction`) and `right` (or
`expected`), which is true or false, 1 or 0, or a verdict: right, wrong, cannot_tell. `dataset` says how the gold is
written and by which convention it is compared: gsm8k, math, own (as a text_jsonl file, strictly, with `answer_type`
and `reading` if wanted). Without it, or with another name, the pair is read as those of other projects are
(foreign_pairs.py): a laxer convention that no run uses, with decimals compared to `precision` digits
where a row names them.

Prints for each file how many pairs agree, each pair that does not, and the slowest pair; all pairs are graded twice, so
that a second look at the same pair is timed too. The start of the worker process is told apart. Where `right` is true
or false, a verdict agrees if it is `right` exactly where it should be. Exit status: 0 if no pair was judged right that
is not and none took more than a second, else 1; 2 if a file cannot be read.
"""

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreign_pairs import grade_foreign

from aot.answers import find_answer, grade
from aot.answers.workers import ask_worker
from aot.errors import SourceError
from aot.files.jsonl import RowProblem
from text_cot.datasets.files import gradable
from text_cot.datasets.layouts import LAYOUTS, FileKind, Problem

DEADLINE_S = 1.0
_VERDICTS = ("right", "wrong", "cannot_tell")
_DATASETS: dict[str, FileKind] = {
    "gsm8k": "gsm8k", "math": "math", "numina": "math", "own": "text_jsonl", "text_jsonl": "text_jsonl",
}  # fmt: skip
_OTHER_NAMES = {"pred": "reply", "prediction": "reply", "expected": "right"}
_OWN = ("answer_type", "reading", "choices")


@dataclass(frozen=True)
class Judged:
    """A pair and what the checker said of it."""

    place: str
    row: dict[str, Any]
    verdict: str
    """right, wrong or cannot_tell; `refused` where the gold cannot be read."""
    reason: str
    took_s: float

    @property
    def agrees(self) -> bool:
        """Whether the verdict is the one that the row wants."""
        wanted = self.row["right"]
        return self.verdict == wanted if wanted in _VERDICTS else (self.verdict == "right") == bool(wanted)

    @property
    def false_right(self) -> bool:
        """Judged right, though the row says it is not."""
        return self.verdict == "right" and self.row["right"] not in ("right", True, 1)


def main() -> int:
    """Print the figures of each file; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    failed = False
    start_s = time.perf_counter()
    ask_worker("expressions", {"answers": ["x"], "golds": ["x"], "ordered": True})
    print(f"worker started in {time.perf_counter() - start_s:.1f} s")
    for path in parser.parse_args().files:
        try:
            rows = read_pairs(path)
        except (OSError, ValueError) as error:
            print(f"check_answers: {path}: {error}", file=sys.stderr)
            return 2
        judged = [[judge(f"{path.name}:{number}", row) for number, row in rows] for _ in range(2)]
        failed |= tell(path, *judged)
    return int(failed)


def read_pairs(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The pairs of a file with their line numbers.

    Raises:
        ValueError: a line is no object with gold, reply and right.
    """
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        row = json.loads(line)
        if isinstance(row, dict):
            row |= {name: row[other] for other, name in _OTHER_NAMES.items() if other in row and name not in row}
        known = isinstance(row, dict) and isinstance(row.get("gold"), str) and isinstance(row.get("reply"), str)
        digits = row.get("precision") if isinstance(row, dict) else None
        if not (digits is None or (isinstance(digits, int) and 0 <= digits <= 30)):
            raise ValueError(f"line {number} has precision {digits!r}; a whole number of digits, 0 to 30, is fine")
        if not known or not (row.get("right") in _VERDICTS or row.get("right") in (True, False)):
            raise ValueError(f"line {number} needs the texts gold and reply, and right: true, false or a verdict")
        rows.append((number, row))
    return rows


def judge(place: str, row: dict[str, Any]) -> Judged:
    """The verdict on one pair by the convention of its data set."""
    start_s = time.perf_counter()
    try:
        kind = _DATASETS.get(str(row.get("dataset", "")))
        if kind is None:
            found = grade_foreign(row["gold"], row["reply"], digits=row.get("precision"))
        else:
            question = gradable(problem_of(row, kind), id=place, dataset=kind, split="test", group=place)
            found = grade(find_answer(row["reply"]).answer, question)
    except (RowProblem, SourceError) as error:
        return Judged(place, row, "refused", str(error), time.perf_counter() - start_s)
    return Judged(place, row, found.verdict, found.reason, time.perf_counter() - start_s)


def problem_of(row: dict[str, Any], kind: FileKind) -> Problem:
    """The problem that a row of this data set would be.

    Raises:
        RowProblem: its gold answer is not one that the data set's reader takes.
    """
    gold = row["gold"]
    fields: dict[str, Any] = {
        "gsm8k": {"question": "?", "answer": gold if "####" in gold else f"#### {gold}"},
        "math": {"problem": "?", "solution": gold if "\\boxed" in gold else f"\\boxed{{{gold}}}"},
    }.get(kind, {"question": "?", "answer": gold, **{name: row[name] for name in _OWN if name in row}})
    return LAYOUTS[kind].read(fields)


def tell(path: Path, judged: list[Judged], again: list[Judged]) -> bool:
    """Print one file's figures; whether a false right or a late verdict is among them."""
    agreed = sum(one.agrees for one in judged)
    counts = Counter(one.verdict for one in judged)
    false_rights = [one for one in judged if one.false_right]
    slowest = [max(passed, key=lambda one: one.took_s, default=None) for passed in (judged, again)]
    print(f"{path}: {agreed} of {len(judged)} pairs agree; false rights {len(false_rights)}")
    print(f"  verdicts: {', '.join(f'{name} {counts[name]}' for name in sorted(counts))}")
    if slowest[0] and slowest[1]:
        told = " and again ".join(f"{one.took_s:.2f} s ({one.place})" for one in slowest if one)
        print(f"  slowest pair: {told}")
    for one in judged:
        if not one.agrees:
            gold, reply = one.row["gold"][-80:], one.row["reply"][-80:]
            print(
                f"  {one.place}: {one.verdict} ({one.reason[:80]}), should be {one.row['right']}: {gold!r} | {reply!r}"
            )
    late = [one.place for one in [*judged, *again] if one.took_s > DEADLINE_S]
    if late:
        print(f"  later than {DEADLINE_S} s: {', '.join(late)}")
    return bool(false_rights or late)


if __name__ == "__main__":
    sys.exit(main())
