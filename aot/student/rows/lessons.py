"""Training examples from the lessons of a text arm: one row each, in the order of the file.

A lesson that cannot be taught as it stands is dropped and counted, never cut: one that is too long, one that spells out
a token which the model reserves, one with a word that the tokenizer does not know.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from aot.errors import SourceError
from aot.records import Lesson, Question
from aot.student.rows.examples import ExampleSet, LessonExample
from aot.student.rows.replies import encode_lesson, lesson_text
from aot.student.rows.tokens import Renderer

LESSONS = "lessons.jsonl"
"""Name of the file of Lesson rows in the folder of an arm."""


def lesson_examples(
    lessons: Iterable[Lesson], *, questions: Mapping[str, Question], renderer: Renderer, max_tokens: int
) -> ExampleSet[LessonExample]:
    """Examples of `lessons`, in their order.

    Args:
        lessons: what to learn; several may be about one question.
        questions: question id to question, of the train split.
        renderer: makes the prompt.
        max_tokens: rows longer than this are dropped and counted.

    Raises:
        SourceError: a lesson is about a question that is not there.
        CheckpointError: the tokenizer cannot tell which characters a token stands for.
    """
    examples: list[LessonExample] = []
    dropped: Counter[str] = Counter()
    for lesson in lessons:
        question = questions.get(lesson.question_id)
        if question is None:
            raise SourceError(f"a lesson is about {lesson.question_id!r}, which is no question of the train split")
        if renderer.reserved_mark(lesson_text(lesson)):
            dropped["reserved_token"] += 1
            continue
        try:
            row = encode_lesson(renderer, question, lesson)
        except SourceError:
            dropped["reserved_token"] += 1
            continue
        reason = _unfit(row.completion_ids, row.num_tokens, renderer=renderer, max_tokens=max_tokens)
        if reason:
            dropped[reason] += 1
        else:
            examples.append(LessonExample(question.id, row, explains(lesson)))
    return ExampleSet(tuple(examples), dict(sorted(dropped.items())))


def explains(lesson: Lesson) -> bool:
    r"""Whether a lesson teaches a step, and not an answer alone.

    >>> explains(Lesson(question_id="q", mode="reason", rationale="1 + 1 = 2\nAnswer: 2"))
    True
    >>> explains(Lesson(question_id="q", mode="adaptive", forced="Mode: direct\n", rationale="Answer: 2"))
    False
    """
    return any(line.strip() and not line.startswith("Answer:") for line in lesson.rationale.split("\n"))


def _unfit(completion_ids: tuple[int, ...], num_tokens: int, *, renderer: Renderer, max_tokens: int) -> str:
    if not completion_ids:
        return "nothing_to_learn"
    if num_tokens > max_tokens:
        return "row_too_long"
    unknown_id = renderer.tokenizer.unk_token_id
    # Some tokenizers name their end token as the unknown one too, and never make it from a word.
    unknown = unknown_id is not None and unknown_id not in renderer.end_ids and unknown_id in completion_ids
    return "unknown_token" if unknown else ""
