"""Makes next-step questions from annotated steps: which step was seen last, which is asked, and where the clip is cut.

Every step is asked after the one that starts before it, as the official splits pair them. Cutting: where steps follow
each other, the window ends where the last seen step ends, or where the asked one starts if that is earlier, so that
nothing of the asked step is seen; only where both start together is as much of them seen as is needed to know the last
one. Where actions run into each other (EPIC-KITCHENS), it ends a fixed gap before the asked action starts, as in the
official anticipation task: the last action may still be running, or begin within the gap and not be seen at all. Every
choice is drawn from the seed and the question's id, so one question can be made again alone.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from aot.files.jsonl import RefusedRow, RowProblem
from aot.seeds import text_rng
from video_data.datasets.official import StepClip, Wanted, folded
from video_data.datasets.rows import QuestionRow, set_aside

MIN_SEEN_S = 0.5
"""So much of the last step must be seen before one that overlaps it starts."""
ALIKE = 0.5
"""Free sentences that share this share of their words may mean the same step, and are no wrong options."""
Cut = Literal["after_last", "before_next"]
Labels = Literal["closed", "free"]


@dataclass(frozen=True)
class NextRule:
    """How a data set's next steps are asked."""

    cut: Cut = "after_last"
    labels: Labels = "closed"
    """`free` sentences have no list of answers, so they are asked among options only, with the clip's other sentences
    as wrong ones first."""


@dataclass(frozen=True)
class _Moment:
    """What is shown before a step that is asked about."""

    clip: StepClip
    index: int
    start_s: float
    end_s: float


def next_questions(
    clips: Sequence[StepClip], *, wanted: Wanted, rule: NextRule
) -> tuple[list[QuestionRow], list[RefusedRow]]:
    """Next-step questions of every clip, in order, and what could not be asked."""
    pools = _Pools(clips)
    questions: list[QuestionRow] = []
    refused: list[RefusedRow] = []
    for clip in clips:
        moments: list[_Moment] = []
        if len(clip.segments) <= wanted.min_history:
            few = f"{len(clip.segments)} steps; {wanted.min_history + 1} are needed"
            refused.append(RefusedRow(clip.id, "too_few_steps", few))
        for index in range(max(1, wanted.min_history), len(clip.segments)):
            with set_aside(f"{clip.id}-{index}", refused):
                moments.append(_moment(clip, index, wanted=wanted, rule=rule))
        for kind in wanted.kinds:
            if kind == "next_open" and rule.labels == "free":
                continue
            for one in _some(moments, wanted.per_clip, text_rng(wanted.seed, clip.id, kind)):
                with set_aside(f"{clip.id}-{kind}-{one.index}", refused):
                    questions.append(_question(one, kind=kind, pools=pools, wanted=wanted, rule=rule))
    return questions, refused


def num_started_together(clips: Iterable[StepClip]) -> int:
    """So many pairs of steps in a row start so close together that the window before the second shows some of it."""
    pairs = (pair for clip in clips for pair in pairwise(clip.segments))
    return sum(later.start_s < min(last.end_s, last.start_s + MIN_SEEN_S) for last, later in pairs)


def _moment(clip: StepClip, index: int, *, wanted: Wanted, rule: NextRule) -> _Moment:
    """The window before step `index`; a RowProblem where too little can be seen in it."""
    last, later = clip.segments[index - 1], clip.segments[index]
    end_s = later.start_s - wanted.gap_s
    if rule.cut == "after_last":
        end_s = min(last.end_s, max(later.start_s, last.start_s + MIN_SEEN_S))
    # A step before the region that the authors call relevant is shown all the same: it is part of the history.
    start_s = min(clip.start_s, clip.segments[0].start_s)
    if wanted.window_s is not None:
        start_s = max(start_s, end_s - wanted.window_s)
    if end_s <= start_s:
        raise RowProblem("nothing_seen", f"the window before {later.label!r} is empty")
    return _Moment(clip, index, round(start_s, 3), round(end_s, 3))


def _question(one: _Moment, *, kind: str, pools: "_Pools", wanted: Wanted, rule: NextRule) -> QuestionRow:
    clip, answer = one.clip, one.clip.segments[one.index].label
    question_id = f"{clip.id}-{kind}-{one.index}"
    choices: tuple[str, ...] = ()
    if kind == "next_choice":
        rng = text_rng(wanted.seed, question_id)
        options = [answer, *pools.wrong(clip, answer, count=wanted.num_choices - 1, rng=rng, rule=rule)]
        rng.shuffle(options)
        choices = tuple(options)
    return QuestionRow(
        id=question_id, split=clip.split, kind=kind, text=_text(kind, wanted=wanted, rule=rule), choices=choices,
        answer=answer, answer_type="choice" if choices else "text", uri=clip.id, start_s=one.start_s, end_s=one.end_s,
        group=clip.id, answer_index=choices.index(answer) if choices else None, steps_before=one.index,
    )  # fmt: skip


def _text(kind: str, *, wanted: Wanted, rule: NextRule) -> str:
    if rule.cut == "before_next":
        return f"What is the next action? It starts {wanted.gap_s:g} s after the end of this clip."
    return "What is the next step?" if kind == "next_choice" else "Which step comes next?"


def _some(moments: Sequence[_Moment], count: int | None, rng: random.Random) -> list[_Moment]:
    if count is None or len(moments) <= count:
        return list(moments)
    return sorted(rng.sample(moments, count), key=lambda one: one.index)


class _Pools:
    """Labels that wrong options are drawn from: of the clip, of its task, of everything."""

    def __init__(self, clips: Iterable[StepClip]) -> None:
        by_task: defaultdict[str, set[str]] = defaultdict(set)
        for clip in clips:
            by_task[clip.task] |= {segment.label for segment in clip.segments}
        self._by_task = {task: sorted(labels) for task, labels in by_task.items()}
        self._all = sorted(set().union(*by_task.values())) if by_task else []

    def wrong(self, clip: StepClip, answer: str, *, count: int, rng: random.Random, rule: NextRule) -> list[str]:
        """`count` labels other than `answer`, no two of them the same; a RowProblem where there are not so many."""
        of_clip = sorted({segment.label for segment in clip.segments}) if rule.labels == "free" else []
        chosen: list[str] = []
        # The nearest first: options of another task would give the answer away.
        for pool in (of_clip, self._by_task[clip.task], self._all):
            for label in rng.sample(pool, len(pool)) if len(chosen) < count else ():
                if len(chosen) < count and not any(_same(label, other, rule) for other in (answer, *chosen)):
                    chosen.append(label)
        if len(chosen) < count:
            raise RowProblem("too_few_labels", f"only {len(chosen)} other labels are known, {count} are wanted")
        return chosen


def _same(a: str, b: str, rule: NextRule) -> bool:
    if rule.labels == "closed":
        return folded(a) == folded(b)
    first, second = (set(re.findall(r"\w+", one.casefold())) for one in (a, b))
    return not first | second or len(first & second) >= ALIKE * len(first | second)
