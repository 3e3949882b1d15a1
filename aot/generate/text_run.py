"""The generate stage of a text run: chains of every question from the configured teacher, one row for each sample.

Whatever works at once, rows are appended by the main thread, each as soon as it is there: a kill loses what was in
flight and no row. Questions are read one by one, so that their number costs no more memory than their keys.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import IO

from aot.answers import verifies
from aot.chat.outage import AT_LEAST, Unanswered, until_outage
from aot.chat.pool import map_threads
from aot.chat.spend import spend_summary
from aot.config import RunConfig
from aot.errors import ConfigError
from aot.faults.text_plant import plant
from aot.files.run_folder import RunFolder, append_row, open_append, publish, read_rows
from aot.files.shards import Shard, share_key
from aot.files.traces import any_answered, part_path, read_solved, rows_by_settings, solved_samples
from aot.generate.text_stats import Tally, TextTeacherStats
from aot.records import GivenRationale, Question, Trace
from aot.student.answer import open_model
from text_cot.prepare import TRAIN
from text_cot.teacher import given, procedural
from text_cot.teacher.chat import ChatTeacher, chat_section

log = logging.getLogger(__name__)
Progress = Callable[[int, int], None]
Written = set[tuple[str, int]]


class Samples:
    """A teacher: how many samples a question gets, and how one is made; asked from several threads where it may be."""

    def __init__(
        self,
        count: int,
        solve: Callable[[Question, int], Trace],
        *,
        threads: int = 1,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        self.count, self.solve, self.threads = count, solve, threads
        self.give_up = give_up
        """Ends the requests that wait for a reply."""
        self.prompts: dict[str, str] = {}
        """Content hash of each prompt file, by name."""


def generate(run: RunFolder, config: RunConfig, progress: Progress) -> dict[str, int]:
    """Write the traces that are missing, then publish teacher.json; returns how many traces there are.

    `failed` counts those without a chain, `refused` those of them that a chat model did not answer. A shard writes its
    own share of the traces and leaves teacher.json to whoever has all of them.

    Raises:
        ConfigError: the teacher cannot work at all.
        GuardStop: the cost limit is reached, nobody answers any more, or some questions were left unanswered.
    """
    shard = Shard.of(config.run.shard)
    total = _count(run, shard)
    written = solved_samples(run)
    with teacher_of(run, config, writer=shard.writer) as teacher:
        with (
            open_append(part_path(run.traces, shard.writer)) as traces,
            open_append(part_path(run.faults, shard.writer)) as planted,
        ):
            progress(0, total)
            todo = _todo(run, shard, teacher, written, lambda done: progress(done, total))
            for question, trace in _solved(run, config, teacher, todo):
                append_row(traces, _with_fault(question, trace, config, planted))
        del written
        progress(total, total)
        return _finish(run, config, shard, teacher)


@contextmanager
def teacher_of(run: RunFolder, config: RunConfig, *, writer: str) -> Iterator[Samples]:
    """The configured teacher; `writer` names the files that its chat model appends to.

    Raises:
        ConfigError: no such teacher can be had.
    """
    digest = config.digest()
    if config.teacher.planner == "chat":
        section = chat_section(config)
        with closing(ChatTeacher(open_model(section, run=run, writer=writer), config)) as chat:
            threads, candidates = section.max_concurrency, config.teacher.candidates
            teacher = Samples(candidates, chat.sample, threads=threads, give_up=chat.close)
            teacher.prompts = {name: prompt.digest for name, prompt in chat.prompts.items()}
            yield teacher
    elif config.teacher.planner == "procedural":
        yield Samples(
            len(procedural.SAMPLES),
            lambda question, k: procedural.solve(
                question, granularity=procedural.SAMPLES[k], seed=config.seed, config_digest=digest
            ),
        )
    elif config.teacher.planner == "given":
        solutions = {row.question_id: row.text for row in read_rows(run.rationales, GivenRationale)}
        yield Samples(1, lambda question, _: given.take(question, solutions, config_digest=digest))
    else:
        raise ConfigError(f"teacher.planner={config.teacher.planner} writes no text; use procedural, given or chat")


Task = tuple[Question, int]


def _solved(
    run: RunFolder, config: RunConfig, teacher: Samples, todo: Iterator[Task]
) -> Iterator[tuple[Question, Trace]]:
    """Each task with its trace, as they come.

    Raises:
        GuardStop: nobody answers any more, or some were left unanswered.
    """

    def ask(task: Task) -> tuple[Question, Trace]:
        return task[0], teacher.solve(*task)

    together = teacher.threads > 1
    solved = map_threads(ask, todo, threads=teacher.threads, give_up=teacher.give_up) if together else map(ask, todo)
    limit = max(AT_LEAST, teacher.threads)
    scripted = config.chat is None or config.chat.backend == "scripted"  # which says the same another time
    unanswered: Unanswered = "refuse" if scripted else config.teacher.unanswered
    yield from until_outage(
        solved, trace_of=lambda pair: pair[1], limit=limit, unanswered=unanswered,
        answered_before=lambda: any_answered(run, config_digest=config.digest()),
    )  # fmt: skip


def _todo(
    run: RunFolder, shard: Shard, teacher: Samples, written: Written, progress: Callable[[int], None]
) -> Iterator[Task]:
    """Question and sample of every trace that is not written, each read when somebody is free for it."""
    for done, question in enumerate(_questions(run, shard)):
        progress(done)
        for k in range(teacher.count):
            if (question.id, k) not in written:
                yield question, k


def _questions(run: RunFolder, shard: Shard) -> Iterator[Question]:
    return (question for question in read_rows(run.questions, Question) if shard.owns(share_key(question)))


def _count(run: RunFolder, shard: Shard) -> int:
    return sum(1 for _ in _questions(run, shard))


def _with_fault(question: Question, trace: Trace, config: RunConfig, planted: IO[bytes]) -> Trace:
    """The trace as it is to be stored: perhaps with a planted fault, which is noted first."""
    faults = config.teacher.faults
    if not (faults and question.split == TRAIN and verifies(trace, question)):
        return trace
    trace, fault = plant(trace, question, rate=faults.rate, seed=config.seed)
    if fault is not None:  # before its trace: what a kill separates is written again, the same
        append_row(planted, fault)
    return trace


def _finish(run: RunFolder, config: RunConfig, shard: Shard, teacher: Samples) -> dict[str, int]:
    """Count what there is; publish it unless this is a share only."""
    tally = Tally()
    for question, traces in read_solved(run):
        if shard.owns(share_key(question)):
            tally.add(question, traces)
    if config.run.shard is None:
        stats = tally.stats(planner=config.teacher.planner).model_copy(update={"prompts": teacher.prompts})
        if config.teacher.planner == "chat":
            stats = _with_spend(run, config, stats)
        publish(run.teacher_stats, stats.model_dump_json(indent=1) + "\n")
    return {"traces": tally.samples, "failed": tally.failed, "refused": tally.refused}


def _with_spend(run: RunFolder, config: RunConfig, stats: TextTeacherStats) -> TextTeacherStats:
    spend = spend_summary(run, chat_section(config))
    chains = stats.status.get("ok", 0)
    log.info(spend.line(chains))
    return stats.model_copy(
        update={
            "spend": spend,
            "chat_settings": rows_by_settings(run),
            "gpu_hours_per_thousand_chains": spend.gpu_hours_per_thousand(chains),
        }
    )
