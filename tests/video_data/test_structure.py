"""What the structure of a file says of damage that demuxers and decoders pass over."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from painted import draw_painted, numbers

from aot.errors import VideoError
from video_data.containers import gif_blocks
from video_data.containers.recognise import recognise
from video_data.containers.structure import Structure, check_structure
from video_data.decode.clip import probe, read_frames

CODECS = {
    "ogv": ("libvpx", "yuv420p"),
    "gif": ("gif", "rgb8"),
    "wmv": ("wmv2", "yuv420p"),
    "webm": ("libvpx", "yuv420p"),
    "avi": ("mpeg4", "yuv420p"),
}
OPTIONS = {"wmv2": {"g": "1"}}
"""All pictures whole, so that a small clip has many packets."""


def drawn(path: Path, *, first: int = 0, count: int = 40) -> Path:
    """A painted clip in the codec that its ending usually has."""
    codec, layout = CODECS.get(path.suffix[1:], ("libx264", "yuv420p"))
    return draw_painted(path, first=first, count=count, codec=codec, pixel_format=layout, options=OPTIONS.get(codec))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The bytes of a whole clip by its ending, drawn once."""
    folder = tmp_path_factory.mktemp("whole")
    made: dict[str, bytes] = {}

    def clip(suffix: str) -> bytes:
        if suffix not in made:
            made[suffix] = drawn(folder / f"whole.{suffix}").read_bytes()
        return made[suffix]

    return clip


def checked(data: bytes, path: Path) -> Structure:
    """What the structure of these bytes says."""
    path.write_bytes(data)
    return check_structure(path, container=recognise(path))


def ogg_pages(data: bytes) -> list[int]:
    """Where the pages of an Ogg file begin."""
    return [at for at in range(len(data)) if data.startswith(b"OggS\0", at)]


@pytest.mark.parametrize("suffix", ["ogv", "gif", "wmv"])
def test_a_whole_file_has_no_damage(tmp_path: Path, clips: Callable[[str], bytes], suffix: str) -> None:
    path = tmp_path / f"whole.{suffix}"
    assert checked(clips(suffix), path).damaged_bytes == ()
    assert (probe(path).verdict, numbers(read_frames(path))) == ("complete", list(range(40)))


@pytest.mark.parametrize("suffix", ["ogv", "gif", "wmv"])
def test_files_joined_byte_by_byte_are_read_to_the_end(tmp_path: Path, suffix: str) -> None:
    one, two = (drawn(tmp_path / f"{first}.{suffix}", first=first) for first in (0, 40))
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    frames = read_frames(path)
    assert (frames.verdict, probe(path).verdict) == ("complete", "complete"), frames.note
    assert numbers(frames) == list(range(80))


@pytest.mark.parametrize("tail", [bytes(5000), random.Random(3).randbytes(5000)], ids=["zeros", "noise"])
@pytest.mark.parametrize("suffix", ["ogv", "gif", "wmv"])
def test_what_follows_the_end_of_a_file_is_no_damage(
    tmp_path: Path, clips: Callable[[str], bytes], suffix: str, tail: bytes
) -> None:
    path = tmp_path / f"tail.{suffix}"
    assert checked(clips(suffix) + tail, path) == checked(clips(suffix), path)


@pytest.mark.parametrize("at", [0.3, 0.5, 0.7, 0.95])
def test_one_wrong_bit_in_an_ogg_page_is_seen_where_it_is(
    tmp_path: Path, clips: Callable[[str], bytes], at: float
) -> None:
    data = bytearray(clips("ogv"))
    place = int(at * len(data))
    data[place] ^= 4
    found = checked(bytes(data), tmp_path / "flip.ogv")
    assert "checksum" in found.damage or "no Ogg page" in found.damage
    assert [a <= place < b for a, b in found.damaged_bytes] == [True]


def test_an_ogg_page_that_is_not_there_is_missed_by_its_number(tmp_path: Path, clips: Callable[[str], bytes]) -> None:
    data, pages = clips("ogv"), ogg_pages(clips("ogv"))
    lost = pages[-2]
    found = checked(data[:lost] + data[pages[-1] :], tmp_path / "lost.ogv")
    assert "is not there" in found.damage
    assert any(a <= lost < b for a, b in found.damaged_bytes)


