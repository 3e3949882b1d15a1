"""The train stage: writes what each arm learns, then trains it; helpers of an arm lie in its folder."""

import logging
from collections.abc import Callable

from aot.arms.budget import planned_steps
from aot.arms.lessons import Samples, arm_lessons, kept_samples, teachable, train_questions
from aot.config import ArmConfig, RunConfig
from aot.errors import GuardStop
from aot.files.run_folder import RunFolder
from aot.files.seals import publish_once
from aot.records import Lesson, Question
from aot.student.rows.examples import LESSONS
from aot.student.train.arm import train_arm

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


class StepCounter:
    """Adds up the optimiser steps of all arms and their helpers for the progress of the stage."""

    def __init__(self, progress: Progress, *, total: int) -> None:
        self._progress = progress
        self._total = total
        self._finished = 0

    def train(self, run: RunFolder, config: RunConfig, arm: ArmConfig, lessons: Callable[[], list[Lesson]]) -> None:
        """Train `arm` on its lessons, which are made and written once; a trained arm is left alone."""
        publish_once(run, "train", run.arm(arm.name) / LESSONS, lessons)
        train_arm(run, config, arm, progress=lambda done, _: self._progress(self._finished + done, self._total))
        self._finished += config.steps_of(arm)
        self._progress(self._finished, self._total)


def train(run: RunFolder, config: RunConfig, progress: Progress) -> dict[str, int]:
    """Every arm, one after the other; returns how many arms there are, and steps of all students together.

    Raises:
        GuardStop: arms need chains, and none was kept, or none to which the damage of every arm applies; before any arm
            is trained.
    """
    questions = {question.id: question for question in train_questions(run)}
    kept = kept_samples(run, questions.values())
    samples = teachable(kept, config)
    in_need = [arm.name for arm in config.train.arms if arm.needs_chains]
    if in_need and not samples:
        why = f"no arm can damage any of the {len(kept)} kept chains as `chains` asks" if kept else "no chain was kept"
        raise GuardStop(
            f"{why}, so {', '.join(in_need)} would have nothing to learn from; nothing was trained. Look at "
            f"{run.funnel}, or leave them out of train.arms in another run.dir with run.reuse={run.root}"
        )
    log.info("training on %d questions, %d of them with a chain", len(questions), len(samples))
    total = sum(planned_steps(arm, config) for arm in config.train.arms)
    counter = StepCounter(progress, total=total)
    for arm in config.train.arms:
        counter.train(run, config, arm, _lesson_maker(run, config, arm, questions, samples, counter))
        if arm.chains == "self":
            from aot.arms.own_chains import note_final

            note_final(run, config, arm)
    return {"arms": len(config.train.arms), "steps": total}


def _lesson_maker(
    run: RunFolder,
    config: RunConfig,
    arm: ArmConfig,
    questions: dict[str, Question],
    samples: dict[str, Samples],
    counter: StepCounter,
) -> Callable[[], list[Lesson]]:
    if arm.order == "adaptive":
        from aot.arms.adaptive import adaptive_lessons

        return lambda: adaptive_lessons(run, config, arm, questions, samples, counter)
    if arm.chains == "self":
        from aot.arms.own_chains import own_lessons

        return lambda: own_lessons(run, config, arm, questions, samples, counter)
    return lambda: arm_lessons(questions, samples, arm, config)
