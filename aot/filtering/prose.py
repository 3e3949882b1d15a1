"""Reads the prose of a chat model as the notation that the filters check: times, inflected labels, connecting English.

A label is recognised when its words stand in order, inflected and with articles between them: `chops the onion` is
`chop onion`. Connecting words claim nothing; words for things and actions are none of them, so that an object or an
action which no tool returned remains an invented word.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from aot.answers import NUMBER_WORDS
from aot.records import Step

FREE_TEXT_TOOLS = frozenset({"ask", "caption", "search_subtitles"})
"""Tools whose results are sentences; they count as evidence for their words where the tool's step is cited."""
DENIALS = frozenset({"no", "not", "never", "without", "nothing", "none", "neither", "nor", "cannot", "t"})
"""`t` is what is left of `doesn't`."""
COUNTS = {**{word: str(number) for word, number in NUMBER_WORDS.items()}, "once": "1", "twice": "2", "thrice": "3"}
INSTRUCTION_WORDS = frozenset(
    ("answer", "choose", "pick", "select", "option", "instructed", "instruction", "instructs", "told", "tells")
)

_CONNECTING = (
    "a about above according accordingly across action actions activities activity actually after afterwards "
    "again ago all almost along already also although always am among amount an and another answer answered "
    "answers any anything anywhere appear appeared appearing appears are around as asked asking asks at away "
    "based be because been before began begin beginning begins begun being below between both but by came can "
    "candidate candidates caption captions case choose chosen cited clear clearly clip come comes coming conclude "
    "concluded concludes conclusion conclusive confident confirm confirmed confirms consider considered "
    "considering consistent contains continue continued continues cook correct could current currently describe "
    "described describes description detect detected detection detections detector detects determine determined "
    "determines did directly do does doing done down due during each earlier earliest either end ended ending "
    "ends even event events evidence exactly expect expected expects fact final finally find finding findings "
    "finds first fit fits fitting follow followed following follows footage for found frame frames from further "
    "gather gathered gave get gets give given gives giving go goes going had happen happened happening happens "
    "has have having he hence her here him his how however i identified identifies identify if immediately in "
    "indeed indicate indicated indicates indicating interval into is it its itself just know known label labelled "
    "labels last lasted lasting lasts late later latest latter lead leads least leaves let like likely list "
    "listed listing lists look looked looking looks made make makes many match matched matches matching may me "
    "means meanwhile mention mentioned mentions might moment moments more moreover most mostly much must my "
    "namely near nearly need needed needs next none nor not nothing now number object objects occur occurred "
    "occurrence occurrences occurring occurs of off often on once only onto option options or order other others "
    "our out over overall part particular past people per performed performs perhaps period person place point "
    "points possible precede preceded precedes preceding present previous previously prior probable probably "
    "procedure process proposal propose proposed proposes question quite rather reach reached reaches recognised "
    "recognises recognized recognizes record recorded records remain remaining remains report reported reports "
    "requested respectively result results returned returns right said same saw say saying says scene search "
    "searched second seconds see seem seems seen select selected sequence several she should show showed showing "
    "shown shows sighting sightings similarly since single so some someone something soon speaker spoken start "
    "started starting starts state stated states step steps still stretch subtitle subtitles such suggest "
    "suggested suggests support supported supports sure take taken takes taking task than that the their them "
    "themselves then there therefore therefrom these they third this those though through throughout thus time "
    "times to together told too tool tools toward towards transcript under unlike until up upon us used using "
    "very via video viewer visible want wants was we well went were what when where whereas whether which while "
    "who whole whose why will window with within without would yes yet you your "
)
CONNECTING = frozenset(_CONNECTING.split())
"""Words that join claims, or say that something was asked, seen or concluded; no things, no actions of a clip."""

_TIME = r"(\d+(?:\.\d+)?)\s?s(?:ec(?:onds?)?)?\b"
_STRETCHES = (
    re.compile(rf"\b[Bb]etween {_TIME}\s+and\s+{_TIME}"),
    re.compile(rf"{_TIME}\s*(?:[-\u2013\u2014]|to|until|till|through)\s*{_TIME}"),
)
_BETWEEN_WORDS = r"\s+(?:(?:of|up)\s+)?(?:(?:the|an|a|some|his|her|their|its)\s+)?"
_LETTERS = re.compile(r"[^\W\d_]{3,}")
_WORD = re.compile(r"[^\W_]+")
MAX_LABEL_WORDS = 8


def as_notation(text: str, labels: Iterable[str]) -> str:
    """`text` with stretches of time as `0.2s-2.4s` and each label as it was returned.

    >>> as_notation("Between 0.2s and 2.4s the cook chops the onion [1].", ["chop onion"])
    '0.2s-2.4s the cook chop onion [1].'
    """
    for pattern in _STRETCHES:
        text = pattern.sub(r"\1s-\2s", text)
    spoken, known = _spoken_labels(tuple(labels))
    if spoken is None:
        return text
    return spoken.sub(lambda mark: known[int(mark.lastgroup[1:])] if mark.lastgroup else mark[0], text)


def stem(word: str) -> str:
    """A word without its ending, equal for most inflections of one word.

    >>> stem("flips") == stem("flipped") == stem("flipping") == stem("flip")
    True
    """
    for ending, put in (("ies", "y"), ("ied", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + put
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def heard(steps: Iterable[Step]) -> str:
    """The sentences that free-text steps returned."""
    texts: list[str] = []
    for step in steps:
        if is_free_text(step):
            texts += _sentences_of(step.result)
    return " ".join(texts)


def is_free_text(step: Step) -> bool:
    """Whether a step's result is sentences."""
    return step.call is not None and step.call.tool in FREE_TEXT_TOOLS


def stems_of(text: str) -> frozenset[str]:
    """The stems of all words of `text`."""
    return frozenset(stem(word) for word in _WORD.findall(text.casefold()))


def _sentences_of(node: object) -> list[str]:
    if isinstance(node, str):
        return [node]
    if isinstance(node, dict):
        return [text for value in node.values() for text in _sentences_of(value)]
    return [text for value in node for text in _sentences_of(value)] if isinstance(node, list) else []


@lru_cache(maxsize=4096)
def _spoken_labels(labels: tuple[str, ...]) -> tuple[re.Pattern[str] | None, dict[int, str]]:
    """One pattern for all labels as they are and as they are spoken; group `l3` stands for label 3."""
    plain = [label for label in labels if label and len(label.split()) <= MAX_LABEL_WORDS]
    exact = [re.escape(label).replace(r"\ ", r"\s+") for label in plain]
    spoken = [f"(?P<l{i}>{_spoken(label)})" for i, label in enumerate(plain) if _LETTERS.search(label)]
    if not spoken:
        return None, {}
    whole = "|".join([*exact, *spoken])
    return re.compile(rf"(?<!\w)(?:{whole})(?!\w)", re.IGNORECASE), dict(enumerate(plain))


def _spoken(label: str) -> str:
    return _BETWEEN_WORDS.join(_inflected(word) for word in label.split())


def _inflected(word: str) -> str:
    if not _LETTERS.fullmatch(word):
        return re.escape(word)
    forms = {word, word + "s", word + "es", word + "ed", word + "d", word + "ing"}
    forms |= {word + word[-1] + "ed", word + word[-1] + "ing"}
    if word.endswith("e"):
        forms |= {word[:-1] + "ing"}
    if word.endswith("y"):
        forms |= {word[:-1] + "ies", word[:-1] + "ied"}
    return "(?:" + "|".join(re.escape(form) for form in sorted(forms, key=lambda form: (-len(form), form))) + ")"
