"""The verbs of a trained student at work: asked, graded, exported, served."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from aot.cli.runs import OverridesArgument
from aot.cli.terminal import done_anyway, resumable, tell, tell_error, tell_record, told_as_stop, typed
from aot.errors import ConfigError
from aot.serving.server.limits import Limits


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
        tell_record(scores)
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
    from aot.pipeline.student import export as work
    from aot.serving.export.arm import ExportOptions

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
        tell_record(contract)
    else:
        tell(work.export_lines(contract, run, out, was_there=was_there))
    if check_server:
        with told_as_stop():
            lines, code = work.check_server(run, out, url=check_server, model=model, probes=probes)
        tell_error(*lines) if as_json else tell(lines)
        if code:
            raise typer.Exit(code)


def publish(
    places: Annotated[
        list[Path],
        typer.Argument(metavar="[RUN] OUT", help="A trained run; a new folder. With --check: OUT alone, or both."),
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Compare every byte of OUT with its manifest, and the chain with RUN.")
    ] = False,
    licence: Annotated[
        list[str] | None,
        typer.Option(
            "--licence", metavar="WHAT=NAME", help="Of base, data or student, where no file says; repeatable."
        ),
    ] = None,
    publisher: Annotated[str, typer.Option("--by", help="Who publishes, as the papers say it.")] = "",
    name: Annotated[str, typer.Option(help="As servers and answers name the student; else RUN-ARM.")] = "",
    images: Annotated[bool, typer.Option("--images/--no-images", help="Frames as files, or their times alone.")] = True,
    probes: Annotated[int, typer.Option(min=1, max=10_000, help="Test questions that prove the export.")] = 50,
) -> None:
    """Publish a student with its traces, cards, bill of materials and a chain of hashes; or check such a folder."""
    from aot.pipeline.publication import folder as work

    if len(places) > 2 or (len(places) == 1 and not check):
        raise ConfigError("aot publish takes RUN OUT, and aot publish --check takes OUT or RUN OUT")
    *runs, out = places
    if runs and not (check and out.exists()):
        wanted = work.Wanted(name, tuple(licence or ()), publisher, images, probes)
        with told_as_stop():
            made, was_there = work.publish_run(runs[0], out, wanted)
        with done_anyway():
            tell(work.published_lines(made, out, was_there=was_there))
    if check:
        with told_as_stop():
            there = work.check_folder(out, root=runs[0] if runs else None)
            lines, is_valid = work.check_lines(out, there, root=runs[0] if runs else None)
        tell(lines)
        if not is_valid:
            raise typer.Exit(3)


def calibrate(
    run: Annotated[Path, typer.Argument(help="A run folder, for example runs/toy_kitchen")],
    arm: Annotated[str | None, typer.Argument(help="Of the run; its main one if not given.")] = None,
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
    reviewed: Annotated[
        bool, typer.Option("--reviewed/--no-reviewed", help="Add served answers that people labelled in aot review.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the calibration as JSON.")] = False,
) -> None:
    """Learn what an arm's confidence means, and above which one its answers may stay."""
    from aot.pipeline.student.calibrate import Wanted, calibrate_run, calibration_lines, needs_more

    for name, value in [("--confidence", confidence), *(("--target", target) for target in targets or ())]:
        if not 0 < value < 1:
            example = "0.95 for one that holds 95 times in 100" if name == "--confidence" else "0.05 for a target of 5%"
            raise ConfigError(f"{name} {value:g} must lie between 0 and 1, such as {example}")
    wanted = Wanted(tuple(targets or (0.05,)), confidence, count, questions, root, against, reviewed)
    made = calibrate_run(run, arm, wanted, export=export, command=["aot", "calibrate", str(run)])
    if as_json:
        tell_record(made)
    else:
        tell(calibration_lines(made))
    if needs_more(made):
        raise typer.Exit(3)


