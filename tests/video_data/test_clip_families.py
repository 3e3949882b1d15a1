"""Other members of the kinds of trouble in test_cases.py, drawn here."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from painted import ORDER, corners, draw_painted, number, numbers, paint

from aot.errors import VideoError
from video_data.decode.budgets import Budgets
from video_data.decode.clip import probe, read_frames, sample_frames
from video_data.decode.picture import orientation, to_sdr
from video_data.decode.timeline import shown_times
from video_data.decode.watch import _sound

ONE = 65536
MATRICES = {
    "identity": (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30),
    "hflip": (-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30),
    "vflip": (ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30),
    "rot180": (-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30),
    "rot90": (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30),
    "rot270": (0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30),
    "transpose": (0, ONE, 0, ONE, 0, 0, 0, 0, 1 << 30),
    "antitranspose": (0, -ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30),
}
SHOWN = {
    "identity": lambda x: x,
    "hflip": lambda x: x[:, ::-1],
    "vflip": lambda x: x[::-1],
    "rot180": lambda x: x[::-1, ::-1],
    "rot90": lambda x: np.rot90(x, -1),
    "rot270": lambda x: np.rot90(x, 1),
    "transpose": lambda x: x.transpose(1, 0, 2),
    "antitranspose": lambda x: x[::-1, ::-1].transpose(1, 0, 2),
}


@pytest.mark.parametrize("name", list(MATRICES))
def test_a_display_matrix_of_any_quarter_turn_and_mirror_is_followed(tmp_path: Path, name: str) -> None:
    frames = read_frames(draw_painted(tmp_path / "m.mp4", count=3, matrix=MATRICES[name]))
    assert np.abs(frames.frames_THWC[1].astype(int) - SHOWN[name](paint(1))).mean() < 4
    assert (frames.true_height, frames.true_width) == SHOWN[name](paint(1)).shape[:2]


def test_a_matrix_that_is_no_quarter_turn_is_noted(tmp_path: Path) -> None:
    a, b = round(ONE * np.cos(np.pi / 9)), round(ONE * np.sin(np.pi / 9))
    frames = read_frames(draw_painted(tmp_path / "m.mp4", count=2, matrix=(a, b, 0, -b, a, 0, 0, 0, 1 << 30)))
    assert (frames.verdict, "turned by 20 degrees more" in frames.note) == ("complete", True)
    assert orientation(b"") == (0, False, 0.0)


@pytest.mark.parametrize("second_ms", [0, 25, 1900, 1975, 600_000])
@pytest.mark.parametrize("first_ms", [0, 600_000])
def test_two_joined_recordings_keep_all_pictures_in_order(tmp_path: Path, first_ms: int, second_ms: int) -> None:
    one = draw_painted(tmp_path / "1.ts", start_ms=first_ms)
    two = draw_painted(tmp_path / "2.ts", first=40, start_ms=second_ms)
    path = tmp_path / "joined.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    frames = read_frames(path)
    assert numbers(frames) == list(range(80))
    assert list(frames.times_s) == sorted(frames.times_s)
    if second_ms < first_ms + 1950:
        assert frames.times_s[40] == pytest.approx(2.0, abs=0.1)
    assert probe(path).verdict == frames.verdict


@pytest.mark.parametrize("suffix", ["mp4", "avi", "flv", "mkv"])
def test_files_joined_byte_by_byte_are_read_or_told(tmp_path: Path, suffix: str) -> None:
    one, two = (draw_painted(tmp_path / f"{first}.{suffix}", first=first) for first in (0, 40))
    path = tmp_path / f"joined.{suffix}"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    frames = read_frames(path)
    assert probe(path).verdict == frames.verdict
    assert numbers(frames) == list(range(80)) or (frames.verdict, len(frames.times_s) >= 40) == ("partial", True)
    if suffix in ("mp4", "avi"):
        assert (frames.verdict, len(frames.times_s)) == ("complete", 80)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
def test_a_picture_that_begins_after_the_sound_keeps_its_lateness(tmp_path: Path, suffix: str) -> None:
    path = draw_painted(tmp_path / f"late.{suffix}", start_ms=1500, sound_ms=0)
    frames = read_frames(path, times_s=[1.62])
    assert frames.times_s[0] == pytest.approx(1.62, abs=0.03)
    assert number(frames.frames_THWC[0]) in (1, 2)
    assert probe(path).first_frame_s == pytest.approx(1.5, abs=0.08)
    sampled = sample_frames(path, fps=2, max_frames=64, max_side_px=None)
    assert sampled.times_s[0] == pytest.approx(1.5, abs=0.08)
    assert len(sampled.times_s) == 4


def test_sound_that_begins_after_the_picture_changes_nothing(tmp_path: Path) -> None:
    assert read_frames(draw_painted(tmp_path / "s.mkv", sound_ms=700)).times_s[0] == 0


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(4, 3), (256, 144)), (Fraction(8, 9), (192, 162)), (Fraction(32, 27), (228, 144))]
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_any_pixel_shape_is_stretched_never_squeezed(
    tmp_path: Path, suffix: str, aspect: Fraction, size: tuple[int, int]
) -> None:
    frames = read_frames(draw_painted(tmp_path / f"a.{suffix}", count=4, pixel_aspect=aspect))
    assert (frames.true_width, frames.true_height) == pytest.approx(size, abs=1)
    assert frames.frames_THWC.shape[1:3] == (frames.true_height, frames.true_width)
    assert corners(frames.frames_THWC[0]) == ORDER


@pytest.mark.parametrize(
    ("suffix", "codec", "layout"), [("mov", "qtrle", "argb"), ("mov", "prores_ks", "yuva444p10le")]
)
def test_transparent_pixels_never_show_the_colour_they_hide(
    tmp_path: Path, suffix: str, codec: str, layout: str
) -> None:
    frames = read_frames(draw_painted(tmp_path / f"t.{suffix}", count=3, codec=codec, pixel_format=layout))
    assert frames.frames_THWC[0, 70, 95].min() > 240
    assert "blended on white" in frames.note


def test_hdr_curves_bring_white_and_black_back() -> None:
    white_pq, white_hlg = round(0.5807 * 65535), round(0.75 * 65535)
    for transfer, white in (("pq", white_pq), ("hlg", white_hlg)):
        code = np.array([[[0, 0, 0], [white] * 3, [65535] * 3]], np.uint16)
        black, grey, bright = to_sdr(code, transfer=transfer, is_wide_gamut=True)[0]  # type: ignore[arg-type]
        assert (black.max(), bright.min()) == (0, 255)
        assert grey.min() > 245, transfer


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "flv"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_file_that_was_cut_off_is_never_complete(tmp_path: Path, suffix: str, share: float) -> None:
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    whole = draw_painted(tmp_path / f"w.{suffix}", options={**options, "g": "10"})
    if suffix == "mp4":
        _move_header_first(whole)
    cut = tmp_path / f"cut.{suffix}"
    data = whole.read_bytes()
    cut.write_bytes(data[: min(int(len(data) * share) // 188 * 188 + 57, len(data) - 9)])
    facts = probe(cut)
    assert facts.verdict == "partial", facts.note
    frames = read_frames(cut)
    sampled = sample_frames(cut, fps=20, max_frames=512, max_side_px=None)
    assert {frames.verdict, sampled.verdict} == {"partial"}
    assert frames.spans_s == sampled.spans_s == facts.spans_s
    assert numbers(frames) == list(range(len(frames.times_s)))


def _move_header_first(path: Path) -> None:
    """Write a file again with its moov box in front of its data."""
    import av

    with (
        av.open(str(path)) as source,
        av.open(f"{path}.tmp", "w", format="mp4", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    Path(f"{path}.tmp").replace(path)


def test_a_header_that_is_cut_off_after_one_stream_is_partial(tmp_path: Path) -> None:
    data = bytearray(draw_painted(tmp_path / "w.mp4").read_bytes())
    moov = data.find(b"moov") - 4
    length = int.from_bytes(data[moov : moov + 4], "big")
    data[moov : moov + 4] = (length + 6000).to_bytes(4, "big")
    path = tmp_path / "long_box.mp4"
    path.write_bytes(data)
    facts = probe(path)
    assert (facts.verdict, "cut off" in facts.note) == ("partial", True)
    assert read_frames(path, times_s=[0.0]).verdict == "partial"


def test_the_budget_of_all_pixels_is_kept_before_anything_is_decoded(tmp_path: Path) -> None:
    path = draw_painted(tmp_path / "c.mp4")
    gigapixels = 40 * 192 * 144 / 1e9
    assert probe(path, budgets=Budgets(max_gigapixels=gigapixels)).verdict == "complete"
    with pytest.raises(VideoError, match="max_gigapixels") as caught:
        read_frames(path, budgets=Budgets(max_gigapixels=gigapixels * 0.99))
    assert caught.value.reason == "over_budget_pixels"


def test_a_header_of_a_thousand_tracks_is_refused_before_a_demuxer_sees_it(tmp_path: Path) -> None:
    data = draw_painted(tmp_path / "c.mp4").read_bytes()
    moov = data.find(b"moov") - 4
    trak = data[data.find(b"trak") - 4 :]
    trak = trak[: int.from_bytes(trak[:4], "big")]
    length = int.from_bytes(data[moov : moov + 4], "big") + 999 * len(trak)
    path = tmp_path / "many.mp4"
    path.write_bytes(data[:moov] + length.to_bytes(4, "big") + data[moov + 4 :] + 999 * trak)
    facts = probe(path)
    assert (facts.reason, "1000 streams" in facts.note) == ("over_budget_streams", True)


def test_a_stream_can_be_chosen_and_one_that_is_not_there_is_told(tmp_path: Path) -> None:
    import av

    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=20) for _ in range(2)]
        for stream, side in zip(streams, (192, 96), strict=True):
            stream.width, stream.height, stream.pix_fmt = side, side * 3 // 4, "yuv420p"
        for stream, first in zip(streams, (0, 100), strict=True):
            for index in range(8):
                picture = paint(first + index, width=stream.width, height=stream.height)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    assert numbers(read_frames(path)) == list(range(8))
    assert numbers(read_frames(path, stream=1)) == list(range(100, 108))
    assert (probe(path, stream=1).stream_index, probe(path, stream=1).width) == (1, 96)
    facts = probe(path, stream=2)
    assert (facts.reason, "there are: 0, 1" in facts.note) == ("no_video_stream", True)


@pytest.mark.parametrize(
    ("ticks", "wanted", "restarts"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], []),
        ([5, 5, 6, 6], [5, 5, 6, 6], []),
        ([0, 4, 2, 1, 3, 8, 6, 5, 7], [0, 1, 2, 3, 4, 5, 6, 7, 8], []),
        ([*range(40), *range(40)], list(range(80)), [40]),
        ([*range(0, 80, 2), *range(1, 81, 2)], list(range(0, 160, 2)), [40]),
        ([*range(600, 640), *range(40)], list(range(600, 680)), [40]),
        ([*range(40), *range(100, 140)], [*range(40), *range(100, 140)], []),
        ([0, 1, 2, 10**6, 4, 5], [0, 1, 2, 3, 4, 5], []),
        ([None, 1, None, 3], [0, 1, 2, 3], []),
    ],
)
def test_times_follow_the_order_shown(ticks: list[int | None], wanted: list[int], restarts: list[int]) -> None:
    step = 2 if wanted[1] - wanted[0] == 2 else 1
    assert shown_times(ticks, step=step) == (wanted, restarts)


def test_a_part_of_a_joined_file_is_turned_as_it_asks_itself(tmp_path: Path) -> None:
    one, two = draw_painted(tmp_path / "1.mp4"), draw_painted(tmp_path / "2.mp4", matrix=MATRICES["rot180"])
    path = tmp_path / "joined.mp4"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    frames = read_frames(path, times_s=[0.15, 2.15])
    assert np.abs(frames.frames_THWC[1].astype(int) - frames.frames_THWC[0][::-1, ::-1]).mean() < 4
    assert "from 2.00 s on pictures are stored in another way" in frames.note


@pytest.mark.parametrize(("size", "aspect"), [((144, 144), None), ((192, 144), Fraction(4, 3))])
def test_pictures_that_change_their_shape_keep_it_between_bars(
    tmp_path: Path, size: tuple[int, int], aspect: Fraction | None
) -> None:
    one = draw_painted(tmp_path / "1.ts")
    two = draw_painted(tmp_path / "2.ts", first=40, size=size, pixel_aspect=aspect)
    path = tmp_path / "joined.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    frames = read_frames(path)
    picture = frames.frames_THWC[-1]
    inside = picture[:, 24:168] if aspect is None else picture[18:126]
    assert (len(frames.frames_THWC), corners(inside), picture.max() > 0) == (80, ORDER, True)
    assert [number(frame[:, 24:168] if aspect is None else frame[18:126]) for frame in frames.frames_THWC[40:]] == [
        *range(40, 80)
    ]
    assert "from 2.00 s on" in frames.note and "between black bars in 192x144" in frames.note


def test_a_recording_that_goes_on_in_another_stream_is_partial(tmp_path: Path) -> None:
    one = draw_painted(tmp_path / "1.ts").read_bytes()
    two = bytearray(draw_painted(tmp_path / "2.ts", first=40).read_bytes())
    for at in range(0, len(two), 188):
        if two[at + 1] & 0x1F == 1 and two[at + 2] == 0:  # the packet identifier 256 of pictures becomes 257
            two[at + 2] = 1
    path = tmp_path / "joined.ts"
    path.write_bytes(one + _with_table_of_257(bytes(two)))
    facts = probe(path)
    assert (facts.verdict, "goes on in another video stream" in facts.note) == ("partial", True)
    assert probe(path, stream=1).verdict == "complete"


def _with_table_of_257(stream: bytes) -> bytes:
    """A transport stream whose program table (identifier 4096) names 257 where it named 256."""
    packets = [bytearray(stream[at : at + 188]) for at in range(0, len(stream), 188)]
    for packet in packets:
        if packet[1] & 0x1F == 0x10 and packet[2] == 0:
            start = 4 + 1  # header, pointer
            length = 3 + ((packet[start + 1] & 0xF) << 8 | packet[start + 2])
            section = packet[start : start + length - 4].replace(b"\xe1\x00", b"\xe1\x01")
            packet[start : start + length] = section + _mpeg_crc(bytes(section)).to_bytes(4, "big")
    return b"".join(packets)


def _mpeg_crc(data: bytes) -> int:
    """CRC-32 of MPEG-2 sections."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


