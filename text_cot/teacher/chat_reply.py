r"""Brings the reply of a chat model to one contract: the steps of a chain, one line each, apart from its answer.

Thinking may come in a field of its own, in think tags, or as plain lines; the answer in an answer line, in a box, after
`####`, or in a field of a JSON object. Whatever a model writes is data here: nothing of it is run, and what does not
have a readable answer and at least one step is a ParseError with a countable reason.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from aot.answers import find_answer, parse_answer
from aot.answers.clean import undressed
from aot.answers.exact import decimal_text, exact_number
from aot.answers.finding import plain
from aot.answers.kinds.bare import bare_number
from aot.display import storable
from aot.errors import ParseError
from aot.records import JsonDict, Question

MAX_ANSWER_CHARS = 200
MAX_STEPS = 500
MAX_BOXES = 8
ReplyReason = Literal["no_answer", "no_steps", "open_thought", "too_many_steps"]
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u2028\u2029\x85]")
_TAGS = re.compile(r"</?(?:think|thinking|thought|answer|solution|reasoning)>", re.IGNORECASE)
_MARKER = re.compile(r"(?:[-*•]\s+|#{1,6}\s+|(?:step\s+)?\d{1,2}[.):]\s+|step\s+\d{1,2}\s*[-–]\s+)", re.IGNORECASE)
_BOX = re.compile(r"\\(?:boxed|fbox)\s?\{((?:[^{}]|\{[^{}]*\})*)\}")
_ANSWER_LINE = re.compile(
    r"(?:(?:so|thus|hence|therefore)\b,?\s+)?(?:the\s+)?(?:final\s+)?answer(?:\s*:|\s+is\b).*|#{4}.*", re.IGNORECASE
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9(])")
_LATEX = re.compile(
    r"(?<!\\)\\(?=(?:frac|forall|times|text\w*|tfrac|tan|theta|to|boxed|binom|beta|bar|begin|right|rangle|ne|neq|not|nabla)"
    r"(?![a-z]))"
)
_BAD_ESCAPE = re.compile(r'(?<!\\)((?:\\\\)*)\\(?!["\\/bfnrtu])')


@dataclass(frozen=True)
class ReadChain:
    """What a reply says: steps and answer."""

    steps: tuple[str, ...]
    """One line each, none of them empty, without the answer line."""
    answer: str


class UnreadableReply(ParseError):
    """A reply without what a chain needs; `reason` is countable."""

    def __init__(self, message: str, *, reason: ReplyReason) -> None:
        super().__init__(message)
        self.reason = reason


def schema_of(order: Literal["pre", "post"]) -> JsonDict:
    """The JSON schema of a reply, its fields in the order of thought: a model writes them in that order."""
    fields: JsonDict = {
        "steps": {"type": "array", "items": {"type": "string"}, "description": "the steps, one line each"},
        "answer": {"type": "string", "description": "the final answer and nothing else"},
    }
    names = ["steps", "answer"] if order == "pre" else ["answer", "steps"]
    return {
        "type": "object", "properties": {name: fields[name] for name in names}, "required": names,
        "additionalProperties": False,
    }  # fmt: skip


def read_reply(text: str, *, reasoning: str = "", question: Question) -> ReadChain:
    r"""Steps and answer of a reply; the thinking gives the steps only where the reply itself has none.

    Raises:
        UnreadableReply: it has no answer, several different ones, or no steps.
    """
    thought, spoken = _split_thought(_clean(text))
    structured = _read_object(spoken)
    if structured is not None:
        steps, answer = _lines(structured[0]), structured[1]
    else:
        steps, answer = _lines(spoken), find_answer(spoken).answer or ""
    stated, answer = plain(answer), _own_form(answer, question) if len(answer) <= MAX_ANSWER_CHARS else ""
    if not answer:
        raise UnreadableReply("the reply states no answer, or several different ones", reason="no_answer")
    steps = [line for line in steps if plain(line) not in (stated, plain(answer))]
    steps = steps or _lines(thought) or _lines(_clean(reasoning))
    if not steps:
        raise UnreadableReply("the reply gives an answer and no step that leads to it", reason="no_steps")
    if len(steps) > MAX_STEPS:
        raise UnreadableReply(
            f"the reply has {len(steps)} lines; a chain may have {MAX_STEPS}", reason="too_many_steps"
        )
    return ReadChain(tuple(steps), answer)


def _clean(text: str) -> str:
    """Text that can be stored as UTF-8, with plain line breaks and no control characters."""
    return _CONTROLS.sub(" ", storable(text).replace("\r\n", "\n").replace("\r", "\n"))


def _split_thought(text: str) -> tuple[str, str]:
    """What stands in think tags, and what is said after them."""
    thought, closed, spoken = text.rpartition("</think>")
    if "<think>" in spoken:
        raise UnreadableReply("the reply opens a thought and never closes it", reason="open_thought")
    return (thought, spoken) if closed else ("", text)


def _read_object(spoken: str) -> tuple[str, str] | None:
    """Steps and answer of a reply that is a JSON object, empty where it has none; None for any other text."""
    _, fenced, inside = spoken.partition("```")
    candidate = inside.removeprefix("json").strip() if fenced else spoken.strip()
    if not candidate.startswith("{"):
        return None
    for form in (_LATEX.sub(r"\\\\", candidate), _BAD_ESCAPE.sub(r"\1\\\\", _LATEX.sub(r"\\\\", candidate))):
        try:
            reply: Any = json.JSONDecoder(strict=False, parse_int=str, parse_float=str).raw_decode(form)[0]
        except (ValueError, RecursionError):
            continue
        if isinstance(reply, dict):
            if not isinstance(reply.get("answer"), str | bool):
                return None if fenced else ("", "")
            steps = reply.get("steps", reply.get("reasoning", ""))
            lines = [str(one) for one in steps] if isinstance(steps, list) else [str(steps)]
            return _clean("\n".join(lines)), _clean(str(reply["answer"]))
    return None


def _lines(text: str) -> list[str]:
    """The steps that a text consists of; a text of one line is taken apart into its sentences."""
    bare = [_bare(line) for line in _TAGS.sub("\n", text).split("\n")]
    lines = [line for line in bare if line and not _ANSWER_LINE.fullmatch(line)]
    if len(lines) == 1:
        lines = [part for part in _SENTENCE.split(lines[0]) if part and not _ANSWER_LINE.fullmatch(part)]
    return lines


def _bare(line: str) -> str:
    """A line without list markers, bold print and boxes."""
    line = line.strip().replace("**", "")
    if line.count("box") <= MAX_BOXES:  # many open boxes in one line would take long
        line = _BOX.sub(r"\1", line)
    if not line.startswith("####"):
        line = _MARKER.sub("", line, count=1) if _MARKER.match(line) else line
    return line.strip() if any(character.isalnum() for character in line) else ""


def _own_form(answer: str, question: Question) -> str:
    """The answer as the project writes it: bare, a letter as its option, a bare number without its unit."""
    answer = " ".join(undressed(answer.rstrip(" .")).split()).rstrip(" .")
    if question.choices and answer:
        meant = parse_answer(answer, question).value
        return next((choice for choice in question.choices if plain(choice) == meant), answer)
    if question.reading == "bare_number" and exact_number(answer) is None and (number := bare_number(answer)):
        return decimal_text(number.value) or answer
    return answer
