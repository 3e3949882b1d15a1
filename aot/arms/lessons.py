"""From kept chains to what an arm learns: which chain of a question, in which order of thought, damaged or not.

All arms of a run learn from the same questions, those with at least one kept chain. What question i gives depends on
(seed, question i) only.
"""

from collections.abc import Callable, Iterable, Mapping

from aot.config import ArmConfig, Chains, RunConfig
from aot.faults.text_plant import deleted, shuffled, wrong_content
from aot.files.run_folder import RunFolder, read_rows
from aot.records import Lesson, Question, ThoughtMode, Trace, Verdict
from aot.seeds import draw
from aot.student.rows.prompts import MODE_LINES
from text_cot.prepare import TRAIN
from text_cot.teacher.granularity import resolve_granularity

Samples = dict[ThoughtMode, Trace]
"""The kept chains of one question: `short`, `full`, or both."""
DAMAGE: dict[Chains, Callable[[Trace, int], Trace | None]] = {
    "wrong_content": lambda trace, seed: wrong_content(trace, seed=seed),
    "shuffled": lambda trace, seed: shuffled(trace, seed=seed),
    "deleted": lambda trace, seed: deleted(trace, seed=seed),
}
"""How chains are damaged for the study of structure against content (arXiv 2502.07374)."""


def kept_samples(run: RunFolder) -> dict[str, Samples]:
    """The kept chains of each training question, in the order of the questions."""
    traces: dict[str, list[Trace]] = {}
    for trace in read_rows(run.kept, Trace):
        traces.setdefault(trace.question_id, []).append(trace)
    ids = [question.id for question in train_questions(run)]
    return {question_id: _by_length(traces[question_id]) for question_id in ids if question_id in traces}


def train_questions(run: RunFolder) -> list[Question]:
    """Questions of the train split, without those that leak into another one."""
    leaks = {row.question_id for row in read_rows(run.verdicts, Verdict) if row.filter == "leakage" and not row.keep}
    return [q for q in read_rows(run.questions, Question) if q.split == TRAIN and q.id not in leaks]


def own_share(ids: Iterable[str], *, share: float, seed: int) -> list[str]:
    """The part of `ids` whose teacher chains an arm may use; a smaller share is a part of a larger one."""
    ids = list(ids)
    order = sorted(ids, key=lambda question_id: draw(seed, question_id, "share"))
    chosen = set(order[: max(1, round(share * len(ids)))])
    return [question_id for question_id in ids if question_id in chosen]


def pick_chain(samples: Samples, question_id: str, config: RunConfig) -> Trace:
    """The chain of a question at the run's granularity; where that one was not kept, the other."""
    asked = resolve_granularity(config)
    coarse = asked == "coarse" or (asked == "mixed" and draw(config.seed, question_id, "granularity") % 2 == 0)
    first, second = ("short", "full") if coarse else ("full", "short")
    return samples[first] if first in samples else samples[second]  # type: ignore[index]


def teachable(samples: Mapping[str, Samples], config: RunConfig) -> dict[str, Samples]:
    """The questions that every arm can learn from: those whose chain each arm's damage applies to."""
    damages = [DAMAGE[arm.chains] for arm in config.train.arms if arm.chains in DAMAGE]
    return {
        question_id: own
        for question_id, own in samples.items()
        if all(damage(pick_chain(own, question_id, config), config.seed) for damage in damages)
    }


def arm_lessons(samples: Mapping[str, Samples], arm: ArmConfig, config: RunConfig) -> list[Lesson]:
    """What an arm learns from kept chains; adaptive arms and those with chains of their own add to this elsewhere."""
    chains = [
        pick_chain(samples[question_id], question_id, config)
        for question_id in own_share(samples, share=arm.chain_share, seed=config.seed)
    ]
    return [lesson_of(_damaged(chain, arm, config), arm) for chain in chains]


def lesson_of(trace: Trace, arm: ArmConfig) -> Lesson:
    """One chain in the order of thought of an arm."""
    steps, _, answer_line = trace.rationale.rpartition("\n")
    if arm.order == "answers_only":
        return Lesson(question_id=trace.question_id, mode="direct", label=trace.answer)
    if arm.order == "post":
        return Lesson(question_id=trace.question_id, mode="explain", label=f"{answer_line}\n", rationale=steps)
    return Lesson(question_id=trace.question_id, mode="reason", rationale=trace.rationale)


def thought_lesson(samples: Samples, thought: ThoughtMode, *, chosen: bool) -> Lesson:
    """A reply in a way of thinking of which a chain was kept; `chosen` teaches the mode line too, else it is given."""
    line = f"{MODE_LINES[thought]}\n"
    trace = next(iter(samples.values())) if thought == "direct" else samples[thought]
    reply = f"Answer: {trace.answer}" if thought == "direct" else trace.rationale
    head = {"label": line} if chosen else {"forced": line}
    return Lesson(question_id=trace.question_id, mode="adaptive", rationale=reply, **head)


def _damaged(trace: Trace, arm: ArmConfig, config: RunConfig) -> Trace:
    damage = DAMAGE.get(arm.chains)
    return (damage(trace, config.seed) if damage else None) or trace


def _by_length(traces: list[Trace]) -> Samples:
    """By what the teacher says about granularity; where it says nothing, the shortest and the longest chain."""
    told: Samples = {}
    for trace in traces:
        if trace.granularity:
            told.setdefault("short" if trace.granularity == "coarse" else "full", trace)
    if told:
        return told
    ordered = sorted(traces, key=lambda trace: (len(trace.rationale.split()), trace.sample_index))
    return {"full": ordered[-1]} if len(ordered) == 1 else {"short": ordered[0], "full": ordered[-1]}
