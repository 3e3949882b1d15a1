"""Runs every filter over every trace, as a stream, and counts what was dropped and why.

Each trace gets every verdict, so that a threshold can be moved without generating again. Planted defects are known to
the funnel only, which compares them with what the filters dropped.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from aot.config import FilterConfig
from aot.errors import SourceError
from aot.filtering.answer import agreement, answer_correct, option_shuffle
from aot.filtering.coverage import coverage
from aot.filtering.duplicates import DuplicateIndex
from aot.filtering.evidence import evidence
from aot.filtering.flow import flow, steps
from aot.filtering.funnel import FunnelCounter
from aot.filtering.language import language, repetition
from aot.filtering.leakage import HeldOutIndex
from aot.filtering.structure import cut_off, length, status, structure
from aot.filtering.subject import Filter, Judged, Subject
from aot.records import Question, Trace, Verdict

__all__ = ["FILTERS", "FILTER_NAMES", "FunnelCounter", "Judged", "judge_alone", "run_filters"]

FILTERS: tuple[Filter, ...] = (
    status,
    answer_correct,
    option_shuffle,
    cut_off,
    structure,
    length,
    language,
    repetition,
    agreement,
    steps,
    flow,
    evidence,
    coverage,
)
"""Filters that need nothing but the trace, cheapest cause first; leakage and duplicates follow, with their indices.

`steps` and `flow` judge text chains only, `evidence` and `coverage` video rationales only, `option_shuffle` answers
that were tried again with their options in another order."""
FILTER_NAMES: tuple[str, ...] = (*(one.__name__ for one in FILTERS), "leakage", "duplicates")
"""In the order in which verdicts come: the first that drops a trace gives its reason in the funnel. Where there is a
judge, its verdict `judge` stands before `duplicates`."""

People = Callable[[Trace, tuple[Verdict, ...]], tuple[Verdict, ...]]
Judge = Callable[[Iterable[Judged]], Iterable[Verdict]]
"""Verdicts of a chat model, one for each trace and in their order; it sees what the other filters thought."""


def run_filters(
    traces: Iterable[Trace],
    *,
    questions: Mapping[str, Question],
    held_out: Iterable[Question],
    config: FilterConfig,
    judge: Judge | None = None,
    people: People = lambda trace, verdicts: verdicts,
) -> Iterator[Judged]:
    """Every trace with all its verdicts, in the order given; of duplicates the first that passes is kept.

    Traces are read one by one, or as far ahead as the `judge` likes.

    Raises:
        SourceError: a trace belongs to no question.
    """
    leaks = HeldOutIndex(config)
    leaks.add(held_out)
    seen = DuplicateIndex(config)
    waiting: deque[tuple[Subject, Judged]] = deque()

    def first_verdicts() -> Iterator[Judged]:
        for trace in traces:
            subject = Subject(trace, _question_of(trace, questions), config)
            judged = Judged(trace, (*judge_alone(subject), leaks.judge(subject)))
            waiting.append((subject, judged))
            yield judged

    stream = first_verdicts()
    for more in judge(stream) if judge else (None for _ in stream):
        subject, judged = waiting.popleft()
        verdicts = people(judged.trace, judged.verdicts if more is None else (*judged.verdicts, more))
        last = seen.judge(subject, remember=all(verdict.keep for verdict in verdicts))
        yield Judged(judged.trace, (*verdicts, last))


def judge_alone(subject: Subject) -> list[Verdict]:
    """Verdicts of the filters that need nothing but the trace."""
    return [one(subject) for one in FILTERS]


def _question_of(trace: Trace, questions: Mapping[str, Question]) -> Question:
    try:
        return questions[trace.question_id]
    except KeyError:
        raise SourceError(
            f"trace {trace.question_id!r} sample {trace.sample_index} belongs to no question of this run; "
            "run the prepare stage again, or delete the trace file that came from elsewhere"
        ) from None
