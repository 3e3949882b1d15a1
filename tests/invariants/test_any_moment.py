"""What holds for every moment: samples lie in their window in order, frames keep their times, spans are read back."""

from hypothesis import given
from hypothesis import strategies as st

from aot.rationales.notation import format_span, format_time, parse_span
from video_data.decode.sampling import fps_times, nearest_indices, uniform_times

MOMENTS_S = st.floats(0, 10_000, allow_nan=False, width=32)
WINDOWS_S = st.tuples(MOMENTS_S, st.floats(0.05, 3_600, allow_nan=False)).map(lambda pair: (pair[0], sum(pair)))
FRAMES_S = st.lists(MOMENTS_S, min_size=1, max_size=60, unique=True).map(sorted)


@given(WINDOWS_S, st.integers(1, 200))
def test_uniform_samples_are_as_many_as_asked_ascending_and_inside(window_s: tuple[float, float], count: int) -> None:
    times_s = uniform_times(*window_s, count)
    assert len(times_s) == count and times_s == sorted(times_s)
    assert window_s[0] <= times_s[0] and times_s[-1] <= window_s[1]


@given(WINDOWS_S, st.floats(0.1, 60))
def test_samples_at_a_rate_begin_with_the_window_and_end_before_it_does(
    window_s: tuple[float, float], fps: float
) -> None:
    times_s = fps_times(*window_s, fps)
    assert times_s[0] == window_s[0] and times_s[-1] < window_s[1] + 1e-6
    assert len(times_s) >= int((window_s[1] - window_s[0]) * fps)


@given(FRAMES_S, st.lists(MOMENTS_S, min_size=1, max_size=20))
def test_no_frame_is_nearer_than_the_chosen_one(frames_s: list[float], wanted_s: list[float]) -> None:
    chosen = nearest_indices(frames_s, wanted_s)
    assert len(chosen) == len(set(chosen)) and all(0 <= index < len(frames_s) for index in chosen)
    for wanted in wanted_s:
        nearest = min(abs(frame - wanted) for frame in frames_s)
        assert any(abs(frames_s[index] - wanted) == nearest for index in chosen)


@given(MOMENTS_S, MOMENTS_S)
def test_a_span_is_read_back_as_it_was_written(start_s: float, end_s: float) -> None:
    spans = parse_span(f"Gather: {format_span(start_s, end_s)} chop onion [1].")
    assert spans is not None
    assert [format_time(moment) for moment in spans] == [format_time(start_s), format_time(end_s)]
