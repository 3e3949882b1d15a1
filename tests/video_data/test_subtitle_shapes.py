"""Shapes of subtitle files as people have them: what a reader would make of each is what we make of it.

A row: a name, the bytes of a file, the cues as (start, end, text), and how many cues are counted as unusable.
"""

import html
from collections.abc import Iterator
from pathlib import Path

import pytest

from video_data.subtitles import read_subtitles

EGG, WELL = "crack the egg", "whisk it well"
TWO = [(1.5, 3.0, EGG), (3.5, 5.0, WELL)]
WHOLE_SECONDS = [(1.0, 3.0, EGG), (3.0, 5.0, WELL)]
PLAIN = f"1\n00:00:01,500 --> 00:00:03,000\n{EGG}\n\n2\n00:00:03,500 --> 00:00:05,000\n{WELL}\n"
VTT = f"WEBVTT\n\n00:01.500 --> 00:03.000\n{EGG}\n\n00:03.500 --> 00:05.000\n{WELL}\n"

Row = tuple[str, str | bytes, list[tuple[float, float, str]], int]


def at(*lines: str) -> str:
    """An .srt file of two cues with these time lines."""
    return f"1\n{lines[0]}\n{EGG}\n\n2\n{lines[1]}\n{WELL}\n"


def saying(text: str, *, head: str = "1\n") -> str:
    """A file with one cue from 1 to 2 s that holds `text`."""
    return f"{head}00:00:01.000 --> 00:00:02.000\n{text}\n"


def said(text: str) -> list[tuple[float, float, str]]:
    return [(1.0, 2.0, text)]


