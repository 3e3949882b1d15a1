"""What changes in answers to counterfactual pairs, and how much of the teacher a student keeps by category.

Fuzzy reasoning is looked at apart: a category is a tag that the data set wrote, or stands for kinds of questions in
CATEGORY_OF_KIND. One without questions is told as missing. No model here; predictions in, rows of metrics out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aot.audit.swaps import SWAPS, Pair, Swap
from aot.evaluation.groups import ALL, metric_row
from aot.evaluation.intervals import Bootstrap, cluster_ids, proportion, ratio_of_shares
from aot.evaluation.paired import PairedResult, compare
from aot.evaluation.scoring import score
from aot.rationales.wording import phrase_key
from aot.records import MetricRow, Prediction, Question

Said = Mapping[str, Prediction]
"""What one student said, by question id."""
PAIRS = "counterfactual pairs"
"""As the split of their rows."""
BEYOND = "changed_by_gender_beyond_name"
"""Share of questions whose answer changes with the kind of name, minus that with another name of the same kind."""
LEVEL = 0.05
TEXT_CATEGORIES = ("arithmetic", "algebra", "logic", "temporal order", "commonsense relations")
VIDEO_CATEGORIES = ("next", "before", "after", "count", "when", "present")
CATEGORY_OF_KIND = {
    "next_choice": "next", "next_open": "next", "TN": "after", "TP": "before", "DC": "count",
    "gsm8k": "arithmetic", "prealgebra": "arithmetic", "algebra": "algebra", "intermediate_algebra": "algebra",
    **{name: name for name in (*TEXT_CATEGORIES, *VIDEO_CATEGORIES)},
}  # fmt: skip
"""Kind of question to category, where the data set wrote no tag `category`; TN, TP and DC are NExT-QA's."""
CATEGORY_OF_TAG = {"temporal": "temporal order", "commonsense": "commonsense relations"}
"""Tags that have another name here."""


@dataclass(frozen=True)
class Change:
    """How one student answered one pair."""

    pair: Pair
    before: Prediction
    after: Prediction
    changed: bool


def changes_of(pairs: Sequence[Pair], said: Said) -> list[Change]:
    """Of each pair whose questions were both asked whether the answer changed, the swap itself apart."""
    both = [pair for pair in pairs if pair.question.id in said and pair.swapped.id in said]
    return [Change(pair, said[pair.question.id], said[pair.swapped.id], _changed(pair, said)) for pair in both]


def _changed(pair: Pair, said: Said) -> bool:
    before, after = said[pair.question.id].answer, said[pair.swapped.id].answer
    if before is None or after is None:
        return before is not after  # no answer twice is the same; an answer that comes or goes is not
    expected = pair.said_as(before)
    if phrase_key(expected) == phrase_key(after):
        return False
    # Two spellings of one number or span are one answer, which only the grader knows.
    renamed = pair.swapped.model_copy(update={"answer": expected})
    return not score(said[pair.swapped.id], renamed).correct


def pair_rows(
    changes: Mapping[str, Sequence[Change]], modes: Mapping[str, str], student: str, bootstrap: Bootstrap
) -> Iterator[MetricRow]:
    """Shares of changed answers of each student by swap, and how far the audited one differs from the others.

    Args:
        changes: of each student.
        modes: how each answered.
        student: the audited one.
        bootstrap: how intervals are drawn.
    """
    for name, all_of_it in changes.items():
        key = (name, modes[name], PAIRS, ALL)
        for swap in SWAPS:
            rows = [one for one in all_of_it if one.pair.swap == swap]
            if not rows:
                continue
            ids = cluster_ids([one.pair.question.group for one in rows])
            yield metric_row(key, f"changed_by_{swap}", proportion(_changed_of(rows), ids))
            right = [np.array([score(p, q).correct for p, q in two]) for two in _before_and_after(rows)]
            result = compare(right[1], right[0], ids, bootstrap)
            yield metric_row(key, f"accuracy_change_by_{swap}", result.difference, result.note)
            others = {one.pair.swapped.id: one for one in changes[student] if one.pair.swap == swap}
            if name != student and (both := [one for one in rows if one.pair.swapped.id in others]):
                mine = _changed_of([others[one.pair.swapped.id] for one in both])
                ids = cluster_ids([one.pair.question.group for one in both])
                result = compare(mine, _changed_of(both), ids, bootstrap)
                mine_key = (student, modes[student], PAIRS, ALL)
                yield metric_row(mine_key, f"changed_by_{swap}_difference_vs_{name}", result.difference, result.note)
        if (beyond := beyond_name(all_of_it, bootstrap)) is not None:
            yield metric_row(key, BEYOND, beyond.difference, beyond.note)


