"""The frame store: sampled frames of many clips in a few safetensors files beside one index.

A folder holds `shard-00000.safetensors` and so on (key: uri of a clip; value: uint8 T, H, W, 3 in RGB) and
`index.jsonl`, published last, with one `StoredClip` a line. Every frame read is checked against its recorded checksum.
Beside each shard lies a note of what it was made from and what came out, so that an interrupted run can go on: a shard
is kept only if its note fits the clips and settings at hand and every stored frame still has its checksum.
"""

import errno
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from aot.errors import VideoError
from aot.files.disk import whole_file
from aot.files.jsonl import RefusedRow
from video_data.decode.facts import Backend, Spans

INDEX_NAME = "index.jsonl"
SHARD_NAME = re.compile(r"shard-(\d{5})\.(?:safetensors|json)")
PASSING_REASONS = ("timeout", "crashed")
"""A busy machine or one short of memory refuses clips for these; another attempt may well succeed."""
_HALF_WRITTEN = re.compile(rf"\.(?:{SHARD_NAME.pattern}|{re.escape(INDEX_NAME)})(?:\.\d+)?\.tmp")


@dataclass(frozen=True)
class StoredClip:
    """One clip of a frame store: where its frames lie, and their true times."""

    uri: str
    sha256: str
    """Of the video file."""
    duration_s: float
    true_width: int
    """Pixels of the frame as displayed, after rotation, before scaling."""
    true_height: int
    stored_width: int
    stored_height: int
    times_s: tuple[float, ...]
    """True times of the stored frames, ascending."""
    backend: Backend
    verdict: str
    """`complete`, or `partial` if anything that the file declares did not come out undamaged."""
    note: str
    shard: str
    frames_crc32: tuple[int, ...]
    """Checksum of each stored frame."""
    spans_s: Spans = ()
    """Stretches of the clip in which pictures came out undamaged; stores made by earlier versions do not say."""


_ROW = TypeAdapter(StoredClip)


class FrameStore:
    """Reads stored frames; cheap to open, opens shards when needed, and may be sent to other processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        # Places only: frame times and checksums of all clips would fill the memory of every process.
        self._places = {clip.uri: place for place, clip in _index(self.folder)}
        self._open: dict[str, Any] = {}

    def __reduce__(self) -> tuple[type["FrameStore"], tuple[Path]]:
        return (FrameStore, (self.folder,))

    def uris(self) -> list[str]:
        """All clips, in the order they were stored."""
        return list(self._places)

    def clip(self, uri: str) -> StoredClip:
        """Facts and frame times of one clip.

        Raises:
            KeyError: the store holds no such clip.
            VideoError: the index was altered since it was opened.
        """
        if uri not in self._places:
            raise KeyError(
                f"{self.folder} holds no frames of {uri!r} ({len(self._places)} other clips are there); "
                "it was refused by prepare, or prepare has not run for it"
            )
        offset, number = self._places[uri]
        path = self.folder / INDEX_NAME
        try:
            with path.open("rb") as file:
                file.seek(offset)
                line = file.readline()
        except OSError as error:
            raise _unreadable(path, error) from None
        clip = _parse(line, path=path, number=number)
        if clip.uri != uri:
            raise _damaged(path, f"line {number} was replaced while the store was open")
        return clip

    def frames(self, uri: str, indices: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """Stored frames of a clip as uint8 T, H, W, 3 in RGB: all, or those at `indices` in that order.

        Raises:
            KeyError: the store holds no such clip.
            IndexError: an index is not one of its stored frames.
            VideoError: the shard is missing, truncated or altered.
        """
        clip = self.clip(uri)
        if clip.shard not in self._open:
            self._open[clip.shard] = open_shard(self.folder / clip.shard)
        stored = shard_frames(self._open[clip.shard], clip)
        if stored is None:
            raise _damaged(self.folder / clip.shard, f"it does not hold {uri!r} in the shape {clip_shape(clip)}")
        wanted = range(len(clip.times_s)) if indices is None else [int(index) for index in indices]
        if any(not 0 <= index < len(clip.times_s) for index in wanted):
            raise IndexError(f"{uri!r} has stored frames 0..{len(clip.times_s) - 1}, asked for {list(wanted)}")
        frames_THWC = np.empty((len(wanted), *clip_shape(clip)[1:]), np.uint8)
        for place, index in enumerate(wanted):
            frame = frames_THWC[place]
            frame[...] = stored[index]
            # Of the copy that is handed out: the map may change behind our back.
            if zlib.crc32(frame) != clip.frames_crc32[index]:
                raise _damaged(self.folder / clip.shard, f"frame {index} of {uri!r} was altered")
        return frames_THWC


def _index(folder: Path) -> Iterator[tuple[tuple[int, int], StoredClip]]:
    """The clips of a store, in the order they were stored, each after the offset and the number of its line."""
    path = folder / INDEX_NAME
    try:
        offset = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):  # an index is published whole: this one was cut by a copy
                    raise _damaged(path, "its last line is cut off")
                yield (offset, number), _parse(line, path=path, number=number)
                offset += len(line)
    except FileNotFoundError:
        raise VideoError("store_missing", f"{path} does not exist; run the prepare stage first") from None
    except OSError:
        raise VideoError("store_damaged", f"{path} cannot be read; run the prepare stage again") from None


def _parse(line: bytes, *, path: Path, number: int) -> StoredClip:
    try:
        clip = _ROW.validate_json(line.decode())
    except (UnicodeDecodeError, ValidationError):
        raise _damaged(path, f"line {number} is not a stored clip") from None
    if not SHARD_NAME.fullmatch(clip.shard) or len(clip.times_s) != len(clip.frames_crc32):
        raise _damaged(path, f"line {number} contradicts itself")
    return clip


def clip_line(clip: StoredClip) -> str:
    """One index line, newline included."""
    return json.dumps(asdict(clip), ensure_ascii=True, separators=(",", ":")) + "\n"


def clip_shape(clip: StoredClip) -> tuple[int, int, int, int]:
    """Shape T, H, W, C of the stored frames of a clip."""
    return (len(clip.times_s), clip.stored_height, clip.stored_width, 3)


def open_shard(path: Path) -> Any:  # noqa: ANN401 - the library has no public types
    """An open `safetensors.safe_open`, whose slices are read when they are asked for; a VideoError for a bad file."""
    try:
        path.open("rb").close()  # the library calls whatever it cannot open missing
        return safe_open(path, "numpy")
    except FileNotFoundError:
        raise VideoError("store_damaged", f"{path} is missing; run the prepare stage again") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except SafetensorError as error:
        raise _damaged(path, str(error)) from None


def shard_frames(shard: Any, clip: StoredClip) -> Any:  # noqa: ANN401
    """The frames of a clip in an open shard, not yet read; None where it holds none of this clip's shape."""
    try:
        frames = shard.get_slice(clip.uri)
    except SafetensorError:
        return None
    return frames if tuple(frames.get_shape()) == clip_shape(clip) else None


