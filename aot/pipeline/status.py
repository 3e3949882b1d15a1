"""What `aot status` says, and the list of refused inputs; reads a run folder and changes nothing."""

import time
from collections import Counter
from pathlib import Path

from aot import STAGES
from aot.records import Refusal
from aot.runs import RunFolder, read_rows, read_run_json


def status_lines(root: Path) -> list[str]:
    """One line for each stage: state, done/total, time, and the last error."""
    stages = read_run_json(RunFolder(root))["stages"]
    return [_line(stage, stages.get(stage, {"state": "waiting"})) for stage in STAGES]


def refusal_lines(run: RunFolder, *, examples: int = 3) -> list[str]:
    """Refused inputs by reason, with a few names each."""
    refusals = list(read_rows(run.refusals, Refusal))
    lines = [f"{len(refusals)} inputs were refused (all of them in {run.refusals}):"]
    for reason, count in sorted(Counter(r.reason for r in refusals).items()):
        names = [r.item for r in refusals if r.reason == reason][:examples]
        lines.append(f"  {reason}: {count} ({', '.join(names)}{', ...' if count > examples else ''})")
    return lines


def _line(stage: str, entry: dict[str, object]) -> str:
    state = str(entry["state"])
    parts = [f"{stage:9} {state:8}"]
    if "total" in entry:
        parts.append(f"{entry['done']}/{entry['total']}")
    if state == "running" and entry.get("done") and "total" in entry:
        # Wall time since the stage started, scaled by what is left; the first guess is rough.
        spent_s = time.time() - float(str(entry["started_s"]))
        done, total = int(str(entry["done"])), int(str(entry["total"]))
        parts.append(f"about {spent_s / done * (total - done):.0f} s left")
    if "seconds" in entry and state == "done":
        parts.append(f"{entry['seconds']} s")
    if state == "failed":
        parts.append(f"last error: {entry.get('error', 'unknown')}")
    return "  ".join(parts)
