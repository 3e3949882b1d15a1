"""Everything the report shows, read from a run folder; what is missing is named, never invented."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from aot.config import NO_FRAMES, ArmConfig
from aot.errors import SourceError
from aot.files.jsonl import parse_json, read_json
from aot.files.run_folder import RunFolder, read_rows
from aot.files.traces import read_faults
from aot.filtering.funnel import Funnel
from aot.records import ClipAnnotation, MetricRow, Prediction, Question, Refusal

Row = TypeVar("Row", bound=BaseModel)
Json = dict[str, Any]

SAW_NONE = "saw no rationale"
"""Stands behind the name of every arm that was to learn rationales and came to none."""


@dataclass(frozen=True)
class Learned:
    """What one trained arm saw, by its own record (training.json); None where that says nothing."""

    questions: int | None
    rationales: int | None


@dataclass(frozen=True)
class Learning:
    """What the trained arms of a run saw; every place that tells what an arm is asks here."""

    arms: dict[str, Learned] = field(default_factory=dict)
    """By name; without those that left no record."""

    def saw_none(self, arm: ArmConfig) -> bool:
        """Whether an arm was to learn rationales, and its record says that it came to none."""
        learned = self.arms.get(arm.name)
        return arm.learns_rationales and learned is not None and learned.rationales == 0

    def shown(self, name: str, arms: Sequence[ArmConfig]) -> str:
        """The name of an arm, or of its twin without frames, for a reader."""
        own = next((arm for arm in arms if arm.name == name.removesuffix(NO_FRAMES)), None)
        return f"{name} ({SAW_NONE})" if own and self.saw_none(own) else name


@dataclass(frozen=True)
class RunData:
    """The small files of a run; traces and verdicts are streamed by those who need them."""

    run: RunFolder
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
    learning: Learning = field(default_factory=Learning)
    planted: dict[tuple[str, int], str] = field(default_factory=dict)
    """Question id and sample of each trace with a planted defect, to the kind of defect."""

    @property
    def finished(self) -> set[str]:
        """Stages that are done."""
        stages = _mapping(self.provenance.get("stages"))
        return {name for name, stage in stages.items() if _mapping(stage).get("state") == "done"}

    def metric(self, *, arm: str, mode: str, split: str, kind: str, metric: str) -> MetricRow | None:
        """The row of that key, or None."""
        wanted = (arm, mode, split, kind, metric)
        return next((r for r in self.metrics if (r.arm, r.mode, r.split, r.kind, r.metric) == wanted), None)

    def modes(self, arm: str) -> list[str]:
        """Modes in which an arm has metrics, in the order of the rows."""
        return list(dict.fromkeys(row.mode for row in self.metrics if row.arm == arm))


def load_run(run: RunFolder, *, door: Literal["video", "text"] = "video") -> RunData:
    """What is in the folder of `run`; nobody misses annotations in a text run."""
    missing: list[str] = []
    unmissed = missing if door == "video" else []
    predictions = [row for path in _parts(run.predictions, run, missing) for row in rows_or_none(path, Prediction)]
    metrics = _json(run.metrics, missing)
    return RunData(
        run=run,
        provenance=_mapping(_json(run.run_json, missing)),
        questions={row.id: row for row in _rows(run.questions, Question, missing)},
        annotations={row.uri: row for row in _rows(run.annotations, ClipAnnotation, unmissed)},
        predictions=predictions,
        metrics=[_record(MetricRow, row, run.metrics) for row in metrics] if isinstance(metrics, list) else [],
        funnel=_funnel(run, missing),
        teacher=_mapping(_json(run.teacher_stats, missing)),
        refusals=list(rows_or_none(run.refusals, Refusal)),
        curves=_curves(run),
        missing=tuple(missing),
        learning=read_learning(run),
        planted={(row.question_id, row.sample_index): row.fault for row in read_faults(run)},
    )


def read_learning(run: RunFolder) -> Learning:
    """What each trained arm of a run saw, by its training.json."""
    arms = {}
    for path in sorted((run.root / "student").glob("*/training.json")):
        facts = _mapping(read_json(path))
        # A record of before the seen ones were counted tells those that there were.
        rationales = facts.get("rationales_seen", facts.get("rationales"))
        questions = facts.get("questions_seen", facts.get("questions"))
        arms[path.parent.name] = Learned(_count(questions), _count(rationales))
    return Learning(arms)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


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
    yield from rows_or_none(path, model)


def _parts(folder: Path, run: RunFolder, missing: list[str]) -> list[Path]:
    parts = sorted(folder.glob("*.jsonl"))
    if not parts:
        missing.append(f"{folder.relative_to(run.root)}/*.jsonl")
    return parts


def _json(path: Path, missing: list[str]) -> object:
    if not path.exists():
        missing.append(path.name)
        return None
    return _read(path)


def _read(path: Path) -> object:
    """The content of a JSON file that is there.

    Raises:
        SourceError: it is not JSON.
    """
    try:
        return read_json(path)
    except ValueError as error:
        raise SourceError(f"{path} is not JSON ({error}); delete it and run the stage that makes it again") from error


def _funnel(run: RunFolder, missing: list[str]) -> Funnel | None:
    value = _json(run.funnel, missing)
    return None if value is None else _record(Funnel, value, run.funnel)


def _record(model: type[Row], value: object, path: Path) -> Row:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problem = error.errors()[0]
        told = f"{problem['msg']} at {problem['loc']}"
        raise SourceError(f"{path}: {told}; delete it and run the stage that makes it again") from None


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _curves(run: RunFolder) -> dict[str, list[Json]]:
    curves: dict[str, list[Json]] = {}
    for path in sorted((run.root / "student").glob("*/metrics.jsonl")):
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        try:
            curves[path.parent.name] = [parse_json(line) for line in lines if line.strip()]
        except ValueError as error:
            raise SourceError(f"{path} holds a line that is not JSON ({error}); train this arm again") from error
    return curves
