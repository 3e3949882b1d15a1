"""Students that call tools: how often, what was wrong with their plans, and examples beside those of the teacher."""

from collections.abc import Iterator
from typing import Any

from aot.evaluation.acting import PLANS
from aot.evaluation.scoring import score
from aot.files.traces import read_traces
from aot.records import Prediction, Trace
from aot.reporting.load import RunData, Student, rows_or_none
from aot.reporting.pivot import Heading, Pivot, cell_of, clip_text, pivot
from aot.reporting.sections import Block, Section, note, tables, words
from aot.reporting.sections.gallery import reply_view, result_lines

MODE = "tools"
SHOWN = 6
"""Plans in full."""
USES = {
    "accuracy": "right", "tool_usage_rate": "calls any tool", "calls_mean": "calls", "tokens_mean": "tokens, all turns",
}  # fmt: skip
REASONS = {
    "never_called": "never calls a tool",
    "answered_before_looking": "answers before any tool returned a result",
    "unknown_tool": "calls an unknown tool",
    "bad_arguments": "calls a tool with wrong arguments",
    "malformed_call": "writes a call that cannot be read",
    "second_bad_call": "stopped after a second bad call",
    "tool_failed": "a tool failed",
    "found_nothing": "a tool found nothing",
    "result_cut": "a result was cut short",
    "wrote_result": "writes a result itself",
    "quoted_unseen": "quotes what no tool returned",
    "not_an_option": "answers none of the options; the likeliest one was taken",
    "too_many_calls": "stopped by the limit on calls",
    "too_many_turns": "stopped by the limit on turns",
    "too_slow": "stopped by the limit on time",
    "cut_off": "a reply was cut off",
    "no_room": "the conversation became too long",
    "unreadable_result": "a result could not be shown to it",
}
TEXT_CHARS, LINES = 600, 12
View = dict[str, Any]
"""What acting.html.j2 shows of one plan, by the names that it uses there."""


def use_tables(data: RunData) -> list[Pivot]:
    """For each split: students that call tools over what they do with them, and over what is odd."""
    rows = [Heading(one, data.name(one), data.learning.what(one[0])) for one in _acting(data)]
    names = {**USES, **{f"{PLANS}{reason}": text for reason, text in REASONS.items()}}
    columns = [Heading(metric, text) for metric, text in names.items()]
    made = []
    for split in data.splits:
        for table in pivot(split, rows, columns, lambda one, metric: cell_of(data.find(one, split, metric))):  # noqa: B023
            made.append(table.turned("") if len(table.columns) > len(table.rows) else table)
    return made


def _acting(data: RunData) -> list[Student]:
    return [student for student in data.students if student[1] == MODE]


def plan_views(data: RunData) -> list[View]:
    """Plans of the first student that calls tools, each beside the teacher's: of every oddity one, and right ones."""
    student = next(iter(_acting(data)), None)
    if student is None:
        return []
    rows = {p.question_id: p for p in data.predictions if (p.arm, p.mode) == student}
    picked = {
        trace.question_id: trace
        for trace in _picked(rows_or_none(data.run.student_traces_of(student[0]), Trace), data, rows)
    }
    teachers: dict[str, Trace] = {}
    if data.run.traces.is_dir():
        for trace in read_traces(data.run):
            if trace.question_id in picked:
                teachers.setdefault(trace.question_id, trace)
    return [
        {
            "question": data.questions[id_],
            "student": student[0],
            "reply": reply_view(rows[id_], data.questions[id_]),
            "reasons": [REASONS.get(reason, reason) for reason in trace.reasons],
            "turns": list(_turns(trace)),
            "teacher": teachers.get(id_),
            "teacher_turns": list(_turns(teachers[id_])) if id_ in teachers else [],
        }
        for id_, trace in picked.items()
    ]


def _picked(traces: Iterator[Trace], data: RunData, rows: dict[str, Prediction]) -> Iterator[Trace]:
    """At most SHOWN of the plans: the first of each mixture of right or wrong and oddities."""
    seen: set[tuple[bool, tuple[str, ...]]] = set()
    for trace in traces:
        question = data.questions.get(trace.question_id)
        if question is None or trace.question_id not in rows or len(seen) == SHOWN:
            continue
        kind = (score(rows[trace.question_id], question).correct, trace.reasons)
        if kind not in seen:
            seen.add(kind)
            yield trace


def _turns(trace: Trace) -> Iterator[View]:
    """What was said and called in order; of a teacher without a model its calls, then its rationale."""
    if not trace.turns:
        for step in trace.steps:
            yield {"call": _call(step.call.tool, step.call.arguments) if step.call else "", "text": step.text,
                   "lines": result_lines(step.result)[:LINES], "error": step.error}  # fmt: skip
        yield {"call": "", "text": clip_text(trace.rationale, TEXT_CHARS), "lines": (), "error": ""}
        return
    steps = {step.index: step for step in trace.steps}
    for turn in trace.turns:
        if turn.role == "tool":
            called = steps.get(turn.step or 0)
            lines = result_lines(called.result)[:LINES] if called else ()
            text = "" if lines else clip_text(turn.text, TEXT_CHARS)
            yield {"call": "", "text": text, "lines": lines, "error": called.error if called else ""}
            continue
        calls = " ".join(f"{one.name}({clip_text(one.arguments, 300)})" for one in turn.calls)
        yield {"call": calls, "text": clip_text(turn.text, TEXT_CHARS), "lines": (), "error": ""}


def _call(tool: str, arguments: dict[str, Any]) -> str:
    return clip_text(f"{tool}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})", 300)


def _blocks(data: RunData) -> list[Block]:
    views = plan_views(data)
    shown = [words(f"Plans of {views[0]['student']}, each beside the teacher's plan for the same question.")]
    return [
        *tables(use_tables(data), more="the other splits"),
        *note(
            "Shares are of all questions. A plan may have several of these problems and still give the right answer."
        ),
        *([*shown, Block("template", "acting.html.j2", values={"views": views})] if views else []),
    ]


SECTION = Section(
    "tools", "Tools", "How students use their tools", _blocks,
    "A student that was taught to call tools plans as the teacher does: with the same tools, budgets and schemas. An "
    "invalid call is returned to it once; a second one ends its plan without an answer.",
    applies=lambda data: data.has_metric("tool_usage_rate"), needs="a student that calls tools",
)  # fmt: skip
