"""Folders of tiny students, made once for all tests of this folder."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny students by family."""
    # Here, so that a module can skip itself where a broken torchvision keeps transformers from being imported.
    from student_kit import save_idefics3, save_llava

    root = tmp_path_factory.mktemp("bases")
    save_idefics3(root / "idefics3")
    save_llava(root / "llava")
    return {name: root / name for name in ("idefics3", "llava")}
