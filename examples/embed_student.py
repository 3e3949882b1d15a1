"""A student inside a program of your own: what comes next, said while a clip plays, or nothing while it is not sure.

    python examples/embed_student.py EXPORT CLIP [--choice STEP --choice STEP ...]

The clip stands for a camera: frames come one by one with their times, and the program keeps the last ones. For a
camera that never waits for the model see `aot.serving.stream`.
"""

import argparse
from collections import deque
from collections.abc import Iterator

import av
import numpy as np

from aot import load_student

EVERY_S = 2.0
"""How often it is asked."""
KEPT_S = 30.0
"""How far back it sees."""
SURE = 0.8


def camera(clip: str) -> Iterator[tuple[float, np.ndarray]]:
    """Time in seconds and picture (height, width, 3) of each frame."""
    with av.open(clip) as container:
        for frame in container.decode(video=0):
            yield float(frame.time or 0.0), frame.to_ndarray(format="rgb24")


def main() -> None:
    """Print what the student says, every few seconds of the clip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export")
    parser.add_argument("clip")
    parser.add_argument("--choice", action="append", default=[])
    parser.add_argument("--question", default="What is the next step?")
    options = parser.parse_args()
    with load_student(options.export) as student:
        seen: deque[tuple[float, np.ndarray]] = deque()
        due_s = EVERY_S
        for time_s, picture in camera(options.clip):
            seen.append((time_s, picture))
            while seen[0][0] < time_s - KEPT_S:
                seen.popleft()
            if time_s < due_s:
                continue
            due_s += EVERY_S
            times_s, frames = zip(*seen, strict=True)
            answer = student.ask(options.question, frames=frames, times_s=times_s, choices=options.choice)
            sure = not answer.abstained and (answer.confidence or 0.0) >= SURE
            words = answer.answer if sure else f"not sure ({answer.abstained or f'{answer.confidence or 0:.0%}'})"
            print(f"{time_s:6.2f} s  {words}  [{answer.seconds.total * 1000:.0f} ms]")


if __name__ == "__main__":
    main()
