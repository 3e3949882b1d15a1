"""Exported students, made once for all tests of this folder: the embedded bases, which need no training."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def video_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported base of the kitchen; it names the steps that it sees."""
    from serving_kit import export_base

    return export_base("tiny-video", tmp_path_factory.mktemp("exports") / "video")


@pytest.fixture(scope="session")
def text_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported base of maths in words; it does sums of one step."""
    from serving_kit import export_base

    return export_base("tiny-text", tmp_path_factory.mktemp("exports") / "text")


@pytest.fixture(scope="session")
def kitchen_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two drawn clips."""
    from video_data.kitchen.dataset import draw_toy_kitchen

    root = tmp_path_factory.mktemp("clips")
    draw_toy_kitchen(root, seed=0, counts={"train": 1, "test": 1, "test_ood": 0}, workers=1)
    return root
