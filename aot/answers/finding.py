"""Finds the one place where a text states its final answer.

The declared slot comes first, then a box, then `####`, then a heading, then `answer is`, then a closing sentence, then
the whole text if it is one short line. It knows no question and no answer type, and takes time linear in the length of
the text.
"""

import re
from itertools import pairwise

from aot.answers.clean import undressed
from aot.answers.exact import exact_number
from aot.answers.expressions import compare_latex, to_latex
from aot.answers.forms import FoundAnswer, Slot
from aot.answers.workers import one_deadline

_DECLARED = re.compile(r"\b(?:final\s+)?(?:answer|ans)(?:\*\*?|__?)?\s?[:：]", re.IGNORECASE)
_SAID = re.compile(r"\b(?:final\s+)?answer\s+(?:is\b|equals\b|=)\s?[:：]?", re.IGNORECASE)
_SAID_AGAIN = re.compile(
    r"(?:(?:so|thus|hence|therefore)\b,?\s+)?(?:(?:the|my|our)\s+)?(?:(?:final|correct)\s+)?answer\s+is\b\s?:?",
    re.IGNORECASE,
)
_HOPE = re.compile(r"(?<![A-Za-z])(?:I|we)\s+hope\s+(?:it|this|that|the)\b.*", re.IGNORECASE)
"""How few-shot prompts of MATH end: `I hope it is correct.`"""
_TAG = re.compile(r"<(/?)(?:final[_ -]?)?answer>", re.IGNORECASE)
_ALONE = re.compile(r"^.*answer.*$", re.IGNORECASE | re.MULTILINE)
_HEADINGS = frozenset(
    f"{who}{kind}answer" for who in ("", "the ", "my ", "our ") for kind in ("", "final ", "correct ")
)
_MAX_HEADINGS = 20
_TURN_END = re.compile(
    r"<\|(?:im_end|im_start|endoftext|eot_id|end_of_text|end|start_header_id|user|eom_id)\|>|</s>|<(?:end|start)_of_turn>|<eos>|\[INST\]"
)
_NEW_QUESTION = re.compile(
    r"^[ \t#*>]*(?:(?:next|new|another)[ \t]+)?(?:question|problem|exercise|example|q|query|instruction|"
    r"task|user|human)"
    r"(?:[ \t]?(?:no\.?|\#)?[ \t]?[0-9]{1,4})?(?:\*\*)?[ \t]?[:.)]"
    r"|^[ \t]*#{1,6}[ \t]*(?:instruction|question|problem|user|human)\b",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSING_CHARS = 200
_CONCLUDES = re.compile(
    r"(?:so|thus|hence|therefore|in total|altogether|in all|finally|in conclusion)\b", re.IGNORECASE
)
_HEDGED = re.compile(
    r"n't\b|\?|\b(?:not|never|no|if|or|maybe|perhaps|about|approximately|around|roughly|nearly|almost|least|most|than|only|far|"
    r"should|would|could|might|need|needs|let|first|then|next|step|however|"
    r"but|instead|wrong|check|suppose|assume)\b", re.IGNORECASE,
)  # fmt: skip
_FORMULA = re.compile(r"[0-9\\^]")
_NUMBER = re.compile(r"[0-9]+(?:[,.][0-9]+)*")
_RESULT = re.compile(r"=[ \t]*[$€£]?[ \t]*(-?[0-9]+(?:[,.][0-9]+)*)")
_QUOTED = re.compile(r"\\?[\"$]|^'|'$")
_BOX_DRESS = re.compile(r"\\(?:text|q?quad|mathrm)(?![a-z])|[\s$,;.+()\[\]{}\\]")
_BOX_JOINED = re.compile(r"(?:[A-Za-z]+ ){0,4}(?:and|or)(?: [A-Za-z](?:_\w)? =)?|")
_NOT_JOINED = re.compile(r"\b(?:not|no|wait|but|then|actually|instead|rather|else|either|maybe)\b", re.IGNORECASE)
_MAX_JOINED = 20
_MAX_MEANINGS = 8
_LEAD_CHARS = 40
_ARTICLE = r"(?:the|my|our)\s+"
_AT_START = re.compile(
    r"(?:\n|[.!?…][\"')\]*$]*\s)[\s>#*_(\-]*+(?:(?:so|thus|hence|therefore|and)\b[,:]?\s+)?"
    rf"(?:{_ARTICLE})?(?:correct\s+)?$", re.IGNORECASE,
)  # fmt: skip
_SUPPOSED = re.compile(
    r"\b(?:if|suppose|supposing|assume|assuming|whether|unless|doubt)\s+(?:that\s+)?"
    rf"(?:{_ARTICLE})?(?:correct\s+)?$", re.IGNORECASE,
)  # fmt: skip
_AFTER_ARTICLE = re.compile(rf"\b{_ARTICLE}(?:correct\s+)?$", re.IGNORECASE)
_DRESS = re.compile(r"\\[()\[\],;!]|[\s$*.]")
_TAKES_BACK = re.compile(
    r"(?:^|[\n.!?])[\s*_]*+(?:but\s+|no,?\s+)?(?:wait|hold on|actually|correction|scratch that|oops|sorry|"
    r"I made an? (?:mistake|error))\b",
    re.IGNORECASE,
)
_HASHES = re.compile(r"(?<!#)####(?!#)")
_BOX_OR_BRACE = re.compile(r"\\(?:boxed|fbox)\s?\{|\\.|[{}]", re.DOTALL)
_OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
_SENTENCE_BREAK = re.compile(r"[.!?]\s+\S")
_NOWHERE = FoundAnswer(None, "none")
LETTER_AND_TEXT = re.compile(r"(?:\(([A-Za-z])\)|([A-Za-z])[.:)])\s*(\S.*)")
"""A closed letter with text after it, as in `(B) fry onion` or `B. fry onion`."""


def find_answer(text: str) -> FoundAnswer:
    r"""The stated answer of a model's text; several different answers in the slot are none.

    Everything up to the last `</think>` is ignored, and a thought that is never closed has no answer.

    >>> find_answer("Gather: ... Answer: fry onion").answer
    'fry onion'
    >>> find_answer(r"<think>\boxed{6}</think> It is \boxed{\frac{1}{2}}.")
    FoundAnswer(answer='\\frac{1}{2}', slot='boxed')
    >>> find_answer("A person fries. Then the person eats.").slot
    'none'
    """
    spoken = text.rpartition("</think>")[2]
    if "<think>" in spoken:
        return _NOWHERE
    with one_deadline():
        turn = _first_turn(spoken)
        stated = _stated(turn)
        return _NOWHERE if stated.answer and _takes_back(turn, stated.answer) else stated


def _stated(spoken: str) -> FoundAnswer:
    boxed = _joined_boxes(spoken)
    tagged, is_open = _tagged(spoken)
    lines = [_once(line) for line in _lines_after(_DECLARED, spoken)]
    declared = [*map(_unboxed, lines), *tagged]
    if any(declared):
        stated = _only(declared, "declared")
        others = [box for box in dict.fromkeys(boxed) if box not in map(_box_in_words, lines)]
        agree = stated.answer is not None and all(_same(box, stated.answer) for box in others)
        return stated if agree else _NOWHERE
    if boxed:
        return _only(boxed, "boxed") if not tagged else _NOWHERE
    hashes = _lines_after(_HASHES, spoken)
    if hashes and not _is_heading(hashes[-1]):
        return _only(hashes, "hashes")
    if headed := _below_headings(spoken):
        return _only([_unboxed(_once(line)) for line in headed], "declared")
    if declared or is_open or _OPEN_BOX.search(spoken):
        return _NOWHERE  # cut off before the answer
    said = _lines_after(_SAID, spoken)
    return _only(said, "said") if said else _closing(spoken) or _whole(spoken)


def _takes_back(text: str, answer: str) -> bool:
    """Whether the last words after all answers take them back, as in `Wait, it is 6`, and do not end with `answer`."""
    ends = [mark.end() for mark in _TAKES_BACK.finditer(text)]
    if not ends:
        return False
    after = text[ends[-1] :]
    states = any(_lines_after(statement, after) for statement in (_DECLARED, _SAID, _HASHES)) or _below_headings(after)
    if states or _OPEN_BOX.search(after) or _TAG.search(after) or answer in after:
        return False
    numbers, stated = _NUMBER.findall(after), _NUMBER.findall(answer)
    return not (numbers and stated and exact_number(numbers[-1]) == exact_number(stated[-1]))


def plain(text: str) -> str:
    """`text` without the case, the spaces and the last dots, which never make an answer another one."""
    return " ".join(text.casefold().split()).rstrip(". ")


def _only(answers: list[str], slot: Slot) -> FoundAnswer:
    different = list({plain(answer): answer for answer in answers}.values())
    same = answers[-1] and len(different) <= _MAX_MEANINGS and all(_same(answers[-1], one) for one in different)
    return FoundAnswer(answers[-1], slot) if same else _NOWHERE


def _same(answer: str, other: str) -> bool:
    """Whether two statements of one text mean the same, however each is written: `5/6` and a LaTeX fraction."""
    answer, other = (_QUOTED.sub(" ", undressed(side)).strip(". ") for side in (answer, other))
    if plain(answer) == plain(other):
        return True
    numbers = [exact_number(side) for side in (answer, other)]
    if None not in numbers:
        return numbers[0] == numbers[1]
    if max(len(answer), len(other)) > _CLOSING_CHARS or not (_FORMULA.search(answer) and _FORMULA.search(other)):
        return False
    return compare_latex([to_latex(answer)], [to_latex(other)]).verdict == "right"


def _first_turn(spoken: str) -> str:
    """`spoken` up to where the model goes on as somebody else, or starts a new question after it has answered one."""
    over = _TURN_END.search(spoken)
    if over and spoken[: over.start()].strip():
        spoken = spoken[: over.start()]
    question = _NEW_QUESTION.search(spoken)
    if not question:
        return spoken
    before = spoken[: question.start()]
    marks = [match for mark in (_DECLARED, _HASHES, _SAID) for match in _openings(mark, spoken)]
    marks += filter(None, (_OPEN_BOX.search(spoken), _TAG.search(spoken)))
    is_answered = any(mark.start() < len(before) for mark in marks) or exact_number(undressed(before)) is not None
    return before if is_answered else spoken


def _once(line: str) -> str:
    """A declared answer that says once more that it is one: `The final answer is 5`."""
    again = _SAID_AGAIN.match(line)
    return line[again.end() :].strip() if again else line


def _tagged(text: str) -> tuple[list[str], bool]:
    """What stands between answer tags, and whether the last of them is never closed."""
    contents: list[str] = []
    start = None
    for tag in _TAG.finditer(text):
        if not tag[1]:
            start = tag.end()
        elif start is not None:
            inner = text[start : tag.start()].strip()
            contents.append(_stated(inner).answer or "")
            start = None
    return contents, start is not None


def _below_headings(text: str) -> list[str]:
    """The paragraph below each line that says `Answer` and nothing else, where that is one line or one formula."""
    answers = []
    headings = [line for line in _ALONE.finditer(text) if _is_heading(line[0])]
    for heading in headings[-_MAX_HEADINGS:]:
        paragraph = text[heading.end() : heading.end() + 4 * _CLOSING_CHARS].lstrip("\n ").partition("\n\n")[0]
        lines = [line.strip() for line in paragraph.splitlines() if line.strip()]
        display = len(lines) == 3 and (lines[0], lines[2]) in (("$$", "$$"), ("\\[", "\\]"))
        if len(lines) == 1 or display:
            answers.append(_hopeless("".join(lines)))
    return answers


def _is_heading(line: str) -> bool:
    """Whether a line says `Answer` and nothing else."""
    return len(line) <= _CLOSING_CHARS and " ".join(line.strip(" \t>#*_:：").casefold().split()) in _HEADINGS


def _hopeless(line: str) -> str:
    """An answer without the hope that it is right, and without bold print."""
    hope = _HOPE.search(line)
    line = line[: hope.start()].rstrip(" .!*") if hope else line
    return line.strip().removeprefix("**").removesuffix("**").strip()


def _closing(text: str) -> FoundAnswer | None:
    """The last line where it is one plain sentence with one number in it that the lines before lead to.

    They do if the sentence says so, or if the last result before it is the same number.
    """
    before, _, line = text.strip().rpartition("\n")
    numbers = _NUMBER.findall(line) if len(line) <= _CLOSING_CHARS else []
    if len(numbers) != 1 or not before.strip() or line.rstrip(" *")[-1:] not in ".!":
        return None
    sentence = line.strip().strip("*_ ")
    if _SENTENCE_BREAK.search(sentence) or _HEDGED.search(sentence):
        return None
    results = _RESULT.findall(before[-20 * _CLOSING_CHARS :])
    leads = bool(results) and exact_number(results[-1]) == exact_number(numbers[0])
    return FoundAnswer(sentence, "closing") if leads or _CONCLUDES.match(sentence) else None


def _lines_after(mark: re.Pattern[str], text: str) -> list[str]:
    """The rest of the line after each `mark`, up to the next mark, without the stars of bold print."""
    marks = _openings(mark, text)
    ends = [match.start() for match in marks[1:]] + [len(text)]
    parts = [text[match.end() : end] for match, end in zip(marks, ends, strict=False)]
    return [_hopeless(part.strip(" \t").partition("\n")[0].strip()) for part in parts]


def _openings(mark: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """Each `mark` that opens a line or a sentence, or follows `the`; in `a common wrong answer: 7` none does."""
    return [match for match in mark.finditer(text) if mark is _HASHES or _opens(match, text)]


def _opens(match: re.Match[str], text: str) -> bool:
    before = text[max(0, match.start() - _LEAD_CHARS) : match.start()]
    before = f"\n{before}" if match.start() <= _LEAD_CHARS else before
    if _SUPPOSED.search(before):
        return False
    return bool(_AT_START.search(before) or (match.re is _SAID and _AFTER_ARTICLE.search(before)))


def _box_in_words(line: str) -> str | None:
    r"""What the one box of a line holds, where only words stand beside it: `\boxed{5} dollars`, not `3 - \boxed{5}`."""
    if len(boxes := _boxes(line)) != 1:
        return None
    content, start, end = boxes[0]
    beside = _BOX_DRESS.sub(" ", f"{line[:start]} {line[end:]}").replace("*", " ")
    plain_words = re.fullmatch(r"[A-Za-z ]*", beside) and not _HEDGED.search(beside) and not _NOT_JOINED.search(beside)
    return content if plain_words else None


def _unboxed(line: str) -> str:
    """What the box holds where the line is a box and its dress; else the line."""
    if len(boxes := _boxes(line)) != 1:
        return line
    bare, content = _DRESS.sub("", line), boxes[0][0]
    is_box = _OPEN_BOX.match(bare) and _DRESS.sub("", content) + "}" == bare.partition("{")[2]
    return content if is_box else line


def _joined_boxes(text: str) -> list[str]:
    r"""What each box holds; boxes that are joined as one list, as in `\boxed{1} and \boxed{2}`, are one answer."""
    boxes = _boxes(text)
    contents = [content for content, _, _ in boxes]
    if not 1 < len(set(map(plain, contents))) == len(boxes) <= _MAX_JOINED:
        return contents
    between = [text[end:start] for (_, _, end), (_, start, _) in pairwise(boxes)]
    return [", ".join(contents)] if all(map(_joins, between)) else contents


def _joins(between: str) -> bool:
    if len(between) > _LEAD_CHARS or _NOT_JOINED.search(between):
        return False
    return _BOX_JOINED.fullmatch(" ".join(_BOX_DRESS.sub(" ", between).split())) is not None


def _boxes(text: str) -> list[tuple[str, int, int]]:
    """What stands in each closed outermost box, where the box begins, and where it ends."""
    if "\\boxed" not in text and "\\fbox" not in text:
        return []
    contents: list[tuple[str, int, int]] = []
    starts: list[tuple[int, int] | None] = []
    boxes_open = 0
    for token in _BOX_OR_BRACE.finditer(text):
        if token[0] == "}" and starts:
            start = starts.pop()
            boxes_open -= start is not None
            if start is not None and not boxes_open:
                contents.append((text[start[1] : token.start()].strip(), start[0], token.end()))
        elif token[0].endswith("{") and token[0] != "\\{":
            start = (token.start(), token.end()) if len(token[0]) > 1 else None
            boxes_open += start is not None
            starts.append(start)
    return contents


def _whole(text: str) -> FoundAnswer:
    bare = text.strip()
    labelled = LETTER_AND_TEXT.fullmatch(bare)
    if not bare or "\n" in bare or _SENTENCE_BREAK.search(labelled[3] if labelled else bare):
        return _NOWHERE
    return FoundAnswer(bare, "direct")
