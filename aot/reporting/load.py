"""Everything the report shows, read from a run folder; what is missing is named, never invented."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from aot.answer_records import CascadeResults, Faithfulness
from aot.config import ArmConfig, RunConfig
from aot.errors import SourceError, first_problem
from aot.evaluation.groups import ALL
from aot.evaluation.scoring import score
from aot.evaluation.spending import cut_sentences
from aot.files.jsonl import parse_json, read_json
from aot.files.run_folder import STEPS, RunFolder, read_rows, row_files
from aot.files.traces import read_faults, read_traces
from aot.records import ClipAnnotation, MetricRow, Prediction, Question, Refusal, Trace, Verdict
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
Key = tuple[str, int]
"""Question id and sample index of a trace."""
STATES = ("kept", "held out, student right", "rejected", "held out, student wrong", "not filtered")


@dataclass(frozen=True)
class Verdicts:
    """What a page needs of verdicts.jsonl, which may be long: taken from it in one pass."""

    of_shown: dict[Key, list[Verdict]]
    """All that concern a trace of the gallery."""
    first_planted: dict[Key, Verdict]
    """The first one that drops a trace with a planted defect."""
    dropping: Counter[str]
    """How many drop a trace for each reason."""
    dropping_planted: Counter[str]
    """The same of traces with a planted defect."""
    examples: dict[str, list[Verdict]]
    """The first few that drop a trace for each reason."""


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
    planted: dict[Key, str] = field(default_factory=dict)
    """Each trace with a planted defect, to the kind of defect."""

    @cached_property
    def shown(self) -> dict[Key, str]:
        """The traces of the gallery, as many as report.gallery says, and what became of each."""
        states = _trace_states(self)
        return {key: states[key] for key in _pick_traces(states, self.questions, limit=self.config.report.gallery)}

    @cached_property
    def verdicts(self) -> Verdicts:
        """What a page shows of the verdicts of the filters."""
        return _read_verdicts(self)

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


def _read_verdicts(data: RunData) -> Verdicts:
    read = Verdicts({}, {}, Counter(), Counter(), {})
    for verdict in rows_or_none(data.run.verdicts, Verdict):
        key, reason = key_of(verdict), verdict.reason
        if key in data.shown:
            read.of_shown.setdefault(key, []).append(verdict)
        if verdict.keep:
            continue
        read.dropping[reason] += 1
        if key in data.planted:
            read.dropping_planted[reason] += 1
            read.first_planted.setdefault(key, verdict)
        examples = read.examples.setdefault(reason, [])
        if len(examples) < data.config.report.rejected_per_reason and verdict.question_id in data.questions:
            examples.append(verdict)
    return read


def _trace_states(data: RunData) -> dict[Key, str]:
    """What became of each trace: kept, rejected, held out (student right or wrong), or not filtered."""
    student = data.student(data.learning.lead)
    said = [p for p in data.predictions if (p.arm, p.mode) == student and p.question_id in data.questions]
    right = {p.question_id: score(p, data.questions[p.question_id]).correct for p in said}
    held = {True: "held out, student right", False: "held out, student wrong", None: "not filtered"}
    states = {key_of(trace): held[right.get(trace.question_id)] for trace in working_traces(data)}
    states |= {key_of(trace): "kept" for trace in rows_or_none(data.run.kept, Trace)}
    return states | {key_of(trace): "rejected" for trace in rows_or_none(data.run.dropped, Trace)}


def _pick_traces(states: dict[Key, str], questions: dict[str, Question], *, limit: int) -> list[Key]:
    """At most `limit` traces, taken in turns from each state and, within it, from each kind of question."""
    piles: defaultdict[str, defaultdict[str, list[Key]]] = defaultdict(lambda: defaultdict(list))
    for key, state in sorted(states.items()):
        if key[0] in questions:
            piles[state][questions[key[0]].kind].append(key)
    queues = [list(_take_turns(list(piles[state].values()))) for state in STATES if state in piles]
    picked: list[Key] = []
    spare: list[Key] = []
    seen_questions: set[str] = set()
    for key in _take_turns(queues):
        (spare if key[0] in seen_questions else picked).append(key)
        seen_questions.add(key[0])
    return (picked + spare)[:limit]


def _take_turns(queues: Sequence[Sequence[Key]]) -> Iterator[Key]:
    for turn in range(max((len(queue) for queue in queues), default=0)):
        yield from (queue[turn] for queue in queues if turn < len(queue))


def working_traces(data: RunData) -> Iterator[Trace]:
    """All traces, as they were generated; only these know how long a call took."""
    return read_traces(data.run) if data.questions else iter(())


def key_of(row: Trace | Verdict) -> Key:
    """Which trace a row is, or is about."""
    return row.question_id, row.sample_index


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
