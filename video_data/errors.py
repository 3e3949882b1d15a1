"""The one error of this package: a countable reason, and a message fit for a user.

Messages never hold raw decoder text, which may leak addresses.
"""

from typing import Literal, get_args

Reason = Literal[
    "missing", "not_a_local_file", "empty", "unreadable", "not_a_video", "playlist", "no_video_stream", "corrupt",
    "over_budget_bytes", "over_budget_pixels", "over_budget_frames", "over_budget_duration", "over_budget_streams",
    "timeout", "crashed", "no_decoder", "store_missing", "store_damaged", "disk_full", "unwritable",
    "other_kitchen",
]  # fmt: skip
"""Why a clip or a frame store could not be used."""

REASONS: tuple[str, ...] = get_args(Reason)


class VideoError(Exception):
    """A clip or frame store that cannot be used; `reason` is countable, `message` is for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def __reduce__(self) -> tuple[type["VideoError"], tuple[str, str]]:
        return (VideoError, (self.reason, self.message))
