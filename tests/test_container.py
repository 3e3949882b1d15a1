"""The image recipe and the lock files: files are there, nobody is root, and locks agree with what asks for them."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import check_container
from lock import LOCKS, WORKLOADS

ROOT = Path(__file__).parents[1]
ON_LINUX = {"python_version": "3.12", "python_full_version": "3.12.0", "platform_machine": "x86_64",
            "sys_platform": "linux", "platform_system": "Linux"}  # fmt: skip


def pins(name: str) -> dict[str, str]:
    rows = re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", (LOCKS / f"{name}.txt").read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in rows}


def requirements(name: str) -> list[Requirement]:
    lock = WORKLOADS[name]
    if lock.source != "pyproject.toml":
        return [Requirement(line) for line in (ROOT / lock.source).read_text().splitlines() if line.strip()]
    project = tomllib.loads((ROOT / lock.source).read_text())["project"]
    extras = (line for extra in lock.extras for line in project["optional-dependencies"][extra])
    return [Requirement(line) for line in (*project["dependencies"], *extras)]


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_lock_has_every_required_package_at_a_version_that_is_asked_for(name: str) -> None:
    locked = pins(name)
    for wanted in requirements(name):
        if wanted.marker is None or wanted.marker.evaluate(ON_LINUX):
            version = locked.get(canonicalize_name(wanted.name), "missing")
            assert version != "missing" and wanted.specifier.contains(version), (wanted, version)


def test_the_lock_for_training_keeps_to_the_versions_that_the_tests_run_with() -> None:
    locked = pins("train")
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    held = [(one, canonicalize_name(one.name)) for one in map(Requirement, lines)]
    compared = [(one, locked[name]) for one, name in held if name in locked]
    assert len(compared) > 15
    assert [(str(one), version) for one, version in compared if not one.specifier.contains(version)] == []


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_lock_names_hashes_and_no_place_that_packages_come_from(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    assert entries and all("--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"://|--index|--find-links|file:|@ |/(tmp|opt|home|work)", text)


def test_every_step_of_the_image_can_be_done() -> None:
    assert list(check_container.problems(ROOT, resolve=False)) == []


def recipe(folder: Path, text: str, *, ignored: str = "") -> list[str]:
    (folder / "Dockerfile").write_text(text)
    (folder / ".dockerignore").write_text(ignored)
    return list(check_container.problems(folder, resolve=False))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("FROM python:latest\n", "whatever is the latest"),
        ("FROM python\n", "whatever is the latest"),
        ("FROM a:1.0 AS x\nCOPY nowhere /opt/\n", "COPY nowhere: there is no such file"),
        ("FROM a:1.0 AS x\nCOPY kept.txt hidden.txt /opt/\n", "COPY hidden.txt: .dockerignore keeps it out"),
        ("FROM a:1.0 AS x\nENTRYPOINT [\"aot\"]\n", "as root"),
        ("FROM a:1.0 AS x\nUSER root\nENTRYPOINT [\"aot\"]\n", "as root"),
        ("FROM a:1.0 AS x\nARG HF_TOKEN=abc\n", "a secret would stay"),
        ("FROM a:1.0 AS x\nADD http://localhost/x /x\n", "use COPY"),
        ("FROM a:1.0 AS x\nRUN pip install --require-hashes -r /opt/kept.txt\n", "was not copied into this stage"),
        ("FROM a:1.0 AS x\nCOPY kept.txt /opt/\nRUN true && pip install -r /opt/kept.txt\n", "one version and hashes"),
    ],
)  # fmt: skip
def test_a_bad_step_is_told(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "kept.txt").write_text("numpy>=2\n")
    (tmp_path / "hidden.txt").write_text("")
    told_problems = recipe(tmp_path, text, ignored="**\n!kept.txt\n")
    assert len(told_problems) == 1 and problem in told_problems[0]


def test_a_package_that_lacks_a_file_it_is_built_from_is_told(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "x"\ndynamic = ["version"]\n[tool.setuptools.dynamic]\nversion = {attr = "inner.VERSION"}\n'
    )
    text = "FROM a:1.0 AS x\nCOPY pyproject.toml /opt/x/\nRUN pip install --no-deps --no-build-isolation .\n"
    (problem,) = recipe(tmp_path, text)
    assert "the package cannot be installed" in problem


def test_the_linter_of_images_finds_nothing() -> None:
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed here; CI installs it")
    done = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
