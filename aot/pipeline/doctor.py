"""`aot doctor`: one line for each trouble that would stop a run later, with the fix. Changes nothing."""

import hashlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

from aot.errors import EXTRA_OF_PACKAGE

MIN_FREE_GB = 2.0


def troubles() -> Iterator[str]:
    """Each trouble as one line: what is wrong, and what to do."""
    for look in (_packages, _torchvision, _disk, _compiler, _embedded_student):
        try:
            yield from look()
        except Exception as error:  # noqa: BLE001 - a doctor never crashes
            yield f"looking at{look.__name__.replace('_', ' ')} failed ({_words(error)}); look at it by hand"


def _packages() -> Iterator[str]:
    for module, extra in EXTRA_OF_PACKAGE.items():
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            yield f"{module} does not import ({error}); pip install 'aot-distill[{extra}]'"
        except Exception as error:  # noqa: BLE001 - packages that do not fit each other fail in any way
            yield f"{module} is installed but broken ({_words(error)}); pip install --force-reinstall {module}"


def _torchvision() -> Iterator[str]:
    try:
        metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # noqa: BLE001 - as above
        yield f"torchvision is installed but broken ({_words(error)}); pip uninstall torchvision, or match it to torch"


def _words(error: Exception) -> str:
    """The error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _disk() -> Iterator[str]:
    for name, folder in (("working folder", Path.cwd()), ("temporary folder", Path(tempfile.gettempdir()))):
        free_gb = shutil.disk_usage(folder).free / 1e9
        if free_gb < MIN_FREE_GB:
            yield f"only {free_gb:.1f} GB free in the {name} {folder}; free space, or set run.dir= (or TMPDIR)"
        if not os.access(folder, os.W_OK):
            yield f"the {name} {folder} is not writable; change to another one"


def _compiler() -> Iterator[str]:
    if shutil.which("g++") is None and shutil.which("c++") is None:
        yield "no C++ compiler found; DeepSpeed on CPU (--zero) builds one operator with it: install g++"


def _embedded_student() -> Iterator[str]:
    folder = resources.files("aot") / "student" / "tiny" / "video"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        yield "the embedded student is missing; build it: python scripts/build_tiny_students.py"
        return
    expected = (folder / "SHA256").read_text().split()[:1] if (folder / "SHA256").is_file() else []
    if not expected:
        yield "the embedded student has no checksum; restore aot/student/tiny/video/SHA256 or build it again"
    elif [hashlib.sha256(weights.read_bytes()).hexdigest()] != expected:
        yield "the embedded student was altered; restore aot/student/tiny/video or build it again"
