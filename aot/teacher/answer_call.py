"""The typed `answer` call with which a chat planner ends its plan, and what is wrong with one that it wrote."""

from typing import Any

from pydantic import Field, ValidationError

from aot.answers import parse_answer
from aot.errors import ParseError
from aot.records import AnswerType, Question, Step
from aot.teacher.planner import FinalAnswer
from aot.teacher.tools.base import ToolArguments, parameters_of

ANSWER = "answer"
_CANONICAL = ("integer", "yes_no", "span")
"""Types whose answer is stored as the project writes it, whatever form the model gave it."""
_FORMS: dict[AnswerType, str] = {
    "choice": "one of the options, by its letter or word for word",
    "integer": "a whole number in digits",
    "yes_no": "yes or no",
    "span": "a stretch such as 2.4s-5.1s",
}


class AnswerArguments(ToolArguments):
    """The end of a plan."""

    answer: str = Field(min_length=1, max_length=500, description="The answer, in the form that was asked for.")
    support: tuple[int, ...] = Field(min_length=1, description="Numbers of the steps that the answer rests on.")


def answer_form(question: Question) -> str:
    """What an answer to `question` must look like, in words."""
    return _FORMS.get(question.answer_type, "a few words; a step label where the question asks for a step")


def answer_schema() -> dict[str, Any]:
    """The `answer` call in OpenAI function-calling format."""
    told = "End the plan with the answer and the numbers of the steps that it rests on."
    return {
        "type": "function",
        "function": {"name": ANSWER, "description": told, "parameters": parameters_of(AnswerArguments)},
    }


def read_answer(written: Any, question: Question, steps: tuple[Step, ...]) -> FinalAnswer:  # noqa: ANN401 - JSON
    """The answer that a model wrote as arguments of the `answer` call.

    Raises:
        ParseError: the arguments do not fit, a supporting step is not there or failed, or the answer has another form
            than the question asks for; the text is fit to be told to the model.
    """
    try:
        arguments = AnswerArguments.model_validate(written)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the arguments"
        raise ParseError(f"answer: {problem['msg']} at {where}") from None
    support = tuple(dict.fromkeys(arguments.support))
    fine = [step.index for step in steps if step.status == "ok"]
    if wrong := [index for index in support if index not in fine]:
        there = ", ".join(map(str, fine)) or "none yet"
        raise ParseError(f"answer: step {wrong[0]} is no step that went well; those are: {there}")
    parsed = parse_answer(arguments.answer, question)
    if parsed.value is None:
        raise ParseError(f"answer: {arguments.answer!r} cannot be read; give {answer_form(question)}")
    chosen = [said for said in question.option_answers if parse_answer(said, question).value == parsed.value]
    if chosen:
        return FinalAnswer(chosen[0], support)
    text = " ".join(arguments.answer.split())
    return FinalAnswer(parsed.value if question.answer_type in _CANONICAL else text, support)
