"""Fixtures of the decoding room's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from clipmaker import SHARED_CLIPS, draw_clip

from video_data.decode.sandbox import DecoderPool


@pytest.fixture(scope="session")
def shared_clips() -> Path:
    """The folder of real clips; the test is skipped where it is absent."""
    if not SHARED_CLIPS.is_dir():
        pytest.skip(f"real clips are absent: {SHARED_CLIPS}")
    return SHARED_CLIPS


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 marked frames at 8 fps, 96x72."""
    return draw_clip(tmp_path_factory.mktemp("clip") / "steady.mp4")


@pytest.fixture(scope="session")
def pool() -> Iterator[DecoderPool]:
    """Two decoding processes."""
    with DecoderPool(workers=2) as decoders:
        yield decoders
