"""Reads the Dockerfile and tries, without any container engine, what can be tried of it: exit code 1 if a step fails.

    python scripts/check_container.py               # files, names, pins; installs this package from what is copied
    python scripts/check_container.py --resolve     # also resolves each lock file as the image would, with uv; network

It does not run `apt-get`, and fetches no base image: that a registry still has one is for the first real build to show.
"""

import fnmatch
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECRET = re.compile(r"(?i)(key|token|secret|passw|credential)")
PYTHON, PLATFORM = "3.12", "x86_64-manylinux_2_28"


@dataclass(frozen=True)
class Step:
    """One instruction."""

    line: int
    name: str
    text: str
    """Its arguments, with lines that go on joined."""


def steps_of(text: str) -> Iterator[Step]:
    r"""The instructions of a Dockerfile.

    >>> [(step.name, step.text) for step in steps_of("FROM a:1\n# no\nRUN b \\\n  c\n")]
    [('FROM', 'a:1'), ('RUN', 'b c')]
    """
    parts: list[str] = []
    first = 0
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("#") or not line:
            continue
        first = first if parts else number
        parts.append(line.removesuffix("\\").strip())
        if not line.endswith("\\"):
            name, _, rest = " ".join(parts).partition(" ")
            yield Step(first, name.upper(), rest)
            parts = []


def problems(root: Path, *, resolve: bool) -> Iterator[str]:
    """What would fail, or should not be in an image; one sentence each."""
    steps = list(steps_of((root / "Dockerfile").read_text()))
    yield from _bases(steps)
    yield from _secrets(steps)
    yield from _user(steps)
    copied: dict[str, list[tuple[str, str]]] = {}
    stage = ""
    for step in steps:
        if step.name == "FROM":
            stage = step.text.rpartition(" AS ")[2]
            copied[stage] = []
        elif step.name == "ADD":
            yield f"line {step.line}: ADD may fetch or unpack; use COPY"
        elif step.name == "COPY":
            *sources, target = step.text.split()
            for source in sources:
                if source.startswith("--"):
                    continue
                if not (root / source).exists():
                    yield f"line {step.line}: COPY {source}: there is no such file"
                elif is_ignored(root, source):
                    yield f"line {step.line}: COPY {source}: .dockerignore keeps it out"
                copied[stage].append((source, target))
        elif step.name == "RUN":
            yield from _installs(root, step, copied[stage], resolve=resolve)


def is_ignored(root: Path, source: str) -> bool:
    """Whether .dockerignore keeps a path out; the last line that fits decides."""
    ignored = False
    path = root / ".dockerignore"
    for line in path.read_text().splitlines() if path.exists() else ():
        pattern = line.strip()
        keeps, pattern = pattern.startswith("!"), pattern.lstrip("!")
        if pattern == "**" or any(
            fnmatch.fnmatch(str(part), pattern) for part in (Path(source), *Path(source).parents)
        ):
            ignored = not keeps
    return ignored


def _bases(steps: list[Step]) -> Iterator[str]:
    stages, defaults = set[str](), dict[str, str]()
    for step in steps:
        if step.name == "ARG" and "=" in step.text:
            name, _, value = step.text.partition("=")
            defaults[name] = value
        if step.name == "FROM":
            image, _, stage = step.text.partition(" AS ")
            image = re.sub(r"\$\{(\w+)\}", lambda match: defaults.get(match[1], ""), image)
            if image not in stages and not re.search(r"(:(?!latest$)[\w.-]*\d[\w.-]*|@sha256:[0-9a-f]{64})$", image):
                yield f"line {step.line}: FROM {image or step.text}: name a version, not whatever is the latest"
            stages.add(stage)


def _secrets(steps: list[Step]) -> Iterator[str]:
    for step in steps:
        if step.name in ("ARG", "ENV"):
            for name in re.findall(r"(?:^|\s)(\w+)=", step.text):
                if SECRET.search(name):
                    yield f"line {step.line}: {step.name} {name}: a secret would stay in the image; give it at run time"


def _user(steps: list[Step]) -> Iterator[str]:
    """Every stage that starts a program has to leave root before."""
    user, stage = "", 0
    for step in steps:
        if step.name == "FROM":
            user, stage = "", step.line
        elif step.name == "USER":
            user = step.text
        elif step.name == "ENTRYPOINT" and user.partition(":")[0] in ("", "0", "root"):
            yield f"line {step.line}: the stage of line {stage} starts its program as root; add USER before"


def _installs(root: Path, step: Step, copied: list[tuple[str, str]], *, resolve: bool) -> Iterator[str]:
    """What is wrong with the pip commands of a RUN, and with what they would find in the image."""
    for command in re.split(r"&&|;", step.text):
        words = command.split()
        if words[:2] != ["pip", "install"]:
            continue
        for flag, value in pairwise(words):
            if flag in ("-r", "--requirement"):
                source = next((s for s, target in copied if value == target + Path(s).name or value == target), None)
                if source is None:
                    yield f"line {step.line}: {value} was not copied into this stage"
                else:
                    yield from _lock(root / source, with_hashes="--require-hashes" in words, resolve=resolve)
        if words[-1] == ".":
            yield from _package(root, step, copied, words)


def _lock(path: Path, *, with_hashes: bool, resolve: bool) -> Iterator[str]:
    text = path.read_text()
    loose = [line for line in text.splitlines() if line[:1].isalnum() and "==" not in line]
    if loose or not with_hashes or "--hash=sha256:" not in text:
        yield f"{path.name}: not every package has one version and hashes ({', '.join(loose[:3]) or 'no hashes'})"
    if resolve and not Path(sys.executable).with_name("uv").exists():
        yield f"{path.name} cannot be resolved: uv is not installed here; pip install uv"
    elif resolve:
        with tempfile.TemporaryDirectory(prefix="aot-lock-") as folder:
            uv = str(Path(sys.executable).with_name("uv"))
            command = [
                uv, "pip", "install", "--dry-run", "--require-hashes", "--no-config", "--target", folder,
                "--python-version", PYTHON, "--python-platform", PLATFORM, "--requirement", str(path),
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            yield f"{path.name} cannot be installed: {done.stderr.strip()[-500:]}"


def _package(root: Path, step: Step, copied: list[tuple[str, str]], words: list[str]) -> Iterator[str]:
    """Install the package without its dependencies from those files alone that the stage has."""
    with tempfile.TemporaryDirectory(prefix="aot-image-") as name:
        for source, _ in copied:
            place = root / source
            if place.is_dir():
                shutil.copytree(place, Path(name) / source, ignore=shutil.ignore_patterns("__pycache__"))
            elif place.exists():
                shutil.copy(place, Path(name) / place.name)
        options = [word for word in words[2:-1] if word != "--no-cache-dir"]
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", *options, "."]
        done = subprocess.run(command, cwd=name, capture_output=True, text=True, check=False)
        if done.returncode:
            yield f"line {step.line}: the package cannot be installed: {done.stderr.strip()[-500:]}"


def main(arguments: list[str]) -> int:
    """Print the problems; 0 if there are none, else 1."""
    sentences = list(problems(ROOT, resolve="--resolve" in arguments))
    for sentence in sentences:
        print(sentence)
    if sentences:
        return 1
    print("Dockerfile: every step can be done" + ("; its locks resolve" if "--resolve" in arguments else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
