"""`aot predict`: an exported student answers one question, or every question of a file.

A file gets one row for each question that has an id, in its order, and a question that cannot be asked gets a row that
says why. Finished rows are kept whatever happens: the same command goes on behind them, and where nothing is left to
ask it loads no model. Nothing here knows whether an answer is right; `aot score` grades what was written.
"""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from aot.acting.carried import with_book
from aot.answer_records import Answer, AnswerRow, MadeCall, PredictSummary
from aot.display import counted, one_line
from aot.errors import RunError, SourceError, first_problem
from aot.files.jsonl import JsonLine, RefusedRow, RowProblem, read_json_lines
from aot.files.run_folder import RunFolder, append_row, open_append, read_rows
from aot.records import Question
from aot.served_records import AskMode
from aot.serving.contract import read_contract
from aot.serving.student import Ask, ServedStudent, load_student
from aot.teacher.tools.book import RecipeBook
from video_data.datasets.clip_folder import DiskNames, regular_inside
from video_data.datasets.plain_fields import AskFields, checked_fields

log = logging.getLogger(__name__)
CHUNK = 32
"""Questions whose answers are written together; so many a kill loses at most."""
_TOLD_EVERY_S = 30.0
_OWN_START = b'{"answer":'
_SHOWN = 5
_MOST_SHOWN = 300
"""Characters of a call and its result."""


@dataclass(frozen=True)
class _Item:
    """A row of the questions file that has an id."""

    id: str
    ask: Ask
    digest: str
    problem: str = ""
    """Why it cannot be asked."""


def predict_one(export: Path, ask: Ask, *, book: RecipeBook | None = None, review: Path | None = None) -> Answer:
    """The answer of an exported student to one question, with other recipe cards than its own if some are given.

    Raises:
        CheckpointError: the export cannot be loaded.
        ConfigError: it has no use for a book, or for a folder of reviews.
    """
    with load_student(export, book=book, review=review) as student:
        return student.ask_many([ask])[0]


def answer_lines(answer: Answer) -> list[str]:
    """An answer for people: what was said and how sure it is, or why there is none."""
    if answer.abstained:
        return [f"no answer ({answer.abstained}): {answer.detail}", *(f"  {_called(call)}" for call in answer.calls)]
    sure = f" ({answer.confidence:.1%})" if answer.confidence is not None else ""
    lines = [f"{answer.answer}{sure}"]
    for choice, prob in zip(answer.choices, answer.choice_probs, strict=False):
        lines.append(f"  {prob:6.1%}  {choice}")
    lines += [f"  {_called(call)}" for call in answer.calls]
    lines += [f"  {line}" for line in answer.rationale.splitlines()]
    if answer.frame_times_s:
        lines.append("  frames at " + ", ".join(f"{time_s:.2f}" for time_s in answer.frame_times_s) + " s")
    spent = ", ".join(f"{name} {part_s:.3f}" for name, part_s in answer.seconds.model_dump().items())
    lines.append(f"  {answer.seconds.total:.3f} s: {spent}")
    return [*lines, *([f"  {answer.detail}"] if answer.detail else [])]


def _called(call: MadeCall) -> str:
    arguments = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items())
    gave = json.dumps(call.result, ensure_ascii=False) if call.result is not None else f"failed: {call.error}"
    return one_line(f"{call.tool or 'a call'}({arguments}) -> {gave}")[:_MOST_SHOWN]


