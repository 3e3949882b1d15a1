"""Which container a local file is, told from its first bytes and never from its name.

Only containers that hold their own media are known here. Playlists and other texts are refused, because decoders
follow the paths and URLs in them.
"""

import os
import re
import stat
from pathlib import Path

from aot.errors import VideoError
from video_data.containers.structure import TS_SPACINGS, sync_offset
from video_data.decode.budgets import Budgets

NUM_SNIFFED_BYTES = 1024
_MP4_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"}
_PREFIXES: dict[bytes, str] = {
    b"\x1a\x45\xdf\xa3": "matroska",
    b"FLV\x01": "flv",
    b"OggS": "ogg",
    b"\x00\x00\x01\xba": "mpeg",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "asf",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/")
"""How a URL begins; a path object keeps one of its two slashes only."""
_NOT_VIDEOS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the clip itself; run `git lfs pull` in its repository"),
    (b"/annex/objects/", "is a git-annex pointer, not the clip itself; run `git annex get` in its repository"),
    (b"<!doctype html", "is a web page, not a clip; the download needs a login or another address"),
    (b"<html", "is a web page, not a clip; the download needs a login or another address"),
    (b"<?xml", "is an XML text, not a clip; perhaps the error message of a download"),
    (b"\xff\xd8\xff", "is a JPEG picture, not a clip"),
    (b"\x89png", "is a PNG picture, not a clip"),
    (b"pk\x03\x04", "is a ZIP archive; unpack it and give the clip itself"),
    (b"\x1f\x8b", "is a gzip archive; unpack it and give the clip itself"),
    (b"id3", "is a sound file without a picture"),
    (b"flac", "is a sound file without a picture"),
)
"""What people give instead of a clip: its first bytes in lower case, and what to say."""
_PLAYLISTS = (b"#extm3u", b"#extinf", b"<mpd", b"ffconcat", b"[playlist]", b"<smoothstreamingmedia", b"<asx", b"<smil")


def local_file(path: Path, *, budgets: Budgets) -> Path:
    """`path` as an absolute path of a regular, readable, non-empty local file within the byte budget.

    Raises:
        VideoError: it is a URL, missing, a folder, pipe or device, empty, unreadable or too large.
    """
    if _URL.match(str(path)) and not os.path.exists(path):  # noqa: PTH110 - a folder may be called `rec:`
        raise VideoError("not_a_local_file", "URLs are never opened; copy the clip to a local file and give its path")
    try:
        facts = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise VideoError("missing", f"there is no file {path.name!r}; check the path") from None
    except (OSError, ValueError):
        why = f"the file {path.name!r} cannot be read; check the path and its rights"
        raise VideoError("unreadable", why) from None
    if not stat.S_ISREG(facts.st_mode):
        why = f"{path.name!r} is a folder, pipe or device; only regular files are opened"
        raise VideoError("not_a_local_file", why)
    if facts.st_size == 0:
        raise VideoError("empty", f"{path.name!r} has 0 bytes; copy or download it again")
    budgets.check(max_file_mb=facts.st_size / 1e6)
    # Links are followed once, here: what is decoded later is the file whose size was checked.
    return Path(os.path.realpath(path))


def recognise(path: Path) -> str:
    """Name of the demuxer for the container that the first bytes of `path` show, such as `mp4` or `matroska`.

    Raises:
        VideoError: the bytes are a playlist, a text, or no known video container.
    """
    try:
        with path.open("rb") as file:  # read as bytes: no name and no ending is believed
            head = file.read(NUM_SNIFFED_BYTES)
    except OSError:
        raise VideoError("unreadable", f"the file {path.name!r} cannot be read; check its rights") from None
    if head[4:8] == b"ftyp":  # strong enough to come before the sync bytes of a transport stream
        return "mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    for prefix, name in _PREFIXES.items():
        if head.startswith(prefix):
            return name
    if any(sync_offset(head, spacing=spacing) is not None for spacing in TS_SPACINGS):
        return "mpegts"
    if head[4:8] in _MP4_BOXES:  # a word that may stand inside the first packet of a transport stream as well
        return "mp4"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if any(mark in text for mark in _PLAYLISTS):  # anywhere: comments and blank lines may come first
        raise VideoError(
            "playlist", f"{path.name!r} is a playlist; playlists are never followed, give the video file itself"
        )
    what = next((words for start, words in _NOT_VIDEOS if text.startswith(start)), "")
    if head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"WAVE"):
        what = "is a WebP picture, not a clip" if head[8:12] == b"WEBP" else "is a sound file without a picture"
    if (head[8:16] == b"WEBPVP8X" and head[20] & 2) or (head[:4] == b"\x89PNG" and b"acTL" in head):
        what = f"is an animated {'PNG' if head[1:4] == b'PNG' else 'WebP'}, which is not read; save it as GIF or MP4"
    if what:
        raise VideoError("not_a_video", f"{path.name!r} {what}")
    raise VideoError(
        "not_a_video",
        f"the first bytes of {path.name!r} are no known video container; "
        "known: MP4/MOV, Matroska/WebM, AVI, MPEG-TS, MPEG-PS, FLV, Ogg, ASF, GIF",
    )
