"""The verbs of runs: all stages, one of them, its parts, and what is read from run folders."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aot import STAGES
from aot.cli.terminal import done_anyway, resumable, tell, tell_error, tell_record, told_as_stop
from aot.errors import ConfigError

if TYPE_CHECKING:
    from aot.config import RunConfig

ConfigArgument = Annotated[
    Path, typer.Argument(help="YAML file of the run, for example configs/video/toy_kitchen.yaml")
]
OverridesArgument = Annotated[list[str] | None, typer.Argument(metavar="[KEY.SUB=VALUE]...", help="Settings to change")]
StagesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[STAGE]... [KEY.SUB=VALUE]...", help="Stages to do, if not all; settings to change"),
]
LimitOption = Annotated[int | None, typer.Option("--limit", help="Use at most this many clips of each split.", min=1)]
MaxCostOption = Annotated[
    float | None, typer.Option("--max-cost", help="Stop, resumable, when chat models have cost this much.", min=0)
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="I/N", help="Only this share of the work, I from 0 to N-1; `rank`: that of this process."
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print counts, estimates and what is missing; start nothing.")
]
SettingsOption = Annotated[bool, typer.Option("--settings", help="With --dry-run: print every setting, too.")]


def run_command(
    config: ConfigArgument,
    overrides: StagesArgument = None,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    max_cost: MaxCostOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the dry run as JSON.")] = False,
    with_settings: SettingsOption = False,
) -> None:
    """Do all stages, or those named: prepare, generate, filter, train, evaluate, report."""
    stages = [word for word in overrides or () if word in STAGES]
    settings = [word for word in overrides or () if word not in STAGES]
    if stages and tuple(stages) != STAGES[STAGES.index(stages[0]) :][: len(stages)]:
        raise ConfigError(f"stages are done in this order, without gaps: {', '.join(STAGES)}; got {', '.join(stages)}")
    if as_json and not dry_run:
        raise ConfigError("--json is for --dry-run: a run tells how it goes on standard error and in its folder")
    if with_settings and not dry_run:
        raise ConfigError("--settings prints what a run would use; give it with --dry-run")
    work = _work(
        config, settings, limit=limit, dry_run=dry_run, max_cost=max_cost, as_json=as_json, with_settings=with_settings
    )
    if work:
        with told_as_stop():
            ended = work(stages=tuple(stages) or STAGES)
        _tell_end(*ended)


def generate_command(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    max_cost: MaxCostOption = None,
    shard: ShardOption = None,
) -> None:
    """Do the generate stage of a run, or one shard of it."""
    if work := _work(config, with_shard(overrides, shard), limit=limit, dry_run=dry_run, max_cost=max_cost):
        with told_as_stop():
            ended = work(stages=("generate",))
        _tell_end(*ended)


def train_command(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    job: Annotated[
        str | None, typer.Option("--job", metavar="NAME", help="Only this job of those that `aot jobs CONFIG` lists.")
    ] = None,
) -> None:
    """Do the train stage of a run, or one job of it."""
    if dry_run and job is not None:
        raise ConfigError("--dry-run plans a whole run, --job does a part of one; leave one of them out")
    if work := _work(config, overrides, limit=limit, dry_run=dry_run):
        with told_as_stop():
            ended = work(stages=("train",), job=job)
        if job is None:  # a report that is there was made before this job
            _tell_end(*ended)


def _stage_command(stage: str) -> Callable[..., None]:
    def command(
        config: ConfigArgument,
        overrides: OverridesArgument = None,
        limit: LimitOption = None,
        dry_run: DryRunOption = False,
    ) -> None:
        if work := _work(config, overrides, limit=limit, dry_run=dry_run):
            with told_as_stop():
                ended = work(stages=(stage,))
            _tell_end(*ended)

    command.__doc__ = f"Do the {stage} stage of a run."
    return command


def _split_command(stage: str) -> Callable[..., None]:
    def command(
        config: ConfigArgument,
        overrides: OverridesArgument = None,
        limit: LimitOption = None,
        dry_run: DryRunOption = False,
        shard: ShardOption = None,
    ) -> None:
        if work := _work(config, with_shard(overrides, shard), limit=limit, dry_run=dry_run):
            with told_as_stop():
                ended = work(stages=(stage,))
            if shard is None:  # a report that is there was made before this shard
                _tell_end(*ended)

    command.__doc__ = f"Do the {stage} stage of a run, or one shard of it."
    return command


_OF_ONE_PIECE: dict[str, Callable[..., None]] = {
    "prepare": _split_command("prepare"), "generate": generate_command, "train": train_command,
    "evaluate": _split_command("evaluate"),
}  # fmt: skip
STAGE_COMMANDS = {stage: _OF_ONE_PIECE.get(stage) or _stage_command(stage) for stage in STAGES}
RANKS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))
"""Environment variables in which torchrun and srun tell a process its number, and how many there are."""


def with_shard(overrides: list[str] | None, shard: str | None) -> list[str]:
    """The settings with that of `--shard`.

    Raises:
        ConfigError: `rank` was given, and nobody told this process its rank.
    """
    if shard == "rank":
        told_by = next((names for names in RANKS if all(name in os.environ for name in names)), None)
        if told_by is None:
            words = " nor ".join("/".join(names) for names in RANKS)
            raise ConfigError(f"--shard rank: neither {words} is set; start it by torchrun or srun, or give I/N")
        shard = "/".join(os.environ[name] for name in told_by)
    return [*(overrides or []), *([f"run.shard={shard}"] if shard else [])]


def jobs(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    limit: LimitOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the jobs as JSON.")] = False,
) -> None:
    """List the jobs of the train stage: what each needs and makes, and how far it is."""
    from aot.pipeline.commands.jobs import jobs_lines, list_jobs

    loaded = _loaded(config, overrides, limit=limit)
    if as_json:
        tell_record(list_jobs(loaded, config))
    else:
        tell(jobs_lines(loaded, config))


def plan(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    limit: LimitOption = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="Such as a100-80gb, h100 or cpu.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Print parameters, memory, steps, hours and disk of a run by its config alone; needs no data and no weights."""
    from aot.pipeline.commands.plan import config_plan, config_plan_lines
    from aot.pipeline.planning.lines import plan_numbers

    loaded = _loaded(config, overrides, limit=limit)
    if as_json:
        tell_record(plan_numbers(config_plan(loaded, device=device), loaded))
    else:
        tell(config_plan_lines(loaded, device=device))


