"""A camera watched by a student: frames are taken at its rate, and the freshest answer is there at any moment."""

from aot.serving.stream.loop import StreamCounts, StudentStream

__all__ = ["StreamCounts", "StudentStream"]
