"""Hands out the visible frames of stored clips to many threads, and says why a clip is not there."""

import threading
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from aot.errors import DecodeError, SourceError, ToolError
from aot.files.run_folder import RunFolder, read_rows
from aot.records import MediaRef, Refusal
from aot.teacher.tools.clipview import ClipView, Frames, clip_view
from video_data.decode.timeline import first_hole
from video_data.store.shards import FrameStore


@dataclass
class ClipShelf:
    """Hands out the visible part of clips; several threads may ask, and share the frames of a clip.

    Frames are kept as long as somebody looks at them, and those of the last clip until the next one is asked for.
    """

    store: FrameStore
    refusals: dict[str, Refusal]
    """Why prepare refused a clip, by uri."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _looked_at: "WeakValueDictionary[str, Frames]" = field(default_factory=WeakValueDictionary)
    _last_THWC: Frames | None = None

    def view(self, media: MediaRef | None) -> ClipView:
        """The window of a question.

        Raises:
            SourceError: no clip is named, or one that is not in the store.
            DecodeError: the clip was refused by the decoder, or the store is damaged.
            ToolError: the window holds no frame, or a part of it could not be decoded.
        """
        if media is None:
            raise SourceError("the question names no clip; the agent answers questions about clips only")
        try:
            clip = self.store.clip(media.uri)
        except KeyError as error:
            raise self._missing(media.uri, str(error.args[0])) from None
        if clip.verdict == "partial":  # prepare refuses such questions; an exam of the tools comes here unasked
            end_s = clip.duration_s if media.end_s is None else min(media.end_s, clip.duration_s)
            if hole := first_hole(clip.spans_s, start_s=media.start_s, end_s=end_s):
                raise ToolError(f"{clip.uri} cannot be seen at {hole[0]:.1f}-{hole[1]:.1f} s: {clip.note}")
        return clip_view(
            uri=clip.uri,
            sha256=clip.sha256,
            frames_THWC=self._frames(media.uri),
            times_s=clip.times_s,
            duration_s=clip.duration_s,
            start_s=media.start_s,
            end_s=media.end_s,
            true_width=clip.true_width,
            true_height=clip.true_height,
        )

    def _frames(self, uri: str) -> Frames:
        with self._lock:  # One thread reads a clip; the others that want it wait, and find it read.
            frames_THWC = self._looked_at.get(uri)
            if frames_THWC is None:
                frames_THWC = self._looked_at[uri] = self.store.frames(uri)
            self._last_THWC = frames_THWC
            return frames_THWC

    def _missing(self, uri: str, message: str) -> SourceError | DecodeError:
        refusal = self.refusals.get(uri)
        if refusal is None:
            return SourceError(message)
        text = f"{uri} was refused: {refusal.reason}. {refusal.detail}"
        return DecodeError(text) if refusal.boundary == "decode" else SourceError(text)


def open_shelf(run: RunFolder) -> ClipShelf:
    """The stored clips of a run.

    Raises:
        DecodeError: the frame store is damaged.
    """
    refusals = read_rows(run.refusals, Refusal) if run.refusals.exists() else ()
    return ClipShelf(FrameStore(run.frames), {row.item: row for row in refusals})
