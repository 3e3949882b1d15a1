"""What `aot export` does and says: an arm of a run as a folder, or its adapter alone, or a server that is compared."""

import difflib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from aot.config import load_saved, teacher_chats
from aot.display import one_line
from aot.errors import ConfigError, RunError
from aot.files.run_folder import RunFolder, read_rows, read_run_json
from aot.records import Question
from aot.reporting.card import measured_limits
from aot.reporting.load import RunData, load_run
from aot.reporting.students import read_learning
from aot.served_records import StudentContract, StudentOrigin
from aot.serving.export.arm import BASE, ExportOptions, export_arm, same_export
from aot.serving.export.folder import VARIANT_COLUMNS, export_adapter, form_of, variant_cells
from aot.serving.export.probe import PROBABILITY_GAP, SAME_SHARE, probe_questions
from aot.serving.export.server_probe import server_likeness

TEACHERS = {
    "rules": "an agent that plans tool calls by rules",
    "procedural": "a procedure that solves problems step by step",
    "given": "the solutions that came with the data set",
}
"""Planners without a language model, in words."""


def arm_of(root: Path, name: str | None) -> str:
    """The arm of a run that is meant: by name, or the run's main arm, as its report names it.

    Raises:
        RunError: `root` is no run folder.
        ConfigError: the run has no such arm.
    """
    run = RunFolder(root)
    read_run_json(run)
    arms = load_saved(run.config).train.arms
    names = [*(arm.name for arm in arms), BASE]
    if name is None:
        return read_learning(run, arms).lead or names[0]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
        raise ConfigError(f"the run {root} has no arm {name!r}; {hint}")
    return name


def export_run(root: Path, arm: str, out: Path, options: ExportOptions) -> tuple[StudentContract, bool]:
    """The contract of the exported arm, and whether the same export lay at `out` before, so that nothing was done.

    Raises:
        RunError: something else lies at `out`, it lies in the run folder, or it cannot be written.
        CheckpointError: the arm cannot be loaded, or the export does not answer as it does.
        GuardStop: the disk is full.
    """
    run = RunFolder(root)
    _check_outside(root, out)
    if there := same_export(run, arm, out, options):
        return there, True
    data = load_run(run, load_saved(run.config))
    card = run.model_card.read_text(encoding="utf-8") if run.model_card.exists() else ""
    limits = measured_limits(data) if arm == data.learning.main else []
    limits = [one for one in limits if not one.startswith("It looks at ")]  # the contract says that for every arm
    options = replace(options, limits=tuple(map(str, limits)), card=options.card or card, origin=origin_of(data, arm))
    return export_arm(run, arm, out, options), False


def origin_of(data: RunData, arm: str) -> StudentOrigin:
    """Where what an arm of a run knows comes from, as far as its record says what it saw."""
    questions, rationales = data.learning.seen.get(arm, (0, 0))
    is_distilled = bool(rationales)
    planner = data.config.teacher.planner
    models = dict.fromkeys(section.model for section in teacher_chats(data.config) if section)
    teacher = f"the language model {' with '.join(models)}" if models else TEACHERS.get(planner, planner)
    return StudentOrigin(
        distilled=is_distilled, teacher=one_line(teacher) if is_distilled else "", data=data.config.data.dataset,
        questions=questions or 0, rationales=rationales or 0,
    )  # fmt: skip


def export_adapter_of(root: Path, arm: str, out: Path) -> list[str]:
    """Write the adapter of an arm alone, as peft and servers of adapters read it; returns what to print.

    Raises:
        RunError: the arm has no adapter, something lies at `out`, it lies in the run folder, or it cannot be written.
        CheckpointError: the arm cannot be read.
    """
    if arm == BASE:
        raise RunError("the base has no adapter; name an arm that was trained, or leave --adapter-only out")
    _check_outside(root, out)
    count = export_adapter(RunFolder(root).arm(arm), out)
    return [f"adapter of {arm} of {root}: {out}, {count} tensors; it goes with the base that its card names"]


def _check_outside(root: Path, out: Path) -> None:
    """Keep exports out of the run folder, whose content is the run's alone."""
    if out.resolve().is_relative_to(root.resolve()) and not out.is_file():
        raise RunError(f"{out} lies in the run folder {root}; give a folder outside of it, such as exports/{root.name}")


def export_lines(contract: StudentContract, root: Path, out: Path, *, was_there: bool) -> Iterator[str]:
    """What came of an export, for the terminal."""
    size = sum(one.size for one in contract.files) / 1e6
    again = "lies there already, whole; nothing was done" if was_there else "done"
    yield f"{contract.arm} of {root}: {out} ({form_of(contract)}, {size:.2f} MB, contract {contract.digest()}): {again}"
    if proof := contract.proof:
        gap = f"of choices {proof.largest_gap:.2g} (n={proof.decided}), " if proof.decided else ""
        yield (
            f"proof: a fresh process gave {proof.same_replies} of {proof.replies} greedy replies to {proof.questions} "
            f"questions; largest gap between probabilities {gap}of written tokens {proof.largest_token_gap:.2g}; "
            f"bounds {SAME_SHARE:.0%} and {PROBABILITY_GAP:g}"
        )
        if proof.cast_same_replies is not None:
            gap = (
                f", largest gap between probabilities of choices {proof.cast_largest_gap:.2g}" if proof.decided else ""
            )
            yield (
                f"{form_of(contract)} beside the run in float32: {proof.cast_same_replies} of {proof.replies} replies "
                f"are the same, {proof.cast_same_answers} answers{gap}"
            )
    for row in contract.latency:
        yield (
            f"{row.mode}: p50 {row.p50_s:.3f} s, p95 {row.p95_s:.3f} s, p99 {row.p99_s:.3f} s, n={row.n}, {row.machine}"
        )
    if contract.variants:
        table = [VARIANT_COLUMNS, *(variant_cells(row) for row in contract.variants)]
        widths = [max(len(row[i]) for row in table) for i in range(len(VARIANT_COLUMNS))]
        for cells in table:
            yield "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def check_server(root: Path, out: Path, *, url: str, model: str, probes: int) -> tuple[list[str], int]:
    """What to print of a server beside the export at `out`, and the exit code: 3 where too few replies are the same.

    Raises:
        CheckpointError: the export cannot be loaded.
        ConfigError: the server cannot be asked at all.
    """
    run = RunFolder(root)
    split = load_saved(run.config).evaluate.splits[0]
    questions = probe_questions([q for q in read_rows(run.questions, Question) if q.split == split], most=probes)
    frames = run.frames if any(q.media for q in questions) else None
    alike = server_likeness(out, questions, frames=frames, url=url, model=model)
    share = f" ({alike.same / alike.replies:.1%})" if alike.replies else ""
    lines = [f"server {url}: {alike.same} of {alike.replies} greedy replies{share} are those of the export"]
    if alike.left_out:
        lines.append(f"  {alike.left_out} replies were not compared: the export itself cut them off or gave none")
    lines += [f"  {count} requests got no reply: {reason}" for reason, count in Counter(alike.refused).items()]
    lines += [f"  first that differs: {alike.differs}"] if alike.differs else []
    return lines, 0 if alike.is_enough else 3
