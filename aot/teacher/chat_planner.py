"""The chat planner: a chat model is offered the tools in function-calling format and plans turn by turn.

What it writes is data: a call is checked against the tool's schema before anything runs, and nothing is ever executed
as code. The first turn with a failed call goes back to the model with the reason; after a second one the plan fails
with the boundary that was crossed. The same holds for a reply without any call, and for an unfit answer.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, repeat
from string import ascii_uppercase
from typing import Any

from pydantic import Field, ValidationError

from aot.answers import parse_answer
from aot.chat.client import ChatModel
from aot.chat.factory import sampling_of
from aot.chat.messages import ChatReply, ChatRequest, Message, Sampling, TextPart, WrittenCall, message
from aot.chat.prompts import Prompt, data_slot, load_prompt
from aot.config import ChatConfig
from aot.errors import AotError, ParseError, ToolError
from aot.files.jsonl import first_mistake, parse_json
from aot.records import AnswerType, JsonDict, Question, Step, ToolCall, Turn
from aot.teacher.planner import BadCall, Calls, FinalAnswer, Scene, Transcript
from aot.teacher.tools.base import AnyTool, ToolArguments, openai_schema

ANSWER = "answer"
_CANONICAL = ("integer", "yes_no", "span")
"""Types whose answer is stored as the project writes it, whatever form the model gave it."""
_FORMS: dict[AnswerType, str] = {
    "choice": "one of the options, by its letter or word for word",
    "integer": "a whole number in digits",
    "yes_no": "yes or no",
    "span": "a stretch such as 2.4s-5.1s",
}
MAX_RESULT_CHARS = 6000
"""A longer tool result is cut, and says so."""
MAX_WRITTEN_CHARS = 500
_REMINDER = "Plain text is no answer here. Call a tool, or end with the `answer` call."


class AnswerArguments(ToolArguments):
    """The end of a plan."""

    answer: str = Field(min_length=1, max_length=500, description="The answer, in the form that was asked for.")
    support: tuple[int, ...] = Field(min_length=1, description="Numbers of the steps that the answer rests on.")


@dataclass(frozen=True)
class ChatPlanner:
    """Plans by a chat model; see the module."""

    chat: ChatModel
    section: ChatConfig
    tools: Mapping[str, AnyTool]
    seed: int
    prompts: tuple[Prompt, Prompt] = field(
        default_factory=lambda: (load_prompt("aot.teacher", "plan.txt"), load_prompt("aot.teacher", "question.txt"))
    )

    @property
    def name(self) -> str:
        """The model, and the content hash of the prompts."""
        return f"chat:{self.chat.name}:{self.prompt_digest}"

    @property
    def prompt_digest(self) -> str:
        """Content hash of both prompt files."""
        return "-".join(prompt.digest[:6] for prompt in self.prompts)

    @cached_property
    def schemas(self) -> tuple[JsonDict, ...]:
        """What is offered, in function-calling format; made once, because a schema takes longer than a request."""
        tools = [openai_schema(tool.name, tool.description, tool.Arguments) for tool in self.tools.values()]
        purpose = "End the plan with the answer and the numbers of the steps that it rests on."
        return (*tools, openai_schema(ANSWER, purpose, AnswerArguments))

    def start(self, question: Question, *, scene: Scene, candidate: int) -> "ChatPlan":
        """A conversation about one question; see `Planner.start`."""
        plan, asks = self.prompts
        system = message("system", plan.fill({"manual": manual(self.schemas)}))
        user = message("user", asks.fill(question_slots(question, scene)))
        return ChatPlan(self, question, candidate, [system, user])

    def request(self, messages: list[Message], question: Question, candidate: int) -> ChatRequest:
        """The next request of a conversation; candidates are different draws."""
        return ChatRequest(
            messages=tuple(messages),
            sampling=drawn_for(self.section, seed=self.seed, question_id=question.id, candidate=candidate),
            tools=self.schemas,
            sample_index=candidate,
            prompt_digest=self.prompt_digest,
            purpose="plan",
        )


@dataclass
class ChatPlan:
    """One conversation; not for several threads."""

    planner: ChatPlanner
    question: Question
    candidate: int
    messages: list[Message]
    transcript: Transcript = field(default_factory=Transcript)
    _waiting: list[WrittenCall] = field(default_factory=list)
    """Calls of the last turn whose results the model has not been told."""
    _bad: set[int] = field(default_factory=set)
    """Steps that no tool could have taken."""
    _had_mercy: bool = False
    """Whether a failure has gone back to the model already."""

    def next(self, steps: tuple[Step, ...]) -> Calls | FinalAnswer:
        """The next turn; see `Plan.next`."""
        self._tell_results(steps)
        while True:
            said = self._ask()
            ends = [call for call in said.tool_calls if call.name == ANSWER]
            if said.tool_calls and not ends:
                return self._calls(said, before=len(steps))
            try:
                return self._answer(said, ends, steps)
            except ParseError as error:
                self._spend_mercy(error)
                self._object(said, str(error))

    def _ask(self) -> ChatReply:
        said = self.planner.chat.reply(self.planner.request(self.messages, self.question, self.candidate))
        self.transcript.hear(said, "plan")
        parts = (TextPart(text=said.text),) if said.text else ()
        self.messages.append(Message(role="assistant", parts=parts, tool_calls=said.tool_calls))
        return said

    def _calls(self, said: ChatReply, *, before: int) -> Calls:
        calls = [read_call(call, self.planner.tools) for call in said.tool_calls]
        self._waiting = list(said.tool_calls)
        self._bad |= {before + i for i, call in enumerate(calls, start=1) if isinstance(call, BadCall)}
        return Calls(tuple(calls))

    def _answer(self, said: ChatReply, ends: list[WrittenCall], steps: tuple[Step, ...]) -> FinalAnswer:
        if not ends:
            raise ParseError(_REMINDER)
        if len(said.tool_calls) > 1:
            raise ParseError("call `answer` alone in its turn; none of these calls was carried out")
        return read_answer(_loaded(ends[0].arguments), self.question, steps)

    def _object(self, said: ChatReply, problem: str) -> None:
        """Tell the model what was wrong with a turn of which nothing was carried out."""
        if not said.tool_calls:
            self.messages.append(message("user", problem))
            self.transcript.turns.append(Turn(role="user", purpose="plan", text=problem))
        for call in said.tool_calls:
            self.messages.append(_answer_to(call, problem))
            self.transcript.turns.append(Turn(role="tool", purpose="plan", text=problem))

    def _tell_results(self, steps: tuple[Step, ...]) -> None:
        """Put the results of the last turn into the conversation; a second turn with a failure ends the plan."""
        new = steps[len(steps) - len(self._waiting) :] if self._waiting else ()
        for call, step in zip(self._waiting, new, strict=True):
            self.messages.append(_answer_to(call, step_text(step)))
            self.transcript.turns.append(Turn(role="tool", purpose="plan", step=step.index))
        self._waiting = []
        failed = next((step for step in new if step.status == "failed"), None)
        if failed is not None:
            problem = f"step {failed.index} failed: {failed.error}"
            self._spend_mercy(ParseError(problem) if failed.index in self._bad else ToolError(problem))

    def _spend_mercy(self, error: AotError) -> None:
        if self._had_mercy:
            raise error
        self._had_mercy = True


def read_call(
    call: WrittenCall, tools: Mapping[str, AnyTool], *, others: tuple[str, ...] = (ANSWER,)
) -> ToolCall | BadCall:
    """What a model wrote as a call of a tool, checked against its schema; a BadCall says what is wrong.

    `others` are called like tools and are none.
    """
    written, name = call.arguments[:MAX_WRITTEN_CHARS], call.name[:64]
    tool = tools.get(call.name)
    if tool is None:
        return BadCall(name, written, f"no tool is called {name!r}; known: {', '.join([*tools, *others])}")
    try:
        arguments = _loaded(call.arguments)
        tool.Arguments.model_validate(arguments)
    except ParseError as error:
        return BadCall(name, written, str(error))
    except ValidationError as error:
        return BadCall(name, written, f"bad arguments: {first_mistake(error, whole='the arguments')}")
    return ToolCall(tool=name, arguments=arguments)


def step_text(step: Step) -> str:
    """A finished step as the model reads it, its result fenced as data."""
    if step.status == "failed":
        return f"step {step.index} failed: {data_slot('reason', step.error)}"
    text = json.dumps(step.result, ensure_ascii=False)
    if len(text) > MAX_RESULT_CHARS:
        text = f"{text[:MAX_RESULT_CHARS]} (cut at {MAX_RESULT_CHARS} of {len(text)} characters)"
    return f"step {step.index} ok: {data_slot('result', text)}"


def manual(schemas: Iterable[JsonDict]) -> str:
    """The tool manual of the prompt, made from the schemas."""
    lines = []
    for schema in schemas:
        function = schema["function"]
        lines.append(f"- {function['name']}: {function['description']}")
        required = function["parameters"].get("required", ())
        for name, rule in function["parameters"].get("properties", {}).items():
            meaning = rule.get("description", rule.get("type", ""))
            lines.append(f"    {name}{'' if name in required else ' (optional)'}: {meaning}")
    return "\n".join(lines)


def question_slots(question: Question, scene: Scene) -> dict[str, str]:
    """What the question prompt is filled with; everything from outside stands in a data slot."""
    marks = chain((f"{letter}." for letter in ascii_uppercase), repeat("-"))  # No letter after Z; their words still do.
    options = "\n".join(f"{mark} {choice}" for choice, mark in zip(question.choices, marks, strict=False))
    names = data_slot("known", f"steps: {', '.join(scene.known_labels)}\nobjects: {', '.join(scene.objects)}")
    return {
        "question": data_slot("question", question.text),
        "choices": f"{data_slot('options', options)}\n" if options else "",
        "start_s": f"{scene.start_s:.1f}",
        "end_s": f"{scene.end_s:.1f}",
        "known": f"Names that the pixel tools know:\n{names}",
        "form": answer_form(question),
    }


def drawn_for(section: ChatConfig, *, seed: int, question_id: str, candidate: int) -> Sampling:
    """How replies to one candidate of one question are drawn."""
    drawn = zlib.crc32(f"{seed}:{question_id}:{candidate}".encode()) & 0x7FFFFFFF
    return sampling_of(section, seed=drawn)


def _answer_to(call: WrittenCall, text: str) -> Message:
    return Message(role="tool", parts=(TextPart(text=text),), tool_call_id=call.id)


def _loaded(written: str) -> dict[str, Any]:
    """The arguments of a call.

    Raises:
        ParseError: they are no JSON object of plain values.
    """
    try:
        loaded = parse_json(written or "{}")
    except ValueError:
        raise ParseError("the arguments are no JSON that can be read; write one JSON object") from None
    if not isinstance(loaded, dict):
        raise ParseError(f"the arguments are a JSON {type(loaded).__name__}; write one JSON object")
    return loaded


def answer_form(question: Question) -> str:
    """What an answer to `question` must look like, in words."""
    return _FORMS.get(question.answer_type, "a few words; a step label where the question asks for a step")


def read_answer(written: Any, question: Question, steps: tuple[Step, ...]) -> FinalAnswer:  # noqa: ANN401 - JSON
    """The answer that a model wrote as arguments of the `answer` call.

    Raises:
        ParseError: the arguments do not fit, a supporting step is not there or failed, or the answer has another form
            than the question asks for; the text is fit to be told to the model.
    """
    try:
        arguments = AnswerArguments.model_validate(written)
    except ValidationError as error:
        raise ParseError(f"answer: {first_mistake(error, whole='the arguments')}") from None
    support = tuple(dict.fromkeys(arguments.support))
    fine = [step.index for step in steps if step.status == "ok"]
    if wrong := [index for index in support if index not in fine]:
        there = ", ".join(map(str, fine)) or "none yet"
        raise ParseError(f"answer: step {wrong[0]} is no step that went well; those are: {there}")
    parsed = parse_answer(arguments.answer, question)
    if parsed.value is None:
        raise ParseError(f"answer: {arguments.answer!r} cannot be read; give {answer_form(question)}")
    chosen = [said for said in question.option_answers if parse_answer(said, question).value == parsed.value]
    if chosen:
        return FinalAnswer(chosen[0], support)
    text = " ".join(arguments.answer.split())
    return FinalAnswer(parsed.value if question.answer_type in _CANONICAL else text, support)
