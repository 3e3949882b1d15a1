"""Tells questions that nobody answered from those that are refused, so that an outage does not become rows of failures.

A question without a reply for a reason that passes stays unwritten, and the same command asks it again; the stage stops
for it at its end, or at once when so many in a row got none that nobody seems to answer at all. Who would rather go on
without such questions sets `teacher.unanswered: refuse`; then those are rows after which somebody else was answered.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

from aot.display import counted
from aot.errors import PASSING, GuardStop
from aot.records import Trace

Row = TypeVar("Row")
Unanswered = Literal["ask_again", "refuse"]
AT_LEAST = 8
"""So many unanswered calls in a row are needed at any rate."""


def got_no_reply(trace: Trace) -> bool:
    """Whether a trace failed because nobody answered, so that another time may bring more."""
    return trace.error is not None and trace.error.reason in PASSING


def until_outage(
    rows: Iterable[Row], *, trace_of: Callable[[Row], Trace], limit: int, unanswered: Unanswered
) -> Iterator[Row]:
    """The rows as they come, but for those without any reply.

    Raises:
        GuardStop: `limit` rows in a row got no reply, or all is over and some got none that are to be asked again.
    """
    held: list[Row] = []
    """Rows without a reply since the last one that had any."""
    left: list[Trace] = []
    """What is to be asked again."""
    anybody = False
    for row in rows:
        if got_no_reply(trace_of(row)):
            held.append(row)
            if len(held) >= limit:
                last = [trace_of(one) for one in held]
                raise GuardStop(f"the last {len(held)} requests in a row got no reply {_told(last)}")
            continue
        anybody = True
        if unanswered == "refuse":
            yield from held
        else:
            left += map(trace_of, held)
        held = []
        yield row
    if unanswered == "refuse" and anybody:
        yield from held
    else:
        left += map(trace_of, held)
    if left:
        refuse = "" if unanswered == "refuse" else "; or go on without them by teacher.unanswered=refuse"
        raise GuardStop(f"{counted(len(left), 'question')} got no reply {_told(left)}{refuse}")


def _told(traces: list[Trace]) -> str:
    reasons = Counter(trace.error.reason for trace in traces if trace.error is not None)
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    last = traces[-1].error
    return (
        f"({told}); the last one: {last.message if last else ''}; see to the server or the account, then run the same "
        "command again: finished rows are kept, these are asked again"
    )
