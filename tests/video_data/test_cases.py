"""Situations that people reported about other readers, on clips made for this project, each with its right value."""

from pathlib import Path

import pytest
from painted import CASES, ORDER, corners, numbers

from video_data.decode.clip import probe, read_frames
from video_data.decode.facts import DecodedFrames
from video_data.subtitles import find_subtitles, read_subtitles


@pytest.fixture(scope="module")
def cases() -> Path:
    if not CASES.is_dir():
        pytest.skip(f"cases from the field are absent: {CASES}")
    return CASES


def _checked(path: Path) -> DecodedFrames:
    """All frames of a clip that must be complete, for `probe` as well."""
    frames, facts = read_frames(path), probe(path)
    assert (frames.verdict, facts.verdict) == ("complete", "complete"), facts.note
    assert facts.num_frames_decoded == len(frames.times_s)
    return frames


@pytest.mark.parametrize(("name", "count", "fps"), [("h264_bf3", 60, 20), ("asp_bf1", 48, 24)])
def test_avi_with_b_frames_comes_in_the_order_shown(cases: Path, name: str, count: int, fps: int) -> None:
    frames = _checked(cases / "avi_order" / f"{name}.avi")
    assert numbers(frames) == list(range(count))
    assert frames.times_s == pytest.approx([i / fps for i in range(count)], abs=1e-5)
    assert probe(cases / "avi_order" / f"{name}.avi").times_ok


@pytest.mark.parametrize("name", ["cat_same_pts.ts", "cat.webm", "cat_back_600s.ts", "cat.mp4"])
def test_joined_recordings_are_read_to_the_end_on_one_time_line(cases: Path, name: str) -> None:
    frames = _checked(cases / "restart" / name)
    assert numbers(frames) == list(range(80))
    steps = [b - a for a, b in zip(frames.times_s, frames.times_s[1:], strict=False)]
    assert frames.times_s[0] == 0
    assert steps == pytest.approx([frames.duration_s / 80] * 79, abs=0.002)
    assert "the clock starts again" in frames.note


@pytest.mark.parametrize(
    ("name", "wanted", "degrees", "is_mirrored"),
    [
        ("wide_plain.mp4", ORDER, 0, False),
        ("wide_hflip.mp4", ("green", "red", "yellow", "blue"), 0, True),
        ("wide_rot180.mkv", ("yellow", "blue", "green", "red"), 180, False),
        ("square_rot90.mkv", ("blue", "red", "yellow", "green"), 90, False),
        ("square_transpose.mp4", ("red", "blue", "green", "yellow"), 270, True),
    ],
)
def test_the_whole_display_matrix_is_followed(
    cases: Path, name: str, wanted: tuple[str, ...], degrees: int, is_mirrored: bool
) -> None:
    path = cases / "mirror" / name
    frames, facts = _checked(path), probe(path)
    # The counter takes the place of a corner's upper part, so corners are looked for next to the middle of the sides.
    assert _turned_corners(frames) == wanted
    assert (facts.rotation_degrees, facts.is_mirrored) == (degrees, is_mirrored)


def _turned_corners(frames: DecodedFrames) -> tuple[str, ...]:
    """The colours nearest to the four corners of a picture that may be turned, wherever its counter stands."""
    import numpy as np
    from painted import CORNERS

    picture = frames.frames_THWC[0].astype(float)
    height, width = picture.shape[:2]
    found = {}
    for name, colour in CORNERS.items():
        rows, columns = np.nonzero(np.abs(picture - colour).max(axis=2) < 25)
        found[(rows.mean() > height / 2, columns.mean() > width / 2)] = name
    return tuple(found[place] for place in [(False, False), (False, True), (True, False), (True, True)])


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_broadcast_clock_gives_the_true_duration(cases: Path, suffix: str) -> None:
    path = cases / "late_start" / f"broadcast_clock.{suffix}"
    frames, facts = _checked(path), probe(path)
    assert (len(frames.times_s), frames.times_s[0], facts.duration_s) == (60, 0.0, pytest.approx(3.0, abs=0.002))
    assert facts.container_start_s == pytest.approx(24549.834, abs=0.01)


def test_a_first_picture_at_two_and_a_half_seconds_is_a_fact_and_no_damage(cases: Path) -> None:
    path = cases / "timing" / "start_2500ms.mkv"
    assert len(_checked(path).times_s) == 60
    assert probe(path).container_start_s == 2.5


def test_pictures_and_cues_share_the_clock_of_the_container(cases: Path) -> None:
    path = cases / "late_picture" / "late.mkv"
    frames = _checked(path)
    assert probe(path).first_frame_s == 1.523
    told = {}
    for cue in read_subtitles(find_subtitles(path.parent, path.name).path).cues:
        shown = [i for i, time_s in enumerate(frames.times_s) if cue.start_s <= time_s < cue.end_s]
        told[cue.start_s] = (numbers(frames)[shown[0]], numbers(frames)[shown[-1]])
    assert told[1.6] == (2, 19)
    assert told[3.5] == (40, 49)


def test_hdr_comes_out_in_the_painted_colours_and_says_so(cases: Path) -> None:
    path = cases / "hdr" / "pq.mp4"
    frames = _checked(path)
    assert corners(frames.frames_THWC[0], within=25) == ORDER
    assert probe(path).transfer == "pq"
    assert "HDR (PQ) is converted" in frames.note


def test_pixels_that_are_not_square_are_shown_square(cases: Path) -> None:
    frames = _checked(cases / "sar" / "sar43.mp4")
    assert frames.frames_THWC.shape[1:] == (144, 256, 3)
    assert (frames.true_width, frames.true_height) == (256, 144)
    assert numbers(frames) == list(range(20))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("two_cuts", [*range(20), *range(50, 70)]), ("trim_head_mid_gop", list(range(25, 65)))],
)
def test_an_edit_list_is_no_damage(cases: Path, name: str, wanted: list[int]) -> None:
    assert numbers(_checked(cases / "edits" / f"{name}.mp4")) == wanted


def test_transparent_pixels_are_blended_on_white_and_the_note_says_so(cases: Path) -> None:
    frames = _checked(cases / "alpha" / "vp9.webm")
    assert frames.frames_THWC[0, 70, 96].min() > 250
    assert corners(frames.frames_THWC[0]) == ORDER
    assert "blended on white" in frames.note


def test_a_transport_stream_may_start_inside_a_packet(cases: Path) -> None:
    frames = _checked(cases / "containers" / "ts_cut_57.ts")
    assert (numbers(frames), frames.times_s[0]) == (list(range(60)), 0.0)


def test_sixteen_fonts_cost_no_stream_budget(cases: Path) -> None:
    assert numbers(_checked(cases / "containers" / "mkv_16_fonts.mkv")) == list(range(20))


def test_a_gif_is_a_clip(cases: Path) -> None:
    frames = _checked(cases / "containers" / "anim.gif")
    assert numbers(frames) == list(range(20))
    assert frames.times_s == pytest.approx([i / 10 for i in range(20)])


def test_a_pointer_file_is_called_what_it_is(cases: Path) -> None:
    facts = probe(cases / "containers" / "lfs_pointer.mp4")
    assert (facts.verdict, facts.reason) == ("refused", "not_a_video")
    assert "Git LFS pointer" in facts.note
