"""`aot publish`: the folder is written beside the wanted place, completed with its manifest, and gets its name last.

Order matters: the student and the data first, then papers that name their hashes, then the manifest over everything.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aot.config import load_saved
from aot.display import counted, one_line
from aot.errors import CheckpointError, RunError
from aot.files.run_folder import ARM_MARKER, CONTRACT, LESSONS, RunFolder, publish, read_run_json, row_files
from aot.files.seals import check_seals
from aot.pipeline.data.export import Wanted as WantedData
from aot.pipeline.data.export import export_data
from aot.pipeline.publication import chain as chaining
from aot.pipeline.publication.bom import bill_of_materials, json_text
from aot.pipeline.publication.chain import (
    BOM,
    CARD,
    CLIPS,
    CROISSANT,
    DATA,
    NOTICE,
    STUDENT,
    ChainFile,
    LinkName,
    Publication,
)
from aot.pipeline.publication.croissant import croissant_of
from aot.pipeline.publication.licences import settled
from aot.pipeline.publication.papers import Facts, model_card, notice
from aot.pipeline.publication.validators import finding_line, validated
from aot.pipeline.student.export import arm_of, export_run
from aot.reporting.card import card_text
from aot.reporting.load import load_run
from aot.run_records import FileEntry
from aot.serving.contract import read_contract
from aot.serving.export.arm import BASE, ExportOptions
from aot.serving.export.folder import check_free, whole_folder
from aot.student.model.contract import WEIGHTS, tuning_of
from aot.student.model.licence import licences_of

MOST_NAMED = 10
"""Problems that a check prints."""


@dataclass(frozen=True)
class Wanted:
    """How a run is published."""

    name: str = ""
    """Of the student, as servers and answers name it; empty takes the names of run and arm."""
    licences: tuple[str, ...] = ()
    """Statements such as `data=CC-BY-4.0`, for what no file says."""
    publisher: str = ""
    """Who publishes, as papers name them."""
    images: bool = True
    """Whether frames go along as files."""
    probes: int = 50
    """Questions by which the export is proved, at most."""


def publish_run(root: Path, out: Path, wanted: Wanted) -> tuple[Publication, bool]:
    """What was published, and whether it lay at `out` before, whole, so that nothing was done.

    Raises:
        RunError: the run is not trained, or was altered; something else lies at `out`, or it lies in the run.
        ConfigError: a licence is unknown, or a statement about one is wrong.
        CheckpointError: the student cannot be loaded, or its export does not answer as it does.
        GuardStop: the disk is full; nothing is left at `out`.
    """
    run = RunFolder(root)
    arm = arm_of(root, None)
    if out.resolve().is_relative_to(root.resolve()):
        raise RunError(
            f"{out} lies in the run folder {root}; give a folder outside of it, such as published/{root.name}"
        )
    if arm == BASE or not (run.arm(arm) / ARM_MARKER).exists():
        raise RunError(f"{root} has no trained student yet; do its stages up to train first: aot run CONFIG")
    config = load_saved(run.config)
    licences, stated = settled(licences_of(config.student.base, config.data.dataset), wanted.licences)
    check_seals(run, ("prepare", "generate", "filter", "train", "evaluate"))
    if (out / chaining.MANIFEST_HASH).exists():
        return _there(root, arm, out, licences), True
    check_free(out)
    data = load_run(run, config)
    with whole_folder(out) as folder:
        card = card_text(data, licence=(licences["student"], f"{licences['student']}."))
        options = ExportOptions(name=wanted.name, probes=wanted.probes, licences=licences, card=card)
        contract, _ = export_run(root, arm, folder / STUDENT, options)
        arms = (arm,) if (run.arm(arm) / LESSONS).exists() else ()
        export_data(root, folder / DATA, WantedData(arms=arms, images=wanted.images, licence=licences["data"]))
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        facts = Facts(data, contract, licences, stated, one_line(wanted.publisher), made)
        return _with_papers(facts, folder), False


def _with_papers(facts: Facts, folder: Path) -> Publication:
    """Write all papers, and the manifest last."""
    data, contract = facts.data, facts.contract
    if data.has_frames:
        _write_clips(data.run, folder / CLIPS)
    entries = list(chaining.folder_entries(folder))
    parts = _chain_parts(data.run, contract.arm, entries)
    chain = chaining.chained(parts)
    publish(folder / BOM, json_text(bill_of_materials(facts, entries, chain)))
    publish(folder / CROISSANT, json_text(croissant_of(facts, folder, entries, chain)))
    publish(folder / NOTICE, notice(facts))
    publish(folder / CARD, model_card(facts, chain))
    entries = list(chaining.folder_entries(folder))
    papers = chaining.files_here(entries, (CARD, NOTICE, BOM, CROISSANT, f"{DATA}/{CARD}"))
    publication = Publication(
        name=contract.name, run=facts.run_name, arm=contract.arm, licences=facts.licences, stated=facts.stated,
        made=facts.made, chain=chaining.chained([*parts, ("card", papers)]), files=tuple(entries),
    )  # fmt: skip
    chaining.write_manifest(folder, publication)
    return publication


def _chain_parts(run: RunFolder, arm: str, entries: Sequence[FileEntry]) -> list[tuple[LinkName, list[ChainFile]]]:
    """The files of each link up to the student's."""
    here = chaining.files_here
    folder = run.arm(arm)
    weights = folder / WEIGHTS[tuning_of(folder)]
    parts: list[tuple[LinkName, list[ChainFile]]] = [
        ("clips", [*_run_files(run, run.frames.glob("*.json*")), *here(entries, (CLIPS,))]),
        ("questions", _run_files(run, (run.questions, run.annotations, run.book))),
        ("traces", _run_files(run, row_files(run.traces))),
        ("lessons", [*_run_files(run, (run.kept, folder / LESSONS)), *here(entries, (f"{DATA}/",))]),
        ("adapter", [*_run_files(run, (weights,)), *here(entries, (f"{STUDENT}/",))]),
    ]
    return [(name, files) for name, files in parts if files or name != "clips"]


