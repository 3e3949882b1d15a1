"""Training examples: a question as token rows (answer directly; reason first), what was dropped, and in which order.

A row longer than the limit is dropped and counted, never cut. The order of questions is a pure function of seed and
position, so a resumed run sees what an uninterrupted one would have seen. No pixels are touched here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from aot.errors import SourceError
from aot.rationales.notation import parse_rationale
from aot.records import Question, Trace
from aot.student.rows.frames import ChosenFrames, FrameSource, choose_indices
from aot.student.rows.prompts import Mode
from aot.student.rows.tokens import EncodedRow, Renderer

HISTOGRAM_STEP = 64
"""Width of a bin of the length histogram, in tokens."""


@dataclass(frozen=True)
class Example:
    """One question ready for training."""

    question_id: str
    frames: ChosenFrames | None
    direct: EncodedRow
    reason: EncodedRow | None
    """None when no kept trace explains the question, or rationales are not trained."""

    @property
    def rows(self) -> tuple[EncodedRow, ...]:
        """What is trained on."""
        return (self.direct,) if self.reason is None else (self.direct, self.reason)

    @property
    def explains(self) -> bool:
        """Whether it teaches more than the answer."""
        return self.reason is not None


@dataclass(frozen=True)
class LessonExample:
    """One lesson ready for training."""

    question_id: str
    row: EncodedRow
    explains: bool = True
    """Whether it teaches more than the answer."""

    @property
    def rows(self) -> tuple[EncodedRow, ...]:
        """What is trained on."""
        return (self.row,)


class HasRows(Protocol):
    """What examples of both kinds tell."""

    @property
    def question_id(self) -> str: ...  # noqa: D102
    @property
    def rows(self) -> tuple[EncodedRow, ...]: ...  # noqa: D102
    @property
    def explains(self) -> bool: ...  # noqa: D102


AnyExample = TypeVar("AnyExample", bound=HasRows, covariant=True)


@dataclass(frozen=True)
class ExampleSet(Generic[AnyExample]):
    """All examples of an arm, and the count of everything left out."""

    examples: tuple[AnyExample, ...]
    dropped: dict[str, int]
    """Reason (prompt_too_long, rationale_too_long, no_frames, no_kept_trace; of lessons row_too_long, reserved_token,
    unknown_token, nothing_to_learn) to number of rows, or leaks_into_test to number of questions or lessons."""

    def rows(self) -> Iterator[EncodedRow]:
        """Every row that will be trained on."""
        for example in self.examples:
            yield from example.rows

    def length_histogram(self) -> dict[str, int]:
        """`0-63` and so on, in tokens, to number of rows; bins without rows are left out."""
        bins = Counter(row.num_tokens // HISTOGRAM_STEP for row in self.rows())
        return {f"{b * HISTOGRAM_STEP}-{(b + 1) * HISTOGRAM_STEP - 1}": bins[b] for b in sorted(bins)}


def build_examples(
    questions: Iterable[Question],
    *,
    kept: Mapping[str, Trace],
    store: FrameSource,
    renderer: Renderer,
    num_frames: int,
    max_tokens: int,
    with_rationales: bool,
) -> ExampleSet[Example]:
    """Examples of `questions`, in their order.

    Args:
        questions: what to train on.
        kept: question id to the trace whose rationale is learned.
        store: where the frames lie.
        renderer: makes the prompt.
        num_frames: frames shown for each question, at most.
        max_tokens: rows longer than this are dropped and counted.
        with_rationales: False leaves the reason rows out altogether.
    """
    examples: list[Example] = []
    dropped: Counter[str] = Counter()
    for question in questions:
        try:
            frames = choose_indices(store, question.media, num_frames=num_frames) if question.media else None
        except SourceError:
            dropped["no_frames"] += 1
            continue
        direct = encode_row(renderer, question, frames, mode="direct", completion=question.right_answer)
        if direct.num_tokens > max_tokens:
            dropped["prompt_too_long"] += 1
            continue
        reason = None
        if with_rationales and question.id in kept:
            reason = encode_row(renderer, question, frames, mode="reason", completion=rationale_text(kept[question.id]))
            if reason.num_tokens > max_tokens:
                dropped["rationale_too_long"] += 1
                reason = None
        elif with_rationales:
            dropped["no_kept_trace"] += 1
        examples.append(Example(question.id, frames, direct, reason))
    return ExampleSet(tuple(examples), dict(sorted(dropped.items())))


def encode_row(
    renderer: Renderer,
    question: Question,
    frames: ChosenFrames | None,
    *,
    mode: Mode,
    completion: str | None = None,
) -> EncodedRow:
    """The row of `question` showing `frames`, or none; the way in for training and prediction alike."""
    times = frames.times_s if frames else ()
    size_hw = frames.size_hw if frames else None
    return renderer.encode(question, times, mode, frame_size_hw=size_hw, completion=completion)


def rationale_text(trace: Trace) -> str:
    """What the student learns to write: the rationale, ending with its answer."""
    if parse_rationale(trace.rationale).answer:
        return trace.rationale
    return f"{trace.rationale.rstrip()}\nAnswer: {trace.answer}"


def first_kept(traces: Iterable[Trace]) -> dict[str, Trace]:
    """Question id to its kept trace with the lowest sample index."""
    first: dict[str, Trace] = {}
    for trace in traces:
        old = first.get(trace.question_id)
        if old is None or trace.sample_index < old.sample_index:
            first[trace.question_id] = trace
    return first


class Schedule(Sequence[AnyExample]):
    """The examples of a whole training run, one after another: item i depends on (seed, i) only."""

    def __init__(self, examples: Sequence[AnyExample], *, seed: int, length: int) -> None:
        self._examples = examples
        self._seed = seed
        self._length = length
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> AnyExample:  # type: ignore[override]
        if not 0 <= index < self._length:
            raise IndexError(f"a schedule of {self._length} items has no item {index}")
        epoch, position = divmod(index, len(self._examples))
        if epoch != self._epoch:
            self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._examples))
            self._epoch = epoch
        return self._examples[int(self._order[position])]
