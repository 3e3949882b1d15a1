"""Compare finished tiny runs with the golden files, or make these again.

    python scripts/golden.py check RUN...            # RUN is a folder named like its golden file
    python scripts/golden.py make --reason "WHY"     # runs both tiny jobs, writes tests/golden, prints what changed

A golden file says what every part of a tiny run looks like; tests/golden/CHANGES.md says why it last changed. `check`
exits with 1 on any difference, and on a golden file whose hashes changed without a new line there.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from golden_results import Comparison, Golden, collect, compare
from pydantic import ValidationError

from aot.errors import AotError, ConfigError, RunError
from aot.files.opening import git_revision
from aot.files.run_folder import RunFolder, publish, publish_json, read_run_json

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "golden"
CONFIGS = (ROOT / "configs/video/toy_kitchen_tiny.yaml", ROOT / "configs/text/tiny_math_tiny.yaml")
CHANGES = "CHANGES.md"
_CHANGE = re.compile(r"- `(?P<name>[^`]+)` `(?P<digest>[0-9a-f]{16})`: (?P<reason>\S.*)")


def read_golden(path: Path) -> Golden:
    """The golden file at `path`.

    Raises:
        ConfigError: it is not there or not readable.
    """
    try:
        return Golden.model_validate_json(path.read_bytes())
    except OSError:
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.json"))) or "none"
        raise ConfigError(f"no golden file {path.name}; known: {known}; name the run folder like one of them") from None
    except ValidationError as error:
        raise ConfigError(f"{path} is no golden file ({error.errors()[0]['msg']}); make it again") from None


def undeclared(folder: Path) -> list[str]:
    """A sentence for each golden file that is not as the last line about it in CHANGES.md left it."""
    lines = (folder / CHANGES).read_text(encoding="utf-8").splitlines() if (folder / CHANGES).exists() else []
    declared = {found["name"]: found["digest"] for line in lines if (found := _CHANGE.fullmatch(line))}
    told = []
    for path in sorted(folder.glob("*.json")):
        try:
            digest = read_golden(path).digest()
        except ConfigError:  # such as one with the marks of a merge conflict
            digest = "of no golden file"
        if declared.get(path.stem) != digest:
            told.append(
                f"{path.name} has the digest {digest}, but {CHANGES} declares {declared.get(path.stem, 'none')}; "
                'declare the change with: python scripts/golden.py make --reason "WHY"'
            )
    return told


def declare(folder: Path, name: str, golden: Golden, *, reason: str) -> bool:
    """Write a golden file with the reason for its change; False if nothing changed and nothing was written.

    Raises:
        ConfigError: the reason is empty.
    """
    reason = " ".join(reason.split())
    if not reason:
        raise ConfigError("a change of golden results needs a reason, such as --reason 'steps are cited by number'")
    path = folder / f"{name}.json"
    is_declared = not any(told.startswith(f"{path.name} ") for told in undeclared(folder))
    if is_declared and path.exists() and read_golden(path) == golden:
        return False
    publish_json(path, golden.model_dump(mode="json"))
    changes = folder / CHANGES
    text = changes.read_text(encoding="utf-8") if changes.exists() else ""
    publish(changes, f"{text}- `{name}` `{golden.digest()}`: {reason}\n")
    return True


def comparison_lines(name: str, found: Comparison) -> list[str]:
    """What to print about a run."""
    lines = [f"{name}: {problem}" for problem in found.problems]
    if found.problems and found.versions:
        lines.append(f"{name}: other versions than when the golden file was made: {', '.join(found.versions)}")
    if found.why_tolerant:
        lines.append(
            f"{name}: what students compute is compared with tolerances, because {'; '.join(found.why_tolerant)}"
        )
        if found.within_tolerance:
            lines.append(f"{name}: within tolerance: {', '.join(found.within_tolerance)}")
        if found.not_judged:
            lines.append(f"{name}: different, not judged: {', '.join(found.not_judged)}")
    mode = "tolerant" if found.why_tolerant else "exact"
    return [*lines, f"{name}: {mode} mode: {found.exact} artifacts are the same, {len(found.problems)} problems"]


def check(runs: list[Path], *, folder: Path, measured: dict[str, str]) -> int:
    """0 if the runs are as the golden files in `folder` say, else 1; prints what changed.

    Args:
        runs: Finished run folders, made on this machine.
        folder: Where the golden files are.
        measured: The probes of this machine.
    """
    problems = undeclared(folder)
    print("\n".join(problems), end="\n" if problems else "")
    for run in runs:
        root = run.resolve()
        found = compare(read_golden(folder / f"{root.name}.json"), collect(root, probes=measured))
        made_by, here = read_run_json(RunFolder(root)).get("revision"), git_revision()
        if made_by != here:
            print(f"{root.name}: this run was made by revision {made_by}; the checkout is at {here}")
        print("\n".join(comparison_lines(root.name, found)))
        problems += found.problems
    if problems:
        print('if this is meant: python scripts/golden.py make --reason "WHY", and commit it with the change')
    return 1 if problems else 0


def make(reason: str) -> int:
    """Run both tiny jobs under the pins and write their golden files; prints what changed."""
    if not reason.strip():
        raise ConfigError("--reason is empty; say in a few words why the results change")
    measured = probes()
    with tempfile.TemporaryDirectory() as scratch:
        for config in CONFIGS:
            root = Path(scratch).resolve() / config.stem
            command = [sys.executable, "-m", "aot", "run", str(config), f"run.dir={root}"]
            done = subprocess.run(command, env={**os.environ, **pins()}, cwd=scratch, capture_output=True, text=True)
            if done.returncode not in (0, 3):
                raise RunError(f"{config.name} ended with exit code {done.returncode}: {done.stderr[-2000:]}")
            now, path = collect(root, probes=measured), FOLDER / f"{config.stem}.json"
            try:
                print("\n".join(comparison_lines(config.stem, compare(read_golden(path), now))))
            except ConfigError as error:
                print(f"{config.stem}: nothing to compare with: {error}")
            changed = declare(FOLDER, config.stem, now, reason=reason)
            print(f"{config.stem}: {'written and declared' if changed else 'nothing changed, nothing written'}")
    return 0


def pins() -> dict[str, str]:
    """The environment of a golden run."""
    lines = (FOLDER / "pins.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def probes() -> dict[str, str]:
    """What a few operations of torch give on this processor under the pins, measured in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "probe"]
    done = subprocess.run(command, env={**os.environ, **pins()}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"torch cannot be probed under the pins of {FOLDER / 'pins.env'}: {done.stderr[-2000:]}")
    digests: dict[str, str] = json.loads(done.stdout)
    return digests


