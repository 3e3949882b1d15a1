import base64
import importlib
import re
import tomllib
import zlib
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from aot.config import load_config
from aot.errors import EXTRA_OF_PACKAGE, CheckpointError
from aot.pipeline.commands import doctor
from aot.pipeline.commands.plan import told_plan
from aot.pipeline.planning.preflight import check_hub_name

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
NAMES = {"cv2": "opencv-python-headless", "PIL": "pillow", "cyclonedx": "cyclonedx-python-lib[json-validation]"}
"""Packages that are installed under another name than they are imported by."""


def test_every_optional_package_is_declared_by_the_extra_that_is_told() -> None:
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    for package, extra in EXTRA_OF_PACKAGE.items():
        name = NAMES.get(package, package.replace("_", "-"))
        assert any(one.startswith(f"{name}>=") for one in extras[extra]), f"{extra} does not bring {name}"


def test_the_core_brings_no_torch_and_no_extra_what_is_kept_out() -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    named = {extra: {re.split(r"[^\w.-]", one)[0].lower() for one in rows} for extra, rows in extras.items()}
    core = {re.split(r"[^\w.-]", one)[0].lower() for one in project["dependencies"]}
    assert not core & {"torch", "torchvision", "transformers", "av", "opencv-python-headless", "pillow"}
    assert [extra for extra in named if "torchvision" in named[extra]] == ["vision"]
    assert not (core | set().union(*named.values())) & {"litellm", "httpx", "ultralytics"}
    for name in sorted(licensed_below(core | set().union(*named.values()))):
        about = metadata.metadata(name)
        said = [about.get("License-Expression") or about.get("License") or "", *(about.get_all("Classifier") or ())]
        assert not re.search(r"AGPL|Affero", " ".join(said).partition("\n")[0]), f"{name} is under the AGPL"


def licensed_below(names: set[str]) -> set[str]:
    """Those of the packages, and of what they need, that are installed here."""
    found, waiting = set[str](), list(names)
    while waiting:
        name = waiting.pop()
        with suppress(metadata.PackageNotFoundError):
            needs = metadata.requires(name) or []
            waiting += [re.split(r"[^\w.-]", one)[0] for one in needs if "extra ==" not in one and name not in found]
            found.add(name)
    return found


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


def test_each_trouble_is_one_line_with_its_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = importlib.import_module

    def import_module(name: str) -> ModuleType:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist\nand more")
        return real(name) if name == "aot" else ModuleType(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=3e8))
    monkeypatch.setattr(doctor.os, "access", lambda folder, mode: False)
    monkeypatch.setattr(doctor, "CLIP_FRAMES", 5)
    monkeypatch.setattr(doctor, "EMBEDDED_STUDENTS", {"tiny-text": "nowhere"})
    troubles = doctor.look_around().troubles
    for trouble, fix in (
        ("the decoder cannot read", "--force-reinstall"),
        ("torchvision is installed but broken (RuntimeError: operator", "match it to torch"),
        ("only 0.3 GB free in the working folder", "set run.dir="),
        ("is not writable", "change to another one"),
        ("the embedded student tiny-text is missing", "python scripts/build_tiny_students.py --student text"),
    ):
        (line,) = [line for line in troubles if trouble in line][:1]
        assert "\n" not in line and fix in line.partition(trouble)[2]


@pytest.mark.parametrize(("changed", "told"), [
    ("student.base=nowhere/model", "student.base 'nowhere/model' is no folder here, and no model hub gives it"),
    ("student={base: tmp_base, hub: {name: org/m, revision: 0123456789ab}}", "`aot prefetch CONFIG` fetches org/m at"),
    ("train.trackers=[wandb]", "train.trackers: wandb needs the package wandb, which is not installed; pip install"),
    ("chat.base_url=http://127.0.0.1:9/v1", "nobody answers at http://127.0.0.1:9/v1"),
])  # fmt: skip
def test_what_a_config_lacks_is_a_line_before_any_work(
    changed: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with suppress(ImportError):  # read at its import, which an earlier test may have done; else it waits for a network
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    chat = ("teacher={planner: chat}", "chat={model: m}") if changed.startswith("chat.") else ()
    path = PROJECT.parent / "configs/text/tiny_math_tiny.yaml"
    config = load_config(path, overrides=(*chat, changed, f"run.dir={tmp_path / 'run'}"))
    lines, _ = told_plan(config, config_path=path)
    assert any(told in line for line in lines), lines


def test_a_model_hub_that_cannot_be_reached_is_tried_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CheckpointError, match=r"no model hub gives it .ConnectionRefusedError"):
        check_hub_name("nobody/no-such-model")
    assert not caplog.records


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
