import base64
import importlib
import tomllib
import zlib
from pathlib import Path
from types import ModuleType

import pytest

from aot.errors import EXTRA_OF_PACKAGE
from aot.pipeline.commands import doctor

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
NAMES = {"cv2": "opencv-python-headless", "PIL": "pillow"}
"""Packages that are installed under another name than they are imported by."""


def test_every_optional_package_is_declared_by_the_extra_that_is_told() -> None:
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    for package, extra in EXTRA_OF_PACKAGE.items():
        name = NAMES.get(package, package.replace("_", "-"))
        assert any(one.startswith(f"{name}>=") for one in extras[extra]), f"{extra} does not bring {name}"


@pytest.mark.parametrize("error", [AttributeError("no such name"), KeyError("x"), OSError("no library"), TypeError()])
def test_a_package_that_breaks_in_any_way_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def import_module(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(importlib, "import_module", import_module)
    lines = doctor.look_around().troubles
    assert any(line.startswith("torch is installed but broken") for line in lines)
    assert not any("\n" in line for line in lines)


def test_a_missing_package_is_optional_and_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def import_module(name: str) -> ModuleType:
        if name == "aot":  # for its files
            return real(name)
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    checkup = doctor.look_around()
    assert any("[video]" in line for line in checkup.optional) and checkup.troubles == ()
    assert set(EXTRA_OF_PACKAGE.values()) == set(doctor.FOR)


def test_the_decoder_is_tried_on_an_embedded_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av", reason="needs the video extra")
    assert "the decoder works" in doctor.look_around().works[0]
    damaged = base64.b64encode(zlib.compress(zlib.decompress(base64.b64decode(doctor.CLIP))[:-600])).decode()
    monkeypatch.setattr(doctor, "CLIP", damaged)
    assert any("the decoder cannot read" in line for line in doctor.look_around().troubles)


@pytest.mark.parametrize(("checksum", "told"), [("", "no checksum"), ("0" * 64, "was altered"), (None, "no checksum")])
def test_a_checksum_that_does_not_fit_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checksum: str | None, told: str
) -> None:
    folder = tmp_path / "student" / "tiny" / "video"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    if checksum is not None:
        (folder / "SHA256").write_text(checksum)
    monkeypatch.setattr(doctor.resources, "files", lambda package: tmp_path)
    assert any(told in one.line for one in doctor._embedded_students())


def test_a_check_that_breaks_itself_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: 1 / 0)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    checkup = doctor.look_around()
    assert any("looking at disk failed" in line for line in checkup.troubles)
    assert any("C++ compiler" in line for line in checkup.optional)