@pytest.mark.parametrize("sound_ms", [None, 95_442_300])
def test_a_broadcast_clock_that_goes_round_is_carried_on(tmp_path: Path, sound_ms: int | None) -> None:
    path = draw_painted(tmp_path / "round.ts", start_ms=95_442_300, sound_ms=sound_ms)  # 2**33 ticks are 95,443.7 s
    frames = read_frames(path)
    assert (frames.verdict, numbers(frames)) == ("complete", [*range(40)])
    assert frames.times_s[-1] - frames.times_s[0] == pytest.approx(1.95, abs=0.01)
    assert frames.times_s[0] == pytest.approx(0, abs=0.1)  # sound has a run-in


@pytest.mark.parametrize(("suffix", "codec"), [("mov", "mjpeg"), ("mkv", "ffv1")])
def test_damage_that_a_decoder_only_logs_is_damage(tmp_path: Path, suffix: str, codec: str) -> None:
    layout = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = draw_painted(tmp_path / f"m.{suffix}", codec=codec, pixel_format=layout, options={"slicecrc": "1"})
    assert probe(path).verdict == "complete"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 24] = bytes(24)
    path.write_bytes(data)
    frames = read_frames(path)
    assert (frames.verdict, len(frames.frames_THWC) < 40) == ("partial", True)


