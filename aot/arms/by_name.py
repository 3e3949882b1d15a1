"""A teacher's chain for a student that calls the calculator by names: no number is copied, in words or in calls.

A share of the calls may come again, with another name for their result. The second call is not learned; it is there so
that the number of calls so far does not tell how many are to come.

Where several names stand for one number, a step takes the latest result, then a number of the question that no earlier
step took.
"""

from collections.abc import Iterator

from aot.rationales.arithmetic import read_amount
from aot.rationales.arithmetic.tokens import Token, is_number, tokens_of
from aot.rationales.calls import CALCULATOR_NAME
from aot.rationales.named import NAMED_CALCULATOR_NAME, first_result, in_place, left_over, marked, marks_in
from aot.records import Question, Step, Trace
from aot.seeds import rng

MOST_NAME = 9
"""A call whose result would have a higher name is not repeated."""


def by_name(question: Question, trace: Trace, *, repeated: float = 0.0) -> Trace:
    """The same chain with names in place of numbers; unchanged is one whose steps are not the words of its rationale.

    Names begin where those of a lesson about this question do. Of its calls the share `repeated` comes again.
    """
    said = "".join(step.text for step in trace.steps)
    if not said or not trace.rationale.startswith(said):
        return trace
    first = first_result(question.id)
    asked_text = marked(question.text, lesson=question.id)
    names, expressions = _Names(marks_in(asked_text)), list[str]()
    steps: list[Step] = []
    for step in trace.steps:
        chosen: dict[str, str] = {}
        if step.call is None or step.call.tool != CALCULATOR_NAME or step.result is None:
            steps.append(step.model_copy(update={"text": names.put_into(step.text, chosen)}))
            continue
        worked = str(step.call.arguments["expression"])
        expression = names.put_into(worked, chosen, apart=True)
        expressions.append(expression)
        before, there, behind = step.text.rpartition(worked)
        words = names.put_into(before, chosen) + (expression if there else "") + names.put_into(behind, chosen)
        name = f"[{first + len(names.results)}]"
        call = step.call.model_copy(update={"tool": NAMED_CALCULATOR_NAME, "arguments": {"expression": expression}})
        left = left_over(asked_text, expressions)
        result = {**step.result, "name": name} | ({"left": left} if left else {})
        names.results[name] = str(step.result["value"])
        steps.append(step.model_copy(update={"text": words, "call": call, "result": result}))
        steps += names.repeated(steps[-1], question.id, share=repeated)
    rationale = "".join(step.text for step in steps) + names.put_into(trace.rationale.removeprefix(said), {})
    return trace.model_copy(update={"steps": tuple(steps), "rationale": rationale})


class _Names:
    """What names stand for so far, and which of them were taken."""

    def __init__(self, of_question: dict[str, str]) -> None:
        self.of_question = of_question
        self.results: dict[str, str] = {}
        self._taken: set[str] = set()

    def repeated(self, step: Step, question_id: str, *, share: float) -> list[Step]:
        """The call of a step again, never or a few times and with its index; its last result is then taken up."""
        steps: list[Step] = []
        for name in self._free_names():
            if rng(0, question_id, f"repeat {name}").random() >= share:
                break
            result = {**(step.result or {}), "name": name}
            self.results[name] = str(result["value"])
            steps.append(step.model_copy(update={"text": "", "result": result}))
        return steps

    def _free_names(self) -> Iterator[str]:
        first = int(next(iter(self.results))[1:-1])
        yield from (f"[{number}]" for number in range(first + len(self.results), MOST_NAME + 1))

    def put_into(self, text: str, chosen: dict[str, str], *, apart: bool = False) -> str:
        """The text with names for its numbers; `chosen` are those of one step, which keeps to them.

        With `apart`, a number that the text holds twice takes another name the second time, if there is one.
        """
        here: set[str] = set()

        def name(token: Token) -> str:
            number = token.text
            if number not in chosen or (apart and chosen[number] in here):
                chosen[number] = self._name(number, but=here) or chosen.get(number, number)
            here.add(chosen[number])
            return chosen[number]

        return in_place(text, filter(is_number, tokens_of(text)), name)

    def _name(self, number: str, *, but: set[str]) -> str:
        """A name for a number that is none of some; empty if there is none."""
        latest = list(self.results.items())[-1:]
        fresh = [(name, value) for name, value in self.of_question.items() if name not in self._taken]
        older = [*self.of_question.items(), *reversed(self.results.items())]
        amount = read_amount(number)
        equal = (name for name, value in [*latest, *fresh, *older] if amount and read_amount(value) == amount)
        name = next((name for name in equal if name not in but), "")
        self._taken.add(name)
        return name
