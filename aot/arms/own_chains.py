"""Chains that a student writes itself: from a share of the teacher's chains to as many as it can verify.

Each round trains a student from the base on what there is, samples it on the other questions, and keeps what
gives the gold answer and passes the filters (STaR, arXiv 2203.14465; ReST-EM, arXiv 2312.06585). A round that brings
nothing new is the last one.
"""

from collections.abc import Iterable

import numpy as np

from aot.answers import find_answer, is_right
from aot.arms.adaptive import timeless
from aot.arms.lessons import Samples, lesson_of, own_share, pick_chain, train_questions
from aot.arms.text_train import StepCounter
from aot.config import ArmConfig, RunConfig
from aot.errors import SourceError
from aot.evaluation.intervals import cluster_ids, proportion
from aot.files.jsonl import read_json
from aot.files.run_folder import RunFolder, publish_json, publish_rows, read_rows
from aot.files.seals import publish_once
from aot.filtering.chain import judge_alone
from aot.filtering.subject import Subject
from aot.records import Lesson, Prediction, Question, Record, Trace
from aot.student.answer.predict import predict, sample
from aot.student.model.loading import Student, load_student
from aot.student.rows.replies import plain_reply
from text_cot.teacher.procedural import chain_trace

TEACHER = "self"
ROUNDS = "rounds.json"


class Accuracy(Record):
    """What a student reached on a split; reported, never used to decide anything."""

    split: str
    accuracy: float
    low: float
    high: float
    """95% interval."""
    n: int
    truncated_rate: float | None = None
    """Share of its replies that the cap cut off; None in rounds of before this was counted."""


class Round(Accuracy):
    """What one round had, brought, and reached."""

    round: int
    teacher_chains: int
    own_chains: int
    """Those the student of this round was trained on."""
    sampled: int
    new_chains: int
    """Questions that this round's samples gave a chain for the first time."""


def own_lessons(
    run: RunFolder, config: RunConfig, arm: ArmConfig, samples: dict[str, Samples], counter: StepCounter
) -> list[Lesson]:
    """Lessons from the teacher's share and everything the student added; publishes rounds.json in the arm's folder."""
    questions = {question.id: question for question in train_questions(run) if question.id in samples}
    given = own_share(samples, share=arm.chain_share, seed=config.seed)
    chains = {question_id: pick_chain(samples[question_id], question_id, config) for question_id in given}
    rounds: list[Round] = []
    for number in range(config.train.own_chains.rounds):
        helper = arm.model_copy(update={"name": f"{arm.name}/round{number}"})
        counter.train(run, config, helper, lambda known=chains: [lesson_of(chain, arm) for chain in known.values()])  # type: ignore[misc]
        open_questions = [question for question_id, question in questions.items() if question_id not in chains]
        found = _new_chains(run, config, helper, open_questions, round_seed=config.seed + number)
        counts = {
            "round": number, "teacher_chains": len(given), "own_chains": len(chains) - len(given),
            "sampled": len(open_questions) * config.train.own_chains.samples, "new_chains": len(found),
        }  # fmt: skip
        rounds.append(Round.model_validate({**counts, **_accuracy(run, config, helper).model_dump()}))
        publish_json(run.arm(arm.name) / ROUNDS, [row.model_dump(mode="json") for row in rounds])
        if not found:
            break
        chains = {**chains, **found}
    return [lesson_of(chains[question_id], arm) for question_id in samples if question_id in chains]


def note_final(run: RunFolder, config: RunConfig, arm: ArmConfig) -> None:
    """Add the trained arm as the last row of its rounds.json; nothing was sampled from it."""
    path = run.arm(arm.name) / ROUNDS
    try:
        rounds = [Round.model_validate(row) for row in read_json(path)]
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(f"{path} cannot be read ({error}); delete the folder {path.parent} to train again") from error
    last = rounds[-1]
    if not run.arm(f"{arm.name}/round{last.round}").exists():
        return  # that row is the arm itself
    used = last.own_chains + last.new_chains
    right = _accuracy(run, config, arm)
    final = last.model_copy(
        update={"round": last.round + 1, "own_chains": used, "sampled": 0, "new_chains": 0, **right.model_dump()}
    )
    publish_json(run.arm(arm.name) / ROUNDS, [row.model_dump(mode="json") for row in [*rounds, final]])


def verified_chain(replies: Iterable[Prediction], question: Question, config: RunConfig) -> Trace | None:
    """The shortest whole reply with the right answer that passes the filters, as a trace; None if there is none."""
    good: list[Trace] = []
    for index, reply in enumerate(replies):
        text = plain_reply(reply.raw_text)
        answer = None if reply.finish_reason == "length" else find_answer(text).answer
        lines = text.rpartition("\n")[0].split("\n")
        if answer is None or not lines[0] or not is_right(answer, question):
            continue
        trace = chain_trace(
            question.id, tuple(lines), answer, teacher=TEACHER, sample_index=index, config_digest=config.digest()
        )
        if trace.rationale == text and all(v.keep for v in judge_alone(Subject(trace, question, config.filter))):
            good.append(trace)
    return min(good, key=lambda trace: (len(trace.rationale), trace.sample_index), default=None)


def _new_chains(
    run: RunFolder, config: RunConfig, helper: ArmConfig, questions: list[Question], *, round_seed: int
) -> dict[str, Trace]:
    """Question id to a verified chain, for the questions that got one; published with all their samples."""
    kept_path, samples_path = run.arm(helper.name) / "kept.jsonl", run.arm(helper.name) / "samples.jsonl"
    own = config.train.own_chains

    def rows() -> Iterable[Prediction]:
        sampled = sample(
            _student(run, config, helper), questions, mode="reason", samples=own.samples,
            temperature=own.temperature, seed=round_seed, batch_size=config.evaluate.batch_size, arm=helper.name,
        )  # fmt: skip
        return (timeless(one) for row in sampled for one in row)

    publish_once(run, "train", samples_path, rows)
    replies: dict[str, list[Prediction]] = {}
    for row in read_rows(samples_path, Prediction):
        replies.setdefault(row.question_id, []).append(row)
    found = {q.id: verified_chain(replies.get(q.id, ()), q, config) for q in questions}
    kept = {question_id: trace for question_id, trace in found.items() if trace is not None}
    publish_rows(kept_path, kept.values())
    return kept


def _accuracy(run: RunFolder, config: RunConfig, student: ArmConfig) -> Accuracy:
    """Of a trained student on the first evaluated split; its answers are published in its folder."""
    split = config.evaluate.splits[0]
    asked = [question for question in read_rows(run.questions, Question) if question.split == split]
    path = run.arm(student.name) / f"{split}.jsonl"
    size = config.evaluate.batch_size

    def rows() -> Iterable[Prediction]:
        answered = predict(_student(run, config, student), asked, arm=student.name, mode="reason", batch_size=size)
        return map(timeless, answered)

    publish_once(run, "train", path, rows)
    answers = list(read_rows(path, Prediction))
    right = [is_right(answer.answer, question) for question, answer in zip(asked, answers, strict=True)]
    cut = sum(answer.finish_reason == "length" for answer in answers) / max(1, len(answers))
    interval = proportion(np.array(right, dtype=float), cluster_ids([question.group for question in asked]))
    return Accuracy(
        split=split, accuracy=interval.value, low=interval.low, high=interval.high, n=interval.n,
        truncated_rate=round(cut, 6),
    )  # fmt: skip


def _student(run: RunFolder, config: RunConfig, helper: ArmConfig) -> Student:
    return load_student(config.student.base, adapter=run.arm(helper.name), config=config.student)
