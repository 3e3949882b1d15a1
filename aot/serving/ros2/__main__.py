"""`python -m aot.serving.ros2 CONFIG`: reads the YAML file, loads the student and runs the node until a signal."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from aot.errors import AotError
from aot.serving.ros2.adapter import RclpyAdapter
from aot.serving.ros2.node import Ros2Config, Streamed, read_config, serve

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the node: 0 after a clean end, else that of the error, which is told in one line."""
    parser = argparse.ArgumentParser(prog="python -m aot.serving.ros2", description="A student as a ROS 2 node.")
    parser.add_argument("config", type=Path, help="YAML file, such as configs/serving/ros2.yaml")
    parser.add_argument(
        "--ros-args", nargs=argparse.REMAINDER, default=None, help="what ROS 2 is given, such as remaps"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        config = read_config(options.config)
        ros_args = [] if options.ros_args is None else ["--ros-args", *options.ros_args]
        adapter = RclpyAdapter(config.node, ros_args)
        serve(_stream(config), config, adapter)
    except AotError as error:
        sys.stderr.write(f"aot: {error}\n")
        return error.exit_code
    return 0


def _stream(config: Ros2Config) -> Streamed:
    from aot.serving.stream.loop import StudentStream
    from aot.serving.student import load_student

    student = load_student(config.student, device=config.device)
    stream = StudentStream(
        student,
        question=config.question,
        choices=config.choices,
        stale_s=config.stale_s,
        deadline_s=config.deadline_s,
        min_confidence=config.min_confidence,
    )
    log.info("%s is warm after %.1f s", student.contract.name, stream.warm_up())
    return stream


if __name__ == "__main__":
    sys.exit(main())
