"""Records of review by people: what was reviewed, by whom, what they said, and what waits for them.

A verdict is a row that is appended and never changed. It carries the question with it, so that what a person said of an
answer remains a labelled question when the log of the server is gone.
"""

from typing import Literal

from pydantic import Field

from aot.records import Record

Said = Literal["approved", "corrected", "rejected"]
"""What a person thinks: right as it is; wrong, with the right answer beside it; or not to be used."""
ReviewState = Literal["pending", "approved", "corrected", "rejected"]
"""Of a request that a person has to look at before anybody gets an answer."""
MAX_NAME_CHARS, MAX_ANSWER_CHARS, MAX_NOTE_CHARS = 100, 2_000, 4_000
"""Of a reviewer's id, of a correction, and of a note."""


class AskedQuestion(Record):
    """A question as a reviewer sees it."""

    text: str
    choices: tuple[str, ...] = ()
    kind: str = ""
    video: str = ""
    """Path of the clip, as the run or the client names it; empty for a question without one."""
    start_s: float = 0.0
    end_s: float | None = None


class ReviewRow(Record):
    """What one person said of one trace, or of one answer of a served student."""

    subject: Literal["trace", "served"]
    item: str
    """Question id and sample of a trace, as `toy/0#1`; of an answer the id under which it was served."""
    digest: str
    """Of everything that the person was shown; the verdict says nothing of another content."""
    reviewer: str = Field(min_length=1, max_length=MAX_NAME_CHARS)
    time_s: float
    """Seconds since 1970; of two rows of one reviewer on one item the later one counts."""
    verdict: Said
    correction: str = Field(default="", max_length=MAX_ANSWER_CHARS)
    """The right answer, of a verdict `corrected`; else empty."""
    note: str = Field(default="", max_length=MAX_NOTE_CHARS)
    answer: str
    """That was reviewed."""
    question: AskedQuestion


class Picture(Record):
    """A frame that was stored for whoever reviews a request."""

    name: str
    """Of the JPEG file in the folder of pictures."""
    time_s: float | None = None


class PendingRow(Record):
    """A request whose answer waits for a person."""

    id: str
    """Of the request, over all that it asks; the same request has the same id."""
    time_s: float
    route: str
    question: AskedQuestion
    pictures: tuple[Picture, ...] = ()
    answer: str
    """Of the student, or of the larger model of a cascade; empty where it had none. No client was told."""
    abstained: str = ""
    confidence: float | None = None
    rationale: str = ""
    model: str = ""
    contract_digest: str = ""
    watermark: str = ""
    """As `aot.origin` would have it of the answer; empty where nothing was written."""


class ReviewOut(Record):
    """How far the review of an answer is, as a client is told."""

    state: ReviewState
    """`pending`: nobody has looked yet; the same request sent again later gets the answer."""
    id: str
    """Of the request, by which its review is known; empty where it waits nowhere, as nobody named a folder."""

    @property
    def sentence(self) -> str:
        """The same for people; nothing of whoever reviewed."""
        return {
            "pending": f"This answer waits for review by a person ({self.id}). Send the same request again later.",
            "approved": "A person reviewed this answer and approved of it.",
            "corrected": "A person reviewed what the model answered and gave this answer instead.",
            "rejected": "A person reviewed what the model answered and rejected it; there is no answer.",
        }[self.state]


class Agreement(Record):
    """How far reviewers agree about the verdict, beyond what chance would give."""

    alpha: float | None
    """Krippendorff's, nominal: 1 is full agreement, 0 what chance gives; None where it is not defined."""
    low: float | None = None
    high: float | None = None
    """95% interval, by drawing items again."""
    n: int
    """Items with verdicts of two reviewers or more, on which it rests."""
    reviewers: int
    """Of these items."""
    why: str = ""
    """Why there is no alpha."""


class ReviewSummary(Record):
    """What people said of a run and of its served student."""

    rows: int
    items: int
    """With a verdict that is not stale."""
    reviewers: int
    approved: int
    corrected: int
    rejected: int
    """Items by the verdict that counts."""
    contradictions: int
    """Rows by which a reviewer took back a verdict of his own."""
    disagreements: int
    """Items on which two reviewers do not say the same."""
    stale: int
    """Rows about a trace or an answer that has changed since, or is gone."""
    agreement: Agreement


class ReviewTotals(Record):
    """What people's verdicts did to the traces of a run."""

    approved: int
    corrected: int
    rejected: int
    overruled: int
    """Traces that filters would have dropped and that are kept because a person approved of them."""
    contradictions: int
    disagreements: int
    stale: int
    """Rows that counted for nothing, because their trace has changed or is gone."""