CLOCKS: list[Row] = [
    ("plain", PLAIN, TWO, 0),
    ("no_ms", at("00:00:01 --> 00:00:03", "00:00:03 --> 00:00:05"), WHOLE_SECONDS, 0),
    ("one_digit_each", at("0:0:1,5 --> 0:0:3,0", "0:0:3,5 --> 0:0:5"), TWO, 0),
    ("one_digit_fraction", at("00:00:01,5 --> 00:00:03,0", "00:00:03,5 --> 00:00:05,0"), TWO, 0),
    ("two_digit_fraction", at("00:00:01,50 --> 00:00:03,00", "00:00:03,50 --> 00:00:05,00"), TWO, 0),
    ("six_digit_fraction", at("0:00:01.500000 --> 0:00:03", "0:00:03.500000 --> 0:00:05"), TWO, 0),
    ("nine_digits", at("00:00:01,500000000 --> 00:00:03,000000000", "0:0:3.500000000 --> 0:0:5.000000000"), TWO, 0),
    ("colon_before_ms", at("00:00:01:500 --> 00:00:03:000", "00:00:03:500 --> 00:00:05:000"), TWO, 0),
    ("colon_before_ms_without_hours", at("00:01:500 --> 00:03:000", "00:03:500 --> 00:05:000"), TWO, 0),
    ("blank_before_ms", at("00:00:01, 500 --> 00:00:03, 000", "00:00:03 ,500 --> 00:00:05 ,000"), TWO, 0),
    ("blank_for_comma", at("00:00:01 500 --> 00:00:03 000", "00:00:03 500 --> 00:00:05 000"), TWO, 0),
    ("blanks_everywhere", at("00 : 00 : 01 , 500 --> 00 : 00 : 03 , 000", "00: 00: 03.500 --> 00: 00: 05.0"), TWO, 0),
    ("trailing_colon", at("00:00:01,500: --> 00:00:03,000:", "00:00:03,500: --> 00:00:05,000:"), TWO, 0),
    ("trailing_colon_no_ms", at("00:00:01: --> 00:00:03:", "00:00:03: --> 00:00:05:"), WHOLE_SECONDS, 0),
    ("trailing_comma", at("00:00:01, --> 00:00:03,", "00:00:03. --> 00:00:05."), WHOLE_SECONDS, 0),
    ("dot", at("00:00:01.500 --> 00:00:03.000", "00:00:03.500 --> 00:00:05.000"), TWO, 0),
    ("no_hours", at("00:01,500 --> 00:03,000", "0:03,5 --> 0:05,0"), TWO, 0),
    ("no_hours_no_ms", at("00:01 --> 00:03", "0:03 --> 0:05"), WHOLE_SECONDS, 0),
    ("hours_on_one_side", at("00:01.500 --> 00:00:03.000", "00:00:03.500 --> 00:05.000"), TWO, 0),
    ("long_hours", saying(EGG).replace("00:00:0", "100:00:0"), [(360001.0, 360002.0, EGG)], 0),
    ("many_minutes", "1\n75:30.000 --> 75:31.000\nend\n", [(4530.0, 4531.0, "end")], 0),
    ("sixty_seconds", "1\n00:00:59,000 --> 00:00:60,000\nend\n", [(59.0, 60.0, "end")], 0),
    ("no_blanks_at_arrow", at("00:00:01,500-->00:00:03,000", "00:00:03,500 -->00:00:05,000"), TWO, 0),
    ("tabs_at_arrow", at("00:00:01,500\t-->\t00:00:03,000", "\t00:00:03,500 --> 00:00:05,000\t"), TWO, 0),
    ("short_arrow", at("00:00:01,500 -> 00:00:03,000", "00:00:03,500 - -> 00:00:05,000"), TWO, 0),
    ("typeset_arrow", at("00:00:01,500 –> 00:00:03,000", "00:00:03,500 —> 00:00:05,000"), TWO, 0),
    ("no_arrow_head", at("00:00:01,500 -- 00:00:03,000", "00:00:03,500 - 00:00:05,000"), TWO, 0),
    ("brackets", at("[00:01.500 --> 00:03.000]", "[00:00:03.500 --> 00:00:05.000]"), TWO, 0),
    ("escaped_arrow", at("00:00:01,500 --&gt; 00:00:03,000", "00:00:03,500 --&gt; 00:00:05,000"), TWO, 0),
    ("full_width", at("００：００：０１，５００ --> ００：００：０３，０００", "0:0:3，500 --> 0:0:5，0"), TWO, 0),
    ("invisible_marks", at("\u200e00:00:01,500 --> 00:00:03,000\u202c", "\ufeff00:00:03,500 --> 00:00:05,000"), TWO, 0),
    ("coordinates", at("00:00:01,500 --> 00:00:03,000  X1:100 X2:600 Y1:050 Y2:1", "0:0:3,5 --> 0:0:5 X1:1"), TWO, 0),
    ("settings", at("00:00:01,500 --> 00:00:03,000 align:start position:0%", "0:0:3,5 --> 0:0:5 line:-1"), TWO, 0),
    ("number_on_the_line", at("1 00:00:01,500 --> 00:00:03,000", "2. 0:0:3,5 --> 0:0:5"), TWO, 0),
    ("text_after_time", "1\n00:00:01,500 --> 00:00:03,000 crack\nthe egg\n", [(1.5, 3.0, EGG)], 0),
    ("negative", at("-00:00:01,500 --> 00:00:03,000", "00:00:03,500 --> 00:00:05,000"), TWO[1:], 1),
    ("negative_seconds", at("00:00:-1,500 --> 00:00:03,000", "00:00:03,500 --> 00:00:05,000"), TWO[1:], 1),
    ("negative_end", at("00:00:01,500 --> 00:00:03,000", "00:00:03,500 --> -00:00:05,000"), TWO[:1], 1),
    ("reversed", at("00:00:03,000 --> 00:00:01,500", "00:00:03,500 --> 00:00:05,000"), TWO[1:], 1),
    ("no_length", at("00:00:01,500 --> 00:00:03,000", "00:00:03,500 --> 00:00:03,500"), TWO[:1], 1),
    ("no_such_second", at("00:00:01,500 --> 00:00:03,000", "00:00:99,500 --> 00:01:05,000"), TWO[:1], 1),
    ("letters", at("00:00:01,500 --> 00:00:03,000", "00:00:0x,500 --> 00:00:05,000"), TWO[:1], 1),
    ("letters_without_numbers", f"0:0:1,5 --> 0:0:3,0\n{EGG}\n\n00:O0:0x,5 --> 00:00:05,0\nx\n", TWO[:1], 1),
    ("words_for_clocks", at("00:00:01,500 --> 00:00:03,000", "soon --> later"), TWO[:1], 1),
    ("no_end", at("00:00:01,500 -->", "00:00:03,500 --> 00:00:05,000"), TWO[1:], 1),
    ("no_start", at("00:00:01,500 --> 00:00:03,000", "--> 00:00:05,000"), TWO[:1], 1),
    ("unordered", at("00:00:03,500 --> 00:00:05,000", "00:00:01,500 --> 00:00:03,000"),
     [(1.5, 3.0, WELL), (3.5, 5.0, EGG)], 0),
]  # fmt: skip