def _probe() -> None:
    import torch
    from torch.nn import functional as F

    drawn = torch.Generator().manual_seed(0)
    wide, tall, weights = (torch.randn(shape, generator=drawn) for shape in ((37, 192), (192, 37), (8, 3, 8, 8)))
    images = torch.randn(2, 3, 64, 64, generator=drawn)
    results = {
        "matmul": wide @ tall,
        "convolution": F.conv2d(images, weights, stride=8),
        "softmax": F.softmax(wide, -1),
        "layer norm": F.layer_norm(wide, (192,)),
        "activation": F.gelu(wide) + F.silu(wide),
        "sum": wide.sum(),
        "square root": wide.abs().sqrt(),
    }
    print(json.dumps({name: hashlib.sha256(x.numpy().tobytes()).hexdigest()[:12] for name, x in results.items()}))


def main(arguments: list[str] | None = None) -> int:
    """The exit code of one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("check", help="compare finished runs").add_argument("runs", type=Path, nargs="+", metavar="RUN")
    verbs.add_parser("make", help="make the golden files again").add_argument("--reason", required=True)
    verbs.add_parser("probe", help="print digests of what torch computes here")
    given = parser.parse_args(arguments)
    try:
        if given.verb == "probe":
            _probe()
            return 0
        if given.verb == "make":
            return make(given.reason)
        return check(given.runs, folder=FOLDER, measured=probes())
    except AotError as error:
        print(f"golden.py: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
