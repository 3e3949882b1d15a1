"""Checks what a decoding process answered and turns it into plain values; no field of a reply is trusted."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from aot.errors import VIDEO_REASONS, VideoError
from video_data.decode.facts import ClipFacts, DecodedFrames
from video_data.decode.process import malformed

_FACTS = TypeAdapter(ClipFacts)


@dataclass(frozen=True)
class SampledClip:
    """Frames sampled from a whole clip, with the digest of its file."""

    frames: DecodedFrames
    sha256: str
    frames_crc32: tuple[int, ...]


def told_error(reply: dict[str, Any]) -> Exception:
    """The exception that a reply reports."""
    reason, message = reply.get("error"), str(reply.get("message", ""))[:500]
    if reason == "bad_request":
        return ValueError(message)
    if reason in VIDEO_REASONS:
        return VideoError(reason, message)
    return malformed()


def told_frames(reply: dict[str, Any], data: NDArray[np.uint8]) -> DecodedFrames:
    """Decoded frames from a reply.

    Raises:
        VideoError: the reply is malformed.
    """
    try:
        shape = tuple(int(side) for side in reply.pop("shape"))
        fields = dict(reply["frames"])
        fields["times_s"] = tuple(float(time_s) for time_s in fields["times_s"])
        fields["indices"] = tuple(int(index) for index in fields["indices"])
        fields["spans_s"] = tuple((float(start_s), float(end_s)) for start_s, end_s in fields["spans_s"])
        frames = DecodedFrames(frames_THWC=data.reshape(shape), **fields)
    except (KeyError, TypeError, ValueError):
        raise malformed() from None
    if (
        len(shape) != 4
        or shape[3] != 3
        or shape[0] != len(frames.times_s)
        or frames.verdict not in ("complete", "partial")
    ):
        raise malformed()
    return frames


def told_sample(reply: dict[str, Any], data: NDArray[np.uint8]) -> SampledClip:
    """A sampled clip from a reply.

    Raises:
        VideoError: the reply is malformed.
    """
    frames = told_frames(reply, data)
    try:
        crcs = tuple(int(value) for value in reply["frames_crc32"])
        sha256 = str(reply["sha256"])
    except (KeyError, TypeError, ValueError):
        raise malformed() from None
    if len(crcs) != len(frames.times_s):
        raise malformed()
    return SampledClip(frames=frames, sha256=sha256, frames_crc32=crcs)


def told_facts(reply: dict[str, Any]) -> ClipFacts:
    """Facts of a clip from a reply.

    Raises:
        VideoError: the reply is malformed.
    """
    try:
        return _FACTS.validate_python(reply["facts"])
    except (KeyError, ValidationError):
        raise malformed() from None
