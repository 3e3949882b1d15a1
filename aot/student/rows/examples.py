"""Training examples: lessons as token rows, what was dropped, and in which order they come.

A lesson that cannot be taught as it stands is dropped and counted, never cut: one that is too long, one that spells out
a token which the model reserves, one with a word that the tokenizer does not know. The order of examples is a pure
function of seed and position, so a resumed run sees what an uninterrupted one would have seen. No pixels are touched
here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from aot.config import SpanWeights
from aot.errors import SourceError
from aot.records import Lesson, Question
from aot.student.rows.frames import ChosenFrames, FrameSource, shown_frames
from aot.student.rows.packing import EncodedRow
from aot.student.rows.prompts import CLOSED, OPENED, Mode
from aot.student.rows.replies import encode_lesson, lesson_text, weighted
from aot.student.rows.talks import ALIKE, weight_of
from aot.student.rows.tokens import Renderer

HISTOGRAM_STEP = 64
"""Width of a bin of the length histogram, in tokens."""


@dataclass(frozen=True)
class Example:
    """What is learned together: all replies to one question that show its frames, or one lesson without frames."""

    question_id: str
    rows: tuple[EncodedRow, ...]
    frames: ChosenFrames | None = None
    explains: bool = True
    """Whether it teaches more than the answer."""


@dataclass(frozen=True)
class TokenWeights:
    """What tokens count in the loss, beside 1 for any other; see `weighted`."""

    keys: float = 1.0
    refused: float = 0.0


@dataclass(frozen=True)
class ExampleSet:
    """All examples of an arm, and the count of everything left out."""

    examples: tuple[Example, ...]
    dropped: dict[str, int]
    """Reason (no_frames, row_too_long, reserved_token, unknown_token, nothing_to_learn) to number of lessons."""

    def rows(self) -> Iterator[EncodedRow]:
        """Every row that will be trained on."""
        for example in self.examples:
            yield from example.rows

    def span_tokens(self, weights: SpanWeights) -> dict[str, dict[str, float]]:
        """Number and weight of the tokens behind the prompts by span; those of weight 0 are not learned."""
        counts = Counter(span for row in self.rows() for span in row.spans)
        by_span = weight_of(weights)
        return {span: {"tokens": counts[span], "weight": by_span[span]} for span in sorted(counts)}

    def length_histogram(self) -> dict[str, int]:
        """`0-63` and so on, in tokens, to number of rows; bins without rows are left out."""
        bins = Counter(row.num_tokens // HISTOGRAM_STEP for row in self.rows())
        return {f"{b * HISTOGRAM_STEP}-{(b + 1) * HISTOGRAM_STEP - 1}": bins[b] for b in sorted(bins)}


def make_examples(
    lessons: Iterable[Lesson],
    *,
    questions: Mapping[str, Question],
    renderer: Renderer,
    max_tokens: int,
    store: FrameSource | None = None,
    num_frames: int = 0,
    span_weights: SpanWeights = ALIKE,
    weights: TokenWeights | None = None,
) -> ExampleSet:
    """Examples of `lessons`, in their order.

    Args:
        lessons: what to learn; several may be about one question.
        questions: question id to question, of the train split.
        renderer: makes the prompt.
        max_tokens: rows longer than this are dropped and counted.
        store: where the frames lie; None where no lesson shows any.
        num_frames: frames shown for each question, at most.
        span_weights: how much tokens count in the loss, by what they are part of.
        weights: of tokens in the loss; None where all weigh alike.

    Raises:
        SourceError: a lesson is about a question that is not there.
        CheckpointError: the tokenizer cannot tell which characters a token stands for.
    """
    examples: list[Example] = []
    dropped: Counter[str] = Counter()
    for group in _together(lessons):
        question = questions.get(group[0].question_id)
        if question is None:
            raise SourceError(f"a lesson is about {group[0].question_id!r}, which is no question of the train split")
        try:
            frames = shown_frames(store, question, shown=group[0].with_frames, num_frames=num_frames)
        except SourceError:
            dropped["no_frames"] += len(group)
            continue
        rows: list[EncodedRow] = []
        explained = False
        for lesson in group:
            row = _usable_row(renderer, question, lesson, frames, max_tokens=max_tokens, span_weights=span_weights)
            if weights and isinstance(row, EncodedRow):
                row = weighted(renderer, lesson, row, keys=weights.keys, refused=weights.refused)
            if isinstance(row, str):
                dropped[row] += 1
            else:
                rows.append(row)
                explained |= explains(lesson)
        if rows:
            examples.append(Example(question.id, tuple(rows), frames, explained))
    return ExampleSet(tuple(examples), dict(sorted(dropped.items())))


def _together(lessons: Iterable[Lesson]) -> Iterator[list[Lesson]]:
    """Neighbours about the frames of one question stay in one batch, so that the frames are looked at once."""
    numbered = enumerate(lessons)
    for _, group in groupby(numbered, key=lambda item: item[1].question_id if item[1].with_frames else item[0]):
        yield [lesson for _, lesson in group]


def _usable_row(
    renderer: Renderer,
    question: Question,
    lesson: Lesson,
    frames: ChosenFrames | None,
    *,
    max_tokens: int,
    span_weights: SpanWeights,
) -> EncodedRow | str:
    """The row of a lesson, or why it cannot be taught."""
    said = [turn.text.replace(OPENED, "").replace(CLOSED, "") for turn in lesson.turns if turn.role == "assistant"]
    if renderer.reserved_mark("\n".join([*said, lesson_text(lesson)])):
        return "reserved_token"
    times_s, size_hw = (frames.times_s, frames.size_hw) if frames else ((), None)
    try:
        row = encode_lesson(
            renderer, question, lesson, times_s=times_s, frame_size_hw=size_hw, span_weights=span_weights
        )
    except SourceError:
        return "reserved_token"
    if not row.learned_ids:
        return "nothing_to_learn"
    if row.num_tokens > max_tokens:
        return "row_too_long"
    return "unknown_token" if renderer.has_unknown(row.learned_ids) else row


def explains(lesson: Lesson) -> bool:
    r"""Whether a lesson teaches a step, and not an answer alone.

    >>> explains(Lesson(question_id="q", mode="reason", rationale="1 + 1 = 2\nAnswer: 2"))
    True
    >>> explains(Lesson(question_id="q", mode="adaptive", forced="Mode: direct\n", rationale="Answer: 2"))
    False
    """
    if lesson.form == "refused":
        return False
    steps = (line for line in lesson.rationale.split("\n") if not line.startswith("Answer:"))
    return bool(lesson.turns) or any(line.strip() for line in steps)


def encode_row(renderer: Renderer, question: Question, frames: ChosenFrames | None, *, mode: Mode) -> EncodedRow:
    """The prompt of `question` showing `frames`, or none; the ids that training has for it too."""
    times_s, size_hw = (frames.times_s, frames.size_hw) if frames else ((), None)
    return renderer.encode(question, times_s, mode, frame_size_hw=size_hw)


class Schedule(Sequence[Example]):
    """The examples of a whole training run, one after another: item i depends on (seed, i) only."""

    def __init__(self, examples: Sequence[Example], *, seed: int, length: int) -> None:
        self._examples = examples
        self._seed = seed
        self._length = length
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        if not 0 <= index < self._length:
            raise IndexError(f"a schedule of {self._length} items has no item {index}")
        epoch, position = divmod(index, len(self._examples))
        if epoch != self._epoch:
            self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._examples))
            self._epoch = epoch
        return self._examples[int(self._order[position])]
