"""The thin stages of a video run: generate and train hand the run folder to the room that does the work."""

from collections.abc import Callable

from aot.config import RunConfig
from aot.runs import RunFolder
from aot.teacher.runner import generate as generate_traces
from aot.traces import read_traces

Progress = Callable[[int, int], None]


def generate(run: RunFolder, config: RunConfig, progress: Progress) -> dict[str, int]:
    """Traces of every question."""
    generate_traces(run, config, progress=progress)
    traces = list(read_traces(run))
    return {"traces": len(traces), "failed": sum(trace.status != "ok" for trace in traces)}


def train(run: RunFolder, config: RunConfig, progress: Progress) -> dict[str, int]:
    """Every arm, one after the other."""
    from aot.student.train import train_arm

    arms = config.train.arms
    total = len(arms) * config.train.max_steps
    for index, arm in enumerate(arms):
        done_before = index * config.train.max_steps
        train_arm(run, config, arm, progress=lambda done, _, before=done_before: progress(before + done, total))  # type: ignore[misc]
    return {"arms": len(arms), "steps": config.train.max_steps}
