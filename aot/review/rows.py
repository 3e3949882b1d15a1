"""The verdicts of people in a run folder: appended by each process to a file of its own, read together.

Nothing is ever changed or taken away: whoever thinks better of it adds another row. This module knows no trace.
"""

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from aot.display import storable
from aot.files.parts import Part, parts_of, writer_name
from aot.files.run_folder import RunFolder, read_rows
from aot.files.traces import read_traces
from aot.records import Question, Trace
from aot.review_records import AskedQuestion, PendingRow, ReviewRow


def read_reviews(run: RunFolder) -> list[ReviewRow]:
    """Every verdict in a run folder, the earliest first.

    Raises:
        SourceError: a whole line is no verdict.
    """
    rows = [row for path in parts_of(run.reviews) for row in read_rows(path, ReviewRow)]
    return sorted(rows, key=lambda row: row.time_s)  # stable: of one file they stay in their order


def read_pending(run: RunFolder) -> Iterator[PendingRow]:
    """Every request that a person was to look at, decided or not; one that two servers noted counts once.

    Raises:
        SourceError: a whole line is no such request.
    """
    seen = set[str]()
    for path in parts_of(run.pending):
        for row in read_rows(path, PendingRow):
            if row.id not in seen:
                seen.add(row.id)
                yield row


def reviews_seal(run: RunFolder) -> int:
    """A number for the verdicts on traces: another one as soon as there is another row; 0 without any."""
    rows = "".join(row.model_dump_json() for row in read_reviews(run) if row.subject == "trace")
    return int.from_bytes(hashlib.sha256(rows.encode()).digest()[:6], "big") if rows else 0


def trace_digests(run: RunFolder, rows: Iterable[ReviewRow]) -> dict[str, str]:
    """The digest, as it is now, of each trace that verdicts are about, by item; one that is gone is not there."""
    names = {row.item for row in rows if row.subject == "trace"}
    if not names or not run.traces.exists() or not run.questions.exists():
        return {}
    questions = {one.id: one for one in read_rows(run.questions, Question)}
    there = ((trace_item(one.question_id, one.sample_index), one) for one in read_traces(run))
    return {item: trace_digest(questions[one.question_id], one) for item, one in there if item in names}


class ReviewBook:
    """Where one process notes verdicts; may be used from many threads."""

    def __init__(self, run: RunFolder) -> None:
        """Reads what is there, and opens a file of its own at the first verdict."""
        self._run, self._lock = run, threading.Lock()
        self._part: Part | None = None
        self.rows = read_reviews(run)

    def note(self, row: ReviewRow) -> ReviewRow:
        """Append a verdict; the row as it was written, which is later than all that this reviewer wrote before.

        Raises:
            AotError: the disk refuses it.
        """
        with self._lock:
            if self._part is None:
                self._part = Part(self._run.reviews, writer_name())
            before_s = [one.time_s for one in self.rows if one.reviewer == row.reviewer]
            # A clock that was set back must not make the older verdict count.
            now_s = max([time.time(), *(later + 1e-3 for later in before_s)])
            written = row.model_copy(update={"time_s": round(now_s, 3)})
            self._part.append(written)
            self.rows.append(written)
            return written

    def last(self, item: str, digest: str, *, reviewer: str) -> ReviewRow | None:
        """The verdict of one reviewer on one item as it is now; None where there is none."""
        with self._lock:
            rows = [one for one in self.rows if (one.item, one.digest, one.reviewer) == (item, digest, reviewer)]
        return rows[-1] if rows else None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._part is not None:
                self._part.close()
                self._part = None


def trace_item(question_id: str, sample_index: int) -> str:
    """The name of a trace in verdicts.

    >>> trace_item("toy/0", 1)
    'toy/0#1'
    """
    return f"{question_id}#{sample_index}"


def asked_question(question: Question) -> AskedQuestion:
    """A question of a run as a reviewer sees it."""
    media = question.media
    return AskedQuestion(
        text=question.text, choices=question.choices, kind=question.kind, video=media.uri if media else "",
        start_s=media.start_s if media else 0.0, end_s=media.end_s if media else None,
    )  # fmt: skip


def trace_digest(question: Question, trace: Trace) -> str:
    """Of all that a verdict on a trace rests on: another answer, step or rationale gives another one."""
    return _digest(asked_question(question), trace.timeless())


def answer_digest(question: AskedQuestion, answer: str, rationale: str = "") -> str:
    """The same of an answer that was served."""
    return _digest(question, text=f"{answer}\0{rationale}")


def _digest(*rows: BaseModel, text: str = "") -> str:
    content = "\0".join((*(row.model_dump_json() for row in rows), storable(text)))
    return hashlib.sha256(content.encode()).hexdigest()[:16]
