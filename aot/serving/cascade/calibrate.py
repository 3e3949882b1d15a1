"""What the confidence of a student means: temperatures, reliability, thresholds and the watch, from labelled questions.

The questions are of no split of the run. A quarter of their groups fits temperatures and proposes thresholds, the
others test those, one question of each group (aot.evaluation.risk). Choices are scored, open questions are answered in
the mode that the student was taught first, with the probability of the whole reply as its confidence.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from aot.answers import same_answer
from aot.evaluation.risk import (
    Judged,
    choose_threshold,
    fit_temperatures,
    measure,
    one_of_each_group,
    sample_of,
    split_groups,
    temperature_of,
)
from aot.evaluation.scoring import score
from aot.records import Prediction, PromptMode, Question
from aot.served_records import (
    AskMode,
    CascadeThreshold,
    KindTemperature,
    ModeCalibration,
    ServedCalibration,
    WatchBaseline,
)
from aot.serving.cascade.watch import features_of, watch_baseline

if TYPE_CHECKING:
    from aot.student.model.loading import Student
    from aot.student.rows.frames import FramePixels

Loss = Literal["wrong", "disagrees"]
Answered = dict[AskMode, list[tuple[Question, Prediction]]]
"""What the student said, by how it was asked."""


def answer_all(
    student: "Student",
    questions: Sequence[Question],
    *,
    pixels: "FramePixels | None",
    mode: PromptMode,
    arm: str,
    batch_size: int,
) -> Answered:
    """The student's answers: questions with choices are decided, the others asked in `mode`."""
    from aot.student.answer.predict import predict

    closed = [question for question in questions if question.choices]
    written = [question for question in questions if not question.choices]
    said: Answered = {}
    if closed:
        rows = predict(student, closed, pixels=pixels, arm=arm, mode="likelihood", batch_size=batch_size)
        said["decide"] = list(zip(closed, rows, strict=True))
    if written:
        rows = predict(student, written, pixels=pixels, arm=arm, mode=mode, batch_size=batch_size, with_tokens=True)
        said[mode] = list(zip(written, rows, strict=True))
    return said


def judge(question: Question, prediction: Prediction, big: Prediction | None = None) -> Judged:
    """An answer with its log-probabilities, whether it is right, and whether the big model says otherwise."""
    graded = score(prediction, question)
    logs: tuple[float, ...] = ()
    gold: int | None = None
    if prediction.choice_probs:
        logs = tuple(math.log(max(p, 1e-300)) for p in prediction.choice_probs)
        gold = question.option_answers.index(question.right_answer)
    elif graded.state == "scored" and prediction.token_logprobs:
        logs = (min(0.0, math.fsum(prediction.token_logprobs)),)
    return Judged(
        kind=question.kind, group=question.group, logs=logs, gold=gold, right=graded.correct,
        disagrees=None if big is None else not same_answer(prediction.answer, big.answer, question),
        question_id=question.id,
    )  # fmt: skip


def calibrate(
    said: Answered,
    *,
    words: Iterable[str],
    targets: Sequence[float],
    confidence: float,
    seed: int,
    source: str,
    big: Mapping[str, Prediction] | None = None,
) -> ServedCalibration:
    """Temperatures, their measures, thresholds and watches.

    Args:
        said: answers of the student to labelled questions of no split of its run.
        words: those of its training questions (aot.serving.cascade.watch.words_of).
        targets: for each, a row of thresholds; each row is a promise of its own.
        confidence: of each promise.
        seed: of the split into groups that fit and groups that test.
        source: which questions these are, in words.
        big: answers of the big model by question id: then there are thresholds for disagreement with it too.
    """
    words = frozenset(words)
    temperatures: list[KindTemperature] = []
    modes: list[ModeCalibration] = []
    thresholds: list[CascadeThreshold] = []
    watches: list[WatchBaseline] = []
    for mode, rows in said.items():
        items = [judge(question, made, (big or {}).get(question.id)) for question, made in rows]
        fit, test = split_groups(items, seed=seed)
        fitted = fit_temperatures(fit, mode=mode)
        temperatures += fitted
        modes.append(measure(test, fitted, mode=mode))
        fit, test = one_of_each_group(fit, seed=seed), one_of_each_group(test, seed=seed)
        thresholds += mode_thresholds(fit, test, fitted, targets=targets, confidence=confidence, mode=mode)
        if fit and test:
            questions = {question.id: question for question, _ in rows}
            measures = [[_measures(one, questions, fitted, words) for one in part] for part in (fit, test)]
            watches.append(watch_baseline(*measures, words=words, mode=mode))
    every = [question for rows in said.values() for question, _ in rows]
    return ServedCalibration(
        temperatures=tuple(temperatures),
        source=source,
        questions_digest=_digest(every),
        n=len(every),
        **{name: _mean(modes, name) for name in ("ece_before", "ece_after", "brier_before", "brier_after")},
        modes=tuple(modes),
        thresholds=tuple(thresholds),
        watches=tuple(watches),
    )


def mode_thresholds(
    fit: Sequence[Judged],
    test: Sequence[Judged],
    temperatures: Sequence[KindTemperature],
    *,
    targets: Sequence[float],
    confidence: float,
    mode: AskMode,
) -> list[CascadeThreshold]:
    """A threshold for each target and loss, from questions of different groups."""
    rows = []
    losses: tuple[Loss, ...] = ("wrong", "disagrees")
    for loss in losses:
        parts = [[one for one in part if loss == "wrong" or one.disagrees is not None] for part in (fit, test)]
        if not parts[1]:
            continue
        samples = [sample_of(part, temperatures, loss=loss) for part in parts]
        rows += [
            choose_threshold(*samples, target=target, confidence=confidence, mode=mode, loss=loss) for target in targets
        ]
    return rows


def _measures(
    item: Judged, questions: Mapping[str, Question], temperatures: Sequence[KindTemperature], words: frozenset[str]
) -> dict[str, float]:
    question = questions[item.question_id]
    confidence = item.confidence(temperature_of(item.kind, temperatures)) if item.logs else None
    return features_of(question.text, choices=question.choices, confidence=confidence, words=words)


def _mean(modes: Sequence[ModeCalibration], name: str) -> float:
    total = sum(one.n for one in modes)
    return sum(one.n * float(getattr(one, name)) for one in modes) / max(1, total)


def _digest(questions: Iterable[Question]) -> str:
    text = "\n".join(sorted(f"{question.id}\t{question.text}\t{question.answer}" for question in questions))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
