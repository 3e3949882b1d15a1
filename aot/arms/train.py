"""The train stage: does the jobs of all arms that are not done yet, one after the other; or one of them alone."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from aot.arms.adaptive import answer_fold, ask_base, fold_lessons, own_lessons
from aot.arms.asking import open_student
from aot.arms.choice import publish_likelihoods, require_choice, with_likeliest
from aot.arms.jobs import LIKELIHOODS, PLAIN, Job, is_finished, judge_name, maker_of, plan_jobs
from aot.arms.lessons import Material, arm_lessons, read_material, without_tagged
from aot.arms.on_policy import judge_lessons, judge_round, roll_out
from aot.arms.on_policy import round_lessons as on_policy_lessons
from aot.arms.own_chains import likelihoods_of, round_lessons, sample_round, tell_reached
from aot.arms.plain import PlainTeacher, publish_plain, with_plain
from aot.arms.tool_use import offered_tools, tool_lessons
from aot.config import ArmConfig, RunConfig, ToolArm, VideoRun
from aot.errors import GuardStop
from aot.files.run_folder import LESSONS, RunFolder, publish, publish_rows
from aot.files.seals import publish_once
from aot.records import Lesson
from aot.student.rows.lesson_files import NO_LESSONS, TOOLS
from aot.student.rows.replies import key_spans
from aot.student.train.arm import train_arm
from text_cot.teacher.granularity import resolve_granularity

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


def train(run: RunFolder, config: RunConfig, progress: Progress) -> dict[str, int]:
    """Every arm, one after the other; returns how many arms there are, and steps of all students together.

    Raises:
        GuardStop: arms need chains, and none was kept, or none to which the damage of every arm applies; before any arm
            is trained.
    """
    jobs = plan_jobs(run, config)
    material = read_material(run, config)
    _require_chains(run, config, material)
    total, finished = sum(job.steps for job in jobs), 0
    for job in jobs:
        if not is_finished(run, job):
            if job.work == "train":
                train_arm(run, config, job.student, progress=partial(_progress, progress, finished, total))
            else:
                do(run, config, job, material)
        finished += job.steps
        progress(finished, total)
    for first, second in twins(run, config.train.arms):
        log.warning(
            "%s learned the same lessons in the same way as %s, so no difference between them says anything about how "
            "they differ in the config", second, first,
        )  # fmt: skip
    return {"arms": len(config.train.arms), "steps": total}


def twins(run: RunFolder, arms: Sequence[ArmConfig]) -> list[tuple[str, str]]:
    """Each arm that learned what an earlier one did, though the config tells them apart, behind that one's name."""
    seen: dict[tuple[str, str], str] = {}
    pairs = []
    for arm in arms:
        path = run.arm(arm.name) / LESSONS
        if path.exists():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            way = arm.model_dump_json(exclude={"name", "chains", "chain_share", "choice", "granularity", "names"})
            first = seen.setdefault((digest, way), arm.name)
            pairs += [(first, arm.name)] if first != arm.name else []
    return pairs


def _progress(progress: Progress, before: int, total: int, done: int, steps: int) -> None:
    """Tell of one student's steps as a part of all; where these follow from lessons, `total` does not hold them yet."""
    progress(before + done, max(total, before + steps))


def train_job(run: RunFolder, config: RunConfig, job: Job, progress: Progress) -> None:
    """Do one job alone; its inputs are there.

    Raises:
        GuardStop: as for the whole stage.
    """
    if job.work == "train":
        train_arm(run, config, job.student, progress=progress)
        return
    material = read_material(run, config)
    _require_chains(run, config, material)
    do(run, config, job, material)


