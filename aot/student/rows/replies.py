"""Lessons as token ids, and replies read back: how a rationale is tagged, and which tokens are given, label, rationale.

A reply is tokenised once as a whole and its tokens are shared out by the characters they start at, so that ids do not
depend on how a lesson is cut. Knows no model and imports no torch.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from aot.answers import find_answer
from aot.config import SpanWeights
from aot.errors import CheckpointError
from aot.records import THOUGHT_MODES, Lesson, PromptMode, Question, ThoughtMode
from aot.student.rows.packing import EncodedRow, num_alike
from aot.student.rows.prompts import (
    CLOSE_THINK,
    MODE_LINES,
    MODES,
    OPEN_THINK,
    TEXT_MODES,
    ThinkStyle,
    asked_text,
    with_names,
)
from aot.student.rows.talks import ALIKE, Parts, weigh_alike, weighted_row
from aot.student.rows.tokens import Renderer

PLAIN_LINES: dict[ThoughtMode, str] = {
    "direct": "Answer directly.", "short": "Reason, then answer.", "full": "Reason each step, then answer.",
}  # fmt: skip
"""MODE_LINES in the words of prompts, for small vocabularies that know no others; lessons on disk keep the first."""
_OPEN = re.compile(rf"{re.escape(OPEN_THINK.strip())}\n?")
_CLOSE = re.compile(rf"\s*{re.escape(CLOSE_THINK.strip())}\s*")
_NUMBER = r"(?<![\[\w.])\d+(?:[.,:/]\d+)*s?"
_STEPS, _ANSWER = "12 + 7 = 19\n19 - 4 = 15", "15"
_ASKED = Question(
    id="round_trip", dataset="probe", split="probe", kind="probe", text="12 + 7 - 4 = ?", answer=_ANSWER,
    answer_type="integer", group="probe",
)  # fmt: skip
_SHOWN = _ASKED.model_copy(update={"text": "Which is right?\n\n3 < 5 & 5 > 4, or \"4\" = '5'?"})
"""Whatever a template may change on its way into a prompt."""
_SAID = f"Answer: {_ANSWER}"
_LESSONS = (
    Lesson(question_id=_ASKED.id, mode="direct", label=_ANSWER),
    Lesson(question_id=_ASKED.id, mode="reason", rationale=f"{_STEPS}\n{_SAID}"),
    Lesson(question_id=_ASKED.id, mode="explain", label=f"{_SAID}\n", rationale=_STEPS),
    *(
        Lesson(
            question_id=_ASKED.id, mode="adaptive", forced=given, label="" if given else f"{line}\n",
            rationale=_SAID if thought == "direct" else f"{_STEPS}\n{_SAID}",
        )
        for thought, line in MODE_LINES.items() for given in ("", f"{line}\n")
    ),
)  # fmt: skip
"""One reply of each mode, with and without a given beginning."""


def encode_lesson(
    renderer: Renderer,
    question: Question,
    lesson: Lesson,
    *,
    times_s: Sequence[float] = (),
    frame_size_hw: tuple[int, int] | None = None,
    span_weights: SpanWeights = ALIKE,
) -> EncodedRow:
    """The training row of a lesson: its prompt with frames at `times_s`, given tokens, then the supervised ones.

    The token that ends the turn belongs to the last part that is not empty; a reply that goes on has none. Where the
    tokenizer knows no line end, an answer that is explained afterwards ends with it too. Tokens have spans and weights
    where tools may be called, or where `span_weights` are not all 1.

    Raises:
        SourceError: the question spells out a token that the model reserves.
        CheckpointError: the tokenizer cannot tell which characters a token stands for.
    """
    question = with_names(question, lesson.mode, renderer.offered, in_lesson=True)
    question = with_evidence(question, lesson.evidence)
    prompt = renderer.encode(question, times_s, lesson.mode, frame_size_hw=frame_size_hw).prompt_ids
    parts = _tagged(_writable(lesson, renderer), renderer.think_style)
    row = _reply_row(renderer, prompt, lesson, parts)
    if lesson.mode != "tools" and (weigh_alike(span_weights) or not row.completion_ids):
        return row
    return weighted_row(row, lesson, parts, num_prompt=len(prompt), renderer=renderer, weights=span_weights)


def _reply_row(renderer: Renderer, prompt: tuple[int, ...], lesson: Lesson, parts: Parts) -> EncodedRow:
    """The row of the last reply of a lesson, whose `parts` are as it is written."""
    forced, label, rationale = parts
    text = forced + label + rationale
    if lesson.form == "begun":
        return EncodedRow(prompt, renderer.beginning_ids(text))
    if lesson.mode == "explain" and rationale and not renderer.keeps_lines:
        # Nothing would part the answer from its explanation, and no reply would end: the answer is a turn of its own.
        answer = renderer.completion_ids(label.rstrip())
        return EncodedRow(prompt, answer + renderer.completion_ids(rationale), len(answer))
    ids = renderer.completion_ids(text)
    if text in (label, rationale):  # one part alone needs no tokenizer that tells places
        return EncodedRow(prompt, ids if text else (), len(ids) if label else 0)
    starts = renderer.completion_starts(text)
    supervised_from = len(forced) if forced else min(starts)
    rationale_from = len(forced + label) if label else supervised_from
    num_forced = sum(start < supervised_from for start in starts)
    num_label = sum(supervised_from <= start < rationale_from for start in starts) if rationale else None
    completion = ids[num_forced:] if label or rationale else ()
    return EncodedRow(prompt + ids[:num_forced], completion, len(completion) if num_label is None else num_label)


def with_evidence(question: Question, evidence: str) -> Question:
    """The question as a judge is asked it: behind the evidence, where there is any."""
    return question.model_copy(update={"text": f"{evidence} {question.text}"}) if evidence else question


def weighted(renderer: Renderer, lesson: Lesson, row: EncodedRow, *, keys: float, refused: float) -> EncodedRow:
    """The row of a lesson, its tokens weighing in the loss as they did times what they are given here.

    Args:
        renderer: that made the row.
        lesson: that it is of.
        row: as `encode_lesson` gives it.
        keys: of the step names, numbers and times of a rationale (after KPOD, arXiv 2405.16064); citations are none.
        refused: how strongly a refused reply is made less likely, beside one that is made likelier (REDI, 2505.24850).

    Raises:
        CheckpointError: the tokenizer cannot tell which characters a token stands for.
    """
    num = len(row.completion_ids)
    if lesson.form == "refused":
        factors: tuple[float, ...] = (-refused,) * num
    elif keys == 1 or not lesson.rationale or lesson.turns:
        return row
    else:
        forced, label, rationale = _tagged(_writable(lesson, renderer), renderer.think_style)
        is_alone = lesson.mode == "explain" and not renderer.keeps_lines  # a turn of its own
        before = "" if is_alone else forced + label
        starts = renderer.completion_starts(before + rationale)
        ends = [*starts[1:], len(before + rationale)]
        spans = [(start + len(before), stop + len(before)) for start, stop in key_spans(rationale, lesson.keys)]
        is_key = [any(a < stop and b > start for start, stop in spans) for a, b in zip(starts, ends, strict=True)]
        # A reply that goes on has no end token, and what is given of one, or stands in another turn, is left out.
        is_key = is_key[:num] if lesson.form == "begun" else is_key[-num:]
        factors = (1.0,) * (num - len(is_key)) + tuple(keys if key else 1.0 for key in is_key)
    weights = zip(row.weights or (1.0,) * num, factors, strict=True)
    return replace(row, weights=tuple(weight * factor for weight, factor in weights))


def key_spans(text: str, names: Sequence[str]) -> list[tuple[int, int]]:
    """Where names, numbers and times stand in a rationale, by their characters.

    >>> key_spans("0.4s chop onion [1].", ["chop onion"])
    [(0, 4), (5, 15)]
    """
    listed = [rf"\b{re.escape(name)}\b" for name in sorted(names, key=len, reverse=True)]
    return [match.span() for match in re.finditer("|".join([*listed, _NUMBER]), text, re.IGNORECASE)]


def lesson_text(lesson: Lesson) -> str:
    """The reply that a lesson teaches, as the scorer reads it."""
    return (lesson.forced + lesson.label + lesson.rationale).strip()


def thought_ids(renderer: Renderer) -> list[tuple[int, ...]]:
    """Ids of the three first lines of an adaptive reply, in the order of THOUGHT_MODES."""
    lines = mode_lines(renderer)
    return [renderer.beginning_ids(f"{lines[mode]}\n") for mode in THOUGHT_MODES]


@lru_cache(maxsize=4)
def mode_lines(renderer: Renderer) -> dict[ThoughtMode, str]:
    """The first lines of adaptive replies, in words that the tokenizer knows and that it tells apart.

    Raises:
        CheckpointError: there are none.
    """
    unknown = renderer.tokenizer.unk_token_id
    for lines in (MODE_LINES, PLAIN_LINES):
        ids = {renderer.beginning_ids(f"{line}\n") for line in lines.values()}
        if len(ids) == len(lines) and not any(unknown in one for one in ids):
            return lines
    raise CheckpointError(
        f"the tokenizer of {renderer.tokenizer.name_or_path} knows not enough words for the first lines of an adaptive "
        "student's replies; take another base, or no arm of order adaptive"
    )


def _writable(lesson: Lesson, renderer: Renderer) -> Lesson:
    """The lesson with its first line as this tokenizer can write it."""
    lines = mode_lines(renderer) if lesson.mode == "adaptive" else MODE_LINES
    for mode in THOUGHT_MODES if lines is not MODE_LINES else ():
        old, new = MODE_LINES[mode], lines[mode]
        parts = {name: text.replace(old, new, 1) for name in ("forced", "label") if (text := getattr(lesson, name))}
        lesson = lesson.model_copy(update=parts)
    return lesson


def plain_reply(text: str) -> str:
    r"""A reply without the tags around its rationale.

    >>> plain_reply("<think>\n1 + 1 = 2\n</think>\n\nAnswer: 2")
    '1 + 1 = 2\nAnswer: 2'
    """
    return _CLOSE.sub("\n", _OPEN.sub("", text)).strip()


def answer_of(text: str, *, style: ThinkStyle, mode: PromptMode) -> str | None:
    """The answer of a reply, looked for after its rationale; None while the rationale was never closed."""
    _, closed, after = text.rpartition(CLOSE_THINK.strip())
    if style == "none" or closed:
        return find_answer(plain_reply(after)).answer or None
    unfinished = OPEN_THINK.strip() in text or (style == "opened" and mode in ("reason", "adaptive"))
    return None if unfinished else find_answer(after).answer or None


def check_prompts(renderer: Renderer) -> None:
    """Compare prompts with what is asked, and with those of transformers' own `apply_chat_template`, in every mode.

    Raises:
        CheckpointError: they differ for this tokenizer and template; the message says where.
    """
    name = renderer.tokenizer.name_or_path
    for mode in MODES if renderer.takes_images else TEXT_MODES:
        shown = asked_text(_SHOWN, mode)
        if shown not in renderer.prompt(_SHOWN, (), mode):
            raise CheckpointError(
                f"the chat template of {name} leaves out or changes a part of the question: {shown!r} does not stand "
                "in its prompt; mend it, or take another model"
            )
        ours = renderer.encode(_ASKED, (), mode, frame_size_hw=None).prompt_ids
        wanted = renderer.library_ids(_ASKED, mode)
        if wanted and ours != wanted:
            raise CheckpointError(
                f"mode {mode}: the prompt {_part(ours, wanted)} is not the one that transformers makes, "
                f"{_part(wanted, ours)}, with the tokenizer of {name}; mend its files, or use another model"
            )
    ours, whole = renderer.library_ids(_ASKED, "direct"), renderer.library_ids(_ASKED, "direct", _ANSWER)
    end = renderer.completion_ids(_ANSWER)[-1]
    if renderer.ends_turns and whole and end not in whole[num_alike(ours, whole) :]:
        raise CheckpointError(
            f"the token {end} that ends a reply is not in the conversation that transformers makes, with the tokenizer "
            f"of {name}; mend its files, or use another model"
        )


def _part(ids: tuple[int, ...], other: tuple[int, ...]) -> str:
    """Some ids from where two rows part."""
    at = num_alike(ids, other)
    return f"{list(ids[at : at + 5])} at token {at} of {len(ids)}"


def check_round_trip(renderer: Renderer) -> None:
    """Compare what the trainer supervises with what a generator has to emit and a scorer reads, in every mode.

    Raises:
        CheckpointError: they differ for this tokenizer and template, or prompts do; the message says where.
    """
    check_prompts(renderer)
    for lesson in (_writable(lesson, renderer) for lesson in _LESSONS):
        row = encode_lesson(renderer, _ASKED, lesson)
        prompt = renderer.encode(_ASKED, (), lesson.mode, frame_size_hw=None).prompt_ids
        given = row.prompt_ids[len(prompt) :]
        text = renderer.decode((given + row.completion_ids)[:-1])
        wanted = lesson_text(lesson)
        forced = renderer.beginning_ids(lesson.forced) if lesson.forced else ()
        answer = answer_of(text, style=renderer.think_style, mode=lesson.mode)
        differences = (
            ("the prompt of training", row.prompt_ids[: len(prompt)], "the prompt of prediction", prompt),
            ("the given beginning in training", given, "the one in prediction", forced),
            ("the reply decoded", plain_reply(text), "the lesson", wanted),
            ("the answer read from the reply", answer, "the lesson's answer", find_answer(wanted).answer),
            ("the last token", row.completion_ids[-1] in renderer.end_ids, "a token that ends the turn", True),
        )
        for what, one, other_what, other in differences:
            if one != other:
                raise CheckpointError(
                    f"mode {lesson.mode}: {what} ({one!r}) is not {other_what} ({other!r}) with this tokenizer and "
                    "chat template; use another model, mend its tokenizer files, or try student.think_tags=none"
                )


def _tagged(lesson: Lesson, style: ThinkStyle) -> tuple[str, str, str]:
    """Forced, label and rationale of a lesson, with tags around the steps that come before the answer line."""
    parts = [lesson.forced, lesson.label, lesson.rationale]
    last = max((i for i, part in enumerate(parts) if part), default=0)
    parts[last] = parts[last].rstrip()  # a reply ends with its end token, not with a blank
    whole = "".join(parts)
    if style in ("none", "closed") or lesson.mode not in ("reason", "adaptive"):
        return parts[0], parts[1], parts[2]
    start = whole.find("\n") + 1 if lesson.mode == "adaptive" else 0
    end = whole.rfind("\n")
    has_steps = end > start
    edits: list[tuple[int, int, str]] = []
    if has_steps:
        edits.append((end, end + 1, CLOSE_THINK))
        if style == "written":
            edits.append((start, start, OPEN_THINK))
    elif style == "opened":
        # After a mode line there is a line end already; a second one would melt into one token with it.
        edits.append((start, start, CLOSE_THINK.lstrip() if start else CLOSE_THINK))
    for begin, stop, new in edits:  # from the back, so that earlier places stay
        parts = _edit(parts, begin, stop, new)
    return parts[0], parts[1], parts[2]


def _edit(parts: list[str], begin: int, stop: int, new: str) -> list[str]:
    """`parts` of one text with its characters `begin` to `stop` replaced; the new ones join the part that follows."""
    made, offset, pending = [], 0, new
    for part in parts:
        low, high = max(begin - offset, 0), max(stop - offset, 0)
        mine = bool(pending) and begin - offset < len(part)
        made.append(part[:low] + (pending if mine else "") + part[high:])
        pending = "" if mine else pending
        offset += len(part)
    made[-1] += pending
    return made