def test_pictures_before_a_key_picture_are_damaged_with_those_before_them() -> None:
    """Pictures stored after a key picture and shown before it are made from both sides (open groups of pictures)."""
    own = [(0, True, False), (1, False, True), (3, False, False), (2, True, False), (4, False, False)]
    assert _sound(own, errors=[], gaps=[]) == [True, False, False, True, True]


def test_a_recording_that_starts_before_its_first_key_picture_loses_only_what_cannot_be_shown(tmp_path: Path) -> None:
    options = {"x265-params": "log-level=none:keyint=12:min-keyint=12:open-gop=1:bframes=3"}
    path = draw_painted(tmp_path / "h.ts", codec="libx265", options=options)
    packets = path.read_bytes()
    path.write_bytes(packets[188 * 6 :])
    frames = read_frames(path)
    shown = numbers(frames)
    assert (frames.verdict, shown) == ("complete", [*range(shown[0], 40)])
    assert shown[0] in (12, 24)


def test_pictures_without_times_of_their_own_are_spread_evenly(tmp_path: Path) -> None:
    path = draw_painted(tmp_path / "p.mpg", start_ms=500)
    frames = read_frames(path)
    assert numbers(frames) == [*range(40)]
    assert np.median(np.diff(frames.times_s)) == pytest.approx(0.05, abs=0.005)
    assert (frames.verdict, frames.times_s[-1]) == ("complete", pytest.approx(1.95, abs=0.1))


@pytest.mark.parametrize("kept", [0, 1])
def test_a_clip_without_times_is_refused_by_that_name_and_none_is_made_up(tmp_path: Path, kept: int) -> None:
    path = draw_painted(tmp_path / "p.vob")
    data = bytearray(path.read_bytes())
    for place in [found.start() for found in re.finditer(b"\0\0\x01\xe2", data)][kept:]:  # packets of pictures
        flags, length = place + 7, data[place + 8]
        data[flags] &= 0x3F  # neither a time of presentation nor one of decoding
        data[flags + 2 : flags + 2 + length] = b"\xff" * length  # stuffing
    path.write_bytes(data)
    facts = probe(path)
    assert (facts.verdict, facts.reason, "ffmpeg -r RATE" in facts.note) == ("refused", "no_times", True)
    with pytest.raises(VideoError, match="no times of its pictures"):
        read_frames(path, times_s=[1.0])
