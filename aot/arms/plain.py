"""Plain chains of thought for the control: the same questions, without decomposition and without evidence checks.

Of a clip the teacher looks once at evenly spaced frames, those that the student will see, and says what each shows.
Of text it is the chain that the teacher wrote, before any filter. The answer is the right one, as it is in the lessons
of all other arms, so that arms differ in their rationales alone.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from aot.answers import verifies
from aot.arms.lessons import Material, by_length, pick_chain
from aot.errors import ChatError, DecodeError, GuardStop, SourceError, ToolError
from aot.files.run_folder import RunFolder, read_rows
from aot.files.seals import publish_once
from aot.files.traces import read_faults, read_solved
from aot.records import Question, Trace
from text_cot.teacher.granularity import Size

log = logging.getLogger(__name__)


class PlainTeacher(Protocol):
    """A teacher that can also look once."""

    def look_once(self, question: Question, *, num_frames: int) -> Trace | None:
        """A plain chain about a clip; None where it came to another answer."""
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...


def publish_plain(
    run: RunFolder,
    path: Path,
    material: Material,
    *,
    open_teacher: Callable[[], PlainTeacher],
    num_frames: int,
    size: Size,
    seed: int,
) -> None:
    """Publish a plain chain for each question that every arm can learn from, as far as the teacher can write one.

    Args:
        run: its traces are read for questions without a clip.
        path: where; what an earlier call has published stays.
        material: whose questions.
        open_teacher: opens who looks, where any question is about a clip.
        num_frames: frames of a clip that it sees.
        size: of the steps of text chains.
        seed: where that is mixed.
    """
    questions = [material.questions[question_id] for question_id in material.samples]

    def rows() -> Iterator[Trace]:
        if any(question.media for question in questions):
            with closing(open_teacher()) as teacher:
                yield from _looks(questions, teacher, num_frames=num_frames)
        else:
            yield from _unfiltered(run, material, size=size, seed=seed)

    publish_once(path, rows)


def _looks(questions: list[Question], teacher: PlainTeacher, *, num_frames: int) -> Iterator[Trace]:
    refused: list[str] = []
    for question in questions:
        try:
            trace = teacher.look_once(question, num_frames=num_frames)
        except (SourceError, DecodeError, ToolError, ChatError) as error:
            refused.append(f"{question.id}: {error}"[:200])
            continue
        if trace is not None:
            yield trace
    if refused:
        log.warning("%d of %d questions got no plain chain, such as %s", len(refused), len(questions), refused[0])


def _unfiltered(run: RunFolder, material: Material, *, size: Size, seed: int) -> Iterator[Trace]:
    """The chains of a text teacher that come to the right answer, whatever the filters thought of them.

    Those that a defect was planted in are no chains of the teacher's.
    """
    planted = {(row.question_id, row.sample_index) for row in read_faults(run)}
    for question, traces in read_solved(run):
        if question.id in material.samples:
            sound = [t for t in traces if (t.question_id, t.sample_index) not in planted and verifies(t, question)]
            yield pick_chain(by_length(sound), size=size, seed=seed)


def with_plain(material: Material, path: Path, *, arm: str) -> Material:
    """What an arm of plain chains learns from.

    Raises:
        GuardStop: there is none.
    """
    chains = {trace.question_id: trace for trace in read_rows(path, Trace)}
    if not chains:
        raise GuardStop(
            f"arm {arm} is to learn plain chains, and the teacher wrote none for {len(material.samples)} questions; it "
            "was not trained. Look at the log for the reasons, or take the arm out"
        )
    return replace(material, chains={i: chains[i] for i in material.chains if i in chains})
