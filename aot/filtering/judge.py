"""A chat model reads a trace with its question and rationale, and names faults from a fixed list.

It is shown the options and every tool result, and never the gold answer. What it reads stands in data slots, and what
it writes is parsed, never followed. Where it names nothing readable, the trace counts as not judged.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from aot.chat.client import ChatModel, map_threads
from aot.chat.messages import ChatRequest, Sampling, message
from aot.chat.prompts import Prompt, data_slot, load_prompt
from aot.errors import PASSING, ChatError, GuardStop
from aot.records import JsonDict, Question, Record, Step, Trace, Verdict

Item = TypeVar("Item")

NO_FAULT = "none"
FAULTS: dict[str, str] = {
    "wrong_label": "an action or object is named where the steps found another one",
    "dropped_step": "a step or event that the answer rests on is left out",
    "invented_object": "an action or object is claimed that no step returned",
    "invented_time": "a time is claimed that no step returned",
    "wrong_number": "a number or count is not the one that the question or the steps give",
    "wrong_order": "things are put in another order than the question or the steps give",
    "slip": "a calculation or a conclusion from one line to the next is wrong",
    "contradiction": "two statements cannot both be true, or the conclusion is not the answer",
    "unsupported": "a claim does not follow from the steps that it cites",
    "follows_instruction": "the answer is taken from an instruction inside the material, not from what was found",
    "repetition_loop": "the same words come again and again",
    "cut_off": "the text stops before it is finished",
    "garbled_language": "broken characters, nonsense or another language",
    "wrong_format": "the parts or lines stand in another form than asked",
}
"""What a judge may name, with what it is told about it; kinds of planted faults have their own names here."""
WINDOW = 8
"""So many traces for each thread are read ahead at most."""
_MAX_TEXT = 12_000
_MAX_WHY = 200
_OPENING = re.compile(r"\{")
_MAX_OBJECTS = 20
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|$)", re.DOTALL | re.IGNORECASE)

SCHEMA: JsonDict = {
    "type": "object",
    "properties": {
        "faults": {"type": "array", "items": {"type": "string", "enum": [*FAULTS, NO_FAULT]}},
        "why": {"type": "string"},
    },
    "required": ["faults", "why"],
    "additionalProperties": False,
}


class JudgeReply(Record):
    """What a judge said of one trace."""

    faults: tuple[str, ...]
    """Names of `FAULTS`, without repeats; empty for none."""
    why: str = ""


class ChatJudge:
    """Asks a chat model about one trace at a time."""

    def __init__(self, model: ChatModel, *, max_tokens: int = 1024) -> None:
        self._model = model
        self._sampling = Sampling(temperature=0.0, max_tokens=max_tokens)
        self.unanswered: list[str] = []
        """Why traces were not judged that may be judged another time."""
        self.prompt: Prompt = load_prompt("aot.filtering", "judge.txt")

    def verdict(self, trace: Trace, question: Question) -> Verdict:
        """What the judge thinks: its first fault as the reason, or `judge_failed`, which drops nothing.

        Raises:
            ConfigError: nobody will get a reply.
            GuardStop: the cost limit is reached, or the quota is used up.
        """
        try:
            reply = self._model.reply(self.request(trace, question))
        except ChatError as error:
            if error.reason == "quota":
                hint = "see to the account, then run the same command again: what was judged is not asked again"
                raise GuardStop(f"the judge has no quota left ({error}); {hint}") from error
            if error.reason in PASSING or error.unproven:
                self.unanswered.append(f"{error.reason}: {error}")
            return _verdict(trace, "judge_failed", keep=True, detail=f"{error.reason}: {error}")
        judged = parse_judgement(reply.text)
        if judged is None:
            return _verdict(trace, "judge_failed", keep=True, detail=f"unreadable: {reply.text}")
        if not judged.faults:
            return _verdict(trace, "ok", keep=True, detail=judged.why)
        return _verdict(trace, judged.faults[0], keep=False, detail=f"{', '.join(judged.faults)}: {judged.why}")

    def require_all(self) -> None:
        """Raises GuardStop where traces were not judged for a reason that passes: none may pass for good by that."""
        if self.unanswered:
            raise GuardStop(
                f"{len(self.unanswered)} traces got no verdict of the judge (the last one: {self.unanswered[-1]}); see "
                "to the server, or mend the settings of its chat section, then run the same command again: what was "
                "judged is not asked again; or let them pass unjudged by teacher.unanswered=refuse"
            )

    def request(self, trace: Trace, question: Question) -> ChatRequest:
        """What is asked about `trace`; the gold answer is no part of it."""
        options = "".join(f"\n- {choice}" for choice in question.shown_choices)
        text = self.prompt.fill(
            {
                "question": data_slot("question", question.text + (f"\nOptions:{options}" if options else "")),
                "steps": data_slot("steps", _steps_text(trace) or "(no steps)"),
                "rationale": data_slot("rationale", trace.rationale[:_MAX_TEXT]),
                "answer": data_slot("answer", trace.answer[:_MAX_TEXT]),
                "faults": "\n".join(f"- {name}: {meaning}" for name, meaning in FAULTS.items()),
            }
        )
        return ChatRequest(
            messages=(message("user", text),), sampling=self._sampling, json_schema=SCHEMA,
            prompt_digest=self.prompt.digest, purpose="judge",
        )  # fmt: skip


def in_order(
    judge: Callable[[Item], Verdict],
    items: Iterable[Item],
    *,
    threads: int,
    give_up: Callable[[], None] = lambda: None,
) -> Iterator[Verdict]:
    """One verdict for each item, in order, `threads` at a time and at most `WINDOW` times that read ahead.

    `give_up` ends calls in flight after a signal.
    """
    stream = iter(items)
    while window := list(islice(stream, WINDOW * threads)):
        judged = map_threads(lambda one: (one[0], judge(one[1])), enumerate(window), threads=threads, give_up=give_up)
        yield from (verdict for _, verdict in sorted(judged, key=lambda one: one[0]))


def parse_judgement(text: str) -> JudgeReply | None:
    """The faults that a reply names, read tolerantly; None when it names neither a known fault nor `none`.

    >>> parse_judgement('Well. {"faults": "Wrong label", "why": "it was fry"}').faults
    ('wrong_label',)
    >>> parse_judgement("I cannot tell.") is None
    True
    """
    spoken = _THOUGHT.sub(" ", text)
    for start in [mark.start() for mark in _OPENING.finditer(spoken)][-_MAX_OBJECTS:][::-1]:
        try:
            row, _ = json.JSONDecoder().raw_decode(spoken, start)
        except (ValueError, RecursionError):
            continue
        named = row.get("faults")
        words = [named] if isinstance(named, str) else named
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            continue
        names = [re.sub(r"[\s-]+", "_", word.strip().casefold()) for word in words]
        faults = tuple(dict.fromkeys(name for name in names if name in FAULTS))
        if faults or not names or NO_FAULT in names:
            return JudgeReply(faults=faults, why=" ".join(str(row.get("why", "")).split())[:_MAX_WHY])
    return None


def _steps_text(trace: Trace) -> str:
    if not any(step.call for step in trace.steps):  # a text chain: its steps are the lines of its rationale
        return ""
    return "\n".join(_step_text(step) for step in trace.steps)[:_MAX_TEXT]


def _step_text(step: Step) -> str:
    call = f"{step.call.tool}({json.dumps(step.call.arguments, ensure_ascii=False)})" if step.call else step.text
    if step.status == "failed":
        return f"[{step.index}] {call} failed: {step.error}"
    return f"[{step.index}] {call} returned {json.dumps(step.result, ensure_ascii=False)}"


def _verdict(trace: Trace, reason: str, *, keep: bool, detail: str) -> Verdict:
    return Verdict(
        question_id=trace.question_id, sample_index=trace.sample_index, filter="judge", keep=keep, reason=reason,
        detail=detail[:300],
    )  # fmt: skip
