"""The embedded maths problems: drawn families, and out-of-distribution splits that differ from `test` in one way.

Problem i of a split depends on (seed, split, i); only where its text is there already is it drawn again, and outside
`train` also where the base of the embedded student was asked it. `test` is like `train`; each other split is like it
but for one thing, which some problems do not have: `ood_order` has none of one step, and `ood_numbers`, which takes
problems of `train`, none of the family `order`.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.random import Generator

from aot import seeds
from aot.config import ToyMathConfig
from aot.records import Question
from text_cot.families import FAMILIES, Family, Scope, State
from text_cot.families.base import pick

DATASET = "toy_math"
TRAIN, TEST = "train", "test"
SEEN_FAMILIES = ("sum", "story", "unknown", "clock", "order")
UNSEEN_FAMILIES = ("comparison",)
NAMES = ("Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gus", "Hal", "Ida", "Jon", "Kim", "Leo")
NEW_NAMES = ("Max", "Nina", "Otto", "Pia", "Rob", "Sue", "Tom", "Una")
THINGS = ("apples", "books", "cards", "coins", "eggs", "pens")
NEW_THINGS = ("nuts", "rings", "stamps", "tickets")
SCOPE = Scope(names=NAMES, things=THINGS)
LARGE = Scope(names=NAMES, things=THINGS, low=50, high=399, most=999)
RENAMED = Scope(names=NEW_NAMES, things=NEW_THINGS)
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


Draw = Callable[[Generator, int], Problem | None]


def draw_toy_math(config: ToyMathConfig, *, seed: int, limit: int | None = None) -> list[Question]:
    """Every question of every split, train first; `limit` cuts each split short."""
    seen: set[str] = set()
    train: list[Problem] = []
    questions: list[Question] = []
    for split, count in {TRAIN: config.train, TEST: config.test, **dict.fromkeys(OOD_SPLITS, config.test_ood)}.items():
        for index in range(min(count, limit) if limit else count):
            problem = _new(split, index, seed=seed, seen=seen, train=train)
            if split == TRAIN:
                train.append(problem)
            questions.append(to_question(problem, split=split, index=index))
    return questions


def draw_more(count: int, *, like: str, seed: int, name: str, seen: Iterable[str]) -> list[Question]:
    """`count` problems as in the split `like`, in a split called `name`; none has a text of `seen`.

    Args:
        count: how many.
        like: `test` or one of OOD_SPLITS, but not `ood_numbers`, which takes problems of training.
        seed: another than that of any run, or the problems are those of its split.
        name: of the split that the questions say they are of.
        seen: texts of questions that are there already.
    """
    texts = set(seen)
    problems = [_new(like, index, seed=seed, seen=texts, train=[]) for index in range(count)]
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


def _new(split: str, index: int, *, seed: int, seen: set[str], train: list[Problem]) -> Problem:
    """The first draw whose text no earlier question has; outside `train` with as many steps as the very first draw.

    Only where the base was asked nearly every problem of one step, as of `order`, the steps are let go in the end.
    """
    steps = None
    for attempt in range(MAX_TRIES):
        rng = seeds.rng(seed, split, index=(index, attempt))
        problem = _renumbered(rng, train) if split == "ood_numbers" else _DRAWS[split](rng, index)
        if problem is None:
            continue
        steps = steps or problem.state.steps
        wanted = split == TRAIN or attempt >= STEPS_LET_GO or problem.state.steps == steps
        fits = wanted and (split == TRAIN or not base_was_asked(problem.text))
        if fits and problem.text not in seen:
            seen.add(problem.text)
            return problem
    raise RuntimeError(f"no new problem {index} of split {split} after {MAX_TRIES} tries; the split is too large")


def _of(*names: str, scope: Scope = SCOPE) -> Callable[[Generator, int], Problem]:
    """Families in turn, so that each split has equally many of each; steps at random."""

    def one(rng: Generator, index: int) -> Problem:
        name = names[index % len(names)]
        return draw_problem(rng, name, steps=1 + int(rng.integers(FAMILIES[name].max_steps)), scope=scope)

    return one


def _renumbered(rng: Generator, train: list[Problem]) -> Problem | None:
    """A training problem with other numbers of the same size."""
    old = train[int(rng.integers(len(train)))]
    renumber = old.family.renumber
    return Problem(old.family, renumber(old.state, rng, SCOPE)) if renumber else None


def _more_terms(rng: Generator, index: int) -> Problem:
    name = SEEN_FAMILIES[index % len(SEEN_FAMILIES)]
    return draw_problem(rng, name, steps=int(rng.choice(MORE_STEPS)))


def _with_extra(rng: Generator, index: int) -> Problem:
    problem = _of("story", "clock", "order")(rng, index)
    words = set(problem.text.replace(".", " ").split())
    stranger = pick(rng, [one for one in NAMES if one not in words])
    extra = pick(rng, EXTRAS).format(name=stranger, n=int(rng.integers(2, 50)), thing=pick(rng, THINGS))
    return Problem(problem.family, problem.state.model_copy(update={"extra": extra}))


def _reordered(rng: Generator, index: int) -> Problem | None:
    name = ("story", "clock", "order")[index % 3]
    problem = draw_problem(rng, name, steps=2 + int(rng.integers(FAMILIES[name].max_steps - 1)))
    assert problem.family.reorder
    changed = Problem(problem.family, problem.family.reorder(problem.state, rng))
    return changed if changed.text != problem.text else None


_DRAWS: dict[str, Draw] = {
    TRAIN: _of(*SEEN_FAMILIES),
    TEST: _of(*SEEN_FAMILIES),
    "ood_terms": _more_terms,
    "ood_large": _of("sum", "story", "unknown", scope=LARGE),
    "ood_names": _of("story", "order", scope=RENAMED),
    "ood_clause": _with_extra,
    "ood_order": _reordered,
    "ood_family": _of(*UNSEEN_FAMILIES),
}
OOD_SPLITS = ("ood_numbers", "ood_terms", "ood_large", "ood_names", "ood_clause", "ood_order", "ood_family")
"""New numbers in training problems, more steps, larger numbers, new names, a clause too many, another order of telling,
another family."""
