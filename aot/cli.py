"""The table of verbs. Each verb imports its work when it runs, so that `aot --help` stays quick; only this file prints.

Exit codes: 0 everything asked for was published; 2 bad input or configuration, before any work; 3 finished, with
refused items listed by reason, or a question asked in vain; 4 stopped by a guard or a signal, and the same command
resumes.
"""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from aot import STAGES
from aot.errors import AotError, ConfigError, GuardStop, missing_package
from aot.threads import set_thread_waiting

app = typer.Typer(
    name="aot",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Distil the reasoning of an agent teacher into small video and text models.",
)

ConfigArgument = Annotated[
    Path, typer.Argument(help="YAML file of the run, for example configs/video/toy_kitchen.yaml")
]
OverridesArgument = Annotated[list[str] | None, typer.Argument(metavar="[KEY.SUB=VALUE]...", help="Settings to change")]
LimitOption = Annotated[int | None, typer.Option("--limit", help="Use at most this many clips of each split.", min=1)]
MaxCostOption = Annotated[
    float | None, typer.Option("--max-cost", help="Stop, resumable, when chat models have cost this much.", min=0)
]
StreamOption = Annotated[
    int | None,
    typer.Option("--stream", help="Index of the video stream in the container; the best if not given.", min=0),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print config, counts and estimates; start nothing.")]


def main() -> None:
    """Run the command line; bad input is told in one line, never as a traceback."""
    set_thread_waiting()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "urllib3", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except AotError as error:
        print(f"aot: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        told = missing_package(error.name or "")
        if told is None:
            raise
        print(f"aot: {told}", file=sys.stderr)
        sys.exit(told.exit_code)


@app.command("run")
def run_command(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    max_cost: MaxCostOption = None,
) -> None:
    """Do all stages: prepare, generate, filter, train, evaluate, report."""
    _run(config, _with_cost(overrides, max_cost), limit=limit, dry_run=dry_run, stages=STAGES)


def generate_command(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    max_cost: MaxCostOption = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Only this share of the questions, I from 0 to N-1.")
    ] = None,
) -> None:
    """Do the generate stage of a run, or one shard of it."""
    settings = [*_with_cost(overrides, max_cost), *([f"run.shard={shard}"] if shard else [])]
    _run(config, settings, limit=limit, dry_run=dry_run, stages=("generate",))


def _stage_command(stage: str) -> Callable[..., None]:
    def command(
        config: ConfigArgument,
        overrides: OverridesArgument = None,
        limit: LimitOption = None,
        dry_run: DryRunOption = False,
    ) -> None:
        _run(config, overrides, limit=limit, dry_run=dry_run, stages=(stage,))

    command.__doc__ = f"Do the {stage} stage of a run."
    return command


for _stage in STAGES:
    app.command(_stage)(generate_command if _stage == "generate" else _stage_command(_stage))


@app.command()
def status(run: Annotated[Path, typer.Argument(help="A run folder, for example runs/toy_kitchen")]) -> None:
    """Show each stage: state, done/total, time left, last error."""
    from aot.pipeline.status import status_lines

    print("\n".join(status_lines(run)))


@app.command()
def baselines(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    limit: LimitOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Print what label-only baselines reach on the questions of a config; needs no clip."""
    from aot.config import load_config
    from aot.pipeline.baselines import baseline_lines, measure_baselines

    settings = [*(overrides or []), *([f"data.limit={limit}"] if limit else [])]
    loaded = load_config(config, overrides=tuple(settings))
    if as_json:
        print(measure_baselines(loaded, config).model_dump_json(indent=1))
    else:
        print("\n".join(baseline_lines(loaded, config)))


@app.command()
def score(
    predictions: Annotated[Path, typer.Argument(help="Predictions: JSON, JSON lines, CSV or Parquet")],
    overrides: OverridesArgument = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML whose data set was asked.")] = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="A run's questions.jsonl, or own questions, instead.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Grade anybody's predictions, with n and interval; needs no clip and no model."""
    from aot.config import load_config
    from aot.pipeline.score import score_file, score_lines

    if overrides and config is None:
        raise ConfigError(f"{overrides[0]} changes a setting of --config CONFIG, and none is given")
    loaded = load_config(config, overrides=tuple(overrides or ())) if config else None
    found = score_file(predictions, config=loaded, config_path=config or Path(), questions=questions)
    print(found.model_dump_json(indent=1) if as_json else "\n".join(score_lines(found)))
    if found.exit_code:
        raise typer.Exit(found.exit_code)


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="A finished run folder")],
    run_b: Annotated[Path, typer.Argument(help="Another one, or the same for two of its arms")],
    arm: Annotated[
        str | None, typer.Option("--arm", help="Arm of the first run, NAME or NAME:MODE; its main arm if not given.")
    ] = None,
    arm_b: Annotated[
        str | None, typer.Option("--arm-b", help="Arm of the second run; the same arm if it has it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
) -> None:
    """Compare two arms question by question: flips, kinds, paired tests, cost."""
    from aot.pipeline.compare import compare_runs, comparison_lines

    found = compare_runs(run_a, run_b, arm=arm, arm_b=arm_b)
    print(found.model_dump_json(indent=1) if as_json else "\n".join(comparison_lines(found)))


@app.command()
def doctor() -> None:
    """Look for trouble before a run does: one line for each, with the fix."""
    from aot.pipeline.doctor import troubles

    found = list(troubles())
    print("\n".join(found) if found else "no trouble found")
    if found:
        raise typer.Exit(2)


@app.command()
def probe(clip: Annotated[Path, typer.Argument(help="A video file")], stream: StreamOption = None) -> None:
    """Print the facts of a clip as JSON: size, rotation, frames, duration, verdict."""
    from aot.pipeline.clips import probe_clip

    print(probe_clip(clip, stream=stream))


@app.command()
def frames(
    clip: Annotated[Path, typer.Argument(help="A video file")],
    out: Annotated[Path, typer.Argument(help="Folder for the PNG files")],
    at: Annotated[
        list[float] | None, typer.Option("--at", help="Moment in seconds; may be given several times.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, max=512, help="How many evenly spaced frames, when --at is not given.")
    ] = 8,
    stream: StreamOption = None,
) -> None:
    """Save frames of a clip as PNG, named by their true times."""
    from aot.pipeline.clips import save_frames

    print("\n".join(save_frames(clip, out=out, at_s=at or [], count=count, stream=stream)))


@app.command()
def ask(
    clip: Annotated[Path, typer.Argument(help="A video file")],
    question: Annotated[str, typer.Argument(help="A question about the clip")],
    choice: Annotated[
        list[str] | None, typer.Option("--choice", help="An answer option; may be given several times.")
    ] = None,
    appearance: Annotated[Path | None, typer.Option(help="JSON file of what objects and actions look like.")] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="JSONL of annotated clips: what usually follows what.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML of a run whose planner, tools and chat models to use.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the trace as JSON.")] = False,
) -> None:
    """Ask the agent teacher one question about a clip, and print its trace; exit code 3 where it has no answer."""
    from aot.pipeline.clips import ask_clip, trace_lines

    options = tuple(choice or ())
    trace = ask_clip(
        clip, question, choices=options, appearance=appearance, annotations=annotations, config=config
    )  # fmt: skip
    print(trace.model_dump_json(indent=1) if as_json else "\n".join(trace_lines(trace)))
    if trace.status != "ok":
        raise typer.Exit(3)


