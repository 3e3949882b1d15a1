"""Publishes finished runs, has the official validators look at them, and flips bits: is every change found?

    python scripts/check_publication.py runs/toy_kitchen_tiny runs/tiny_math_tiny
    python scripts/check_publication.py runs/toy_kitchen runs/tiny_math --flips 100

Each run is published to a temporary folder (`aot publish`), whose bill of materials and data description are read by
the validators of CycloneDX 1.7 and Croissant 1.1, in an environment of their own (the extra `validate`, which needs the
package registry). Croissant's reader also loads every record. Then one bit at a time is flipped: first of each paper,
then of files drawn by seed. `aot publish --check` must find each. Ends with 1 where a validator has an error or a flip
was not found.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path

from aot.errors import AotError
from aot.pipeline.publication.chain import BOM, CARD, CROISSANT, NOTICE
from aot.pipeline.publication.folder import check_folder

ROOT = Path(__file__).resolve().parents[1]
PAPERS = (CARD, NOTICE, BOM, CROISSANT, "manifest.json", "manifest.json.sha256")
READ = """
import json, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from aot.pipeline.publication.validators import finding_line, validated
import mlcroissant
folder = Path(sys.argv[1])
found = validated(folder)
data = mlcroissant.Dataset(str(folder / {croissant!r}))
rows = {{one.id: sum(1 for _ in data.records(one.id)) for one in data.metadata.record_sets}}
print(json.dumps({{"lines": [finding_line(one) for one in found], "rows": rows,
                  "clean": all(one.errors == () for one in found)}}))
"""


def validators(folder: Path) -> Path:
    """A Python that has the official validators, and what this project itself needs."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["validate"]]
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",  # few of the modules are used, once
    ]
    subprocess.run([*command, "--constraint", str(ROOT / "constraints.txt"), *wanted], check=True)
    return python


def flip(path: Path, draws: random.Random) -> bytes:
    """Flip one bit somewhere in a file; returns what it held."""
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[draws.randrange(len(changed))] ^= 1 << draws.randrange(8)
    path.write_bytes(changed)
    return whole


def unnoticed(folder: Path, *, flips: int) -> list[str]:
    """Names of files of which a flipped bit was not found."""
    draws = random.Random(0)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    places = [folder / name for name in PAPERS]
    missed = []
    for path in [*places, *draws.choices(files, k=max(0, flips - len(places)))][:flips]:
        whole = flip(path, draws)
        try:
            check_folder(folder)
            missed.append(path.relative_to(folder).as_posix())
        except AotError:
            pass
        path.write_bytes(whole)
    check_folder(folder)
    return missed


def main() -> int:
    """Check the runs that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="finished run folders")
    parser.add_argument("--flips", type=int, default=100, help="bits to flip in each published folder")
    parser.add_argument("--probes", type=int, default=10, help="questions by which each export is proved")
    parser.add_argument("--validators", type=Path, help="a Python that has the extra `validate`, instead of a new one")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        python = options.validators or validators(work / "validators")
        for run in options.runs:
            out = work / f"published-{run.name}"
            command = [sys.executable, "-m", "aot", "publish", str(run), str(out), "--probes", str(options.probes)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            began_s = time.monotonic()
            check_folder(out, root=run)
            seconds = time.monotonic() - began_s
            read = READ.format(root=str(ROOT), croissant=CROISSANT)
            done = subprocess.run([python, "-c", read, str(out)], check=False, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                return 1
            said = json.loads(done.stdout.splitlines()[-1])
            missed = unnoticed(out, flips=options.flips)
            failed |= bool(missed) or not said["clean"] or not all(said["rows"].values())
            print(f"{run}: whole, one check takes {seconds:.2f} s")
            print("\n".join(f"  {line}" for line in said["lines"]))
            print(f"  records that Croissant's reader loads: {said['rows']}")
            print(f"  {options.flips - len(missed)} of {options.flips} flipped bits found", *missed[:5], flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