def follows_gender(result: PairedResult) -> bool:
    """Whether answers follow gender, beyond what chance gives one student in twenty that knows none."""
    return result.wins > result.losses and result.p_mcnemar < LEVEL


def beyond_name(changes: Sequence[Change], bootstrap: Bootstrap) -> PairedResult | None:
    """How much more often answers change with the kind of a name than with the name alone; None without such pairs.

    Each question stands in both swaps, and names alone were swapped in it: a student that knows no difference between
    the two kinds of names changes as often in either, so that the paired test holds whatever names do to it.
    """
    by_name = _names_only(changes, "name")
    by_gender = _names_only(changes, "gender")
    both = [name for name in by_gender if name in by_name]
    if not both:
        return None
    ids = cluster_ids([by_name[name].pair.question.group for name in both])
    gender, control = (_changed_of([of[name] for name in both]) for of in (by_gender, by_name))
    return compare(gender, control, ids, bootstrap)


def _names_only(changes: Sequence[Change], swap: Swap) -> dict[str, Change]:
    return {one.pair.question.id: one for one in changes if one.pair.swap == swap and one.pair.names_only}


def _changed_of(rows: Sequence[Change]) -> np.ndarray:
    return np.array([one.changed for one in rows])


def _before_and_after(
    rows: Sequence[Change],
) -> tuple[list[tuple[Prediction, Question]], list[tuple[Prediction, Question]]]:
    before = [(one.before, one.pair.question) for one in rows]
    return before, [(one.after, one.pair.swapped) for one in rows]


def category_of(question: Question) -> str:
    """The category of a question; empty where nothing tells it."""
    tag = str(question.tags.get("category", ""))
    return CATEGORY_OF_TAG.get(tag, tag) or CATEGORY_OF_KIND.get(question.kind, "")


def category_rows(
    questions: Sequence[Question], said: Mapping[str, Said], modes: Mapping[str, str], *, student: str, teacher: str
) -> tuple[list[MetricRow], list[str]]:
    """Accuracy of each student by category and the audited one's share of the teacher's; and which have no questions.

    Args:
        questions: of one split.
        said: of each student.
        modes: how each answered.
        student: the audited one.
        teacher: as `said` names it, where it is there.
    """
    wanted = VIDEO_CATEGORIES if any(one.media for one in questions) else TEXT_CATEGORIES
    by_category: dict[str, list[Question]] = {name: [] for name in wanted}
    for question in questions:
        if name := category_of(question):
            by_category.setdefault(name, []).append(question)
    rows: list[MetricRow] = []
    for category, members in by_category.items():
        there = [one for one in members if all(one.id in of for of in said.values())]
        if not there:
            continue
        ids = cluster_ids([one.group for one in there])
        shares = {
            name: proportion(np.array([score(of[one.id], one).correct for one in there]), ids)
            for name, of in said.items()
        }
        for name, share in shares.items():
            rows.append(metric_row((name, modes[name], there[0].split, category), "accuracy", share))
        if teacher in shares and (kept := ratio_of_shares(shares[student], shares[teacher])) is not None:
            key = (student, modes[student], there[0].split, category)
            rows.append(metric_row(key, "recovery", kept, "accuracy over that of the teacher on the same questions"))
    without = {row.kind for row in rows}
    return rows, [f"{name}: no question of this category" for name in by_category if name not in without]
