"""What is read of a written reply besides its answer: calls, rationale, how likely it was, and why there is none."""

import json
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aot.answer_records import AbstainReason, MadeCall
from aot.rationales.notation import ANSWER_MARK
from aot.records import JsonDict, Prediction, Trace
from aot.served_records import AskMode

if TYPE_CHECKING:
    from aot.student.rows.tokens import Renderer


def abstention(made: Prediction, *, has_calls: bool) -> tuple[AbstainReason, str]:
    """Why a reply gives no answer, as a word and in a sentence; both empty where it gives one."""
    if made.answer is not None:
        return "", ""
    if made.finish_reason == "length":
        return "cut_off", f"the reply was cut off after {made.completion_tokens} tokens, before it came to an answer"
    if has_calls:
        return "unparsable", "the reply calls tools and gives no answer; run them and go on with student.engine"
    return "unparsable", "no answer could be read from the reply; see raw_text"


def plan_abstention(made: Prediction, trace: Trace) -> tuple[AbstainReason, str]:
    """The same of a plan with tools; `cut_off` where a budget or a cap ended it."""
    if made.answer is not None or trace.error is None:
        return abstention(made, has_calls=False)
    why = trace.error.message.partition(";")[0]  # what follows is advice for a run
    return ("cut_off" if trace.error.boundary == "guard" else "unparsable"), f"the plan ended without an answer: {why}"


def made_calls(trace: Trace) -> tuple[MadeCall, ...]:
    """The calls of a plan with what they gave."""
    return tuple(
        MadeCall(tool=step.call.tool, arguments=step.call.arguments, result=step.result, error=step.error)
        for step in trace.steps if step.call
    )  # fmt: skip


def tool_agreement(answer: str, results: Sequence[JsonDict | None]) -> float | None:
    """1.0 where an answer stands in what its calls gave, else 0.0; None where nothing was called or answered.

    >>> tool_agreement("37", [{"value": "37"}]), tool_agreement("3", [{"value": "37"}, None]), tool_agreement("37", [])
    (1.0, 0.0, None)
    """
    if not answer or not results:
        return None
    given = " ".join(json.dumps(one, ensure_ascii=False) for one in results if one is not None)
    return float(bool(re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", given, re.IGNORECASE)))


def rationale_of(made: Prediction, mode: AskMode) -> str:
    """What a reply says besides its answer."""
    text = made.raw_text
    if mode == "explain":
        return text.partition("\n")[2].strip()
    if mode not in ("reason", "adaptive", "tools"):
        return ""
    if made.answer is None:
        return text
    if made.thought:  # its first line names the way that it chose
        text = text.partition("\n")[2] or text
    before, _, _ = text.rpartition(ANSWER_MARK if ANSWER_MARK in text else "\n")
    return before.strip()


def written_logprob(made: Prediction, mode: AskMode, renderer: "Renderer") -> float | None:
    """Log of the probability with which the model wrote its reply, its reasoning too, the end of the turn included.

    Blind to other wordings of the same answer. Of an answer with an explanation it is that of the first line, so that
    asking for the explanation changes nothing. None where there is no answer, or where the model did not write it.
    """
    size = len(made.token_logprobs)
    if made.answer is None or not size:
        return None
    if mode != "explain":
        return math.fsum(made.token_logprobs)
    ids = made.token_ids[-size:]
    texts = [renderer.tokenizer.decode([one], clean_up_tokenization_spaces=False) for one in ids]
    said = [k for k, text in enumerate(texts) if "\n" in text and "".join(texts[: k + 1]).strip()]
    return math.fsum(made.token_logprobs[: said[0] + 1 if said else size])
