"""Takes over finished stages of another run, as far as no setting that shaped them differs.

So thresholds of filters are moved, or another student is trained, without generating again:
`aot run CONFIG filter.min_words=12 run.dir=runs/strict run.reuse=runs/toy_kitchen`. Files that are published by rename
are linked where the disk allows it; those that are appended to are copied, so the other run stays as it is. No stage
counts as taken over before all of them are, and prepare is marked last: what a kill interrupts is done again.
"""

import logging
import os
import shutil
from pathlib import Path

from aot.config import RunConfig, differing_keys, load_saved
from aot.errors import RunError
from aot.files.run_folder import PUBLISHED, RunFolder, read_run_json, set_stage, stage_done, write_error
from aot.files.seals import BESIDE, check_seals
from aot.pipeline.stages import has_new_reviews

log = logging.getLogger(__name__)
SHAPED_BY = {
    "prepare": ("seed", "data.", "frames."),
    "generate": ("teacher.", "chat.", "vision_chat."),
    "filter": ("filter.", "judge_chat."),
}
"""The settings that shape each stage that can be taken over, besides those of earlier stages."""
ALSO = {**BESIDE, "prepare": ("clips", *BESIDE["prepare"]), "generate": ("reviews", *BESIDE["generate"])}
APPENDED = ("traces", "attempts", "faults", "reviews")
"""What a stage leaves behind, if anything, besides what it publishes; as properties of RunFolder."""


def take_over(run: RunFolder, config: RunConfig) -> list[str]:
    """The stages that were taken over from `run.reuse`, now finished in `run`.

    Raises:
        RunError: the other folder is no run, not even its first stage fits, a file of it is damaged, or the disk
            refuses one.
    """
    other = RunFolder(Path(str(config.run.reuse)))
    if not other.config.exists():
        raise RunError(f"run.reuse={other.root} is no run folder: it holds no {other.config.name}")
    different = differing_keys(load_saved(other.config), config)
    taken: list[str] = []
    for stage, shapers in SHAPED_BY.items():
        changed = [key for key in different if key.startswith(shapers)]
        reviewed = stage == "filter" and stage_done(other, stage) and has_new_reviews(other)
        if changed or reviewed or not stage_done(other, stage):
            reason = f"other settings: {', '.join(changed)}" if changed else "it is not finished there"
            reason = "people have reviewed traces since" if reviewed and not changed else reason
            log.info("%s is not taken over from %s (%s)", stage, other.root, reason)
            break
        check_seals(other, (stage,))
        _link(other, run, stage)
        taken.append(stage)
    if not taken:
        raise RunError(f"nothing of run.reuse={other.root} can be taken over ({reason}); leave run.reuse out")
    for stage in reversed(taken):
        facts = {k: v for k, v in read_run_json(other)["stages"][stage].items() if k not in ("state", "updated_s")}
        set_stage(run, stage, "done", **{**facts, "taken_from": str(other.root)})
        log.info("%s: taken over from %s", stage, other.root)
    return taken


def _link(other: RunFolder, run: RunFolder, stage: str) -> None:
    for name in (*PUBLISHED[stage], *ALSO.get(stage, ())):
        source, target = getattr(other, name), getattr(run, name)
        one_file = shutil.copy2 if name in APPENDED else _link_or_copy
        try:
            if source.is_dir():
                shutil.copytree(source, target, copy_function=one_file, dirs_exist_ok=True)
            elif source.exists():
                _link_or_copy(source, target)
        except OSError as error:
            raise write_error(target, error) from error


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