LINES: list[Row] = [
    ("crlf", PLAIN.replace("\n", "\r\n"), TWO, 0),
    ("cr", PLAIN.replace("\n", "\r"), TWO, 0),
    ("crcrlf", PLAIN.replace("\n", "\r\r\n"), TWO, 0),
    ("crcrlf_vtt", VTT.replace("\n", "\r\r\n"), TWO, 0),
    ("cr_vtt", VTT.replace("\n", "\r"), TWO, 0),
    ("mixed_ends", PLAIN.replace("\n", "\r\n", 3).replace("egg\n", "egg\r"), TWO, 0),
    ("double_spaced", PLAIN.replace("\n", "\n\n"), TWO, 0),
    ("blank_after_time", PLAIN.replace("000\n", "000\n\n"), TWO, 0),
    ("blank_after_time_vtt", VTT.replace("000\n", "000\n\n"), TWO, 0),
    ("blank_after_number", PLAIN.replace("1\n", "1\n\n").replace("\n2\n", "\n2\n \n"), TWO, 0),
    ("blank_in_cue", PLAIN.replace("the egg", "\nthe\n\n\negg"), TWO, 0),
    ("number_in_cue", PLAIN.replace("the egg", "\n2\n\neggs"), [(1.5, 3.0, "crack 2 eggs"), TWO[1]], 0),
    ("cue_is_a_number", PLAIN.replace(EGG, "3").replace(WELL, "2"), [(1.5, 3.0, "3"), (3.5, 5.0, "2")], 0),
    ("no_blank_between", PLAIN.replace("\n\n", "\n"), TWO, 0),
    ("no_numbers", PLAIN.replace("1\n", "", 1).replace("2\n", "", 1), TWO, 0),
    ("odd_numbers", PLAIN.replace("1\n", "0001.\n", 1).replace("\n2\n", "\n #7 \n"), TWO, 0),
    ("many_blank_lines", "\n\n \n" + PLAIN.replace("\n\n", "\n\n\n \n\n"), TWO, 0),
    ("no_last_newline", PLAIN.rstrip(), TWO, 0),
    ("cut_after_time", PLAIN + "\n3\n00:00:06,000 --> 00:00:07,000", TWO, 1),
    ("empty_cue", PLAIN.replace(EGG, ""), TWO[1:], 1),
    ("preamble", "Made by hand\n\n" + PLAIN, TWO, 0),
    ("nothing", "", [], 0),
    ("only_blanks", "\n \n\r\n", [], 0),
    ("only_a_header", "WEBVTT\n", [], 0),
]  # fmt: skip

