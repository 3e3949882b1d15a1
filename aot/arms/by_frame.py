"""A teacher's chain in the words of who is shown single frames: the step of each frame, not the span of each step.

A student sees frames and their times. A span ends between two frames, so its bounds can only be guessed, and to write
one sentence for a step it has to tell where the next one begins. Naming frame by frame asks for neither.
"""

from collections.abc import Sequence

from aot.rationales.notation import CITATION, SPAN, format_time, sentences_of
from aot.rationales.wording import in_sentence
from aot.records import Step, Trace

_GATHER = "Gather: "


def by_frame(trace: Trace, times_s: Sequence[float]) -> Trace:
    """The same chain, whose Gather part names each frame, and whose call lists what each frame shows.

    Unchanged is a chain without a call that lists all steps which were seen, in their order, each once, and one whose
    frames miss such a step.

    Args:
        trace: with citations of its own steps.
        times_s: of the frames that a question shows, ascending.
    """
    for call in trace.steps:
        seen = _seen_at(trace, times_s, before=call)
        labels = [label for _, label, _ in seen]
        keys = [key for key, value in _lists(call).items() if seen and value == list(dict.fromkeys(labels))]
        if keys:
            assert call.call
            arguments = {**call.call.arguments, **dict.fromkeys(keys, labels)}
            per_frame = call.model_copy(update={"call": call.call.model_copy(update={"arguments": arguments})})
            steps = tuple(per_frame if step is call else step for step in trace.steps)
            named = [f"{format_time(at)} {in_sentence(label)} [{index}]." for at, label, index in seen]
            sources = {index for _, _, index in seen}
            return trace.model_copy(update={"steps": steps, "rationale": _renamed(trace.rationale, named, sources)})
    return trace


def _lists(step: Step) -> dict[str, object]:
    if step.call is None or step.status != "ok":
        return {}
    return {key: value for key, value in step.call.arguments.items() if isinstance(value, list)}


def _seen_at(trace: Trace, times_s: Sequence[float], *, before: Step) -> list[tuple[float, str, int]]:
    """Time, step and number of the tool call that saw it, of each frame at which earlier calls saw anything."""
    spans = [
        (start_s, end_s, one.label, step.index)
        for step in trace.steps
        if step.index < before.index and step.status == "ok"
        for one in step.findings
        if one.kind == "event" and one.label
        for start_s, end_s in one.spans_s
    ]
    shown = ((at, next((span for span in spans if span[0] <= at < span[1]), None)) for at in times_s)
    return [(at, span[2], span[3]) for at, span in shown if span]


def _renamed(rationale: str, named: Sequence[str], sources: set[int]) -> str:
    """The rationale with `named` where spans were gathered from the calls `sources`."""
    lines = []
    for line in rationale.split("\n"):
        if line.startswith(_GATHER):
            sentences = sentences_of(line.removeprefix(_GATHER))
            kept = [one for one in sentences if not (SPAN.search(one) and _cited(one) <= sources)]
            line = _GATHER + " ".join([*named, *kept])
        lines.append(line)
    return "\n".join(lines)


def _cited(sentence: str) -> set[int]:
    return {int(mark[1]) for mark in CITATION.finditer(sentence)}
