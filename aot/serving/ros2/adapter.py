"""The adapter of ROS 2, over rclpy, which is imported when an adapter is made: it comes with ROS and not from PyPI."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from aot.errors import MissingPackageError
from aot.serving.ros2.node import Topic


class RclpyAdapter:
    """The adapter of ROS 2: a callback group for each timer and topic, so that none waits for another."""

    POLL_S = 0.1
    """So long a signal may wait: rclpy waits in C, where Python hears none."""

    def __init__(self, node_name: str, args: Sequence[str] = ()) -> None:
        try:
            import rclpy
            from rclpy.executors import MultiThreadedExecutor
            from rclpy.signals import SignalHandlerOptions
            from std_msgs.msg import String
        except ImportError as error:
            raise MissingPackageError(
                f"{error}; rclpy comes with ROS 2 and not from PyPI: source /opt/ros/<distribution>/setup.bash first, "
                "with the Python that this distribution was made for"
            ) from None
        self._rclpy, self._text = rclpy, String
        # With its own handlers rclpy closes everything at a signal, before the last heartbeat could be sent.
        rclpy.init(args=list(args) or None, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(node_name)
        self._executor = MultiThreadedExecutor(num_threads=4)
        self._executor.add_node(self._node)
        self._publishers: dict[str, Any] = {}
        self._ends: list[Callable[[], None]] = []
        self._stopping = False

    def subscribe(self, topic: str, kind: Topic, callback: Callable[[Any], None]) -> None:
        """Call back with each message; of pictures only the newest one waits."""
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import Image
        from std_msgs.msg import Empty

        image = kind == "image"
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT) if image else QoSProfile(depth=10)
        self._node.create_subscription(Image if image else Empty, topic, callback, qos, callback_group=self._group())

    def publish(self, topic: str, text: str) -> None:
        """Send a std_msgs/String."""
        if topic not in self._publishers:
            self._publishers[topic] = self._node.create_publisher(self._text, topic, 10)
        self._publishers[topic].publish(self._text(data=text))

    def now_s(self) -> float:
        """Seconds of the monotonic clock, as the stream reads it: ROS time may be simulated, or be set."""
        return time.monotonic()

    def timer(self, rate_hz: float, callback: Callable[[], None]) -> None:
        """Call back so often."""
        self._node.create_timer(1 / rate_hz, callback, callback_group=self._group())

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call back before the context closes."""
        self._ends.append(callback)

    def run(self) -> None:
        """Work until `stop`, then send what the ends have to say and close."""
        try:
            while not self._stopping and self._rclpy.ok():
                self._executor.spin_once(timeout_sec=self.POLL_S)
        finally:
            for end in self._ends:
                end()
            self._executor.shutdown()
            self._node.destroy_node()
            self._rclpy.try_shutdown()

    def stop(self) -> None:
        """Ask for the end."""
        self._stopping = True

    def _group(self) -> Any:  # noqa: ANN401 - a callback group of rclpy
        from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

        return MutuallyExclusiveCallbackGroup()
