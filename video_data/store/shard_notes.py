"""What lies beside each shard so that an interrupted run can go on.

A note says what a shard was made from and what came out. A shard is kept on a rerun only if its note fits the clips and
settings at hand and every stored frame still has its checksum.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from aot.errors import VideoError
from aot.files.disk import whole_file
from aot.files.jsonl import RefusedRow
from video_data.store.shards import INDEX_NAME, SHARD_NAME, StoredClip, open_shard, shard_frames

PASSING_REASONS = ("timeout", "crashed")
"""A busy machine or one short of memory refuses clips for these; another attempt may well succeed."""
_HALF_WRITTEN = re.compile(rf"\.(?:{SHARD_NAME.pattern}|{re.escape(INDEX_NAME)})(?:\.\d+)?\.tmp")


@dataclass(frozen=True)
class SourceFile:
    """What a clip's file looked like when its shard was made."""

    uri: str
    num_bytes: int
    """-1 if there was no such file."""


@dataclass(frozen=True)
class ShardNote:
    """What a shard was made from, and what came out."""

    settings: str
    """Digest of everything but the clips that decides the bytes of a shard."""
    sources: tuple[SourceFile, ...]
    clips: tuple[StoredClip, ...]
    refused: tuple[RefusedRow, ...]


_NOTE = TypeAdapter(ShardNote)


def shard_path(out: Path, number: int) -> Path:
    """File of the frames of shard `number`."""
    return out / f"shard-{number:05d}.safetensors"


def _note_path(out: Path, number: int) -> Path:
    return out / f"shard-{number:05d}.json"


def source_of(uri: str, path: Path) -> SourceFile:
    """What the file of a clip looks like now."""
    try:
        return SourceFile(uri, path.stat().st_size)
    except (OSError, ValueError):
        return SourceFile(uri, -1)


def write_note(out: Path, number: int, note: ShardNote) -> None:
    """Publish the note of a shard."""
    with whole_file(_note_path(out, number)) as file:
        file.write((json.dumps(asdict(note), separators=(",", ":")) + "\n").encode())


def kept_note(out: Path, number: int, group: Sequence[tuple[str, Path]], *, settings: str) -> ShardNote | None:
    """The note of shard `number` if that shard is intact and was made from just these clips and settings, else None.

    A note that refuses a clip for a passing reason is not kept, so that the same command tries that clip again.
    """
    path = _note_path(out, number)
    try:
        note = _NOTE.validate_json(path.read_bytes())
        written_ns = path.stat().st_mtime_ns  # of the note, which is written after its clips were read
    except (OSError, ValidationError):
        return None
    if note.settings != settings or note.sources != tuple(source_of(uri, file) for uri, file in group):
        return None
    if any(row.reason in PASSING_REASONS for row in note.refused):
        return None
    digests = {clip.uri: clip.sha256 for clip in note.clips}
    if not all(_unchanged(file, sha256=digests.get(uri), written_ns=written_ns) for uri, file in group):
        return None
    return note if _intact(out, number, note) else None


def sweep(out: Path, *, num_shards: int) -> None:
    """Remove what a killed run or a longer list of clips left behind."""
    for path in sorted(out.iterdir()):
        is_ours = SHARD_NAME.fullmatch(path.name) and int(path.name[6:11]) >= num_shards
        if is_ours or _HALF_WRITTEN.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _unchanged(path: Path, *, sha256: str | None, written_ns: int) -> bool:
    """A file of the old size is the old file if it is older than the note, or has the same digest."""
    try:
        # Reading every clip again would cost as much as a cold start; the digest decides only where the times do not.
        if path.stat().st_mtime_ns < written_ns:
            return True
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except (OSError, ValueError):
        return sha256 is None


def _intact(out: Path, number: int, note: ShardNote) -> bool:
    path = shard_path(out, number)
    try:
        shard = open_shard(path)
    except VideoError:
        return False
    if set(shard.keys()) != {clip.uri for clip in note.clips}:
        return False
    return all(clip.shard == path.name and _is_stored(shard, clip) for clip in note.clips)


def _is_stored(shard: Any, clip: StoredClip) -> bool:  # noqa: ANN401 - the library has no public types
    frames = shard_frames(shard, clip)
    return frames is not None and all(zlib.crc32(frames[i]) == crc for i, crc in enumerate(clip.frames_crc32))
