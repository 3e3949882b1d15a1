"""The train stage of a video run, which hands the run folder to the room that does the work."""

from collections.abc import Callable

from aot.config import RunConfig
from aot.errors import GuardStop
from aot.files.run_folder import RunFolder, read_rows
from aot.records import Trace

Progress = Callable[[int, int], None]


def train(run: RunFolder, config: RunConfig, progress: Progress) -> dict[str, int]:
    """Every arm, one after the other; returns how many arms there are, and steps of all together.

    Raises:
        GuardStop: an arm is to learn rationales, and no trace was kept; before any arm is trained.
    """
    from aot.student.train.arm import train_arm

    eager = [arm.name for arm in config.train.arms if arm.learns_rationales]
    if eager and next(read_rows(run.kept, Trace), None) is None:
        raise GuardStop(
            f"no trace was kept, so {', '.join(eager)} would learn no rationale; nothing was trained. Look at "
            f"{run.funnel}, or leave them out of train.arms in another run.dir with run.reuse={run.root}"
        )
    total = sum(config.steps_of(arm) for arm in config.train.arms)
    before = 0
    for arm in config.train.arms:
        train_arm(run, config, arm, progress=lambda done, _, before=before: progress(before + done, total))  # type: ignore[misc]
        before += config.steps_of(arm)
    return {"arms": len(config.train.arms), "steps": total}
