"""The table of verbs. Each verb imports its work when it runs, so that `aot --help` stays quick; only this file prints.

Whatever is printed goes through `tell`, `tell_json` and `tell_error`, and what is logged through a formatter: names,
labels and replies from outside never reach the terminal as they came.

Exit codes: 0 everything asked for was published; 2 bad input or configuration, before any work; 3 finished, with
refused items listed by reason, or a question asked in vain; 4 stopped by a guard or a signal, and the same command
resumes.
"""

import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from aot import STAGES
from aot.display import PlainFormatter, clean, clean_json, one_line
from aot.errors import AotError, ConfigError, GuardStop, RunError, missing_package
from aot.interrupts import Interrupted, watch_for_lost_interrupts
from aot.threads import set_thread_waiting

if TYPE_CHECKING:
    from aot.config import RunConfig

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
ENDS_WITHIN_S = 20.0
"""After a signal; what waits longer, such as for the reply of a server, is given up."""
_resumable = threading.Event()
"""Set while stages of a run are done: only they keep what a signal leaves."""
_INTERRUPTED = 130
"""What typer makes of Ctrl-C outside of a stage."""
StreamOption = Annotated[
    int | None,
    typer.Option("--stream", help="Index of the video stream in the container; the best if not given.", min=0),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print config, counts and estimates; start nothing.")]


def main() -> None:
    """Run the command line; bad input is told in one line, never as a traceback."""
    set_thread_waiting()
    _mend_streams()
    _log_to_stderr()
    watch_for_lost_interrupts()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _interrupt)
    _resumable.clear()
    try:
        code = app(standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last boundary
        code = _exit_code(error)
    if code == _INTERRUPTED:
        code = _tell_failure(_stopped_by_signal())
    with suppress(GuardStop):  # what libraries printed; or the interpreter would complain, with a code of its own
        _write("")
    tell_error()  # the same for what is left in the buffer of standard error
    sys.exit(code if isinstance(code, int) else 0)


def _exit_code(error: BaseException) -> int:
    """The exit code after what went wrong was told."""
    if isinstance(error, AotError):
        return _tell_failure(error)
    if isinstance(error, ModuleNotFoundError):
        missing = missing_package(error.name or "")
        return _tell_failure(missing) if missing else _tell_bug()
    if isinstance(error, OSError):
        return _tell_failure(RunError(f"{error.filename or 'a file or stream'}: {error.strerror or error}"))
    if isinstance(error, KeyboardInterrupt):
        return _tell_failure(_stopped_by_signal())
    if not hasattr(error, "show"):  # the errors of typer have no public class
        return _tell_failure(_stopped_by_signal()) if type(error).__name__ == "Abort" else _tell_bug()
    shown = io.StringIO()
    error.show(file=shown)
    tell_error(*shown.getvalue().splitlines())
    return int(getattr(error, "exit_code", 2))


def tell(lines: Iterable[str]) -> None:
    """Print lines on standard output, each in one line of clean text.

    Raises:
        GuardStop: they cannot be written there.
    """
    _write("".join(f"{one_line(line)}\n" for line in lines))


def tell_json(text: str) -> None:
    """Print JSON on standard output; raises GuardStop when it cannot be written there."""
    _write(clean_json(text) + "\n")


def tell_error(*lines: str) -> None:
    """Print lines on standard error, each in one line of clean text; lost where nobody takes them."""
    try:
        sys.stderr.write("".join(f"{one_line(line)}\n" for line in lines))
        sys.stderr.flush()
    except OSError:
        _lose_buffer(sys.stderr)
    except ValueError:  # it is closed
        pass


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _lose_buffer(sys.stdout)
        if isinstance(error, BrokenPipeError):  # whoever read has seen enough
            return
        raise GuardStop(f"standard output cannot be written ({error.strerror}); send it elsewhere") from error


def _lose_buffer(stream: TextIO) -> None:
    """Send what is left in the buffer nowhere: the interpreter would flush it, fail, and end with a code of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _tell_failure(error: AotError) -> int:
    tell_error(f"aot: {error.args[0]}", *error.lines)
    return error.exit_code


def _tell_bug() -> int:
    tell_error(*clean(traceback.format_exc()).splitlines())
    return 1


def _mend_streams() -> None:
    """Open those of the standard streams that are closed, or the next file gets their number; let all take any text."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.raiseExceptions = False  # a line that nobody takes is lost
    logging.captureWarnings(True)
    for noisy in ("httpx", "urllib3", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@app.command("run")
def run_command(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    limit: LimitOption = None,
    dry_run: DryRunOption = False,
    max_cost: MaxCostOption = None,
) -> None:
    """Do all stages: prepare, generate, filter, train, evaluate, report."""
    if work := _work(config, overrides, limit=limit, dry_run=dry_run, max_cost=max_cost):
        with _told_as_stop():
            ended = work(stages=STAGES)
        _tell_end(*ended)


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
    settings = [*(overrides or []), *([f"run.shard={shard}"] if shard else [])]
    if work := _work(config, settings, limit=limit, dry_run=dry_run, max_cost=max_cost):
        with _told_as_stop():
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
        with _told_as_stop():
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
            with _told_as_stop():
                ended = work(stages=(stage,))
            _tell_end(*ended)

    command.__doc__ = f"Do the {stage} stage of a run."
    return command


_OF_ONE_PIECE: dict[str, Callable[..., None]] = {"generate": generate_command, "train": train_command}
for _stage in STAGES:
    app.command(_stage)(_OF_ONE_PIECE.get(_stage) or _stage_command(_stage))


@app.command()
def jobs(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    limit: LimitOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the jobs as JSON.")] = False,
) -> None:
    """List the jobs of the train stage: what each needs and makes, and how far it is."""
    from aot.pipeline.commands.jobs import jobs_json, jobs_lines

    loaded = _loaded(config, overrides, limit=limit)
    if as_json:
        tell_json(jobs_json(loaded, config))
    else:
        tell(jobs_lines(loaded, config))


@app.command()
def status(run: Annotated[Path, typer.Argument(help="A run folder, for example runs/toy_kitchen")]) -> None:
    """Show each stage: state, done/total, time left, last error."""
    from aot.pipeline.commands.status import status_lines

    tell(status_lines(run))


@app.command()
def baselines(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    limit: LimitOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Print what label-only baselines reach on the questions of a config; needs no clip."""
    from aot.pipeline.commands.baselines import baseline_lines, measure_baselines

    loaded = _loaded(config, overrides, limit=limit)
    if as_json:
        tell_json(measure_baselines(loaded, config).model_dump_json(indent=1))
    else:
        tell(baseline_lines(loaded, config))


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
    from aot.pipeline.commands.score import score_file, score_lines

    if overrides and config is None:
        raise ConfigError(f"{overrides[0]} changes a setting of --config CONFIG, and none is given")
    loaded = load_config(config, overrides=tuple(overrides or ())) if config else None
    scores = score_file(predictions, config=loaded, config_path=config or Path(), questions=questions)
    if as_json:
        tell_json(scores.model_dump_json(indent=1))
    else:
        tell(score_lines(scores))
    if scores.exit_code:
        raise typer.Exit(scores.exit_code)


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
    from aot.pipeline.commands.compare import compare_runs, comparison_lines

    comparison = compare_runs(run_a, run_b, arm=arm, arm_b=arm_b)
    if as_json:
        tell_json(comparison.model_dump_json(indent=1))
    else:
        tell(comparison_lines(comparison))


@app.command()
def doctor() -> None:
    """Look for trouble before a run does: one line for each, with the fix."""
    from aot.pipeline.commands.doctor import troubles

    trouble_lines = list(troubles())
    tell(trouble_lines or ["no trouble found"])
    if trouble_lines:
        raise typer.Exit(2)


@app.command()
def probe(clip: Annotated[Path, typer.Argument(help="A video file")], stream: StreamOption = None) -> None:
    """Print the facts of a clip as JSON: size, rotation, frames, duration, verdict."""
    from aot.pipeline.commands.clips import probe_clip

    tell_json(probe_clip(clip, stream=stream))


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
    from aot.pipeline.commands.clips import save_frames

    lines = save_frames(clip, out=out, at_s=at or [], count=count, stream=stream)
    with _done_anyway():
        tell(lines)


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
    from aot.pipeline.commands.clips import ask_clip, trace_lines

    trace = ask_clip(
        clip,
        _typed(question),
        choices=tuple(map(_typed, choice or ())),
        appearance=appearance,
        annotations=annotations,
        config=config,
    )
    if as_json:
        tell_json(trace.model_dump_json(indent=1))
    else:
        tell(trace_lines(trace))
    if trace.status != "ok":
        raise typer.Exit(3)


def _loaded(config_path: Path, overrides: list[str] | None, *, limit: int | None) -> "RunConfig":
    from aot.config import load_config  # here, because the config takes its time

    return load_config(config_path, overrides=(*(overrides or ()), *([f"data.limit={limit}"] if limit else [])))


def _work(
    config_path: Path, overrides: list[str] | None, *, limit: int | None, dry_run: bool, max_cost: float | None = None
) -> Callable[..., tuple[Any, int]] | None:
    """What does stages of the run, and does not start yet; None once a dry run was told."""
    if not dry_run:
        _resumable.set()
    config = _loaded(config_path, overrides, limit=limit)
    if max_cost is not None:
        if config.chat is None:
            raise ConfigError("--max-cost: this run asks no chat model (its config has no section chat); leave it out")
        config = _loaded(config_path, [*(overrides or []), f"chat.max_cost={max_cost}"], limit=limit)
    if dry_run:
        from aot.pipeline.commands.plan import plan_lines

        tell(plan_lines(config, config_path=config_path))
        return None
    from aot.pipeline import run_stages

    return partial(run_stages, config, config_path=config_path, command=sys.argv)


def _tell_end(run: Any, code: int) -> None:  # noqa: ANN401 - the class of run folders would be imported for it
    """What came of a run, and what was refused on the way."""
    if run.report.exists():
        from aot.reporting.summary import summary_lines

        with _done_anyway():
            tell(summary_lines(run))
    if code:
        from aot.pipeline.commands.status import refusal_lines

        tell_error(*refusal_lines(run))
        raise typer.Exit(code)


def _interrupt(signum: int, frame: object) -> None:
    timer = threading.Timer(ENDS_WITHIN_S, _end_anyway)
    timer.daemon = True
    timer.start()
    raise Interrupted(signal.Signals(signum).name)


def _end_anyway() -> None:
    """The end of a process that a signal did not end in time, because it waits for something that does not come."""
    error = _stopped_by_signal()
    tell_error(f"aot: {error}")
    os._exit(error.exit_code)


@contextmanager
def _told_as_stop() -> Iterator[None]:
    """Ctrl-C and SIGTERM end with one line and exit code 4; here, because click turns them into an abort."""
    try:
        yield
    except KeyboardInterrupt:
        raise _stopped_by_signal() from None


@contextmanager
def _done_anyway() -> Iterator[None]:
    """Where the work is done and on disk, a summary that cannot be printed is told and nothing more."""
    try:
        yield
    except GuardStop as error:
        tell_error(f"aot: the work is done, but {error}")


def _stopped_by_signal() -> GuardStop:
    kept = "; finished work is kept, the same command goes on from there" if _resumable.is_set() else ""
    return GuardStop(f"stopped by a signal{kept}")


def _typed(words: str) -> str:
    """What was meant by words of the command line that came through a terminal of another encoding."""
    return words.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


if __name__ == "__main__":
    main()