def status(
    run: Annotated[Path, typer.Argument(help="A run folder, for example runs/toy_kitchen")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the states as JSON.")] = False,
) -> None:
    """Show each stage: state, done/total, time left, last error."""
    from aot.pipeline.commands.status import run_status, status_lines

    if as_json:
        tell_record(run_status(run))
    else:
        tell(status_lines(run))


def baselines(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    limit: LimitOption = None,
    noise: Annotated[
        str,
        typer.Option(help="Shares of right recognitions, such as 0.66,0.73,0.85: histories with simulated errors too."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Print what label-only baselines reach on the questions of a config; needs no clip."""
    from aot.pipeline.commands.baselines import baseline_lines, measure_baselines
    from aot.pipeline.commands.noise import read_levels

    levels = read_levels(noise) if noise else ()
    loaded = _loaded(config, overrides, limit=limit)
    if as_json:
        tell_record(measure_baselines(loaded, config, noise=levels))
    else:
        tell(baseline_lines(loaded, config, noise=levels))


def compare(
    run_a: Annotated[Path, typer.Argument(help="A finished run folder")],
    run_b: Annotated[Path, typer.Argument(help="Another one, or the same for two of its arms")],
    arm: Annotated[
        str | None, typer.Option("--arm", help="Arm of the first run, NAME or NAME:MODE; its main arm if not given.")
    ] = None,
    arm_b: Annotated[
        str | None, typer.Option("--arm-b", help="Arm of the second run; the same arm if it has it.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with the frames of each flip, too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare two arms question by question: flips, kinds, paired tests, cost."""
    from aot.pipeline.commands.compare import compare_runs, comparison_lines, comparison_page

    comparison = compare_runs(run_a, run_b, arm=arm, arm_b=arm_b)
    if html:
        comparison_page(comparison, html)
    if as_json:
        tell_record(comparison)
    else:
        tell(comparison_lines(comparison))


def init(
    kind: Annotated[str | None, typer.Argument(help="video, text, chat or real")] = None,
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="A new folder")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Name the configs that come along.")] = False,
) -> None:
    """Make a folder with a commented config that runs as it is, and a sample of data to put your own in place of."""
    from aot.pipeline.commands.starter import KINDS, listed_configs, start_folder

    if listed:
        tell(listed_configs())
    elif kind is None or folder is None:
        raise ConfigError(f"give a kind and a folder, such as `aot init video my_clips`; kinds: {', '.join(KINDS)}")
    else:
        tell(start_folder(kind, folder))


def doctor(
    overrides: OverridesArgument = None,
    offline: Annotated[
        Path | None,
        typer.Option("--offline", metavar="CONFIG", help="Try this config, or run folder, where no network is."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="CONFIG", help="Look over all that this config needs.")
    ] = None,
) -> None:
    """Check this installation, or a config, and print a fix for each trouble."""
    from aot.pipeline.commands.doctor import look_around

    if config is not None:
        if offline is not None:
            raise ConfigError("--config and --offline look at one config each; give one of them")
        _tell_plan(_loaded(config, overrides, limit=None), config, as_json=as_json)
        return
    if offline is not None:
        from aot.pipeline.data.offline import check_offline

        tried = check_offline(offline, tuple(overrides or ()))
        if as_json:
            tell_record(tried)
        else:
            tell(tried.lines)
        if not tried.works:
            raise typer.Exit(2)
        return
    if overrides:
        raise ConfigError(f"{overrides[0]} changes a setting of --config or --offline CONFIG, and none is given")
    checkup = look_around()
    if as_json:
        tell_record(checkup)
    else:
        tell(checkup.lines)
    if checkup.troubles:
        raise typer.Exit(2)


def _loaded(config_path: Path, overrides: list[str] | None, *, limit: int | None) -> "RunConfig":
    from aot.config import load_config  # here, because the config takes its time

    return load_config(config_path, overrides=(*(overrides or ()), *([f"data.limit={limit}"] if limit else [])))


def _work(
    config_path: Path,
    overrides: list[str] | None,
    *,
    limit: int | None,
    dry_run: bool,
    max_cost: float | None = None,
    as_json: bool = False,
    with_settings: bool = False,
) -> Callable[..., tuple[Any, int]] | None:
    """What does stages of the run, and does not start yet; None once a dry run was told."""
    if not dry_run:
        resumable.set()
    config = _loaded(config_path, overrides, limit=limit)
    if max_cost is not None:
        if config.chat is None:
            raise ConfigError("--max-cost: this run asks no chat model (its config has no section chat); leave it out")
        config = _loaded(config_path, [*(overrides or []), f"chat.max_cost={max_cost}"], limit=limit)
    if dry_run:
        _tell_plan(config, config_path, as_json=as_json, with_settings=with_settings)
        return None
    from aot.pipeline import run_stages

    return partial(run_stages, config, config_path=config_path, command=sys.argv)


def _tell_plan(config: "RunConfig", config_path: Path, *, as_json: bool = False, with_settings: bool = False) -> None:
    from aot.pipeline.commands.plan import told_plan
    from aot.pipeline.planning.lines import dry_run

    lines, error = told_plan(config, config_path=config_path, with_settings=with_settings and not as_json)
    if as_json:
        tell_record(dry_run(config, lines, error))
    else:
        tell(lines)
    if error:
        raise error


def _tell_end(run: Any, code: int) -> None:  # noqa: ANN401 - the class of run folders would be imported for it
    """What came of a run, and what was refused on the way."""
    if run.report.exists():
        from aot.reporting.summary import summary_lines

        with done_anyway():
            tell(summary_lines(run))
    if code:
        from aot.pipeline.commands.status import refusal_lines

        tell_error(*refusal_lines(run))
        raise typer.Exit(code)
