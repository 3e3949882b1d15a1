import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clipmaker import draw_audio, draw_blink, draw_clip, draw_huge_clip, grey_index

from aot.errors import VideoError
from video_data.decode.budgets import Budgets
from video_data.decode.clip import probe, read_frames, sample_frames
from video_data.decode.sampling import fps_times, uniform_times

BUDGETS = Budgets()


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        (
            "flipping_a_pancake.mkv",
            {"width": 426, "height": 240, "num_frames_decoded": 310, "num_frames_declared": None},
        ),
        ("cooking_stove.avi", {"width": 320, "height": 240, "num_frames_decoded": 270, "num_frames_declared": 270}),
        ("corrupted.mp4", {"width": 1280, "height": 720, "num_frames_decoded": 28, "num_frames_declared": 50}),
        ("unordered.mov", {"num_frames_decoded": 4, "average_fps": 32.0}),
        ("rotated_90.mov", {"width": 320, "height": 568, "num_frames_decoded": 3, "rotation_degrees": 90}),
    ],
)
def test_probe_tells_the_known_facts_of_real_clips(shared_clips: Path, name: str, facts: dict[str, object]) -> None:
    told = vars(probe(shared_clips / name))
    assert {key: told[key] for key in facts} == facts
    assert told["verdict"] == ("partial" if name == "corrupted.mp4" else "complete")


def test_probe_tells_durations_and_sound(shared_clips: Path) -> None:
    pancake, stove = probe(shared_clips / "flipping_a_pancake.mkv"), probe(shared_clips / "cooking_stove.avi")
    assert (round(pancake.duration_s, 1), pancake.has_audio, pancake.backend) == (10.3, True, "pyav")
    assert (round(stove.duration_s, 1), stove.has_audio, stove.backend) == (9.0, False, "pyav")


def test_frames_stored_out_of_order_come_in_order(shared_clips: Path) -> None:
    assert read_frames(shared_clips / "unordered.mov").times_s == (0.0, 1 / 32, 2 / 32, 3 / 32)


def test_a_damaged_clip_gives_what_decodes_and_says_partial(shared_clips: Path) -> None:
    frames = read_frames(shared_clips / "corrupted.mp4", max_side_px=64)
    assert (frames.verdict, len(frames.times_s)) == ("partial", 28)
    assert "28 of 50" in frames.note


def test_frames_asked_for_beyond_the_damage_are_an_error(shared_clips: Path) -> None:
    with pytest.raises(VideoError) as caught:
        read_frames(shared_clips / "corrupted.mp4", times_s=[99.0])
    assert caught.value.reason == "corrupt"


def test_frames_by_time_are_the_nearest_and_carry_true_times(clip: Path) -> None:
    frames = read_frames(clip, times_s=[2.01, 0.26, 0.25])
    assert frames.times_s == (2.0, 0.25)
    assert [grey_index(frame) for frame in frames.frames_THWC] == [16, 2]


@pytest.mark.parametrize("gaps_ms", [(125,), (20, 60, 200, 340)])
@pytest.mark.parametrize("sampler", ["uniform", "rate", "random"])
def test_each_sampled_frame_carries_the_true_time_of_the_number_painted_into_it(
    tmp_path: Path, sampler: str, gaps_ms: tuple[int, ...]
) -> None:
    times_ms = [sum(gaps_ms[i % len(gaps_ms)] for i in range(index)) for index in range(24)]
    path, end_s = draw_clip(tmp_path / "c.mp4", times_ms=times_ms), times_ms[-1] / 1000
    wanted_s = {
        "uniform": uniform_times(0.0, end_s, 8),
        "rate": fps_times(0.0, end_s, 3.0),
        "random": [random.Random(seed).uniform(0.0, end_s) for seed in range(8)],
    }[sampler]
    for time_s in wanted_s:
        frames = read_frames(path, times_s=[time_s])
        painted_s = times_ms[grey_index(frames.frames_THWC[0])] / 1000
        assert frames.times_s[0] == pytest.approx(painted_s, abs=0.002)
        assert abs(painted_s - time_s) == pytest.approx(min(abs(ms / 1000 - time_s) for ms in times_ms), abs=0.003)


