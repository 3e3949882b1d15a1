"""The teachers of text: a procedure, the solutions that came with the data, or a chat model."""

import re
from collections.abc import Callable
from typing import Any

from aot.answers import find_answer
from aot.config import HfData, TeacherConfig, TextRun
from aot.errors import ParseError, SourceError
from aot.faults.text_edits import TEXT_EDITS
from aot.files.run_folder import RunFolder, read_rows
from aot.rationales.arithmetic import find_equations
from aot.rationales.text_chain import without_notes
from aot.records import Question, Trace, TraceError
from aot.run_records import GivenRationale
from aot.student.answer import open_model
from text_cot.teacher import procedural
from text_cot.teacher.chat import ChatTeacher
from text_cot.teacher.chat_prompts import teacher_prompts
from text_cot.teacher.granularity import resolve_granularity
from text_cot.teacher.procedural import chain_trace

GIVEN, FOREIGN = "given", "foreign"
"""Who wrote the solutions that came with the data: its makers, or the teacher of somebody else."""
FEW_QUESTIONS = 10_000
"""So many are solved in one process: starting workers would take longer."""


def samples_of(teacher: TeacherConfig) -> int:
    """A coarse and a fine chain of a procedure, or of a given solution, or all candidates of a chat model."""
    if teacher.planner == "chat":
        return teacher.candidates
    is_alone = teacher.planner == "given" and teacher.granularity == "fine"
    return 1 if is_alone else len(procedural.SAMPLES)


def tries_of(teacher: TeacherConfig) -> int:
    """Every attempt is a row."""
    return 1


def figures(run: RunFolder, config: TextRun) -> dict[str, Any]:
    """Content hash of each prompt file of a chat teacher, by name."""
    prompts = teacher_prompts(config.teacher) if config.teacher.planner == "chat" else {}
    return {"prompts": {name: prompt.digest for name, prompt in prompts.items()}}


def open_teacher(run: RunFolder, config: TextRun, *, writer: str) -> "TextTeacher":
    """The configured teacher; `writer` names the files that its chat model appends to.

    Raises:
        ConfigError: no such teacher can be had.
    """
    digest = config.digest()
    if config.teacher.planner == "chat":
        assert config.chat is not None  # RunConfig sees to that
        granularity = resolve_granularity(config.teacher.granularity, base=config.student.base)
        model = open_model(config.chat, run=run, writer=writer)
        chat = ChatTeacher(
            model, config.chat, config.teacher, granularity=granularity, seed=config.seed, config_digest=digest
        )
        return TextTeacher(chat.name, chat.sample, close=chat.close)
    calls = config.teacher.tools.calculator == "on"
    if config.teacher.planner == "procedural":

        def solve(question: Question, sample: int) -> Trace:
            return procedural.solve(
                question, granularity=procedural.SAMPLES[sample], seed=config.seed, config_digest=digest, calls=calls
            )

        return TextTeacher(procedural.TEACHER, solve)
    solutions = {row.question_id: row.text for row in read_rows(run.rationales, GivenRationale)}

    name = FOREIGN if isinstance(config.data, HfData) else GIVEN

    sizes = procedural.SAMPLES if samples_of(config.teacher) > 1 else ("",)

    def give(question: Question, sample: int) -> Trace:
        solution, size = solutions.get(question.id, ""), sizes[sample]
        trace = take(
            question, equations_of(solution) if size == "coarse" else solution, teacher=name, config_digest=digest,
            calls=calls,
        )  # fmt: skip
        return trace.model_copy(update={"sample_index": sample, "granularity": size})

    return TextTeacher(name, give)


class TextTeacher:
    """Writes chains; may be asked from many threads where its model may."""

    def __init__(
        self, name: str, solve: Callable[[Question, int], Trace], *, close: Callable[[], None] = lambda: None
    ) -> None:
        self.name, self.edits = name, TEXT_EDITS
        self.solve = self.answer = solve
        self.close = self.give_up = close


def take(question: Question, solution: str, *, config_digest: str, teacher: str = GIVEN, calls: bool = False) -> Trace:
    """The given solution of `question` as a trace; a failed one where there is none, or none with a readable answer.

    Its calculator notes leave the text; with `calls` each of them becomes a call with its result.
    """
    *lines, last = solution.strip().split("\n")
    answer = find_answer(last).answer
    if lines and answer is not None:
        return chain_trace(
            question.id, tuple(lines if calls else map(without_notes, lines)), answer, teacher=teacher, sample_index=0,
            config_digest=config_digest, calls=calls,
        )  # fmt: skip
    boundary, message = ParseError.boundary, "the solution states no answer in its last line"
    if not solution.strip():
        boundary, message = SourceError.boundary, "the data set gives no solution"
    return Trace(
        question_id=question.id, sample_index=0, teacher=teacher, status="failed",
        error=TraceError(boundary=boundary, message=message), config_digest=config_digest,
    )  # fmt: skip


def equations_of(solution: str) -> str:
    r"""The equations of a given solution that hold, one a line, and its last line; empty where it has none.

    >>> equations_of("Half is 48/2 = <<48/2=24>>24 clips.\nAnswer: 24")
    '48/2 = 24.\nAnswer: 24'
    """
    *lines, last = solution.strip().split("\n")
    equations = [one for one in find_equations("\n".join(lines)) if one.holds and one.result is not None]
    shown = [" = ".join(part.strip() for part in re.split("[=≈]", one.text, maxsplit=1)) for one in equations]
    return "\n".join([*(f"{one}." for one in shown), last]) if shown else ""
