"""Solves one question: fetches the visible frames and tries candidates.

The gold answer is used in one place, to stop at the first training trace that verifies; questions of other splits get
candidate 0 and nothing else. What question i gives depends on (seed, question i) only.
"""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

from aot.answers import verifies
from aot.config import RunConfig
from aot.errors import DecodeError, SourceError, ToolError
from aot.records import ClipAnnotation, MediaRef, Question, Refusal, Trace
from aot.runs import RunFolder, read_rows
from aot.teacher.cache import ResultCache
from aot.teacher.executor import Budget, TeacherKit, failed_trace, run_candidate, with_attempts_cost
from aot.teacher.procedure import ProcedureModel
from aot.teacher.rules import RulesPlanner
from aot.teacher.tools.appearance import load_appearance
from aot.teacher.tools.clipview import ClipView, Frames, clip_view
from aot.teacher.tools.looking import Looker
from video_data.errors import VideoError
from video_data.shards import FrameStore

TRAIN = "train"


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
            ToolError: the window holds no frame.
        """
        if media is None:
            raise SourceError("the question names no clip; the agent answers questions about clips only")
        try:
            clip = self.store.clip(media.uri)
        except KeyError as error:
            raise self._missing(media.uri, str(error.args[0])) from None
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


def make_kit(run: RunFolder, config: RunConfig, *, writer: str) -> TeacherKit:
    """The teacher of one worker: planner, looks, procedural knowledge and cache.

    Raises:
        ConfigError: the appearance card cannot be read.
    """
    training = (row for row in read_rows(run.annotations, ClipAnnotation) if row.split == TRAIN)
    procedure = ProcedureModel.from_annotations(training)
    return TeacherKit(
        planner=RulesPlanner(),
        looker=Looker(load_appearance(config.teacher.appearance)),
        procedure=procedure if procedure.clips else None,
        cache=ResultCache(run.tool_cache, writer=writer),
        budget=Budget(max_calls=config.teacher.max_calls, time_limit_s=config.teacher.time_limit_s),
        seed=config.seed,
        config_digest=config.digest(),
    )


def solve(question: Question, shelf: ClipShelf, kit: TeacherKit, *, candidates: int) -> list[Trace]:
    """The attempts at one question, in order; the last is its row: the first that verifies, else the last one tried."""
    try:
        clip = shelf.view(question.media)
    except (SourceError, DecodeError, ToolError) as error:
        return [failed_trace(question, kit, boundary=error.boundary, message=str(error))]
    attempts: list[Trace] = []
    for candidate in range(candidates if question.split == TRAIN else 1):
        attempts.append(run_candidate(question, clip, kit, candidate=candidate))
        if question.split == TRAIN and verifies(attempts[-1], question):
            break
    return [*attempts[:-1], with_attempts_cost(attempts[-1], attempts)]


def open_shelf(run: RunFolder) -> ClipShelf:
    """The stored clips of a run.

    Raises:
        DecodeError: the frame store is damaged.
    """
    try:
        store = FrameStore(run.frames)
    except VideoError as error:
        raise DecodeError(str(error)) from error
    return ClipShelf(store, _clip_refusals(run.refusals))


def _clip_refusals(path: Path) -> dict[str, Refusal]:
    return {row.item: row for row in read_rows(path, Refusal)} if path.exists() else {}