def test_colours_are_red_green_blue(clip: Path) -> None:
    frame = read_frames(clip, times_s=[0.0]).frames_THWC[0]
    assert frame[4, 4, 0] > 200 > 60 > frame[4, 4, 2]
    assert frame[-4, -4, 2] > 200 > 60 > frame[-4, -4, 0]


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp4", "libx264"), ("avi", "mpeg4"), ("avi", "libx264"), ("mkv", "libx264"), ("ts", "libx264")],
)
def test_every_container_gives_all_pictures_in_order_with_their_times(tmp_path: Path, suffix: str, codec: str) -> None:
    path = draw_clip(tmp_path / f"c.{suffix}", codec=codec)
    frames = read_frames(path)
    assert frames.times_s == pytest.approx([i / 8 for i in range(24)], abs=0.002)
    assert [grey_index(frame) for frame in frames.frames_THWC] == list(range(24))
    assert frames.verdict == "complete"


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_variable_rate_keeps_its_true_times(tmp_path: Path, suffix: str) -> None:
    times_ms = [0, 40, 80, 500, 540, 1500, 1540, 1600, 2400]
    path = draw_clip(tmp_path / f"v.{suffix}", times_ms=times_ms)
    frames = read_frames(path)
    assert frames.times_s == pytest.approx([ms / 1000 for ms in times_ms], abs=0.002)
    assert [grey_index(frame) for frame in read_frames(path, times_s=[1.51]).frames_THWC] == [5]
    assert probe(path).variable_rate


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_turned_clip_is_shown_upright(tmp_path: Path, degrees: int, suffix: str) -> None:
    plain = read_frames(draw_clip(tmp_path / f"p.{suffix}"), times_s=[0.0]).frames_THWC[0]
    path = draw_clip(tmp_path / f"r.{suffix}", rotate_degrees=degrees)
    frames = read_frames(path, times_s=[0.0])
    assert (frames.true_width, frames.true_height) == ((96, 72) if degrees == 180 else (72, 96))
    assert np.abs(frames.frames_THWC[0].astype(int) - np.rot90(plain, k=degrees // 90)).mean() < 1


def test_max_side_scales_down_but_never_up(clip: Path) -> None:
    assert read_frames(clip, times_s=[0.0], max_side_px=48).frames_THWC.shape == (1, 36, 48, 3)
    assert read_frames(clip, times_s=[0.0], max_side_px=4000).frames_THWC.shape == (1, 72, 96, 3)


def test_sampling_thins_out_a_long_clip(clip: Path) -> None:
    assert len(sample_frames(clip, fps=4, max_frames=512, max_side_px=None).times_s) == 12
    assert len(sample_frames(clip, fps=4, max_frames=5, max_side_px=None).times_s) == 5


def test_a_cut_file_is_partial_and_says_what_is_missing(tmp_path: Path) -> None:
    whole = draw_clip(tmp_path / "w.mkv", num_frames=96)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    facts = probe(cut)
    assert facts.verdict == "partial"
    assert "the file is cut off" in facts.note
    assert (facts.duration_s, facts.spans_s[-1][1] < 8) == (12.0, True)
    assert read_frames(cut, times_s=[0.0]).verdict == "partial"


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_screen_that_stands_still_is_complete(tmp_path: Path, suffix: str) -> None:
    times_ms = [ms for ms in range(0, 5000, 100) if not 2000 < ms < 3500]
    facts = probe(draw_clip(tmp_path / f"still.{suffix}", times_ms=times_ms))
    assert (facts.verdict, facts.note, facts.spans_s) == ("complete", "", ((0.0, facts.duration_s),))


def test_packets_lost_from_a_transport_stream_leave_a_hole_that_is_told(tmp_path: Path) -> None:
    data = draw_clip(tmp_path / "w.ts", num_frames=96, gop=8).read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    path = tmp_path / "lost.ts"
    path.write_bytes(b"".join(packets[:100] + packets[140:]))
    facts = probe(path)
    assert facts.verdict == "partial"
    assert len(facts.spans_s) == 2
    assert read_frames(path).spans_s == facts.spans_s


def test_a_clip_shorter_than_a_microsecond_still_has_a_length(tmp_path: Path) -> None:
    path = draw_blink(tmp_path / "blink.mp4")
    assert 0 < probe(path).duration_s < 0.001
    assert sample_frames(path, fps=4, max_frames=9, max_side_px=None).times_s == (0.0,)


def test_damaged_pixels_are_noticed_by_a_probe(shared_clips: Path, tmp_path: Path) -> None:
    data = bytearray((shared_clips / "flipping_a_pancake.mkv").read_bytes())
    for place in range(200_000, 200_400):
        data[place] ^= 255
    path = tmp_path / "flipped.mkv"
    path.write_bytes(data)
    assert probe(path).verdict == "partial"


def _refusal(path: Path, budgets: Budgets = BUDGETS) -> str:
    with pytest.raises(VideoError) as caught:
        read_frames(path, budgets=budgets)
    assert probe(path, budgets=budgets).reason == caught.value.reason
    assert not re.search(r"0x[0-9a-f]{6}", caught.value.message)
    return caught.value.reason


def test_each_bad_file_is_refused_for_its_own_reason(tmp_path: Path, clip: Path) -> None:
    text, empty, playlist, ending = (tmp_path / f"{name}.mp4" for name in ("text", "empty", "playlist", "ending"))
    text.write_text("these are words, not a video\n" * 50)
    empty.touch()
    playlist.write_text(f"#EXTM3U\n#EXTINF:3,\n{clip}\n#EXT-X-ENDLIST\n")
    ending.write_bytes(clip.read_bytes()[:600])
    assert _refusal(text) == "not_a_video"
    assert _refusal(empty) == "empty"
    assert _refusal(playlist) == "playlist"
    assert _refusal(ending) == "corrupt"
    assert _refusal(tmp_path / "absent.mp4") == "missing"
    assert _refusal(tmp_path) == "not_a_local_file"
    assert _refusal(Path("http://example.org/clip.mp4")) == "not_a_local_file"
    assert _refusal(draw_audio(tmp_path / "sound.mp4")) == "no_video_stream"


def test_the_container_is_told_by_bytes_not_by_name(tmp_path: Path, clip: Path) -> None:
    disguised = tmp_path / "list.m3u8"
    shutil.copyfile(clip, disguised)
    assert probe(disguised).num_frames_decoded == 24


def test_a_budget_is_kept_at_its_limit_and_refused_above(clip: Path) -> None:
    exact = Budgets(max_pixels=96 * 72, max_frames=24, max_duration_s=3.0, max_streams=1)
    assert probe(clip, budgets=exact).verdict == "complete"
    assert _refusal(clip, replace(exact, max_pixels=96 * 72 - 1)) == "over_budget_pixels"
    assert _refusal(clip, replace(exact, max_frames=23)) == "over_budget_frames"
    assert _refusal(clip, replace(exact, max_duration_s=2.9)) == "over_budget_duration"
    assert _refusal(clip, replace(exact, max_streams=0)) == "over_budget_streams"
    assert _refusal(clip, replace(exact, max_file_mb=0.001)) == "over_budget_bytes"


def test_a_small_file_of_huge_frames_is_refused_before_decoding(tmp_path: Path) -> None:
    path = draw_huge_clip(tmp_path / "huge.mp4")
    assert path.stat().st_size < 1_000_000
    assert _refusal(path) == "over_budget_pixels"
