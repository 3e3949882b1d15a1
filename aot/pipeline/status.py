"""What `aot status` says, and the list of refused inputs; reads a run folder and changes nothing."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from aot import STAGES
from aot.records import Refusal
from aot.runs import RunFolder, read_rows, read_run_json

SILENT_S = 120.0
"""A running stage writes its counts or a line of log more often than this; if not, it may have been killed."""


def status_lines(root: Path) -> list[str]:
    """One line for each stage: state, done/total, time, and the last error."""
    run = RunFolder(root)
    stages = read_run_json(run)["stages"]
    logged_s = run.log.stat().st_mtime if run.log.exists() else 0.0
    return [_line(stage, stages.get(stage, {}), logged_s=logged_s) for stage in STAGES]


def refusal_lines(run: RunFolder, *, examples: int = 3) -> list[str]:
    """Refused inputs by reason, with a few names each."""
    refusals = list(read_rows(run.refusals, Refusal))
    lines = [f"{len(refusals)} inputs were refused (all of them in {run.refusals}):"]
    for reason, count in sorted(Counter(r.reason for r in refusals).items()):
        names = [r.item for r in refusals if r.reason == reason][:examples]
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
    if state in ("failed", "stopped"):
        parts.append(f"last error: {entry.get('error', 'unknown')}" if state == "failed" else entry.get("error", ""))
    return "  ".join(parts)
