"""The rule planner: each question kind has several routes of tool calls; candidate i takes another route or setting.

A route is a generator: it yields a tool call and receives the finished step. `RulesPlan` runs it again over the
steps so far, so no state is kept. A route that cannot go on hands over, once, to the next route of its kind.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from aot.errors import ParseError, ToolError
from aot.rationales.cards import ABOUT_CARDS, COMPARED, Card, about_card, cards_in, compare, told_card
from aot.rationales.findings import SEEN
from aot.rationales.notation import format_span
from aot.records import Finding, FindingKind, Question, Span, Step, ToolCall
from aot.teacher.planner import Calls, FinalAnswer, Scene, Transcript, named_in

Route = Generator[ToolCall, Step, FinalAnswer]
LOOK_BACK_S = 1.2
"""How far beside a moment the recognising route looks for its neighbour."""
_FPS = (None, 2.0, 1.5)
"""Frame rate of list_steps in the first, second and third round over the routes."""
_MIN_SCORE = (0.0, 0.3, 0.5)
_BOX_SCORE = (0.5, 0.4, 0.6)
"""Least score of a box that tells that an object is there, by round."""


@dataclass(frozen=True)
class Query:
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
    transcript: Transcript = field(default_factory=Transcript)

    def next(self, steps: tuple[Step, ...]) -> Calls | FinalAnswer:
        """The next call or the answer; see `Plan.next`."""
        action = self._action(steps)
        return action if isinstance(action, FinalAnswer) else Calls((action,))

    def _action(self, steps: tuple[Step, ...]) -> ToolCall | FinalAnswer:
        kind = self.question.kind
        routes = ROUTES.get(kind)
        if self.scene.book == "there" and kind in BOOK_ROUTES:
            routes = BOOK_ROUTES[kind]
        if routes is None:
            raise ParseError(
                f"no rule for questions of kind {kind!r}, only for {', '.join(sorted(ROUTES))}; "
                "any other question needs a chat planner (docs/chat.md)"
            )
        query, why = Query(self.question, self.scene, self.candidate // len(routes)), ""
        for place in (self.candidate, self.candidate + 1):
            try:
                return _follow(routes[place % len(routes)](query), steps)
            except _GaveUpError as given_up:
                steps, why = steps[given_up.used :], given_up.why
        raise ToolError(why)


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


def _seen(step: Step, *kinds: FindingKind) -> list[Finding]:
    """What a finished step saw, in the tool's order, or its findings of other kinds; a failed one ends the route."""
    if step.status != "ok":
        tool = step.call.tool if step.call else "a step"
        raise ToolError(f"{tool} failed: {step.error}")
    return [one for one in step.findings if one.kind in (kinds or SEEN)]


def _labels(step: Step) -> list[str]:
    return [one.label for one in _seen(step)]


def _next_by_list(query: Query) -> Route:
    listed = yield ToolCall(tool="list_steps", arguments={**query.window, **query.fps})
    return (yield from _propose(query, _seen(listed), listed))


def _next_by_sparse_list(query: Query) -> Route:
    """Fewer frames, then a second look at the end, where the last step counts most."""
    listed = yield ToolCall(tool="list_steps", arguments={**query.window, "fps": 2.0 if query.round == 0 else 1.0})
    steps = _seen(listed)
    if not steps:
        raise ToolError("list_steps found no known step in the window")
    start_s, _ = _span_of(steps[-1])
    last = yield ToolCall(tool="recognise_action", arguments={"start_s": start_s, "end_s": query.window["end_s"]})
    return (yield from _propose(query, _seen(listed)[:-1] + _seen(last), listed, last))


def _next_by_order(query: Query) -> Route:
    read = yield ToolCall(tool="read_order", arguments={"events": list(query.scene.labels), **query.window})
    return (yield from _propose(query, _seen(read), read))


