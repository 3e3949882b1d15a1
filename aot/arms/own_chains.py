"""Chains that a student writes itself: from a share of the teacher's chains to as many as it can verify.

Each round trains a student from the base on what there is, samples it on the other questions, and keeps what
gives the gold answer and passes the filters (STaR, arXiv 2203.14465; ReST-EM, arXiv 2312.06585). A round that brings
nothing new is the last one.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from aot.answers import find_answer, is_right
from aot.arms.asking import open_student, timeless, timeless_answers
from aot.arms.jobs import OWN_KEPT, Job
from aot.arms.lessons import Material, ordered_lessons, shared_chains
from aot.config import ArmConfig, FilterConfig, RunConfig
from aot.errors import SourceError
from aot.evaluation.intervals import cluster_ids, proportion
from aot.faults.plant import uses_tools
from aot.files.jsonl import read_json
from aot.files.run_folder import LESSONS, ROUNDS, SAMPLES, SPLIT, RunFolder, publish_json, publish_rows, read_rows
from aot.files.seals import publish_once
from aot.filtering.chain import judge_alone
from aot.filtering.subject import Subject
from aot.rationales.notation import parse_rationale
from aot.records import Lesson, Prediction, Question, Trace, Usage
from aot.run_records import Accuracy, Round
from aot.student.answer.predict import sample
from aot.student.rows.replies import plain_reply
from text_cot.teacher.procedural import chain_trace

TEACHER = "self"


def round_lessons(run: RunFolder, job: Job, material: Material, *, seed: int) -> list[Lesson]:
    """Lessons from the teacher's share and everything that the rounds before have added."""
    chains = _chains_before(run, job, material, seed=seed)
    return ordered_lessons(material.questions, {i: chains[i] for i in material.samples if i in chains}, job.arm)


def sample_round(run: RunFolder, config: RunConfig, job: Job, material: Material) -> None:
    """Publish what the student of a round writes to open questions, what of that is verified, and the round's row."""
    arm, helper, number = job.arm, job.student, job.number
    given = shared_chains(material, arm, seed=config.seed)
    chains = _chains_before(run, job, material, seed=config.seed)
    open_questions = [material.questions[i] for i in material.samples if i not in chains]
    new = _new_chains(run, config, helper, open_questions, material, round_seed=config.seed + number)
    row = Round(
        round=number, teacher_chains=len(given), own_chains=len(chains) - len(given),
        sampled=len(open_questions) * config.train.own_chains.samples, new_chains=len(new),
        **_accuracy(run, config, helper).model_dump(),
    )  # fmt: skip
    earlier = _read_rounds(run, arm)[:number] if number else []
    publish_json(run.arm(arm.name) / ROUNDS, [one.model_dump(mode="json") for one in [*earlier, row]])


def tell_reached(run: RunFolder, config: RunConfig, arm: ArmConfig) -> None:
    """Add the trained arm as the last row of its rounds.json; nothing was sampled from it."""
    rounds = _read_rounds(run, arm)
    last = rounds[-1]
    if not (_round_folder(run, arm, last.round) / LESSONS).exists():
        return  # that row is the arm itself
    final = last.model_copy(
        update={
            "round": last.round + 1, "own_chains": last.own_chains + last.new_chains, "sampled": 0, "new_chains": 0,
            **_accuracy(run, config, arm).model_dump(),
        }
    )  # fmt: skip
    publish_json(run.arm(arm.name) / ROUNDS, [row.model_dump(mode="json") for row in [*rounds, final]])


def _round_folder(run: RunFolder, arm: ArmConfig, number: int) -> Path:
    return run.arm(f"{arm.name}/round{number}")


def _chains_before(run: RunFolder, job: Job, material: Material, *, seed: int) -> dict[str, Trace]:
    """The teacher's share, then what each earlier round added."""
    chains = shared_chains(material, job.arm, seed=seed)
    for number in range(job.number):
        path = _round_folder(run, job.arm, number) / OWN_KEPT
        if path.exists():
            chains |= {trace.question_id: trace for trace in read_rows(path, Trace)}
    return chains


def _read_rounds(run: RunFolder, arm: ArmConfig) -> list[Round]:
    path = run.arm(arm.name) / ROUNDS
    try:
        return [Round.model_validate(row) for row in read_json(path)]
    except (OSError, ValueError, TypeError) as error:
        raise SourceError(f"{path} cannot be read ({error}); delete the folder {path.parent} to train again") from error


