"""The embedded maths problems: drawn families, and out-of-distribution splits that differ from `test` in one way.

Problem i of a split depends on (seed, split, i); only where its text is there already is it drawn again, and outside
`train` also where the base of the embedded student was asked it. `test` is like `train`; each other split is like it
but for one thing, which some problems do not have: `ood_order` has none of one step, and `ood_numbers`, which takes
problems of `train`, none of the family `order`. The amounts of one problem are of one size; where a run asks for longer
numbers, each problem draws its size, and `ood_large` has one digit more than any other split.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import resources

import numpy as np
from numpy.random import Generator

from aot import seeds
from aot.config import ToyMathConfig
from aot.records import Question
from text_cot.families import FAMILIES, Family, Scope, State
from text_cot.families.base import pick
from text_cot.families.totals import TotalState

DATASET = "toy_math"
TRAIN, TEST = "train", "test"
SEEN_FAMILIES = ("sum", "story", "unknown", "clock", "order")
UNSEEN_FAMILIES = ("comparison",)
NAMES = ("Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon", "Kim", "Leo")
NEW_NAMES = ("Max", "Nina", "Otto", "Pia", "Rob", "Sue", "Tom", "Una")
THINGS = ("apples", "books", "cards", "coins", "eggs", "pens")
NEW_THINGS = ("nuts", "rings", "stamps", "tickets")
SCOPE = Scope(names=NAMES, things=THINGS)
RENAMED = Scope(names=NEW_NAMES, things=NEW_THINGS)
FEWEST_DIGITS = 2
MORE_STEPS = (5, 6)
EXTRAS = ("The sky is blue.", "{name} has {n} {thing}.", "A ticket costs {n} coins.", "{name} is {n} years old.")
STEPS_LET_GO, MAX_TRIES = 500, 1000


@dataclass(frozen=True)
class Problem:
    """One drawn problem."""

    family: Family
    state: State

    @property
    def text(self) -> str:
        """The question as it is asked."""
        return self.family.ask(self.state)


Draw = Callable[[Generator, int, int], Problem | None]
"""Of a generator, the place in the split, and the digits of the longest number in training."""


def draw_toy_math(config: ToyMathConfig, *, seed: int, limit: int | None = None) -> list[Question]:
    """Every question of every split, train first; `limit` cuts each split short."""
    seen: set[str] = set()
    train: list[Problem] = []
    questions: list[Question] = []
    for split, count in {TRAIN: config.train, TEST: config.test, **dict.fromkeys(OOD_SPLITS, config.test_ood)}.items():
        for index in range(min(count, limit) if limit else count):
            problem = _new(split, index, seed=seed, seen=seen, train=train, digits=config.digits)
            if split == TRAIN:
                train.append(problem)
            questions.append(to_question(problem, split=split, index=index))
    return questions


def draw_more(
    count: int, *, like: str, seed: int, name: str, seen: Iterable[str], digits: int = FEWEST_DIGITS
) -> list[Question]:
    """`count` problems as in the split `like`, in a split called `name`; none has a text of `seen`.

    Args:
        count: how many.
        like: `test` or one of OOD_SPLITS, but not `ood_numbers`, which takes problems of training.
        seed: another than that of any run, or the problems are those of its split.
        name: of the split that the questions say they are of.
        seen: texts of questions that are there already.
        digits: of the longest number in training.
    """
    texts = set(seen)
    problems = [_new(like, index, seed=seed, seen=texts, train=[], digits=digits) for index in range(count)]
    return [to_question(problem, split=name, index=index) for index, problem in enumerate(problems)]


def to_question(problem: Problem, *, split: str, index: int) -> Question:
    """The problem as a question with its state."""
    family = problem.family
    identity = f"{DATASET}/{split}/{index:06d}"
    return Question(
        id=identity, dataset=DATASET, split=split, kind=family.name, text=problem.text,
        answer=family.answer(problem.state), answer_type=family.answer_type, group=identity,
        state=problem.state.model_dump(mode="json"),
        tags={"category": problem.state.category, "steps": problem.state.steps},
    )  # fmt: skip


def base_was_asked(text: str) -> bool:
    """Whether the embedded text student was asked exactly this before any distillation."""
    keys = _keys_of_base()
    place = int(np.searchsorted(keys, text_key(text)))
    return place < len(keys) and keys[place] == text_key(text)


def text_key(text: str) -> np.uint64:
    """64 bits that stand for a text in asked.npy."""
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


@cache
def _keys_of_base() -> np.ndarray:
    """Sorted keys of every question the base was asked; written by scripts/tiny_text.py."""
    with (resources.files("aot") / "student" / "tiny" / "text" / "asked.npy").open("rb") as file:
        return np.asarray(np.load(file, allow_pickle=False))


def draw_problem(rng: Generator, family: str, *, steps: int, scope: Scope = SCOPE) -> Problem:
    """A problem of a family with so many steps."""
    return Problem(FAMILIES[family], FAMILIES[family].make(rng, steps, scope))


def _new(split: str, index: int, *, seed: int, seen: set[str], train: list[Problem], digits: int) -> Problem:
    """The first draw whose text no earlier question has; outside `train` with as many steps as the very first draw.

    Only where the base was asked nearly every problem of one step, as of `order`, the steps are let go in the end.
    """
    steps = None
    for attempt in range(MAX_TRIES):
        rng = seeds.rng(seed, split, index=(index, attempt))
        problem = _renumbered(rng, train) if split == "ood_numbers" else _DRAWS[split](rng, index, digits)
        if problem is None:
            continue
        steps = steps or problem.state.steps
        wanted = split == TRAIN or attempt >= STEPS_LET_GO or problem.state.steps == steps
        fits = wanted and (split == TRAIN or not base_was_asked(problem.text))
        if fits and problem.text not in seen:
            seen.add(problem.text)
            return problem
    raise RuntimeError(f"no new problem {index} of split {split} after {MAX_TRIES} tries; the split is too large")


def sized(scope: Scope, digits: int) -> Scope:
    """The scope with amounts and totals of up to so many digits.

    >>> sized(SCOPE, 2) == SCOPE, sized(SCOPE, 4).high, sized(SCOPE, 4).most
    (True, 4999, 9999)
    """
    return replace(scope, high=5 * 10 ** (digits - 1) - 1, most=10**digits - 1)


def _in_training(rng: Generator, digits: int, scope: Scope = SCOPE) -> Scope:
    """A scope of a size that training shows, each as likely; nothing is drawn where there is one size."""
    return scope if digits == FEWEST_DIGITS else sized(scope, int(rng.integers(FEWEST_DIGITS, digits + 1)))


def _large(rng: Generator, digits: int) -> Scope:
    """Amounts of as many digits as training has at most, or of one more, and totals of one more."""
    return replace(SCOPE, low=5 * 10 ** (digits - 1), high=4 * 10**digits - 1, most=10 ** (digits + 1) - 1)


def _of(*names: str, scope: Callable[[Generator, int], Scope] = _in_training) -> Callable[..., Problem]:
    """Families in turn, so that each split has equally many of each; steps at random."""

    def one(rng: Generator, index: int, digits: int) -> Problem:
        name, of = names[index % len(names)], scope(rng, digits)
        return draw_problem(rng, name, steps=1 + int(rng.integers(FAMILIES[name].max_steps)), scope=of)

    return one


def _renumbered(rng: Generator, train: list[Problem]) -> Problem | None:
    """A training problem with other numbers of the same size."""
    old = train[int(rng.integers(len(train)))]
    if old.family.renumber is None or not isinstance(old.state, TotalState):
        return None
    digits = max(FEWEST_DIGITS, len(str(max(old.state.totals()))))
    return Problem(old.family, old.family.renumber(old.state, rng, sized(SCOPE, digits)))


def _more_terms(rng: Generator, index: int, digits: int) -> Problem:
    name, scope = SEEN_FAMILIES[index % len(SEEN_FAMILIES)], _in_training(rng, digits)
    return draw_problem(rng, name, steps=int(rng.choice(MORE_STEPS)), scope=scope)


def _with_extra(rng: Generator, index: int, digits: int) -> Problem:
    problem = _of("story", "clock", "order")(rng, index, digits)
    words = set(problem.text.replace(".", " ").split())
    stranger = pick(rng, [one for one in NAMES if one not in words])
    extra = pick(rng, EXTRAS).format(name=stranger, n=int(rng.integers(2, 50)), thing=pick(rng, THINGS))
    return Problem(problem.family, problem.state.model_copy(update={"extra": extra}))


def _reordered(rng: Generator, index: int, digits: int) -> Problem | None:
    name, scope = ("story", "clock", "order")[index % 3], _in_training(rng, digits)
    problem = draw_problem(rng, name, steps=2 + int(rng.integers(FAMILIES[name].max_steps - 1)), scope=scope)
    assert problem.family.reorder
    changed = Problem(problem.family, problem.family.reorder(problem.state, rng))
    return changed if changed.text != problem.text else None


_DRAWS: dict[str, Draw] = {
    TRAIN: _of(*SEEN_FAMILIES),
    TEST: _of(*SEEN_FAMILIES),
    "ood_terms": _more_terms,
    "ood_large": _of("sum", "story", "unknown", scope=_large),
    "ood_names": _of("story", "order", scope=partial(_in_training, scope=RENAMED)),
    "ood_clause": _with_extra,
    "ood_order": _reordered,
    "ood_family": _of(*UNSEEN_FAMILIES),
}
OOD_SPLITS = ("ood_numbers", "ood_terms", "ood_large", "ood_names", "ood_clause", "ood_order", "ood_family")
"""New numbers in training problems, more steps, larger numbers, new names, a clause too many, another order of telling,
another family."""