WEBVTT: list[Row] = [
    ("vtt", VTT, TWO, 0),
    ("header_text", VTT.replace("WEBVTT", "WEBVTT - a pan --> a plate\nKind: captions\nLanguage: en"), TWO, 0),
    ("header_and_cue_together", VTT.replace("WEBVTT\n\n", "WEBVTT\n"), TWO, 0),
    ("header_of_old_captions", VTT.replace("WEBVTT\n", "WEBVTT\nStyle:\n::cue(c.a) { color: red;\n }\n##\n"), TWO, 0),
    ("header_of_a_stream", VTT.replace("WEBVTT\n", "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n"), TWO, 0),
    ("header_late_and_lower", "\ufeff\n" + VTT.replace("WEBVTT", "webvtt"), TWO, 0),
    ("identifiers", VTT.replace("00:0", "intro - 1\n00:0", 1).replace("00:03.5", "8f2a-b\n00:03.5"), TWO, 0),
    ("number_identifiers", VTT.replace("00:0", "1\n00:0", 1).replace("00:03.5", "2\n00:03.5"), TWO, 0),
    ("identifiers_without_header", VTT[8:].replace("00:0", "a\n00:0", 1).replace("00:03.5", "b\n00:03.5"), TWO, 0),
    ("notes", VTT.replace("\n\n", "\n\nNOTE one line\n\nNOTE\ntwo\nlines\n\n"), TWO, 0),
    ("styles", VTT.replace("\n\n", "\n\nSTYLE\n::cue(b) {\n  color: red\n}\n\n", 1), TWO, 0),
    ("regions", VTT.replace("\n\n", "\n\nREGION\nid:a\nwidth:40%\n\n", 1), TWO, 0),
    ("line_of_blanks", VTT.replace(EGG, f" \n{EGG}\n\t"), TWO, 0),
    ("text_outside", VTT.replace("egg\n", "egg\n\na stray line\n"), TWO, 0),
    ("vtt_settings", VTT.replace("000\n", "000 region:a align:start size:50% line:0\n"), TWO, 0),
    ("comma_in_vtt", VTT.replace(".", ","), TWO, 0),
    ("no_blank_between_vtt", VTT.replace("egg\n\n", "egg\n"), TWO, 0),
    ("words_with_times", VTT.replace("the egg", "<00:01.800><c>the</c> <00:00:02.100><c.a.b>egg</c>"), TWO, 0),
    ("words_with_times_unspaced", saying("卵<00:00:01.500><c>を</c>", head="WEBVTT\n\n"), said("卵を"), 0),
    ("voices", VTT.replace(EGG, f"<v.loud Anna Lee>{EGG}</v>").replace(WELL, f"<v Bo>{WELL}"), TWO, 0),
    ("languages", VTT.replace("the egg", "<lang en-GB>the egg</lang>"), TWO, 0),
    ("ruby", saying("<ruby>egg<rt>tamago</rt></ruby>", head="WEBVTT\n\n"), said("eggtamago"), 0),
    ("null_characters", VTT.replace("the egg", "the\0egg"), TWO, 0),
    ("vtt_saved_as_srt", VTT, TWO, 0),
    ("srt_saved_as_vtt", PLAIN, TWO, 0),
]  # fmt: skip

TEXTS: list[Row] = [
    ("italics", saying("<i>crack</i> <B>the</B> <u>eg</u>g <s>"), said(EGG), 0),
    ("font", saying('<font color="#ff0" face="Arial Bold">crack</font> the egg'), said(EGG), 0),
    ("breaks", saying("crack<br>the<BR />egg"), said(EGG), 0),
    ("override_tags", saying("{\\an8}{\\i1}crack{\\i0} the{\\pos(192,168)\\fs20} egg"), said(EGG), 0),
    ("drawings", saying("{\\p1}m 0 0 l 100 0 100 100{\\p0}crack the egg"), said(EGG), 0),
    ("ass_line_breaks", saying("crack\\Nthe\\hegg"), said(EGG), 0),
    ("entities", saying("salt &amp; pepper&nbsp;&#39;n&#x27; &lt;i&gt;"), said("salt & pepper 'n' <i>"), 0),
    ("no_entities", saying("R&D, Q&A, a&notb; x &copy 2 AT&T"), said("R&D, Q&A, a&notb; x &copy 2 AT&T"), 0),
    ("mathematics", saying("if x < 3 and y > 5 stop"), said("if x < 3 and y > 5 stop"), 0),
    ("mathematics_unspaced", saying("if a<b and c>d, 1<x>0, i<i>j"), said("if a<b and c>d, 1<x>0, i<i>j"), 0),
    ("arrow_in_text", saying("wait 2 --> 3 minutes"), said("wait 2 --> 3 minutes"), 0),
    ("arrow_line", saying("go\n2 --> 3\nthen a -> b"), said("go 2 --> 3 then a -> b"), 0),
    ("arrow_after_blank", saying("go\n\nwait 2 --> 3"), said("go wait 2 --> 3"), 0),
    ("arrow_in_vtt", saying("go\n2 --> 3", head="WEBVTT\n\n"), said("go 2 --> 3"), 0),
    ("times_in_text", saying("at\n12:00 -> 13:00\nor 1:00 --> 2:00"), said("at 12:00 -> 13:00 or 1:00 --> 2:00"), 0),
    ("heart", saying("I <3 eggs"), said("I <3 eggs"), 0),
    ("angles_for_sounds", saying("<laughs> >> yes <<"), said("<laughs> >> yes <<"), 0),
    ("clock_in_text", saying("at 00:01 we stir: 1:2"), said("at 00:01 we stir: 1:2"), 0),
    ("braces", saying("{x, y} and {note}"), said("{x, y} and {note}"), 0),
    ("controls", saying("crack\x07\x1b[31m the\u202eegg\u2066"), said("crack [31m the egg"), 0),
    ("dialogue", saying("- crack\n- the egg"), said("- crack - the egg"), 0),
]  # fmt: skip