def faithfulness(
    run: Annotated[Path, typer.Argument(help="A run folder whose evaluate stage is done")],
    arm: Annotated[str | None, typer.Option("--arm", help="Only this one; else every arm that reasons first.")] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Of its questions; the first that was evaluated.")
    ] = None,
    count: Annotated[int, typer.Option("--count", help="Questions, the same for every arm.", min=1)] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was measured as JSON.")] = False,
) -> None:
    """Perturb one step of a student's replies at a time, and measure whether its answers follow."""
    from aot.pipeline.student.faithfulness import Wanted, faithfulness_lines, measure_faithfulness

    resumable.set()
    with told_as_stop():
        made = measure_faithfulness(run, Wanted(count, split, arm), command=["aot", "faithfulness", str(run)])
    if as_json:
        tell_record(made)
    else:
        tell(faithfulness_lines(made))


def watch(
    export: Annotated[Path, typer.Argument(help="The exported student that is served")],
    logs: Annotated[
        list[Path] | None, typer.Option("--log", metavar="FILE", help="What the server recorded; may be repeated.")
    ] = None,
    canaries: Annotated[
        Path | None, typer.Option("--canaries", metavar="FILE", help="Labelled questions with answers at export.")
    ] = None,
    draw_count: Annotated[
        int | None, typer.Option("--draw", metavar="N", min=1, help="Draw so many canaries into --canaries, and stop.")
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="The run folder whose data set draws them.")] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Ask the export the canaries now, here.")] = False,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="FILE", help="What a look remembers; beside the log if not given.")
    ] = None,
    promise: Annotated[
        float | None, typer.Option("--promise", help="Least accuracy; that of the calibration if not given.")
    ] = None,
    alarm_rate: Annotated[
        float, typer.Option("--alarm-rate", help="Probability of any false alarm, ever; counts at the first look.")
    ] = 0.05,
    metrics: Annotated[
        Path | None, typer.Option("--metrics", metavar="FILE", help="Write figures in the text format of Prometheus.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with the timeline.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Look whether a served student still does what was promised; exit code 3 while there is an alarm."""
    from aot.drift.look import Wanted, WatchFiles, look_at, sight_lines
    from aot.drift.metrics import write_metrics
    from aot.drift.page import write_page
    from aot.pipeline.student.canaries import canary_lines, draw_canaries

    if draw_count is not None:
        if canaries is None or run is None or logs or ask:
            raise ConfigError("--draw N draws and stops: it takes --canaries NEW_FILE and --run RUN, and nothing else")
        with told_as_stop():
            tell(canary_lines(draw_canaries(export, run, canaries, count=draw_count), canaries))
        return
    for name, value in (("--promise", promise), ("--alarm-rate", alarm_rate)):
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"{name} {value:g} must lie between 0 and 1, such as 0.9 for 90%")
    files = WatchFiles(tuple(logs or ()), canaries, state)
    with told_as_stop():
        sight, kept = look_at(export, files, ask=ask, wanted=Wanted(alarm_rate, promise))
    if metrics:
        write_metrics(metrics, sight, kept, name=export.resolve().name)
    if html:
        write_page(html, sight, kept, name=export.resolve().name)
    if as_json:
        tell_record(sight)
    else:
        tell(sight_lines(sight, kept))
    if sight.exit_code:
        raise typer.Exit(sight.exit_code)


def audit(
    export: Annotated[Path, typer.Argument(help="The exported student")],
    run: Annotated[
        Path | None, typer.Option("--run", help="Its run folder: base, answers only and teacher beside it.")
    ] = None,
    suites: Annotated[
        list[Path] | None,
        typer.Option(
            "--suite", metavar="FILE", help="BBQ (.jsonl), CrowS-Pairs (.csv), StereoSet (.json); repeatable."
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option("--teacher", metavar="FILE", help="Its answers to the suites: id with answer or scores."),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Of the run's questions; the first evaluated one.")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="Questions of the run, the same for everybody.")] = 500,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write a page of Markdown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Measure what a student inherited: stereotypes, answers that follow names, categories of reasoning apart."""
    from aot.audit.auditing import Wanted, audit_export
    from aot.audit.page import audit_lines, write_page

    if teacher and not suites:
        raise ConfigError("--teacher FILE holds answers to suites; name these with --suite FILE")
    with told_as_stop():
        made = audit_export(export, Wanted(run, tuple(suites or ()), teacher, split, count))
    if out:
        write_page(out, made, name=export.resolve().name)
    if as_json:
        tell_record(made)
    else:
        tell(audit_lines(made))
    if made.exit_code:
        raise typer.Exit(made.exit_code)


def retrain_advice(
    run: Annotated[Path, typer.Argument(help="The run folder whose student is served")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A new file of questions, as JSON lines.")],
    logs: Annotated[
        list[Path] | None, typer.Option("--log", metavar="FILE", help="Served rows with texts; may be repeated.")
    ] = None,
    canaries: Annotated[Path | None, typer.Option("--canaries", metavar="FILE", help="Those of the watch.")] = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="FILE", help="Of the watch; wrong at export if not given.")
    ] = None,
    far: Annotated[int, typer.Option(min=0, help="Questions that are listed for their distance alone.")] = 50,
) -> None:
    """List the questions that are worth new traces, as a file that a run with own data takes."""
    from aot.pipeline.student.retrain import Sources, advice_lines, advise

    advice, unlabelled = advise(run, Sources(tuple(logs or ()), canaries, state, far), out)
    tell(advice_lines(advice, out, unlabelled))


def review(
    run: Annotated[Path, typer.Argument(help="A run folder; or the folder in which a server lets requests wait")],
    traces: Annotated[
        Literal["kept", "dropped", "both", "none"], typer.Option(help="Which training traces are shown.")
    ] = "both",
    served: Annotated[
        list[Path] | None, typer.Option("--served", metavar="LOG", help="Served answers with texts; may be repeated.")
    ] = None,
    order: Annotated[
        Literal["sure", "seed"], typer.Option(help="The least sure first, or as the seed has it.")
    ] = "sure",
    seed: Annotated[int, typer.Option(help="Of the order.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Traces and served answers at most.")] = 200,
    reviewer: Annotated[str, typer.Option(help="Your id; the page asks for it if not given.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    agreement: Annotated[
        bool, typer.Option("--agreement", help="Print what was said so far and how far reviewers agree, and stop.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --agreement, print it as JSON.")] = False,
) -> None:
    """Let a person approve, correct or reject traces and answers, on a page of this machine."""
    from aot.pipeline.student import review as work
    from aot.review.agreement import summary_lines

    if as_json and not agreement:
        raise ConfigError("--json is for --agreement; verdicts are JSON lines in the run folder already")
    if agreement:
        made = work.summarise(run)
        tell_record(made) if as_json else tell(summary_lines(made))
        return
    wanted = work.Wanted(traces, tuple(served or ()), order, seed, limit)
    with told_as_stop():
        tell(work.review_run(run, wanted, reviewer=typed(reviewer), port=port, say=tell))


def serve(
    export: Annotated[
        Path | None, typer.Argument(help="An exported student; its contract alone with --student")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need --key-env.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    allow: Annotated[
        list[Path] | None, typer.Option("--allow", help="Folder whose clips may be asked about; may be repeated.")
    ] = None,
    key_env: Annotated[
        str | None, typer.Option("--key-env", help="Environment variable with the key that clients must send.")
    ] = None,
    student: Annotated[
        list[str] | None, typer.Option("--student", help="Address of a server that replies instead; may be repeated.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Name of the model on those servers.")] = None,
    student_key_env: Annotated[
        str, typer.Option("--student-key-env", help="Environment variable with the key that those servers want.")
    ] = "OPENAI_API_KEY",
    cascade: Annotated[
        Path | None, typer.Option("--cascade", help="YAML of a cascade: a bigger model is asked where it is not sure.")
    ] = None,
    book: Annotated[
        Path | None,
        typer.Option("--book", help="Folder of recipe cards for a student that looks them up, instead of its own."),
    ] = None,
    record: Annotated[Path | None, typer.Option("--record", help="JSONL file to note each request in.")] = None,
    record_text: Annotated[bool, typer.Option("--record-text", help="Note questions and replies there, too.")] = False,
    redact: Annotated[
        Path | None, typer.Option("--redact", metavar="FILE", help="A name and a pattern a line: what no note shows.")
    ] = None,
    review: Annotated[
        Path | None,
        typer.Option("--review", metavar="FOLDER", help="Where answers wait that a person must look at: aot review."),
    ] = None,
    review_kind: Annotated[
        list[str] | None,
        typer.Option("--review-kind", metavar="KIND", help="Whose answers wait, too; * is every kind; repeatable."),
    ] = None,
    disclose: Annotated[
        bool, typer.Option("--disclose", help="Put a sentence behind each text that says what wrote it.")
    ] = False,
    watermark_key_env: Annotated[
        str | None,
        typer.Option("--watermark-key-env", help="Environment variable with the secret of a watermark."),
    ] = None,
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="Of one request.")] = Limits.max_body_mb,
    max_images: Annotated[int, typer.Option(min=1, help="In one request.")] = Limits.max_images,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of one image.")] = Limits.max_pixels,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Of one reply.")] = Limits.max_new_tokens,
    max_prompt_tokens: Annotated[int, typer.Option(min=1, help="Of one prompt.")] = Limits.max_prompt_tokens,
    max_queue: Annotated[int, typer.Option(min=1, help="Requests that may wait.")] = Limits.max_queue,
    max_batch: Annotated[int, typer.Option(min=1, help="Requests answered together.")] = Limits.max_batch,
    drain_s: Annotated[float, typer.Option(min=0, help="After a signal, to finish what was taken.")] = Limits.drain_s,
) -> None:
    """Serve a student over HTTP, as OpenAI's clients ask; or servers behind this one, with its contract and figures."""
    from aot.serving.server.command import serve_command

    limits = Limits(
        max_body_mb=max_body_mb, max_images=max_images, max_pixels=max_pixels, max_new_tokens=max_new_tokens,
        max_prompt_tokens=max_prompt_tokens, max_queue=max_queue, max_batch=max_batch, drain_s=drain_s,
        max_open=2 * max_queue,
    )  # fmt: skip
    serve_command(
        export, host=host, port=port, allow=allow or (), key_env=key_env, back_ends=student or (), model=model,
        back_end_key_env=student_key_env, record=record, record_text=record_text, redact=redact, limits=limits,
        cascade=cascade, disclose=disclose, book=book, review=review, review_kinds=review_kind or (),
        watermark_key_env=watermark_key_env, say=tell,
    )  # fmt: skip


def predict(
    export: Annotated[Path, typer.Argument(help="Folder of an exported student")],
    question: Annotated[str | None, typer.Argument(help="A question; or --in FILE")] = None,
    clip: Annotated[Path | None, typer.Option("--clip", help="A video file that the question is about.")] = None,
    choice: Annotated[
        list[str] | None, typer.Option("--choice", help="An answer option; may be given several times.")
    ] = None,
    mode: Annotated[
        Literal["direct", "reason", "explain", "adaptive", "tools", "decide"] | None,
        typer.Option("--mode", help="How to answer; if not given, with its tools, or decide where there are choices."),
    ] = None,
    book: Annotated[
        Path | None,
        typer.Option("--book", help="Folder of recipe cards for a student that looks them up, instead of its own."),
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
    review: Annotated[
        Path | None,
        typer.Option("--review", metavar="FOLDER", help="Where answers wait that a person must look at: aot review."),
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
    from aot.acting.carried import read_book
    from aot.pipeline.student.predict import answer_lines, predict_file, predict_one, summary_lines
    from aot.serving.student import Ask

    cards = read_book(book) if book else None
    if questions and out:
        resumable.set()
        with told_as_stop():
            summary = predict_file(export, questions, out, root=root, mode=mode, book=cards, review=review)
        with done_anyway():
            if as_json:
                tell_record(summary)
            else:
                tell(summary_lines(summary, out))
        code = summary.exit_code
    else:
        ask = Ask(typed(question or ""), choices=tuple(map(typed, choice or ())), clip=clip, mode=mode)
        with told_as_stop():
            answer = predict_one(export, ask, book=cards, review=review)
        if as_json:
            tell_record(answer)
        else:
            tell(answer_lines(answer))
        code = 3 if answer.abstained else 0
    if code:
        raise typer.Exit(code)
