"""Tool `search_subtitles`: what is said in the clip, from the .srt or .vtt file beside it.

Only cues that lie wholly inside the visible window are searched, so that nothing said later is told.
"""

import re
from collections import Counter
from functools import lru_cache, partial
from pathlib import Path

from pydantic import Field

from aot.errors import ToolError, VideoError
from aot.rationales.wording import stem
from aot.records import Finding
from aot.teacher.tools.base import (
    EDGE_S,
    Tool,
    ToolArguments,
    ToolContext,
    ToolPart,
    ToolResult,
    clamp_window,
    rounded_s,
)
from video_data.captions import Cue, Subtitles
from video_data.subtitles import find_subtitles, read_subtitles

MAX_CUES = 12
_WORD = re.compile(r"\w+")


class SearchSubtitlesArguments(ToolArguments):
    """Words to look for; the whole visible window unless a stretch is given."""

    query: str = Field(min_length=1, max_length=300, description="Words to look for in what is said, such as `flip`.")
    start_s: float | None = Field(default=None, ge=0, description="Start of the stretch to search, in seconds.")
    end_s: float | None = Field(default=None, gt=0, description="End of the stretch to search, in seconds.")

    @property
    def sought(self) -> tuple[str, ...]:
        """The words."""
        return (self.query,)


class SubtitleCue(ToolPart):
    """What is said when."""

    start_s: float
    end_s: float
    text: str


class SubtitleSource(ToolPart):
    """Which file was read, by what follows the clip's name in its own, and what was odd about it as a whole."""

    file: str
    """Such as `.srt` or `.en-US.vtt`. The clip's name is not told: it may say what happens."""
    files_not_read: tuple[str, ...]
    guessed_encoding: str
    """Empty where nothing had to be guessed."""
    bad_characters: int
    folded_cues: int
    """Cues of captions that roll, which lost what the cue before shows, and twins."""
    shortened_cues: int


class SearchSubtitlesResult(ToolResult):
    """The cues with most words of the query, rare words first, in time order; empty when none has any."""

    cues: tuple[SubtitleCue, ...]
    unreadable_cues: int
    """Of the whole file, with texts that stand in no cue: they are no silence."""
    cues_past_window: int = 0
    """Cues of the stretch that reach out of the visible window and were not searched: they are no silence."""
    source: SubtitleSource

    def findings(self, arguments: SearchSubtitlesArguments) -> tuple[Finding, ...]:
        """The cues; without any, that the words are not said, or that nobody knows."""
        if self.cues:
            return tuple(
                Finding(kind="text", how="said", text=cue.text, spans_s=((cue.start_s, cue.end_s),))
                for cue in self.cues
            )
        unheard = self.unreadable_cues or self.cues_past_window
        return (Finding(kind="text", how="not heard" if unheard else "not said", text=arguments.query),)


def search_subtitles(
    clips_root: Path, arguments: SearchSubtitlesArguments, context: ToolContext
) -> SearchSubtitlesResult:
    """The cues that fit the query; raises ToolError when the clip has no subtitles that can be read."""
    clip = context.clip
    start_s = clip.start_s if arguments.start_s is None else arguments.start_s
    span = clamp_window(start_s, clip.end_s if arguments.end_s is None else arguments.end_s, clip)
    try:
        file = find_subtitles(clips_root, clip.uri)
        facts = file.path.stat()
        read = _subtitles(file.path, facts.st_mtime_ns, facts.st_size)
    except VideoError as error:
        raise ToolError(error.message) from error
    except OSError as error:
        raise ToolError(f"the subtitles of {clip.uri!r} went away while they were read") from error
    heard = [cue for cue in read.cues if cue.start_s < span.end_s and cue.end_s > span.start_s]
    visible = [cue for cue in heard if cue.start_s >= clip.start_s - EDGE_S and cue.end_s <= clip.end_s + EDGE_S]
    cues = tuple(
        SubtitleCue(start_s=rounded_s(cue.start_s), end_s=rounded_s(cue.end_s), text=cue.text)
        for cue in best_cues(visible, arguments.query)
    )
    source = SubtitleSource(
        file=file.suffix,
        files_not_read=file.other_suffixes,
        guessed_encoding=read.guessed_encoding,
        bad_characters=read.bad_characters,
        folded_cues=read.folded,
        shortened_cues=read.shortened,
    )
    return SearchSubtitlesResult(
        cues=cues,
        unreadable_cues=read.skipped + read.outside,
        cues_past_window=len(heard) - len(visible),
        source=source,
    )


def best_cues(cues: list[Cue], query: str) -> list[Cue]:
    """At most `MAX_CUES` cues that share words with the query, in time order; a word that few cues have counts more.

    >>> [cue.text for cue in best_cues([Cue(0, 1, "We mix it."), Cue(1, 2, "Now flip it.")], "flipping")]
    ['Now flip it.']
    """
    words = [_words(cue.text) for cue in cues]
    common = Counter(word for one in words for word in one)
    wanted = _words(query)
    scores = [sum(1 / common[word] for word in one & wanted) for one in words]
    ranked = sorted((i for i, score in enumerate(scores) if score), key=lambda i: (-scores[i], i))
    return [cues[i] for i in sorted(ranked[:MAX_CUES])]


def subtitle_tool(clips_root: Path) -> Tool[SearchSubtitlesArguments, SearchSubtitlesResult]:
    """The tool for clips whose uris start from `clips_root`."""
    return Tool(
        name="search_subtitles",
        version="2",
        description="Search what is said in the clip: subtitles that contain words of the query, with their times.",
        Arguments=SearchSubtitlesArguments,
        Result=SearchSubtitlesResult,
        run=partial(search_subtitles, clips_root),
        source="subtitles",
        max_frames=0,
    )


@lru_cache(maxsize=16)
def _subtitles(path: Path, modified_ns: int, size: int) -> Subtitles:
    """The cues of a file; time and size are there so that a changed file is read again."""
    return read_subtitles(path)


def _words(text: str) -> frozenset[str]:
    return frozenset(stem(word) for word in _WORD.findall(text.casefold()))
