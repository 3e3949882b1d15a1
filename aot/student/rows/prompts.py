"""What a model is asked, in words: questions as messages, messages as chat templates take them, tool calls read back.

A question shows each frame after its true time in seconds (`t=3.2s`), in order, then its text, its choices and how to
answer. Pure functions, which know no tokenizer. Only the most common form of tool calls is read: JSON with `name` and
`arguments` between `<tool_call>` tags.
"""

import json
from collections.abc import Sequence
from typing import Any, Literal

from aot.chat.messages import ImagePart, Message, TextPart, WrittenCall, message
from aot.rationales.named import NAMED_CALCULATOR_NAME, marked
from aot.rationales.notation import format_time
from aot.records import JsonDict, PromptMode, Question, Step, ThoughtMode

Mode = PromptMode
MODES: tuple[Mode, ...] = ("direct", "reason")
"""What a video student is asked."""
TEXT_MODES: tuple[Mode, ...] = ("direct", "reason", "explain", "adaptive")
MODE_SUFFIX: dict[Mode, str] = {
    "direct": "Answer directly.",
    "reason": "Reason, then answer.",
    "explain": "Answer, then explain.",
    "adaptive": "Choose how to answer.",
    "tools": "Use the tools, then answer.",
}
MODE_LINES: dict[ThoughtMode, str] = {"direct": "At once.", "short": "Short steps.", "full": "All steps."}
"""First line of an adaptive student's reply."""
OPEN_THINK, CLOSE_THINK = "<think>\n", "\n</think>\n\n"
ThinkStyle = Literal["none", "written", "opened", "closed"]
"""Tags around a rationale: `none`; `written` by the reply; `opened` by the prompt and closed by the reply; or `closed`
by the prompt before any reply, because the template opens them and the reply shall have none."""

PROBE = Question(
    id="probe", dataset="probe", split="probe", kind="probe", text="What is the next step?",
    choices=("one", "two"), answer="one", answer_type="choice", group="probe",
)  # fmt: skip
PROBE_SIZE_HW = (72, 96)
"""Of a frame that is only tried, or counted in tokens, in pixels."""
OPENED, CLOSED = "<tool_call>", "</tool_call>"
MAX_RESULT_CHARS = 2000
"""A longer tool result is cut, and says so."""
RESULT_OPENED, RESULT_CLOSED = "<tool_response>", "</tool_response>"
"""Around what a tool gave, where a template has no place for it: then it stands in a message of the user."""


def question_message(question: Question, frames: Sequence[ImagePart], mode: Mode) -> Message:
    """What the user says: each frame behind its time, then the question."""
    shown = [part for frame in frames for part in (f"t={format_time(frame.time_s or 0.0)}", frame)]
    return message("user", *shown, asked_text(question, mode))


def asked_text(question: Question, mode: Mode) -> str:
    """What the user says: the question, its choices, and how to answer."""
    choices = [f"Choices: {'; '.join(question.shown_choices)}."] if question.choices else []
    return " ".join([question.text, *choices, MODE_SUFFIX[mode]])


def with_names(question: Question, mode: Mode, tools: Sequence[JsonDict], *, in_lesson: bool = False) -> Question:
    """The question with its numbers marked by name, where one of the offered tools takes names."""
    if mode != "tools" or all(tool["function"]["name"] != NAMED_CALCULATOR_NAME for tool in tools):
        return question
    return question.model_copy(update={"text": marked(question.text, lesson=question.id if in_lesson else "")})


def has_tool_form(template: str) -> bool:
    """Whether a template tells the model its tools and asks for calls in the form that `read_calls` reads."""
    return "tools" in template and OPENED in template and "<function=" not in template


def knows_system(template: str) -> bool:
    """Whether a template has a place for system messages; some name them only to refuse them."""
    return "system" in template and "ystem role not supported" not in template


def call_text(name: str, arguments: JsonDict) -> str:
    """A tool call as a student writes it.

    >>> call_text("ask", {"n": 1})
    '<tool_call>{"name": "ask", "arguments": {"n": 1}}</tool_call>'
    """
    return OPENED + json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False) + CLOSED