CHINESE, RUSSIAN = ("打鸡蛋，加一点盐", "用筷子把鸡蛋搅拌均匀"), ("Разбейте яйцо в миску", "Хорошо взбейте венчиком")
JAPANESE = ("卵を割ります", "よく混ぜてください")


def encoded(encoding: str, texts: tuple[str, str], mark: bytes = b"") -> Row:
    """A file of two cues in an encoding, behind a byte order mark if one is given."""
    content = mark + PLAIN.replace(EGG, texts[0]).replace(WELL, texts[1]).encode(encoding)
    name = f"{encoding}_marked" if mark else encoding
    return name, content, [(1.5, 3.0, texts[0]), (3.5, 5.0, texts[1])], 0


ENCODED: list[Row] = [
    encoded("utf-8", CHINESE),
    encoded("utf-8", CHINESE, b"\xef\xbb\xbf"),
    encoded("utf-16-le", CHINESE, b"\xff\xfe"),
    encoded("utf-16-be", CHINESE, b"\xfe\xff"),
    encoded("utf-16-le", CHINESE),
    encoded("utf-16-be", CHINESE),
    encoded("utf-32-le", CHINESE, b"\xff\xfe\0\0"),
    encoded("utf-32-be", CHINESE, b"\0\0\xfe\xff"),
    encoded("utf-32-le", CHINESE),
    encoded("gb18030", CHINESE, b"\x84\x31\x95\x33"),
    encoded("gbk", CHINESE),
    encoded("big5", ("打雞蛋，加鹽", "攪拌均勻")),
    encoded("shift_jis", JAPANESE),
    encoded("euc_jp", JAPANESE),
    encoded("iso2022_jp", JAPANESE),
    encoded("cp949", ("계란을 깨세요", "잘 저어 주세요")),
    encoded("cp1251", RUSSIAN),
    encoded("koi8_r", RUSSIAN),
    encoded("cp1252", ("Crème brûlée à l’ancienne", "mélangez bien les œufs")),
    encoded("latin-1", ("Den Teig über Nacht kühl stellen", "für große Brötchen länger backen")),
    encoded("cp1250", ("Wlej jajka na patelnię", "smażyć, żeby się nie przypaliło")),
    encoded("cp1253", ("Σπάστε το αυγό", "Ανακατέψτε καλά")),
    encoded("cp1254", ("Yumurtayı kırın", "İyice karıştırın")),
    encoded("cp1255", ("שברו את הביצה", "ערבבו היטב")),
    encoded("cp1256", ("اكسر البيضة", "اخلط جيدا")),
    encoded("cp874", ("ตอกไข่", "คนให้เข้ากัน")),
    ("one_bad_byte", PLAIN.replace(EGG, CHINESE[0]).encode() + b"\n3\n00:00:06,0 --> 00:00:07,0\ncaf\xe9\n",
     [(1.5, 3.0, CHINESE[0]), TWO[1], (6.0, 7.0, "caf\ufffd")], 0),
]  # fmt: skip

Phrase = tuple[float, float, str]
SONG: list[Phrase] = [
    (0.0, 2.0, "stir the pot"), (2.01, 4.0, "stir the pot"), (4.01, 5.0, "[Music]"), (5.01, 7.0, "stir the pot"),
    (30.0, 32.0, "stir the pot"), (32.01, 33.0, "no"), (33.01, 34.0, "no"), (34.01, 36.0, "it isn't <done> & 2 < 3"),
]  # fmt: skip


def clock(time_s: float) -> str:
    return f"00:{int(time_s) // 60:02d}:{time_s % 60:06.3f}"


