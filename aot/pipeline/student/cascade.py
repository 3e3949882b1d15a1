"""What a cascade of an arm and the teacher would have done on the evaluated splits, from answers that both have given.

The threshold is the one that `aot calibrate` chose on questions of its own. Choices that were scored and the teacher's
answers lie in the run folder; written replies are asked for once more where nobody kept how likely they were.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aot.answer_records import CascadePoint, CascadeResults
from aot.chat.spend import cost_of
from aot.config import PricesConfig, RunConfig
from aot.evaluation.cascade import Replayed, cascade_curve, curve_points
from aot.evaluation.intervals import Bootstrap, cluster_ids
from aot.evaluation.scoring import score
from aot.files.run_folder import RunFolder, publish_json, read_rows
from aot.files.traces import first_traces
from aot.records import Prediction, Question
from aot.run_records import ChatUsage
from aot.served_records import AskMode, ServedCalibration
from aot.serving.cascade.calibrate import Answered, judge

TEACHER = "teacher"
Pairs = Sequence[tuple[Question, Prediction]]
Asking = Callable[[Sequence[Question]], Answered]


@dataclass(frozen=True)
class _Big:
    """The teacher's answers by question id, and what each has cost."""

    said: Mapping[str, Prediction]
    costs: Mapping[str, float]
    """Empty: nobody knows."""
    unit: str


def publish_cascade(
    run: RunFolder, config: RunConfig, made: ServedCalibration, *, arm: str, mode: AskMode, ask: Asking
) -> None:
    """Publish the curves of every threshold that a calibration has for wrong answers; nothing without a teacher.

    Args:
        run: a run folder.
        config: its resolved config.
        made: the calibration.
        arm: the small model, whose calibration it is.
        mode: how it answers open questions.
        ask: its answers to questions, with how likely they are.
    """
    path = run.predictions_of(TEACHER, "none")
    if not path.exists():
        return
    said = {row.question_id: row for row in read_rows(path, Prediction)}
    questions = [q for q in read_rows(run.questions, Question) if q.split in config.evaluate.splits and q.id in said]
    big = _Big(said, *_costs(run, questions, prices=config.chat.prices if config.chat else None))
    bootstrap = Bootstrap(config.evaluate.bootstrap_samples, config.seed)
    answers = _answers(run, questions, made, arm=arm, mode=mode, ask=ask)
    splits = config.evaluate.splits
    played = {
        mode: {
            split: _played(members, made, big, mode=mode, bootstrap=bootstrap)
            for split in splits if (members := [one for one in pairs if one[0].split == split])
        }
        for mode, pairs in answers.items()
    }  # fmt: skip
    results = []
    for row in (one for one in made.thresholds if one.loss == "wrong"):
        curves = [
            cascade_curve(
                replayed, points, split=split, threshold=row.threshold, target=row.target, bootstrap=bootstrap
            )
            for split, (replayed, points) in played.get(row.mode, {}).items()
        ]
        if curves:
            results.append(
                CascadeResults(
                    arm=arm, mode=row.mode, big=TEACHER, target=row.target, confidence=row.confidence,
                    threshold=row.threshold, chosen_on=f"n={row.n} of {made.source}", cost_unit=big.unit,
                    curves=tuple(curves),
                )
            )  # fmt: skip
    publish_json(run.cascade_results, [one.model_dump(mode="json") for one in results])


def _answers(
    run: RunFolder, questions: Sequence[Question], made: ServedCalibration, *, arm: str, mode: AskMode, ask: Asking
) -> dict[AskMode, Pairs]:
    """The arm's answers in the modes that were calibrated: those of the run where they tell how likely they are."""
    closed, written = ([q for q in questions if bool(q.choices) == is_closed] for is_closed in (True, False))
    answers: dict[AskMode, Pairs] = {}
    for one, asked_about, stored in (("decide", closed, "likelihood"), (mode, written, mode)):
        if not asked_about or not any(row.mode == one for row in made.thresholds):
            continue
        path = run.predictions_of(arm, stored)
        rows = {row.question_id: row for row in read_rows(path, Prediction)} if path.exists() else {}
        pairs = [(question, rows[question.id]) for question in asked_about if question.id in rows]
        if len(pairs) < len(asked_about) or not any(row.choice_probs or row.token_logprobs for _, row in pairs):
            pairs = ask(asked_about).get(one, [])  # type: ignore[call-overload]
        answers[one] = pairs  # type: ignore[index]
    return answers


def _played(
    pairs: Pairs, made: ServedCalibration, big: _Big, *, mode: AskMode, bootstrap: Bootstrap
) -> tuple[Replayed, tuple[CascadePoint, ...]]:
    """The questions of a split, and the points of their curve, which is the same for every target."""
    replayed = _replayed(pairs, made, big, mode=mode)
    return replayed, curve_points(replayed, bootstrap)


def _replayed(pairs: Pairs, made: ServedCalibration, big: _Big, *, mode: AskMode) -> Replayed:
    """Confidence, right and wrong, and cost of the questions."""
    judged = [judge(question, prediction) for question, prediction in pairs]
    confidence = [one.confidence(made.temperature(one.kind, mode)) for one in judged]
    priced = bool(big.costs)
    student_cost = [prediction.latency_s if big.unit == "s" else 0.0 for _, prediction in pairs]
    return Replayed(
        confidence=np.array(confidence),
        student_right=np.array([one.right for one in judged], dtype=bool),
        big_right=np.array([score(big.said[question.id], question).correct for question, _ in pairs], dtype=bool),
        clusters=cluster_ids([question.group for question, _ in pairs]),
        student_cost=np.array(student_cost) if priced else None,
        big_cost=np.array([big.costs[question.id] for question, _ in pairs]) if priced else None,
    )


def _costs(
    run: RunFolder, questions: Sequence[Question], *, prices: PricesConfig | None
) -> tuple[dict[str, float], str]:
    """What the teacher's answer to each question has cost, and in what: money where it has a price, else seconds."""
    usages = {name: trace.usage for name, trace in first_traces(run).items()} if run.traces.exists() else {}
    if any(question.id not in usages for question in questions):
        return {}, ""
    costs: dict[str, float] = {}
    for question in questions:
        usage = usages[question.id]
        tokens = ChatUsage(
            prompt_tokens=usage.prompt_tokens, cached_prompt_tokens=usage.cached_prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )  # fmt: skip
        cost = cost_of(tokens, prices) if usage.chat_calls else None
        if cost is None:
            return {question.id: usages[question.id].seconds for question in questions}, "s"
        costs[question.id] = cost
    return costs, prices.currency if prices else ""
