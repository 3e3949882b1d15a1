"""Work on a single clip from the command line: probe it, save frames, let the agent answer a question about it."""

import dataclasses
import io
import json
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from aot.display import counted
from aot.errors import ConfigError, DecodeError, SourceError, first_problem
from aot.files.jsonl import MAX_QUESTION_CHARS
from aot.records import ClipAnnotation, Record, Segment, Trace
from video_data.decode.facts import ClipFacts

log = logging.getLogger(__name__)


def probe_clip(clip: Path, *, stream: int | None = None) -> ClipFacts:
    """The facts of a clip, or of one of its video streams.

    Raises:
        DecodeError: the clip is refused, with the reason.
    """
    from video_data.decode.sandbox import shared_pool

    facts = shared_pool().probe(clip, stream=stream)
    if facts.verdict == "refused":
        raise _refusal(clip, facts.reason, facts.note)
    return facts


class SavedFrame(Record):
    """One frame as a file."""

    path: str
    width: int
    height: int
    time_s: float
    """Its true time."""

    @property
    def line(self) -> str:
        """For a terminal."""
        return f"{self.path}  {self.width}x{self.height}  t={self.time_s:.3f}s"


class SavedFrames(Record):
    """What `aot frames --json` prints."""

    frames: tuple[SavedFrame, ...]
    missing: int
    """Moments asked for at which no frame can be decoded."""
    verdict: Literal["complete", "partial", "refused"]
    """Of the whole clip, whichever frames were asked for."""
    note: str

    @property
    def lines(self) -> list[str]:
        """For a terminal."""
        missing = f"{self.missing} of the moments asked for lie where no frame can be decoded"
        note = f" ({self.note})" if self.note else ""
        return [*(one.line for one in self.frames), *([missing] if self.missing else []),
                f"the clip is {self.verdict}{note}"]  # fmt: skip


def save_frames(clip: Path, *, out: Path, at_s: Sequence[float], count: int, stream: int | None = None) -> SavedFrames:
    """Save frames as PNG.

    Raises:
        DecodeError: the clip is refused, with the reason.
        SourceError: a moment is none of the clip, or the folder cannot be written or holds frames of another clip.
    """
    from aot.errors import VideoError
    from video_data.decode.sampling import uniform_times
    from video_data.decode.sandbox import shared_pool

    if wrong := [time_s for time_s in at_s if not (math.isfinite(time_s) and time_s >= 0)]:
        raise SourceError(f"--at {wrong[0]} is no moment of a clip; give seconds from its start, such as --at 2.5")
    facts = probe_clip(clip, stream=stream)
    if late := [time_s for time_s in at_s if time_s > facts.duration_s]:
        raise SourceError(f"--at {late[0]:g} lies past the end of {clip.name}, which lasts {facts.duration_s:.3f} s")
    wanted_s = list(at_s) or uniform_times(facts.first_frame_s, facts.duration_s, count)
    try:
        decoded = shared_pool().read_frames(clip, times_s=wanted_s, stream=stream)
    except VideoError as error:
        raise _refusal(clip, error.reason, error.message) from None
    frames = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for frame, time_s in zip(decoded.frames_THWC, decoded.times_s, strict=True):
            path = out / f"{_short_stem(clip)}_{time_s:08.3f}s.png"
            _save_png(path, frame)
            height, width = frame.shape[:2]
            frames.append(SavedFrame(path=str(path), width=width, height=height, time_s=time_s))
    except OSError as error:
        raise SourceError(f"cannot write frames to {out}: {error.strerror or error}; give another folder") from error
    missing = len(set(wanted_s)) - len(frames) if at_s and decoded.verdict == "partial" else 0
    return SavedFrames(frames=tuple(frames), missing=missing, verdict=decoded.verdict, note=decoded.note)


