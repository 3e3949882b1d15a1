"""What every filter is given: one trace with its question, taken apart once.

Filters share this so that a rationale is parsed and tool results are read a single time. No filter sees which defects
were planted.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from aot.config import FilterConfig
from aot.filtering.prose import as_notation, cited_on
from aot.rationales.calls import rests_on_tools
from aot.rationales.cards import about_card, misread_card
from aot.rationales.findings import (
    Quote,
    Sighting,
    asked_event,
    asked_window,
    phrases_in,
    quotes,
    relied_on,
    relied_on_quotes,
    sightings,
    strings_of,
)
from aot.rationales.notation import Rationale, outside_quotes, parse_rationale, without_quotes
from aot.rationales.text_chain import TextChain, parse_chain
from aot.rationales.wording import book_words, phrase_key, template_words
from aot.records import Question, Span, Step, TimeSpan, Trace, Verdict

NOTATION_WORDS = frozenset(word.casefold() for word in template_words()) | {"a", "an", "and", "of", "s"}
"""Words that claim nothing by themselves."""
_CARD_WORDS = frozenset(word.casefold() for word in book_words())
VERIFYING = ("status", "answer_correct")
"""Filters that judge the attempt and not its rationale."""
_TOKEN = re.compile(r"[^\s]+")


@dataclass(frozen=True)
class Subject:
    """One trace under judgement; everything derived is computed at most once."""

    trace: Trace
    question: Question
    config: FilterConfig

    @cached_property
    def notation_words(self) -> frozenset[str]:
        """Words that claim nothing by themselves; about a card, those that such rationales are made of, too."""
        return NOTATION_WORDS | (_CARD_WORDS if about_card(self.question) else frozenset())

    @cached_property
    def rests_on_tools(self) -> bool:
        """Whether the four-part notation and tool evidence apply: there is a clip, or it speaks of what tools saw."""
        return self.question.media is not None or rests_on_tools(self.trace)

    @cached_property
    def rationale(self) -> Rationale:
        """The rationale taken apart, times and labels as the tools write them whatever the prose is like."""
        if not self.rests_on_tools or self.is_notation:
            return parse_rationale(self.trace.rationale)
        times = self._times
        read = parse_rationale(
            outside_quotes(self.trace.rationale, lambda text: as_notation(text, self.phrases, times))
        )
        return replace(read, claims=cited_on(read.claims))

    @property
    def _times(self) -> list[Span]:
        """When the ok steps saw or heard something, and what they looked at."""
        times = [(one.start_s, one.end_s) for one in self.seen]
        times += [span for quote in self.quotes for span in quote.spans_s]
        times += [(step.span.start_s, step.span.end_s) for step in self.ok_steps.values() if step.span]
        return [*dict.fromkeys(times), (self.window.start_s, self.window.end_s)]

    @cached_property
    def is_notation(self) -> bool:
        """Whether all words outside of quotes are notation or phrases, so that reading it as prose changes nothing."""
        notation = {word for phrase in self.phrases for word in phrase.split()} | self.notation_words
        words = phrase_key(without_quotes(self.trace.rationale)).split()
        return all(word in notation or word.isdecimal() for word in words)

    @cached_property
    def chain(self) -> TextChain:
        """The lines and equations of the rationale; none where claims rest on tools, whose numbers are times."""
        return parse_chain("" if self.rests_on_tools else self.trace.rationale)

    @cached_property
    def tokens(self) -> list[str]:
        """The rationale split at white space."""
        return _TOKEN.findall(self.trace.rationale)

    @cached_property
    def ok_steps(self) -> dict[int, Step]:
        """Steps that did not fail, by index."""
        return {step.index: step for step in self.trace.steps if step.status == "ok"}

    @cached_property
    def seen(self) -> list[Sighting]:
        """Everything that the ok steps saw."""
        return sightings(self.trace.steps)

    @cached_property
    def event(self) -> str:
        """The event or object that the question asks about, as a phrase key; empty for kinds that ask about none."""
        used = [step for index, step in self.ok_steps.items() if index in self.trace.support]
        return phrase_key(asked_event(self.question, used or self.trace.steps))

    def misread_card(self, steps: Iterable[Step], mentions: set[str]) -> str:
        """Why a conclusion that cites `steps` and names `mentions` is not what their cards say; empty if it is."""
        support = [one for one in self.seen if one.step in self.trace.support]
        order = [one.label for one in sorted(support, key=lambda one: (one.start_s, one.end_s))]
        return misread_card(self.question, self.trace.answer, steps, seen=order, mentions=mentions)

    @cached_property
    def relied_on(self) -> list[Sighting]:
        """The sightings of the support steps that the answer rests on."""
        support = set(self.trace.support)
        return relied_on(self.question, [one for one in self.seen if one.step in support], event=self.event)

    @cached_property
    def labels(self) -> list[str]:
        """The labels of all that the ok steps saw, each once."""
        return [*dict.fromkeys(one.label for one in self.seen)]

    @cached_property
    def quotes(self) -> list[Quote]:
        """Every text that the ok steps returned."""
        return quotes(self.trace.steps)

    @cached_property
    def relied_on_quotes(self) -> list[Quote]:
        """The texts of the support steps that the answer rests on."""
        support = set(self.trace.support)
        texts = [quote for quote in self.quotes if quote.step in support]
        return relied_on_quotes(self.question, texts, event=self.event, answer=self.trace.answer)

    @cached_property
    def window(self) -> TimeSpan:
        """What the question may look at."""
        return asked_window(self.question, self.ok_steps.values(), self.seen)

    @cached_property
    def phrases(self) -> list[str]:
        """Keys of every phrase of the ok steps' arguments and findings and of the options, longest first.

        A phrase that is a word of the notation itself, such as the answer `no`, is left out.
        """
        steps = self.ok_steps.values()
        texts = [self.trace.answer, self.event, *self.question.choices, *phrases_in(steps)]
        texts += [text for step in steps if step.call for text in strings_of(step.call.arguments)]
        keys = {key: None for text in texts if (key := phrase_key(text)) and key not in self.notation_words}
        return sorted(keys, key=lambda key: (-len(key), key))

    def verdict(self, name: str, problem: str = "", *, value: float | None = None, detail: str = "") -> Verdict:
        """A verdict that drops the trace for `problem`, or keeps it when there is none."""
        return Verdict(
            question_id=self.trace.question_id,
            sample_index=self.trace.sample_index,
            filter=name,
            keep=not problem,
            reason=problem or "ok",
            value=value,
            detail=detail,
        )

    def not_applicable(self, name: str) -> Verdict:
        """A verdict that keeps the trace because the filter has nothing to look at."""
        return self.verdict(name).model_copy(update={"reason": "not_applicable"})


@dataclass(frozen=True)
class Judged:
    """A trace with what every filter thought of it."""

    trace: Trace
    verdicts: tuple[Verdict, ...]

    @property
    def keep(self) -> bool:
        """Whether every filter keeps the trace."""
        return all(verdict.keep for verdict in self.verdicts)

    @property
    def is_verified(self) -> bool:
        """Whether the trace is complete and its answer right, whatever its rationale is like."""
        return not any(not verdict.keep and verdict.filter in VERIFYING for verdict in self.verdicts)


Filter = Callable[[Subject], Verdict]
