"""What the other machines of a training do while the first works through the stages: they take part in each training.

They write nothing in the run folder but logs and a lease that says that they are there. What is to be trained is the
list of jobs, the same on every machine; when, the first one tells. Imports no torch.
"""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

from aot.arms.jobs import Job, is_finished, job_named, job_piece, plan_jobs
from aot.config import RunConfig
from aot.errors import GuardStop
from aot.files.lease import Lease, look
from aot.files.pieces import Piece, holding
from aot.files.run_folder import RunFolder
from aot.student.train.processes.launch import POLL_S, Place, join, node_lease, read_call

log = logging.getLogger(__name__)
PATIENCE_S = 600.0
"""So long a machine waits for a first one that is not at work: it may still be starting."""
LET_GO_S = 60.0
"""After a training failed the first machine ends before the others, so that its reason is the one that is told."""


def follow(run: RunFolder, config: RunConfig, *, name: str | None = None) -> None:
    """Take part in every training of the run, or in that of the job `name`, until all are done.

    Raises:
        GuardStop: one ended before its time, or no first machine is at work; the same command goes on.
        ConfigError: there is no such job, or no such place among the machines.
        RunError: another command has the rank of this machine.
    """
    place = Place.of(config.train.nodes, config.run.node_rank, config.run.rendezvous)
    jobs = plan_jobs(run, config)
    first = run.lease
    if name is not None:
        jobs = [job_named(jobs, name)]
        first = job_piece(run, jobs[0]).lease
    left = [job for job in jobs if job.work == "train" and not is_finished(run, job)]
    if not left:
        log.info("node %d: everything is trained, nothing to do", place.rank)
        return
    log.info("node %d of %d: takes part in training what the first node begins", place.rank, place.nodes)
    here = Piece(run, node_lease(first, place.rank).with_suffix(""), f"node {place.rank}")
    with holding(run, command=sys.argv, piece=here) as mine:
        for job in left:
            _take_part(run, config, job, place=place, mine=mine, first=first)
    log.info("node %d: everything is trained", place.rank)


def _take_part(run: RunFolder, config: RunConfig, job: Job, *, place: Place, mine: Lease, first: Path) -> None:
    """Take part in one training, which may need several calls until it is done."""
    joined: set[str] = set()
    heard_s = time.monotonic()
    while not is_finished(run, job):
        call = read_call(job.student.name, first=first, now_s=mine.now_s())
        if call and call.id not in joined:
            joined.add(call.id)
            log.info("node %d: training %s, %s", place.rank, job.student.name, place.rendezvous)
            try:
                join(
                    run, job.student, place=place, procs=config.train.procs, device=config.student.device,
                    call=call, mine=mine, first=first,
                )  # fmt: skip
            except GuardStop:
                _wait_until(lambda: look(first, live_at_s=mine.now_s()) is None, LET_GO_S)
                raise
        if look(first, live_at_s=mine.now_s()):
            heard_s = time.monotonic()
        elif time.monotonic() - heard_s > PATIENCE_S:
            raise GuardStop(
                f"no first node has been at work on {run.root} for {PATIENCE_S:.0f} s; start the same command with "
                "run.node_rank=0 there, or all of them again"
            )
        time.sleep(POLL_S / 4)


def _wait_until(is_so: Callable[[], bool], most_s: float) -> None:
    until_s = time.monotonic() + most_s
    while not is_so() and time.monotonic() < until_s:
        time.sleep(POLL_S / 4)
