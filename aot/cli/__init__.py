"""The table of verbs. Each verb imports its work when it runs, so that `aot --help` stays quick.

Exit codes: 0 everything asked for was published; 2 bad input or configuration, before any work; 3 finished, with
refused items listed by reason, or a question asked in vain; 4 stopped by a guard or a signal, and the same command
resumes.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import typer

from aot import __version__
from aot.cli import clips, data, runs, student
from aot.cli.terminal import (
    log_to_stderr,
    mend_streams,
    resumable,
    stopped_by_signal,
    tell,
    tell_bug,
    tell_error,
    tell_failure,
    write,
)
from aot.errors import AotError, GuardStop, RunError, missing_package
from aot.interrupts import forget_interrupts, interrupt, was_interrupted, watch_for_lost_interrupts
from aot.threads import set_thread_waiting

VERBS: dict[str, Callable[..., None]] = {
    "init": runs.init,
    "run": runs.run_command,
    **runs.STAGE_COMMANDS,
    "plan": runs.plan,
    "jobs": runs.jobs,
    "status": runs.status,
    "baselines": runs.baselines,
    "predict": student.predict,
    "score": student.score,
    "serve": student.serve,
    "export": student.export,
    "watch": student.watch,
    "audit": student.audit,
    "retrain-advice": student.retrain_advice,
    "review": student.review,
    "publish": student.publish,
    "compare": runs.compare,
    "calibrate": student.calibrate,
    "faithfulness": student.faithfulness,
    "doctor": runs.doctor,
    "prefetch": data.prefetch,
    "probe": clips.probe,
    "frames": clips.frames,
    "ask": clips.ask,
    "schema": data.schema,
}
ENDS_WITHIN_S = 20.0
"""After a signal; what waits longer, such as for the reply of a server, is given up."""
_INTERRUPTED = 130
"""What typer makes of Ctrl-C outside of a stage."""

app = typer.Typer(
    name="aot",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _start(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=lambda wanted: _tell_version() if wanted else None,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Distil the reasoning of an agent teacher into small video and text models."""


def _tell_version() -> None:
    tell([f"aot-distill {__version__}"])
    raise typer.Exit


for _name, _verb in VERBS.items():
    app.command(_name)(_verb)
app.add_typer(data.data_verbs, name="data")


def main() -> None:
    """Run the command line; bad input is told in one line, never as a traceback."""
    set_thread_waiting()
    mend_streams()
    log_to_stderr()
    watch_for_lost_interrupts()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _interrupt)
    resumable.clear()
    forget_interrupts()
    try:
        code = app(standalone_mode=False, prog_name="aot")
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last boundary
        code = _exit_code(error)
    if code == _INTERRUPTED or (code in (None, 0, 3) and was_interrupted()):  # swallowed by whatever ran then
        code = tell_failure(stopped_by_signal())
    with suppress(GuardStop):  # what libraries printed; or the interpreter would complain, with a code of its own
        write("")
    tell_error()  # the same for what is left in the buffer of standard error
    sys.exit(code if isinstance(code, int) else 0)


def _exit_code(error: BaseException) -> int:
    """The exit code after what went wrong was told."""
    if was_interrupted() and not isinstance(error, GuardStop):  # what follows from half an import is no bug of ours
        error = stopped_by_signal()
    if isinstance(error, AotError):
        return tell_failure(error)
    if isinstance(error, ModuleNotFoundError):
        missing = missing_package(error.name or "")
        return tell_failure(missing) if missing else tell_bug()
    if isinstance(error, OSError):
        return tell_failure(RunError(f"{error.filename or 'a file or stream'}: {error.strerror or error}"))
    if isinstance(error, KeyboardInterrupt):
        return tell_failure(stopped_by_signal())
    if not hasattr(error, "show"):  # the errors of typer have no public class
        return tell_failure(stopped_by_signal()) if type(error).__name__ == "Abort" else tell_bug()
    shown = io.StringIO()
    error.show(file=shown)
    tell_error(*shown.getvalue().splitlines())
    return int(getattr(error, "exit_code", 2))


def _interrupt(signum: int, frame: object) -> None:
    timer = threading.Timer(ENDS_WITHIN_S, _end_anyway)
    timer.daemon = True
    timer.start()
    interrupt(signal.Signals(signum).name)


def _end_anyway() -> None:
    """The end of a process that a signal did not end in time, because it waits for something that does not come."""
    error = stopped_by_signal()
    tell_error(f"aot: {error}")
    os._exit(error.exit_code)
