"""`aot doctor`: what works, what could be installed too, and what would stop a run, with the fix. Changes nothing."""

import base64
import hashlib
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib import metadata, resources
from pathlib import Path
from typing import Literal, NamedTuple

from aot.config import EMBEDDED_STUDENTS
from aot.errors import EXTRA_OF_PACKAGE, VideoError, install_command
from aot.records import Record

MIN_FREE_GB = 2.0
FOR = {
    "video": "runs about clips", "train": "training, and models as tools", "teacher": "chat models behind a server",
    "text": "some text data sets and kinds of answers", "report": "the report and frames as files",
    "ray": "generation on Ray", "serving": "`aot serve`", "quant": "exports in fewer bits",
    "deepspeed": "training with ZeRO", "vision": "processors of some video models",
    "review": "agreement of people who review", "validate": "official checks of what `aot publish` writes",
}  # fmt: skip
"""What needs an extra."""
CLIP = (
    "eNp9VU2IHEUUrpldYxSFlSy4yKq1uJLLzmx3z+ywDjTJsoRMwMBezCEIbXVX9XRnurtqqmr+gogBwRUP3jws/uBFCQgexUM85WRO4kEXBdFDiAgq"
    "AXEPJuOrnlmns5oUXV2v3vve9+q9Vz2DEMKhHolY8RShMjIrTIf0AzsVdRshdDyUjCE093BKiQbMR8ceGo/f/+HML9du7rc+f3ftO7z/3G+/D51G"
    "HVdwwCXDdmMDxFYVVOvnd86crdTx1oVtsFEWgGGbi1HCQo0dy6pVHMsx6Ehr0VxfHwwG1X5MGU9IVuWyvW54q5FOE8BwoWOeqSYOiE8C18aSha7d"
    "wJT5CQ86rt20mhYmGUlGirnWsNa0hnathlPm9tIIq54Pkm1hoUbgDG9PUteuWuAFL5zGQ0a9nBNcPEmyNnOdOg4iyVPiGV+sJUuSWLkO3hxu0kCD"
    "KuimrgVnIPQyz8DBXrNtHBKlPaE6sTCICUFXeDwMFdNuxcE6kuChwJpw3iERbLyZTiVxwGYKC2cyjxHEKdHmHHGmmUwIgEDvJz1JRl7AU0E07AMo"
    "kpYkzoACgJIYTChJypS7iX1PjECOKSThe4QSoXPJj4mJRGPJIK8aHrC4HWkfgnHBMq/NBVgnSgEOHTYCbtfZsKail8aZW8cqYBkLetqtWzgPbioq"
    "mYrAWwbev9m6DbN3Axni1Ieymqxg4zq1qoW7JhfXqgKmKwxvvpKh23gBBKWZgEixgB7BjYAWQizShf6bZqLX4dIust0rqHzq7l+7zzo3+HuXvr30"
    "8eKPoD+xtXf8/O7K+Jvbgyvnfr1z9c8vbrwK6kdKHyycxG+ON1Zg89TW3kLnD0y/IvOnvv7+7s7J8c9P7O2/9op19kv4DC6mnPcBlaT9iKJ7xtyt"
    "fJaQeWajdC/q6P40euAow/MGlLED8su6k8ec+y+bif3gOP8bF08nQquMagXrMkuUnnkYXjz1Lf2d0pgYj5Qezd2w7aCXruebSkQTeWgxn3MRecF8"
    "3i2S0YQZTOkT6G9oWtZPc9LiMVfpxLZM4RIV0nisJxM8kUttpf0E5M+UVrSA+dD8ht2nFCYnjFqwtu6LODqWxmN4bwDrdomiR8c/oaU2rJ/K+XPR"
    "adMT8yrPXX+LLJXQsejW9jtrb985ODCui3DBpzV98uCQTum83ofB5xFayLGQRlFvphXMsPMTHZ7arem6gAr6ZeAIjnBM/dAq2C4X0gJ9+Zo5GMzH"
    "YT4zOUPAC/4miN+j2vT+Ysry1YyVYp/hbkgiRFKsWSWeXKbnr2puCJ+GvxByWO0XST9sOFUbHsv5B4uSePY="
)
"""A clip of a second, 32 by 32 pixels, in H.264: zlib, in base64."""
CLIP_FRAMES = 4


class Finding(NamedTuple):
    """One line of a check, and how much it matters."""

    kind: Literal["works", "optional", "trouble"]
    line: str


