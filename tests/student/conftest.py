"""Folders of tiny students, made once for all tests of this folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from lives import Lives


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny students by family."""
    # Here, so that a module can skip itself where a broken torchvision keeps transformers from being imported.
    from student_kit import save_idefics3, save_llava

    root = tmp_path_factory.mktemp("bases")
    save_idefics3(root / "idefics3")
    save_llava(root / "llava")
    return {name: root / name for name in ("idefics3", "llava")}


@pytest.fixture(scope="session")
def lives() -> Iterator[Lives]:
    """A warm process that begins, and ends, the lives of trainings."""
    with Lives() as warm:
        yield warm
