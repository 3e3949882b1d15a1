"""`aot doctor`: one line for each trouble that would stop a run later, with the fix. Changes nothing."""

import hashlib
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

NEEDED = {
    "av": "video",
    "decord": "video",
    "cv2": "video",
    "torch": "train",
    "transformers": "train",
    "peft": "train",
    "accelerate": "train",
    "deepspeed": "train",
    "jinja2": "report",
    "PIL": "report",
}
MIN_FREE_GB = 2.0


def troubles() -> Iterator[str]:
    """Each trouble as one line: what is wrong, and what to do."""
    yield from _packages()
    yield from _torchvision()
    yield from _disk()
    yield from _compiler()
    yield from _embedded_student()


def _packages() -> Iterator[str]:
    for module, extra in NEEDED.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            yield f"{module} does not import ({error}); pip install 'aot-distill[{extra}]'"
        except (OSError, RuntimeError) as error:
            yield f"{module} is installed but broken ({error}); reinstall it: pip install --force-reinstall {module}"


def _torchvision() -> Iterator[str]:
    try:
        metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        return
    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError) as error:
        yield f"torchvision is installed but broken ({error}); pip uninstall torchvision, or match it to torch"


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
    expected = (folder / "SHA256").read_text().split()[0] if (folder / "SHA256").is_file() else ""
    if expected and hashlib.sha256(weights.read_bytes()).hexdigest() != expected:
        yield "the embedded student was altered; restore aot/student/tiny/video or build it again"
