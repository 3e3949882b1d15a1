"""The generate stage of a text run: chains of every question from the configured teacher, one row for each sample.

Rows are appended in one process, because the teachers here compute nothing heavy; a kill loses at most the last one.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

import numpy as np

from aot.answers import verifies
from aot.config import RunConfig
from aot.errors import ConfigError
from aot.evaluation.intervals import cluster_ids, proportion
from aot.records import GivenRationale, Question, Record, Trace
from aot.runs import RunFolder, append_row, open_append, publish, read_rows
from aot.traces import part_path, read_traces, solved_samples
from text_cot.faults import plant
from text_cot.prepare import TRAIN
from text_cot.teacher import given, procedural

Teacher = Callable[[Question], list[Trace]]
"""All samples of one question, in the order of their index."""


class Share(Record):
    """A share with its 95% interval."""

    value: float
    low: float
    high: float


class TextYield(Record):
    """How many questions of one split and kind got a chain that ends in the gold answer."""

    split: str
    kind: str
    n: int
    pass_at_1: Share
    pass_at_k: Share


class TextTeacherStats(Record):
    """The content of teacher.json in a text run."""

    planner: str
    questions: int
    samples: int
    """Chains of all questions together."""
    train_kept: int
    """Training questions with a chain that ends in the gold answer."""
    status: dict[str, int]
    """Traces by status; failed ones by the boundary where they failed."""
    yields: tuple[TextYield, ...]


def generate(run: RunFolder, config: RunConfig, progress: Callable[[int, int], None]) -> dict[str, int]:
    """Write the traces that are missing, then publish teacher.json; returns how many traces there are, and failed."""
    questions = list(read_rows(run.questions, Question))
    teacher = make_teacher(run, config)
    written = solved_samples(run)
    faults = config.teacher.faults
    with open_append(part_path(run.traces, "0")) as traces, open_append(part_path(run.faults, "0")) as planted:
        for number, question in enumerate(questions, start=1):
            for trace in teacher(question):
                if (trace.question_id, trace.sample_index) in written:
                    continue
                if faults and question.split == TRAIN and verifies(trace, question):
                    trace, fault = plant(trace, question, rate=faults.rate, seed=config.seed)
                    if fault is not None:  # before its trace: what a kill separates is written again, the same
                        append_row(planted, fault)
                append_row(traces, trace)
            progress(number, len(questions))
    stats = text_teacher_stats(read_traces(run), questions, planner=config.teacher.planner)
    publish(run.teacher_stats, stats.model_dump_json(indent=1) + "\n")
    return {"traces": stats.samples, "failed": stats.samples - stats.status.get("ok", 0)}


def make_teacher(run: RunFolder, config: RunConfig) -> Teacher:
    """The configured teacher.

    Raises:
        ConfigError: no such teacher can be had.
    """
    digest = config.digest()
    if config.teacher.planner == "procedural":
        return lambda question: [
            procedural.solve(question, granularity=one, seed=config.seed, config_digest=digest)
            for one in procedural.SAMPLES
        ]
    if config.teacher.planner == "given":
        solutions = {row.question_id: row.text for row in read_rows(run.rationales, GivenRationale)}
        return lambda question: [given.take(question, solutions, config_digest=digest)]
    raise ConfigError(
        f"teacher.planner={config.teacher.planner} needs a chat client, which this version does not have; "
        "use procedural or given"
    )


def text_teacher_stats(traces: Iterator[Trace], questions: list[Question], *, planner: str) -> TextTeacherStats:
    """Yield of the teacher over all its traces; reads them once."""
    by_id = {question.id: question for question in questions}
    right: defaultdict[str, list[bool]] = defaultdict(list)
    status: Counter[str] = Counter()
    for trace in traces:
        right[trace.question_id].append(verifies(trace, by_id[trace.question_id]))
        status[trace.status if trace.error is None else f"{trace.status}_{trace.error.boundary}"] += 1
    groups: defaultdict[tuple[str, str], list[Question]] = defaultdict(list)
    for question in questions:
        groups[question.split, question.kind].append(question)
        groups[question.split, "all"].append(question)
    return TextTeacherStats(
        planner=planner,
        questions=len(questions),
        samples=sum(map(len, right.values())),
        train_kept=sum(any(right[question.id]) for question in groups.get((TRAIN, "all"), ())),
        status=dict(sorted(status.items())),
        yields=tuple(_yield_row(key, members, right) for key, members in sorted(groups.items())),
    )


def _yield_row(key: tuple[str, str], questions: list[Question], right: dict[str, list[bool]]) -> TextYield:
    clusters = cluster_ids([question.group for question in questions])

    def share(hits: list[bool]) -> Share:
        interval = proportion(np.array(hits, dtype=float), clusters)
        return Share(value=interval.value, low=interval.low, high=interval.high)

    samples = [right[question.id] for question in questions]
    return TextYield(
        split=key[0], kind=key[1], n=len(questions),
        pass_at_1=share([bool(hits) and hits[0] for hits in samples]), pass_at_k=share([any(hits) for hits in samples]),
    )  # fmt: skip
