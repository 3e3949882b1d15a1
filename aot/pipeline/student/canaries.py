"""Canaries: fresh labelled questions with what the export answers to them; aot.drift asks them again later."""

import logging
from collections.abc import Sequence
from pathlib import Path

from aot import seeds
from aot.answers import check_packages, stop_workers
from aot.config import RunConfig, VideoRun, load_saved
from aot.display import counted
from aot.drift.advice import installed_versions
from aot.drift.look import answers_to, clips_of, drawn_beside, grade
from aot.errors import RunError, SourceError
from aot.files.run_folder import RunFolder, publish_rows
from aot.pipeline.student.calibrate import fresh_questions, held_out
from aot.records import Question
from aot.served_records import Canary
from aot.serving.student import ServedStudent, load_student

log = logging.getLogger(__name__)
PURPOSE = "canaries"


def draw_canaries(export: Path, root: Path, out: Path, *, count: int) -> list[Canary]:
    """Write a file of canaries: questions of no split, one of each group, with the answers of the export.

    Drawn clips lie in a folder beside the file, which has its name.

    Raises:
        AotError: the run or the export cannot be read, too few questions are there, or something lies at `out`.
    """
    if out.exists():
        raise RunError(f"{out} is there already; its answers are what later ones are compared with: name another file")
    run = RunFolder(root)
    config = load_saved(run.config)
    questions = _chosen(run, config, drawn_beside(out), count=count)
    check_packages(questions)
    with load_student(export) as student:
        try:
            made = _with_answers(student, questions, clips_of(out))
        finally:
            stop_workers()
    publish_rows(out, made)
    return made


def _chosen(run: RunFolder, config: RunConfig, place: RunFolder, *, count: int) -> list[Question]:
    """One question of each group, in an order by hash."""
    fresh = fresh_questions(place, run, config, count=count, purpose=PURPOSE)
    if fresh is None and isinstance(config, VideoRun):
        raise SourceError(
            f"the clips of {config.data.dataset} are not drawn, so no fresh canaries can be; write a file of labelled "
            "questions, and watch the labels of the traffic (`right` in the log) instead"
        )
    fresh = fresh or held_out(run, config)
    by_id = {one.id: one for one in fresh.questions}
    groups: dict[str, Question] = {}
    for name in seeds.in_random_order(by_id, seed=config.seed):
        groups.setdefault(by_id[name].group, by_id[name])
    questions = list(groups.values())[:count]
    if not questions:
        raise SourceError(f"there is no question of no split to make a canary of ({fresh.source}); {fresh.more}")
    if len(questions) < count:
        log.warning("%s instead of %d: %s", counted(len(questions), "question"), count, fresh.source)
    return questions


def _with_answers(student: ServedStudent, questions: Sequence[Question], clips: Path) -> list[Canary]:
    said, versions = answers_to(questions, student, clips), installed_versions()
    made = []
    for question in questions:
        answer, confidence = said[question.id]
        row = Canary(question=question, answer=answer or "", right=False, confidence=confidence,
                     student_digest=student.contract.student_digest(), versions=versions)  # fmt: skip
        made.append(row.model_copy(update={"right": answer is not None and grade(row, answer)}))
    return made


def canary_lines(made: Sequence[Canary], out: Path) -> list[str]:
    """What was drawn, for people."""
    right = sum(one.right for one in made)
    kinds = sorted({one.question.kind for one in made})
    return [
        f"{out}: {len(made)} {'canary' if len(made) == 1 else 'canaries'} of the kinds "
        f"{', '.join(kinds)}; the export answers {right} right, and those are what a loss is seen by",
        *([] if right else ["none is right: such canaries show no loss; draw them of a student that can answer"]),
    ]
