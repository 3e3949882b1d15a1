"""Looks after `generate` and `filter` whether it is worth going on: what is trained must have something to learn from.

A gate reads what a stage published and the two settings it is about (teacher.max_failed_share, filter.min_kept), which
may change from one command to the next in the same run folder. It says loudly what failed even where it lets pass.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ConfigDict, Field, ValidationError

from aot.config import ClipData, KitchenData, RulesTeacher, RunConfig, TeacherConfig, TextData
from aot.errors import GuardStop, SourceError
from aot.files.run_folder import RunFolder, read_rows, read_run_json, set_stage
from aot.generate.failures import clipped, failure_lines
from aot.records import Record, Verdict
from aot.run_records import FailedTraces, Funnel

log = logging.getLogger(__name__)
LISTED = 3
"""Reasons that are told where the run goes on; a stop tells TOLD."""
TOLD = 10
FEW, FEW_SHARE = 10, 0.1
"""Fewer kept training traces, or a smaller share of them, are told where the run goes on."""
KITCHEN_ONLY = (
    "The default tools know the objects and steps of the synthetic kitchen only, and the rules seven kinds of "
    "question. Other clips need one of: teacher.appearance, a file that says what your objects look like; "
    "teacher.tools, models in place of the pixel tools; teacher.planner=chat, a model that plans "
    "(docs/plain_data.md, docs/tools.md, docs/chat.md)."
)
Stored = TypeVar("Stored", bound=Record)


class _Yield(Record):
    """What a gate reads of teacher.json, which is the same behind both doors."""

    model_config = ConfigDict(extra="ignore")

    status: dict[str, int] = Field(default_factory=dict)
    train_traces: int = 0
    train_failed: int = 0
    failed_traces: tuple[FailedTraces, ...] = ()


def check_gate(run: RunFolder, config: RunConfig, stage: str) -> None:
    """Look whether what `stage` published is enough to go on with, and say what failed; a stop is noted in run.json.

    Raises:
        GuardStop: it is not; the message lists why, and what to do.
    """
    stop = next(_stop_lines(run, config, stage), "")
    if stop != read_run_json(run)["stages"].get(stage, {}).get("gate", ""):
        set_stage(run, stage, "done", gate=stop)
    require_gate(run, config, stage)
    _tell(run, stage)


def require_gate(run: RunFolder, config: RunConfig, stage: str) -> None:
    """Look the same, for who works beside others and notes nothing in run.json.

    Raises:
        GuardStop: as there.
    """
    stop, *lines = list(_stop_lines(run, config, stage)) or [""]
    if stop:
        raise GuardStop(stop, lines=lines)


def _stop_lines(run: RunFolder, config: RunConfig, stage: str) -> Iterator[str]:
    is_strange = knows_only_the_kitchen(config.teacher, config.data)
    if stage == "generate":
        return _failed_too_often(run, limit=config.teacher.max_failed_share, is_strange=is_strange)
    return _kept_too_few(run, least=config.filter.min_kept, is_strange=is_strange) if stage == "filter" else iter(())


def _tell(run: RunFolder, stage: str) -> None:
    """Log why traces failed, or why few of them were kept."""
    if stage == "generate":
        teacher = _yield_of(run)
        if failed := sum(group.count for group in teacher.failed_traces):
            log.info("%d of %d traces failed:", failed, sum(teacher.status.values()))
            for line in failure_lines(teacher.failed_traces, most=LISTED):
                log.info("%s", line)
    elif stage == "filter":
        funnel = _read(run.funnel, Funnel)
        if funnel.traces and funnel.kept < max(FEW, FEW_SHARE * funnel.traces):
            log.warning("only %d of %d training traces were kept; most were dropped as", funnel.kept, funnel.traces)
            for line in drop_lines(run, funnel, most=LISTED):
                log.warning("%s", line)


def _failed_too_often(run: RunFolder, *, limit: float, is_strange: bool) -> Iterator[str]:
    teacher = _yield_of(run)
    traces, failed = teacher.train_traces, teacher.train_failed
    if not traces or failed <= limit * traces:
        return
    yield f"{failed} of {traces} training traces failed, and teacher.max_failed_share is {limit:g}; nothing was trained"
    groups = (group for group in teacher.failed_traces if group.training)
    of_training = [group.model_copy(update={"count": group.training}) for group in groups]
    yield from failure_lines(sorted(of_training, key=lambda group: -group.count), most=TOLD)
    yield from _advice(run, is_strange=is_strange)
    yield "To go on with what there is, give the same command with teacher.max_failed_share=1."


def _kept_too_few(run: RunFolder, *, least: int, is_strange: bool) -> Iterator[str]:
    funnel = _read(run.funnel, Funnel)
    if funnel.kept >= least:
        return
    few = f"{funnel.kept} of {funnel.traces} training traces were kept"
    yield f"{few}, and filter.min_kept is {least}; nothing was trained"
    yield from drop_lines(run, funnel, most=TOLD)
    yield from _advice(run, is_strange=is_strange and _yield_of(run).train_failed > 0)
    if funnel.kept:
        yield f"To go on with what there is, give the same command with filter.min_kept={funnel.kept}."


def _advice(run: RunFolder, *, is_strange: bool) -> Iterator[str]:
    """What to do; first of all where traces failed because the clips are strange to the tools."""
    if is_strange:
        yield KITCHEN_ONLY
    yield (
        "Settings of teacher and filters belong to a run folder: try others with run.dir=ANOTHER "
        f"run.reuse={run.root}, which takes over every stage that they do not change."
    )


def knows_only_the_kitchen(teacher: TeacherConfig, data: ClipData | TextData) -> bool:
    """Whether the teacher looks at other clips than the synthetic kitchen's with tools that know nothing else."""
    if not isinstance(teacher, RulesTeacher) or isinstance(data, KitchenData):
        return False
    return not teacher.appearance and bool(teacher.tools.behind("pixels"))


def drop_lines(run: RunFolder, funnel: Funnel, *, most: int) -> list[str]:
    """One indented line for each of the most frequent first reasons to drop a trace, with an example of it."""
    reasons = sorted((row for row in funnel.reasons if row.first), key=lambda row: (-row.first, row.filter, row.reason))
    wanted = {(row.filter, row.reason) for row in reasons[:most]}
    examples: dict[tuple[str, str], str] = {}
    for verdict in read_rows(run.verdicts, Verdict) if run.verdicts.exists() and wanted else ():
        key = (verdict.filter, verdict.reason)
        if not verdict.keep and key in wanted and key not in examples:
            examples[key] = clipped(": ".join(filter(None, (verdict.question_id, verdict.detail))), 160)
    lines = [
        f"  {row.filter}: {row.reason}: {row.first}, such as {examples.get((row.filter, row.reason), 'none')}"
        for row in reasons[:most]
    ]
    return lines + ([f"  and {len(reasons) - most} more"] if len(reasons) > most else [])


def _yield_of(run: RunFolder) -> _Yield:
    return _read(run.teacher_stats, _Yield)


def _read(path: Path, model: type[Stored]) -> Stored:
    try:
        return model.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        first_line = str(error).splitlines()[0]
        raise SourceError(f"cannot read {path} ({first_line}); delete it and give the same command again") from None
