"""Tells questions that nobody answered from those that are refused, so that an outage does not become rows of failures.

A question without a reply for a reason that passes stays unwritten, and the same command asks it again; the stage stops
for it at its end, or at once when so many in a row got none that nobody seems to answer at all. Who would rather go on
without such questions sets `teacher.unanswered: refuse`; then those are rows after which somebody else was answered.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

from aot.chat.server.retries import MENDING
from aot.display import counted
from aot.errors import PASSING, UNPROVEN, GuardStop
from aot.records import Trace

Row = TypeVar("Row")
Unanswered = Literal["ask_again", "refuse"]
AT_LEAST = 8
"""So many unanswered calls in a row are needed at any rate."""


def got_no_reply(trace: Trace) -> bool:
    """Whether a trace failed because nobody answered, so that another time may bring more."""
    return trace.error is not None and trace.error.reason in PASSING


def is_unproven(trace: Trace) -> bool:
    """Whether a trace failed for what may be a setting, unless others were answered under the same settings."""
    return trace.error is not None and trace.error.boundary == "chat" and trace.error.reason in UNPROVEN


def until_outage(
    rows: Iterable[Row],
    *,
    trace_of: Callable[[Row], Trace],
    limit: int,
    unanswered: Unanswered,
    answered_before: Callable[[], bool] = lambda: False,
) -> Iterator[Row]:
    """The rows as they come, but for those without any reply.

    `answered_before` says whether an earlier attempt with the same settings got a reply to any question; until there is
    one, refused requests and cut-off replies are no rows either, for the setting may be what is wrong.

    Raises:
        GuardStop: `limit` rows in a row got no reply, or all is over and some got none that are to be asked again.
    """
    held: list[Row] = []
    """Rows without a reply since the last one that had any."""
    doubted: list[Row] = []
    """Rows that failed for what may be a setting; some only as long as nobody was answered."""
    left: list[Trace] = []
    """What is to be asked again."""
    anybody, answered = False, unanswered == "refuse"
    for row in rows:
        trace = trace_of(row)
        if got_no_reply(trace):
            held.append(row)
            if len(held) >= limit:
                last = [trace_of(one) for one in held]
                raise GuardStop(f"the last {len(held)} requests in a row got no reply {_unanswered_words(last)}")
            continue
        if not answered and is_unproven(trace) and not (answered := answered_before()):
            doubted.append(row)
            if len(doubted) >= limit:
                break
            continue
        anybody = answered = True
        yield from doubted
        doubted = []
        if unanswered == "refuse":
            yield from held
        else:
            left += map(trace_of, held)
        held = []
        yield row
    if doubted:
        raise GuardStop(
            f"none of {len(doubted)} questions was answered {_counted([trace_of(one) for one in doubted])}; {MENDING}; "
            "or let them count as refused by teacher.unanswered=refuse"
        )
    if unanswered == "refuse" and anybody:
        yield from held
    else:
        left += map(trace_of, held)
    if left:
        refuse = "" if unanswered == "refuse" else "; or go on without them by teacher.unanswered=refuse"
        raise GuardStop(f"{counted(len(left), 'question')} got no reply {_unanswered_words(left)}{refuse}")


def _unanswered_words(traces: list[Trace]) -> str:
    if any(trace.error is not None and trace.error.reason == "setting" for trace in traces):
        return f"{_counted(traces)}; {MENDING}"
    return (
        f"{_counted(traces)}; see to the server or the account, then run the same command again: finished rows are "
        "kept, these are asked again"
    )


def _counted(traces: list[Trace]) -> str:
    reasons = Counter(trace.error.reason for trace in traces if trace.error is not None)
    counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    last = traces[-1].error
    return f"({counts}); the last one: {last.message if last else ''}"
