"""The verbs of a trained student at work: asked, graded, exported, served."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from aot.cli.runs import OverridesArgument
from aot.cli.terminal import done_anyway, resumable, tell, tell_json, told_as_stop, typed
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


def predict(
    export: Annotated[Path, typer.Argument(help="Folder of an exported student")],
    question: Annotated[str | None, typer.Argument(help="A question; or --in FILE")] = None,
    clip: Annotated[Path | None, typer.Option("--clip", help="A video file that the question is about.")] = None,
    choice: Annotated[
        list[str] | None, typer.Option("--choice", help="An answer option; may be given several times.")
    ] = None,
    mode: Annotated[
        Literal["direct", "reason", "explain", "adaptive", "decide"] | None,
        typer.Option("--mode", help="How to answer; decide where there are choices, if not given."),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option("--in", metavar="FILE", help="Questions as JSON lines, instead of one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Answers, one a line; the same command goes on.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="Folder of the clips that --in names; its own if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer, or the summary, as JSON.")] = False,
) -> None:
    """Let an exported student answer a question, or all questions of a file; exit code 3 where one has no answer."""
    if (question is None) == (questions is None):
        raise ConfigError("give either a QUESTION, or --in QUESTIONS.jsonl --out ANSWERS.jsonl")
    if (questions is None) != (out is None) or (root and not questions):
        raise ConfigError("--in, --out and --root belong together: --in QUESTIONS.jsonl --out ANSWERS.jsonl")
    if questions and (clip or choice):
        raise ConfigError("--clip and --choice belong to one QUESTION; rows of a file name their own")
    from aot.pipeline.commands.predict import answer_lines, predict_file, predict_one, summary_lines
    from aot.serving.student import Ask

    if questions and out:
        resumable.set()
        with told_as_stop():
            summary = predict_file(export, questions, out, root=root, mode=mode)
        with done_anyway():
            if as_json:
                tell_json(summary.model_dump_json(indent=1))
            else:
                tell(summary_lines(summary, out))
        code = summary.exit_code
    else:
        ask = Ask(typed(question or ""), choices=tuple(map(typed, choice or ())), clip=clip, mode=mode)
        with told_as_stop():
            answer = predict_one(export, ask)
        if as_json:
            tell_json(answer.model_dump_json(indent=1))
        else:
            tell(answer_lines(answer))
        code = 3 if answer.abstained else 0
    if code:
        raise typer.Exit(code)
