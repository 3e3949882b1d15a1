"""The embedded teacher: solves a procedural problem by its state and writes real intermediate steps.

It is always right, as a procedure is; what a messy teacher does to chains is planted apart (aot.faults.text_edits).
"""

from aot.errors import SourceError
from aot.rationales.calls import called_steps
from aot.rationales.text_chain import without_notes
from aot.records import Question, Step, Trace, Usage
from aot.seeds import hashed
from text_cot.families import FAMILIES, Granularity
from text_cot.families.base import PHRASINGS

TEACHER = "procedural"
SAMPLES: tuple[Granularity, ...] = ("coarse", "fine")
"""Sample 0 of a question is its coarse chain, sample 1 its fine one."""


def solve(question: Question, *, granularity: Granularity, seed: int, config_digest: str, calls: bool = False) -> Trace:
    """The chain of `question` at a granularity; its phrasing depends on (seed, question, granularity) only.

    With `calls` a calculator works its equations out.

    Raises:
        SourceError: the question has no state of a known family.
    """
    family = FAMILIES.get(str(question.state.get("family")))
    if family is None:
        raise SourceError(
            f"question {question.id} has no state that the procedural teacher knows; "
            f"use data.dataset=toy_math, or another teacher.planner"
        )
    state = family.state_type.model_validate(question.state)
    lines = family.solve(state, granularity, hashed(seed, question.id, granularity) % PHRASINGS)
    trace = chain_trace(
        question.id, lines, family.answer(state), teacher=TEACHER, sample_index=SAMPLES.index(granularity),
        config_digest=config_digest, calls=calls,
    )  # fmt: skip
    return trace.model_copy(update={"granularity": granularity})


def chain_trace(
    question_id: str,
    lines: tuple[str, ...],
    answer: str,
    *,
    teacher: str,
    sample_index: int,
    config_digest: str,
    calls: bool = False,
) -> Trace:
    """A finished text trace: one step for each line, and a rationale that ends with the answer line.

    With `calls` a calculator works out the equations of the lines, which lose their calculator notes.
    """
    worked_out, lines = called_steps(lines) if calls else (), tuple(map(without_notes, lines)) if calls else lines
    steps = tuple(Step(index=i, text=line) for i, line in enumerate(lines, start=1))
    steps = worked_out if any(step.call for step in worked_out) else steps
    return Trace(
        question_id=question_id, sample_index=sample_index, teacher=teacher, steps=steps,
        support=tuple(step.index for step in steps), rationale="\n".join([*lines, f"Answer: {answer}"]), answer=answer,
        status="ok", usage=Usage(tool_calls=sum(step.call is not None for step in steps)), config_digest=config_digest,
    )  # fmt: skip
