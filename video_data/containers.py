"""Which container a local file is, told from its first bytes and never from its name.

Only containers that hold their own media are known here. Playlists and other texts are refused, because decoders
follow the paths and URLs in them.
"""

import os
import re
import stat
from pathlib import Path

from video_data.budgets import Budgets
from video_data.errors import VideoError

NUM_SNIFFED_BYTES = 1024
_MP4_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"}
_PREFIXES: dict[bytes, str] = {
    b"\x1a\x45\xdf\xa3": "matroska",
    b"FLV\x01": "flv",
    b"OggS": "ogg",
    b"\x00\x00\x01\xba": "mpeg",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/")
_PLAYLISTS = (b"#extm3u", b"#extinf", b"<mpd", b"ffconcat", b"[playlist]", b"<smoothstreamingmedia", b"<asx", b"<smil")


def local_file(path: Path, *, budgets: Budgets) -> Path:
    """`path` as an absolute path of a regular, readable, non-empty local file within the byte budget.

    Raises:
        VideoError: it is a URL, missing, a folder, pipe or device, empty, unreadable or too large.
    """
    if _URL.match(str(path)):
        raise VideoError("not_a_local_file", "URLs are never opened; copy the clip to a local file and give its path")
    try:
        facts = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise VideoError("missing", f"there is no file {path.name!r}; check the path") from None
    except (OSError, ValueError):
        raise VideoError(
            "unreadable", f"the file {path.name!r} cannot be read; check the path and its rights"
        ) from None
    if not stat.S_ISREG(facts.st_mode):
        raise VideoError(
            "not_a_local_file", f"{path.name!r} is a folder, pipe or device; only regular files are opened"
        )
    if facts.st_size == 0:
        raise VideoError("empty", f"{path.name!r} has 0 bytes; copy or download it again")
    budgets.check_file(facts.st_size)
    return Path(os.path.realpath(path))


def recognise(path: Path) -> str:
    """Name of the demuxer for the container that the first bytes of `path` show, such as `mp4` or `matroska`.

    Raises:
        VideoError: the bytes are a playlist, a text, or no known video container.
    """
    try:
        with path.open("rb") as file:
            head = file.read(NUM_SNIFFED_BYTES)
    except OSError:
        raise VideoError("unreadable", f"the file {path.name!r} cannot be read; check its rights") from None
    if head[4:8] in _MP4_BOXES:
        return "mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    for prefix, name in _PREFIXES.items():
        if head.startswith(prefix):
            return name
    if _transport_stream(head):
        return "mpegts"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if any(mark in text for mark in _PLAYLISTS):
        raise VideoError(
            "playlist", f"{path.name!r} is a playlist; playlists are never followed, give the video file itself"
        )
    raise VideoError(
        "not_a_video",
        f"the first bytes of {path.name!r} are no known video container; "
        "known: MP4/MOV, Matroska/WebM, AVI, MPEG-TS, MPEG-PS, FLV, Ogg, ASF",
    )


def _transport_stream(head: bytes) -> bool:
    """Sync bytes 0x47 every 188 bytes, or every 192 after a 4-byte time code."""
    plain = len(head) >= 564 and all(head[i] == 0x47 for i in (0, 188, 376))
    timed = len(head) >= 580 and all(head[i] == 0x47 for i in (4, 196, 388))
    return plain or timed