def do(run: RunFolder, config: RunConfig, job: Job, material: Material) -> None:
    """Do a job that trains nobody, and leave its marker."""
    folder = run.arm(job.arm.name)
    material = _material_of(run, config.train.arms, job, material)
    if job.work == "lessons" and isinstance(arm := job.arm, ToolArm):
        made = tool_lessons(material, arm, seed=config.seed)
        publish_once(folder / LESSONS, lambda: made.lessons)
        publish_rows(folder / NO_LESSONS, made.refused)
        publish_rows(folder / TOOLS, offered_tools(arm.tools))
    elif job.work == "lessons":
        path = run.arm(job.student.name) / LESSONS
        publish_once(path, lambda: _lessons(run, config, job, material))
    elif job.work == "weigh":
        base = partial(open_student, run, config.student, None, cache_mb=config.train.frame_cache_mb)
        path, size = folder / LIKELIHOODS, config.evaluate.batch_size
        publish_likelihoods(path, material.kept, material.questions, open_base=base, batch_size=size)
    elif job.work == "look":

        def teacher() -> PlainTeacher:
            from aot.teacher.agent import open_teacher  # here, because text needs none of the video packages

            return open_teacher(run, cast(VideoRun, config), writer="plain")

        size_of_steps = resolve_granularity(config.teacher.granularity, base=config.student.base)
        publish_plain(
            run, folder / PLAIN, material, open_teacher=teacher, num_frames=config.student.num_frames,
            size=size_of_steps, seed=config.seed,
        )  # fmt: skip
    elif job.work == "ask_base":
        ask_base(run, config, job.arm, material)
    elif job.work == "answer":
        answer_fold(run, config, job, material)
    elif job.work == "sample":
        sample_round(run, config, job, material)
    elif job.work == "rollout":
        size = config.evaluate.batch_size
        roll_out(run, job, material, student=config.student, train=config.train, size=size, seed=config.seed)
    elif job.work == "judge":
        size = config.evaluate.batch_size
        judge_round(run, job, material, student=config.student, train=config.train, size=size)
    else:
        tell_reached(run, config, job.arm)
    publish(job.marker, "")


def _lessons(run: RunFolder, config: RunConfig, job: Job, material: Material) -> list[Lesson]:
    if job.arm.order == "adaptive":
        if job.is_helper:
            return fold_lessons(run, config.train.adaptive, job, material, seed=config.seed)
        return own_lessons(run, config, job, material)
    arms, arm = config.train.arms, job.arm
    if arm.choice == "likelihood" and not job.is_helper:
        paths = [run.arm(maker_of("weigh", arms).name) / LIKELIHOODS, *likelihoods_of(run, job)]
        require_choice(paths, arm=arm.name)
    if job.student.chains == "on_policy":
        return on_policy_lessons(run, job, material, start=config.start_of(job.student))
    if job.student.name == judge_name(arm):
        return judge_lessons(material, arm, seed=config.seed)
    if arm.chains == "self":
        lessons = round_lessons(run, job, material, seed=config.seed)
    else:
        lessons = arm_lessons(material, job.student, seed=config.seed)
    if arm.key_weight != 1 and not any(key_spans(one.rationale, one.keys) for one in lessons):
        raise GuardStop(
            f"arm {arm.name} has key_weight {arm.key_weight:g}, and none of its {len(lessons)} lessons holds a step "
            "name, number or time; it was not trained. Take key_weight out"
        )
    return lessons


def _material_of(run: RunFolder, arms: Sequence[ArmConfig], job: Job, material: Material) -> Material:
    """What an arm learns from: its own chain of each question, where another one than the run's is wanted."""
    arm = job.arm
    if job.work in ("weigh", "look"):
        return material
    material = without_tagged(material, arm)
    if arm.chains == "plain":
        material = with_plain(material, run.arm(maker_of("look", arms).name) / PLAIN, arm=arm.name)
    if arm.choice == "likelihood":
        material = with_likeliest(material, run.arm(maker_of("weigh", arms).name) / LIKELIHOODS)
    return material


def _require_chains(run: RunFolder, config: RunConfig, material: Material) -> None:
    in_need = [arm.name for arm in config.train.arms if arm.needs_chains]
    if in_need and not material.samples:
        kept = material.num_kept
        why = f"no arm can damage any of the {kept} kept chains as `chains` asks" if kept else "no chain was kept"
        raise GuardStop(
            f"{why}, so {', '.join(in_need)} would have nothing to learn from; nothing was trained. Look at "
            f"{run.funnel}, or leave them out of train.arms in another run.dir with run.reuse={run.root}"
        )
    for arm in config.train.arms:  # one that would learn no call, or nothing, ends the stage before any is trained
        of_arm = without_tagged(material, arm)
        if isinstance(arm, ToolArm):
            offered_tools(arm.tools)
            tool_lessons(of_arm, arm, seed=config.seed)
    counts = len(material.questions), len(material.samples)
    log.info("training on %d questions, %d of them with a chain", *counts)
