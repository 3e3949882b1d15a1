"""The verbs of a trained student at work: asked, graded, exported, served."""

from pathlib import Path
from typing import Annotated

import typer

from aot.cli.runs import OverridesArgument
from aot.cli.terminal import tell, tell_json
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
