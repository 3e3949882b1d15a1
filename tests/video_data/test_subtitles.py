"""Subtitle files of every sort are read, their broken cues counted, and none from outside the folder of clips."""

from pathlib import Path

import pytest

from video_data.errors import VideoError
from video_data.subtitles import MAX_BYTES, MAX_CUE_CHARACTERS, Cue, find_subtitles, parse_subtitles, read_subtitles

SRT = (
    "1\r\n00:00:01,500 --> 00:00:03,000\r\n<i>Heat</i> the\r\n{\\an8}pan &amp; oil.\r\n\r\n"
    "2\r\n01:00:04,000 --> 01:00:05,5\r\nEnd.\r\n"
)
VTT = (
    "WEBVTT - cooking\nKind: captions\n\nNOTE not a cue\n\nSTYLE\n::cue { color: red }\n\nintro\n"
    "00:01.500 --> 00:03.000 align:start position:0%\n<v Anna>Heat <00:02.000><c.y>the</c>\npan.\n"
)


def test_srt_with_crlf_and_tags_is_read() -> None:
    assert parse_subtitles(SRT).cues == (Cue(1.5, 3.0, "Heat the pan & oil."), Cue(3604.0, 3605.5, "End."))


def test_vtt_with_times_without_hours_settings_notes_and_voices_is_read() -> None:
    read = parse_subtitles(VTT)
    assert (read.cues, read.skipped) == ((Cue(1.5, 3.0, "Heat the pan."),), 0)


def test_broken_cues_are_counted_and_their_neighbours_kept() -> None:
    text = (
        "00:05.000 --> 00:06.000\nlater\n\n00:01.000 --> 00:00.500\nbackwards\n\n00:xx --> 00:02.000\nno time\n\n"
        "00:02.000 --> 00:03.000\n<b></b>\n\n00:99.000 --> 00:100.000\nno such second\n\n"
        "1\n00:01.000 --> 00:02.000\nearlier\n"
        "2\n00:01.500 --> 00:04.000\noverlaps\n\n00:01.500 --> 00:04.000\noverlaps\n"
    )
    read = parse_subtitles(text)
    assert [cue.text for cue in read.cues] == ["earlier", "overlaps", "later"]
    assert read.skipped == 4


@pytest.mark.parametrize(
    "text", ["", "\x00\x01", "-->", "1\n2\n3", "{" * 100_000, "<" * 100_000, "00:01.000 -->" + " " * 50_000]
)
def test_nonsense_gives_no_cue_and_no_error(text: str) -> None:
    assert parse_subtitles(text).cues == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_are_told_apart(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.srt"
    path.write_bytes("00:01.000 --> 00:02.000\nCrème brûlée\n".encode(encoding))
    assert [cue.text for cue in read_subtitles(path).cues] == ["Crème brûlée"]


def test_long_cues_are_cut_and_large_files_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.srt"
    path.write_text("00:01.000 --> 00:02.000\n" + "a" * 5000)
    assert len(read_subtitles(path).cues[0].text) == MAX_CUE_CHARACTERS
    path.write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(VideoError, match="larger than 4 MB"):
        read_subtitles(path)


def test_the_file_beside_the_clip_is_found(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pan.fried.vtt").write_text(VTT)
    assert find_subtitles(tmp_path, "a/pan.fried.mp4").name == "pan.fried.vtt"


@pytest.mark.parametrize(
    "uri", ["../secret.mp4", "a/../../secret.mp4", "/etc/passwd", "link.mp4", "\x00.mp4", "", "none.mp4"]
)
def test_nothing_outside_the_folder_of_clips_is_read(tmp_path: Path, uri: str) -> None:
    root = tmp_path / "clips"
    root.mkdir()
    (tmp_path / "secret.srt").write_text(SRT)
    (root / "link.srt").symlink_to(tmp_path / "secret.srt")
    with pytest.raises(VideoError):
        find_subtitles(root, uri)
