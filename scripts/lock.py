"""Makes the lock files again: every package of a workload at one version, with the hashes of its files.

    python scripts/lock.py                 # all of them, for Linux on x86-64 with CUDA; needs uv and the network
    python scripts/lock.py train           # one of them

`train` is this package with what its scripts need, held to constraints.txt; `serve_vllm` is a model server of an
environment of its own, because it wants other versions. tests/test_locks.py holds the files against pyproject.toml and
constraints.txt.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "locks"
PYTHON, PLATFORM = "3.12", "x86_64-manylinux_2_28"


@dataclass(frozen=True)
class Lock:
    """What one lock file is made from."""

    source: str
    """A file of requirements, or pyproject.toml."""
    extras: tuple[str, ...] = ()
    constraint: str = ""

    @property
    def arguments(self) -> list[str]:
        """Of the resolver."""
        extras = [part for extra in self.extras for part in ("--extra", extra)]
        return [self.source, *extras, *(["--constraint", self.constraint] if self.constraint else [])]


WORKLOADS = {
    "train": Lock(
        "pyproject.toml",
        extras=("video", "train", "deepspeed", "teacher", "text", "report", "serving"),
        constraint="constraints.txt",
    ),
    "serve_vllm": Lock("locks/serve_vllm.in"),
}


def main(names: list[str]) -> int:
    """Write the lock files of these workloads, or of all; 0, or 2 where one cannot be made."""
    if unknown := [name for name in names if name not in WORKLOADS]:
        print(f"no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}", file=sys.stderr)
        return 2
    for name in names or WORKLOADS:
        out = LOCKS / f"{name}.txt"
        command = [
            "uv", "pip", "compile", *WORKLOADS[name].arguments, "--python-version", PYTHON, "--python-platform",
            PLATFORM, "--generate-hashes", "--no-annotate", "--no-header", "--no-config", "--upgrade", "--quiet",
            "--output-file", str(out),
        ]  # fmt: skip
        try:
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        except FileNotFoundError:
            print("uv is not installed; pip install uv", file=sys.stderr)
            return 2
        except subprocess.CalledProcessError as error:
            print(f"{name}: no lock was made (uv ended with code {error.returncode})", file=sys.stderr)
            return 2
        head = f"# Made by `python scripts/lock.py {name}` for Python {PYTHON} on {PLATFORM}.\n"
        out.write_text(head + out.read_text())
        print(f"{out.relative_to(ROOT)}: {sum(line[:1].isalnum() for line in out.read_text().splitlines())} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