def youtube(phrases: list[Phrase], *, is_converted: bool = False, rows: int = 2) -> str:
    """Automatic captions as yt-dlp stores them: what is said under what was said, then 10 ms that hold it.

    `is_converted`: as ffmpeg makes .srt of them, without the times of words.
    """
    cues: list[tuple[float, float, list[str]]] = []
    window: list[str] = []
    for start_s, end_s, text in phrases:
        if cues and start_s - cues[-1][1] > 1:
            window = []  # silence empties the window
        words = [html.escape(word, quote=False) for word in text.split()]
        plain = " ".join(words)
        timed = words[0] + "".join(f"<{clock(start_s + 0.1 * i + 0.1)}><c> {w}</c>" for i, w in enumerate(words[1:]))
        above = [*[" "] * rows, *window][-(rows - 1) :]
        cues.append((start_s, end_s, [*above, plain if is_converted else timed]))
        window = [*window, plain][-(rows - 1) :]
        cues.append((end_s, end_s + 0.01, [*window, " "]))
    if is_converted:
        lines = [[line for line in shown if line.strip()] for _, _, shown in cues]
        return "\n".join(
            f"{i + 1}\n{clock(a)} --> {clock(b)}\n".replace(".", ",") + "\n".join(shown) + "\n"
            for i, ((a, b, _), shown) in enumerate(zip(cues, lines, strict=True))
        )
    head = "WEBVTT\nKind: captions\nLanguage: en\n\n"
    blocks = [f"{clock(a)} --> {clock(b)} align:start position:0%\n" + "\n".join(shown) + "\n" for a, b, shown in cues]
    return head + "\n".join(blocks)


def with_silence(captions: str) -> str:
    """Automatic captions with a cue of blanks while nothing is said."""
    return captions.replace("00:00:30.000", "00:00:08.000 --> 00:00:29.000\n \n\n00:00:30.000", 1)


def roll_up() -> str:
    """A broadcast's captions: a line comes in below, three are shown."""
    return "".join(f"{clock(i)} --> {clock(i + 1)}\n" + "\n".join(lines) + "\n\n" for i, lines in enumerate(ROLL_UP))


LONG: list[Phrase] = [
    (3.0 * i, 3.0 * i + 2.99, f"phrase number {i} of {'many' if i % 7 else 'all'}") for i in range(60)
]
ROLL_UP = [("one",), ("one", "two"), ("one", "two", "three"), ("two", "three", "four"), ("three", "four", "five")]
TWICE = "1\n00:01,0 --> 00:02,0\nNo.\n\n2\n00:02,0 --> 00:03,0\nNo.\n\n3\n00:03,0 --> 00:04,0\n- No.\n- Yes!\n\n"
ROLLING: list[Row] = [
    ("captions_that_roll", youtube(SONG), SONG, 0),
    ("captions_that_roll_as_srt", youtube(SONG, is_converted=True), SONG, 0),
    ("long_captions_that_roll", youtube(LONG), LONG, 0),
    ("three_rows_that_roll", youtube(LONG, rows=3), LONG, 0),
    ("captions_that_roll_with_empty_cues", with_silence(youtube(SONG)), SONG, 1),
    ("roll_up_of_a_broadcast", roll_up(), [(float(i), i + 1.0, lines[-1]) for i, lines in enumerate(ROLL_UP)], 0),
    ("said_twice", TWICE + "4\n00:04,0 --> 00:05,0\n- Yes!\n- No.\n",
     [(1.0, 2.0, "No."), (2.0, 3.0, "No."), (3.0, 4.0, "- No. - Yes!"), (4.0, 5.0, "- Yes! - No.")], 0),
    ("twins", PLAIN + PLAIN, TWO, 0),
]  # fmt: skip

TABLES = {"clocks": CLOCKS, "lines": LINES, "webvtt": WEBVTT, "texts": TEXTS, "encoded": ENCODED, "rolling": ROLLING}


def rows() -> Iterator[Row]:
    for table in TABLES.values():
        yield from table


def ending_of(name: str, content: str | bytes) -> str:
    """The ending that such a file has."""
    if name.endswith("saved_as_srt"):
        return ".srt"
    is_vtt = name.endswith(("saved_as_vtt", "without_header")) or "WEBVTT" in str(content)[:9].upper()
    return ".vtt" if is_vtt else ".srt"


@pytest.mark.parametrize(("name", "content", "cues", "skipped"), rows(), ids=[row[0] for row in rows()])
def test_a_shape_from_the_field_is_read(
    tmp_path: Path, name: str, content: str | bytes, cues: list[tuple[float, float, str]], skipped: int
) -> None:
    path = tmp_path / f"clip{ending_of(name, content)}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    read = read_subtitles(path)
    assert [(cue.start_s, cue.end_s, cue.text) for cue in read.cues] == [
        (round(a, 3), round(b, 3), c) for a, b, c in cues
    ]
    assert read.skipped == skipped
