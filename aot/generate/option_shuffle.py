"""Whether an answer holds when the options stand in another order: what a lucky guess or a habit of letters does not.

The same planner follows the same candidate over the permuted options; only the answers are kept, for the filter
`option_shuffle`. An attempt that fails counts as an answer of its own, the empty one.
"""

from dataclasses import replace

import numpy as np

from aot.records import Question, Trace
from aot.teacher.executor import run_candidate, with_attempts_cost
from aot.teacher.parts import Parts
from aot.teacher.rewrite import TemplateWriter
from aot.teacher.tools.clipview import ClipView


def with_shuffled_answers(trace: Trace, question: Question, clip: ClipView, kit: Parts) -> Trace:
    """`trace` with what the same procedure answers under other orders of the options, and charged with their cost."""
    plain = replace(kit, writer=TemplateWriter(kit.seed))  # No prose is needed of them.
    tried = [
        run_candidate(other, clip, plain, candidate=trace.sample_index)
        for other in reordered(question, times=kit.shuffle_checks, seed=kit.seed)
    ]
    charged = with_attempts_cost(trace, [trace, *tried])
    return charged.model_copy(update={"shuffled_answers": tuple(one.answer for one in tried)})


def reordered(question: Question, *, times: int, seed: int) -> list[Question]:
    """The question with its options in other orders, each different from the given one; depends on (seed, id) only.

    None where only letters tell the options apart: they belong to the given order.
    """
    digits = np.frombuffer(question.id.encode("utf-8", "surrogatepass"), np.uint8)
    rng = np.random.default_rng([seed, *map(int, digits)])
    others: list[Question] = []
    while len(others) < times and len(question.choices) > 1 and question.answer_index is None:
        order = [int(i) for i in rng.permutation(len(question.choices))]
        if order != sorted(order):
            choices = tuple(question.choices[i] for i in order)
            others.append(question.model_copy(update={"choices": choices}))
    return others
