"""`aot score`: grades anybody's predictions with the project's own grader, with n and a 95% interval on every number.

The questions come from a config (official annotation files, own data, text) or from a file of questions; no clip and no
model is needed. A question without a prediction counts as wrong. Prediction rows that are missing, doubled or about no
question are counted and told.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from aot.answers import check_packages, parse_answer, stop_workers
from aot.config import RunConfig
from aot.display import counted, one_line
from aot.errors import SourceError, first_problem
from aot.evaluation.groups import Cell, answer_rows, grade_all, make_cells, missing_prediction
from aot.evaluation.intervals import weighted_proportion
from aot.evaluation.scoring import score
from aot.files.jsonl import RefusedRow, refused_words
from aot.pipeline.commands.foreign_predictions import FINE, Said, answer_of, are_places, place_in, read_predictions
from aot.pipeline.doors import door_of
from aot.pipeline.prepare import refusals_of, usable_questions
from aot.records import MetricRow, Prediction, Question, Refusal
from aot.run_records import Scores

ARM, MODE = "predictions", "none"
MEAN_OF_KINDS = ("star",)
"""Benchmarks whose headline is the mean over their kinds, each weighing the same."""
_MAX_RAW_CHARS = 2_000
_SHOWN = 5
Questions = tuple[list[Question], list[Refusal]]


def score_file(
    predictions: Path, *, config: RunConfig | None = None, config_path: Path = Path(), questions: Path | None = None
) -> Scores:
    """The scores of a file of predictions about the questions of a config or of a file.

    Raises:
        AotError: a file is missing or unreadable, or no prediction is about any of the questions.
    """
    if (config is None) == (questions is None):
        raise SourceError("give either --config CONFIG or --questions FILE: which questions the predictions are about")
    source, refused = (
        door_of(config).questions(config, config_path) if config else listed_questions(questions or Path())
    )
    said, unreadable = read_predictions(predictions)
    index = _Index(source)
    matches = [(index.question(one.names), one) for one in said]
    named = {question.split for question, _ in matches if question}
    splits = (set(config.evaluate.splits) & {q.split for q in source}) if config else named
    members = [question for question in source if question.split in splits]
    if not named & splits:
        raise SourceError(_no_match(predictions, members or source, said, unreadable))
    check_packages(members)
    try:
        rows, problems, notes = _predictions(members, matches)
        metrics = tuple(_rows(members, rows))
    finally:
        stop_workers()
    problems.update(row.reason for row in unreadable)
    others = sum(question is not None and question.split not in splits for question, _ in matches)
    if others:
        notes.append(f"{counted(others, 'prediction')} about questions of other splits: not scored")
    return Scores(
        dataset=members[0].dataset,
        questions=dict(sorted(Counter(question.split for question in members).items())),
        predictions=len(said) + len(unreadable),
        problems={reason: count for reason, count in sorted(problems.items()) if count},
        refused=dict(sorted(Counter(row.reason for row in refused).items())),
        notes=tuple(notes),
        rows=metrics,
    )


def predictions_about(path: Path, questions: Sequence[Question]) -> tuple[dict[str, Prediction], list[RefusedRow]]:
    """The first prediction of a file about each of the questions, by question id, and rows that cannot be used.

    An answer is in the words of its question: an option instead of its letter, and None where it cannot be read.

    Raises:
        SourceError: the file is missing or unreadable, or no prediction is about any of the questions.
    """
    said, unreadable = read_predictions(path)
    index = _Index(questions)
    matches = [(question, one) for one in said if (question := index.question(one.names))]
    if not matches:
        raise SourceError(_no_match(path, questions, said, unreadable))
    as_places = are_places(one.value for question, one in matches if question.choices and not one.ours)
    made: dict[str, Prediction] = {}
    for question, one in matches:
        row = one.ours or _prediction(question, one.value, as_places=as_places)
        read = parse_answer(row.answer, question).value
        answer = read if question.choices or read is None else row.answer
        made.setdefault(question.id, row.model_copy(update={"question_id": question.id, "answer": answer}))
    return made, unreadable


def score_lines(scores: Scores) -> list[str]:
    """Scores as text, a line for each split, kind and metric, without the rates of failures that are 0."""
    questions = ", ".join(counted(count, f"{split} question") for split, count in scores.questions.items())
    lines = [f"{scores.dataset}: {questions}; {counted(scores.predictions, 'prediction')}"]
    for what, counts in (("predictions", scores.problems), ("questions that cannot be asked", scores.refused)):
        if counts:
            lines.append(f"{what}: " + ", ".join(f"{reason} {count}" for reason, count in counts.items()))
    lines += scores.notes
    arms = {(row.arm, row.mode) for row in scores.rows}
    for row in scores.rows:
        if row.metric in ("truncated_rate", "unparsable_rate", "failed_rate") and not row.value:
            continue
        who = f"{row.arm} {row.mode:10} " if len(arms) > 1 else ""
        percent = f"{100 * row.value:6.2f}% [{100 * row.low:.2f}, {100 * row.high:.2f}]"
        head = f"{who}{one_line(row.split):9} {one_line(row.kind):14} {row.metric:16}"
        lines.append(f"{head} {percent:24} n={row.n}, {counted(row.num_clusters, 'group')}")
    return [one_line(line) for line in lines]


def listed_questions(path: Path) -> Questions:
    """The questions of a run folder's questions.jsonl, of a plain data set's, or of a file of text problems.

    Raises:
        SourceError: the file is missing or has none.
    """
    from aot.files.jsonl import JsonLine, read_json_lines
    from text_cot.datasets.files import read_text_files
    from video_data.datasets.plain import read_plain

    try:
        lines = list(read_json_lines(path))
        first = next((line for line in lines if isinstance(line, JsonLine)), None)
        if first and "question" in first.fields and "video" not in first.fields:
            text = read_text_files("text_jsonl", train=path, test=None, test_share=0.0, seed=0, limit=None)
            usable, refused = list(text.questions), list(text.refusals)
        elif first and "answer_type" not in first.fields:
            plain = read_plain(path.parent, path.name, None, clips="not_needed")
            usable, refused = usable_questions(plain.questions, dataset="plain")
            refused = refusals_of(plain.refused) + refused
        else:
            usable = [Question.model_validate(line.fields) for line in lines if isinstance(line, JsonLine)]
            refused = refusals_of(line for line in lines if isinstance(line, RefusedRow))
    except ValidationError as error:
        raise SourceError(f"{path} is no file of questions: {first_problem(error)}") from None
    if not usable:
        why = f" ({refused_words(refused)})" if refused else ""
        raise SourceError(
            f"{path} holds no usable question among {counted(len(lines), 'row')}{why}; give a run's questions.jsonl, "
            "or one of docs/plain_data.md or docs/text_data.md"
        )
    return usable, refused


class _Index:
    """Questions by the ids that people give them."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self._exact = {question.id: question for question in questions}
        names: defaultdict[str, list[Question]] = defaultdict(list)
        for question in questions:
            names[_folded(question.id)].append(question)
            if question.dataset == "egoplan" and question.media:  # its own files give the number of the sample alone
                names[question.id.rpartition("-")[2]].append(question)
        self._others = {name: same[0] for name, same in names.items() if len(same) == 1}

    def question(self, names: Iterable[str]) -> Question | None:
        """The question that one of the names means, the first that means any."""
        matches = (self._exact.get(name) or self._others.get(_folded(name)) for name in names)
        return next((question for question in matches if question), None)


