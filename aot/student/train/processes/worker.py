"""One process of a training that torchrun or srun started.

    python -m aot.student.train.processes.worker RUN_DIR ARM [LEASE ID]

With a lease and its id it works under the lease of who started it, and stops once that was taken over.
"""

import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path

from aot.config import ArmConfig, RunConfig, load_saved, parse_arm
from aot.display import PlainFormatter, one_line
from aot.errors import AotError, ConfigError, GuardStop
from aot.files.jsonl import read_json
from aot.files.lease import CHECK_S, Lease, check_lease, working_under
from aot.files.run_folder import ARM_SETTINGS, RunFolder
from aot.interrupts import watch_for_lost_interrupts
from aot.student.train.processes.launch import PROCESS_CONFIG, write_failure


def main(arguments: list[str]) -> int:
    """Train one arm of a run folder in this process; returns the exit code."""
    if len(arguments) not in (2, 4):
        sys.stderr.write("usage: python -m aot.student.train.processes.worker RUN_DIR ARM [LEASE ID]\n")
        return 2
    run = RunFolder(Path(arguments[0]))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(asctime)s %(process)d %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    watch_for_lost_interrupts()
    try:
        lease = Lease(Path(arguments[2]), root=run.root, id=arguments[3]) if arguments[2:] else None
        with working_under(lease) if lease else nullcontext():
            _train(run, arguments[1])
    except AotError as error:
        sys.stderr.write(one_line(f"{type(error).__name__}: {error}") + "\n")
        write_failure(run.arm(arguments[1]), error)
        return error.exit_code
    except KeyboardInterrupt as caught:  # no reason of its own: who started it knows of the signal, or why it came
        sys.stderr.write(f"stopped by {caught}; the same command goes on from the newest checkpoint\n")
        return GuardStop.exit_code
    return 0


def _arm(run: RunFolder, config: RunConfig, name: str) -> ArmConfig:
    path = run.arm(name) / ARM_SETTINGS
    if path.exists():  # from the launcher: helpers of an arm stand in no config
        return parse_arm(read_json(path))
    arm = next((arm for arm in config.train.arms if arm.name == name), None)
    if arm is None:
        raise ConfigError(f"no arm {name!r} in {run.config}; there are {[a.name for a in config.train.arms]}")
    return arm


def _train(run: RunFolder, name: str) -> None:
    path = run.arm(name) / PROCESS_CONFIG
    config = load_saved(path if path.exists() else run.config)
    arm = _arm(run, config, name)
    from aot.student.train.arm import train_arm
    from aot.student.train.processes.distributed import finish, start

    train = config.train
    start(device=config.student.device, zero_stage=train.zero_stage, timeout_s=train.exchange_timeout_s)
    train_arm(run, config, arm, progress=lambda done, total: check_lease(run.root, every_s=CHECK_S))
    finish()  # Only after success: while an error is told, the others may still be in the middle of an exchange.


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of the process group now and then abort an interpreter that ends in the ordinary way
