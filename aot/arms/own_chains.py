"""Chains that a student writes itself: from a share of the teacher's chains to as many as it can verify.

Each round trains a student from the base on what there is, samples it on the other questions, and keeps what
gives the gold answer and passes the filters (STaR, arXiv 2203.14465; ReST-EM, arXiv 2312.06585). A round that brings
nothing new is the last one.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from aot.answers import find_answer, is_right
from aot.arms.asking import open_student, timeless, timeless_answers
from aot.arms.choice import likeliest, publish_likelihoods
from aot.arms.jobs import LIKELIHOODS, OWN_KEPT, Job
from aot.arms.lessons import Material, ordered_lessons, refused_lesson, shared_chains
from aot.config import ArmConfig, FilterConfig, RunConfig
from aot.errors import GuardStop, SourceError
from aot.evaluation.intervals import cluster_ids, proportion
from aot.files.jsonl import read_json
from aot.files.run_folder import LESSONS, ROUNDS, SAMPLES, SPLIT, RunFolder, publish_json, publish_rows, read_rows
from aot.files.seals import publish_once
from aot.filtering.chain import judge_alone
from aot.filtering.subject import Subject
from aot.rationales.calls import rests_on_tools
from aot.rationales.notation import parse_rationale
from aot.records import Lesson, Prediction, Question, Trace, Usage
from aot.run_records import Accuracy, Round
from aot.student.answer.predict import sample
from aot.student.rows.replies import plain_reply
from text_cot.teacher.procedural import chain_trace

TEACHER = "self"
REFUSED = SPLIT.format("refused")
"""Whole replies of a round that are wrong or that a filter refused, where the arm learns from them."""


def round_lessons(run: RunFolder, job: Job, material: Material, *, seed: int) -> list[Lesson]:
    """Lessons from the teacher's share and everything that the rounds before have added.

    Where the arm learns from refused chains too, each chain that it wrote itself brings one of them to its question, if
    there is one: as many wrong as right ones at most (the pairs of REDI, arXiv 2505.24850).

    Raises:
        GuardStop: it is to learn from refused chains, and its rounds brought none.
    """
    chains = _chains_before(run, job, material, seed=seed)
    lessons = ordered_lessons(material.questions, {i: chains[i] for i in material.samples if i in chains}, job.arm)
    if job.arm.negative_weight == 0:
        return lessons
    refused = _refused_before(run, job)
    wrong = [
        refused_lesson(material.questions[i], refused[i]) for i in material.samples if i in chains and i in refused
    ]
    if not wrong and not job.is_helper:
        raise GuardStop(
            f"arm {job.arm.name} is to make refused chains less likely, and none of its rounds wrote one to a question "
            "that has a right one; it was not trained. Raise train.own_chains.samples or its temperature, or take "
            "negative_weight out"
        )
    return lessons + wrong


def likelihoods_of(run: RunFolder, job: Job) -> list[Path]:
    """Where the rounds of an arm that chooses by likelihood leave what they chose by."""
    if job.arm.chains != "self":
        return []
    return [_round_folder(run, job.arm, number) / LIKELIHOODS for number in range(job.number)]


def _refused_before(run: RunFolder, job: Job) -> dict[str, str]:
    """Question id to the first refused chain that the latest round which has one wrote."""
    refused: dict[str, str] = {}
    for number in range(job.number):
        path = _round_folder(run, job.arm, number) / REFUSED
        rows = list(read_rows(path, Prediction)) if path.exists() else []
        refused |= {row.question_id: row.raw_text for row in reversed(rows)}
    return refused


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


def shortest(chains: Iterable[Trace]) -> Trace | None:
    """The chain with the fewest characters, the first by sample of several; None if there is none."""
    return min(chains, key=lambda trace: (len(trace.rationale), trace.sample_index), default=None)


def verified_chains(
    replies: Iterable[Prediction],
    question: Question,
    filters: FilterConfig,
    *,
    config_digest: str,
    evidence: Trace | None = None,
) -> list[Trace]:
    """The whole replies with the right answer that pass the filters, as traces.

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
    return good


def _own_trace(
    text: str, answer: str, question: Question, index: int, evidence: Trace | None, *, config_digest: str
) -> Trace | None:
    """A reply as a trace of the student; None where it has no steps, or not the form of a chain."""
    written_by = {"teacher": TEACHER, "sample_index": index, "config_digest": config_digest}
    if evidence is not None and rests_on_tools(evidence):
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
    good: dict[str, list[Trace]] = {}
    refused: list[Prediction] = []
    digest = config.digest()
    for question in questions:
        evidence, written = next(iter(material.samples[question.id].values())), replies.get(question.id, [])
        good[question.id] = verified_chains(written, question, config.filter, config_digest=digest, evidence=evidence)
        right = {chain.sample_index for chain in good[question.id]}
        # A cut reply says nothing wrong yet, and one that repeats itself would teach more of that than of mistakes.
        refused += [row for i, row in enumerate(written) if i not in right and row.finish_reason == "stop"]
    if helper.negative_weight:
        publish_rows(folder / REFUSED, refused)
    best = {i: shortest(chains) for i, chains in good.items()}
    if helper.choice == "likelihood":
        base = partial(open_student, run, config.student, None, cache_mb=config.train.frame_cache_mb)
        publish_likelihoods(
            folder / LIKELIHOODS, good, material.questions, open_base=base, batch_size=config.evaluate.batch_size
        )
        best |= likeliest(good, folder / LIKELIHOODS)
    chains = {i: chain for i, chain in best.items() if chain is not None}
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
