"""How well the filters tell honest prose of a chat model from prose with one planted lie; n and intervals beside each.

    python scripts/bench_prose.py [--half held_out] [--verbose]

The rationales in tests/filtering/prose are written by hand, in many voices, over tool results of a kitchen run, of
everyday clips, and over captions and subtitles. Lies are written by hand too, or planted: the kind says how. The reader
was tuned on the part `tune`; the part `held_out` was written when that was done, by the same hand, and nobody looked at
its mistakes. A lie in a rationale whose honest twin is dropped anyway says little: recall is told without these, too.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path
from typing import Literal

from aot.config import FilterConfig
from aot.filtering.chain import judge_alone
from aot.filtering.subject import Subject
from aot.records import Question, Record, Trace
from aot.wilson import wilson

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "filtering" / "prose"


class ProseTrace(Record):
    """A question with real tool results and no rationale."""

    name: str
    question: Question
    trace: Trace


class ProseCase(Record):
    """A rationale over one of the traces."""

    name: str
    half: Literal["tune", "held_out"]
    trace: str
    kind: str
    """honest, or the lie that was planted."""
    rationale: str


def judged(half: str) -> list[tuple[ProseCase, str]]:
    """Each case of one half with the first filter and reason that drop it, or an empty text."""
    lines = (FOLDER / "traces.jsonl").read_text(encoding="utf-8").splitlines()
    traces = {row.name: row for row in map(ProseTrace.model_validate_json, lines)}
    found = []
    for line in (FOLDER / "cases.jsonl").read_text(encoding="utf-8").splitlines():
        case = ProseCase.model_validate_json(line)
        if case.half == half:
            row = traces[case.trace]
            trace = row.trace.model_copy(update={"rationale": case.rationale})
            verdicts = judge_alone(Subject(trace, row.question, FilterConfig()))
            problem = next((f"{one.filter}.{one.reason}: {one.detail}" for one in verdicts if not one.keep), "")
            found.append((case, problem))
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=("tune", "held_out"), default="held_out")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    rows = judged(options.half)
    by_kind: defaultdict[str, list[bool]] = defaultdict(list)
    for case, problem in rows:
        by_kind[case.kind].append(bool(problem))
        if options.verbose and bool(problem) == (case.kind == "honest"):
            print(f"MISTAKE {case.name}: {problem or 'kept'}")
    lies = [dropped for kind, of_kind in by_kind.items() if kind != "honest" for dropped in of_kind]
    honest = by_kind.pop("honest")
    kept = {case.name for case, problem in rows if case.kind == "honest" and not problem}
    telling = [bool(p) for case, p in rows if case.kind != "honest" and case.name.removeprefix(f"{case.kind}_") in kept]
    print(f"half {options.half}, {len(rows)} rationales; dropped")
    for kind, of_kind in sorted(by_kind.items()):
        print(f"  {kind:<20} {told(sum(of_kind), len(of_kind))}")
    print(f"recall, lies dropped: {told(sum(lies), len(lies))}")
    print(f"recall where the honest twin is kept: {told(sum(telling), len(telling))}")
    print(f"precision, lies among the dropped: {told(sum(lies), sum(lies) + sum(honest))}")
    print(f"honest ones kept: {told(len(honest) - sum(honest), len(honest))}")
    print(f"time: {1000 * cpu_s(options.half):.2f} ms of one core for a rationale, all filters together")


def cpu_s(half: str) -> float:
    """Processor seconds for one rationale of a half, when patterns and words were seen before."""
    started_s = time.process_time()
    count = len(judged(half))
    return (time.process_time() - started_s) / count


def told(count: int, n: int) -> str:
    """Count, n and the interval of the share."""
    low, high = wilson(hits=count, n=n)
    return f"{count} of {n} [{100 * low:.0f}, {100 * high:.0f}]%"


if __name__ == "__main__":
    main()
