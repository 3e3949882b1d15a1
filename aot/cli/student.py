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


def calibrate(
    run: Annotated[Path, typer.Argument(help="A run folder, for example runs/toy_kitchen")],
    arm: Annotated[
        str | None, typer.Argument(help="Of the run; the first that learns rationales if not given.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Its exported student: asked instead, and told in its contract.")
    ] = None,
    targets: Annotated[
        list[float] | None,
        typer.Option("--target", help="Most that may be wrong of the answers that stay [0.05]; may be repeated."),
    ] = None,
    confidence: Annotated[float, typer.Option("--confidence", help="Of the promise.")] = 0.95,
    count: Annotated[
        int, typer.Option("--count", help="Clips or problems to draw, where they are drawn.", min=1)
    ] = 1000,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="Labelled questions of no split of the run, instead.")
    ] = None,
    root: Annotated[Path | None, typer.Option("--root", help="The folder of their clips.")] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Predictions of the big model for them: promise agreement too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the calibration as JSON.")] = False,
) -> None:
    """Learn what an arm's confidence means, and above which one its answers may stay."""
    from aot.pipeline.commands.calibrate import Wanted, calibrate_run, calibration_lines, needs_more

    for name, value in [("--confidence", confidence), *(("--target", target) for target in targets or ())]:
        if not 0 < value < 1:
            raise ConfigError(f"{name} {value:g} must lie between 0 and 1, such as 0.05 for a target of 5%")
    wanted = Wanted(tuple(targets or (0.05,)), confidence, count, questions, root, against)
    made = calibrate_run(run, arm, wanted, export=export, command=["aot", "calibrate", str(run)])
    if as_json:
        tell_json(made.model_dump_json(indent=1))
    else:
        tell(calibration_lines(made))
    if needs_more(made):
        raise typer.Exit(3)
