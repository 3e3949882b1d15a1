"""The verbs of data on its way in and out: what is fetched before a run, and what others train on."""

from pathlib import Path
from typing import Annotated

import typer

from aot.cli.runs import ConfigArgument, OverridesArgument
from aot.cli.terminal import done_anyway, tell, tell_record, told_as_stop

data_verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Write data of a run for others.")


def prefetch(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be fetched, with sizes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was told as a JSON list, at the end.")] = False,
) -> None:
    """Fetch models, tool weights and data sets of a config at fixed revisions; the run then needs no network."""
    from aot.config import load_config
    from aot.pipeline.data.prefetch import fetch_news

    loaded = load_config(config, overrides=tuple(overrides or ()))
    with told_as_stop():
        all_news = []
        for news in fetch_news(loaded, dry_run=dry_run):
            all_news.append(news)
            if not as_json:
                tell([news.line])
    if as_json:
        tell_record(all_news)


@data_verbs.command("export")
def export_data(
    run: Annotated[Path, typer.Argument(help="A run folder whose filter stage is done")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="A new folder.")],
    arm: Annotated[
        list[str] | None, typer.Option("--arm", help="Only the lessons of this arm; may be repeated.")
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", help="Questions and gold answers of this split too; may be repeated."),
    ] = None,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Frames as files, or their times alone.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was exported as JSON.")] = False,
) -> None:
    """Write kept traces and lessons as a data set that `datasets`, TRL and LLaMA-Factory read."""
    from aot.pipeline.data.export import Wanted, export_lines
    from aot.pipeline.data.export import export_data as export_run_data

    wanted = Wanted(arms=tuple(arm or ()), splits=tuple(split or ()), images=images)
    with told_as_stop():
        made, was_there = export_run_data(run, to, wanted)
    with done_anyway():
        if as_json:
            tell_record(made)
        else:
            tell(export_lines(made, to, was_there=was_there))
    if made.refused:
        raise typer.Exit(3)


def schema(
    verb: Annotated[list[str] | None, typer.Argument(help="Such as status, or data export")] = None,
) -> None:
    """Print the JSON schema of what a verb prints with --json; without VERB, which verbs have one."""
    from aot.pipeline.printed import PRINTED, schema_of

    if verb:
        tell_record(schema_of(" ".join(verb)))
    else:
        tell(PRINTED)
