"""A ROS 2 node that says the student's next step on a topic at a fixed rate: `python -m aot.serving.ros2 CONFIG`."""

from aot.serving.ros2.adapter import RclpyAdapter
from aot.serving.ros2.node import (
    Adapter,
    Ros2Config,
    StudentNode,
    Topics,
    answer_text,
    frame_of,
    read_config,
    serve,
)

__all__ = [
    "Adapter",
    "RclpyAdapter",
    "Ros2Config",
    "StudentNode",
    "Topics",
    "answer_text",
    "frame_of",
    "read_config",
    "serve",
]
