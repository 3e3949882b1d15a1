"""What `aot status` says, and the list of refused inputs; reads a run folder and changes nothing."""

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from aot import STAGES
from aot.arms.jobs import is_finished, job_piece, plan_jobs
from aot.config import load_saved
from aot.display import counted
from aot.files.lease import look
from aot.files.pieces import Piece, read_state
from aot.files.run_folder import RunFolder, read_rows, read_run_json
from aot.files.shards import shard_states
from aot.files.traces import read_traces
from aot.records import Record, Refusal
from aot.run_records import FileEntry, PieceState

SILENT_S = 120.0
"""A running stage writes its counts or a line of log more often than this; if not, it may have been killed."""

LISTED = 20
"""Missing shards that are named."""

ODD_PREDICTIONS = {"missing": "count as wrong", "doubled": "the last one of each counts", "unknown": "do not count"}
"""Predictions that do not fit the questions, as the evaluate stage counts them, and what becomes of them."""


class PieceStatus(Record):
    """How far a shard of a stage, or a job of the train stage, is that works beside others."""

    name: str
    """Of a shard such as `3/8`, of a job such as `distilled:train`."""
    state: Literal["missing", "running", "done", "stopped", "failed"]
    done: int = 0
    total: int = 0
    """Questions of a shard, steps of a job."""
    seconds: float = 0.0
    updated_s: float = 0.0
    error: str = ""


class StageStatus(Record):
    """How far one of the six stages is."""

    stage: str
    state: Literal["waiting", "running", "done", "stopped", "failed"]
    done: int | None = None
    total: int | None = None
    """Both in what the stage counts: clips, questions, traces, steps; None while nothing was counted."""
    left_s: float | None = None
    """About how long it still takes; None where that is not known."""
    seconds: float | None = None
    """That it took."""
    started_s: float | None = None
    updated_s: float | None = None
    """Both in seconds since the epoch."""
    error: str = ""
    """What stopped it."""
    gate: str = ""
    """Why the run stopped after it, where too little was left to go on with."""
    taken_from: str = ""
    """The run folder that it was taken over from (run.reuse)."""
    counts: dict[str, int] = Field(default_factory=dict)
    """What the stage noted, such as `kept`, `dropped`, `refused`."""
    files: tuple[FileEntry, ...] = ()
    """What it published."""
    shards: tuple[PieceStatus, ...] = ()
    """Of a stage that was split."""


class HeldBy(Record):
    """The command that works on a run folder, or did when it ended unexpectedly."""

    who: str
    is_live: bool


class RunStatus(Record):
    """What `aot status --json` prints."""

    run: str
    stages: tuple[StageStatus, ...]
    jobs: tuple[PieceStatus, ...]
    """Jobs of the train stage that began alone."""
    held_by: HeldBy | None


def status_lines(root: Path) -> list[str]:
    """One line for each stage: state, done/total, time, and the last error."""
    run, stages = RunFolder(root), _stages(root)
    logged_s = run.log.stat().st_mtime if run.log.exists() else 0.0
    lines = []
    for stage in STAGES:
        lines.append(_line(stage, stages.get(stage, {}), logged_s=logged_s))
        if stages.get(stage, {}).get("state") != "done":
            lines += shard_lines(run, stage)
        if stage == "train" and stages.get(stage, {}).get("state") != "done":
            lines += job_lines(run)
    return [*lines, *_holder_lines(run.lease)]


def run_status(root: Path) -> RunStatus:
    """The same as a record: stages with their shards, jobs that began alone, and who holds the folder."""
    run, stages = RunFolder(root), _stages(root)
    begun = plan_jobs(run, load_saved(run.config)) if run.jobs.exists() else ()
    jobs = [_piece(job.name, state) for job in begun if (state := read_state(job_piece(run, job)))]
    seen = look(run.lease)
    held_by = HeldBy(who=seen.holder.line, is_live=seen.is_live(now_s=time.time())) if seen else None
    all_stages = tuple(_stage(run, stage, stages.get(stage, {})) for stage in STAGES)
    return RunStatus(run=str(root), stages=all_stages, jobs=tuple(jobs), held_by=held_by)


def _stage(run: RunFolder, stage: str, entry: dict[str, Any]) -> StageStatus:
    noted = {name: entry[name] for name in StageStatus.model_fields if entry.get(name) is not None}
    return StageStatus(**{
        "state": "waiting", **noted, "stage": stage,
        "counts": {name: value for name, value in entry.items() if name not in noted and isinstance(value, int)},
        "files": tuple(FileEntry(name=name, size=seal["bytes"], sha256=seal["sha256"])
                       for name, seal in entry.get("files", {}).items()),
        "shards": tuple(_piece(str(one.shard), one.state) for one in shard_states(run, stage)),
    })  # fmt: skip


def _piece(name: str, state: PieceState | None) -> PieceStatus:
    return PieceStatus(name=name, **(state.model_dump() if state else {"state": "missing"}))


def _stages(root: Path) -> dict[str, dict[str, Any]]:
    """What run.json says of each stage that began."""
    run = RunFolder(root)
    # While only shards of prepare have begun there is none: it is left to the command that puts them together.
    if shard_states(run, STAGES[0]) and not run.run_json.exists():
        return {}
    stages: dict[str, dict[str, Any]] = read_run_json(run)["stages"]
    return stages


