"""Subtitle files of every sort are read, their broken cues counted, and none from outside the folder of clips."""

import unicodedata
from pathlib import Path

import pytest

from aot.errors import VideoError
from video_data.captions import MAX_CUE_CHARACTERS, Cue, parse_subtitles
from video_data.subtitles import MAX_BYTES, find_subtitles, read_subtitles

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
    text = "Den Teig über Nacht kühl stellen, große Brötchen länger backen"
    path.write_bytes(f"00:01.000 --> 00:02.000\n{text}\n".encode(encoding))
    assert [cue.text for cue in read_subtitles(path).cues] == [text]


def test_long_cues_are_cut_and_counted_and_large_files_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.srt"
    path.write_text("00:01.000 --> 00:02.000\n" + "a" * 5000 + "\n\n00:02.000 --> 00:03.000\nb\n")
    read = read_subtitles(path)
    assert (len(read.cues[0].text), read.shortened) == (MAX_CUE_CHARACTERS, 1)
    path.write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(VideoError, match="larger than 4 MB"):
        read_subtitles(path)


CASES = Path(__file__).resolve().parents[3] / "shared" / "cases" / "video" / "subs"
COOKING = ["crack the egg", "whisk it well", "pour into pan"]


@pytest.fixture
def cases() -> Path:
    if not CASES.is_dir():
        pytest.skip(f"{CASES} is not there")
    return CASES


def test_automatic_captions_say_each_phrase_once_when_it_is_said(cases: Path) -> None:
    read = read_subtitles(cases / "yt_auto.vtt")
    assert [(round(cue.start_s, 2), round(cue.end_s, 2), cue.text) for cue in read.cues] == [
        (0.47, 3.17, "welcome to the kitchen"),
        (3.18, 5.63, "today we crack an egg"),
        (5.64, 8.0, "and fry it"),
    ]
    assert (read.skipped, read.folded) == (0, 5)


@pytest.mark.parametrize(
    ("name", "starts_s"),
    [
        ("plain.srt", [1.5, 3.5, 6.0]),
        ("no_ms.srt", [1.0, 3.0, 6.0]),
        ("one_digit.srt", [1.5, 3.5, 6.0]),
        ("crcrlf.srt", [1.5, 3.5, 6.0]),
    ],
)
def test_clocks_and_line_ends_of_the_cases_are_read(cases: Path, name: str, starts_s: list[float]) -> None:
    read = read_subtitles(cases / name)
    assert ([cue.start_s for cue in read.cues], [cue.text for cue in read.cues]) == (starts_s, COOKING)
    assert read.skipped == 0


def test_text_after_a_blank_line_belongs_to_its_cue(cases: Path) -> None:
    cues = read_subtitles(cases / "blank_in_cue.srt").cues
    assert [cue.text for cue in cues] == ["crack the egg and keep the yolk", "whisk it well"]


def test_gbk_is_read_and_the_guess_is_told(cases: Path) -> None:
    read = read_subtitles(cases / "gbk.srt")
    assert [cue.text for cue in read.cues] == ["打鸡蛋", "搅拌均匀", "倒入锅中"]
    assert (read.guessed_encoding, read.bad_characters) == ("gb18030", 0)


def test_one_bad_byte_spoils_one_character_and_is_counted(cases: Path) -> None:
    read = read_subtitles(cases / "mixed_utf8_one_bad_byte.srt")
    assert [cue.text for cue in read.cues] == ["打鸡蛋", "搅拌均匀", "倒入锅中", "caf\ufffd"]
    assert (read.guessed_encoding, read.bad_characters) == ("", 1)


def test_mathematics_and_arrows_in_a_text_are_kept(cases: Path) -> None:
    cues = read_subtitles(cases / "math.srt").cues
    assert [cue.text for cue in cues] == ["if x < 3 and y > 5 stop", "wait 2 --> 3 minutes"]


@pytest.mark.parametrize(
    "content",
    [
        b"1\n00:01 --> 00:02\nstir\n" + bytes(range(128, 256)) * 3,
        "1\n00:01 --> 00:02\nCrème brûlée\n".encode("latin-1"),
        "1\n00:01 --> 00:02\n用筷子把鸡蛋搅拌均匀\n".encode("gbk")[:-2] + b"\xff\n",
    ],
)
def test_an_encoding_that_cannot_be_told_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pan.srt"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"pan\.srt is not UTF-8 .* save it as UTF-8"):
        read_subtitles(path)


def test_one_stray_byte_in_plain_english_does_not_refuse_the_file(tmp_path: Path) -> None:
    path = tmp_path / "pan.srt"
    path.write_bytes(
        SRT.encode().replace(b"End", b"The end of the caf\xe9, where we have baked and fried all day long")
    )
    read = read_subtitles(path)
    assert len(read.cues) == 2 and read.cues[1].text[:18] in (
        "The end of the caf\ufffd"[:18],
        "The end of the café"[:18],
    )
    assert read.guessed_encoding or read.bad_characters == 1


def test_what_is_left_out_is_counted() -> None:
    read = parse_subtitles("WEBVTT\n\nlost\n\n00:01.000 --> 00:02.000\nstir\n\nlost too\n\nNOTE not lost\n")
    assert ([cue.text for cue in read.cues], read.outside, read.skipped) == (["stir"], 2, 0)
    assert parse_subtitles("<html><body>Not found</body></html>").outside == 1