def _with_cost(overrides: list[str] | None, max_cost: float | None) -> list[str]:
    return [*(overrides or []), *([f"chat.max_cost={max_cost}"] if max_cost is not None else [])]


def _run(
    config_path: Path, overrides: list[str] | None, *, limit: int | None, dry_run: bool, stages: tuple[str, ...]
) -> None:
    from aot.config import load_config

    settings = [*(overrides or []), *([f"data.limit={limit}"] if limit else [])]
    config = load_config(config_path, overrides=tuple(settings))
    if dry_run:
        from aot.pipeline.plan import plan_lines

        print("\n".join(plan_lines(config, config_path=config_path)))
        return
    from aot.pipeline import run_stages

    with _told_as_stop():
        run, code = run_stages(config, config_path=config_path, command=sys.argv, stages=stages)
    if run.report.exists():
        from aot.reporting.summary import summary_lines

        print("\n".join(summary_lines(run)))
    if code:
        from aot.pipeline.status import refusal_lines

        print("\n".join(refusal_lines(run)), file=sys.stderr)
        raise typer.Exit(code)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(signum).name)


@contextmanager
def _told_as_stop() -> Iterator[None]:
    """Ctrl-C and SIGTERM end with one line and exit code 4; here, because click turns them into an abort."""
    try:
        yield
    except KeyboardInterrupt:
        raise GuardStop("stopped by a signal; finished work is kept, the same command goes on from there") from None


if __name__ == "__main__":
    main()