def _propose(query: Query, events: list[Finding], *seen: Step) -> Route:
    history = [one.label for one in events]
    if not history:
        raise ToolError("no known step was seen, so nothing tells what comes next")
    among = {"among": list(query.question.choices)} if query.question.choices else {}
    scores = {"scores": [one.score for one in events]} if query.scene.weighs_scores else {}
    proposed = yield ToolCall(tool="propose_next", arguments={"history": history, **among, **scores})
    return FinalAnswer(_seen(proposed, "option")[0].label, tuple(step.index for step in (*seen, proposed)))


def _card_by_list(query: Query) -> Route:
    listed = yield ToolCall(tool="list_steps", arguments={**query.window, **query.fps})
    return (yield from _by_card(query, listed))


def _card_by_order(query: Query) -> Route:
    read = yield ToolCall(tool="read_order", arguments={"events": list(query.scene.labels), **query.window})
    return (yield from _by_card(query, read))


def _by_card(query: Query, seen: Step) -> Route:
    """What the card of the question says, or the best one in the book, about the steps that were seen."""
    labels = _labels(seen)
    if not labels:
        raise ToolError("no known step was seen, so there is nothing to compare with a card")
    in_question, support = told_card(query.question), [seen.index]
    if in_question is None:
        looked = yield ToolCall(tool="look_up_recipe", arguments={"steps": list(dict.fromkeys(labels))})
        _seen(looked)
        cards, support = cards_in([looked]), [seen.index, looked.index]
    else:
        cards = [in_question]
    for card in cards:
        if answer := _said(query, card, labels):
            return FinalAnswer(answer, tuple(support))
    names = ", ".join(card.name for card in cards) or "none has any of the steps that were seen"
    raise ToolError(f"the cards ({names}) say nothing about what was asked")


def _said(query: Query, card: Card, seen: list[str]) -> str:
    """What a card says; about the next step, the first in its order that was not seen and that an option names."""
    if kind := about_card(query.question):
        said = compare(kind, card, seen)
        return said.answer if said else ""
    among = query.question.choices
    return next((one for one in card.labels if one not in seen and (not among or one in among)), "")


def _neighbour_by_list(query: Query) -> Route:
    listed = yield ToolCall(tool="list_steps", arguments={**query.window, **query.fps})
    labels = _labels(listed)
    if query.event not in labels:
        raise ToolError(f"list_steps did not see {query.event}")
    at = labels.index(query.event) + _side(query)
    if not 0 <= at < len(labels):
        raise ToolError(f"no known step was seen {query.question.kind} {query.event}")
    return FinalAnswer(labels[at], (listed.index,))


def _neighbour_by_moment(query: Query) -> Route:
    """Find the event first, then list the steps on the asked side of it."""
    moments = yield ToolCall(tool="find_moments", arguments={"event": query.event, **query.window, **query.min_score})
    start_s, end_s = _beside(query, _best_moment(query, _seen(moments)))
    listed = yield ToolCall(tool="list_steps", arguments={"start_s": start_s, "end_s": end_s})
    labels = _labels(listed)
    if not labels:
        raise ToolError(f"no known step was seen {query.question.kind} {query.event}")
    return FinalAnswer(labels[-1 if _side(query) < 0 else 0], (moments.index, listed.index))


def _neighbour_by_recognition(query: Query) -> Route:
    """Find the event, then recognise what the moments right beside it show."""
    moments = yield ToolCall(tool="find_moments", arguments={"event": query.event, **query.window, **query.min_score})
    start_s, end_s = _beside(query, _best_moment(query, _seen(moments)))
    if _side(query) < 0:
        start_s = max(start_s, round(end_s - LOOK_BACK_S, 1))
    else:
        end_s = min(end_s, round(start_s + LOOK_BACK_S, 1))
    seen = yield ToolCall(tool="recognise_action", arguments={"start_s": start_s, "end_s": end_s})
    return FinalAnswer(_labels(seen)[0], (moments.index, seen.index))


def _count_by_tool(query: Query) -> Route:
    counted = yield ToolCall(tool="count_events", arguments={"event": query.event, **query.window, **query.min_score})
    return FinalAnswer(str(_seen(counted, "count")[0].count), (counted.index,))


