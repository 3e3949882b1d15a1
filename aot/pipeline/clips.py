"""Work on a single clip from the command line: probe it, save frames, let the agent answer a question about it."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from aot.errors import DecodeError, SourceError
from aot.records import ClipAnnotation, Trace
from aot.runs import read_rows


def probe_clip(clip: Path) -> str:
    """The facts of a clip as indented JSON.

    Raises:
        DecodeError: the clip is refused, with the reason.
    """
    from video_data.sandbox import probe_safely

    facts = probe_safely(clip)
    if facts.verdict == "refused":
        raise DecodeError(f"{clip}: {facts.reason}: {facts.note}")
    return json.dumps(dataclasses.asdict(facts), indent=1, default=str)


def save_frames(clip: Path, *, out: Path, at_s: Sequence[float], count: int) -> list[str]:
    """Save frames as PNG; one line for each file.

    Raises:
        DecodeError: the clip is refused, with the reason.
        SourceError: the folder cannot be written.
    """
    from PIL import Image

    from video_data.errors import VideoError
    from video_data.sampling import uniform_times
    from video_data.sandbox import probe_safely, read_frames_safely

    try:
        wanted_s = list(at_s) or uniform_times(0.0, probe_safely(clip).duration_s, count)
        decoded = read_frames_safely(clip, times_s=wanted_s)
    except VideoError as error:
        raise DecodeError(f"{clip}: {error.reason}: {error}") from None
    lines = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for frame, time_s in zip(decoded.frames_THWC, decoded.times_s, strict=True):
            path = out / f"{clip.stem}_{time_s:08.3f}s.png"
            Image.fromarray(frame).save(path)
            lines.append(f"{path}  {frame.shape[1]}x{frame.shape[0]}  t={time_s:.3f}s")
    except OSError as error:
        raise SourceError(f"cannot write frames to {out}: {error.strerror or error}") from error
    note = f" ({decoded.note})" if decoded.note else ""
    return [*lines, f"decoded with {decoded.backend}, {decoded.verdict}{note}"]


def ask_clip(
    clip: Path,
    question: str,
    *,
    choices: tuple[str, ...],
    appearance: Path | None,
    annotations: Path | None,
    as_json: bool,
) -> str:
    """The agent's trace for a question about a clip, as text or JSON.

    Raises:
        DecodeError: the clip is refused, with the reason.
        SourceError: a side file is missing or malformed.
    """
    from aot.teacher.ask import ask
    from video_data.errors import VideoError

    known = tuple(read_rows(annotations, ClipAnnotation)) if annotations else ()
    try:
        trace = ask(clip, question, choices=choices, appearance=appearance, annotations=known)
    except VideoError as error:
        raise DecodeError(f"{clip}: {error.reason}: {error}") from None
    return trace.model_dump_json(indent=1) if as_json else "\n".join(trace_lines(trace))


def trace_lines(trace: Trace) -> list[str]:
    """A trace for human eyes: each call with arguments, result and time, then the rationale."""
    lines = []
    for step in trace.steps:
        call = f"{step.call.tool}({_short(step.call.arguments)})" if step.call else step.text
        outcome = _short(step.result) if step.status == "ok" else f"failed: {step.error}"
        lines += [
            f"[{step.index}] {call}  {1000 * step.duration_s:.0f} ms, {len(step.frame_times_s)} frames",
            f"    {outcome}",
        ]
    lines += ["", trace.rationale] if trace.rationale else []
    lines += ["", f"answer: {trace.answer}" if trace.answer else f"no answer ({trace.status})"]
    if trace.error:
        lines.append(f"{trace.error.boundary}: {trace.error.message}")
    return lines


def _short(value: object, *, limit: int = 600) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
