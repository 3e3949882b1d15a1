"""What lies beside the lessons of an arm: tools and chains that make no lesson, and replies that a judge has read."""

from collections import Counter
from pathlib import Path

from aot.files.run_folder import SPLIT, read_rows
from aot.records import JsonDict, Refusal
from aot.run_records import OfferedTool

TOOLS, NO_LESSONS, JUDGED = SPLIT.format("tools"), SPLIT.format("no_lessons"), SPLIT.format("judged")


def offered_in(folder: Path) -> tuple[JsonDict, ...]:
    """The tools that the arm of this folder learns to call, in OpenAI's form; empty where it calls none.

    Raises:
        SourceError: their file cannot be read.
    """
    path = folder / TOOLS
    return tuple(tool.model_dump() for tool in read_rows(path, OfferedTool)) if path.exists() else ()


def no_lessons_in(folder: Path) -> dict[str, int]:
    """Reason to number of the chains that make no lesson of the arm of this folder."""
    path = folder / NO_LESSONS
    return dict(Counter(row.reason for row in read_rows(path, Refusal))) if path.exists() else {}
