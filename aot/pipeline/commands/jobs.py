"""`aot jobs`: the jobs of a run's train stage, so that a cluster can run each as its own; changes nothing."""

import time
from pathlib import Path

from aot.arms.jobs import job_facts, plan_jobs
from aot.config import RunConfig
from aot.files.lease import look
from aot.files.opening import changed_settings
from aot.files.run_folder import RunFolder, run_root, stage_done
from aot.pipeline import BEFORE_TRAIN
from aot.run_records import JobFacts


def list_jobs(config: RunConfig, config_path: Path) -> list[JobFacts]:
    """The jobs of the train stage in an order in which they can be done, with what each needs, makes, and its state.

    Raises:
        RunError: the folder is none of a run, or was made with other settings.
    """
    run = RunFolder(run_root(config, config_path=config_path))
    changed_settings(run, config, mending="use the same ones for every job")
    prepared = run.config.exists() and all(stage_done(run, stage) for stage in BEFORE_TRAIN)
    return job_facts(run, plan_jobs(run, config), prepared=prepared)


def jobs_lines(config: RunConfig, config_path: Path) -> list[str]:
    """The jobs as text, a line for each and one for its files."""
    jobs = list_jobs(config, config_path)
    width = max((len(job.name) for job in jobs), default=0)
    waits = any(job.state == "waits" and not job.needs for job in jobs)
    seen = look(RunFolder(run_root(config, config_path=config_path)).lease, live_at_s=time.time())
    lines = [f"no job can begin before this has ended: {seen.holder.line} works on the whole run"] if seen else []
    lines += [f"no job can begin before these stages are done: {', '.join(BEFORE_TRAIN)}"] if waits else []
    for job in jobs:
        steps = f", {job.steps} steps" if job.steps else ""
        needs = f"  needs {', '.join(job.needs)}" if job.needs else ""
        lines.append(f"{job.name:{width}}  {job.state}{steps}{needs}")
        lines += [f"  {job.state}: {job.error}"] if job.error else []
        lines.append(f"  reads {', '.join(job.reads)}; makes {', '.join(job.makes)}")
    return lines
