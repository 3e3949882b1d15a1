"""On-policy distillation: the student writes, a judge who was shown the evidence reads, and the student comes round.

After a supervised start each round lets the student reply to training questions, keeps the ids that it picked, and has
a judge say what it would have written at each of their places. The judge is privileged: before the question stands what
the teacher made out. The student is then drawn to it by the reverse Kullback-Leibler divergence at its own tokens
(arXiv 2306.13649; with evidence as privilege, arXiv 2605.18740). All that a round rests on is published before it is
learned from, so a process that is killed goes on as if it had not been.
"""

import logging
from collections.abc import Iterable, Iterator

from aot.answer_records import JudgedRollout, Rollout
from aot.arms.asking import open_student
from aot.arms.jobs import ROLLOUTS, Job, judge_name
from aot.arms.lessons import Material, shared_chains, whole_rationale
from aot.config import ArmConfig, StudentConfig, TrainConfig
from aot.display import counted
from aot.files.run_folder import RunFolder, read_rows
from aot.files.seals import publish_once
from aot.rationales.notation import format_span, format_time
from aot.rationales.wording import in_sentence
from aot.records import Finding, Lesson, PromptMode, Question, Trace
from aot.seeds import hashed
from aot.student.answer.predict import sample
from aot.student.judge.judging import judge_rollouts, require_same_tokens
from aot.student.model.loading import Student, load_student
from aot.student.rows.frames import FramePixels
from aot.student.rows.lesson_files import JUDGED
from aot.teacher.verbalise import verbalise

log = logging.getLogger(__name__)
MODE: PromptMode = "reason"
"""How the student is asked: a direct answer has no steps of its own to be judged."""
WORDINGS = 32
"""Tries at wording a chain anew: each of the three sentences has two wordings."""


def evidence_of(trace: Trace) -> str:
    """What a judge is shown before the question: what the tools made out, or the steps of a chain, and the answer.

    In one form for all: a judge that saw the rationale itself would know its wording too, and blame others for theirs.
    """
    pieces: list[str] = []
    for step in trace.steps:
        options = [one for one in step.findings if one.kind == "option"]
        best = max(options, key=lambda one: one.score, default=None)
        weighed = [one for one in step.findings if one.kind == "option" and one is not best]
        pieces += [_finding(one) for one in step.findings if one not in weighed and one.kind != "after"]
        pieces += [step.text] if step.text and not step.findings else []
    return " ".join([*dict.fromkeys(f"{piece}." for piece in pieces if piece), f"Answer: {trace.answer}"])


def _finding(finding: Finding) -> str:
    spans = [format_span(*span) if span[0] < span[1] else format_time(span[0]) for span in finding.spans_s]
    count = [] if finding.count is None else [str(finding.count)]
    return " ".join([in_sentence(finding.label or finding.text), *spans, *count]).strip()


def wordings(question: Question, chain: Trace) -> list[str]:
    """The chain as it is written, and in all other words that a teacher who writes from templates has for it."""
    said = whole_rationale(chain)
    made = [
        verbalise(question=question, steps=chain.steps, support=chain.support, answer=chain.answer, seed=seed)
        for seed in range(WORDINGS)
    ]
    return [said, *(text for text in dict.fromkeys(made) if text != said)] if said in made else [said]


def judge_lessons(material: Material, arm: ArmConfig, *, seed: int) -> list[Lesson]:
    """What a judge is taught: the chains that the arm may use, each behind the evidence."""
    return [
        Lesson(
            question_id=i, mode=MODE, with_frames=material.questions[i].media is not None,
            rationale=whole_rationale(chain), evidence=evidence_of(chain),
        )
        for i, chain in shared_chains(material, arm, seed=seed).items()
    ]  # fmt: skip


def round_lessons(run: RunFolder, job: Job, material: Material, *, start: str) -> list[Lesson]:
    """What a round learns beside judged replies: with order both, a direct answer to each of their questions."""
    if job.arm.order != "both":
        return []
    rows = read_rows(run.arm(start) / JUDGED, JudgedRollout)
    questions = (material.questions[i] for i in dict.fromkeys(row.question_id for row in rows))
    return [
        Lesson(question_id=one.id, mode="direct", with_frames=one.media is not None, label=one.right_answer)
        for one in questions
    ]


