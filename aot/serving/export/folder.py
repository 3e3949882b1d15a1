"""An exported folder on disk: it appears whole or not at all, under a name that was free, with a card for people."""

import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open

from aot.display import one_line
from aot.errors import AotError, GuardStop, RunError
from aot.files.disk import DISK_FULL, sync_folder
from aot.files.run_folder import CONTRACT
from aot.served_records import StudentContract, VariantRow
from aot.serving.contract import read_contract
from aot.student.model.contract import SETTINGS, WEIGHTS, tuning_of
from aot.student.model.contract import read_contract as read_arm_contract

CARD = "README.md"
VARIANT_COLUMNS = ("weights", "mode", "MB", "s for an answer", "accuracy [95%]", "calibration error")
_OS_ERROR = re.compile(r"os error (\d+)")
"""How the safetensors package tells what the disk said."""


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` to write into; it gets that name when the block ends well, and is gone otherwise.

    Raises:
        RunError: the disk refuses, or something lies at `out`.
        GuardStop: the disk is full.
    """
    check_free(out)
    out = out.resolve()  # which has a name also where `.` was given
    temporary = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for stale in out.parent.glob(f".{glob.escape(out.name)}.[0-9]*.part"):  # what killed processes left
            if not _runs(int(stale.name.split(".")[-2])):
                shutil.rmtree(stale, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            sync_folder(file)
        sync_folder(temporary)
        temporary.rename(out)  # over an empty folder, never over a full one
        sync_folder(out.parent)
    except (OSError, SafetensorError) as error:
        raise _write_error(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_error(out: Path, error: OSError | SafetensorError) -> AotError:
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (match := _OS_ERROR.search(str(error))):
        number = int(match[1])
    if number in DISK_FULL:
        return GuardStop(f"no_space: the disk is full at {out}, where nothing was left; free space and run it again")
    words = one_line(getattr(error, "strerror", None) or str(error))[:300]
    return RunError(f"cannot write {out}: {words}; choose another folder")


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def check_free(out: Path) -> None:
    """Look whether a new folder can be made at `out`.

    Raises:
        RunError: something lies there; the message says what.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise RunError(f"{out} is no folder; give a new one")
    if out.is_dir() and any(out.iterdir()):
        what = "is not empty"
        if (out / CONTRACT).is_file():
            try:
                there = read_contract(out, check_files=False)
                what = f"holds {there.name}, another export (arm {there.arm} of base {there.base}, {form_of(there)})"
            except AotError:
                pass
        raise RunError(f"{out} {what}; give a new folder")


def weight_bytes(folder: Path) -> int:
    """Bytes of all weight files in a folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def form_of(contract: StudentContract) -> str:
    """In what form the weights are stored, such as float32 or int8."""
    return contract.quantised or contract.dtype


def export_card(contract: StudentContract, *, head: str = "") -> str:
    """The card of an export: what is known of the student, then what this folder holds and how to use it."""
    sections = [head.rstrip() or _head(contract), "", "## This export", ""]
    origin = "the untrained base" if not contract.adapter_digest else f"arm {_code(contract.arm)}"
    sections += [
        f"- {origin[0].upper()}{origin[1:]} merged into {_code(contract.base)} ({contract.base_digest}) in float32, "
        f"stored as {form_of(contract)}.",
        f"- Its contract is `contract.json`, version {contract.version}: what it takes, what it can do, its files.",
        f"- Licences: {', '.join(f'{what} {_code(name)}' for what, name in contract.licences.items()) or 'unknown'}.",
        *(f"- {one_line(sentence)}" for sentence in contract.limits),
    ]
    if contract.proof:
        proof = contract.proof
        sections.append(
            f"- A fresh process with this folder alone gave {proof.same_replies} of {proof.replies} greedy replies as "
            f"the student in its run; largest gap between probabilities of choices {proof.largest_gap:.2g} "
            f"(n={proof.decided}), of written tokens {proof.largest_token_gap:.2g}."
        )
    if contract.variants:
        sections += [
            "",
            "| weights | mode | MB | s for an answer | accuracy [95%] | calibration error |",
            "|" + "---|" * 6,
        ]
        sections += [f"| {' | '.join(variant_cells(row))} |" for row in contract.variants]
    sections += [
        "", "```python", "from aot import load_student", "", 'with load_student("THIS_FOLDER") as student:',
        '    print(student.ask("A question?").answer)', "```", "",
    ]  # fmt: skip
    return "\n".join(sections)


def variant_cells(row: VariantRow) -> tuple[str, ...]:
    """A row of the table of variants, as text."""
    accuracy, ece = row.accuracy, row.ece
    error = f"{ece.value:.3f} [{ece.low:.3f}, {ece.high:.3f}]" if ece else "not measured"
    return (
        row.variant, row.mode, f"{row.size_bytes / 1e6:.2f}", f"{row.seconds:.4f}",
        f"{accuracy.value:.1%} [{accuracy.low:.1%}, {accuracy.high:.1%}] n={accuracy.n}", error,
    )  # fmt: skip


def _head(contract: StudentContract) -> str:
    licence = contract.licences.get("student", "unknown")
    plain = licence if re.fullmatch(r"[\w.+-]+", licence) else "unknown"
    name = one_line(contract.name).replace("#", "")
    return f"---\nlicense: {plain}\n---\n\n# {name}\n\nIts answers can be wrong while sounding sure."


def _code(text: str) -> str:
    return f"`{one_line(text).replace('`', chr(39)) or ' '}`"


def export_adapter(arm: Path, out: Path) -> int:
    """Write the adapter of a trained arm to the new folder `out` in the plain layout of peft; returns its tensors.

    Raises:
        RunError: the arm has no adapter, something lies at `out`, or it cannot be written.
        CheckpointError: the arm is not whole.
    """
    contract = read_arm_contract(arm)
    if tuning_of(arm) != "lora":
        raise RunError(f"{arm} was fine-tuned as a whole and has no adapter; leave --adapter-only out")
    with whole_folder(out) as folder:
        for name in (WEIGHTS["lora"], SETTINGS["lora"]):
            shutil.copyfile(arm / name, folder / name)
        card = (
            f"# Adapter of {_code(contract.arm)}\n\nFor {_code(contract.base)} ({contract.base_digest}) and no other "
            f"base. Prompts must be those of template {contract.template_hash}.\n"
        )
        (folder / CARD).write_text(card, encoding="utf-8")
        with safe_open(folder / WEIGHTS["lora"], framework="np") as file:
            return len(file.keys())
