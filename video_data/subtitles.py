"""Finds the subtitle file beside a clip and reads its bytes as text; `captions` makes cues of the text.

Nothing that such a file asks for is done. Where a file does not tell its encoding, chardet guesses it and not
charset-normalizer, which gave mojibake for a quarter of small files; docs/measurements.md has the counts.
"""

import codecs
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from aot.errors import VideoError
from video_data.captions import Subtitles, parse_subtitles
from video_data.datasets.clip_folder import composed

ENDINGS = (".srt", ".vtt")
"""In the order in which they are looked for."""
MAX_BYTES = 4 * 1024 * 1024
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][\w-]{1,40})?", re.ASCII | re.IGNORECASE)
"""As yt-dlp writes it: `en`, `en-US`, `en-orig`, `zh-Hans-en`, `en-nP7-2PuUl7o`."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins like the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"\x84\x31\x95\x33", "gb18030"),
)
_WIDE = {"utf-32-le": 4, "utf-32-be": 4, "utf-16-le": 2, "utf-16-be": 2}
"""Bytes for a character."""
_LEGACY = (
    "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874", "iso8859-2",
    "koi8-r", "koi8-u", "gb18030", "big5hkscs", "cp932", "euc_jis_2004", "cp949",
)  # fmt: skip
"""What subtitles were written in before UTF-8; Latin-1 and other subsets are among them."""
_SEVEN_BITS = ("iso2022_jp_2", "iso2022_kr")
_ESCAPES = (b"\x1b$", b"\x1b(")
_LEAST_CONFIDENCE, _RIVAL = 0.05, 0.9
"""Below, or with one of another language that is as near as this, an encoding counts as unknown."""
_FEW = 50
"""One undecodable character among so many bytes of text is no reason to refuse a file."""


@dataclass(frozen=True)
class SubtitleFile:
    """The file that is read for a clip, and those beside it that are not."""

    path: Path
    suffix: str
    """What follows the clip's name, such as `.srt` or `.en-US.vtt`."""
    other_suffixes: tuple[str, ...]


@dataclass(frozen=True)
class _Text:
    text: str
    guessed_encoding: str = ""
    bad_characters: int = 0


def find_subtitles(root: Path, uri: str) -> SubtitleFile:
    """The subtitle file of the clip `uri`, inside the folder `root`.

    The one with the clip's own name comes first, then English ones, then the others by name. Names are compared as
    text: letters composed on one side and decomposed on the other are the same.

    Raises:
        VideoError: there is none, or it lies outside of `root`, by its name or by a link.
    """
    name = PurePath(uri)
    try:
        inside = root.resolve()
        _hold_inside(inside, inside / name, uri)
        folder = _as_on_disk(inside, name.parent.parts)
        _hold_inside(inside, folder, uri)
        beside = _beside(folder, name)
        if beside:
            _hold_inside(inside, beside[0][1], uri)
    except (OSError, ValueError, RuntimeError) as error:
        raise VideoError("unreadable", f"{uri!r} cannot be looked up ({type(error).__name__})") from error
    if not beside:
        names = " or ".join(f"{name.stem}{ending}" for ending in ENDINGS)
        raise VideoError("missing", f"no subtitles beside {uri!r}; put {names} there")
    return SubtitleFile(beside[0][1].resolve(), beside[0][0], tuple(suffix for suffix, _ in beside[1:]))