def test_an_ogg_file_that_ends_between_two_pages_is_cut_off(tmp_path: Path, clips: Callable[[str], bytes]) -> None:
    path = tmp_path / "cut.ogv"
    found = checked(clips("ogv")[: ogg_pages(clips("ogv"))[-1]], path)
    assert "no last page" in found.damage
    assert (probe(path).verdict, read_frames(path).verdict) == ("partial", "partial")


def gif_images(data: bytes) -> list[int]:
    """Where the control blocks of a GIF's pictures begin."""
    return [at for at in range(len(data)) if data.startswith(b"\x21\xf9\x04", at) and data[at + 8] == 0x2C]


@pytest.mark.parametrize("end", [b"", b";"])
def test_a_gif_cut_inside_a_picture_is_cut_off_whatever_its_last_byte(
    tmp_path: Path, clips: Callable[[str], bytes], end: bytes
) -> None:
    path = tmp_path / "cut.gif"
    assert "cut off" in checked(clips("gif")[: gif_images(clips("gif"))[20] + 100] + end, path).damage
    assert read_frames(path).verdict == probe(path).verdict == "partial"


def test_an_unknown_block_in_a_gif_is_damage_and_the_walk_goes_on_behind_it(
    tmp_path: Path, clips: Callable[[str], bytes]
) -> None:
    data, place = bytearray(clips("gif")), gif_images(clips("gif"))[10]
    data[place] = 0x55
    found = checked(bytes(data), tmp_path / "label.gif")
    assert "no block of a GIF" in found.damage
    assert found.damaged_bytes == ((gif_images(clips("gif"))[9] + 8, gif_images(clips("gif"))[11]),)
    assert probe(tmp_path / "label.gif").verdict == "partial"


def test_a_picture_whose_codes_do_not_fill_it_is_damage(tmp_path: Path, clips: Callable[[str], bytes]) -> None:
    data, images, rng = clips("gif"), gif_images(clips("gif")), random.Random(1)
    seen = 0
    for copy in range(40):
        changed = bytearray(data)
        start = images[copy % 39] + 30
        place = rng.randrange(start, images[copy % 39 + 1] - 4)
        changed[place : place + 4] = rng.randbytes(4)
        found = checked(bytes(changed), tmp_path / f"{copy}.gif")
        seen += any(a <= place < b for a, b in found.damaged_bytes)
    assert seen >= 38  # a code may stand for another of the same length


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("kind", ["noise", "flat", "ramp"])
def test_any_picture_of_a_sound_gif_is_counted_right(tmp_path: Path, bits: int, kind: str) -> None:
    from PIL import Image

    width, height = 317, 211
    rng = np.random.default_rng(bits)
    pixels = {
        "noise": rng.integers(0, 1 << bits, (height, width)),
        "flat": np.zeros((height, width)),
        "ramp": np.arange(width * height).reshape(height, width) // 7 % (1 << bits),
    }[kind].astype(np.uint8)
    image = Image.fromarray(pixels, mode="P")
    image.putpalette([level for index in range(1 << bits) for level in (index, 255 - index, 7)])
    image.save(tmp_path / "one.gif")
    assert checked((tmp_path / "one.gif").read_bytes(), tmp_path / "two.gif").damage == ""


def test_counting_the_codes_of_a_gif_is_bounded(
    tmp_path: Path, clips: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gif_blocks, "MAX_CHECKED_BYTES", 20_000)
    data = bytearray(clips("gif"))
    early, late = gif_images(clips("gif"))[0] + 40, gif_images(clips("gif"))[38] + 40
    data[early : early + 4] = data[late : late + 4] = b"\xff\xa5\x11\x5a"
    found = checked(bytes(data), tmp_path / "large.gif")
    assert any(a <= early < b for a, b in found.damaged_bytes)
    assert not any(a <= late < b for a, b in found.damaged_bytes)


def test_a_table_of_codes_that_never_ends_is_believed_and_takes_little_memory(
    tmp_path: Path, clips: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gif_blocks, "MAX_CODES", 10_000)
    picture = b"\x2c" + bytes(4) + b"\xff\xff\xff\xff\0\x08" + (b"\xff" + bytes(255)) * 500 + b"\0;"
    assert checked(clips("gif")[:13] + bytes(768) + picture, tmp_path / "endless.gif").damage == ""