def _holder_lines(path: Path) -> list[str]:
    """Who holds a lease, if anybody does."""
    try:
        seen = look(path)
    except OSError as error:
        return [f"who works on it cannot be seen: {path}: {error.strerror or error}"]
    if seen is None:
        return []
    now_s = time.time()
    if seen.holder.is_gone:
        return [f"was in use by {seen.holder.line}, which is gone; the same command goes on"]
    silent = f"last sign of life {max(0.0, now_s - seen.touched_s):.0f} s ago"
    return [f"{'in use' if seen.is_live(now_s=now_s) else 'was in use'} by {seen.holder.line}, {silent}"]


def shard_lines(run: RunFolder, stage: str) -> list[str]:
    """How far the shards of a stage are; nothing for a stage that was never split."""
    shards = shard_states(run, stage)
    if not shards:
        return []
    begun = [(one.shard, one.piece, one.state) for one in shards if one.state and not one.is_done]
    waiting = [str(one.shard) for one in shards if one.state is None]
    done = len(shards) - len(begun) - len(waiting)
    lines = [f"  shards: {done} of {len(shards)} done, {len(begun)} begun, {len(waiting)} missing"]
    for shard, piece, state in begun:
        lines += _piece_lines(str(shard), piece, state)
    if waiting:
        lines.append(f"  missing: {', '.join(waiting[:LISTED])}{', ...' if len(waiting) > LISTED else ''}")
    return lines


def job_lines(run: RunFolder) -> list[str]:
    """How far the jobs of the train stage are; nothing where none ran alone."""
    if not run.jobs.exists():
        return []
    jobs = plan_jobs(run, load_saved(run.config))
    left = [job for job in jobs if not is_finished(run, job)]
    begun = {job.name: (piece, state) for job in left if (state := read_state(piece := job_piece(run, job)))}
    lines = [f"  jobs: {len(jobs) - len(left)} of {len(jobs)} done, {len(begun)} begun"]
    return lines + [line for name, (piece, state) in begun.items() for line in _piece_lines(name, piece, state)]


def _piece_lines(name: str, piece: Piece, state: PieceState) -> list[str]:
    logged_s = piece.log.stat().st_mtime if piece.log.exists() else 0.0
    line = _line(name, state.model_dump(), logged_s=logged_s)
    return [f"  {line}", *(f"    {one}" for one in _holder_lines(piece.lease))]


def refusal_lines(run: RunFolder, *, examples: int = 3) -> list[str]:
    """Refused inputs and refused requests to chat models, by reason, with a few names each."""
    rows = read_rows(run.refusals, Refusal) if run.refusals.exists() else ()
    refused = [(one.reason, one.item) for one in rows]
    were = f"{counted(len(refused), 'input')} {'was' if len(refused) == 1 else 'were'} refused"
    lines = _reasons(f"{were} (listed in {run.refusals}):", refused, examples)
    stages = read_run_json(run)["stages"]
    if odd := {reason: n for reason in ODD_PREDICTIONS if (n := stages.get("evaluate", {}).get(reason))}:
        lines.append(odd_line(odd, run))
    if int(stages.get("generate", {}).get("refused", 0)):
        failed = (trace for trace in read_traces(run) if trace.error is not None)
        unanswered = [
            (t.error.reason or "refused", t.question_id) for t in failed if t.error and t.error.boundary == "chat"
        ]
        title = f"{counted(len(unanswered), 'trace')} failed because a chat model gave no reply (rows in {run.traces}):"
        lines += _reasons(title, unanswered, examples)
    return lines


def odd_line(odd: Mapping[str, int], run: RunFolder) -> str:
    """What is told about predictions that do not fit the questions; `odd` counts them by reason."""
    counts = "; ".join(f"{odd[why]} {why} ({meaning})" for why, meaning in ODD_PREDICTIONS.items() if odd.get(why))
    return f"predictions in {run.predictions}: {counts}; delete a damaged file and evaluate again to have it made anew"


def _reasons(title: str, refused: list[tuple[str, str]], examples: int) -> list[str]:
    lines = [title] if refused else []
    for reason, count in sorted(Counter(reason for reason, _ in refused).items()):
        names = [name for one, name in refused if one == reason][:examples]
        lines.append(f"  {reason}: {count} ({', '.join(names)}{', ...' if count > examples else ''})")
    return lines


def _line(stage: str, entry: dict[str, Any], *, logged_s: float) -> str:
    state = entry.get("state", "waiting")
    parts = [f"{stage:9} {state:8}"]
    if "total" in entry:
        parts.append(f"{entry.get('done', 0)}/{entry['total']}")
    silent_s = time.time() - max(entry.get("updated_s", 0.0), logged_s)
    if state == "running" and silent_s > SILENT_S:
        parts.append(f"running or killed: no news for {silent_s / 60:.0f} min; if killed, the same command goes on")
    elif state == "running" and entry.get("left_s") is not None:
        parts.append(f"about {entry['left_s']:.0f} s left")
    if "seconds" in entry and state == "done":
        parts.append(f"{entry['seconds']} s")
    if entry.get("gate"):
        parts.append(f"the run stopped after it: {entry['gate']}")
    if state in ("failed", "stopped"):
        parts.append(f"{'last error: ' if state == 'failed' else ''}{entry.get('error', 'unknown')}")
    return "  ".join(parts)
