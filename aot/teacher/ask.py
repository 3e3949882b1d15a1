"""One question about one clip, without a run folder: decode, look, answer, and hand back the trace.

The kind of a question is guessed from its words by `guess_kind`; a question that fits no rule gives an honest failed
trace. Prints nothing.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from aot.config import FramesConfig, RulesTeacher, VideoRun
from aot.errors import ParseError, ToolError
from aot.files.parts import KeyedRows
from aot.records import AnswerType, ClipAnnotation, MediaRef, Question, Trace
from aot.teacher.executor import run_candidate
from aot.teacher.parts import Models, open_models, plain_parts, with_models
from aot.teacher.tools.base import CachedResult
from aot.teacher.tools.clipview import clip_view
from aot.teacher.tools.registry import make_tools
from video_data.decode.budgets import Sampling
from video_data.decode.facts import DecodedFrames
from video_data.decode.sandbox import shared_pool

_RULES: tuple[tuple[str, str], ...] = (
    (r"\b(how often|how many times|how many|count)\b", "count"),
    (r"\bbefore\b", "before"),
    (r"\bafter\b", "after"),
    (r"\b(when|at what time|what time)\b", "when"),
    (r"\b(is|are) there\b|\bdo you see\b|\bcan you see\b", "present"),
    (r"\b(next|what will happen|what happens then)\b", "next"),
)
"""Words of a question to its kind; the first rule that matches wins."""
OTHER = "other"
"""Kind of a question that no rule knows; nobody wrote that word, so nobody is told it."""
_ANSWER_TYPES: dict[str, AnswerType] = {
    "next_choice": "choice",
    "count": "integer",
    "when": "span",
    "present": "yes_no",
}


def guess_kind(text: str, *, choices: Sequence[str] = ()) -> str:
    """The question kind that the words of `text` suggest; `other` when none does.

    >>> guess_kind("How often does chop onion happen?")
    'count'
    >>> guess_kind("What comes next?", choices=("fry egg", "mix egg"))
    'next_choice'
    """
    kind = next((kind for pattern, kind in _RULES if re.search(pattern, text.casefold())), OTHER)
    if kind == "next":
        return "next_choice" if choices else "next_open"
    return kind


@dataclass(frozen=True)
class Asked:
    """What came of a question."""

    trace: Trace
    note: str
    """What of a partial clip could not be looked at; empty where nothing is missing from the window."""


def ask(
    clip: Path,
    text: str,
    *,
    kind: str | None = None,
    choices: tuple[str, ...] = (),
    appearance: Path | None = None,
    annotations: Iterable[ClipAnnotation] = (),
    start_s: float = 0.0,
    end_s: float | None = None,
    config: VideoRun | None = None,
) -> Asked:
    """The trace of the agent's first plan for a question about a clip file, and what of the clip cannot be seen.

    The window ends where a partial clip can no longer be decoded, so that nothing is said about what nobody saw.

    Args:
        clip: a local video file.
        text: the question.
        kind: a question kind of the rule planner; None guesses it from the text.
        choices: options of a multiple-choice question.
        appearance: card of what things look like; None means the synthetic kitchen's own.
        annotations: annotated clips of the split `train`, for procedural knowledge.
        start_s: start of the window that the question is about.
        end_s: its end; None means the end of the clip.
        config: whose planner, tools, chat models and frames to use; None means the rules over pixel tools.

    Raises:
        VideoError: the clip is refused.
        ConfigError: the appearance card cannot be read, or a chat model cannot be asked.
        ToolError: the window holds no frame.
    """
    teacher = config.teacher if config else RulesTeacher()
    frames_config = config.frames if config else FramesConfig()
    cache = KeyedRows(None, CachedResult)
    parts = plain_parts(teacher, appearance=appearance or teacher.appearance, annotations=annotations, cache=cache)
    sampling = Sampling.of(frames_config, stream=config.data.stream if config else None)
    decoded = shared_pool().sample_clip(clip, sampling)
    note = ""
    if decoded.verdict == "partial":
        start_s, end_s, note = _seen_window(decoded, start_s=start_s, end_s=end_s)
    view = clip_view(
        uri=clip.name,
        sha256=decoded.sha256,
        frames_THWC=decoded.frames_THWC,
        times_s=decoded.times_s,
        duration_s=decoded.duration_s,
        start_s=start_s,
        end_s=end_s,
        true_width=decoded.true_width,
        true_height=decoded.true_height,
    )
    question = _question(clip.name, text, kind or guess_kind(text, choices=choices), choices, start_s, view.end_s)
    with closing(open_models(config, None, writer="ask") if config else Models()) as models:
        if config:
            tools = make_tools(teacher, vision=models.vision, clips_root=clip.parent)
            parts = with_models(replace(parts, tools=tools), config, models)
        return Asked(_without_guess(run_candidate(question, view, parts, candidate=0)), note)


def _seen_window(decoded: DecodedFrames, *, start_s: float, end_s: float | None) -> tuple[float, float, str]:
    """The longest part of a window of a partial clip that can be seen without a hole, and a note."""
    wanted_s = decoded.duration_s if end_s is None else min(end_s, decoded.duration_s)
    parts = [(max(start_s, low_s), min(wanted_s, high_s)) for low_s, high_s in decoded.spans_s]
    seen = max(parts, key=lambda part: part[1] - part[0], default=(0.0, 0.0))
    if seen[0] >= seen[1]:
        raise ToolError(f"nothing of the clip can be decoded from {start_s:.1f} to {wanted_s:.1f} s: {decoded.note}")
    part = f"of {start_s:.1f}-{wanted_s:.1f} s only {seen[0]:.1f}-{seen[1]:.1f} s are looked at"
    return *seen, f"{decoded.note}; {part}" if seen != (start_s, wanted_s) else ""


def _without_guess(trace: Trace) -> Trace:
    """`trace`, told of its words where the rules failed at a kind that was only guessed."""
    error = trace.error
    if error is None or error.boundary != ParseError.boundary or f"of kind {OTHER!r}" not in error.message:
        return trace
    message = (
        "no rule knows what this question asks; ask whether something is there, how often or when it happens, or what "
        "comes before, after or next, or give --config with a chat planner (docs/chat.md)"
    )
    return trace.model_copy(update={"error": error.model_copy(update={"message": message})})


def _question(uri: str, text: str, kind: str, choices: tuple[str, ...], start_s: float, end_s: float) -> Question:
    # A record needs a gold answer among its choices; here nobody knows it, and neither planner nor tools read it.
    answer_type = "choice" if len(choices) > 1 else _ANSWER_TYPES.get(kind, "text")
    return Question(
        id="ask",
        dataset="ask",
        split="ask",
        kind=kind,
        text=text,
        choices=choices,
        answer=choices[0] if choices else "",
        answer_type=answer_type,
        media=MediaRef(uri=uri, start_s=start_s, end_s=end_s),
        group="ask",
    )
