"""`aot doctor`: one line for each trouble that would stop a run later, with the fix. Changes nothing."""

import hashlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

from aot.config import EMBEDDED_STUDENTS
from aot.errors import EXTRA_OF_PACKAGE, install_command

MIN_FREE_GB = 2.0
ONLY_FOR = {"video": " (video runs need it, text runs do not)", "text": " (some text data sets and answers need it)"}


def troubles() -> Iterator[str]:
    """Each trouble as one line: what is wrong, and what to do."""
    for look in (_packages, _torchvision, _disk, _compiler, _embedded_students):
        try:
            yield from look()
        except Exception as error:  # noqa: BLE001 - a doctor never crashes
            yield f"looking at{look.__name__.replace('_', ' ')} failed ({_words(error)}); look at it by hand"


def _packages() -> Iterator[str]:
    for module, extra in EXTRA_OF_PACKAGE.items():
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            only = ONLY_FOR.get(extra, "")
            yield f"{module} does not import ({error}); {install_command(extra)}{only}"
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


def _embedded_students() -> Iterator[str]:
    for name, folder_name in EMBEDDED_STUDENTS.items():
        folder = resources.files("aot") / "student" / folder_name
        weights = folder / "model.safetensors"
        if not weights.is_file():
            build = f"python scripts/build_tiny_students.py --student {name.removeprefix('tiny-')}"
            yield f"the embedded student {name} is missing; build it: {build}"
            continue
        expected = (folder / "SHA256").read_text().split()[:1] if (folder / "SHA256").is_file() else []
        if not expected:
            yield f"the embedded student {name} has no checksum; restore aot/student/{folder_name} or build it again"
        elif [hashlib.sha256(weights.read_bytes()).hexdigest()] != expected:
            yield f"the embedded student {name} was altered; restore aot/student/{folder_name} or build it again"
