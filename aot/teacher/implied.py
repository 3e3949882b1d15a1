"""What the evidence of a written rationale implies, by the rules: the Gather part read back as what a tool listed.

For questions whose answer follows from the order, the number or the times of what was seen. Nobody looks at a clip.
"""

from collections.abc import Iterable, Sequence

from aot.errors import ParseError, ToolError
from aot.rationales.notation import parse_rationale
from aot.rationales.wording import in_sentence, phrase_key
from aot.records import ClipAnnotation, Finding, Question, Step, ToolCall
from aot.teacher.planner import Calls, FinalAnswer, Scene
from aot.teacher.rules import RulesPlan
from aot.teacher.tools.procedure import ProcedureModel

_ROUTES = {"next_choice": 0, "next_open": 0, "before": 1, "after": 1, "count": 1, "when": 1}
"""Question kind to the candidate that goes by a list of all steps."""


class EvidenceReader:
    """Reads rationales by the step names, and the knowledge of what comes next, of training annotations."""

    def __init__(self, annotations: Iterable[ClipAnnotation]) -> None:
        """Of splits other than training nothing is taken; without any no rationale implies anything."""
        self._procedure = ProcedureModel.from_annotations(annotations)
        self.labels = self._procedure.labels

    def answer(self, question: Question, rationale: str) -> str | None:
        """The answer that the evidence of a rationale implies; see `_implied`."""
        return _implied(question, rationale, self._procedure) if self._procedure.clips else None


def _implied(question: Question, rationale: str, procedure: ProcedureModel) -> str | None:
    """The answer that the rules give after the listed sightings; None where no rule says, or nothing is listed.

    Args:
        question: what is asked; its gold answer is not read.
        rationale: in parts, as a teacher or a student wrote it.
        procedure: what comes next, for questions that ask it.
    """
    if question.kind not in _ROUTES or question.media is None:
        return None
    listed = _listed(rationale, procedure.labels)
    if not listed.findings:
        return None
    ends = [end_s for one in listed.findings for _, end_s in one.spans_s]
    scene = Scene(
        start_s=question.media.start_s, end_s=max([question.media.end_s or 0.0, *ends]) + 1.0, labels=procedure.labels,
        known_labels=procedure.labels, objects=(),
    )  # fmt: skip
    plan = RulesPlan(question, scene, _ROUTES[question.kind])
    steps: tuple[Step, ...] = (listed,)
    try:
        action = plan.next(steps)
        if isinstance(action, Calls) and isinstance(call := action.calls[0], ToolCall) and "history" in call.arguments:
            steps = (listed, _proposed(call, procedure))
            action = plan.next(steps)
    except (ParseError, ToolError, IndexError):
        return None
    return action.answer if isinstance(action, FinalAnswer) else None


def _listed(rationale: str, labels: Sequence[str]) -> Step:
    """What the Gather part lists, as the step of a tool that saw it."""
    names = sorted({phrase_key(in_sentence(label)): label for label in labels}.items(), key=lambda one: -len(one[0]))
    findings = []
    for claim in parse_rationale(rationale).claims:
        said = f" {phrase_key(claim.text)} "
        label = next((label for key, label in names if f" {key} " in said), None)
        spans_s = claim.spans_s or tuple((time_s, time_s) for time_s in claim.moments_s)
        rising = [(start_s, end_s) for start_s, end_s in spans_s if start_s <= end_s]
        if claim.part == "Gather" and label:
            findings += [Finding(kind="event", label=label, spans_s=(span_s,)) for span_s in rising]
    findings.sort(key=lambda one: one.spans_s[0])
    return Step(index=1, call=ToolCall(tool="list_steps"), findings=tuple(findings))


def _proposed(call: ToolCall, procedure: ProcedureModel) -> Step:
    among = call.arguments.get("among", ())
    forecast = procedure.forecast(call.arguments["history"])
    options = [one for one in forecast.candidates if not among or one.label in among]
    findings = tuple(Finding(kind="option", label=one.label, score=min(1.0, one.prob)) for one in options)
    return Step(index=2, call=call, findings=findings)
