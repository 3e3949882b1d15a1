"""Failed and wrong traces: the attempts themselves for whoever learns from them, and the reasons, counted, for people.

Most boundaries tell no reason of their own, only a sentence about one question. Sentences that differ only in
what they quote and in numbers count as one reason.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from aot.answers import verifies
from aot.files.run_folder import RunFolder, read_rows
from aot.files.traces import read_earlier, read_faults, read_solved
from aot.generate.solve import TRAIN
from aot.records import Question, Trace
from aot.run_records import FailedTraces

MAX_REASONS = 100
"""More than anybody reads; what comes after them counts together."""
OTHER = "other reasons"
_QUOTED = re.compile(r"""(?<!\w)(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`)(?!\w)""")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_REASON_CHARS = 80
_EXAMPLE_CHARS = 160


@dataclass(frozen=True)
class Attempts:
    """What a teacher tried at one question, told apart by what became of it."""

    question: Question
    kept: tuple[Trace, ...]
    """Those that the filters kept; as long as they have not run, those that came to the gold answer."""
    negatives: tuple[Trace, ...]
    """Those that came to no answer or to another one, in the order of their samples."""


def read_attempts(run: RunFolder) -> Iterator[Attempts]:
    """The attempts at each training question, those before its trace too, with one question's in memory at a time.

    A right trace that a filter dropped is neither kept nor negative, nor is one that a defect was planted in.

    Raises:
        SourceError: a part holds a whole line that is no trace.
    """
    planted = {(row.question_id, row.sample_index) for row in read_faults(run)}
    kept = {(t.question_id, t.sample_index) for t in read_rows(run.kept, Trace)} if run.kept.exists() else None
    for (question, traces), (_, earlier) in zip(read_solved(run), read_earlier(run), strict=True):
        if question.split != TRAIN:
            continue
        attempts = sorted((*traces, *earlier), key=lambda trace: trace.sample_index)
        sound = [trace for trace in attempts if (question.id, trace.sample_index) not in planted]
        right = [trace for trace in sound if verifies(trace, question)]
        negatives = [trace for trace in sound if trace not in right]
        if kept is not None:
            right = [trace for trace in attempts if (question.id, trace.sample_index) in kept]
        yield Attempts(question, tuple(right), tuple(negatives))


class FailureCounter:
    """Counts the failed among traces, one after the other."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], list[int]] = {}
        self._examples: dict[tuple[str, str], str] = {}
        self.training = self.training_failed = 0
        """Traces of the train split, and those of them that failed."""

    def add(self, trace: Trace, *, is_training: bool) -> None:
        """Count one trace."""
        failed = trace.status != "ok"
        self.training += is_training
        self.training_failed += is_training and failed
        if not failed:
            return
        key = reason_of(trace)
        if key not in self._counts and len(self._counts) >= MAX_REASONS:
            key = (OTHER, OTHER)
        counts = self._counts.setdefault(key, [0, 0])
        counts[0] += 1
        counts[1] += is_training
        message = trace.error.message if trace.error else trace.status
        self._examples.setdefault(key, clipped(f"{trace.question_id}: {message}", _EXAMPLE_CHARS))

    def groups(self) -> tuple[FailedTraces, ...]:
        """What was counted, the most frequent reason first."""
        return tuple(
            FailedTraces(boundary=key[0], reason=key[1], count=n, training=training, example=self._examples[key])
            for key, (n, training) in sorted(self._counts.items(), key=lambda item: (-item[1][0], item[0]))
        )


def reason_of(trace: Trace) -> tuple[str, str]:
    """Boundary and countable reason of a failed trace."""
    if trace.error is None:
        return trace.status, "no error was noted"
    return trace.error.boundary, trace.error.reason or countable(trace.error.message)


def countable(message: str) -> str:
    """The beginning of a message without what it says about one question only.

    >>> countable("no known object in 'a pan?'; ask about one of: carrot, cheese")
    "no known object in '…'"
    """
    sentence = _QUOTED.sub("'…'", message).partition(";")[0].partition("\n")[0]
    return clipped(_NUMBER.sub("…", sentence), _REASON_CHARS) or "no message"


def clipped(text: str, limit: int) -> str:
    """`text` on one line without control characters, and no longer than `limit`: it goes to a terminal.

    >>> clipped("no known object", 8)
    'no known…'
    """
    line = "".join(c if c.isprintable() else " " for c in text).strip()
    return line if len(line) <= limit else f"{line[:limit]}…"


def failure_lines(groups: Iterable[FailedTraces], *, most: int) -> list[str]:
    """One indented line for each of the first `most` reasons, and how many more there are."""
    listed: Sequence[FailedTraces] = tuple(groups)
    more = [f"  and {len(listed) - most} more"] if len(listed) > most else []
    return [f"  {one.boundary}: {one.reason}: {one.count}, such as {one.example}" for one in listed[:most]] + more
