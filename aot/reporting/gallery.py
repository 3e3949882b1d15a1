"""Which traces the report shows: spread over kinds of question and over what became of the trace."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from aot.config import FilterConfig
from aot.evaluation.scoring import score
from aot.files.run_folder import RunFolder
from aot.filtering.chain import judge_alone
from aot.filtering.subject import Subject
from aot.records import Prediction, Question, Trace, Verdict
from aot.reporting.load import RunData, rows_or_none
from aot.reporting.panels import Panel, PanelSource, make_panel
from aot.reporting.thumbs import ThumbBook

Key = tuple[str, int]
"""Question id and sample index of a trace."""
STATES = ("kept", "held out, student right", "rejected", "held out, student wrong", "not filtered")


def trace_states(data: RunData, *, arm: str | None) -> dict[Key, str]:
    """What became of each trace: kept, rejected, held out (student right or wrong), or not filtered."""
    states: dict[Key, str] = {}
    right = _right_answers(data, arm)
    for path in (*_trace_parts(data.run), data.run.kept, data.run.dropped):
        for trace in rows_or_none(path, Trace):
            if path == data.run.kept:
                states[_key(trace)] = "kept"
            elif path == data.run.dropped:
                states[_key(trace)] = "rejected"
            elif trace.question_id in right:
                states[_key(trace)] = f"held out, student {'right' if right[trace.question_id] else 'wrong'}"
            else:
                states.setdefault(_key(trace), "not filtered")
    return states


def pick_traces(states: dict[Key, str], questions: dict[str, Question], *, limit: int) -> list[Key]:
    """At most `limit` traces, taken in turns from each state and, within it, from each kind of question."""
    piles: defaultdict[str, defaultdict[str, list[Key]]] = defaultdict(lambda: defaultdict(list))
    for key, state in sorted(states.items()):
        if key[0] in questions:
            piles[state][questions[key[0]].kind].append(key)
    queues = [_take_turns(list(piles[state].values())) for state in STATES if state in piles]
    picked: list[Key] = []
    seen_questions: set[str] = set()
    spare: list[Key] = []
    for key in _take_turns([list(queue) for queue in queues]):
        (spare if key[0] in seen_questions else picked).append(key)
        seen_questions.add(key[0])
    return (picked + spare)[:limit]


def make_gallery(data: RunData, book: ThumbBook, *, limit: int, arm: str | None, filters: FilterConfig) -> list[Panel]:
    """The panels of the traces that `gallery_sources` picks."""
    sources = gallery_sources(data, limit=limit, arm=arm, filters=filters)
    return [make_panel(source, book, anchor=f"t{number}") for number, source in enumerate(sources, start=1)]


def gallery_sources(data: RunData, *, limit: int, arm: str | None, filters: FilterConfig) -> Iterator[PanelSource]:
    """At most `limit` traces with all that is known of them; `arm` is the student whose mistakes are looked for.

    Traces of other splits than train are not filtered by a run; here they get the verdicts that need no other trace.
    """
    states = trace_states(data, arm=arm)
    picked = pick_traces(states, data.questions, limit=limit)
    traces = _load_traces(data.run, set(picked))
    verdicts: defaultdict[Key, list[Verdict]] = defaultdict(list)
    for verdict in rows_or_none(data.run.verdicts, Verdict):
        if (verdict.question_id, verdict.sample_index) in traces:
            verdicts[verdict.question_id, verdict.sample_index].append(verdict)
    predictions: defaultdict[str, list[Prediction]] = defaultdict(list)
    for prediction in data.predictions:
        predictions[prediction.question_id].append(prediction)
    for key in picked:
        if key not in traces:
            continue
        question = data.questions[key[0]]
        yield PanelSource(
            trace=traces[key],
            question=question,
            state=states[key],
            annotation=data.annotations.get(question.media.uri) if question.media else None,
            verdicts=verdicts[key] or judge_alone(Subject(traces[key], question, filters)),
            predictions=predictions[key[0]],
            planted=data.planted.get(key, ""),
        )


def _load_traces(run: RunFolder, keys: set[Key]) -> dict[Key, Trace]:
    """The traces of `keys`; the working files first, because only they know how long a call took."""
    found: dict[Key, Trace] = {}
    for path in (*_trace_parts(run), run.kept, run.dropped):
        for trace in rows_or_none(path, Trace):
            if _key(trace) in keys:
                found.setdefault(_key(trace), trace)
    return found


def _right_answers(data: RunData, arm: str | None) -> dict[str, bool]:
    mode = "direct" if "direct" in data.modes(arm or "") else next(iter(data.modes(arm or "")), "direct")
    rows = [p for p in data.predictions if p.arm == arm and p.mode == mode and p.question_id in data.questions]
    return {p.question_id: score(p, data.questions[p.question_id]).correct for p in rows}


def _take_turns(queues: Sequence[Sequence[Key]]) -> Iterator[Key]:
    for turn in range(max((len(queue) for queue in queues), default=0)):
        for queue in queues:
            if turn < len(queue):
                yield queue[turn]


def _trace_parts(run: RunFolder) -> list[Path]:
    return sorted(run.traces.glob("*.jsonl"))


def _key(trace: Trace) -> Key:
    return trace.question_id, trace.sample_index
