"""Replies that were begun for a student: how it goes on, greedily, and how likely it finds a given answer there.

What was said is given as text and becomes the ids that the same text has within a whole reply, tags and all. In a talk
with tools a student that makes a call which was made before gets what it got then; no tool is run.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from aot.records import Lesson, LessonTurn, PromptMode, WrittenCall
from aot.student.answer.batches import PromptItem
from aot.student.answer.decoding import Prompt, write_replies
from aot.student.answer.likelihood import log_sums
from aot.student.model.loading import Student
from aot.student.rows.frames import FramePixels
from aot.student.rows.prompts import read_calls
from aot.student.rows.replies import answer_of, encode_lesson
from aot.student.rows.talks import turn_ids
from aot.student.rows.tokens import Renderer

LEAST_TOKENS = 8
"""A reply may go on for so many tokens, however long its beginning is."""
MAX_TURNS = 8
"""Of a student that goes on, with calls that were made before."""


@dataclass(frozen=True)
class Begun:
    """A talk up to some place in its last reply."""

    item: PromptItem
    said: str
    """What the last reply has said."""
    then: str
    """What is to come next in it: an answer that is scored, or what stood there, which the student does not see."""
    turns: tuple[LessonTurn, ...] = ()
    """Those before that reply."""
    gave: Mapping[str, str] = field(default_factory=dict)
    """What tools give, by `call_key`."""

    @property
    def key(self) -> tuple[tuple[LessonTurn, ...], str]:
        """What was said, to compare with."""
        return self.turns, self.said


@dataclass(frozen=True)
class Continued:
    """How a student went on."""

    answer: str | None
    """None where the last reply states none, was cut off, or makes a call that was not made before."""
    text: str
    """What it wrote after the beginning; or its last reply, if tools were called on the way."""
    turns: tuple[LessonTurn, ...] = ()
    """Those that came on the way."""


def call_key(call: WrittenCall) -> str:
    """What two calls share that ask for the same, however their arguments are written."""
    try:
        arguments = json.dumps(json.loads(call.arguments), sort_keys=True)
    except ValueError:
        arguments = call.arguments
    return f"{call.name} {arguments}"


def reply_ids(renderer: Renderer, mode: PromptMode, begun: Begun) -> tuple[list[int], list[int], list[int]]:
    """Ids of the turns, of what the last reply has said, and of what comes next, the token that ends it included.

    Raises:
        CheckpointError: the tokenizer cannot tell which characters a token stands for.
        SourceError: the tokenizer cannot write the text.
    """
    turns = [one for _, ids in turn_ids(begun.turns, renderer) for one in ids]
    question = begun.item.question
    row = encode_lesson(
        renderer, question, Lesson(question_id=question.id, mode=mode, forced=begun.said, rationale=begun.then)
    )
    prompt = renderer.encode(question, (), mode, frame_size_hw=None).prompt_ids
    return turns, list(row.prompt_ids[len(prompt) :]), list(row.completion_ids)


def continue_replies(
    student: Student, begun: Sequence[Begun], *, mode: PromptMode, pixels: FramePixels | None, batch_size: int
) -> list[Continued]:
    """How each talk goes on from its beginning, by the likeliest token each time."""
    renderer = student.renderer
    pairs = [reply_ids(renderer, mode, one)[:2] for one in begun]
    ids = [turns + said for turns, said in pairs]
    starts = [len(turns) for turns, _ in pairs]
    """Where the reply that is being written begins in the ids."""
    made = [Continued(None, "")] * len(begun)
    going = list(range(len(begun)))
    for _ in range(MAX_TURNS if mode == "tools" else 1):
        heard: list[int] = []
        for i, reply in _written(student, begun, ids, starts, going, pixels=pixels, batch_size=batch_size):
            ended = reply[-1] in renderer.end_ids
            new = reply[:-1] if ended else reply
            text = renderer.decode([*ids[i][starts[i] :], *new])
            calls = read_calls(text)[1] if mode == "tools" else ()
            gave = [begun[i].gave.get(call_key(call)) for call in calls]
            turns = made[i].turns
            if not calls or not ended or None in gave:
                is_answer = ended and not calls
                answer = answer_of(text, style=renderer.think_style, mode=mode) if is_answer else None
                made[i] = Continued(answer, renderer.decode(new), turns)
                continue
            results = tuple(LessonTurn(role="tool", text=one or "") for one in gave)
            made[i] = Continued(None, "", (*turns, LessonTurn(role="assistant", text=text), *results))
            ids[i] += [*reply, *renderer.result_ids([one.text for one in results])]
            starts[i] = len(ids[i])
            heard.append(i)
        going = [i for i in heard if begun[i].item.row.num_tokens + len(ids[i]) < student.most_tokens]
        if not going:
            break
    return made


def answer_probs(
    student: Student, begun: Sequence[Begun], *, mode: PromptMode, pixels: FramePixels | None, batch_size: int
) -> list[float]:
    """Probability, from 0 to 1, that a student goes on with exactly the `then` of each talk and then stops."""
    triples = [reply_ids(student.renderer, mode, one) for one in begun]
    given = [turns + said for turns, said, _ in triples]
    made = [0.0] * len(begun)
    for places in _batches(begun, given, range(len(begun)), batch_size):
        prompts = [_prompt(student, begun[i].item, given[i], pixels) for i in places]
        sums = log_sums(student, prompts, [[tuple(triples[i][2])] for i in places])
        for i, row in zip(places, sums, strict=True):
            made[i] = math.exp(min(0.0, row[0]))
    return made


def _written(
    student: Student,
    begun: Sequence[Begun],
    ids: Sequence[Sequence[int]],
    starts: Sequence[int],
    going: Sequence[int],
    *,
    pixels: FramePixels | None,
    batch_size: int,
) -> Iterator[tuple[int, list[int]]]:
    """What comes next in each of the talks that go on, by number."""
    most = student.config.max_rationale_tokens
    for places in _batches(begun, ids, going, batch_size):
        prompts = [_prompt(student, begun[i].item, ids[i], pixels) for i in places]
        left = max(LEAST_TOKENS, *(most - len(ids[i]) + starts[i] for i in places))
        yield from zip(places, write_replies(student, prompts, max_tokens=left), strict=True)


def _prompt(student: Student, item: PromptItem, ids: Sequence[int], pixels: FramePixels | None) -> Prompt:
    prompt = item.prompt(student.renderer, pixels)
    return replace(prompt, ids=prompt.ids + tuple(ids))


def _batches(
    begun: Sequence[Begun], ids: Sequence[Sequence[int]], numbers: Sequence[int], batch_size: int
) -> Iterator[list[int]]:
    """Numbers of talks of like length together."""
    order = sorted(numbers, key=lambda i: (begun[i].item.row.num_tokens + len(ids[i]), i))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
