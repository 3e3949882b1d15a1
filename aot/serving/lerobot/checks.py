"""What may stand in the language columns of a LeRobot data set, row by row and episode by episode; knows no file.

The rules are those of huggingface/lerobot, data set format v3.0, as its files said on the day this was written:
`src/lerobot/datasets/language.py` at cd59c8b3 (styles, columns, cameras, types), `annotations/steerable_pipeline/
writer.py` and `validator.py` there at 1ff10b93 (what a row must hold, exact times, pairs). Ours is stricter in one
thing: every frame of an episode that has rows has exactly one subtask, and it starts on a frame.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from aot.records import JsonDict, Record

PERSISTENT_STYLES = ("subtask", "plan", "memory", "motion", "task_aug")
"""Active from their timestamp until another row of the style replaces them."""
EVENT_STYLES = ("interjection", "vqa", "trace")
"""About one frame only. `trace` is a path in pixels, and no chain of thought."""
VIEW_STYLES = ("vqa", "trace")
"""About what one camera shows, which they must name; no other row names one."""
ROLES = ("user", "assistant", "system", "tool")
_VQA_SHAPES: tuple[frozenset[str], ...] = (
    frozenset({"detections"}),
    frozenset({"label", "point_format", "point"}),
    frozenset({"label", "count"}),
    frozenset({"label", "attribute", "value"}),
    frozenset({"subject", "relation", "object"}),
)
"""Keys of an answer about a picture: boxes, a point, a count, a property, a relation."""


class LanguageRow(Record):
    """One row of a language column; of an event the timestamp is that of the frame it stands on."""

    role: str = "assistant"
    content: str | None = None
    style: str | None = None
    timestamp: float
    """Seconds from the start of the episode, as exactly the number that the frame has (float32)."""
    camera: str | None = None
    """Such as `observation.images.front`."""
    tool_calls: tuple[JsonDict, ...] | None = None
    """In OpenAI's shape; a row without style is one call of the tool `say`."""

    @property
    def persistent(self) -> bool:
        """Whether it belongs to `language_persistent`; rows of unknown styles do not."""
        return self.style in PERSISTENT_STYLES

    def in_order(self) -> tuple[float, str, str, str]:
        """What rows of an episode are sorted by."""
        return (self.timestamp, self.style or "", self.role, self.camera or "")


def check_rows(
    rows: Sequence[LanguageRow], frame_times_s: Sequence[float], *, cameras: Collection[str] = ()
) -> list[str]:
    """What is wrong with the rows of one episode, a sentence each; empty where they may be written.

    Args:
        rows: of both columns.
        frame_times_s: of every frame of the episode, as float32 numbers.
        cameras: the data set's image keys, where they are to be compared.
    """
    if not rows:
        return []
    times_s = set(frame_times_s)
    problems = [f"{_place(row)} {problem}" for row in rows for problem in _row_problems(row, cameras)]
    for row in rows:
        if row.timestamp not in times_s:
            nearest = min(frame_times_s, key=lambda at_s: abs(at_s - row.timestamp), default=None)
            problems.append(f"{_place(row)} stands on no frame; snap_to_frame gives the nearest, {nearest!r} s")
    return problems + list(_subtask_problems(rows, frame_times_s)) + list(_pair_problems(rows))


def _place(row: LanguageRow) -> str:
    return f"{row.style or 'speech'} row at {row.timestamp!r} s:"


def _row_problems(row: LanguageRow, cameras: Collection[str]) -> Iterator[str]:
    if row.role not in ROLES:
        yield f"role {row.role!r} is none of {', '.join(ROLES)}"
    if row.style is not None and row.style not in PERSISTENT_STYLES + EVENT_STYLES:
        yield f"style {row.style!r} is none of {', '.join(PERSISTENT_STYLES + EVENT_STYLES)}"
    if row.content is None and not row.tool_calls:
        yield "has neither content nor tool calls"
    if row.content is not None and not row.content.strip():
        yield "its content is empty"
    if row.style is None and not _is_speech(row):
        yield "a row without style must be the assistant's call of `say` with a text, and no content"
    if row.style in VIEW_STYLES:
        if not row.camera:
            yield "names no camera"
        elif cameras and row.camera not in cameras:
            yield f"camera {row.camera!r} is none of {', '.join(cameras)}"
    elif row.camera is not None:
        yield f"names camera {row.camera!r}, and only {' and '.join(VIEW_STYLES)} rows may"
    if row.style == "vqa" and row.role == "assistant" and not _is_vqa_answer(row.content):
        yield "its answer is no JSON object of a kind that LeRobot has"


def _is_speech(row: LanguageRow) -> bool:
    if row.role != "assistant" or row.content is not None or not row.tool_calls:
        return False
    call = row.tool_calls[0]
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, dict) else None
    return (
        call.get("type") == "function"
        and isinstance(function, dict)
        and function.get("name") == "say"
        and isinstance(arguments, dict)
        and isinstance(arguments.get("text"), str)
    )


def _is_vqa_answer(content: str | None) -> bool:
    try:
        value = json.loads(content or "")
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and any(shape <= value.keys() for shape in _VQA_SHAPES)


def _subtask_problems(rows: Sequence[LanguageRow], frame_times_s: Sequence[float]) -> Iterator[str]:
    starts = sorted(row.timestamp for row in rows if row.style == "subtask")
    if not frame_times_s:
        yield "the episode has no frames, so no row can stand on one"
    elif not starts or starts[0] > frame_times_s[0]:
        first = f"the first starts at {starts[0]!r} s" if starts else "there is no subtask row"
        yield f"frames from {frame_times_s[0]!r} s on have no subtask: {first}"
    for at_s, count in Counter(starts).items():
        if count > 1:
            yield f"{count} subtasks start at {at_s!r} s; a frame has one"


def _pair_problems(rows: Sequence[LanguageRow]) -> Iterator[str]:
    speech = {row.timestamp for row in rows if row.style is None and row.role == "assistant"}
    plans = {row.timestamp for row in rows if row.style == "plan"}
    for at_s in sorted({row.timestamp for row in rows if row.style == "interjection"}):
        if at_s not in speech:
            yield f"interjection row at {at_s!r} s: no speech answers it at that frame"
        if at_s not in plans:
            yield f"interjection row at {at_s!r} s: no plan is made anew at that frame"
    views = Counter((row.timestamp, row.camera, row.role) for row in rows if row.style == "vqa")
    for (at_s, camera, role), count in views.items():
        if count > 1:
            yield f"vqa row at {at_s!r} s: {count} of role {role} about {camera}; one is fine"
