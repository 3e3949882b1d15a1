"""One process of a training that torchrun or srun started: `python -m aot.student.worker RUN_DIR ARM [LEASE]`.

With the id of a lease it works under the lease of who started it, and stops once that was taken over.
"""

import json
import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from aot.config import ArmConfig, RunConfig, load_saved
from aot.errors import AotError, ConfigError, DecodeError
from aot.lease import CHECK_S, Lease, check_lease, working_under
from aot.runs import RunFolder
from aot.student.launch import ARM, write_failure
from video_data.errors import VideoError


def main(arguments: list[str]) -> int:
    """Train one arm of a run folder in this process; returns the exit code."""
    if len(arguments) not in (2, 3):
        sys.stderr.write("usage: python -m aot.student.worker RUN_DIR ARM [LEASE]\n")
        return 2
    run = RunFolder(Path(arguments[0]))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s %(message)s", stream=sys.stderr)
    try:
        with working_under(Lease(run.lease, root=run.root, id=arguments[2])) if arguments[2:] else nullcontext():
            _train(run, arguments[1])
    except (AotError, VideoError) as caught:
        error = caught if isinstance(caught, AotError) else DecodeError(str(caught))
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        if os.environ.get("RANK", "0") == "0":
            write_failure(run.arm(arguments[1]), error)
        return error.exit_code
    return 0


def _arm(run: RunFolder, config: RunConfig, name: str) -> ArmConfig:
    path = run.arm(name) / ARM
    if path.exists():  # from the launcher; not checked again, because helpers of an arm have names no config may use
        return ArmConfig.model_construct(**json.loads(path.read_text(encoding="utf-8")))
    arm = next((arm for arm in config.train.arms if arm.name == name), None)
    if arm is None:
        raise ConfigError(f"no arm {name!r} in {run.config}; there are {[a.name for a in config.train.arms]}")
    return arm


def _train(run: RunFolder, name: str) -> None:
    config = load_saved(run.config)
    arm = _arm(run, config, name)
    from aot.student.distributed import finish, start
    from aot.student.train import train_here

    start(config)
    train_here(run, config, arm, progress=lambda done, total: check_lease(run.root, every_s=CHECK_S))
    finish()  # Only after success: while an error is told, the others may still be in the middle of an exchange.


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