def _folded(name: str) -> str:
    """An id without the difference between `video-1` and `video_1`."""
    return re.sub(r"[\s_-]+", "_", name)


def _predictions(
    members: Sequence[Question], matches: Sequence[tuple[Question | None, Said]]
) -> tuple[list[Prediction], Counter[str], list[str]]:
    """Predictions of every member, those without one as missing; what was wrong with the rows; and notes for people."""
    by_id = {question.id: question for question in members}
    as_places = are_places(one.value for question, one in matches if question and question.choices and not one.ours)
    made: dict[tuple[str, str, str], Prediction] = {}
    problems: Counter[str] = Counter()
    unknown = [one.names[0] for question, one in matches if question is None]
    other_gold = 0
    for question, one in matches:
        if question is None or question.id not in by_id:
            continue
        row = one.ours or _prediction(question, one.value, as_places=as_places).model_copy(
            update={"finish_reason": one.finish_reason}
        )
        key = row.arm, row.mode, question.id
        problems["doubled"] += key in made
        made.setdefault(key, row.model_copy(update={"question_id": question.id}))
        if one.gold is not None:
            other_gold += not score(_prediction(question, one.gold, as_places=as_places), question).correct
    absent = []
    for arm, mode in dict.fromkeys(key[:2] for key in made):
        due = [question for question in members if question.choices or mode != "likelihood"]
        absent += [missing_prediction(question, arm, mode) for question in due if (arm, mode, question.id) not in made]
    problems.update(unknown=len(unknown), missing=len(absent))
    notes = [f"no question has the id {_some(unknown)}"] if unknown else []
    notes += [f"no prediction for {_some([row.question_id for row in absent])}; they count as wrong"] if absent else []
    notes += [f"another right answer than in the annotations: {counted(other_gold, 'row')}"] if other_gold else []
    places = [place_in(one.value) for question, one in matches if question and question.choices] if as_places else []
    if places and 0 not in places and any(place == len(members[0].choices) for place in places):
        notes.append("no prediction is 0: places must count from 0, and these seem to count from 1")
    return [*made.values(), *absent], problems, notes


def _prediction(question: Question, value: Any, *, as_places: bool) -> Prediction:  # noqa: ANN401 - any JSON value
    answer = answer_of(question, value, as_places=as_places)
    raw_text = value if isinstance(value, str) else "" if value is None else repr(value)
    row = {"question_id": question.id, "arm": ARM, "mode": MODE, "raw_text": raw_text[:_MAX_RAW_CHARS]}
    return Prediction.model_validate({**row, "answer": answer})


def _rows(members: Sequence[Question], predictions: Sequence[Prediction]) -> Iterator[MetricRow]:
    for cell in make_cells(members, grade_all(members, predictions), order=[ARM]):
        yield from answer_rows(cell)
        if cell.kind == "all" and members[0].dataset in MEAN_OF_KINDS:
            yield _mean_of_kinds(cell)


def _mean_of_kinds(cell: Cell) -> MetricRow:
    counts: Mapping[str, int] = Counter(question.kind for question in cell.questions)
    weights = np.array([1 / counts[question.kind] for question in cell.questions])
    return cell.row("mean_of_kinds", weighted_proportion(cell.correct, weights, cell.clusters))


def _no_match(path: Path, questions: Sequence[Question], said: Sequence[Said], unreadable: Sequence[RefusedRow]) -> str:
    if not said and not unreadable:
        return f"{path} holds no row; predictions are {FINE}"
    if not said:
        return f"no row of {path} could be read ({refused_words(unreadable, most=1)}); predictions are {FINE}"
    unread = f"; {counted(len(unreadable), 'other row')} could not be read" if unreadable else ""
    ids = _some([one.names[0] for one in said])
    return (
        f"no prediction in {path} is about a question of {questions[0].dataset}: its ids are "
        f"{ids}, those of the questions {_some([one.id for one in questions])}{unread}"
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:80]) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
