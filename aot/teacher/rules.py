"""The rule planner: each question kind has several routes of tool calls; candidate i takes another route or setting.

A route is a generator: it yields a tool call and receives the finished step. `RulesPlan` runs it again over the
steps so far, so no state is kept. A route that cannot go on hands over, once, to the next route of its kind.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from aot.errors import ParseError, ToolError
from aot.records import Question, Step, ToolCall
from aot.teacher.planner import Calls, FinalAnswer, Scene, Spent, named_in

Route = Generator[ToolCall, Step, FinalAnswer]
LOOK_BACK_S = 1.2
"""How far beside a moment the recognising route looks for its neighbour."""
_FPS = (None, 2.0, 1.5)
"""Frame rate of list_steps in the first, second and third round over the routes."""
_MIN_SCORE = (0.0, 0.3, 0.5)
_BOX_SCORE = (0.5, 0.4, 0.6)
"""Least score of a box that tells that an object is there, by round."""


@dataclass(frozen=True)
class Asked:
    """A question as its routes see it."""

    question: Question
    scene: Scene
    round: int
    """Counts how often all routes were used; picks the frame rate and threshold."""

    @property
    def window(self) -> dict[str, Any]:
        """Arguments for the whole visible window."""
        return {"start_s": round(self.scene.start_s, 1), "end_s": round(self.scene.end_s, 1)}

    @property
    def event(self) -> str:
        """The step that the text names; raises ParseError when it names no known one."""
        return named_in(self.question.text, self.scene.known_labels, what="step")

    @property
    def thing(self) -> str:
        """The object that the text names; raises ParseError when it names no known one."""
        return named_in(self.question.text, self.scene.objects, what="object")

    @property
    def fps(self) -> dict[str, Any]:
        """The frame rate argument of this round; nothing in the first."""
        fps = _FPS[self.round % len(_FPS)]
        return {} if fps is None else {"fps": fps}

    @property
    def min_score(self) -> dict[str, Any]:
        """The threshold argument of this round; nothing in the first."""
        score = _MIN_SCORE[self.round % len(_MIN_SCORE)]
        return {} if score == 0.0 else {"min_score": score}


class RulesPlanner:
    """Plans by rules; see ROUTES."""

    name = "rules-1"

    def start(self, question: Question, *, scene: Scene, candidate: int) -> "RulesPlan":
        """The route of a candidate; see `Planner.start`."""
        return RulesPlan(question, scene, candidate)


@dataclass(frozen=True)
class RulesPlan:
    """A route over the rules, one call in each turn."""

    question: Question
    scene: Scene
    candidate: int
    spent: Spent = field(default_factory=Spent)

    def next(self, steps: tuple[Step, ...]) -> Calls | FinalAnswer:
        """The next call or the answer; see `Plan.next`."""
        action = self._action(steps)
        return action if isinstance(action, FinalAnswer) else Calls((action,))

    def _action(self, steps: tuple[Step, ...]) -> ToolCall | FinalAnswer:
        kind = self.question.kind
        routes = ROUTES.get(kind)
        if routes is None:
            raise ParseError(
                f"no rule for questions of kind {kind!r}, only for {', '.join(sorted(ROUTES))}; "
                "any other question needs a chat planner (docs/chat.md)"
            )
        asked = Asked(self.question, self.scene, self.candidate // len(routes))
        chosen = self.candidate % len(routes)
        rest = steps
        try:
            return _follow(routes[chosen](asked), rest)
        except _GaveUpError as given_up:
            rest = steps[given_up.used :]
        try:
            return _follow(routes[(chosen + 1) % len(routes)](asked), rest)
        except _GaveUpError as given_up:
            raise ToolError(given_up.why) from None


class _GaveUpError(Exception):
    def __init__(self, why: str, *, used: int) -> None:
        super().__init__(why)
        self.why, self.used = why, used


def _follow(route: Route, steps: tuple[Step, ...]) -> ToolCall | FinalAnswer:
    """Run a route over the finished steps; gives the first action that is not done yet."""
    used = 0
    try:
        call = next(route)
        for step in steps:
            used += 1
            call = route.send(step)
    except StopIteration as stop:
        answer: FinalAnswer = stop.value
        return answer
    except ToolError as error:
        raise _GaveUpError(str(error), used=used) from None
    return call


def _ok(step: Step) -> dict[str, Any]:
    """The result of a finished step; a failed one ends the route."""
    if step.status != "ok" or step.result is None:
        tool = step.call.tool if step.call else "a step"
        raise ToolError(f"{tool} failed: {step.error}")
    return step.result


def _next_by_list(asked: Asked) -> Route:
    listed = yield ToolCall(tool="list_steps", arguments={**asked.window, **asked.fps})
    history = [step["label"] for step in _ok(listed)["steps"]]
    return (yield from _propose(asked, history, listed))


def _next_by_sparse_list(asked: Asked) -> Route:
    """Fewer frames, then a second look at the end, where the last step counts most."""
    listed = yield ToolCall(tool="list_steps", arguments={**asked.window, "fps": 2.0 if asked.round == 0 else 1.0})
    steps = _ok(listed)["steps"]
    if not steps:
        raise ToolError("list_steps found no known step in the window")
    last = steps[-1]
    seen = yield ToolCall(
        tool="recognise_action", arguments={"start_s": last["start_s"], "end_s": asked.window["end_s"]}
    )
    history = [step["label"] for step in steps[:-1]] + [_ok(seen)["label"]]
    return (yield from _propose(asked, history, listed, seen))


def _next_by_order(asked: Asked) -> Route:
    read = yield ToolCall(tool="read_order", arguments={"events": list(asked.scene.labels), **asked.window})
    history = [step["label"] for step in _ok(read)["order"]]
    return (yield from _propose(asked, history, read))


def _propose(asked: Asked, history: list[str], *seen: Step) -> Route:
    if not history:
        raise ToolError("no known step was seen, so nothing tells what comes next")
    among = {"among": list(asked.question.choices)} if asked.question.choices else {}
    proposed = yield ToolCall(tool="propose_next", arguments={"history": history, **among})
    best = _ok(proposed)["candidates"][0]["label"]
    return FinalAnswer(best, tuple(step.index for step in (*seen, proposed)))


def _neighbour_by_list(asked: Asked) -> Route:
    listed = yield ToolCall(tool="list_steps", arguments={**asked.window, **asked.fps})
    labels = [step["label"] for step in _ok(listed)["steps"]]
    if asked.event not in labels:
        raise ToolError(f"list_steps did not see {asked.event}")
    at = labels.index(asked.event) + _side(asked)
    if not 0 <= at < len(labels):
        raise ToolError(f"no known step was seen {asked.question.kind} {asked.event}")
    return FinalAnswer(labels[at], (listed.index,))


def _neighbour_by_moment(asked: Asked) -> Route:
    """Find the event first, then list the steps on the asked side of it."""
    found = yield ToolCall(tool="find_moments", arguments={"event": asked.event, **asked.window, **asked.min_score})
    start_s, end_s = _beside(asked, _best_moment(asked, _ok(found)["moments"]))
    listed = yield ToolCall(tool="list_steps", arguments={"start_s": start_s, "end_s": end_s})
    steps = _ok(listed)["steps"]
    if not steps:
        raise ToolError(f"no known step was seen {asked.question.kind} {asked.event}")
    return FinalAnswer(steps[-1 if _side(asked) < 0 else 0]["label"], (found.index, listed.index))


def _neighbour_by_recognition(asked: Asked) -> Route:
    """Find the event, then recognise what the moments right beside it show."""
    found = yield ToolCall(tool="find_moments", arguments={"event": asked.event, **asked.window, **asked.min_score})
    start_s, end_s = _beside(asked, _best_moment(asked, _ok(found)["moments"]))
    if _side(asked) < 0:
        start_s = max(start_s, round(end_s - LOOK_BACK_S, 1))
    else:
        end_s = min(end_s, round(start_s + LOOK_BACK_S, 1))
    seen = yield ToolCall(tool="recognise_action", arguments={"start_s": start_s, "end_s": end_s})
    return FinalAnswer(_ok(seen)["label"], (found.index, seen.index))


def _count_by_tool(asked: Asked) -> Route:
    counted = yield ToolCall(tool="count_events", arguments={"event": asked.event, **asked.window, **asked.min_score})
    return FinalAnswer(str(_ok(counted)["count"]), (counted.index,))


def _count_by_list(asked: Asked) -> Route:
    listed = yield ToolCall(tool="list_steps", arguments={**asked.window, "fps": _FPS[1 + asked.round % 2]})
    return FinalAnswer(str(sum(step["label"] == asked.event for step in _ok(listed)["steps"])), (listed.index,))


def _count_by_moments(asked: Asked) -> Route:
    found = yield ToolCall(tool="find_moments", arguments={"event": asked.event, **asked.window, "min_score": 0.5})
    return FinalAnswer(str(len(_ok(found)["moments"])), (found.index,))


def _when_by_moments(asked: Asked) -> Route:
    found = yield ToolCall(tool="find_moments", arguments={"event": asked.event, **asked.window, **asked.min_score})
    return FinalAnswer(_span_text(_best_moment(asked, _ok(found)["moments"])), (found.index,))


def _when_by_list(asked: Asked) -> Route:
    listed = yield ToolCall(tool="list_steps", arguments={**asked.window, "fps": _FPS[1 + asked.round % 2]})
    steps = [step for step in _ok(listed)["steps"] if step["label"] == asked.event]
    return FinalAnswer(_span_text(_best_moment(asked, steps)), (listed.index,))


def _when_by_order(asked: Asked) -> Route:
    read = yield ToolCall(tool="read_order", arguments={"events": [asked.event], **asked.window})
    return FinalAnswer(_span_text(_best_moment(asked, _ok(read)["order"])), (read.index,))


def _present_by_boxes(asked: Asked) -> Route:
    score = _BOX_SCORE[asked.round % len(_BOX_SCORE)]
    found = yield ToolCall(tool="detect_objects", arguments={"object": asked.thing, **asked.window, "min_score": score})
    return FinalAnswer("yes" if _ok(found)["boxes"] else "no", (found.index,))


def _present_by_steps(asked: Asked) -> Route:
    """Whether any step of the clip uses the object."""
    thing = asked.thing
    listed = yield ToolCall(tool="list_steps", arguments={**asked.window, **asked.fps})
    used = any(f" {step['label']}".endswith(f" {thing}") for step in _ok(listed)["steps"])
    return FinalAnswer("yes" if used else "no", (listed.index,))


def _side(asked: Asked) -> int:
    return -1 if asked.question.kind == "before" else 1


def _beside(asked: Asked, moment: dict[str, Any]) -> tuple[float, float]:
    """The stretch on the asked side of a moment.

    Raises:
        ToolError: the event begins or ends with the window.
    """
    window = asked.window
    sides = {-1: (window["start_s"], moment["start_s"]), 1: (moment["end_s"], window["end_s"])}
    start_s, end_s = sides[_side(asked)]
    if end_s - start_s < 0.2:
        raise ToolError(f"the window holds nothing {asked.question.kind} {asked.event}")
    return start_s, end_s


def _best_moment(asked: Asked, moments: list[dict[str, Any]]) -> dict[str, Any]:
    if not moments:
        raise ToolError(f"{asked.event} was not seen between {asked.scene.start_s:.1f} and {asked.scene.end_s:.1f} s")
    return max(moments, key=lambda moment: (moment["score"], -moment["start_s"]))


def _span_text(moment: dict[str, Any]) -> str:
    return f"{moment['start_s']:.1f}s-{moment['end_s']:.1f}s"


_NEXT = (_next_by_list, _next_by_sparse_list, _next_by_order)
_NEIGHBOUR = (_neighbour_by_moment, _neighbour_by_list, _neighbour_by_recognition)
ROUTES: dict[str, tuple[Callable[[Asked], Route], ...]] = {
    "next_choice": _NEXT,
    "next_open": _NEXT,
    "before": _NEIGHBOUR,
    "after": _NEIGHBOUR,
    "count": (_count_by_tool, _count_by_list, _count_by_moments),
    "when": (_when_by_moments, _when_by_list, _when_by_order),
    "present": (_present_by_boxes, _present_by_steps),
}
"""Question kind to its routes, the preferred one first."""
