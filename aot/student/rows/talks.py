"""What each token of a lesson is part of and how much it counts; and talks of several turns with tools as ids.

The ids of a talk are those that a student reads and writes when it calls tools itself: prompt, reply, results, reply
and so on, each made alone and appended, never made again from the text of the whole. Imports no torch.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from aot.config import SpanWeights
from aot.errors import CheckpointError
from aot.rationales.notation import ANSWER_MARK
from aot.records import Lesson, LessonTurn, Question
from aot.student.rows.packing import EncodedRow, Span, num_alike
from aot.student.rows.prompts import CLOSED, OPENED, PROBE, read_calls
from aot.student.rows.tokens import Renderer

ALIKE = SpanWeights()
"""With these, lessons without tools have no spans and no weights."""
Parts = tuple[str, str, str]
"""Of a reply: what is given, its label and its rationale."""


def weighted_row(
    row: EncodedRow, lesson: Lesson, parts: Parts, *, num_prompt: int, renderer: Renderer, weights: SpanWeights
) -> EncodedRow:
    """The row of a lesson with its turns, and with the span and the weight of each id behind the prompt.

    Args:
        row: of the last reply of the lesson alone.
        lesson: what is learned.
        parts: of its last reply, as it is written.
        num_prompt: how many ids of `row` are the prompt; what is given of the reply stands behind them.
        renderer: made `row`.
        weights: of the spans.

    Raises:
        CheckpointError: the tokenizer cannot tell which characters a token stands for, or the template takes no turns.
    """
    given = row.prompt_ids[num_prompt:]
    prompt, ids = row.prompt_ids, row.completion_ids
    # A reply that is learned up to a place only ends there, and not with the token that ends a turn.
    spans = _reply_spans(row, lesson, parts, renderer=renderer)[len(given) :][: len(ids)]
    if lesson.turns:
        before, of_turns = _turns(lesson, renderer)
        prompt, ids = prompt[:num_prompt], before + given + ids
        spans = (*of_turns, *_all("given", given), *spans)
    num_label, by_span = 0 if lesson.turns else row.num_label, weight_of(weights)
    return EncodedRow(prompt, ids, num_label, tuple(by_span[span] for span in spans), spans)


def weigh_alike(weights: SpanWeights) -> bool:
    """Whether every learned token counts as it would without any weights."""
    return weights.answer == weights.rationale == weights.call == 1


def weight_of(weights: SpanWeights) -> dict[str, float]:
    """The weight of each span; nothing is learned of what tools gave, and of what is given of a reply."""
    return {
        "answer": weights.answer, "rationale": weights.rationale, "call": weights.call, "result": 0.0, "given": 0.0,
    }  # fmt: skip


def _turns(lesson: Lesson, renderer: Renderer) -> tuple[tuple[int, ...], tuple[Span, ...]]:
    """Ids and spans of the turns before the last reply of a lesson."""
    ids: tuple[int, ...] = ()
    spans: tuple[Span, ...] = ()
    said = iter(turn for turn in lesson.turns if turn.role == "assistant")
    for text, new in turn_ids(lesson.turns, renderer):
        ids += new
        if text is None:
            spans += _all("result", new)
        else:
            spans += _turn_spans(text, renderer) if next(said).learned else _all("given", new)
    return ids, spans


def turn_ids(turns: Iterable[LessonTurn], renderer: Renderer) -> Iterator[tuple[str | None, tuple[int, ...]]]:
    """Ids of each turn of a student with its text, and of each group of results between two of them with None."""
    for role, group in groupby(turns, key=lambda turn: turn.role):
        texts = [turn.text for turn in group]
        if role == "tool":
            yield None, renderer.result_ids(texts)
        else:
            yield from ((text, renderer.completion_ids(text)) for text in texts)


def _turn_spans(text: str, renderer: Renderer) -> tuple[Span, ...]:
    """What each id of a turn of the student is part of: a call with its tags, or the words around it."""
    places: list[tuple[int, Span]] = [(0, "rationale")]
    start = text.find(OPENED)
    while start >= 0:
        end = text.find(CLOSED, start)
        end = len(text) if end < 0 else end + len(CLOSED)
        places += [(start, "call"), (end, "rationale")]
        start = text.find(OPENED, end)
    return _by_place(text, places, renderer)


def _reply_spans(row: EncodedRow, lesson: Lesson, parts: Parts, *, renderer: Renderer) -> tuple[Span, ...]:
    """What each id of the last reply of a lesson is part of, whatever is given of it included."""
    forced, text, ids = parts[0], "".join(parts), row.completion_ids
    if lesson.mode == "direct":
        return _all("answer", ids)
    if lesson.mode == "explain":
        return _all("answer", ids[: row.num_label]) + _all("rationale", ids[row.num_label :])
    places: list[tuple[int, Span]] = [(0, "given"), (len(forced), "rationale")]
    answer = text.rfind(ANSWER_MARK)
    places += [(answer, "answer")] if answer >= len(forced) else []
    return _by_place(text, places, renderer)


def _all(span: Span, ids: Sequence[int]) -> tuple[Span, ...]:
    return (span,) * len(ids)


def _by_place(text: str, places: Sequence[tuple[int, Span]], renderer: Renderer) -> tuple[Span, ...]:
    """The span of each id of a reply: that of the last place at or before the first character that it stands for.

    The token that ends the turn belongs to what is said last.
    """
    starts = (min(max(start, 0), max(len(text) - 1, 0)) for start in renderer.completion_starts(text))
    return tuple(next(span for place, span in reversed(places) if place <= start) for start in starts)


def check_talk(renderer: Renderer, question: Question, lesson: Lesson) -> None:
    """Compare what a lesson with turns teaches with what a student has to write so that its calls can be read.

    Raises:
        CheckpointError: they differ for this tokenizer and template; the message says where.
    """
    ours = renderer.encode(question, (), lesson.mode, frame_size_hw=None).prompt_ids
    wanted = renderer.library_ids(question, lesson.mode)
    at = num_alike(ours, wanted)
    if wanted and ours != wanted:
        raise CheckpointError(
            f"mode {lesson.mode}: the prompt {list(ours[at : at + 5])} at token {at} is not the one that transformers "
            f"makes, {list(wanted[at : at + 5])}, with the tokenizer of {renderer.tokenizer.name_or_path}; mend its "
            "files, or use another model"
        )
    for turn in lesson.turns:
        if turn.role == "tool":
            renderer.result_ids([turn.text])
            continue
        ids = renderer.completion_ids(turn.text)
        said, meant = read_calls(renderer.decode(ids[:-1])), read_calls(turn.text.strip())
        if said[1] != meant[1] or ids[-1] not in renderer.end_ids:
            raise CheckpointError(
                f"mode {lesson.mode}: the call {turn.text[-120:]!r} comes back as {renderer.decode(ids[:-1])[-120:]!r} "
                "with this tokenizer, so that no call of this student could be carried out; take a base whose "
                "tokenizer keeps JSON, or no arm of order tool_use"
            )


def talk_hash(renderer: Renderer) -> str:
    """Sixteen hex digits over what shapes a talk with tools; stored with an adapter and checked on load."""
    text = repr((renderer.prompt(PROBE, (), "tools"), renderer.result_ids(["one"]), renderer.result_ids(["1", "2"])))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
