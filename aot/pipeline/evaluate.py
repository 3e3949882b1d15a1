"""The evaluate stage: predictions of every student, the teacher and the baselines, then one grader for all.

Each predictor publishes its own file, so a stopped evaluation goes on with the next predictor. Nothing of video
is imported where no question shows frames.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal

from aot.config import MODES_OF_ORDER, NO_FRAMES, ArmConfig, RunConfig
from aot.evaluation.baselines import baseline_predictions
from aot.evaluation.groups import odd_rows
from aot.evaluation.metrics import compute_metrics
from aot.evaluation.spending import cut_sentences
from aot.files.run_folder import LESSONS, RunFolder, publish_json, publish_rows, read_rows, row_files
from aot.files.seals import publish_once
from aot.files.traces import first_traces
from aot.pipeline.commands.status import odd_line
from aot.records import ClipAnnotation, Lesson, Prediction, PromptMode, Question, Trace

log = logging.getLogger(__name__)
Mode = PromptMode | Literal["likelihood"]


@dataclass(frozen=True)
class Predictor:
    """One student in one mode."""

    arm: str
    adapter: Path | None
    mode: Mode
    with_frames: bool = True


def evaluate(run: RunFolder, config: RunConfig, progress: Callable[[int, int], None]) -> dict[str, int]:
    """Publish predictions and metrics; returns how many there are."""
    every = list(read_rows(run.questions, Question))
    questions = [q for q in every if q.split in config.evaluate.splits]
    traces = first_traces(run)
    publish_rows(run.predictions_of("teacher", "none"), (teacher_prediction(traces.get(q.id), q) for q in questions))
    annotations = list(read_rows(run.annotations, ClipAnnotation)) if run.annotations.exists() else []
    if annotations:
        baselines = baseline_predictions(questions=questions, annotations=annotations, traces=traces)
        publish_rows(run.predictions_of("baselines", "none"), baselines)
    predictors = plan_predictors(run, config.train.arms, questions)
    missing = [p for p in predictors if not run.predictions_of(p.arm, p.mode).exists()]
    progress(len(predictors) - len(missing), len(predictors))
    for done in _predict(run, config, missing, questions):
        progress(len(predictors) - len(missing) + done, len(predictors))
    predictions = list(read_predictions(run))
    odd = odd_rows(predictions, due={(p.arm, p.mode): _asked_of(p, questions) for p in predictors})
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


def _asked_of(predictor: Predictor, questions: Iterable[Question]) -> set[str]:
    return {question.id for question in questions if predictor.mode != "likelihood" or question.choices}


def plan_predictors(run: RunFolder, arms: Sequence[ArmConfig], questions: Sequence[Question]) -> list[Predictor]:
    """Who answers how: the base and every arm, and where questions have choices, how likely each of them finds those.

    Where questions show frames, the first arm that learns rationales also answers without seeing them.
    """
    closed: tuple[Mode, ...] = ("likelihood",) if any(q.choices for q in questions) else ()
    students: list[tuple[str, Path | None, tuple[Mode, ...]]] = [("base", None, MODES_OF_ORDER["both"])]
    students += [(arm.name, run.arm(arm.name), MODES_OF_ORDER[arm.order]) for arm in arms]
    plan = [Predictor(name, adapter, mode) for name, adapter, modes in students for mode in (*modes, *closed)]
    if any(q.media for q in questions):
        blind = next((arm for arm in arms if arm.rationale_weight > 0), arms[0])
        mode = MODES_OF_ORDER[blind.order][0]
        plan.append(Predictor(blind.name + NO_FRAMES, run.arm(blind.name), mode, with_frames=False))
    return plan


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


def _predict(
    run: RunFolder, config: RunConfig, predictors: list[Predictor], questions: list[Question]
) -> Iterator[int]:
    """Publish the predictions of each predictor; yields how many are done. All share one cache of processed frames."""
    # Imported here: torch is needed by this stage's work, not by the command line.
    from aot.student.answer.predict import predict
    from aot.student.model.loading import load_student
    from aot.student.rows.frames import FramePixels, FrameSource

    store: FrameSource | None = None
    if any(question.media for question in questions):
        from video_data.store.shards import FrameStore

        store = FrameStore(run.frames)
    pixels: FramePixels | None = None
    done = 0
    for adapter, same_adapter in groupby(predictors, key=lambda predictor: predictor.adapter):
        student = load_student(config.student.base, adapter=adapter, config=config.student)
        if store is not None and pixels is None:
            pixels = FramePixels(
                store, student.processor, model_type=student.model_type, max_bytes=config.train.frame_cache_mb << 20
            )
        for predictor in same_adapter:
            rows = partial(
                predict,
                student,
                questions,
                pixels=pixels,
                arm=predictor.arm,
                mode=predictor.mode,
                batch_size=config.evaluate.batch_size,
                with_frames=predictor.with_frames,
            )
            publish_once(run.predictions_of(predictor.arm, predictor.mode), rows)
            done += 1
            yield done
