"""Training as a list of jobs: who is taught what, and who answers what, before an arm can learn its lessons.

The list is a function of the config and the run folder alone and is the same at every call, so that each job can run
alone on a cluster: it reads its inputs, publishes its outputs, and then leaves its DONE marker. Who runs them here is
`train`. Imports no torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aot.config import ArmConfig, RunConfig
from aot.files.run_folder import ARM_MARKER, LESSONS, ROUNDS, RunFolder

Work = Literal["lessons", "train", "ask_base", "answer", "sample", "reach"]
"""`lessons`: write what a student learns; `train` it; `ask_base`, `answer`: what the base, or a student that is trained
for it, says to training questions; `sample`: chains that it writes itself; `reach`: what the arm reached after all."""
BASE_ANSWERS, ANSWERS, SAMPLES, SPLIT = "base-direct.jsonl", "answers-{}.jsonl", "samples.jsonl", "{}.jsonl"
OWN_KEPT = RunFolder(Path()).kept.name
"""Files in the folders of adaptive arms, of arms with chains of their own, and of their helpers."""


@dataclass(frozen=True)
class Job:
    """One piece of the train stage."""

    work: Work
    arm: ArmConfig
    """The arm of the config that it is for."""
    student: ArmConfig
    """Who is taught or asked: the arm itself, or a helper."""
    number: int
    """Which fold or round the helper is of; for the arm itself, how many there are."""
    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]
    marker: Path
    """Published after all outputs; then there is nothing left to do."""
    steps: int = 0
    """Optimiser steps it takes."""

    @property
    def name(self) -> str:
        """Such as `adaptive/fold0:train`."""
        return f"{self.student.name}:{self.work}"

    @property
    def is_helper(self) -> bool:
        """Whether the student is none of the arms of the config."""
        return self.student.name != self.arm.name

    @property
    def is_done(self) -> bool:
        """Whether an earlier call finished it."""
        return all(path.exists() for path in (self.marker, *self.outputs))


def plan_jobs(run: RunFolder, config: RunConfig) -> list[Job]:
    """All jobs of the train stage, each behind those whose outputs it reads."""
    return [job for arm in config.train.arms for job in arm_jobs(run, config, arm)]


def arm_jobs(run: RunFolder, config: RunConfig, arm: ArmConfig) -> Iterator[Job]:
    """The jobs of one arm: those of its helpers, then its own."""
    inputs: list[Path] = [run.kept]
    count = 0
    helper: ArmConfig
    if arm.order == "adaptive":
        count = config.train.adaptive.folds
        yield _job(run, arm, "ask_base", [run.kept], [BASE_ANSWERS])
        inputs.append(run.arm(arm.name) / BASE_ANSWERS)
        for number in range(count):
            helper = arm.model_copy(update={"name": f"{arm.name}/fold{number}", "max_steps": fold_steps(arm, config)})
            yield from _taught(run, config, arm, helper, number, inputs[:2])
            answers = ANSWERS.format("direct")  # and one for each other way that can be taught
            yield _job(run, arm, "answer", [run.arm(helper.name) / ARM_MARKER], [answers], helper, number)
            inputs.append(run.arm(helper.name) / answers)
    if arm.chains == "self":
        count = config.train.own_chains.rounds
        for number in range(count):
            helper = arm.model_copy(update={"name": f"{arm.name}/round{number}"})
            yield from _taught(run, config, arm, helper, number, inputs)
            yield _job(
                run,
                arm,
                "sample",
                [run.arm(helper.name) / ARM_MARKER],
                [SAMPLES, OWN_KEPT],
                helper,
                number,
            )
            inputs.append(run.arm(helper.name) / OWN_KEPT)
    yield from _taught(run, config, arm, arm, count, inputs)
    if arm.chains == "self":
        yield _job(run, arm, "reach", [run.arm(arm.name) / ARM_MARKER], [ROUNDS], arm, count)


def planned_students(arm: ArmConfig, config: RunConfig) -> list[int]:
    """Optimiser steps of each student that an arm trains, at most: its helpers, then itself."""
    return [job.steps for job in arm_jobs(RunFolder(Path()), config, arm) if job.steps]


def fold_steps(arm: ArmConfig, config: RunConfig) -> int:
    """Optimiser steps of a student that answers questions of a fold it has not seen."""
    return max(1, round(config.steps_of(arm) * config.train.adaptive.fold_steps))


def _taught(
    run: RunFolder, config: RunConfig, arm: ArmConfig, student: ArmConfig, number: int, inputs: list[Path]
) -> Iterator[Job]:
    folder = run.arm(student.name)
    yield _job(run, arm, "lessons", inputs, [LESSONS], student, number)
    steps = config.steps_of(student)
    yield _job(run, arm, "train", [folder / LESSONS], [ARM_MARKER], student, number, steps=steps)


def _job(
    run: RunFolder,
    arm: ArmConfig,
    work: Work,
    inputs: list[Path],
    outputs: list[str],
    student: ArmConfig | None = None,
    number: int = 0,
    *,
    steps: int = 0,
) -> Job:
    who = student or arm
    folder = run.arm(who.name)
    marker = folder / (ARM_MARKER if work == "train" else f"{work}.{ARM_MARKER}")
    return Job(work, arm, who, number, tuple(inputs), tuple(folder / name for name in outputs), marker, steps)
