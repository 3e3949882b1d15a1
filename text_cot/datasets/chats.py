"""Rows of foreign data sets as problems: chats, a prompt with its completion, or columns of question and answer.

The final answer of a reply is looked for by the rules that read the student's own replies (aot.answers). Knows no file,
no split and no other row. Chat formats: docs of trl, "Dataset formats" (`role`, `content`), and ShareGPT (`from`,
`value`).
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from aot.answers import find_answer
from aot.config import HfSection
from aot.files.jsonl import RowProblem, parse_json
from aot.records import AnswerType, Reading
from text_cot.datasets.forms import form_of, math_form, plain_math
from text_cot.datasets.layouts import Layout, Problem, choice_texts, optional_text, short_answer, slug, text_of
from text_cot.datasets.source import with_answer_line

Role = Literal["system", "user", "assistant", "tool"]
ROLES: dict[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user", "question": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "ai": "assistant", "answer": "assistant", "tool": "tool", "function": "tool", "observation": "tool",
    "ipython": "tool", "function_call": "tool", "tool_call": "tool", "tool_response": "tool",
}  # fmt: skip
"""What data sets call those who speak."""
USUAL: dict[str, tuple[str, ...]] = {
    "question": ("question", "problem"), "answer": ("answer", "final_answer", "ground_truth"),
    "rationale": ("rationale", "solution", "explanation", "cot"), "choices": ("choices", "options"),
    "messages": ("messages", "conversations", "conversation", "dialog"), "prompt": ("prompt", "instruction"),
    "completion": ("completion", "response", "output"), "id": ("id",), "kind": ("kind", "task", "subject", "category"),
    "group": ("group",),
}  # fmt: skip
"""What data sets call their columns, by the settings of data.hf.columns."""
NEEDED = (("question", "answer"), ("messages",), ("prompt", "completion"))
"""What makes a row, in the order in which it is looked for."""
MEDIA = ("images", "image", "videos", "video", "audio", "audios")
_THINKS = re.compile(r"<(/?)thinking>|<\|(?:begin|(end))_of_thought\|>")
"""Other ways to write `<think>` and `</think>`."""
_TAGS = re.compile(r"</?(?:think|answer|reasoning)>|<\|(?:begin|end)_of_solution\|>")
_DIGITS = re.compile(r"[-+]?[0-9][0-9.,' ]*")
_NUMBER = re.compile(r"-?[0-9]+(?:[,.][0-9]+)*")


@dataclass(frozen=True)
class Turn:
    """One message of a chat."""

    role: Role
    text: str


def pick_layout(columns: tuple[str, ...], section: HfSection) -> Layout | None:
    """How rows with these columns are read; None where they hold nothing of NEEDED.

    Columns that are named in data.hf.columns go before those of usual names.
    """
    named = {what: name for what, name in section.columns if name is not None}
    there = {what: named.get(what) or next((name for name in USUAL[what] if name in columns), "") for what in USUAL}
    fits = [kind for kind in NEEDED if all(there[what] in columns for what in kind)]
    fits.sort(key=lambda kind: not any(what in named for what in kind))
    if not fits:
        return None
    wanted = {what: name for what, name in there.items() if name in columns}
    readers = {"question": _question, "messages": _chat, "prompt": _pair}
    return Layout(tuple(wanted[what] for what in fits[0]), partial(readers[fits[0][0]], wanted, section))


def no_layout(columns: tuple[str, ...], section: HfSection) -> str:
    """What to tell where no layout fits: the columns that there are, and the nearest to those that were named."""
    listed = ", ".join(columns[:30]) or "none"
    wrong = [(what, name) for what, name in section.columns if name is not None and name not in columns]
    if wrong:
        what, name = wrong[0]
        near = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"data.hf.columns.{what} is {name!r}, and there is no such column{hint} The columns are: {listed}"
    usual = [name for kind in NEEDED for what in kind for name in USUAL[what]]
    pairs = [(name, near[0]) for name in columns if (near := difflib.get_close_matches(name, usual, n=1, cutoff=0.75))]
    hint = f"; did you mean {pairs[0][1]!r} by {pairs[0][0]!r}?" if pairs else ""
    return (
        "no column of question and answer, of messages (or conversations), or of prompt and completion is there"
        f"{hint} The columns are: {listed}; say in data.hf.columns which holds what, such as messages: {columns[0]}"
        if columns
        else "the rows have no columns"
    )


def read_turns(value: object) -> list[Turn]:
    """The turns of a chat, whose speakers may have any of the names in ROLES.

    Raises:
        RowProblem: not_a_chat, unknown_role, tool_calls, has_media, empty or bad_turns.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):  # tables without lists write them as JSON
        try:
            value = parse_json(value)
        except ValueError as error:
            raise RowProblem("not_a_chat", f"a chat is written as JSON, and is none: {error}") from None
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        # As tables of earlier versions of `datasets` hold a list of objects: a list for each field.
        value = [dict(zip(value, fields, strict=False)) for fields in zip(*value.values(), strict=False)]
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        got = "an empty one" if value == [] else type(value).__name__
        raise RowProblem("not_a_chat", f"a chat must be a list of objects with role and content, got {got}")
    turns = [_turn(one) for one in value]
    while turns and turns[0].role == "system" and len(turns) > 1 and turns[1].role == "system":
        turns[:2] = [Turn("system", f"{turns[0].text}\n{turns[1].text}")]
    talk = turns[1:] if turns[0].role == "system" else turns
    if not talk or talk[-1].role != "assistant":
        raise RowProblem("no_reply", "the chat does not end with a reply of the assistant")
    if any(turn.role != ("user", "assistant")[place % 2] for place, turn in enumerate(talk)):
        said = ", ".join(turn.role for turn in turns[:8])
        raise RowProblem("bad_turns", f"user and assistant must take turns, the user first, got {said}")
    return turns