def verified_chain(
    replies: Iterable[Prediction],
    question: Question,
    filters: FilterConfig,
    *,
    config_digest: str,
    evidence: Trace | None = None,
) -> Trace | None:
    """The shortest whole reply with the right answer that passes the filters, as a trace; None if there is none.

    What a reply says about a clip is checked against what the tools of the teacher saw, which `evidence` holds.
    """
    good: list[Trace] = []
    for index, reply in enumerate(replies):
        text = plain_reply(reply.raw_text)
        answer = None if reply.finish_reason == "length" else find_answer(text).answer
        if answer is None or not is_right(answer, question):
            continue
        trace = _own_trace(text, answer, question, index, evidence, config_digest=config_digest)
        if trace and all(v.keep for v in judge_alone(Subject(trace, question, filters))):
            good.append(trace)
    return min(good, key=lambda trace: (len(trace.rationale), trace.sample_index), default=None)


def _own_trace(
    text: str, answer: str, question: Question, index: int, evidence: Trace | None, *, config_digest: str
) -> Trace | None:
    """A reply as a trace of the student; None where it has no steps, or not the form of a chain."""
    written_by = {"teacher": TEACHER, "sample_index": index, "config_digest": config_digest}
    if evidence is not None and uses_tools(evidence):
        if not parse_rationale(text).claims:
            return None
        said = {"rationale": text, "answer": answer, "shuffled_answers": (), "usage": Usage()}
        return evidence.model_copy(update={**written_by, **said})
    lines = text.rpartition("\n")[0].split("\n")
    trace = chain_trace(
        question.id, tuple(lines), answer, teacher=TEACHER, sample_index=index, config_digest=config_digest
    )
    return trace if lines[0] and trace.rationale == text else None


def _new_chains(
    run: RunFolder,
    config: RunConfig,
    helper: ArmConfig,
    questions: list[Question],
    material: Material,
    *,
    round_seed: int,
) -> dict[str, Trace]:
    """Question id to a verified chain, for the questions that got one; published with all their samples."""
    folder = run.arm(helper.name)
    settings = config.train.own_chains

    def rows() -> Iterable[Prediction]:
        student, pixels = open_student(run, config.student, folder, questions, cache_mb=config.train.frame_cache_mb)
        sampled = sample(
            student, questions, pixels=pixels, mode="reason", samples=settings.samples,
            temperature=settings.temperature, seed=round_seed, batch_size=config.evaluate.batch_size, arm=helper.name,
        )  # fmt: skip
        return (timeless(one) for row in sampled for one in row)

    publish_once(folder / SAMPLES, rows)
    replies: dict[str, list[Prediction]] = {}
    for row in read_rows(folder / SAMPLES, Prediction):
        replies.setdefault(row.question_id, []).append(row)
    chains: dict[str, Trace] = {}
    digest = config.digest()
    for question in questions:
        evidence = next(iter(material.samples[question.id].values()))
        chain = verified_chain(
            replies.get(question.id, ()), question, config.filter, config_digest=digest, evidence=evidence
        )
        if chain is not None:
            chains[question.id] = chain
    publish_rows(folder / OWN_KEPT, chains.values())
    return chains


def _accuracy(run: RunFolder, config: RunConfig, student: ArmConfig) -> Accuracy:
    """Of a trained student on the first evaluated split; its answers are published in its folder."""
    split = config.evaluate.splits[0]
    questions = [question for question in read_rows(run.questions, Question) if question.split == split]
    folder = run.arm(student.name)
    path = folder / SPLIT.format(split)

    def rows() -> Iterable[Prediction]:
        loaded, pixels = open_student(run, config.student, folder, questions, cache_mb=config.train.frame_cache_mb)
        size = config.evaluate.batch_size
        return timeless_answers(loaded, questions, pixels=pixels, arm=student.name, mode="reason", batch_size=size)

    publish_once(path, rows)
    answers = list(read_rows(path, Prediction))
    right = [is_right(answer.answer, question) for question, answer in zip(questions, answers, strict=True)]
    cut = sum(answer.finish_reason == "length" for answer in answers) / max(1, len(answers))
    interval = proportion(np.array(right, dtype=float), cluster_ids([question.group for question in questions]))
    return Accuracy(
        split=split, accuracy=interval.value, low=interval.low, high=interval.high, n=interval.n,
        truncated_rate=round(cut, 6),
    )  # fmt: skip
