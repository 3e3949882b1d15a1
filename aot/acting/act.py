"""Lets a student answer questions by calling tools: batches of plans that go on together, turn by turn.

What stands in a batch depends on the questions alone, and calls are carried out in the order of the plans, so the same
call gives the same answers. A question that cannot be asked becomes a prediction with an error, never a gap.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aot.acting.plan import StudentPlan
from aot.answers import find_answer
from aot.errors import AotError
from aot.records import Prediction, PromptMode, Question, Trace
from aot.student.answer.batches import PromptItem, prompt_items
from aot.student.answer.predict import answer_batches
from aot.student.answer.sampling import Pick, likeliest
from aot.student.answer.talk import Talks
from aot.student.model.loading import Student
from aot.student.rows.frames import FramePixels
from aot.student.rows.replies import answer_of, plain_reply
from aot.teacher.bench import Bench
from aot.teacher.executor import Work

MODE: PromptMode = "tools"


class Acted(NamedTuple):
    """What came of a question."""

    prediction: Prediction
    trace: Trace
    ids: tuple[int, ...] = ()
    """Of the whole talk: prompt, replies, and what was said to them."""


@dataclass(frozen=True)
class Actor:
    """A student with tools in its hands."""

    student: Student
    bench: Bench
    arm: str
    """Name under which predictions and traces are stored."""
    pixels: FramePixels | None = None
    """The stored frames as this student's processor makes them; None where nothing has frames."""
    pick: Pick = likeliest
    with_frames: bool = True
    _said: dict[tuple[str, ...], tuple[int, ...]] = field(default_factory=dict)
    """Ids of results that were told before: many questions get the same ones."""

    def items(self, questions: Sequence[Question]) -> Iterator[PromptItem]:
        """What it can be asked of `questions`."""
        store = self.pixels.store if self.pixels else None
        return prompt_items(self.student, questions, store=store, mode=MODE, with_frames=self.with_frames)

    def failed(self, item: PromptItem) -> Acted:
        """What stands for a question which could not be asked."""
        row = {"question_id": item.question.id, "arm": self.arm, "mode": MODE, "raw_text": "", "answer": None}
        plan = self._plan(item)
        plan.fail("no_room", item.error, boundary="source")
        return Acted(Prediction.model_validate({**row, "error": item.error}), plan.trace())

    def act(self, items: Sequence[PromptItem]) -> list[Acted]:
        """The answer to each item, with all that led to it."""
        started_s = time.perf_counter()
        plans = [self._plan(item) for item in items]
        talks = Talks(self.student, [item.prompt(self.student.renderer, self.pixels) for item in items])
        going = [number for number, plan in enumerate(plans) if plan.begin_turn()]
        most, whole = self.student.config.max_rationale_tokens, dict[int, bool]()
        while going:
            heard: dict[int, tuple[int, ...]] = {}
            for number, reply in talks.write(max_tokens=most, pick=self.pick).items():
                whole[number] = bool(reply) and reply[-1] in self.student.end_ids
                ids = self._turn(plans[number], reply, is_whole=whole[number], room=talks.room(number))
                if ids is not None and plans[number].begin_turn():
                    heard[number] = ids
            talks.say(heard)
            going = list(talks.open)
        self._take_options(plans, talks)
        each_s = (time.perf_counter() - started_s) / len(items)
        return [
            self._acted(plan, item, talk.ids, talk.num_written, is_whole=whole.get(number, True), latency_s=each_s)
            for number, (plan, item, talk) in enumerate(zip(plans, items, talks.talks, strict=True))
        ]

    def _plan(self, item: PromptItem) -> StudentPlan:
        question = item.question.model_copy(update={"answer": ""})  # No tool may lean on the gold answer.
        work = Work(question, self.bench.context(question), self.bench, name=self.arm, waits=True)
        return StudentPlan(question, self.bench.tools, work)

    def _turn(self, plan: StudentPlan, reply: Sequence[int], *, is_whole: bool, room: int) -> tuple[int, ...] | None:
        """Ids of what is said to a reply; None where its plan has ended."""
        renderer = self.student.renderer
        text = renderer.decode(reply[:-1] if is_whole else reply)
        answer = answer_of(plan.valued(text), style=renderer.think_style, mode=MODE)
        plain = plain_reply(text) if renderer.think_style != "none" else text
        texts = plan.hear(plain, answer=answer, is_whole=is_whole)
        if texts is None:
            return None
        try:
            ids = self._ids(texts)
        except AotError as error:
            plan.fail("unreadable_result", f"the student cannot be told a result: {error}")
            return None
        if len(ids) < room:
            return ids
        plan.fail("no_room", f"a result of {len(ids)} tokens; the model knows {room} positions more", boundary="guard")
        return None

    def _take_options(self, plans: Sequence[StudentPlan], talks: Talks) -> None:
        """Where an answer is none of the options, the likeliest of them behind what was said before it."""
        replies: dict[int, list[tuple[int, ...]]] = {}
        for number, plan in enumerate(plans):
            if plan.is_outside:
                talk = talks.talks[number]
                text = self.student.renderer.decode(talk.ids[talk.reply_from :])
                said, there, _ = text.rpartition(find_answer(text).answer or text)
                # An answer that stands in other words in the reply has no place for an option.
                if there:
                    options = plan.question.option_answers
                    replies[number] = [self.student.renderer.completion_ids(said + option) for option in options]
        for number, place in talks.likeliest(replies).items():
            plans[number].take_option(plans[number].question.option_answers[place])

    def _ids(self, texts: Sequence[str]) -> tuple[int, ...]:
        key = tuple(texts)
        if key not in self._said:
            self._said[key] = self.student.renderer.result_ids(texts)
        return self._said[key]

    def _acted(
        self,
        plan: StudentPlan,
        item: PromptItem,
        ids: tuple[int, ...],
        num_written: int,
        *,
        is_whole: bool,
        latency_s: float,
    ) -> Acted:
        trace = plan.trace()
        prediction = Prediction(
            question_id=item.question.id,
            arm=self.arm,
            mode=MODE,
            raw_text=trace.rationale,
            answer=plan.answer,
            num_calls=len(trace.steps),
            reasons=trace.reasons,
            prompt_tokens=len(ids) - num_written,
            completion_tokens=num_written,
            latency_s=latency_s,
            finish_reason="stop" if is_whole else "length",
        )
        return Acted(prediction, trace, ids)


def act_batches(
    actor: Actor, questions: Sequence[Question], *, batch_size: int, wanted: Callable[[int, Sequence[str]], bool]
) -> Iterator[list[Acted]]:
    """What comes of the questions, batch by batch, of those batches that are wanted; see `predict_batches`."""
    items = actor.items(questions)
    yield from answer_batches(items, actor.act, actor.failed, batch_size=batch_size, wanted=wanted)


def act_in_order(actor: Actor, questions: Sequence[Question], *, batch_size: int) -> list[Acted]:
    """What comes of the questions, whose ids differ, in their order."""
    batches = act_batches(actor, questions, batch_size=batch_size, wanted=lambda number, ids: True)
    made = {one.prediction.question_id: one for batch in batches for one in batch}
    return [made[question.id] for question in questions]
