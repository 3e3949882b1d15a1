"""The evaluate stage: predictions of every student, the teacher and the baselines, then one grader for all.

What students say is kept row by row, so a stopped evaluation goes on where it stopped (aot.pipeline.predictors).
"""

import logging
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from aot.config import ArmConfig, RunConfig
from aot.errors import AotError, GuardStop
from aot.evaluation.baselines import baseline_predictions
from aot.evaluation.groups import odd_rows
from aot.evaluation.metrics import compute_metrics
from aot.evaluation.spending import cut_sentences
from aot.files.children import die_with_parent, starting_children
from aot.files.run_folder import LESSONS, RunFolder, publish_json, publish_rows, read_rows, row_files
from aot.files.shards import Shard
from aot.files.traces import first_traces
from aot.generate.processes import Failure
from aot.pipeline.commands.status import odd_line
from aot.pipeline.doors import door_of
from aot.pipeline.predictors import (
    Predictor,
    Progress,
    Students,
    StudentsHere,
    answer_share,
    is_all_there,
    plan_predictors,
    unite_shares,
)
from aot.records import ClipAnnotation, Lesson, Prediction, Question, Trace

log = logging.getLogger(__name__)
LEFT_OUT = {
    "likelihood": "tells no probability of a given choice",
    "tools": "is asked one prompt at a time",
}
"""Modes in which a server is not asked, and why."""


def evaluate(run: RunFolder, config: RunConfig, progress: Progress) -> dict[str, int]:
    """Publish predictions and metrics; returns how many there are.

    A run that is one shard of many makes its share of the students' predictions, and publishes nothing.
    """
    every = list(read_rows(run.questions, Question))
    questions = [q for q in every if q.split in config.evaluate.splits]
    predictors, left_out = _predictors(run, config, questions)
    for mode, why in LEFT_OUT.items():
        if arms := [one.arm for one in left_out if one.mode == mode]:
            log.warning("evaluate.engine server %s, so mode %s is left out of: %s", why, mode, ", ".join(arms))
    shard = Shard.of(config.run.shard)
    writer = "0" if config.run.shard is None else shard.writer
    if config.evaluate.engine == "local" and config.evaluate.procs > 1:
        if not is_all_there(run, predictors, questions):
            _answer_beside(run, config, shard=shard, writer=writer, progress=progress)
    else:
        _answer(run, config, questions, shard=shard, writer=writer, progress=progress)
    if config.run.shard is not None:
        return {}
    unite_shares(run, predictors, questions)
    traces = first_traces(run)
    publish_rows(run.predictions_of("teacher", "none"), (teacher_prediction(traces.get(q.id), q) for q in questions))
    annotations = list(read_rows(run.annotations, ClipAnnotation)) if run.annotations.exists() else []
    if annotations:
        baselines = baseline_predictions(questions=questions, annotations=annotations, traces=traces)
        publish_rows(run.predictions_of("baselines", "none"), baselines)
    predictions = list(read_predictions(run))
    odd = odd_rows(predictions, due={(p.arm, p.mode): {q.id for q in p.asked_of(questions)} for p in predictors})
    if odd:
        log.warning("%s", odd_line(odd, run))
    metrics = compute_metrics(
        questions=questions,
        predictions=predictions,
        arms=config.train.arms,
        splits=config.evaluate.splits,
        bootstrap_samples=config.evaluate.bootstrap_samples,
        seed=config.seed,
        annotations=annotations,
        training=[question for question in every if question.split == "train"],
        learned=learned_ids(run, config.train.arms),
    )
    for sentence in cut_sentences(metrics):
        log.warning("%s", sentence)
    publish_json(run.metrics, [row.model_dump(mode="json") for row in metrics])
    return {"predictions": len(predictions), "metrics": len(metrics), **odd}


def _predictors(
    run: RunFolder, config: RunConfig, questions: Sequence[Question]
) -> tuple[list[Predictor], list[Predictor]]:
    """Who answers, and who is left out because a server cannot be asked so."""
    every_way = config.evaluate.every_way and config.evaluate.engine == "local"
    has_book = door_of(config).has_book(config)
    plan = plan_predictors(run, config.train.arms, questions, has_book=has_book, every_way=every_way)
    if config.evaluate.engine == "local":
        return plan, []
    return [p for p in plan if p.mode not in LEFT_OUT], [p for p in plan if p.mode in LEFT_OUT]


