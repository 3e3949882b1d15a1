"""What people said in `aot review`, as questions: labelled ones to calibrate on, wrong ones worth new traces."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from aot.files.run_folder import RunFolder, read_rows
from aot.rationales.notation import ANSWER_MARK
from aot.records import AnswerType, Question
from aot.review.rows import read_reviews, trace_digests
from aot.review.standing import Standing, standings_of
from aot.review_records import AskedQuestion

WAS = {"rejected": "a person rejected", "corrected": "a person corrected"}
_MOST_GOLD_CHARS = 200


@dataclass(frozen=True)
class Labelled:
    """A question that was served, with the answer that a person stands for."""

    item: str
    question: AskedQuestion
    answer: str


def labelled_answers(run: RunFolder, left_out: Counter[str]) -> Iterator[Labelled]:
    """Served answers that people approved or corrected; what is rejected or in dispute has no label.

    Raises:
        SourceError: a row is no verdict.
    """
    for item, one in _served(run).items():
        row = one.row
        answer = row.correction if one.verdict == "corrected" else stated_answer(row.answer)
        if one.verdict == "rejected":
            left_out["rejected"] += 1
        elif not answer or len(answer) > _MOST_GOLD_CHARS:
            left_out["no_short_answer"] += 1
        else:
            yield Labelled(item, row.question, answer)


def stated_answer(text: str) -> str:
    """The answer that a reply states: what stands behind its last `Answer:`, or all of it.

    >>> stated_answer("12 - 7 = 5. Answer: 5"), stated_answer("yes")
    ('5', 'yes')
    """
    return text.rpartition(ANSWER_MARK)[2].strip()


def labelled_questions(
    run: RunFolder, questions: Iterable[Question], *, split: str, left_out: Counter[str]
) -> list[Question]:
    """The same as questions of text of a split; those about frames are left out, since nobody kept their clips."""
    types = _types(questions)
    made = []
    for one in labelled_answers(run, left_out):
        given = one.question
        if given.video or given.text.strip() == "":
            left_out["about_frames"] += 1
        elif given.choices and one.answer not in given.choices:
            left_out["answer_is_no_choice"] += 1
        else:
            kind = given.kind or "text"
            made.append(
                Question(
                    id=f"{split}/reviewed/{one.item}", dataset="reviewed", split=split, kind=kind, text=given.text,
                    choices=given.choices, answer=one.answer, group=f"{split}/reviewed/{one.item}",
                    answer_type="choice" if given.choices else types.get(kind, "text"),
                )
            )  # fmt: skip
    return made


def _types(questions: Iterable[Question]) -> dict[str, AnswerType]:
    """How answers to questions of a kind are compared, where a run compares all of them alike."""
    by_kind: dict[str, set[AnswerType]] = {}
    for question in questions:
        by_kind.setdefault(question.kind, set()).add(question.answer_type)
    return {kind: types.pop() for kind, types in by_kind.items() if len(types) == 1}


def wrong_traces(run: RunFolder) -> Iterator[tuple[Question, str, str]]:
    """Training questions with a trace that people rejected or corrected and none that they approved.

    Each with the answer that counts, which is the gold one unless it was corrected, and what a person did.

    Raises:
        SourceError: a row is no verdict.
    """
    rows = [row for row in read_reviews(run) if row.subject == "trace"]
    if not rows:
        return
    standings = standings_of(rows, current=trace_digests(run, rows)).by_item
    by_question: dict[str, list[Standing]] = {}
    for item, one in standings.items():
        by_question.setdefault(item.rpartition("#")[0], []).append(one)
    for question in read_rows(run.questions, Question):
        mine = by_question.get(question.id, [])
        if not mine or any(one.verdict == "approved" for one in mine):
            continue
        corrections = {one.correction for one in mine if one.verdict == "corrected"}
        was = "corrected" if corrections else "rejected"
        yield question, corrections.pop() if len(corrections) == 1 else question.answer, f"{WAS[was]} the trace"


def wrong_answers(run: RunFolder) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Served answers that people rejected or corrected: id, row of a file of questions, and what a person did.

    Raises:
        SourceError: a row is no verdict.
    """
    for item, one in _served(run).items():
        if one.verdict == "approved":
            continue
        given = one.row.question
        row: dict[str, Any] = {"id": f"served/{item}", "question": given.text, "kind": given.kind or "text"}
        row |= {"choices": list(given.choices)} if given.choices else {}
        row |= {"answer": one.correction, "split": "train"} if one.correction else {}
        if given.video:
            row |= {"video": given.video, "start_s": given.start_s}
            row |= {"end_s": given.end_s} if given.end_s is not None else {}
        yield item, row, f"{WAS[one.verdict]} the answer"


def _served(run: RunFolder) -> dict[str, Standing]:
    return standings_of([row for row in read_reviews(run) if row.subject == "served"]).by_item