def asf_packets(data: bytes) -> tuple[int, int]:
    """Where the packets of an ASF file begin, and their size."""
    header = int.from_bytes(data[16:24], "little")
    properties = data.index(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    return header + 50, int.from_bytes(data[properties + 92 : properties + 96], "little")


@pytest.mark.parametrize("what", ["zeros", "noise", "removed", "doubled"])
def test_an_asf_packet_that_is_lost_or_spoilt_is_seen(tmp_path: Path, clips: Callable[[str], bytes], what: str) -> None:
    data = clips("wmv")
    first, size = asf_packets(data)
    start = first + 2 * size
    head, packet, rest = data[:start], data[start : start + size], data[start + size :]
    middle = {"zeros": bytes(size), "noise": random.Random(5).randbytes(size), "removed": b"", "doubled": packet * 2}
    path = tmp_path / "bad.wmv"
    found = checked(head + middle[what] + rest, path)
    assert found.damage
    assert any(a <= start < b for a, b in found.damaged_bytes)
    assert read_frames(path).verdict == probe(path).verdict == "partial"


# Lengths


def body(data: bytes) -> int:
    """How many bytes come before the index at the end of an AVI file, and all bytes of another."""
    return data.rindex(b"idx1") if data.startswith(b"RIFF") else len(data)


def covers(found: Structure, place: int) -> bool:
    """Whether a byte is among the damaged ones."""
    return any(a <= place < b for a, b in found.damaged_bytes)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "flv", "ts"])
def test_zeros_behind_a_whole_file_are_padding(tmp_path: Path, clips: Callable[[str], bytes], suffix: str) -> None:
    whole, path = tmp_path / f"whole.{suffix}", tmp_path / f"padded.{suffix}"
    whole.write_bytes(clips(suffix))
    assert checked(clips(suffix) + bytes(3000), path).damage == ""
    assert (probe(path).verdict, numbers(read_frames(path))) == (probe(whole).verdict, list(range(40)))


@pytest.mark.parametrize("suffix", ["mkv", "avi", "flv", "ts"])
@pytest.mark.parametrize("share", [0.4, 0.7])
def test_a_download_that_ends_in_zeros_is_damaged(
    tmp_path: Path, clips: Callable[[str], bytes], suffix: str, share: float
) -> None:
    data = clips(suffix)
    place = int(body(data) * share) // 188 * 188 + 90
    assert checked(data[:place] + bytes(len(data) - place), tmp_path / f"zeros.{suffix}").damage


@pytest.mark.parametrize("suffix", ["mkv", "webm", "avi", "flv", "ts"])
@pytest.mark.parametrize("what", ["removed", "doubled"])
def test_a_shift_inside_a_file_is_found_where_it_is(
    tmp_path: Path, clips: Callable[[str], bytes], suffix: str, what: str
) -> None:
    data = clips(suffix)
    place = body(data) // 2
    shifted = data[:place] + (data[place + 101 :] if what == "removed" else data[place - 101 :])
    found = checked(shifted, tmp_path / f"shift.{suffix}")
    assert found.damage
    assert covers(found, place - 1) or covers(found, place), (place, found)
    assert read_frames(tmp_path / f"shift.{suffix}").verdict == "partial"


@pytest.mark.parametrize("suffix", ["mkv", "avi", "flv", "ts", "gif"])
def test_the_element_at_which_a_file_is_cut_off_is_the_damaged_one(
    tmp_path: Path, clips: Callable[[str], bytes], suffix: str
) -> None:
    size = body(clips(suffix)) // 2 // 188 * 188 + 90
    found = checked(clips(suffix)[:size], tmp_path / f"cut.{suffix}")
    assert "cut off" in found.damage
    assert covers(found, size - 1) and not covers(found, size - 20_000)


def test_an_avi_that_ends_between_two_chunks_lacks_some_and_has_none_damaged(
    tmp_path: Path, clips: Callable[[str], bytes]
) -> None:
    found = checked(clips("avi")[: clips("avi").rindex(b"idx1")], tmp_path / "no_index.avi")
    assert ("cut off" in found.damage, found.damaged_bytes) == (True, ())


