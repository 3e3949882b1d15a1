"""Stored replies of one student taken up step by step: perturbed, put to it again, and read off.

From each perturbed step the student goes on by itself; and it is made to answer right after the step, as it was and
perturbed, before intact and before perturbed steps. Knows no run folder.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aot.answer_records import FaithfulReply, FaithfulStep, StepOutcome
from aot.errors import SourceError
from aot.evaluation.steps import true_thinking_score
from aot.faults.perturb import (
    Perturbed,
    Piece,
    implied_by_result,
    implied_by_step,
    perturb,
    perturb_result,
    pieces_of,
)
from aot.faults.plant import rng_of
from aot.pipeline.student.talks import RESULT, Case, Stored, result_pieces
from aot.rationales.arithmetic import read_amount
from aot.rationales.named import NAME
from aot.rationales.notation import ANSWER_MARK, format_span, parse_span
from aot.rationales.wording import phrase_key
from aot.records import LessonTurn, PromptMode, Question
from aot.student.answer.batches import PromptItem, prompt_items
from aot.student.answer.begun import Begun, Continued, answer_probs, continue_replies, reply_ids
from aot.student.model.loading import Student
from aot.student.rows.frames import FramePixels

Key = tuple[tuple[LessonTurn, ...], str]
"""What was said before a place: turns, and the beginning of a reply."""


@dataclass(frozen=True)
class Asked:
    """One student in one mode, with all that its replies are measured by."""

    student: Student
    arm: str
    mode: PromptMode
    pixels: FramePixels | None
    batch_size: int
    seed: int
    labels: tuple[str, ...] = ()
    implied: Callable[[Question, str], str | None] = lambda question, rationale: None
    """The answer that the evidence of a rationale implies; None where nobody can say."""

    def measure(self, questions: Sequence[Question], said: Mapping[str, Stored]) -> list[FaithfulReply]:
        """The replies to some questions, in their order."""
        store = self.pixels.store if self.pixels else None
        items = prompt_items(self.student, questions, store=store, mode=self.mode, with_frames=True)
        taken = [self._case(item, said.get(item.question.id)) for item in items]
        cases = [one for one in taken if isinstance(one, Case)]
        measured = iter(self._measured(cases))
        return [next(measured) if isinstance(one, Case) else one for one in taken]

    def _case(self, item: PromptItem, stored: Stored | None) -> Case | FaithfulReply:
        question = item.question
        said = stored.prediction if stored else None
        reply = FaithfulReply(
            question_id=question.id, arm=self.arm, mode=self.mode, split=question.split, group=question.group,
            text=said.raw_text if said else "", answer=(said.answer or "") if said else "",
        )  # fmt: skip
        if stored is None or said is None or item.error or said.error:
            return reply.model_copy(update={"unusable": "missing" if said is None else "failed"})
        if said.finish_reason == "length":
            return reply.model_copy(update={"unusable": "cut_off"})
        if not reply.answer or ANSWER_MARK not in stored.text:
            return reply.model_copy(update={"unusable": "no_answer"})
        if NAME.fullmatch(stored.text.rpartition(ANSWER_MARK)[2].strip()):  # the answer follows whatever it stands for
            return reply.model_copy(update={"unusable": "by_name"})
        start = stored.text.find("\n") + 1 if self.mode == "adaptive" else 0
        pieces = [*result_pieces(stored.turns), *pieces_of(stored.text, start=start)]
        made = [self._perturbed(stored, piece, question, reply.answer, at) for at, piece in enumerate(pieces)]
        case = Case(item, reply, stored, tuple(pieces), tuple(made))
        why = "no_steps" if not case.places() else self._unwritable(case)
        return reply.model_copy(update={"unusable": why}) if why else case

    def _perturbed(self, stored: Stored, piece: Piece, question: Question, answer: str, at: int) -> Perturbed | None:
        rng = rng_of(self.seed, f"{question.id}:{at}:perturb")
        if piece.part == RESULT:
            text = stored.turns[piece.start].text
            return perturb_result(text, question=question, answer=answer, labels=self.labels, rng=rng)
        return perturb(stored.text, piece, question=question, answer=answer, labels=self.labels, rng=rng)

    def _unwritable(self, case: Case) -> str:
        """Why the perturbed reply cannot be put to the student; empty where it can."""
        try:
            sizes = [sum(map(len, reply_ids(self.student.renderer, self.mode, case.begun(at)))) for at in case.places()]
        except SourceError:
            return "unwritable"
        return "too_long" if case.item.row.num_tokens + max(sizes) > self.student.most_tokens else ""

    def _measured(self, cases: Sequence[Case]) -> Iterator[FaithfulReply]:
        """Each reply with its steps; all of them go on, and are scored, together."""
        places = [(number, at) for number, case in enumerate(cases) for at in case.places()]
        begun = [cases[number].begun(at) for number, at in places]
        made = continue_replies(self.student, begun, mode=self.mode, pixels=self.pixels, batch_size=self.batch_size)
        went_on = dict(zip(places, made, strict=True))
        wanted = [(number, end) for number, case in enumerate(cases) if (end := case.ended(None))]
        wanted += [(number, end) for number, at in places if (end := cases[number].ended(at, went_on[number, at]))]
        wanted += [
            (number, cases[number].asked_at(at, context=context, step=step))
            for number, at in places
            for context in (True, False)
            for step in (True, False)
        ]
        probs = self._probs(wanted)
        for number, case in enumerate(cases):
            of_case = {key: prob for (of, key), prob in probs.items() if of == number}
            steps = [
                self._step(case, at, went_on[number, at], of_case)
                if case.made[at]
                else FaithfulStep(part=piece.part, text=case.original(at))
                for at, piece in enumerate(case.pieces)
            ]
            yield case.reply.model_copy(update={"steps": tuple(steps)})

    def _probs(self, wanted: Sequence[tuple[int, Begun]]) -> dict[tuple[int, Key], float]:
        """By the number of the reply and what it has said, each scored once."""
        once = {(number, one.key): one for number, one in wanted}
        made = answer_probs(
            self.student, list(once.values()), mode=self.mode, pixels=self.pixels, batch_size=self.batch_size
        )
        return dict(zip(once, made, strict=True))

    def _step(self, case: Case, at: int, went_on: Continued, probs: Mapping[Key, float]) -> FaithfulStep:
        """What came of a step; `probs` has the probability of the reply's answer by what was said before it."""
        piece, made, answer = case.pieces[at], case.made[at], case.reply.answer
        assert made is not None
        implied = self._implied(case, at, made)
        intact, perturbed = (
            tuple(probs[case.asked_at(at, context=context, step=step).key] for step in (True, False))
            for context in (True, False)
        )
        before, after = (probs[end.key] if end else 0.0 for end in (case.ended(None), case.ended(at, went_on)))
        return FaithfulStep(
            part=piece.part,
            text=case.original(at),
            edit=made.edit,
            perturbed=made.text,
            implied=implied,
            answer=went_on.answer,
            outcome=_outcome(went_on.answer, answer=answer, implied=implied),
            score=round(true_thinking_score(intact, perturbed), 6),
            change=round(before - after, 6),
        )

    def _implied(self, case: Case, at: int, made: Perturbed) -> str | None:
        """Another answer that the reply leads to with a step perturbed; None where its words imply none."""
        text, answer = case.stored.text, case.reply.answer
        if case.pieces[at].part == RESULT:
            return implied_by_result(made, answer=answer) if case.is_last_given(at) else None
        implied = implied_by_step(text, case.pieces[at], made, answer=answer)
        if implied is None and case.pieces[at].part == "Gather":
            question = case.item.question
            # Where the rules come to another answer from the very words, nobody can say what other words imply.
            if _same(self.implied(question, text), answer):
                implied = self.implied(question, case.perturbed_text(at))
        return None if _same(implied, answer) else implied


def _outcome(said: str | None, *, answer: str, implied: str | None) -> StepOutcome:
    if said is None:
        return "none"
    if _same(said, implied):
        return "followed"
    return "kept" if _same(said, answer) else "other"


def _same(one: str | None, other: str | None) -> bool:
    """Whether two answers say the same: the same number, the same span to a tenth of a second, or the same words."""
    if one is None or other is None:
        return False
    if (spans := (parse_span(one), parse_span(other))) != (None, None):
        return None not in spans and format_span(*spans[0]) == format_span(*spans[1])  # type: ignore[misc]
    amounts = read_amount(one), read_amount(other)
    return phrase_key(one) == phrase_key(other) or (amounts[0] is not None and amounts[0] == amounts[1])
