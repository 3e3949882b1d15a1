"""Everything the report shows, read from a run folder; what is missing is named, never invented."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from aot.answer_records import CascadeResults, Faithfulness
from aot.config import ArmConfig, RunConfig
from aot.errors import SourceError, first_problem
from aot.evaluation.groups import ALL
from aot.evaluation.spending import cut_sentences
from aot.files.jsonl import parse_json, read_json
from aot.files.run_folder import STEPS, RunFolder, read_rows, row_files
from aot.files.traces import read_faults
from aot.records import ClipAnnotation, MetricRow, Prediction, Question, Refusal
from aot.reporting.students import MODES, Learning, read_learning
from aot.review.agreement import summary_of
from aot.review.rows import read_reviews, trace_digests
from aot.review_records import ReviewSummary
from aot.run_records import Funnel

Row = TypeVar("Row", bound=BaseModel)
Content = TypeVar("Content")
Json = dict[str, Any]


class _RunFacts(BaseModel, extra="allow"):
    """What is taken for granted of run.json."""

    stages: dict[str, Json] = {}


class _TeacherFacts(BaseModel, extra="allow"):
    """What is taken for granted of teacher.json."""

    prompts: Json | None = None
    spend: Json | None = None
    vision_spend: Json | None = None
    chat_settings: list[Json] = []


Student = tuple[str, str]
"""Arm and mode."""


@dataclass(frozen=True)
class RunData:
    """The small files of a run and how to look things up in them; traces and verdicts are streamed where needed."""

    run: RunFolder
    config: RunConfig
    provenance: Json
    questions: dict[str, Question]
    annotations: dict[str, ClipAnnotation]
    """By clip."""
    predictions: list[Prediction]
    metrics: list[MetricRow]
    funnel: Funnel | None
    teacher: Json
    refusals: list[Refusal]
    curves: dict[str, list[Json]]
    """Training log of each arm, one row a step."""
    missing: tuple[str, ...]
    """Names of files that are not there or cannot be read."""
    cascade: tuple[CascadeResults, ...] = ()
    """Empty for a run that was not calibrated."""
    faithfulness: Faithfulness | None = None
    """None for a run whose replies were not perturbed."""
    reviews: ReviewSummary | None = None
    """None for a run of which no person said anything."""
    learning: Learning = field(default_factory=Learning)
    planted: dict[tuple[str, int], str] = field(default_factory=dict)
    """Question id and sample of each trace with a planted defect, to the kind of defect."""

    @property
    def arms(self) -> tuple[ArmConfig, ...]:
        """Every arm that was to be trained."""
        return self.config.train.arms

    @property
    def splits(self) -> tuple[str, ...]:
        """Evaluated splits, the one in distribution first."""
        return tuple(self.config.evaluate.splits)

    @property
    def first(self) -> str:
        """The split in distribution."""
        return self.splits[0]

    @cached_property
    def evaluated(self) -> list[Question]:
        """Questions of the evaluated splits."""
        return [question for question in self.questions.values() if question.split in self.splits]

    @cached_property
    def has_frames(self) -> bool:
        """Whether any question is about a clip."""
        return any(question.media for question in self.questions.values())

    @property
    def finished(self) -> set[str]:
        """Stages that are done."""
        return {name for name, stage in self.provenance.get("stages", {}).items() if stage.get("state") == "done"}

    @cached_property
    def by_key(self) -> dict[tuple[str, str, str, str, str], MetricRow]:
        """Arm, mode, split, kind and metric to row."""
        return {(r.arm, r.mode, r.split, r.kind, r.metric): r for r in self.metrics}

    @cached_property
    def students(self) -> list[Student]:
        """Every arm and mode with metrics, in their order."""
        return list(dict.fromkeys((row.arm, row.mode) for row in self.metrics))

    def find(self, student: Student, split: str, metric: str, *kinds: str) -> MetricRow | None:
        """The row of that key, of the first of `kinds` that has one (all questions, if none is named); or None."""
        rows = (self.by_key.get((*student, split, kind, metric)) for kind in kinds or (ALL,))
        return next((row for row in rows if row), None)

    def has_metric(self, start: str) -> bool:
        """Whether there is a metric whose name starts so."""
        return any(row.metric.startswith(start) for row in self.metrics)

    def student(self, arm: str | None) -> Student | None:
        """The arm with the only, or first, mode it answered in."""
        return next((student for student in self.students if student[0] == arm), None)

    def name(self, student: Student) -> str:
        """How a student is called; an arm with several modes with its mode."""
        several = sum(arm == student[0] for arm, _ in self.students) > 1
        mode = MODES.get(student[1], student[1])
        return f"{self.learning.shown(student[0])}, {mode}" if several and mode else self.learning.shown(student[0])

    def warnings(self) -> list[str]:
        """What must be said first: caps that cut much off, and arms that were to learn rationales and saw few."""
        return cut_sentences(self.metrics, shown=self.learning.shown) + self.learning.warnings()

    def question_counts(self) -> list[tuple[str, int]]:
        """Clips, questions of each split, and refused inputs."""
        clips = len({q.media.uri for q in self.questions.values() if q.media})
        splits = [q.split for q in self.questions.values()]
        by_split = [(f"{split} questions", splits.count(split)) for split in sorted(set(splits))]
        return [*([("clips", clips)] if clips else []), *by_split, ("refused inputs", len(self.refusals))]


def load_run(run: RunFolder, config: RunConfig) -> RunData:
    """What is in the folder of `run`; annotations are missed only where questions are about clips.

    Raises:
        SourceError: a file is damaged.
    """
    missing: list[str] = []
    reviews = read_reviews(run)
    questions = {row.id: row for row in _rows(run.questions, Question, missing)}
    unmissed = missing if any(question.media for question in questions.values()) else []
    metrics, funnel = _file(run.metrics, list[MetricRow], missing), _file(run.funnel, Funnel, missing)
    if not (parts := row_files(run.predictions)):
        missing.append(run.predictions.name)
    return RunData(
        run=run,
        config=config,
        provenance=_facts(run.run_json, _RunFacts, missing),
        questions=questions,
        annotations={row.uri: row for row in _rows(run.annotations, ClipAnnotation, unmissed)},
        predictions=[row for path in parts for row in read_rows(path, Prediction)],
        metrics=metrics or [],
        funnel=funnel,
        teacher=_facts(run.teacher_stats, _TeacherFacts, missing),
        refusals=list(rows_or_none(run.refusals, Refusal)),
        curves=_curves(run),
        missing=tuple(missing),
        cascade=tuple(_file(run.cascade_results, list[CascadeResults], []) or ()),
        faithfulness=_file(run.faithfulness, Faithfulness, []),
        reviews=summary_of(reviews, current=trace_digests(run, reviews)) if reviews else None,
        learning=read_learning(run, config.train.arms),
        planted={(row.question_id, row.sample_index): row.fault for row in read_faults(run)},
    )


def rows_or_none(path: Path, model: type[Row]) -> Iterator[Row]:
    """Rows of `path`; none if the file is not there.

    Raises:
        SourceError: a whole line is not a `model`.
    """
    if path.exists():
        yield from read_rows(path, model)


def _rows(path: Path, model: type[Row], missing: list[str]) -> Iterator[Row]:
    if not path.exists():
        missing.append(path.name)
    return rows_or_none(path, model)


def _file(path: Path, kind: type[Content], missing: list[str]) -> Content | None:
    """What a JSON file holds; None if it is not there."""
    if not path.exists():
        missing.append(path.name)
        return None
    return read_file(path, kind, remedy="delete it and run the stage that makes it again")


def _facts(path: Path, kind: type[BaseModel], missing: list[str]) -> Json:
    facts = _file(path, kind, missing)
    return {} if facts is None else facts.model_dump(exclude_unset=True)


def read_file(path: Path, kind: type[Content], *, remedy: str) -> Content:
    """The JSON file at `path`.

    Raises:
        SourceError: it is not JSON, or holds something else; with the `remedy`.
    """
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except ValidationError as error:
        raise SourceError(f"{path}: {first_problem(error)}; {remedy}") from None
    except ValueError as error:
        raise SourceError(f"{path} is not JSON ({error}); {remedy}") from error


def _curves(run: RunFolder) -> dict[str, list[Json]]:
    curves: dict[str, list[Json]] = {}
    for path in sorted(run.arm("").glob(f"*/{STEPS}")):
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        try:
            curves[path.parent.name] = [parse_json(line) for line in lines if line.strip()]
        except ValueError as error:
            raise SourceError(f"{path} holds a line that is not JSON ({error}); train this arm again") from error
    return curves
