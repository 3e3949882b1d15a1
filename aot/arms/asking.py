"""How students are asked while an arm is made: the base, or a helper that is trained for it, with frames or without."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from aot.config import StudentConfig
from aot.files.run_folder import RunFolder
from aot.records import Prediction, Question, ThoughtMode
from aot.student.answer.predict import PredictMode, predict
from aot.student.model.loading import Student, load_student
from aot.student.rows.frames import FramePixels


def open_student(
    run: RunFolder, config: StudentConfig, adapter: Path | None, questions: Iterable[Question], *, cache_mb: int
) -> tuple[Student, FramePixels | None]:
    """The base, or the student trained in the folder `adapter`, and the frames that `questions` show, if any do."""
    student = load_student(config.base, adapter=adapter, config=config)
    if not any(question.media for question in questions):
        return student, None
    return student, student.pixels(run.frames, max_bytes=cache_mb << 20)


def timeless_answers(
    student: Student,
    questions: Sequence[Question],
    *,
    pixels: FramePixels | None,
    arm: str,
    mode: PredictMode,
    batch_size: int,
    thought: ThoughtMode | None = None,
) -> Iterator[Prediction]:
    """Greedy answers without their wall times."""
    rows = predict(student, questions, pixels=pixels, arm=arm, mode=mode, batch_size=batch_size, thought=thought)
    return map(timeless, rows)


def timeless(row: Prediction) -> Prediction:
    """A prediction without its wall time, so that reruns are byte-identical."""
    return row.model_copy(update={"latency_s": 0.0})