def _answer(
    run: RunFolder, config: RunConfig, questions: Sequence[Question], *, shard: Shard, writer: str, progress: Progress
) -> None:
    """Answer a share in this process."""
    predictors, _ = _predictors(run, config, questions)
    students: Callable[[], Students] = partial(StudentsHere, run, config, questions, writer=writer)
    if config.evaluate.engine == "server":
        from aot.pipeline.remote import StudentsThere  # here, because it imports torch

        students = partial(StudentsThere, run, config, questions, predictors, writer=writer)
    answer_share(run, predictors, questions, shard=shard, writer=writer, students=students, progress=progress)


def _answer_beside(run: RunFolder, config: RunConfig, *, shard: Shard, writer: str, progress: Progress) -> None:
    """Answer a share in `evaluate.procs` processes, each with a share of it and a part of its own.

    Raises:
        AotError: what one of them raised.
        GuardStop: one was killed.
    """
    spawn, procs = multiprocessing.get_context("spawn"), config.evaluate.procs
    children: dict[Connection, SpawnProcess] = {}
    with starting_children():
        for number in range(procs):
            receiver, sender = spawn.Pipe(duplex=False)
            of_it = Shard(shard.index + shard.count * number, shard.count * procs)
            child = spawn.Process(
                target=_answer_as_child, args=(run, config, of_it, f"{writer}-{number}", number, sender), daemon=True
            )
            child.start()
            sender.close()
            children[receiver] = child
    counts = dict.fromkeys(children, (0, 0))
    running = list(children)
    try:
        while running:
            for pipe in wait(running):
                assert isinstance(pipe, Connection)
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    running.remove(pipe)
                    _require_done(children[pipe])
                    continue
                if isinstance(message, Failure):
                    raise message.error()
                counts[pipe] = message
                progress(*map(sum, zip(*counts.values(), strict=True)))
    finally:
        for child in children.values():
            child.terminate()
        for child in children.values():
            child.join()


def _require_done(child: SpawnProcess) -> None:
    child.join()
    if child.exitcode != 0:
        raise GuardStop(
            f"a process that evaluates ended with code {child.exitcode}; run the same command again to go on: "
            "finished predictions are kept"
        )


def _answer_as_child(
    run: RunFolder, config: RunConfig, shard: Shard, writer: str, number: int, sender: Connection
) -> None:
    """The life of one of several processes; it tells how far it is, and what stopped it."""
    die_with_parent()
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    try:
        questions = [q for q in read_rows(run.questions, Question) if q.split in config.evaluate.splits]
        _answer(
            run, config, questions, shard=shard, writer=writer, progress=lambda done, total: sender.send((done, total))
        )
    except AotError as error:
        sender.send(Failure.of(error))
    finally:
        sender.close()


def teacher_prediction(trace: Trace | None, question: Question) -> Prediction:
    """What the teacher answered, as a prediction like any other."""
    answered = trace is not None and trace.status == "ok" and bool(trace.answer)
    was_cut = trace is not None and trace.error is not None and trace.error.reason == "truncated"
    was_written = trace is not None and trace.status == "ok" and trace.usage.chat_calls > 0
    return Prediction(
        question_id=question.id,
        arm="teacher",
        mode="none",
        raw_text=trace.rationale if trace else "",
        answer=trace.answer if trace and answered else None,
        error=trace.error.message if trace and trace.error else "" if trace else "no trace",
        finish_reason="length" if was_cut else "stop" if was_written else "",
    )


def learned_ids(run: RunFolder, arms: Sequence[ArmConfig]) -> dict[str, set[str]]:
    """Arm to the ids of the questions that it has lessons about; without an arm whose lessons are gone."""
    paths = {arm.name: run.arm(arm.name) / LESSONS for arm in arms}
    return {
        name: {lesson.question_id for lesson in read_rows(path, Lesson)}
        for name, path in paths.items()
        if path.exists()
    }


def read_predictions(run: RunFolder) -> Iterable[Prediction]:
    """Every prediction of a run, file by file in name order."""
    for path in row_files(run.predictions):
        yield from read_rows(path, Prediction)