def round_questions(ids: Iterable[str], *, number: int, count: int, seed: int) -> list[str]:
    """The questions of a round: the next `count` in an order that depends on the seed, from the first after the last.

    >>> [round_questions("abc", number=n, count=2, seed=0) for n in range(3)]
    [['c', 'a'], ['b', 'c'], ['a', 'b']]
    """
    order = sorted(ids, key=lambda question_id: hashed(seed, question_id, "on_policy"))
    count = min(count, len(order))
    return [order[at % len(order)] for at in range(number * count, (number + 1) * count)]


def roll_out(
    run: RunFolder, job: Job, material: Material, *, student: StudentConfig, train: TrainConfig, size: int, seed: int
) -> None:
    """Publish what the student of a round writes to the questions of the next one, `size` replies at once."""
    ids = shared_chains(material, job.arm, seed=seed)
    count = train.on_policy.steps * train.questions_per_step
    questions = [material.questions[i] for i in round_questions(ids, number=job.number, count=count, seed=seed)]
    folder = run.arm(job.student.name)

    def rows() -> Iterator[Rollout]:
        writer, pixels = open_student(run, student, folder, questions, cache_mb=train.frame_cache_mb)
        replies = sample(
            writer, questions, pixels=pixels, mode=MODE, samples=1, temperature=train.on_policy.temperature,
            seed=seed + job.number, batch_size=size, arm=job.student.name, with_tokens=True,
        )  # fmt: skip
        failed = 0
        for question, (reply,) in zip(questions, replies, strict=True):
            failed += bool(reply.error)
            if reply.token_ids:
                logprobs = tuple(round(value, 4) for value in reply.token_logprobs)
                shown = question.media is not None
                yield Rollout(
                    question_id=question.id, mode=MODE, with_frames=shown, ids=reply.token_ids, logprobs=logprobs
                )
        if failed:
            log.warning("%s: %s could not be asked and are left out", job.student.name, counted(failed, "question"))

    publish_once(folder / ROLLOUTS, rows)


def judge_round(
    run: RunFolder, job: Job, material: Material, *, student: StudentConfig, train: TrainConfig, size: int
) -> None:
    """Publish what the judge thinks of the replies of a round.

    Raises:
        CheckpointError: the judge has another tokenizer than the student.
        ChatError: a server that judges gave no log-probabilities.
    """
    folder = run.arm(job.student.name)

    def rows() -> Iterator[JudgedRollout]:
        rollouts = list(read_rows(folder / ROLLOUTS, Rollout))
        questions = {row.question_id: material.questions[row.question_id] for row in rollouts}
        judge, pixels = _judge(run, job, questions.values(), student=student, train=train)
        return judge_rollouts(
            rollouts, questions=questions, evidence={i: evidence_of(material.chains[i]) for i in questions},
            chains={i: wordings(question, material.chains[i]) for i, question in questions.items()},
            judge=judge, pixels=pixels, section=train.on_policy, size=size,
        )  # fmt: skip

    publish_once(folder / JUDGED, rows)


def _judge(
    run: RunFolder, job: Job, questions: Iterable[Question], *, student: StudentConfig, train: TrainConfig
) -> tuple[Student, FramePixels | None]:
    """Who judges, and the frames; for a judge behind a server the base, which has its tokenizer."""
    section = train.on_policy
    adapters = {"taught": judge_name(job.arm), "start": f"{job.arm.name}/round0"}
    adapter = run.arm(adapters[section.judge]) if section.judge in adapters else None
    if section.judge != "model" or section.judge_model is None:
        return open_student(run, student, adapter, questions, cache_mb=train.frame_cache_mb)
    other = student.model_copy(update={"base": section.judge_model})
    judge, pixels = open_student(run, other, None, questions, cache_mb=train.frame_cache_mb)
    require_same_tokens(judge, load_student(student.base, config=student))
    return judge, pixels