class Checkup(Record):
    """What `aot doctor --json` prints."""

    works: tuple[str, ...]
    """A line for each check that went well."""
    optional: tuple[str, ...]
    """Packages that are not installed: only who wants what they are for needs them."""
    troubles: tuple[str, ...]
    """What would stop a run, each with its fix."""

    @property
    def lines(self) -> list[str]:
        """For a terminal, troubles at last."""
        optional = (f"optional: {line}" for line in self.optional)
        return [*self.works, *optional, *(self.troubles or ("no trouble found",))]


def look_around() -> Checkup:
    """What works here, what could be added, and each trouble with what to do."""
    findings: list[Finding] = []
    for look in (_decoder, _packages, _disk, _compiler, _embedded_students):
        try:
            findings += look()
        except Exception as error:  # noqa: BLE001 - a doctor never crashes
            words = f"looking at{look.__name__.replace('_', ' ')} failed ({_words(error)}); look at it by hand"
            findings.append(Finding("trouble", words))
    works, optional, troubles = (
        tuple(one.line for one in findings if one.kind == kind) for kind in ("works", "optional", "trouble")
    )
    return Checkup(works=works, optional=optional, troubles=troubles)


def _decoder() -> Iterator[Finding]:
    """Decode the embedded clip as runs do; where no decoder is installed, that is told among the packages."""
    if importlib.util.find_spec("av") is None:
        return
    from video_data.decode.sandbox import shared_pool

    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        clip.write_bytes(zlib.decompress(base64.b64decode(CLIP)))
        try:
            facts = shared_pool().probe(clip)
            why = facts.note or facts.verdict
            decoded = facts.verdict == "complete" and facts.num_frames_decoded == CLIP_FRAMES
        except VideoError as error:
            decoded, why = False, error.message
    if decoded:
        yield Finding("works", f"the decoder works: it read an embedded clip (PyAV {metadata.version('av')})")
    else:
        command = install_command("video")
        yield Finding("trouble", f"the decoder cannot read the embedded clip ({why}); {command} --force-reinstall")


def _packages() -> Iterator[Finding]:
    missing: dict[str, list[str]] = {}
    for module, extra in EXTRA_OF_PACKAGE.items():
        try:
            with redirect_stdout(sys.stderr):  # where some greet; what is printed here may be read as JSON
                importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name == module:
                missing.setdefault(extra, []).append(module)
            else:
                yield Finding("trouble", f"{module} lacks {error.name}; {install_command(extra)}")
        except Exception as error:  # noqa: BLE001 - packages that do not fit each other fail in any way
            again = f"pip install --force-reinstall {module}"
            mend = "pip uninstall torchvision, or match it to torch" if module == "torchvision" else again
            yield Finding("trouble", f"{module} is installed but broken ({_words(error)}); {mend}")
    for extra, modules in missing.items():
        are = f"{', '.join(modules)} {'is' if len(modules) == 1 else 'are'} not installed"
        yield Finding("optional", f"{are}; for {FOR[extra]}: {install_command(extra)}")


def _words(error: Exception) -> str:
    """The error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _disk() -> Iterator[Finding]:
    for name, folder in (("working folder", Path.cwd()), ("temporary folder", Path(tempfile.gettempdir()))):
        free_gb = shutil.disk_usage(folder).free / 1e9
        if free_gb < MIN_FREE_GB:
            yield Finding(
                "trouble", f"only {free_gb:.1f} GB free in the {name} {folder}; free space, or set run.dir= (or TMPDIR)"
            )
        if not os.access(folder, os.W_OK):
            yield Finding("trouble", f"the {name} {folder} is not writable; change to another one")


def _compiler() -> Iterator[Finding]:
    if shutil.which("g++") is None and shutil.which("c++") is None:
        yield Finding("optional", "no C++ compiler is installed; for train.compile and for DeepSpeed's operators: g++")


def _embedded_students() -> Iterator[Finding]:
    for name, folder_name in EMBEDDED_STUDENTS.items():
        folder = resources.files("aot") / "student" / folder_name
        weights = folder / "model.safetensors"
        if not weights.is_file():
            build = f"python scripts/build_tiny_students.py --student {name.removeprefix('tiny-')}"
            yield Finding("trouble", f"the embedded student {name} is missing; build it: {build}")
            continue
        expected = (folder / "SHA256").read_text().split()[:1] if (folder / "SHA256").is_file() else []
        if not expected:
            yield Finding(
                "trouble",
                f"the embedded student {name} has no checksum; restore aot/student/{folder_name} or build it again",
            )
        elif [hashlib.sha256(weights.read_bytes()).hexdigest()] != expected:
            yield Finding(
                "trouble",
                f"the embedded student {name} was altered; restore aot/student/{folder_name} or build it again",
            )