def _run_files(run: RunFolder, paths: Iterator[Path] | Sequence[Path]) -> list[ChainFile]:
    return chaining.run_files(run.root, sorted(paths))


def _write_clips(run: RunFolder, path: Path) -> None:
    """A line for each clip: the hash of its file, and one over the checksums and times of its stored frames."""
    from video_data.store.shards import FrameStore  # text needs no video package

    store, lines = FrameStore(run.frames), []
    for uri in sorted(store.uris()):
        clip = store.clip(uri)
        frames = json.dumps([clip.times_s, clip.frames_crc32], separators=(",", ":")).encode()
        row = {
            "clip": one_line(uri), "sha256": clip.sha256, "frames": len(clip.times_s),
            "frames_sha256": hashlib.sha256(frames).hexdigest(),
        }  # fmt: skip
        lines.append(json.dumps(row) + "\n")
    publish(path, "".join(lines))


def _there(root: Path, arm: str, out: Path, licences: dict[str, str]) -> Publication:
    """What lies at `out`, if it is this run's and whole.

    Raises:
        RunError: it is not.
    """
    publication = check_folder(out, root=root)
    if (publication.arm, publication.licences) != (arm, licences):
        raise RunError(f"{out} holds arm {publication.arm} under other licences; give a new folder")
    return publication


def check_folder(out: Path, *, root: Path | None = None) -> Publication:
    """The manifest of a published folder in which nothing was changed, and whose chain is that of the run at `root`.

    Raises:
        RunError: something was; the error lists it.
    """
    publication = chaining.read_manifest(out)
    problems = chaining.problems_of(out, publication)
    if not problems:
        problems = _learned_problems(out, publication)
    if problems:
        more = [f"and {len(problems) - MOST_NAMED} more"] if len(problems) > MOST_NAMED else []
        raise RunError(
            f"{out} is not what was published: {counted(len(problems), 'problem')}; get it again, or publish it anew",
            lines=[*problems[:MOST_NAMED], *more],
        )
    if root is not None:
        read_run_json(RunFolder(root))
        if strange := chaining.strange_links(publication, root):
            raise RunError(
                f"{out} is whole, but was not published from {root} as it is now; give the run {publication.run}, or "
                f"publish this one to a new folder. First: {strange[0]}"
            )
    return publication


def _learned_problems(out: Path, publication: Publication) -> list[str]:
    """Whether the student says that it was made from the weights of the chain."""
    try:
        contract = read_contract(out / STUDENT, check_files=False)
    except CheckpointError as error:
        return [str(error.args[0])]
    adapters = [one.sha256 for link in publication.chain if link.name == "adapter" for one in link.files
                if one.place == "run"]  # fmt: skip
    fits = any(digest.startswith(contract.adapter_digest) for digest in adapters) and bool(contract.adapter_digest)
    return [] if fits else [f"{STUDENT}/{CONTRACT} names other weights than the chain"]


def check_lines(out: Path, publication: Publication, *, root: Path | None) -> tuple[list[str], bool]:
    """What to print of a folder that was found whole, and whether the official validators find no fault either."""
    findings = validated(out)
    files = counted(len(publication.files), "file")
    with_run = f", as they are in {root}" if root else ""
    lines = [
        f"{out}: {files} as published, {len(publication.chain)} links of the chain follow from each other{with_run}",
        *map(finding_line, findings),
        f"manifest {chaining.manifest_hash(out)}",
    ]
    return lines, not any(one.errors for one in findings)


def published_lines(publication: Publication, out: Path, *, was_there: bool) -> Iterator[str]:
    """What came of publishing, for the terminal."""
    size = sum(one.size for one in publication.files) / 1e6
    again = "lies there already, whole; nothing was done" if was_there else "done"
    yield f"{publication.name} of {publication.run}: {out} ({len(publication.files)} files, {size:.2f} MB): {again}"
    said = (f"{what} {name}{' (stated)' if what in publication.stated else ''}"
            for what, name in publication.licences.items())  # fmt: skip
    yield f"licences: {', '.join(said)}"
    for link in publication.chain:
        yield f"{link.name:9} {link.sha256}"
    yield f"manifest  {chaining.manifest_hash(out)}: keep it in a second place, and compare"
