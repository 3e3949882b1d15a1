"""`aot review RUN`: the page on which a person gives verdicts on traces, requests and served answers; and their sum.

Only training traces are shown, since no other one is filtered or learned from.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aot.display import counted
from aot.errors import RunError, SourceError
from aot.files.run_folder import RunFolder, read_rows
from aot.files.traces import read_traces
from aot.pipeline.stages import pictures
from aot.records import Question, Trace, Verdict
from aot.review.agreement import summary_of
from aot.review.rows import ReviewBook, read_pending, read_reviews, trace_digests
from aot.review.standing import standings_of
from aot.review_records import ReviewSummary
from aot.serving.review.items import Item, Order, in_order, of_pending, of_trace, served_items

Which = Literal["kept", "dropped", "both", "none"]


@dataclass(frozen=True)
class Wanted:
    """What is to be reviewed, and in which order."""

    traces: Which = "both"
    served: tuple[Path, ...] = ()
    """Logs of the server, with texts."""
    order: Order = "sure"
    seed: int = 0
    most: int = 200
    """Traces and served answers; requests that wait are always shown."""


@dataclass(frozen=True)
class Chosen:
    """What a reviewer gets to see, and what could not be shown."""

    items: list[Item]
    left_out: Counter[str]
    more: int
    """Items beyond the most that were wanted."""


def choose(root: Path, wanted: Wanted) -> Chosen:
    """The items to review, in their order.

    Raises:
        RunError: there is no such folder.
        SourceError: a file cannot be read, or there is nothing to review.
    """
    if not root.is_dir():
        raise RunError(f"there is no run folder {root}; check its path")
    run, left_out = RunFolder(root), Counter[str]()
    waiting = list(_waiting(run))
    others: list[Item] = []
    if wanted.traces != "none" and run.traces.exists():
        others += _trace_items(run, wanted.traces)
    for log in wanted.served:
        others += served_items(log, left_out)
    ranked = in_order(others, order=wanted.order, seed=wanted.seed)
    items = [*in_order(waiting, order=wanted.order, seed=wanted.seed), *ranked[: wanted.most]]
    if not items:
        why = f" ({', '.join(f'{reason} {count}' for reason, count in left_out.items())})" if left_out else ""
        raise SourceError(
            f"nothing to review in {root}{why}; generate traces first, or name what was served with "
            "--served LOG (recorded with --record LOG --record-text)"
        )
    return Chosen(items, left_out, max(0, len(ranked) - wanted.most))


def _waiting(run: RunFolder) -> Iterator[Item]:
    """Requests that nobody has decided, or about whose right answer reviewers disagree."""
    decided = standings_of([row for row in read_reviews(run) if row.subject == "served"]).by_item
    for row in read_pending(run):
        if row.id not in decided:
            yield of_pending(row, run)


def _trace_items(run: RunFolder, which: Which) -> Iterator[Item]:
    questions = {one.id: one for one in read_rows(run.questions, Question)}
    verdicts: dict[tuple[str, int], list[Verdict]] = {}
    if run.verdicts.exists():
        for row in read_rows(run.verdicts, Verdict):
            verdicts.setdefault((row.question_id, row.sample_index), []).append(row)
    read_frames = pictures(run)
    for trace in _reviewed(read_traces(run), questions):
        mine = verdicts.get((trace.question_id, trace.sample_index), [])
        state = "kept" if mine and all(row.keep for row in mine) else "dropped"
        if which in ("both", state) or not mine:
            yield of_trace(questions[trace.question_id], trace, mine, read_frames)


def _reviewed(traces: Iterable[Trace], questions: dict[str, Question]) -> Iterator[Trace]:
    """Training traces that came to an end: a failed attempt has nothing to look at."""
    for trace in traces:
        if trace.status != "failed" and questions[trace.question_id].split == "train":
            yield trace


def summarise(root: Path) -> ReviewSummary:
    """What people said of a run and of its student, with their agreement.

    Raises:
        AotError: there is no such folder, or a row is none.
    """
    if not root.is_dir():
        raise RunError(f"there is no run folder {root}; check its path")
    run = RunFolder(root)
    rows = read_reviews(run)
    return summary_of(rows, current=trace_digests(run, rows))


def review_run(
    root: Path, wanted: Wanted, *, reviewer: str, port: int, say: Callable[[Iterable[str]], None]
) -> list[str]:
    """Serve the page until a signal; what was done meanwhile, in lines.

    Raises:
        AotError: there is nothing to review, the port is taken, or a package is missing.
    """
    import uvicorn

    from aot.serving.review.app import Reviewing, review_app
    from aot.serving.server.listening import ending_quietly, open_port

    chosen = choose(root, wanted)
    book = ReviewBook(RunFolder(root))
    before = len(book.rows)
    with open_port("127.0.0.1", port, key=None) as listener:
        number = listener.getsockname()[1]
        hosts = [f"127.0.0.1:{number}", f"localhost:{number}"]
        reviewing = Reviewing(root.resolve().name, chosen.items, book, reviewer=reviewer)
        say(chosen_lines(chosen))
        say([f"open http://{hosts[0]}/?token={reviewing.token} in a browser of this machine; Ctrl-C ends the review"])
        config = uvicorn.Config(
            review_app(reviewing, hosts=hosts), ws="none", lifespan="off", log_config=None, access_log=False,
            server_header=False, timeout_graceful_shutdown=2,
        )  # fmt: skip
        try:
            ending_quietly(config).run(sockets=[listener])
        finally:
            book.close()
    return [f"{counted(len(book.rows) - before, 'verdict')} noted in {RunFolder(root).reviews}"]


def chosen_lines(chosen: Chosen) -> list[str]:
    """What is to be reviewed, and what is not."""
    waiting = sum(one.is_waiting for one in chosen.items)
    lines = [f"{counted(len(chosen.items), 'item')} to review"]
    if waiting:
        lines[0] += f", {waiting} of them requests that wait for an answer"
    if chosen.more:
        lines.append(f"{chosen.more:,} more are there; --limit shows more at once")
    lines += [f"left out, {reason}: {count}" for reason, count in chosen.left_out.items()]
    return lines
