"""The verbs of clips: their facts, their frames, and one question to the agent teacher."""

from pathlib import Path
from typing import Annotated

import typer

from aot.cli.terminal import done_anyway, tell, tell_record, typed

StreamOption = Annotated[
    int | None,
    typer.Option("--stream", help="Index of the video stream in the container; the best if not given.", min=0),
]


def probe(
    clip: Annotated[Path, typer.Argument(help="A video file")],
    stream: StreamOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="What it prints anyway.")] = False,
) -> None:
    """Print the facts of a clip as JSON: size, rotation, frames, duration, verdict."""
    from aot.pipeline.commands.clips import probe_clip

    tell_record(probe_clip(clip, stream=stream))


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
    as_json: Annotated[bool, typer.Option("--json", help="Print the files and their times as JSON.")] = False,
) -> None:
    """Save frames of a clip as PNG, named by their true times."""
    from aot.pipeline.commands.clips import save_frames

    saved = save_frames(clip, out=out, at_s=at or [], count=count, stream=stream)
    with done_anyway():
        if as_json:
            tell_record(saved)
        else:
            tell(saved.lines)


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
        typed(question),
        choices=tuple(map(typed, choice or ())),
        appearance=appearance,
        annotations=annotations,
        config=config,
    )
    if as_json:
        tell_record(trace)
    else:
        tell(trace_lines(trace))
    if trace.status != "ok":
        raise typer.Exit(3)