def read_subtitles(path: Path) -> Subtitles:
    """The cues of a file.

    Raises:
        VideoError: it cannot be read, is larger than `MAX_BYTES`, or its encoding cannot be told.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)  # not by its size beforehand, which a pipe or a growing file does not tell
    except OSError as error:
        raise VideoError("unreadable", f"cannot read {path.name}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise VideoError("over_budget_bytes", f"{path.name} is larger than {MAX_BYTES // 2**20} MB")
    text = _decoded(data, name=path.name)
    return replace(
        parse_subtitles(text.text, ending=path.suffix.lower()),
        guessed_encoding=text.guessed_encoding,
        bad_characters=text.bad_characters,
    )


def _hold_inside(inside: Path, path: Path, uri: str) -> None:
    if not path.resolve().is_relative_to(inside):
        raise VideoError("not_a_local_file", f"subtitles of {uri!r} would lie outside the folder of clips")


def _as_on_disk(folder: Path, parts: tuple[str, ...]) -> Path:
    """The folder below `folder`, each part spelt as the disk spells it."""
    for part in parts:
        if not (folder / part).exists() and folder.is_dir():
            part = next((path.name for path in folder.iterdir() if composed(path.name) == composed(part)), part)
        folder /= part
    return folder


def _beside(folder: Path, clip: PurePath) -> list[tuple[str, Path]]:
    """What follows the clip's name in the names of its subtitle files, and these files; the one to read comes first.

    `pan.hot.srt` belongs to `pan.mp4`, as if `hot` were a language, unless there is a `pan.hot.mp4`.
    """
    stem = composed(clip.stem)
    if not stem or not folder.is_dir():
        return []
    names = {path.name: composed(path.name) for path in sorted(folder.iterdir())}
    names = {name: same[len(stem) :] for name, same in names.items() if same.startswith(f"{stem}.")}
    ours: list[tuple[str, Path]] = []
    for name, suffix in names.items():
        language, ending = suffix[1:-4], suffix[-4:].lower()
        is_ours = not language or (_LANGUAGE.fullmatch(language) and f".{language}{clip.suffix}" not in names.values())
        if ending in ENDINGS and is_ours and (folder / name).is_file():
            ours.append((suffix, folder / name))
    return sorted(ours, key=lambda one: _preference(one[0]))


def _preference(suffix: str) -> tuple[object, ...]:
    """Sorts the suffixes: no language, English, English of some place, English made by a machine, the others."""
    language, ending = suffix[1:-4].casefold(), suffix[-4:].lower()
    is_english = re.split("[-_]", language)[0] in ("en", "eng")
    return bool(language), not is_english, language.endswith("-orig"), language, ENDINGS.index(ending), suffix


def _decoded(data: bytes, *, name: str) -> _Text:
    """The text of a file, whatever its encoding; a VideoError where too much would be guessing."""
    marked = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    if marked:
        return _replaced(data, marked)
    for wide, width in _WIDE.items():  # without a mark, known by its arrows
        at = data.find("-->".encode(wide))
        if at >= 0 and at % width == 0:
            return _replaced(data, wide, guessed_encoding=wide)
    text = _replaced(data, "utf-8")
    stray = text.bad_characters - data.count("\ufffd".encode())
    whole = len(text.text) - len(re.sub(r"[^\0-\x7f\ufffd]", "", text.text))
    escapes = data.isascii() and any(escape in data for escape in _ESCAPES)
    if not escapes and stray <= whole:
        return text  # hardly any legacy text is good UTF-8 by accident
    lines = [line for line in re.split(rb"[\r\n]+", data) if b"-->" not in line and re.search(rb"[^\0-@]", line)]
    spoken = b"\n".join(lines)
    try:
        encoding = _guessed(spoken, _SEVEN_BITS if escapes else _LEGACY)
    except ImportError as error:
        advice = "save it as UTF-8, or install chardet (extra `video`), which tells encodings"
        raise VideoError("unreadable", f"{name} is not UTF-8; {advice}") from error
    if encoding:
        return _replaced(data, encoding, guessed_encoding=encoding)
    if stray * _FEW <= len(spoken):
        return text
    raise VideoError("unreadable", f"{name} is not UTF-8 and its encoding cannot be told; save it as UTF-8")


def _replaced(data: bytes, encoding: str, *, guessed_encoding: str = "") -> _Text:
    text = data.decode(encoding, errors="replace").lstrip("\ufeff")
    return _Text(text, guessed_encoding, text.count("\ufffd"))


def _guessed(spoken: bytes, encodings: tuple[str, ...]) -> str:
    """The encoding that chardet is sure enough of; else empty."""
    import chardet  # only the few files that are not Unicode need it

    candidates = (*encodings, "utf-8")  # which it says when nothing fits
    ranked = chardet.detect_all(
        spoken, ignore_threshold=True, include_encodings=candidates, compat_names=False, no_match_encoding="utf-8"
    )
    best = ranked[0]
    name = best["encoding"] or "utf-8"
    if name == "utf-8" or best["confidence"] < _LEAST_CONFIDENCE:
        return ""
    near = _RIVAL * best["confidence"]
    rivals = [
        one["encoding"]
        for one in ranked[1:]
        if one["encoding"] and one["confidence"] > near and one["language"] != best["language"]
    ]
    text = spoken.decode(name, errors="replace")
    return name if all(spoken.decode(rival, errors="replace") == text for rival in rivals) else ""
