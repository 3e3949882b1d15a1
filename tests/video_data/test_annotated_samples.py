"""Exact counts on real official rows; the expected numbers were counted by a separate script from the raw files."""

from collections import Counter
from pathlib import Path

import pytest

from video_data.datasets.annotated import read_annotated
from video_data.datasets.official import Wanted
from video_data.datasets.rows import VideoData

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "annotations"
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no annotation samples in {SAMPLES}")


def read(dataset: str, name: str) -> VideoData:
    return read_annotated(dataset, Wanted(SAMPLES / name, None, per_clip=None), clips=None)


def counts(data: VideoData) -> tuple[int, int, dict[tuple[str, str], int], dict[str, int]]:
    """Annotated clips, segments, questions by split and kind, refused rows by reason."""
    segments = sum(len(row.segments) for row in data.annotations)
    asked = Counter((q.split, q.kind) for q in data.questions)
    return len(data.annotations), segments, dict(asked), dict(Counter(row.reason for row in data.refused))


def by_kind(questions: dict[tuple[str, str], int]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for (_, kind), count in questions.items():
        totals[kind] += count
    return totals


def test_coin_sample() -> None:
    clips, segments, questions, refused = counts(read("coin", "coin_sample.json"))
    assert (clips, segments, refused) == (60, 189, {})
    assert by_kind(questions) == {"next_choice": 129, "next_open": 129}


def test_crosstask_sample() -> None:
    clips, segments, questions, refused = counts(read("crosstask", "crosstask"))
    assert (clips, segments, refused) == (120, 924, {"too_few_steps": 3})
    assert questions == {(s, k): n for k in ("next_choice", "next_open") for s, n in (("train", 698), ("test", 106))}


def test_epic_sample() -> None:
    clips, segments, questions, refused = counts(read("epic100", "epic100_sample.csv"))
    assert (clips, segments, refused) == (5, 800, {})
    assert by_kind(questions) == {"next_choice": 795, "next_open": 795}


def test_nextqa_sample() -> None:
    clips, _, questions, refused = counts(read("nextqa", "nextqa_sample.csv"))
    assert (clips, refused) == (0, {})
    kinds = {"CW": 124, "CH": 42, "TC": 38, "TN": 37, "DL": 24, "DO": 22, "DC": 10, "TP": 3}
    assert by_kind(questions) == kinds