def _count_by_list(query: Query) -> Route:
    listed = yield ToolCall(tool="list_steps", arguments={**query.window, "fps": _FPS[1 + query.round % 2]})
    return FinalAnswer(str(_labels(listed).count(query.event)), (listed.index,))


def _count_by_moments(query: Query) -> Route:
    moments = yield ToolCall(tool="find_moments", arguments={"event": query.event, **query.window, "min_score": 0.5})
    return FinalAnswer(str(len(_seen(moments))), (moments.index,))


def _when_by_moments(query: Query) -> Route:
    moments = yield ToolCall(tool="find_moments", arguments={"event": query.event, **query.window, **query.min_score})
    return FinalAnswer(format_span(*_best_moment(query, _seen(moments))), (moments.index,))


def _when_by_list(query: Query) -> Route:
    listed = yield ToolCall(tool="list_steps", arguments={**query.window, "fps": _FPS[1 + query.round % 2]})
    steps = [one for one in _seen(listed) if one.label == query.event]
    return FinalAnswer(format_span(*_best_moment(query, steps)), (listed.index,))


def _when_by_order(query: Query) -> Route:
    read = yield ToolCall(tool="read_order", arguments={"events": [query.event], **query.window})
    return FinalAnswer(format_span(*_best_moment(query, _seen(read))), (read.index,))


def _present_by_boxes(query: Query) -> Route:
    score = _BOX_SCORE[query.round % len(_BOX_SCORE)]
    boxes = yield ToolCall(tool="detect_objects", arguments={"object": query.thing, **query.window, "min_score": score})
    return FinalAnswer("yes" if _seen(boxes) else "no", (boxes.index,))


def _present_by_steps(query: Query) -> Route:
    """Whether any step of the clip uses the object."""
    thing = query.thing
    listed = yield ToolCall(tool="list_steps", arguments={**query.window, **query.fps})
    used = any(f" {label}".endswith(f" {thing}") for label in _labels(listed))
    return FinalAnswer("yes" if used else "no", (listed.index,))


def _side(query: Query) -> int:
    return -1 if query.question.kind == "before" else 1


def _beside(query: Query, moment: Span) -> Span:
    """The stretch on the asked side of a moment.

    Raises:
        ToolError: the event begins or ends with the window.
    """
    window = query.window
    sides = {-1: (window["start_s"], moment[0]), 1: (moment[1], window["end_s"])}
    start_s, end_s = sides[_side(query)]
    if end_s - start_s < 0.2:
        raise ToolError(f"the window holds nothing {query.question.kind} {query.event}")
    return start_s, end_s


def _best_moment(query: Query, moments: list[Finding]) -> Span:
    if not moments:
        raise ToolError(f"{query.event} was not seen between {query.scene.start_s:.1f} and {query.scene.end_s:.1f} s")
    return _span_of(max(moments, key=lambda one: (one.score, -_span_of(one)[0])))


def _span_of(finding: Finding) -> Span:
    return finding.spans_s[0]


_NEXT = (_next_by_list, _next_by_sparse_list, _next_by_order)
_NEIGHBOUR = (_neighbour_by_moment, _neighbour_by_list, _neighbour_by_recognition)
_BY_CARD = (_card_by_list, _card_by_order)
ROUTES: dict[str, tuple[Callable[[Query], Route], ...]] = {
    "next_choice": _NEXT,
    "next_open": _NEXT,
    "before": _NEIGHBOUR,
    "after": _NEIGHBOUR,
    "count": (_count_by_tool, _count_by_list, _count_by_moments),
    "when": (_when_by_moments, _when_by_list, _when_by_order),
    "present": (_present_by_boxes, _present_by_steps),
    **dict.fromkeys((place + kind for place in ABOUT_CARDS for kind in COMPARED), _BY_CARD),
}
"""Question kind to its routes, the preferred one first."""
BOOK_ROUTES = dict.fromkeys(("next_choice", "next_open"), _BY_CARD)
"""Those that are taken instead where recipe cards can be looked up."""
