"""Which of several chains of a question an arm learns: the one behind which the base finds the right answer likeliest.

After MoRSD, which keeps the rationales that a student can make use of: a chain that the base cannot follow to the
answer teaches it little. The base is asked once for all arms that want to know, and its likelihoods are published.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from aot.arms.lessons import Material, answer_lesson
from aot.errors import GuardStop
from aot.files.run_folder import read_rows
from aot.files.seals import publish_once
from aot.records import Question, Record, Trace
from aot.student.answer.predict import lesson_log_probs
from aot.student.model.loading import Student
from aot.student.rows.frames import FramePixels

Candidates = Mapping[str, Sequence[Trace]]
"""Question id to its chains."""
Opened = tuple[Student, FramePixels | None]


class Likelihood(Record):
    """How likely the base finds the right answer behind one chain."""

    question_id: str
    sample_index: int
    log_prob: float | None
    """In nats, of the answer and the end of the reply; None where the student cannot read the chain."""


def publish_likelihoods(
    path: Path,
    candidates: Candidates,
    questions: Mapping[str, Question],
    *,
    open_base: Callable[[list[Question]], Opened],
    batch_size: int,
) -> None:
    """Publish a Likelihood for each chain of each question that has several; the base is opened where any has.

    Args:
        path: where; what an earlier call has published stays.
        candidates: the chains.
        questions: of these chains.
        open_base: opens the untrained student for some questions.
        batch_size: chains that it reads at once.
    """
    chains = [chain for several in candidates.values() if len(several) > 1 for chain in several]

    def rows() -> Iterator[Likelihood]:
        if not chains:
            return
        student, pixels = open_base([questions[i] for i, several in candidates.items() if len(several) > 1])
        pairs = [(questions[chain.question_id], answer_lesson(questions[chain.question_id], chain)) for chain in chains]
        values = lesson_log_probs(student, pairs, pixels=pixels, batch_size=batch_size)
        for chain, value in zip(chains, values, strict=True):
            yield Likelihood(question_id=chain.question_id, sample_index=chain.sample_index, log_prob=value)

    publish_once(path, rows)


def likeliest(candidates: Candidates, path: Path) -> dict[str, Trace]:
    """Of each question that has several chains, the one with the likeliest answer by the Likelihoods at `path`.

    Of two that are equally likely it is the first by sample; where none could be read, the question is left out.
    """
    weighed = {(row.question_id, row.sample_index): row.log_prob for row in read_rows(path, Likelihood)}
    chosen: dict[str, Trace] = {}
    for question_id, several in candidates.items():
        rated = [
            (-value, chain.sample_index, place)
            for place, chain in enumerate(several)
            if (value := weighed.get((question_id, chain.sample_index))) is not None
        ]
        if rated:
            chosen[question_id] = several[min(rated)[2]]
    return chosen


def with_likeliest(material: Material, path: Path) -> Material:
    """What the filters left, where each question that has several chains is taught the likeliest."""
    return replace(material, chains={**material.chains, **likeliest(material.kept, path)})


def require_choice(paths: Iterable[Path], *, arm: str) -> None:
    """Look whether there was anything to choose.

    Raises:
        GuardStop: no question has two chains, so the arm would be a twin of one that chooses by length.
    """
    if not any(path.exists() and path.stat().st_size for path in paths):
        raise GuardStop(
            f"arm {arm} is to choose among the chains of a question by likelihood, and none has two; it was not "
            "trained. Raise teacher.samples or train.own_chains.samples, or take choice out"
        )
