"""A tool whose result has fields of its own is read everywhere by the findings that it gives, and by nothing else."""

import json
from dataclasses import dataclass, field

import pytest
from teacher_scenes import CARD, annotation, drawn_view, question

from aot.config import FilterConfig
from aot.evaluation.baselines import seen_history
from aot.faults.plant import plant
from aot.faults.video_edits import video_edits
from aot.files.parts import KeyedRows
from aot.filtering.chain import judge_alone
from aot.filtering.subject import Subject
from aot.rationales.notation import parse_rationale
from aot.records import Finding, Question, Step, ToolCall, Trace
from aot.reporting.sections.gallery import timeline_of
from aot.teacher.bench import Budget, Parts
from aot.teacher.executor import run_candidate
from aot.teacher.planner import Calls, FinalAnswer, Scene, Transcript
from aot.teacher.tools import Tool
from aot.teacher.tools.base import CachedResult, ToolContext, ToolPart, ToolResult, WindowArguments
from aot.teacher.tools.pixels.matcher import Looker
from aot.teacher.tools.procedure import ProcedureModel
from aot.teacher.tools.registry import TOOLS


class Entry(ToolPart):
    activity: str
    from_s: float
    to_s: float
    certainty: float


class DiaryResult(ToolResult):
    entries: tuple[Entry, ...]

    def findings(self, arguments: WindowArguments) -> tuple[Finding, ...]:
        return tuple(
            Finding(kind="event", label=one.activity, spans_s=((one.from_s, one.to_s),), score=one.certainty)
            for one in self.entries
        )


def keep_diary(arguments: WindowArguments, context: ToolContext) -> DiaryResult:
    days = (("knead dough", 0.5, 2.0), ("bake bread", 2.0, 4.5))
    return DiaryResult(entries=tuple(Entry(activity=a, from_s=b, to_s=c, certainty=0.8) for a, b, c in days))


DIARY = Tool(
    name="keep_diary", version="1", description="Tell what goes on.", Arguments=WindowArguments, Result=DiaryResult,
    run=keep_diary, source="pixels",
)  # fmt: skip


@dataclass
class AsksTheDiary:
    """Looks once, then answers."""

    answer: str
    name: str = "diary"
    transcript: Transcript = field(default_factory=Transcript)

    def start(self, question: Question, *, scene: Scene, candidate: int) -> "AsksTheDiary":
        return self

    def next(self, steps: tuple[Step, ...]) -> Calls | FinalAnswer:
        whole = {"start_s": 0.0, "end_s": 4.0}
        return FinalAnswer(self.answer, (1,)) if steps else Calls((ToolCall(tool="keep_diary", arguments=whole),))


BEFORE = question("before", "Which step comes right before bake bread?", answer="knead dough", split="train")


@pytest.fixture(scope="module")
def trace() -> Trace:
    rows = [annotation("0", "bread", "knead dough", "bake bread")]
    kit = Parts(
        planner=AsksTheDiary("knead dough"), tools={**TOOLS, "keep_diary": DIARY}, looker=Looker(CARD),
        procedure=ProcedureModel.from_annotations(rows), cache=KeyedRows(None, CachedResult), seed=0, config_digest="d",
        budget=Budget(max_calls=3, time_limit_s=60.0),
    )  # fmt: skip
    view = drawn_view("wash tomato", "chop tomato")
    first, second = (run_candidate(BEFORE, view, kit, candidate=0) for _ in range(2))
    assert (second.usage.cached_calls, second.steps[0].findings) == (1, first.steps[0].findings)
    return first


def problems(trace: Trace) -> list[str]:
    verdicts = judge_alone(Subject(trace, BEFORE, FilterConfig()))
    return [f"{one.filter}.{one.reason}" for one in verdicts if not one.keep]


def test_its_findings_reach_the_rationale_and_the_filters_keep_it(trace: Trace) -> None:
    assert parse_rationale(trace.rationale).parts["Gather"] in (
        "0.5s-2.0s knead dough [1]. 2.0s-4.5s bake bread [1].", "knead dough 0.5s-2.0s [1]. bake bread 2.0s-4.5s [1].",
    )  # fmt: skip
    assert problems(trace) == []


def test_what_it_did_not_say_is_no_evidence(trace: Trace) -> None:
    for lie in ("slice bread", "wash dough"):
        said = trace.model_copy(update={"rationale": trace.rationale.replace("knead dough", lie)})
        assert any(problem.startswith("evidence.") for problem in problems(said))
    mute = trace.steps[0].model_copy(update={"findings": ()})
    assert any(one.startswith("evidence.") for one in problems(trace.model_copy(update={"steps": (mute,)})))


def test_faults_baselines_and_the_report_read_them_too(trace: Trace) -> None:
    edits = video_edits(("peel carrot", "boil rice"))
    damaged = [plant(trace, BEFORE, edits, rate=1.0, seed=seed)[0] for seed in range(20)]
    assert any("peel carrot" in one.rationale or "boil rice" in one.rationale for one in damaged)
    assert seen_history(trace) == ("knead dough", "bake bread")
    timeline = timeline_of(trace, BEFORE, None)
    assert timeline is not None and "bake bread" in str(timeline.shapes)


def test_a_trace_of_an_earlier_version_is_refused_by_one_sentence(trace: Trace) -> None:
    assert Trace.model_validate_json(trace.model_dump_json()) == trace
    without = trace.model_dump(mode="json")
    del without["steps"][0]["findings"]
    with pytest.raises(ValueError, match=r"result without findings.*run generate again in a new run folder"):
        Trace.model_validate_json(json.dumps(without))
