"""Exported students, made once for all tests of this folder: the embedded bases, which need no training."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aot.serving.server.served import Served


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


@pytest.fixture(scope="session")
def text_served(text_export: Path) -> Iterator[Served]:
    """The text student, served without a port."""
    from aot.serving.server.limits import Limits
    from aot.serving.server.served import serve_export

    served = serve_export(text_export, limits=Limits())
    yield served
    served.close()


@pytest.fixture(scope="session")
def text_url(text_served: Served) -> Iterator[str]:
    """The text student behind a port of this machine."""
    from serving_kit import running

    with running(text_served) as url:
        yield url
