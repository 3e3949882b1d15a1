"""Requests and answers of System One, as `transformers serve` (5.24 and later) has them at `/v1/systemone`.

A state, named questions of the types `choice`, `score` and `noul`, and images by the placeholders that stand for them.
Nothing of transformers is imported, since earlier versions know nothing of it; its validation, its messages' places and
its formulas for confidence are kept (`transformers/decision/template_utils.py`, `cli/serving/systemone.py`). Ours
besides, in one object `aot`: times of images, a clip, and kinds of questions. More than four images and more than 26
options are taken.
"""

import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from aot.errors import SourceError
from aot.rationales.notation import format_time
from aot.serving.decisions.questions import MOST_LEVELS, TypedQuestion, choice, yes_no
from aot.serving.domain import MOST_CHOICES

MOST_QUESTIONS = 64
MOST_ASSETS = 64
"""transformers takes four."""
EXAMPLES = {
    "noul": '{"type": "noul", "instructions": "Is this message spam?", "criteria": {"true": "Unsolicited ads", '
    '"false": "A real conversation"}}',
    "choice": '{"type": "choice", "instructions": "What is the tone?", "criteria": {"calm": "A polite message", '
    '"angry": null}}',
    "score": '{"type": "score", "instructions": "How urgent is it?", "criteria": ["Can wait", "This week", "Today"]}',
}
_ALONE = re.compile(r'[\s"\[\],]*')


class Window(BaseModel):
    """A clip under an allowed folder, instead of images."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    path: str = Field(max_length=4096)
    start_s: float = Field(default=0.0, ge=0)
    end_s: float | None = None


class Extension(BaseModel):
    """What this project adds to a request."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    times_s: dict[str, float] = {}
    """Of images, by their placeholders; without them one second apart, in the order in which they are named."""
    clip: Window | None = None
    kinds: dict[str, str] = {}
    """Of questions, by name: which of the student's training questions they are like; calibration goes by it."""


