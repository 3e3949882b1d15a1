"""The thin generate stage of a video run: it hands the run folder to the room that does the work."""

from collections.abc import Callable

from aot.config import RunConfig
from aot.files.run_folder import RunFolder
from aot.generate.video_run import generate as generate_traces

Progress = Callable[[int, int], None]


def generate(run: RunFolder, config: RunConfig, progress: Progress) -> dict[str, int]:
    """Traces of every question; how many, and of them failed and refused ones."""
    return generate_traces(run, config, progress=progress)
