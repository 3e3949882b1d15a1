"""Training as a list of jobs: who is taught what, and who answers what, before an arm can learn its lessons.

The list is a function of the config and the run folder alone and is the same at every call, so that each job can run
alone on a cluster (`aot train CONFIG --job NAME`): it reads its inputs, publishes its outputs, and then leaves its DONE
marker. Who does what they say is aot.arms.train. Imports no torch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from aot.config import AdaptiveConfig, ArmConfig, RunConfig
from aot.errors import ConfigError, RunError
from aot.files.pieces import Piece, is_at_work, read_state
from aot.files.run_folder import ANSWERS, ARM_MARKER, BASE_ANSWERS, LESSONS, ROUNDS, SAMPLES, SPLIT, RunFolder
from aot.run_records import JobFacts
from aot.student.rows.lesson_files import JUDGED, NO_LESSONS, TOOLS

Work = Literal["lessons", "train", "ask_base", "answer", "sample", "reach", "weigh", "look", "rollout", "judge"]
"""`lessons`: write what a student learns; `train` it; `ask_base`, `answer`: what the base, or a student that is trained
for it, says to training questions; `sample`: chains that it writes itself; `reach`: what the arm reached after all;
`weigh`: how likely the base finds the answer behind each chain; `look`: chains that no evidence filter sees. Arms share
what comes of these two. `rollout`: replies from which it learns on policy, and `judge` what a judge thinks of them."""
ROLLOUTS, LIKELIHOODS, PLAIN = SPLIT.format("rollouts"), SPLIT.format("likelihoods"), SPLIT.format("plain")
OWN_KEPT = RunFolder(Path()).kept.name
"""What a helper of an arm with chains of its own wrote and verified."""


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
    """Optimiser steps it takes; 0 also where they follow from lessons (train.epochs), and these are not written yet."""

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
    if arm.chains == "on_policy":
        yield from _on_policy_jobs(run, config, arm)
        return
    inputs: list[Path] = [run.kept]
    count = 0
    helper: ArmConfig
    if arm.order == "adaptive":
        count = num_folds(config.train.adaptive)
        yield _job(run, arm, "ask_base", [run.kept], [BASE_ANSWERS])
        inputs.append(run.arm(arm.name) / BASE_ANSWERS)
        for number in range(count):
            helper = arm.model_copy(update={"name": f"{arm.name}/fold{number}", "max_steps": fold_steps(arm, config)})
            yield from _taught(run, arm, helper, number, inputs[:2], steps=config.steps_of(helper))
            answers = ANSWERS.format("direct")  # and one for each other way that can be taught
            yield _job(run, arm, "answer", [run.arm(helper.name) / ARM_MARKER], [answers], helper, number)
            inputs.append(run.arm(helper.name) / answers)
    for work, output in _shared_works(arm):
        maker = maker_of(work, config.train.arms)
        if maker == arm:
            yield _job(run, arm, work, [run.kept], [output])
        inputs.append(run.arm(maker.name) / output)
    if arm.chains == "self":
        count = config.train.own_chains.rounds
        for number in range(count):
            helper = arm.model_copy(update={"name": f"{arm.name}/round{number}"})
            yield from _taught(run, arm, helper, number, inputs, steps=config.steps_of(helper))
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
    yield from _taught(run, arm, arm, count, inputs, steps=config.steps_of(arm), start=config.start_of(arm))
    if arm.chains == "self":
        yield _job(run, arm, "reach", [run.arm(arm.name) / ARM_MARKER], [ROUNDS], arm, count)


def _on_policy_jobs(run: RunFolder, config: RunConfig, arm: ArmConfig) -> Iterator[Job]:
    """A supervised start, a judge where one is taught, then rounds, of which the last one makes the arm itself."""
    section, begun = config.train.on_policy, [run.kept]
    helper = arm.model_copy(update={"name": f"{arm.name}/round0", "chains": "kept"})
    yield from _taught(run, arm, helper, 0, begun, steps=config.steps_of(helper))
    judges: list[Path] = []
    if section.judge == "taught":
        steps = {"name": judge_name(arm), "chains": "kept", "max_steps": section.judge_steps}
        judge = arm.model_copy(update=steps)
        yield from _taught(run, arm, judge, 0, begun, steps=section.judge_steps, start=helper.name)
        judges = [run.arm(judge.name) / ARM_MARKER]
    for number in range(section.rounds):
        folder = run.arm(helper.name)
        yield _job(run, arm, "rollout", [folder / ARM_MARKER], [ROLLOUTS], helper, number)
        yield _job(run, arm, "judge", [folder / ROLLOUTS, *judges], [JUDGED], helper, number)
        is_last = number + 1 == section.rounds
        helper = arm if is_last else arm.model_copy(update={"name": f"{arm.name}/round{number + 1}"})
        judged, start = [folder / JUDGED], config.start_of(helper)
        yield from _taught(run, arm, helper, number + 1, judged, steps=section.steps, start=start, also=judged)


def judge_name(arm: ArmConfig) -> str:
    """Name of the helper that is taught to judge the replies of an arm."""
    return f"{arm.name}/judge"


def _shared_works(arm: ArmConfig) -> list[tuple[Work, str]]:
    """Works whose outcome an arm reads and shares with others, each with the name of its file."""
    works: list[tuple[Work, str]] = [("weigh", LIKELIHOODS)] if arm.choice == "likelihood" else []
    return [*works, ("look", PLAIN)] if arm.chains == "plain" else works


def maker_of(work: Work, arms: Iterable[ArmConfig]) -> ArmConfig:
    """The arm in whose folder the outcome of a shared work lies: the first of `arms` that reads it."""
    return next(arm for arm in arms if work in dict(_shared_works(arm)))


def is_finished(run: RunFolder, job: Job) -> bool:
    """Whether there is nothing left to do of a job."""
    return job.is_done or is_over(run, job)


def is_over(run: RunFolder, job: Job) -> bool:
    """Whether a job is of a round that is not needed any more: an earlier one brought nothing new."""
    if job.arm.chains != "self" or not job.is_helper:
        return False
    earlier = (run.arm(f"{job.arm.name}/round{number}") / OWN_KEPT for number in range(job.number))
    return any(path.exists() and path.stat().st_size == 0 for path in earlier)


def job_named(jobs: Sequence[Job], name: str) -> Job:
    """The one of `jobs` with that name.

    Raises:
        ConfigError: there is none.
    """
    job = next((job for job in jobs if job.name == name), None)
    if job is None:
        names = [job.name for job in jobs]
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}? The jobs are" if near else "the jobs are"
        raise ConfigError(f"there is no job {name!r}; {hint}", lines=[f"  {one}" for one in names])
    return job


def require_needed(run: RunFolder, jobs: Sequence[Job], job: Job, *, config_path: Path) -> None:
    """Look whether all is there that `job` reads.

    Raises:
        RunError: it lists the jobs that make what is missing, with the command for each.
    """
    missing = [one for one in needed_jobs(jobs, job) if not is_finished(run, one)]
    if missing:
        raise RunError(
            f"job {job.name} reads what other jobs make, which are not done; run them first, with the same settings:",
            lines=[f"  aot train {config_path} --job {one.name}" for one in missing],
        )


def needed_jobs(jobs: Sequence[Job], job: Job) -> list[Job]:
    """Those of `jobs` that must be done before `job`: they make what it reads."""
    return [one for one in jobs if {*one.outputs, one.marker} & {*job.inputs}]


def job_piece(run: RunFolder, job: Job) -> Piece:
    """The files of a job that runs alone."""
    return Piece(run, run.jobs / job.student.name / job.work, f"job {job.name}")


def job_folders(run: RunFolder, job: Job) -> set[Path]:
    """Where the files of students lie that a job reads or goes on with; those of other arms are none of its matter."""
    return {run.arm(job.arm.name), run.arm(job.student.name), *(path.parent for path in job.inputs)} - {run.root}


def job_facts(run: RunFolder, jobs: Sequence[Job], *, prepared: bool) -> list[JobFacts]:
    """What each of `jobs` needs and makes, and how far it is; none can begin before the run is `prepared`.

    Raises:
        RunError: the state of one cannot be read.
    """
    return [
        JobFacts(
            name=job.name, needs=tuple(one.name for one in needed_jobs(jobs, job)), steps=job.steps,
            reads=_within(run, job.inputs), makes=_within(run, dict.fromkeys((*job.outputs, job.marker))),
            **_progress(run, jobs, job, prepared=prepared),
        )
        for job in jobs
    ]  # fmt: skip


def _progress(run: RunFolder, jobs: Sequence[Job], job: Job, *, prepared: bool) -> dict[str, Any]:
    if job.is_done:
        return {"state": "done"}
    if is_over(run, job):
        return {"state": "not_needed"}
    piece = job_piece(run, job)
    noted = read_state(piece)
    if noted and noted.state == "running" and not is_at_work(piece):
        return {"state": "stopped", "error": "it ended without a word"}
    if noted and noted.state != "done":  # what was published then may have been deleted since
        return {"state": noted.state, "error": noted.error}
    ready = prepared and all(is_finished(run, one) for one in needed_jobs(jobs, job))
    return {"state": "ready" if ready else "waits"}


def _within(run: RunFolder, paths: Iterable[Path]) -> tuple[str, ...]:
    return tuple(path.relative_to(run.root).as_posix() for path in paths)


def planned_students(arm: ArmConfig, config: RunConfig, *, questions: int = 0) -> list[int]:
    """Optimiser steps of each student that an arm trains, at most: its helpers, then itself.

    With train.epochs they are those that so many `questions` make, a lesson from each.
    """
    jobs = arm_jobs(RunFolder(Path()), config, arm)
    return [config.steps_of(job.student, lessons=questions) for job in jobs if job.work == "train"]


def num_folds(section: AdaptiveConfig) -> int:
    """How many helpers an adaptive arm has: one of each fold, or what it is itself when it has learned every way."""
    return 1 if section.labels == "own" else section.folds


def fold_steps(arm: ArmConfig, config: RunConfig) -> int:
    """Optimiser steps of a student that answers questions of a fold it has not seen."""
    share = 1.0 if config.train.adaptive.labels == "own" else config.train.adaptive.fold_steps
    return max(1, round(config.steps_of(arm) * share))


def _taught(
    run: RunFolder,
    arm: ArmConfig,
    student: ArmConfig,
    number: int,
    inputs: list[Path],
    *,
    steps: int,
    start: str = "",
    also: Sequence[Path] = (),
) -> Iterator[Job]:
    """The lessons of a student and its training, from the weights of `start`, which reads `also` as well."""
    folder = run.arm(student.name)
    tools = [TOOLS, NO_LESSONS] if arm.order == "tool_use" else []
    yield _job(run, arm, "lessons", inputs, [LESSONS, *tools], student, number)
    begun = [run.arm(start) / ARM_MARKER] if start else []
    reads = [folder / LESSONS, *begun, *also]
    yield _job(run, arm, "train", reads, [ARM_MARKER], student, number, steps=steps)


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