def test_an_avi_that_lacks_pictures_and_whose_first_is_damaged_is_refused_by_both_readers(
    tmp_path: Path, clips: Callable[[str], bytes]
) -> None:
    data = bytearray(clips("avi"))
    first = data.index(b"00dc", data.index(b"movi"))
    data[first + 100 : first + 900] = random.Random(3).randbytes(800)
    path = tmp_path / "cut.avi"
    path.write_bytes(data[: len(data) // 2])
    assert probe(path).verdict == "refused"  # pictures without times that come after a lost one have no place
    with pytest.raises(VideoError, match="undamaged"):
        read_frames(path)


def test_an_avi_without_the_byte_that_makes_places_even_is_whole(tmp_path: Path, clips: Callable[[str], bytes]) -> None:
    data = bytearray(clips("avi"))
    first = data.index(b"movi") + 4
    length = int.from_bytes(data[first + 4 : first + 8], "little")
    odd = length - (length % 2 == 0)
    data[first + 4 : first + 8] = odd.to_bytes(4, "little")
    del data[first + 8 + odd]
    for size_at in (4, bytes(data).index(b"movi") - 4):
        data[size_at : size_at + 4] = (int.from_bytes(data[size_at : size_at + 4], "little") - 1).to_bytes(4, "little")
    assert checked(bytes(data), tmp_path / "odd.avi").damage == ""


def test_a_wrong_bit_in_a_cluster_that_has_a_checksum_is_told(tmp_path: Path, clips: Callable[[str], bytes]) -> None:
    data = bytearray(clips("mkv"))
    data[len(data) // 2] ^= 1
    found = checked(bytes(data), tmp_path / "flip.mkv")
    assert "checksum of the cluster" in found.damage
    assert probe(tmp_path / "flip.mkv").verdict == "partial"


def test_recordings_sent_live_and_joined_are_whole(tmp_path: Path) -> None:
    one, two = (draw_painted(tmp_path / f"{n}.mkv", first=n, options={"live": "1"}) for n in (0, 40))
    path = tmp_path / "joined.mkv"
    assert checked(one.read_bytes() + two.read_bytes(), path).damage == ""
    assert (read_frames(path).verdict, numbers(read_frames(path))) == ("complete", list(range(80)))


def test_joined_flash_files_are_read_to_the_end(tmp_path: Path) -> None:
    one, two = (draw_painted(tmp_path / f"{n}.flv", first=n) for n in (0, 40))
    path = tmp_path / "joined.flv"
    assert checked(one.read_bytes() + two.read_bytes(), path).joined_at == [one.stat().st_size]
    assert numbers(read_frames(path)) == list(range(80))


def ts_packets(data: bytes) -> list[bytes]:
    """The packets of a transport stream."""
    return [data[at : at + 188] for at in range(0, len(data), 188)]


@pytest.mark.parametrize("kind", ["time codes", "parity"])
def test_packets_with_a_time_code_or_parity_are_whole_to_the_last(
    tmp_path: Path, clips: Callable[[str], bytes], kind: str
) -> None:
    packets = ts_packets(clips("ts"))
    around = (lambda i, p: i.to_bytes(4, "big") + p) if kind == "time codes" else (lambda i, p: p + bytes(16))
    data = b"".join(around(900 * i, packet) for i, packet in enumerate(packets))
    path = tmp_path / "timed.m2ts"
    assert checked(data, path).damage == ""
    assert (probe(path).verdict, numbers(read_frames(path))) == ("complete", list(range(40)))
    assert "cut off" in checked(data[:-50], path).damage


def test_one_packet_without_its_sync_byte_is_damaged_and_no_other(
    tmp_path: Path, clips: Callable[[str], bytes]
) -> None:
    data = bytearray(clips("ts"))
    data[188 * 20] = 0
    assert checked(bytes(data), tmp_path / "sync.ts").damaged_bytes == ((188 * 19, 188 * 21),)


@pytest.mark.parametrize("word", [b"skip", b"free", b"wide", b"mdat"])
def test_a_transport_stream_is_none_the_less_one_for_a_word_of_mp4(
    tmp_path: Path, clips: Callable[[str], bytes], word: bytes
) -> None:
    path = tmp_path / "word.ts"
    path.write_bytes(b"\x01\x02\x03\x04" + word + bytes(40) + clips("ts"))
    assert recognise(path) == "mpegts"


@pytest.mark.parametrize(("name", "told"), [("a.png", "animated PNG"), ("a.webp", "animated WebP")])
def test_a_picture_that_moves_is_refused_by_its_name(tmp_path: Path, name: str, told: str) -> None:
    from PIL import Image

    pictures = [Image.new("RGB", (32, 24), colour) for colour in ("red", "blue")]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:])
    facts = probe(tmp_path / name)
    assert (facts.reason, told in facts.note) == ("not_a_video", True), facts.note