def predict_file(
    export: Path,
    questions: Path,
    out: Path,
    *,
    root: Path | None = None,
    mode: AskMode | None = None,
    book: RecipeBook | None = None,
    review: Path | None = None,
) -> PredictSummary:
    """What is in `out` after every question of a file was answered in it.

    Args:
        export: folder of the student.
        questions: JSON lines, each a row of a run's questions, of docs/plain_data.md or of docs/text_data.md; the
            last two need no answer.
        out: one AnswerRow a line; rows that are there already are kept.
        root: folder of the clips; None: that of the questions, or the synthetic clips beside a run's questions.
        mode: of every question that names none itself; None leaves it to each (see Ask).
        book: recipe cards in place of those that came with the student.
        review: folder in which answers wait that a person has to look at first.

    Raises:
        ConfigError: the student has no use for a book, or for a folder of reviews.
        SourceError: the questions cannot be read, or none of them has an id.
        RunError: `out` holds something else, or answers of another student or to other questions.
        CheckpointError: the export cannot be loaded.
        GuardStop: the disk is full; what was answered is kept.
    """
    if out.resolve() == questions.resolve():
        raise RunError(f"{out} holds the questions; give another file for the answers")
    contract = read_contract(export, check_files=False)
    contract = with_book(contract, book) if book else contract
    items, refused = _items(questions, root=root, mode=mode)
    if not items:
        words = f": {refused[0].item}: {refused[0].reason} ({refused[0].detail})" if refused else ""
        raise SourceError(f"{questions} holds no question with an id{words}; see docs/python.md for the rows")
    kept = _kept(out, {item.id: item.digest for item in items}, contract_digest=contract.digest())
    missing = [item for item in items if item.id not in kept]
    if missing:
        with load_student(export, book=book, review=review) as student, open_append(out) as file:
            for item, answer in _answers(student, missing):
                append_row(file, _row(item, answer))
                kept[item.id] = answer.abstained
    reasons = Counter(row.reason for row in refused) + Counter(
        item.problem.partition(":")[0] for item in items if item.problem
    )
    return PredictSummary(
        questions=len(items) + len(refused),
        answered=len(missing),
        kept=len(items) - len(missing),
        abstained=dict(sorted(Counter(kept[item.id] for item in items if kept[item.id]).items())),
        refused=dict(sorted(reasons.items())),
        examples=(
            *(f"{row.item}: {row.reason} ({row.detail})" for row in refused),
            *(f"{item.id}: {item.problem}" for item in items if item.problem),
        )[:_SHOWN],
    )


def summary_lines(summary: PredictSummary, out: Path) -> list[str]:
    """A summary for people."""
    done = f"{counted(summary.answered, 'question')} answered" if summary.answered else "nothing to do"
    lines = [f"{out}: {done}, {counted(summary.kept, 'row')} kept from before"]
    for what, counts in (("no answer", summary.abstained), ("rows that cannot be asked", summary.refused)):
        if counts:
            lines.append(f"{what}: " + ", ".join(f"{reason} {count}" for reason, count in counts.items()))
    return [*lines, *(f"  {one}" for one in summary.examples)]


def _answers(student: ServedStudent, items: Sequence[_Item]) -> Iterator[tuple[_Item, Answer]]:
    told_s = time.monotonic()
    for start in range(0, len(items), CHUNK):
        chunk = items[start : start + CHUNK]
        answers = iter(student.ask_many([item.ask for item in chunk if not item.problem]))
        for item in chunk:
            yield item, student.refusal(item.ask, item.problem) if item.problem else next(answers)
        if time.monotonic() - told_s > _TOLD_EVERY_S:
            told_s = time.monotonic()
            log.info("%d of %s answered", start + len(chunk), counted(len(items), "question"))


def _row(item: _Item, answer: Answer) -> AnswerRow:
    return AnswerRow.model_validate({**dict(answer), "question_id": item.id, "question_digest": item.digest})