def ask_clip(
    clip: Path,
    question: str,
    *,
    choices: tuple[str, ...],
    appearance: Path | None,
    annotations: Path | None,
    config: Path | None,
) -> Trace:
    """The agent's trace for a question about a clip, failed or not; planner and tools are those of `config`.

    Raises:
        DecodeError: the clip is refused, with the reason.
        SourceError: a side file is missing or malformed.
        ConfigError: the config cannot be used, or its chat model cannot be asked.
    """
    from aot.config import VideoRun, load_config
    from aot.errors import VideoError
    from aot.teacher.ask import ask

    if not question.strip():
        raise SourceError('the question is empty; ask something, such as "What is the next step?"')
    if len(question) > MAX_QUESTION_CHARS:
        raise SourceError(f"the question has {len(question)} characters, at most {MAX_QUESTION_CHARS} are fine")
    annotated = tuple(read_annotations(annotations)) if annotations else ()
    loaded = load_config(config) if config else None
    if loaded is not None and not isinstance(loaded, VideoRun):
        raise ConfigError(f"{config}: aot ask is about clips, and data.dataset is {loaded.data.dataset!r}")
    try:
        reply = ask(clip, question, choices=choices, appearance=appearance, annotations=annotated, config=loaded)
    except VideoError as error:
        raise _refusal(clip, error.reason, error.message) from None
    if reply.note:
        log.warning("partial clip: %s", reply.note)
    return reply.trace


def read_annotations(path: Path) -> Iterator[ClipAnnotation]:
    """Annotated clips of a plain data set (docs/plain_data.md) or of a run folder; the clips need not be there.

    Raises:
        SourceError: the file is missing, or one of its lines is no annotation.
    """
    from aot.files.jsonl import JsonLine, RowProblem, read_json_lines

    for line in read_json_lines(path):
        if not isinstance(line, JsonLine):
            raise SourceError(f"{line.item}: {line.reason}: {line.detail}")
        try:
            yield _annotation(line.fields)
        except RowProblem as problem:
            raise SourceError(f"{line.place}: {problem.reason}: {problem.detail}") from None
        except ValidationError as error:
            raise SourceError(f"{line.place}: {first_problem(error)}") from None


def _annotation(row: dict[str, Any]) -> ClipAnnotation:
    from video_data.datasets.plain_fields import AnnotationFields, checked_fields, segments_of

    if "uri" in row:  # a row of a run folder
        return ClipAnnotation.model_validate(row)
    fields = checked_fields(AnnotationFields, row)
    segments = tuple(Segment.model_validate(dataclasses.asdict(one)) for one in segments_of(fields))
    facts = fields.model_dump(include={"split", "task", "duration_s"})
    return ClipAnnotation(uri=fields.video, segments=segments, **facts)


def trace_lines(trace: Trace) -> list[str]:
    """A trace for human eyes: each call with arguments, time and result (texts as quotes), then the rationale."""
    from aot.rationales.findings import quotes
    from aot.teacher.verbalise import quote_sentence

    lines = []
    for step in trace.steps:
        call = f"{step.call.tool}({_short(step.call.arguments)})" if step.call else step.text
        texts = [quote_sentence(quote) for quote in quotes([step])]
        outcome = texts or [_short(step.result) if step.status == "ok" else f"failed: {step.error}"]
        lines.append(
            f"[{step.index}] {call}  {1000 * step.duration_s:.0f} ms, {counted(len(step.frame_times_s), 'frame')}"
        )
        lines += [f"    {line}" for line in outcome]
    lines += ["", *trace.rationale.splitlines()] if trace.rationale else []
    lines += ["", f"answer: {trace.answer}" if trace.answer else f"no answer ({trace.status})"]
    if trace.error:
        lines.append(f"{trace.error.boundary}: {trace.error.message}")
    return lines


def _short_stem(clip: Path) -> str:
    """The name of a clip without its ending, cut so that a time and an ending still fit into a file name."""
    return clip.stem.encode()[:200].decode(errors="ignore")


def _refusal(clip: Path, reason: str, message: str) -> DecodeError:
    return DecodeError(f"{clip}: {reason}: {message.removeprefix(f'{clip}: ')}")


def _save_png(path: Path, frame_HWC: np.ndarray) -> None:
    """Write one frame; a file of that name with another picture is another clip's, and is kept."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(frame_HWC).save(data, format="PNG")
    if path.exists() and path.read_bytes() != data.getvalue():
        raise SourceError(f"{path} is there already, with another picture; give another folder")
    path.write_bytes(data.getvalue())


def _short(value: object, *, limit: int = 600) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
