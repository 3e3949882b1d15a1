"""Tells a server that is down from questions that are refused, so that an outage does not become thousands of rows.

A failure that outlasted all retries says little by itself. So many of them in a row, with no reply of any kind in
between, mean that nobody answers: then work stops, those rows stay unwritten, and the same command asks for them again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from aot.errors import GuardStop
from aot.records import Trace

Row = TypeVar("Row")
OUTAGE_REASONS = ("rate_limited", "server_error", "timeout", "connection")
"""Why a request that may be good got no reply."""
AT_LEAST = 8
"""So many unanswered calls in a row are needed at any rate."""


def got_no_reply(trace: Trace) -> bool:
    """Whether a trace failed because nobody answered, so that another time may bring more."""
    return trace.error is not None and trace.error.reason in OUTAGE_REASONS


def until_outage(rows: Iterable[Row], *, trace_of: Callable[[Row], Trace], limit: int) -> Iterator[Row]:
    """The rows as they come; those without any reply only once somebody was answered after them, or all is over.

    Raises:
        GuardStop: `limit` rows in a row got no reply.
    """
    held: list[Row] = []
    for row in rows:
        if got_no_reply(trace_of(row)):
            held.append(row)
            if len(held) >= limit:
                raise GuardStop(_told([trace_of(one) for one in held]))
            continue
        yield from held
        held = []
        yield row
    yield from held


def _told(held: list[Trace]) -> str:
    reasons = Counter(trace.error.reason for trace in held if trace.error is not None)
    told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    last = held[-1].error
    return (
        f"the last {len(held)} requests in a row got no reply ({told}); the last one: {last.message if last else ''}; "
        "see to the server, then run the same command again: finished rows are kept, these are asked again"
    )
