"""Folders of tiny students, made once for all tests of this folder."""

import importlib.util
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

if (
    importlib.util.find_spec("torchvision")
    and "+cpu" in torch.__version__
    and "+cpu" not in metadata.version("torchvision")
):
    # The package registry has no CPU build of torchvision. The usual one, installed without its dependencies, imports
    # beside CPU torch once two of its operators are declared; no test calls them.
    OPERATORS = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny students by family."""
    # Here, so that a module can skip itself where a broken torchvision keeps transformers from being imported.
    from student_kit import save_idefics3, save_llava

    root = tmp_path_factory.mktemp("bases")
    save_idefics3(root / "idefics3")
    save_llava(root / "llava")
    return {name: root / name for name in ("idefics3", "llava")}