def result_text(step: Step) -> tuple[str, bool]:
    """What a student is shown of a finished call, as JSON: the result, or why there is none; and whether it was cut."""
    text = json.dumps({"error": step.error} if step.result is None else step.result, ensure_ascii=False)
    if len(text) <= MAX_RESULT_CHARS:
        return text, False
    return f"{text[:MAX_RESULT_CHARS]} (cut at {MAX_RESULT_CHARS} of {len(text)} characters)", True


def result_messages(texts: Sequence[str], *, role: str) -> list[Message]:
    """What tools gave, one text for each call of a turn: messages of their own, or all in one of the user."""
    if role == "tool":
        return [message("tool", text) for text in texts]
    return [message("user", "\n".join(f"{RESULT_OPENED}{text}{RESULT_CLOSED}" for text in texts))]


def template_messages(
    messages: Sequence[Message],
    *,
    with_system: bool,
    special: Sequence[str] = (),
    in_parts: bool,
    image_in_text: str = "",
) -> list[dict[str, Any]]:
    """Messages for `apply_chat_template`.

    Args:
        messages: of a request.
        with_system: whether the template tells system messages from others; else they go before the first user's.
        special: control tokens of the model; text cannot contain them, lest it end a message and begin another.
        in_parts: whether content is a list of parts, as image-text models want it; pictures are left to be filled in.
        image_in_text: written for each picture in one text part, for templates that would put all pictures first.
    """
    rows: list[dict[str, Any]] = []
    waiting: list[TextPart] = []
    for one in messages:
        parts = list(one.parts)
        if one.role == "system" and not with_system:
            waiting += [part for part in parts if isinstance(part, TextPart)]
            continue
        if one.role == "user":
            parts, waiting = [*waiting, *parts], []
        shown = [
            {"type": "text", "text": plain_text(part.text, special)}
            if isinstance(part, TextPart)
            else {"type": "image"}
            for part in parts
        ]
        if image_in_text:
            shown = [{"type": "text", "text": "".join(part.get("text", image_in_text) for part in shown)}]
        row: dict[str, Any] = {"role": one.role}
        row["content"] = shown if in_parts else "\n".join(part["text"] for part in shown if "text" in part)
        if one.tool_calls:
            row["tool_calls"] = [_as_template_call(call) for call in one.tool_calls]
        if one.role == "tool":
            row["tool_call_id"] = one.tool_call_id
        rows.append(row)
    return rows


def read_calls(text: str) -> tuple[str, tuple[WrittenCall, ...]]:
    """Text and tool calls of a reply; what is between tags but no call stays in the text.

    >>> read_calls('Look. <tool_call>{"name": "ask", "arguments": {"n": 1}}</tool_call>')
    ('Look. ', (WrittenCall(id='call_0', name='ask', arguments='{"n": 1}'),))
    """
    kept: list[str] = []
    calls: list[WrittenCall] = []
    while OPENED in text:
        before, _, tail = text.partition(OPENED)
        inside, closed, after = tail.partition(CLOSED)
        kept.append(before)
        call = _call(inside, index=len(calls))
        if call is None:
            kept.append(OPENED + inside + closed)
        else:
            calls.append(call)
        text = after
    return "".join([*kept, text]), tuple(calls)


def _call(inside: str, *, index: int) -> WrittenCall | None:
    try:
        row: Any = json.loads(inside)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        return None
    arguments = row.get("arguments", {})
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return WrittenCall(id=f"call_{index}", name=row["name"], arguments=written)


def _as_template_call(call: WrittenCall) -> dict[str, Any]:
    try:
        arguments: Any = json.loads(call.arguments)  # Templates write JSON of it themselves.
    except (ValueError, RecursionError):
        arguments = call.arguments
    return {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": arguments}}


def plain_text(text: str, special: Sequence[str]) -> str:
    """`text` that spells out none of the `special` tokens, and can be written as UTF-8."""
    text = text.encode("utf-8", "replace").decode()
    for token in special:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
