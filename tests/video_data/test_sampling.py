import doctest

import numpy as np
import pytest

import video_data.decode.sampling
from video_data.decode.sampling import fps_times, nearest_indices, uniform_times


def test_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(video_data.decode.sampling).failed == 0


def test_fps_times_stay_before_the_end() -> None:
    assert fps_times(0.0, 1.0, 3) == pytest.approx([0, 1 / 3, 2 / 3])
    assert fps_times(0.0, 0.1, 3) == [0.0]


def test_fps_times_does_not_add_a_moment_through_rounding() -> None:
    assert len(fps_times(0.0, 1.1 + 2.2, 10)) == 33


def test_nearest_index_of_a_tie_is_the_earlier_frame() -> None:
    assert nearest_indices([0.0, 1.0], [0.5]) == [0]


def test_nearest_indices_keep_the_order_asked_for() -> None:
    assert nearest_indices([0.0, 1.0, 2.0], [1.9, 0.1, 2.2]) == [2, 0]


@pytest.mark.parametrize("window", [(1.0, 1.0), (2.0, 1.0), (0.0, float("nan")), (0.0, float("inf"))])
def test_an_impossible_window_is_an_error(window: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="window"):
        uniform_times(*window, 3)


def test_uniform_times_are_evenly_spaced() -> None:
    assert np.allclose(np.diff(uniform_times(2.0, 5.0, 7)), 3 / 7)


def test_no_frames_to_choose_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="no frames"):
        nearest_indices([], [1.0])