def _turn(fields: Mapping[str, Any]) -> Turn:
    name = fields.get("role", fields.get("from"))
    role = ROLES.get(name.strip().casefold()) if isinstance(name, str) else None
    if role is None:
        raise RowProblem("unknown_role", f"a turn is of {str(name)[:40]!r}; known: {', '.join(ROLES)}")
    if role == "tool" or fields.get("tool_calls") or fields.get("function_call"):
        raise RowProblem("tool_calls", "the chat calls tools, which a student of text is not shown")
    text = _content(fields.get("content", fields.get("value")))
    thought = next((fields[key] for key in ("reasoning_content", "reasoning", "thinking") if fields.get(key)), None)
    if role == "assistant" and isinstance(thought, str) and "</think>" not in text:
        text = f"<think>{thought}</think>\n{text}"
    if not text.strip():
        raise RowProblem("empty", f"a turn of the {role} says nothing")
    return Turn(role, text_of({"turn": text}, "turn"))


def _content(content: object) -> str:
    """The text of a turn, which may stand in parts."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise RowProblem("not_text", f"what a turn says must be a text, got {type(content).__name__}")
    texts: list[str] = []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        text = part.get("text") if isinstance(part, dict) else part
        if kind not in ("text", "input_text", "output_text"):
            raise RowProblem("has_media", f"a turn shows something of type {str(kind)[:40]!r}, and text runs show none")
        if not isinstance(text, str):
            raise RowProblem("not_text", f"a part of a turn must be a text, got {type(text).__name__}")
        texts.append(text)
    return "\n".join(texts)


def _question(names: Mapping[str, str], section: HfSection, fields: Mapping[str, Any]) -> Problem:
    """A row of question and answer; a long answer is a worked solution, as in GSM8K."""
    _require_text_only(fields)
    value = fields.get(names["answer"])
    written = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    answer = written or text_of(fields, names["answer"])
    text, chain = text_of(fields, names["question"]), optional_text(fields, names.get("rationale", ""))
    if chain or written or form_of(answer) != "text":
        return _graded(text, answer, chain, names=names, fields=fields)
    return _replied(text, answer, names={**names, "answer": ""}, fields=fields)


def _chat(names: Mapping[str, str], section: HfSection, fields: Mapping[str, Any]) -> Problem:
    _require_text_only(fields)
    name = names["messages"]
    turns = read_turns(fields[name] if name in fields else text_of(fields, name))
    return _talk(turns, names, section, fields)


def _pair(names: Mapping[str, str], section: HfSection, fields: Mapping[str, Any]) -> Problem:
    """A prompt with its completion, as texts or as turns."""
    _require_text_only(fields)
    prompt, completion = fields.get(names["prompt"]), fields.get(names["completion"])
    if isinstance(prompt, list) and isinstance(completion, list):
        return _talk(read_turns([*prompt, *completion]), names, section, fields)
    text = text_of(fields, names["prompt"])
    if names["prompt"] == "instruction" and (more := optional_text(fields, "input")):
        text = f"{text}\n{more}"
    return _replied(text, text_of(fields, names["completion"]), names=names, fields=fields)


def _talk(turns: list[Turn], names: Mapping[str, str], section: HfSection, fields: Mapping[str, Any]) -> Problem:
    """The last question of a chat, behind what was said before it, and the last reply."""
    system = [turn for turn in turns if turn.role == "system"]
    *earlier, question, reply = turns[len(system) :]
    if earlier and section.turns == "refuse":
        raise RowProblem("several_turns", f"the chat has {len(turns) - len(system)} turns, and data.hf.turns is refuse")
    said = [f"{turn.role.capitalize()}: {_TAGS.sub('', turn.text).strip()}" for turn in earlier]
    lines = [f"User: {question.text}"] if earlier else [question.text]
    before = [turn.text for turn in system if section.system == "keep"]
    text = text_of({"chat": "\n".join([*before, *said, *lines])}, "chat")
    return _replied(text, reply.text, names=names, fields=fields)


def _replied(text: str, reply: str, *, names: Mapping[str, str], fields: Mapping[str, Any]) -> Problem:
    """A problem whose chain and, where no column has it, final answer stand in a reply.

    The chain keeps the answer that its reply states, right or wrong: filters judge it.

    Raises:
        RowProblem: no_answer, where nothing tells the final answer.
    """
    reply = _THINKS.sub(lambda tag: "</think>" if tag[1] or tag[2] else "<think>", reply)
    final = find_answer(reply)
    stated = "" if final.answer is None else _plain(final.answer, slot=final.slot)
    chain = with_answer_line(_steps(reply, slot=final.slot), stated) if stated else ""
    if gold := _column(fields, names.get("answer", "")):
        return _graded(text, gold, chain, names=names, fields=fields)
    if not stated:
        raise RowProblem(
            "no_answer",
            "the reply does not tell its final answer as `Answer: X`, \\boxed{X}, `#### X`, `the answer is X` or in "
            "one short line; name its column in data.hf.columns.answer if there is one",
        )
    boxed = final.slot == "boxed"
    return _graded(text, stated, chain, names=names, fields=fields, boxed=boxed)


def _graded(
    text: str,
    answer: str,
    chain: str,
    *,
    names: Mapping[str, str],
    fields: Mapping[str, Any],
    boxed: bool = False,
) -> Problem:
    answer = short_answer(answer)
    is_math = boxed or "\\" in answer
    answer = plain_math(answer) if is_math else answer
    choices = choice_texts(fields.get(names.get("choices", "")), answer)
    form = math_form(answer) if is_math else form_of(answer)
    if form == "text" and _DIGITS.fullmatch(answer):
        raise RowProblem(
            "gold_unparsable",
            f"the answer {answer!r} looks like a number and is none that can be read in one way only; a comma parts "
            "thousands, a point the decimals: 1,234 or 2.50",
        )
    types: tuple[AnswerType, ...] = (form, "expression", "text") if is_math else (form, "text")
    reading: Reading = "contest" if is_math else "strict"
    if form in ("integer", "number", "fraction") and not is_math:
        reading = "bare_number"
    if choices:
        types, reading = ("choice",), "strict"
    return Problem(
        text=text, answer=answer, types=types, kind=slug(_column(fields, names.get("kind", "")) or "foreign"),
        rationale=with_answer_line(chain, answer), choices=choices, id=_column(fields, names.get("id", "")),
        group=_column(fields, names.get("group", "")), reading=reading,
    )  # fmt: skip


def _plain(answer: str, *, slot: str) -> str:
    """A stated answer without its dress; of a closing sentence the one number in it."""
    if slot == "closing" and (numbers := _NUMBER.findall(answer)):
        return numbers[-1]
    return plain_math(answer) if "\\" in answer or "$" in answer[1:] else answer.strip().removesuffix(".").strip()


def _steps(reply: str, *, slot: str) -> str:
    """What leads to the answer: a reply without its tags, or the thought before one that is nothing but an answer."""
    if slot == "direct":
        return reply.rpartition("</think>")[0].replace("<think>", "")
    if slot == "hashes":  # as GSM8K writes them, with the notes of its calculator, which the teacher reads
        reply = reply.rpartition("####")[0]
    return _TAGS.sub("\n", reply)


def _column(fields: Mapping[str, Any], name: str) -> str:
    """A column that need not be there, as text; numbers too."""
    value = fields.get(name) if name else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return optional_text(fields, name) if name else ""


def _require_text_only(fields: Mapping[str, Any]) -> None:
    shown = next((name for name in MEDIA if fields.get(name)), "")
    if shown:
        raise RowProblem("has_media", f"the row shows something in its column {shown!r}, and text runs show none")
