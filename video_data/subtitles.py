"""Reads the subtitles beside a clip: .srt and .vtt, tolerantly, and nothing that such a file asks for.

Cues come out in time order. A cue with a broken or empty time, or without text, is skipped and counted; cues may
overlap.
"""

import html
import re
from dataclasses import dataclass
from pathlib import Path

from video_data.errors import VideoError

ENDINGS = (".srt", ".vtt")
"""In the order in which they are looked for."""
MAX_BYTES = 4 * 1024 * 1024
MAX_CUE_CHARACTERS = 500
_TIME = r"(?:(\d{1,3}):)?([0-5]?\d):([0-5]\d)[.,](\d{1,3})"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?$")
_TAG = re.compile(r"<[^<>]{0,200}>|\{\\[^{}]{0,200}\}")


@dataclass(frozen=True)
class Cue:
    """One piece of text and when it is shown."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class Subtitles:
    """The cues of a file, in time order."""

    cues: tuple[Cue, ...]
    skipped: int
    """Cues that could not be used."""


def find_subtitles(root: Path, uri: str) -> Path:
    """The subtitle file with the name of the clip `uri`, inside the folder `root`.

    Raises:
        VideoError: there is none, or it lies outside of `root`, by its name or by a link.
    """
    try:
        inside = root.resolve()
        clip = inside / uri
        found = [path for ending in ENDINGS if (path := clip.with_suffix(ending).resolve()).is_file()]
        if not clip.resolve().is_relative_to(inside) or any(not path.is_relative_to(inside) for path in found):
            raise VideoError("not_a_local_file", f"subtitles of {uri!r} would lie outside the folder of clips")
    except (OSError, ValueError, RuntimeError) as error:
        raise VideoError("unreadable", f"{uri!r} cannot be looked up ({type(error).__name__})") from error
    if not found:
        names = " or ".join(clip.with_suffix(ending).name for ending in ENDINGS)
        raise VideoError("missing", f"no subtitles beside {uri!r}; put {names} there")
    return found[0]


def read_subtitles(path: Path) -> Subtitles:
    """The cues of a file.

    Raises:
        VideoError: it cannot be read or is larger than `MAX_BYTES`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise VideoError("unreadable", f"cannot read {path.name}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise VideoError("over_budget_bytes", f"{path.name} is larger than {MAX_BYTES // 2**20} MB")
    return parse_subtitles(_decoded(data))


def parse_subtitles(text: str) -> Subtitles:
    r"""The cues of the text of an .srt or .vtt file; never fails.

    >>> parse_subtitles("1\n00:00:01,500 --> 00:00:03,000\n<i>Flip</i> it.\n").cues
    (Cue(start_s=1.5, end_s=3.0, text='Flip it.'),)
    """
    cues: set[Cue] = set()
    skipped = 0
    timing: re.Match[str] | None = None
    lines: list[str] = []
    for line in [*re.split(r"\r\n|\r|\n", text), ""]:
        if "-->" not in line and line.strip():
            lines.append(line)
            continue
        if timing is not None:
            cue = _cue(timing, lines, is_cut="-->" in line)
            skipped += cue is None
            cues |= {cue} if cue else set()
        timing = _TIMING.match(line)
        skipped += timing is None and "-->" in line
        lines = []
    return Subtitles(tuple(sorted(cues, key=lambda cue: (cue.start_s, cue.end_s, cue.text))), skipped)


def _cue(timing: re.Match[str], lines: list[str], *, is_cut: bool) -> Cue | None:
    """The cue, or None if it has no text or ends before it starts; `is_cut`: no empty line ended it."""
    if is_cut and lines and lines[-1].strip().isdecimal():
        lines = lines[:-1]  # the number of the next cue
    start_s, end_s = _seconds(timing.groups()[:4]), _seconds(timing.groups()[4:])
    text = html.unescape(_TAG.sub("", " ".join(lines)))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())[:MAX_CUE_CHARACTERS]
    return Cue(start_s, end_s, text) if text and end_s > start_s else None


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = parts
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + float(f"0.{fraction}")


def _decoded(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
