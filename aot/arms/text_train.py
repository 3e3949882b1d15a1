"""The train stage of a text run: writes what each arm learns, then trains it; helpers of an arm lie in its folder."""

import logging
from collections.abc import Callable

from aot.arms.budget import planned_steps
from aot.arms.lessons import Samples, arm_lessons, kept_samples, teachable
from aot.config import ArmConfig, RunConfig
from aot.errors import GuardStop
from aot.files.run_folder import RunFolder
from aot.files.seals import publish_once
from aot.records import Lesson
from aot.student.rows.lessons import LESSONS
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
        GuardStop: no training question has a kept chain, or none to which the damage of every arm applies.
    """
    kept = kept_samples(run)
    samples = teachable(kept, config)
    if not samples:
        why = f"no arm can damage any of the {len(kept)} kept chains as `chains` asks" if kept else "no chain was kept"
        raise GuardStop(f"{why}, so no arm has anything to learn from; nothing was trained. Look at {run.funnel}")
    log.info("training on %d questions", len(samples))
    total = sum(planned_steps(arm, config) for arm in config.train.arms)
    counter = StepCounter(progress, total=total)
    for arm in config.train.arms:
        counter.train(run, config, arm, _lesson_maker(run, config, arm, samples, counter))
        if arm.chains == "self":
            from aot.arms.own_chains import note_final

            note_final(run, config, arm)
    return {"arms": len(config.train.arms), "steps": total}


def _lesson_maker(
    run: RunFolder, config: RunConfig, arm: ArmConfig, samples: dict[str, Samples], counter: StepCounter
) -> Callable[[], list[Lesson]]:
    if arm.order == "adaptive":
        from aot.arms.adaptive import adaptive_lessons

        return lambda: adaptive_lessons(run, config, arm, samples, counter)
    if arm.chains == "self":
        from aot.arms.own_chains import own_lessons

        return lambda: own_lessons(run, config, arm, samples, counter)
    return lambda: arm_lessons(samples, arm, config)
