"""The verbs of a trained student at work: asked, graded, exported, served."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from aot.cli.runs import OverridesArgument
from aot.cli.terminal import tell, tell_error, tell_json, told_as_stop
from aot.errors import ConfigError


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


def export(
    run: Annotated[Path, typer.Argument(help="A run folder whose train stage is done")],
    places: Annotated[list[str], typer.Argument(metavar="[ARM] OUT", help="An arm of the run, or base; a new folder")],
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16", "base"] | None,
        typer.Option(help="Of the stored weights; base: as the base stores them; else as the run was graded."),
    ] = None,
    quantise: Annotated[
        Literal["int8", "int4"] | None, typer.Option(help="Smaller weights of the language model, and what they cost.")
    ] = None,
    vision: Annotated[bool, typer.Option("--vision", help="Quantise what shows images too.")] = False,
    adapter_only: Annotated[
        bool, typer.Option("--adapter-only", help="Write the adapter alone, as peft reads it.")
    ] = False,
    name: Annotated[str, typer.Option(help="As servers and answers name the student; else RUN-ARM.")] = "",
    probes: Annotated[int, typer.Option(min=1, max=10_000, help="Test questions that prove the export.")] = 50,
    check_server: Annotated[
        str, typer.Option(metavar="URL", help="Ask an OpenAI-compatible server that serves the export the same.")
    ] = "",
    model: Annotated[str, typer.Option(help="Name of the student on that server; else as exported.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the contract as JSON.")] = False,
) -> None:
    """Write a trained student as one folder that is used alone, proved by a fresh process."""
    from aot.pipeline.commands import export as work
    from aot.serving.export import ExportOptions

    if len(places) > 2:
        raise ConfigError(f"aot export takes RUN [ARM] OUT, and {len(places) + 1} names came")
    if adapter_only and (quantise or dtype or vision or check_server):
        raise ConfigError("--adapter-only copies an adapter as it is; leave the other options out")
    if vision and not quantise:
        raise ConfigError("--vision says what is quantised too; give --quantise int8 or int4 with it")
    out = Path(places[-1])
    arm = work.arm_of(run, places[0] if len(places) == 2 else None)
    if adapter_only:
        tell(work.export_adapter_of(run, arm, out))
        return
    options = ExportOptions(name=name, dtype=dtype or "", quantise=quantise or "", vision=vision, probes=probes)
    with told_as_stop():
        contract, was_there = work.export_run(run, arm, out, options)
    if as_json:
        tell_json(contract.model_dump_json(indent=1))
    else:
        tell(work.export_lines(contract, run, out, was_there=was_there))
    if check_server:
        with told_as_stop():
            lines, code = work.check_server(run, out, url=check_server, model=model, probes=probes)
        tell_error(*lines) if as_json else tell(lines)
        if code:
            raise typer.Exit(code)
