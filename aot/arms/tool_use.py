"""What an arm of order `tool_use` learns: kept chains as talks, in which the student calls the tools that it has.

What tools gave that only the teacher has, the student learns to say by itself: the sentences of a rationale that cite
such steps stand before the call that the teacher made next. Citations are those of the student's own calls, which are
the only steps of its traces.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aot.arms.by_name import by_name
from aot.arms.lessons import Material, shared_chains, whole_rationale
from aot.config import ToolArm
from aot.errors import ConfigError, GuardStop
from aot.rationales.notation import CITATION, format_span, outside_quotes, sentences_of
from aot.rationales.wording import in_sentence
from aot.records import Lesson, LessonTurn, Question, Refusal, Step, Trace
from aot.run_records import OfferedTool
from aot.student.rows.prompts import call_text, result_text
from aot.teacher.tools.base import AnyTool, openai_schema
from aot.teacher.tools.calculator import CALCULATORS, NAMED_CALCULATOR

_HEADING = re.compile(r"(Identify|Gather|Combine|Answer): ?")
_FINAL = ("Combine", "Answer")
_CITED = re.compile(rf" ?{CITATION.pattern}")
NO_CALL = "no_call"


@dataclass(frozen=True)
class ToolLessons:
    """What an arm learns, and the chains that it does not."""

    lessons: tuple[Lesson, ...]
    refused: tuple[Refusal, ...]


def tool_lessons(material: Material, arm: ToolArm, *, seed: int) -> ToolLessons:
    """The kept chains of an arm as talks; those without a call to one of its tools as the config says.

    Raises:
        GuardStop: none of them has such a call.
    """
    lessons: list[Lesson] = []
    refused: list[Refusal] = []
    for question_id, trace in shared_chains(material, arm, seed=seed).items():
        question = material.questions[question_id]
        lesson = talk_lesson(question, trace, arm.tools, repeated=arm.repeated_calls)
        if lesson.turns or arm.without_calls == "learn":
            lessons.append(lesson)
        else:
            tools = ", ".join(sorted({step.call.tool for step in trace.steps if step.call})) or "none"
            refused.append(
                Refusal(item=question_id, boundary="lesson", reason=NO_CALL, detail=f"tools called: {tools}")
            )
    if not any(lesson.turns for lesson in lessons):
        there = Counter(step.call.tool for trace in material.chains.values() for step in trace.steps if step.call)
        listed = ", ".join(f"{name} ({count})" for name, count in there.most_common()) or "none"
        raise GuardStop(
            f"arm {arm.name} would learn no call: no kept chain rests on a call to {' or '.join(arm.tools)}; the tools "
            f"that kept chains call are {listed}. Offer one of those in train.arms.tools, have the teacher use the "
            "tool, or leave the arm out; it was not trained"
        )
    return ToolLessons(tuple(lessons), tuple(refused))


def offered_tools(names: Sequence[str]) -> list[OfferedTool]:
    """The tools of these names as a model is told of them, in OpenAI's form.

    Raises:
        ConfigError: a student cannot call one of them.
    """
    tools: dict[str, AnyTool] = {**CALCULATORS}
    if not tools.keys() >= set(names):
        from aot.teacher.tools.book import RecipeBook  # here, because text needs none of the video packages
        from aot.teacher.tools.look_up_recipe import recipe_tool
        from aot.teacher.tools.registry import TOOLS

        looked_up = recipe_tool(RecipeBook(()))
        tools |= {**TOOLS, looked_up.name: looked_up}
    if unknown := [name for name in names if name not in tools]:
        raise ConfigError(
            f"train.arms.tools: {unknown[0]} is no tool that a student can call; those are: {', '.join(sorted(tools))}"
        )
    made = (openai_schema(name, tools[name].description, tools[name].Arguments) for name in names)
    return [OfferedTool.model_validate(schema) for schema in made]


def talk_lesson(question: Question, trace: Trace, tools: Sequence[str], *, repeated: float = 0.0) -> Lesson:
    """A chain as a talk in which the student itself makes the calls to `tools` that the chain rests on."""
    if NAMED_CALCULATOR.name in tools:
        trace = by_name(question, trace, repeated=repeated)
    calls = [step for step in trace.steps if _is_offered(step, trace, tools)]
    rationale, said = whole_rationale(trace), "".join(step.text for step in trace.steps)
    if said and rationale.startswith(said):
        said_before, last = _of_steps(trace, calls, rationale)
    else:
        said_before, last = _of_sentences(trace, calls, rationale)
    turns: list[LessonTurn] = []
    made: set[int] = set()
    for text, step in zip(said_before, calls, strict=True):
        assert step.call
        call = call_text(step.call.tool, step.call.arguments)
        turns.append(LessonTurn(role="assistant", text=f"{text}{call}", learned=step.index not in made))
        turns.append(LessonTurn(role="tool", text=result_text(step)[0]))
        made.add(step.index)  # a call that by_name repeats is still the same step
    shown = question.media is not None
    return Lesson(question_id=question.id, mode="tools", with_frames=shown, rationale=last, turns=tuple(turns))


def _is_offered(step: Step, trace: Trace, tools: Sequence[str]) -> bool:
    """Whether the student makes a call itself: of a tool that it has, which went well and which the answer rests on."""
    is_fine = step.call is not None and step.call.tool in tools and step.status == "ok"
    return is_fine and (step.index in trace.support or not trace.support)


def _of_steps(trace: Trace, calls: Sequence[Step], rationale: str) -> tuple[list[str], str]:
    """What a text chain says before each call, and behind the last one: its steps are its words in order."""
    texts, said, numbers = [], "", {step.index for step in calls}
    for step in trace.steps:
        said += step.text
        rationale = rationale.removeprefix(step.text)
        if step.index in numbers:
            texts.append(said)
            said = ""
    return texts, said + rationale


def _of_sentences(trace: Trace, calls: Sequence[Step], rationale: str) -> tuple[list[str], str]:
    """The same of a rationale over what tools gave, by the steps that its sentences cite."""
    number_of = {step.index: number for number, step in enumerate(calls, start=1)}
    turns: list[dict[str, list[str]]] = [{} for _ in range(len(calls) + 1)]
    place = 0
    for heading, sentence in _sentences(rationale):
        cited = [int(mark[1]) for mark in CITATION.finditer(sentence)]
        if heading in _FINAL:
            place = len(calls)
        elif cited:
            place = max(sum(step.index <= index for step in calls) for index in cited)
        turns[place].setdefault(heading, []).append(_renumbered(sentence, number_of))
    for place, step in enumerate(calls):
        there = " ".join(text for turn in turns[: place + 1] for texts in turn.values() for text in texts)
        missing = [text for label, text in _seen(trace, step) if label not in there]
        if missing:
            turns[place].setdefault("Gather", []).extend(missing)
    texts = [f"{text}\n" if (text := _written(turn)) else "" for turn in turns[:-1]]
    return texts, _written(turns[-1])


def _sentences(rationale: str) -> Iterator[tuple[str, str]]:
    """Each sentence with the heading of its line; empty for lines without any."""
    for line in rationale.split("\n"):
        mark = _HEADING.match(line)
        heading = mark[1] if mark else ""
        text = line[mark.end() :] if mark else line
        yield from ((heading, sentence) for sentence in ([text] if heading == "Answer" else sentences_of(text)))


def _renumbered(sentence: str, number_of: Mapping[int, int]) -> str:
    """A sentence that cites the student's own calls by their numbers, and nothing else."""

    def cite(mark: re.Match[str]) -> str:
        number = number_of.get(int(mark[1]))
        return "" if number is None else f"{' ' if mark[0].startswith(' ') else ''}[{number}]"

    return outside_quotes(sentence, lambda text: _CITED.sub(cite, text))


def _seen(trace: Trace, call: Step) -> Iterator[tuple[str, str]]:
    """Labels among the arguments of a call that earlier steps of others saw, each with a sentence that says when."""
    assert call.call
    wanted = set(_strings(call.call.arguments))
    for step in trace.steps:
        if step.index >= call.index or step.status != "ok":
            continue
        for one in step.findings:
            if one.label in wanted and one.spans_s:
                wanted.discard(one.label)
                label = in_sentence(one.label)
                yield label, f"{format_span(*one.spans_s[0])} {label}."


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)


def _written(turn: Mapping[str, Iterable[str]]) -> str:
    return "\n".join(f"{heading}: {' '.join(texts)}" if heading else " ".join(texts) for heading, texts in turn.items())
