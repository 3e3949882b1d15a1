"""The bridge to LeRobot: the language columns of its data sets and a text head for its policies; imports no LeRobot.

`columns` reads and writes the columns, `checks` says what may stand in them, `spans` makes training questions of them
and rows of answers, `policy` answers `generate_text(batch)`, `remote` asks a server. A robot that only asks a server
needs numpy alone: pyarrow is imported by whoever reads or writes a data set.
"""

from aot.serving.lerobot.checks import LanguageRow, check_rows
from aot.serving.lerobot.columns import Episode, read_episodes, write_language
from aot.serving.lerobot.frames import SubtaskError
from aot.serving.lerobot.policy import SubtaskWriter
from aot.serving.lerobot.remote import RemoteStudent
from aot.serving.lerobot.spans import (
    plain_rows,
    read_annotations,
    rows_of_answers,
    rows_of_segments,
    snap_to_frame,
    subtask_segments,
    write_plain,
)

__all__ = [
    "Episode",
    "LanguageRow",
    "RemoteStudent",
    "SubtaskError",
    "SubtaskWriter",
    "check_rows",
    "plain_rows",
    "read_annotations",
    "read_episodes",
    "rows_of_answers",
    "rows_of_segments",
    "snap_to_frame",
    "subtask_segments",
    "write_language",
    "write_plain",
]
