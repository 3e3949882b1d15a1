"""Made-up questions with agent traces of every kind, no clip needed: for measuring filters and for trying settings.

Trace i depends on (seed, i) only. Tool results have the form that real tools return, with noise; rationales come from
the real verbaliser. Some attempts fail or answer wrongly, as real ones do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from numpy.random import PCG64, Generator, SeedSequence

from aot.rationales.notation import format_span
from aot.records import JsonDict, MediaRef, Question, Step, TimeSpan, ToolCall, Trace, TraceError
from aot.teacher.verbalise import verbalise

Item = TypeVar("Item")

KINDS = ("next_choice", "next_open", "before", "after", "count", "when", "present")
QUESTIONS_PER_CLIP = 4
_TEXTS = {
    "next_choice": "What is the next step?",
    "next_open": "Which step comes next?",
    "before": "Which step comes right before {event}?",
    "after": "Which step comes right after {event}?",
    "count": "How often does {event} happen?",
    "when": "When does {event} happen?",
    "present": "Is there a {event} in the clip?",
}
_TYPES = {"next_choice": "choice", "count": "integer", "when": "span", "present": "yes_no"}


@dataclass(frozen=True)
class Case:
    """A question and one attempt at it."""

    question: Question
    trace: Trace


@dataclass(frozen=True)
class _Clip:
    """What the tools say about one made-up clip."""

    uri: str
    window: TimeSpan
    segments: list[JsonDict]

    def named(self, label: str) -> list[JsonDict]:
        """The segments with one label."""
        return [segment for segment in self.segments if segment["label"] == label]


def synthetic_case(index: int, *, seed: int, labels: Sequence[str], failing: float = 0.1) -> Case:
    """Question and trace number `index`; a share `failing` of the attempts failed or answers wrongly."""
    clip = _clip(index // QUESTIONS_PER_CLIP, seed=seed, labels=labels)
    draw = Generator(PCG64(SeedSequence([seed, 1, index])))
    kind = KINDS[index % len(KINDS)]
    event = str(_pick(clip.segments, draw)["label"])
    if kind == "present":
        event = (event if draw.random() < 0.5 else str(_pick(labels, draw))).rpartition(" ")[2]
    elif kind in ("before", "after"):
        order = clip.segments[1:] if kind == "before" else clip.segments[:-1]
        event = str(_pick(order, draw)["label"])
    steps, answer = _solve(kind, event, clip, draw=draw, labels=labels)
    if draw.random() < 0.15:
        steps = _with_failed_first(steps)
    support = tuple(step.index for step in steps if step.status == "ok")
    question = _question(index, kind, event, answer, clip, draw=draw, labels=labels)
    rationale = verbalise(question=question, steps=steps, support=support, answer=answer, seed=seed)
    trace = Trace(
        question_id=question.id, sample_index=0, teacher="rules", steps=steps, support=support, rationale=rationale,
        answer=answer, status="ok", config_digest="synthetic",
    )  # fmt: skip
    if draw.random() < failing:
        return Case(*_spoil(question, trace, draw=draw, labels=labels))
    return Case(question, trace)


def _clip(index: int, *, seed: int, labels: Sequence[str]) -> _Clip:
    draw = Generator(PCG64(SeedSequence([seed, 0, index])))
    time_s = round(float(draw.uniform(0.0, 0.5)), 2)
    segments: list[JsonDict] = []
    for _ in range(int(draw.integers(3, 11))):
        end_s = round(time_s + float(draw.uniform(1.0, 2.6)), 2)
        again = segments and draw.random() < 0.2
        label = str(segments[0]["label"] if again else _pick(labels, draw))
        segments.append({"start_s": time_s, "end_s": end_s, "label": label, "score": round(float(draw.random()), 3)})
        time_s = end_s
    return _Clip(f"clips/{index:06}.mp4", TimeSpan(start_s=0.0, end_s=round(time_s + 0.3, 2)), segments)


def _solve(
    kind: str, event: str, clip: _Clip, *, draw: Generator, labels: Sequence[str]
) -> tuple[tuple[Step, ...], str]:
    """Steps of a plan for one kind of question, and the answer they lead to."""
    window = clip.window.model_dump()
    listing = _step(1, clip, "list_steps", window, {"steps": clip.segments})
    if kind.startswith("next"):
        return _solve_next(listing, clip, draw=draw, labels=labels)
    if kind in ("before", "after"):
        return _solve_neighbour(kind, event, listing, clip, draw=draw)
    moments = [{"start_s": s["start_s"], "end_s": s["end_s"], "score": s["score"]} for s in clip.named(event)]
    by_list = draw.random() < 0.3  # another route: the listing alone
    asked: JsonDict = {"event": event, **window}
    if kind == "count":
        result = {"event": event, "count": len(moments), "moments": moments}
        return (listing if by_list else _step(1, clip, "count_events", asked, result),), str(len(moments))
    if kind == "when":
        span = _pick(moments, draw)
        found = _step(1, clip, "find_moments", asked, {"event": event, "moments": moments})
        return (listing if by_list else found,), format_span(span["start_s"], span["end_s"])
    seen = [segment for segment in clip.segments if str(segment["label"]).endswith(event)]
    boxes = [
        {"time_s": round((s["start_s"] + s["end_s"]) / 2, 2), "box_xyxy": [4, 4, 40, 40], "score": s["score"]}
        for s in seen
    ]
    found = _step(1, clip, "detect_objects", {"object": event, **window}, {"object": event, "boxes": boxes})
    return (listing if by_list else found,), "yes" if boxes else "no"


def _solve_next(listing: Step, clip: _Clip, *, draw: Generator, labels: Sequence[str]) -> tuple[tuple[Step, ...], str]:
    history = [str(segment["label"]) for segment in clip.segments]
    seen: tuple[Step, ...] = (listing,)
    if draw.random() < 0.3:  # a second look at the end, which may see something else
        start_s = clip.segments[-1]["start_s"]
        label = history[-1] if draw.random() < 0.7 else str(_pick(labels, draw))
        look = {"start_s": start_s, "end_s": clip.window.end_s}
        result = {"label": label, "score": 0.7, "alternatives": [{"label": str(_pick(labels, draw)), "score": 0.2}]}
        again = _step(2, clip, "recognise_action", look, result)
        seen = (listing, again.model_copy(update={"span": TimeSpan(start_s=start_s, end_s=clip.window.end_s)}))
        history[-1] = label
    likely = [str(_pick(labels, draw)) for _ in range(3)]
    options = [{"label": label, "prob": prob} for label, prob in zip(likely, (0.6, 0.3, 0.1), strict=True)]
    result = {"task": "omelette", "task_prob": 0.8, "last": history[-1], "candidates": options}
    proposal = _step(len(seen) + 1, clip, "propose_next", {"history": history}, result)
    return (*seen, proposal.model_copy(update={"span": None})), likely[0]


def _solve_neighbour(
    kind: str, event: str, listing: Step, clip: _Clip, *, draw: Generator
) -> tuple[tuple[Step, ...], str]:
    side = 1 if kind == "after" else -1
    places = [i for i, segment in enumerate(clip.segments) if segment["label"] == event]
    at = next(i for i in places if 0 <= i + side < len(clip.segments))
    answer = str(clip.segments[at + side]["label"])
    window = clip.window.model_dump()
    if draw.random() < 0.5:
        order = _step(2, clip, "read_order", {"events": [], **window}, {"order": clip.segments})
        return ((listing, order) if draw.random() < 0.5 else (listing,)), answer
    moments = [{"start_s": s["start_s"], "end_s": s["end_s"], "score": s["score"]} for s in clip.named(event)]
    found = _step(1, clip, "find_moments", {"event": event, **window}, {"event": event, "moments": moments})
    beside = clip.segments[at + 1 :] if kind == "after" else clip.segments[:at]
    return (found, _step(2, clip, "list_steps", window, {"steps": beside})), answer


def _step(index: int, clip: _Clip, tool: str, arguments: JsonDict, result: JsonDict) -> Step:
    return Step(index=index, call=ToolCall(tool=tool, arguments=arguments), result=result, span=clip.window)


def _with_failed_first(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    failed = Step(index=1, call=ToolCall(tool="recognise_action"), status="failed", error="no frames in the window")
    return (failed, *(step.model_copy(update={"index": step.index + 1}) for step in steps))


def _question(
    index: int, kind: str, event: str, answer: str, clip: _Clip, *, draw: Generator, labels: Sequence[str]
) -> Question:
    choices: tuple[str, ...] = ()
    if kind == "next_choice":
        others = [label for label in labels if label != answer]
        options = [answer, *(others[int(i)] for i in draw.choice(len(others), size=3, replace=False))]
        choices = tuple(options[int(i)] for i in draw.permutation(4))
    return Question.model_validate(
        {
            "id": f"q{index:06}", "dataset": "synthetic", "split": "train", "kind": kind, "choices": choices,
            "text": _TEXTS[kind].format(event=event), "answer": answer, "answer_type": _TYPES.get(kind, "text"),
            "media": MediaRef(uri=clip.uri, end_s=clip.window.end_s), "group": clip.uri,
        }
    )  # fmt: skip


def _spoil(question: Question, trace: Trace, *, draw: Generator, labels: Sequence[str]) -> tuple[Question, Trace]:
    """A natural failure: a failed attempt, or a gold answer that the teacher missed."""
    if draw.random() < 0.4 or question.answer_type not in ("choice", "text"):
        error = TraceError(boundary="tool", message="every step failed")
        empty = {"status": "failed", "error": error, "rationale": "", "answer": "", "steps": (), "support": ()}
        return question, trace.model_copy(update=empty)
    others = [label for label in question.choices or labels if label != trace.answer]
    return question.model_copy(update={"answer": _pick(others, draw)}), trace


def _pick(items: Sequence[Item], draw: Generator) -> Item:
    return items[int(draw.integers(len(items)))]