HOSTILE = {
    "angles": "00:01.000 --> 00:02.000\n" + "<" * 2**21,
    "tags": "00:01.000 --> 00:02.000\n" + "a<b>a" * 2**19,
    "braces": "00:01.000 --> 00:02.000\n" + "{\\p1" * 2**19,
    "entities": "00:01.000 --> 00:02.000\n" + "&#" * 2**20,
    "blank lines": "00:01.000 --> 00:02.000\n" + "\n" * 2**22 + "a",
    "returns": "\r" * 2**22,
    "blanks": "00:01.000 -->" + " " * 2**22,
    "colons": "1:" * 2**21,
    "near times": ("1 : " * 70 + "-->\n") * 2**13,
    "arrows": "-->" * 2**20,
    "two long cues": ("00:01.000 --> 00:02.000\n" + "a\n" * 2**19) * 2,
    "windows of many lines": "".join(f"0:{i}:0 --> 0:{i + 1}:0\n" + "a\n" * 9999 for i in range(50)),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_megabytes_of_nonsense_take_no_time_that_grows_with_their_square(text: str) -> None:
    """Each takes well under a second alone; with the square of its length it would take hours."""
    assert len(parse_subtitles(text).cues) <= 500


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(VTT)


def test_the_file_beside_the_clip_is_found(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    touch(tmp_path / "a", "pan.fried.vtt")
    assert find_subtitles(tmp_path, "a/pan.fried.mp4").path.name == "pan.fried.vtt"


@pytest.mark.parametrize(
    ("names", "suffixes"),
    [
        (["pan.en.vtt"], [".en.vtt"]),
        (["pan.en-US.srt"], [".en-US.srt"]),
        (["pan.en-orig.vtt"], [".en-orig.vtt"]),
        (["pan.zh-Hans-en.vtt"], [".zh-Hans-en.vtt"]),
        (["pan.en-nP7-2PuUl7o.vtt"], [".en-nP7-2PuUl7o.vtt"]),
        (["pan.de.vtt"], [".de.vtt"]),
        (["pan.SRT"], [".SRT"]),
        (["pan.vtt", "pan.srt"], [".srt", ".vtt"]),
        (["pan.en.srt", "pan.vtt"], [".vtt", ".en.srt"]),
        (["pan.de.vtt", "pan.en-orig.vtt", "pan.en.vtt"], [".en.vtt", ".en-orig.vtt", ".de.vtt"]),
        (["pan.en.vtt", "pan.en.srt"], [".en.srt", ".en.vtt"]),
        (["pan.en-orig.vtt", "pan.en-US.vtt"], [".en-US.vtt", ".en-orig.vtt"]),
        (["pan.fr.vtt", "pan.de.vtt"], [".de.vtt", ".fr.vtt"]),
        (["pan.en.vtt", "pan.fried.vtt", "panic.vtt", "pan.en.txt", "pan.live_chat.json"], [".en.vtt"]),
        (["pan.hot.vtt", "pan.hot.mp4", "pan.en.vtt"], [".en.vtt"]),
    ],
)  # fmt: skip
def test_the_language_is_chosen_by_rule_and_the_other_files_are_named(
    tmp_path: Path, names: list[str], suffixes: list[str]
) -> None:
    touch(tmp_path, *names)
    file = find_subtitles(tmp_path, "pan.mp4")
    assert [file.suffix, *file.other_suffixes] == suffixes
    assert file.path == tmp_path.resolve() / f"pan{suffixes[0]}"


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
def test_composed_and_decomposed_names_are_the_same(tmp_path: Path, on_disk: str, asked: str) -> None:
    folder = tmp_path / unicodedata.normalize(on_disk, "Küche") / unicodedata.normalize(on_disk, "Été 2")
    folder.mkdir(parents=True)
    touch(folder, unicodedata.normalize(on_disk, "crème brûlée.en.vtt"))
    file = find_subtitles(tmp_path, unicodedata.normalize(asked, "Küche/Été 2/crème brûlée.mp4"))
    assert (file.path.parent, file.suffix) == (folder.resolve(), ".en.vtt")


def test_brackets_and_stars_in_a_name_are_no_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "a [x].en.vtt", "ax.en.vtt", "b1.vtt")
    assert find_subtitles(tmp_path, "a [x].mp4").path.name == "a [x].en.vtt"
    for uri in ("*.mp4", "b?.mp4", "b[1].mp4"):
        with pytest.raises(VideoError, match="no subtitles beside"):
            find_subtitles(tmp_path, uri)


@pytest.mark.parametrize(
    "uri",
    [
        "../secret.mp4",
        "a/../../secret.mp4",
        "/etc/passwd",
        "link.mp4",
        "tongue.mp4",
        "away/secret.mp4",
        "\x00.mp4",
        "",
        ".",
    ],
)
def test_nothing_outside_the_folder_of_clips_is_read(tmp_path: Path, uri: str) -> None:
    root = tmp_path / "clips"
    root.mkdir()
    (tmp_path / "secret.srt").write_text(SRT)
    (root / "link.srt").symlink_to(tmp_path / "secret.srt")
    (root / "tongue.en.vtt").symlink_to(tmp_path / "secret.srt")
    (root / "away").symlink_to(tmp_path)
    with pytest.raises(VideoError):
        find_subtitles(root, uri)
