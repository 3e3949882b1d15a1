"""One function for each kind of planted defect: a rationale in, a defective rationale out, None where it cannot apply.

An edit changes the text only, at a random place. It makes sure that the new text is really wrong, and does not
care whether any filter can see it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from numpy.random import Generator

from aot.faults.plant import OPPOSITE, Edits, beginning, garbled, looping, other_option, pick, put, shuffled_letters
from aot.rationales.findings import SEEN, labels_in, names, phrases_in, quotes, sightings, strings_of
from aot.rationales.notation import (
    CITATION,
    EVIDENCE,
    MOMENT,
    PARTS,
    QUOTE,
    SPAN,
    format_span,
    format_time,
    parse_span,
    sentences_of,
)
from aot.rationales.wording import in_sentence, phrase_key
from aot.records import Question, Trace

NEVER_SEEN = (
    "kettle", "umbrella", "laptop", "bicycle", "green sofa", "toaster", "garden hose", "third hand", "red phone",
)  # fmt: skip
FOREIGN = (
    "затем он режет лук и ставит", "次に彼は野菜を切って炒める", "dann wird noch schnell gerührt",
    "luego se corta muy fino",
)  # fmt: skip
_LONG_WORD = re.compile(r"[^\W\d_]{3,}")
MIN_SHIFT_S = 0.4
"""A time that is shifted by less may be the same one, rounded."""


@dataclass(frozen=True)
class Target:
    """A verified trace that is about to be damaged."""

    trace: Trace
    question: Question
    labels: tuple[str, ...]

    @property
    def text(self) -> str:
        """The rationale."""
        return self.trace.rationale

    @cached_property
    def bodies(self) -> dict[str, str]:
        """The text of each part; lines that are no part are left out."""
        pairs = (line.partition(":") for line in self.text.split("\n"))
        return {name: body.strip() for name, sign, body in pairs if sign and name in PARTS}

    def with_bodies(self, **bodies: str) -> str:
        """The rationale with some parts replaced."""
        parts = {**self.bodies, **bodies}
        return "\n".join(f"{name}: {body}" for name, body in parts.items())

    def sentences(self, part: str) -> list[str]:
        """The sentences of one part."""
        return sentences_of(self.bodies.get(part, ""))


def wrong_label(target: Target, rng: Generator) -> str | None:
    """Another step's label at one of the places where a label or a quoted word stands, outside the answer."""
    names = labels_in(target.trace.steps, *SEEN, "after")
    names += [target.trace.answer] if target.question.answer_type in ("choice", "text") else []
    names += [text for step in target.trace.steps if step.call for text in strings_of(step.call.arguments)]
    spoken = sorted({in_sentence(name) for name in names if name}, key=lambda name: (-len(name), name))
    head = target.text.rpartition("\nAnswer:")[0]
    pattern = "|".join(re.escape(name) for name in spoken)
    places = list(re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", head)) if pattern else []
    places = [place for place in places if not SPAN.fullmatch(place[0]) and not place[0].isdecimal()]
    places += [
        word for quote in QUOTE.finditer(head) for word in _LONG_WORD.finditer(head, quote.start(3), quote.end(3))
    ]
    if not places:
        return None
    place = pick(places, rng)
    others = [label for label in target.labels if phrase_key(label) != phrase_key(place[0])]
    if not others:
        return None
    return put(target.text, place, in_sentence(pick(others, rng)))


def dropped_step(target: Target, rng: Generator) -> str | None:
    """One sentence of Gather or Combine left out."""
    places = [(part, i) for part in EVIDENCE for i in range(len(target.sentences(part)))]
    if not places:
        return None
    part, index = pick(places, rng)
    kept = [sentence for i, sentence in enumerate(target.sentences(part)) if i != index]
    return target.with_bodies(**{part: " ".join(kept)})


def invented_object(target: Target, rng: Generator) -> str | None:
    """A thing that no step saw: in a sentence of its own with a plausible time, or slipped into another sentence."""
    sentences = target.sentences("Gather")
    cited = CITATION.findall(target.text)
    given = {phrase_key(text) for text in phrases_in(target.trace.steps)}
    texts = " ".join(quote.text for quote in quotes(target.trace.steps))
    things = [thing for thing in (*NEVER_SEEN, *target.labels) if phrase_key(thing) not in given]
    things = [thing for thing in things if not names(texts, thing)]
    things = [thing for thing in things if thing.casefold() not in target.question.text.casefold()]
    if not sentences or not cited or not things:
        return None
    thing = in_sentence(pick(things, rng))
    at = int(rng.integers(len(sentences)))
    if rng.random() < 0.5:
        sentences[at] = CITATION.sub(lambda place: f"with {thing} {place[0]}", sentences[at], count=1)
    else:
        time_s = float(rng.uniform(0.0, max([one.end_s for one in sightings(target.trace.steps)], default=8.0)))
        times = format_time(time_s) if rng.random() < 0.5 else format_span(time_s, time_s + 1.5)
        sentences.insert(at, f"{thing} at {times} [{pick(cited, rng)}].")
    return target.with_bodies(Gather=" ".join(sentences))


def invented_time(target: Target, rng: Generator) -> str | None:
    """One time, anywhere outside the answer, shifted to where no step saw or heard anything."""
    head = target.text.rpartition("\nAnswer:")[0]
    spans = list(SPAN.finditer(head))
    inside = [range(span.start(), span.end()) for span in spans]
    moments = [time for time in MOMENT.finditer(head) if not any(time.start() in span for span in inside)]
    if not spans and not moments:
        return None
    place = pick([*spans, *moments], rng)
    true = [(one.start_s, one.end_s) for one in sightings(target.trace.steps)]
    true += [span for quote in quotes(target.trace.steps) for span in quote.spans_s]
    for _ in range(20):
        shift_s = float(rng.uniform(MIN_SHIFT_S, 4.0)) * (1 if rng.random() < 0.6 else -1)
        start_s = max(0.0, float(place[1]) + shift_s)
        end_s = start_s
        if place.re is SPAN:
            end_s = max(start_s + 0.1, float(place[2]) + (shift_s if rng.random() < 0.5 else 0.0))
        near = [abs(start_s - a) < MIN_SHIFT_S and abs(end_s - b) < MIN_SHIFT_S for a, b in true]
        if abs(start_s - float(place[1])) >= MIN_SHIFT_S and not any(near):
            new = format_span(start_s, end_s) if place.re is SPAN else format_time(start_s)
            return put(target.text, place, new)
    return None


def contradiction(target: Target, rng: Generator) -> str | None:
    """Another answer in the answer part, or in Combine, than the trace gives."""
    other = _other_answer(target, rng)
    if other is None:
        return None
    combine, answer = target.bodies.get("Combine", ""), target.trace.answer
    if rng.random() < 0.5:
        return target.with_bodies(Answer=other)
    if target.question.answer_type == "yes_no":
        swapped = opposed(combine)
    else:
        pattern = rf"(?<![\w\[.]){re.escape(in_sentence(answer))}(?![\w\]])"
        swapped = re.sub(pattern, lambda _: in_sentence(other), combine)
    return target.with_bodies(Combine=swapped) if swapped != combine else target.with_bodies(Answer=other)


def opposed(text: str) -> str:
    """`text` saying of something that it is not there where it said that it is, or the other way round.

    >>> opposed("so we see no knife [1].")
    'so we see knife [1].'
    """
    swaps = [("we see no ", "we see "), ("we see ", "we see no "), ("there is no ", "there is ")]
    swaps += [("there is ", "there is no "), ("is not visible", "is visible"), ("is visible", "is not visible")]
    return next((text.replace(old, new) for old, new in swaps if old in text), text)


def repetition_loop(target: Target, rng: Generator) -> str | None:
    """A sentence, or the last words of one, again and again."""
    part = pick(EVIDENCE, rng)
    sentences = target.sentences(part)
    if not sentences:
        return None
    at = int(rng.integers(len(sentences)))
    copies = int(rng.integers(3, 10))
    whole = " ".join([sentences[at]] * (copies + 1))
    sentences[at] = whole if rng.random() < 0.5 else looping(sentences[at], copies, rng)
    return target.with_bodies(**{part: " ".join(sentences)})


def cut_off(target: Target, rng: Generator) -> str | None:
    """The beginning of the text, up to the middle of a sentence; the status goes on saying ok."""
    return beginning(target.text, rng)


def garbled_language(target: Target, rng: Generator) -> str | None:
    """Some words of Gather or Combine in another language, with shuffled letters, or in a broken encoding."""
    part = pick(EVIDENCE, rng)
    words = target.bodies.get(part, "").split()
    if len(words) < 3:
        return None
    return target.with_bodies(**{part: garbled(words, rng, foreign=FOREIGN, shuffle=shuffled_letters)})


def wrong_format(target: Target, rng: Generator) -> str | None:
    """A heading lost, renamed or doubled, parts swapped, citations lost, or another notation altogether."""
    bodies = target.bodies
    if tuple(bodies) != PARTS:
        return None
    part = pick(PARTS, rng)
    renamed = {"Identify": "Question", "Gather": "Observations", "Combine": "Reasoning", "Answer": "Result"}[part]
    first, second = pick([("Identify", "Gather"), ("Gather", "Combine"), ("Combine", "Answer")], rng)
    swapped = {first: bodies[second], second: bodies[first]}
    forms = (
        target.text.replace(f"{part}: ", "", 1),
        target.text.replace(f"{part}:", f"{renamed}:", 1),
        target.text.replace(f"{part}:", f"**{part}**:", 1),
        target.text.replace(f"{part}: {bodies[part]}", f"{part}: {bodies[part]}\n{part}: {bodies[part]}", 1),
        "\n".join(f"{ {first: second, second: first}.get(n, n) }: {swapped.get(n, b)}" for n, b in bodies.items()),
        "\n".join(line for line in target.text.split("\n") if not line.startswith(f"{part}:")),
        CITATION.sub("", target.text),
        json.dumps(bodies),
    )
    return pick(forms, rng)


def _other_answer(target: Target, rng: Generator) -> str | None:
    question, answer = target.question, target.trace.answer
    if question.answer_type == "yes_no":
        return OPPOSITE.get(answer)
    if question.answer_type == "integer" and answer.isdecimal():
        return pick([str(value) for value in range(int(answer) + 4) if value != int(answer)], rng)
    if question.answer_type == "span":
        span = parse_span(answer)
        gap_s = float(rng.uniform(1.0, 5.0))
        return format_span(span[1] + gap_s, span[1] + gap_s + 2.0) if span else None
    return other_option(question.choices or target.labels, answer, rng)


def video_edits(labels: Sequence[str]) -> Edits[Target]:
    """What a messy agent does to rationales; `labels` are step labels that it may write instead of the right one."""
    kinds = {
        "wrong_label": wrong_label,
        "dropped_step": dropped_step,
        "invented_object": invented_object,
        "invented_time": invented_time,
        "contradiction": contradiction,
        "repetition_loop": repetition_loop,
        "cut_off": cut_off,
        "garbled_language": garbled_language,
        "wrong_format": wrong_format,
    }
    return Edits(
        kinds=kinds,
        target=lambda trace, question: Target(trace, question, tuple(labels)) if trace.rationale.strip() else None,
        name=lambda trace: trace.question_id,
    )