def header_room(uris: Iterable[str]) -> int:
    """Bytes that are enough for the header of a shard of these clips, whatever their sizes."""
    room = 2 + sum(len(json.dumps(uri)) + 160 for uri in uris)
    return -(-room // 64) * 64  # frames begin at a multiple of 64 bytes, as the format advises


def shard_header(shapes: dict[str, tuple[int, ...]], *, room: int) -> bytes:
    """The safetensors header for tensors laid down in this order, padded with spaces to `room` bytes."""
    entries: dict[str, Any] = {}
    begin = 0
    for uri, shape in shapes.items():
        end = begin + int(np.prod(shape))
        entries[uri] = {"dtype": "U8", "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    # The room was left at the start of the file, before the shapes were known; spaces may fill it.
    text = json.dumps(entries, separators=(",", ":")).encode()
    return room.to_bytes(8, "little") + text.ljust(room, b" ")


def _damaged(path: Path, why: str) -> VideoError:
    return VideoError("store_damaged", f"{path} is damaged: {why}; delete the folder and run the prepare stage again")


def _unreadable(path: Path, error: OSError) -> VideoError:
    why = os.strerror(error.errno or errno.EIO)
    return VideoError("unreadable", f"{path} cannot be opened ({why}); mend that, the file may be sound")


# Notes of shards


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


def shard_path(out: Path, number: int, *, ending: str = "safetensors") -> Path:
    """File of the frames of shard `number`, or of another ending."""
    return out / f"shard-{number:05d}.{ending}"


def source_of(uri: str, path: Path) -> SourceFile:
    """What the file of a clip looks like now."""
    try:
        return SourceFile(uri, path.stat().st_size)
    except (OSError, ValueError):
        return SourceFile(uri, -1)


def write_note(out: Path, number: int, note: ShardNote) -> None:
    """Publish the note of a shard."""
    with whole_file(shard_path(out, number, ending="json")) as file:
        file.write((json.dumps(asdict(note), separators=(",", ":")) + "\n").encode())


def kept_note(out: Path, number: int, group: Sequence[tuple[str, Path]], *, settings: str) -> ShardNote | None:
    """The note of shard `number` if that shard is intact and was made from just these clips and settings, else None.

    A note that refuses a clip for a passing reason is not kept, so that the same command tries that clip again.
    """
    path = shard_path(out, number, ending="json")
    try:
        note = _NOTE.validate_json(path.read_bytes())
        written_ns = path.stat().st_mtime_ns  # of the note, which is written after its clips were read
    except (OSError, ValidationError):
        return None
    digests = {clip.uri: clip.sha256 for clip in note.clips}
    is_good = (
        (note.settings, note.sources) == (settings, tuple(source_of(uri, file) for uri, file in group))
        and not any(row.reason in PASSING_REASONS for row in note.refused)
        and all(_unchanged(file, sha256=digests.get(uri), written_ns=written_ns) for uri, file in group)
        and _is_intact(shard_path(out, number), note.clips)
    )
    return note if is_good else None


def sweep(out: Path, *, num_shards: int, only: Callable[[int], bool] | None = None) -> None:
    """Remove what a killed run or a longer list of clips left behind; with `only`, of some shards, by number."""
    for path in sorted(out.iterdir()):
        name = SHARD_NAME.search(path.name)
        if only is not None and not (name and only(int(name[1]))):
            continue  # others may be writing it
        is_ours = SHARD_NAME.fullmatch(path.name) and name and int(name[1]) >= num_shards
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


def _is_intact(path: Path, clips: Sequence[StoredClip]) -> bool:
    try:
        shard = open_shard(path)
    except VideoError:
        return False
    is_same = set(shard.keys()) == {clip.uri for clip in clips}
    return is_same and all(clip.shard == path.name and _is_stored(shard, clip) for clip in clips)


def _is_stored(shard: Any, clip: StoredClip) -> bool:  # noqa: ANN401 - the library has no public types
    frames = shard_frames(shard, clip)
    return frames is not None and all(zlib.crc32(frames[i]) == crc for i, crc in enumerate(clip.frames_crc32))