class SystemOneRequest(BaseModel):
    """A System One request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str = ""
    """May be left out, as there is one."""
    state: str | dict[str, Any] | list[Any]
    questions: dict[str, dict[str, Any]] = Field(min_length=1, max_length=MOST_QUESTIONS)
    assets: dict[str, dict[str, Any]] = Field(default_factory=dict, max_length=MOST_ASSETS)
    """Images by placeholder: `{"type": "image", "format": "png", "data_base64": ...}`."""
    aot: Extension | None = None


class SystemOneReply(BaseModel):
    """The answers by name."""

    model: str
    answers: dict[str, dict[str, Any]]
    usage: dict[str, int]


@dataclass(frozen=True)
class Item:
    """One question, with placeholders still in its texts."""

    name: str
    type: Literal["noul", "choice", "score"]
    instructions: str
    options: tuple[str, ...]
    descriptions: tuple[str, ...]
    legend: tuple[Any, ...]
    """Descriptions as they came."""
    kind: str = ""

    def names_in(self, placeholders: Sequence[str]) -> list[str]:
        """The placeholders that its texts hold, in order."""
        return mentions("\n".join((self.instructions, *self.options, *self.descriptions)), placeholders)

    def typed(self, times_s: Mapping[str, float]) -> TypedQuestion:
        """As the student is asked, each placeholder replaced by the time of its image.

        Raises:
            SourceError: it cannot be decided.
        """
        text = placed(self.instructions, times_s)
        meanings = tuple(placed(one, times_s) for one in self.descriptions)
        if self.type == "noul":
            return yes_no(text, yes=meanings[0], no=meanings[1], kind=self.kind)
        described = meanings if any(meanings) else ()
        if self.type == "choice":
            return choice(text, self.options, descriptions=described, kind=self.kind)
        values = tuple(float(i) for i in range(len(self.options)))
        return TypedQuestion(text, self.options, "score", described, values, self.kind)

    def answer(self, probs: Sequence[float]) -> dict[str, Any]:
        """The answer from the probabilities of the options, with the confidence that transformers reckons."""
        by_option, count = dict(zip(self.options, probs, strict=True)), len(probs)
        if self.type == "noul":
            return {"type": "noul", "noul": by_option["true"]}
        best = max(by_option, key=lambda option: by_option[option])
        if self.type == "choice":
            sure = 1.0 if count == 1 else max(0.0, (by_option[best] - 1 / count) / (1 - 1 / count))
            return {"type": "choice", "choice": best, "confidence": sure, "probabilities": by_option}
        distance = sum(prob * abs(level - int(best)) for level, prob in enumerate(probs))
        of_uniform = sum(abs(level - (count - 1) / 2) for level in range(count)) / count
        return {
            "type": "score",
            "score": sum(level * prob for level, prob in enumerate(probs)),
            "legend": dict(zip(self.options, self.legend, strict=True)),
            "confidence": 1.0 if count == 1 else max(0.0, 1 - distance / of_uniform),
            "probabilities": by_option,
        }


def parse_questions(request: SystemOneRequest) -> list[Item]:
    """The questions of a request in their order.

    Raises:
        SourceError: some are not as they should be; the message has a line for each of them.
    """
    items, faults = [], []
    kinds = request.aot.kinds if request.aot else {}
    for name, row in request.questions.items():
        try:
            items.append(_item(name, row, kind=kinds.get(name, "")))
        except SourceError as error:
            faults.append(f"Question {name[:60]!r}: {error}")
    if faults:
        raise SourceError("\n".join(faults))
    return items


def _item(name: str, row: Mapping[str, Any], *, kind: str) -> Item:
    type_ = row.get("type")
    if not isinstance(type_, str) or type_ not in EXAMPLES:
        raise SourceError(f"`type` must be one of {', '.join(EXAMPLES)}, got {_brief(type_)}.")
    like = f"(a {type_} question looks like {EXAMPLES[type_]})"
    if strange := sorted(row.keys() - {"type", "instructions", "criteria"}):
        raise SourceError(f"there is no field {strange[0][:60]!r} {like}")
    instructions, criteria = row.get("instructions"), row.get("criteria")
    if not isinstance(instructions, str | dict | list | None):
        raise SourceError(f"`instructions` must be a text, an object or a list, got {_brief(instructions)} {like}")
    if type_ == "noul":
        if not isinstance(criteria, dict | None) or set(criteria or ()) - {"true", "false"}:
            raise SourceError(f"`criteria` may say what true and false mean, got {_brief(criteria)} {like}")
        criteria = {option: (criteria or {}).get(option) for option in ("true", "false")}
    elif not isinstance(criteria, dict if type_ == "choice" else list):
        raise SourceError(f"`criteria` must be {'an object' if type_ == 'choice' else 'a list'} {like}")
    elif not criteria:
        raise SourceError(f"a {type_} question needs `criteria` with its options.")
    most = MOST_LEVELS if type_ == "score" else MOST_CHOICES
    if len(criteria) > most:
        raise SourceError(f"at most {most} options are read for a {type_} question, got {len(criteria)}.")
    options = tuple(map(str, range(len(criteria)))) if isinstance(criteria, list) else tuple(criteria)
    legend = tuple(criteria) if isinstance(criteria, list) else tuple(criteria.values())
    for option, means in zip(options, legend, strict=True):
        if not isinstance(means, str | dict | list) and not (means is None and type_ != "score"):
            raise SourceError(f"the description of {option[:60]!r} must be a text, got {_brief(means)} {like}")
    words = tuple(words_of(one) for one in legend)
    item = Item(name, type_, words_of(instructions), options, words, legend, kind)  # type: ignore[arg-type]
    item.typed({})
    return item


def _brief(value: Any) -> str:  # noqa: ANN401 - JSON
    """What came, cut short: it may be the whole body."""
    return reprlib.repr(value)[:120]


def words_of(content: Any) -> str:  # noqa: ANN401 - JSON
    """A text as it is, and anything else as JSON.

    Raises:
        SourceError: it is nested too deep.
    """
    if content is None or isinstance(content, str):
        return content or ""
    try:
        return json.dumps(content, ensure_ascii=False)
    except RecursionError:
        raise SourceError("it is nested too deep; send less of it") from None


def mentions(text: str, placeholders: Sequence[str]) -> list[str]:
    """The placeholders in a text, each once, in order.

    >>> mentions("b, a10 and a1", ["a1", "a10", "b", "c"])
    ['b', 'a10', 'a1']
    """
    return list(dict.fromkeys(_pattern(placeholders).findall(text))) if placeholders else []


def placed(text: str, times_s: Mapping[str, float]) -> str:
    """A text with each placeholder replaced by the time of its image; empty where it held nothing else.

    >>> placed("Is it as in a1?", {"a1": 2.0}), placed('["a1", "a2"]', {"a1": 0, "a2": 1})
    ('Is it as in t=2.0s?', '')
    """
    if not times_s:
        return text
    pattern = _pattern(list(times_s))
    if _ALONE.fullmatch(pattern.sub("", text)):
        return "" if pattern.search(text) else text
    return pattern.sub(lambda match: f"t={format_time(times_s[match[0]])}", text)


def _pattern(placeholders: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(one) for one in sorted(placeholders, key=len, reverse=True)))
