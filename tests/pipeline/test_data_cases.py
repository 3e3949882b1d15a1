"""Annotation files and questions as people really have them, and what must become of each."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from video_data.datasets.annotated import AnnotatedData, read_annotated
from video_data.datasets.epic100 import time_s
from video_data.datasets.official import Wanted
from video_data.datasets.plain import check_windows

SHARED = Path(__file__).resolve().parents[3] / "shared"
CASES = SHARED / "cases" / "video"
EPIC = SHARED / "data" / "annotations" / "epic100_sample.csv"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"no field cases in {CASES}")


def read(dataset: str, train: Path | None = None, *, test: Path | None = None) -> AnnotatedData:
    return read_annotated(dataset, Wanted(train, test), clips=None)


@needs_cases
def test_egoplan_frame_numbers_of_epic_videos_are_sixty_a_second_whatever_the_files_rate() -> None:
    data = read("egoplan", test=CASES / "egoplan" / "EgoPlan_validation.json")
    ends_s = {question.uri: question.end_s for question in data.questions}
    frames = {"P01_01": 28604, "P01_05": 18115, "P09_08": 7253, "P17_02": 32754, "P10_04": 190000, "P18_09": 16000}
    assert ends_s == {video: round(frame / 60, 3) for video, frame in frames.items()}
    assert ends_s["P01_01"] == 476.733 and not data.refused


@pytest.mark.skipif(not EPIC.is_file(), reason=f"no sample of EPIC-KITCHENS-100 in {EPIC}")
def test_epic_own_frame_numbers_count_sixty_a_second_too() -> None:
    with EPIC.open(encoding="utf-8", newline="") as file:
        apart_s = [abs(int(row["start_frame"]) / 60 - time_s(row["start_timestamp"])) for row in csv.DictReader(file)]
    assert len(apart_s) == 800 and max(apart_s) < 0.03


@needs_cases
def test_star_windows_past_the_end_are_cut_and_told_and_those_outside_refused() -> None:
    data = read("star", CASES / "star" / "STAR_train.json", test=CASES / "star" / "STAR_val.json")
    checked = check_windows(data.questions, {"42K3H": 3.5, "AAAAA": 31.0, "BBBBB": 4.0})
    windows = {q.id.rpartition("_")[2]: (q.start_s, q.end_s) for q in checked.questions}
    expected = {"1": (0.0, 3.5), "2": (0.0, 3.5), "3": (2.0, 3.5), "4": (1.0, 3.5), "5": (10.2, 31.0), "8": (3.1, 9.5)}
    assert windows == {**expected, "100": (0.0, 2.0)} and checked.num_cut == 5
    assert [(row.item, row.reason) for row in checked.refused] == [("Interaction_T1_6", "window_outside")]
    assert Counter(row.reason for row in data.refused) == {"bad_window": 1, "bad_value": 1}