def _kept(out: Path, digests: Mapping[str, str], *, contract_digest: str) -> dict[str, str]:
    """Why each question that has a row in `out` already was not answered, by id; empty where it was."""
    other = "give another file for the answers"
    try:
        with out.open("rb") as file:
            head = file.read(len(_OWN_START))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RunError(f"{out} cannot be read: {error.strerror}; {other}") from None
    if not _OWN_START.startswith(head) and head != _OWN_START:  # before a half line is cut off that is not ours
        raise RunError(f"{out} holds no answers of aot predict; {other}")
    kept = {}
    try:
        for row in read_rows(out, AnswerRow):
            if row.contract_digest != contract_digest:
                raise RunError(f"{out} holds answers of another student ({row.model}); {other}")
            if digests.get(row.question_id, row.question_digest) != row.question_digest:
                raise RunError(f"{out} holds an answer to another question of the id {row.question_id!r}; {other}")
            kept[row.question_id] = row.abstained
    except SourceError as error:
        raise RunError(f"{error}; {out} holds no answers of aot predict; {other}") from None
    return {id_: reason for id_, reason in kept.items() if id_ in digests}


def _items(questions: Path, *, root: Path | None, mode: AskMode | None) -> tuple[list[_Item], list[RefusedRow]]:
    """The rows that have an id, in their order, and the others."""
    items, refused, ids = list[_Item](), list[RefusedRow](), set[str]()
    clips = _Clips(questions, root)
    for line in read_json_lines(questions):
        if isinstance(line, RefusedRow):
            refused.append(line)
            continue
        id_ = line.fields.get("id")
        try:
            if not isinstance(id_, str) or not id_.strip():
                raise RowProblem("missing_field", "a row needs an id, a text of its own")
            if id_ in ids:
                raise RowProblem("duplicate_id", f"the id {id_!r} was used by an earlier line")
        except RowProblem as problem:
            refused.append(problem.row(line.place))
            continue
        ids.add(id_)
        digest = hashlib.sha256(json.dumps([line.fields, mode], sort_keys=True).encode()).hexdigest()[:16]
        try:
            items.append(_Item(id_, _ask(line, clips, mode), digest))
        except RowProblem as problem:
            ask = Ask(str(line.fields.get("question", "")))
            items.append(_Item(id_, ask, digest, f"{problem.reason}: {problem}"))
    return items, refused


def _ask(line: JsonLine, clips: "_Clips", mode: AskMode | None) -> Ask:
    """The question of a line, of whichever form.

    Raises:
        RowProblem: it is of none, or its clip lies outside the folder or is not there.
    """
    if "text" in line.fields and "dataset" in line.fields:
        try:
            question = Question.model_validate(line.fields)
        except ValidationError as error:
            raise RowProblem("bad_value", first_problem(error)) from None
        media = question.media
        return Ask(
            question.text, choices=question.shown_choices, kind=question.kind, mode=mode,
            clip=clips.path(media.uri, drawn=True) if media else None,
            start_s=media.start_s if media else None, end_s=media.end_s if media else None,
        )  # fmt: skip
    row = checked_fields(AskFields, line.fields)
    if row.clip and row.video:
        raise RowProblem("bad_value", "a row has `clip` or `video`, not both")
    named = row.clip or row.video
    return Ask(
        row.question, choices=row.choices, kind=row.kind, mode=row.mode or mode,
        clip=clips.path(named) if named else None, start_s=row.start_s, end_s=row.end_s,
    )  # fmt: skip


class _Clips:
    """Where the clips of a file of questions lie; none outside one folder."""

    def __init__(self, questions: Path, root: Path | None) -> None:
        beside = questions.parent
        drawn = RunFolder(beside).clips
        self._plain = (root or beside).resolve()
        self._drawn = (root or (drawn if drawn.is_dir() else beside)).resolve()

    def path(self, name: str, *, drawn: bool = False) -> Path:
        """The file of a clip.

        Raises:
            RowProblem: path_outside, clip_missing or clip_ambiguous.
        """
        folder = self._drawn if drawn else self._plain
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or "\0" in name:
            raise RowProblem("path_outside", f"{name!r} must be a path inside {folder.name}; name the folder by --root")
        relative = DiskNames(folder).spelled(relative)
        return regular_inside(folder, relative.as_posix(), named=name, folder=f"{folder.name} (see --root)")
