"""What happens in the synthetic kitchen: performances of recipes, and the questions asked about them.

A performance is one random order of a recipe's steps with distractor and repeated steps, speeds and pauses. Item i
depends on (seed, name of the clip) only, so any clip can be made again alone. Draws no pixels.
"""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from aot import seeds
from video_data.datasets.rows import QuestionRow, SegmentRow
from video_data.kitchen.world import INGREDIENTS, OOD_RECIPES, RECIPES, STEP_LABELS, TRAIN_RECIPES, Recipe, may_follow

NEXT_CHOICES = 4
MOST_SHARED_STEPS = 3
"""Of the six of a new dish and those of any recipe of the kitchen, so that no card but its own fits what is seen."""


@dataclass(frozen=True)
class Performance:
    """One cook following one recipe."""

    uri: str
    split: str
    recipe: Recipe
    segments: tuple[SegmentRow, ...]
    extra: tuple[bool, ...]
    """For each segment: whether it is a distractor or a repeat, not the next step of the recipe."""

    @property
    def duration_s(self) -> float:
        """Length of the clip in seconds."""
        return self.segments[-1].end_s

    @property
    def is_new_dish(self) -> bool:
        """Whether only a card tells its recipe, which is cooked in no other clip."""
        return self.recipe.name not in RECIPES

    def may_follow(self, seen: Set[str]) -> set[str]:
        """Steps that may come next for someone who saw the steps `seen` and knows every recipe or has the card."""
        return self.recipe.may_follow(seen) if self.is_new_dish else may_follow(seen)


def make_performances(*, seed: int, split: str, count: int) -> list[Performance]:
    """`count` performances; `test_ood` cooks only recipes that no other split knows."""
    recipes = OOD_RECIPES if split == "test_ood" else TRAIN_RECIPES
    return [_perform(seed, f"{split}_{i:04d}.mp4", split, recipes[i % len(recipes)]) for i in range(count)]


def make_new_dishes(*, seed: int, count: int) -> list[Performance]:
    """`count` performances for training, each of a recipe of its own that shares at most three steps with any other."""
    uris = [f"train_new_{i:04d}.mp4" for i in range(count)]
    return [_perform(seed, uri, "train", _new_recipe(seeds.rng(seed, "recipe", uri))) for uri in uris]


def _new_recipe(rng: np.random.Generator) -> Recipe:
    """Other steps in the order of one of the training recipes."""
    like = TRAIN_RECIPES[int(rng.integers(len(TRAIN_RECIPES)))]
    name = f"dish {rng.integers(100)} {rng.integers(100)}"
    while True:
        steps = tuple(str(label) for label in rng.choice(STEP_LABELS, size=len(like.steps), replace=False))
        if all(len({*steps} & {*recipe.steps}) <= MOST_SHARED_STEPS for recipe in RECIPES.values()):
            return replace(like, name=name, steps=steps)


def random_segments(rng: np.random.Generator, labels: Sequence[str]) -> tuple[SegmentRow, ...]:
    """`labels` one after the other at a random tempo, the whole between 8 and 20 s, times in tenths of a second."""
    total_s = rng.uniform(max(8.0, 1.5 * len(labels)), min(20.0, 3.2 * len(labels)))
    shares = rng.uniform(0.8, 1.25, size=len(labels))
    ends_s = np.round(np.cumsum(shares / shares.sum()) * total_s, 1)
    starts_s = np.concatenate([[0.0], ends_s[:-1]])
    return tuple(
        SegmentRow(float(start_s), float(end_s), label)
        for start_s, end_s, label in zip(starts_s, ends_s, labels, strict=True)
    )


def _perform(seed: int, uri: str, split: str, recipe: Recipe) -> Performance:
    rng = seeds.rng(seed, "story", uri)
    order: list[int] = []
    while len(order) < len(recipe.steps):
        order.append(int(rng.choice(recipe.available(set(order)))))
    labels = [recipe.steps[i] for i in order]
    extra = [False] * len(labels)
    if rng.random() < 0.3:
        stranger = str(rng.choice([label for label in STEP_LABELS if label not in recipe.steps]))
        _insert(labels, extra, int(rng.integers(1, len(labels))), stranger)
    if rng.random() < 0.3:
        source = int(rng.integers(0, len(labels) - 2))
        _insert(labels, extra, int(rng.integers(source + 2, len(labels))), labels[source])
    return Performance(uri, split, recipe, random_segments(rng, labels), tuple(extra))


def _insert(labels: list[str], extra: list[bool], position: int, label: str) -> None:
    # Two equal steps side by side look like one long step: nobody could count or time them.
    if label not in labels[max(0, position - 1) : position + 1]:
        labels.insert(position, label)
        extra.insert(position, True)


def make_questions(performance: Performance, *, seed: int) -> list[QuestionRow]:
    """Questions about one performance: next steps at different moments, and other kinds.

    A training clip is asked about up to four next steps and one other thing, since the next step is the task; a test
    clip about two next steps and two other things, so that every kind is measured.
    """
    rng = seeds.rng(seed, "questions", performance.uri)
    training = performance.split == "train"
    cuts = _cuts(performance)
    following = {cut: {performance.segments[cut + 1].label} for cut in cuts}
    open_cuts = [cut for cut in cuts if performance.may_follow(_seen(performance, cut)) == following[cut]]
    questions = [_next_choice(performance, cut, rng) for cut in _some(cuts, 2 if training else 1, rng)]
    questions += [_next_open(performance, cut) for cut in _some(open_cuts, 2 if training else 1, rng)]
    before, after = partial(_beside, kind="before", step=-1), partial(_beside, kind="after", step=1)
    makers: list[Callable[[Performance, np.random.Generator], QuestionRow]] = [_count, _when, _present, before, after]
    return questions + [makers[i](performance, rng) for i in _some(range(len(makers)), 1 if training else 2, rng)]


def _some(values: Sequence[int], count: int, rng: np.random.Generator) -> list[int]:
    """At most `count` different ones of `values`, in ascending order."""
    return sorted(int(v) for v in rng.choice(values, size=min(count, len(values)), replace=False)) if values else []


def _seen(performance: Performance, cut: int) -> set[str]:
    return {segment.label for segment in performance.segments[: cut + 1]}


def _cuts(performance: Performance) -> list[int]:
    """Segments after which the recipe's next step follows; at least two are seen, and no other recipe fits better."""
    labels = [segment.label for segment in performance.segments]
    followed = [cut for cut in range(1, len(labels) - 1) if not performance.extra[cut + 1]]
    return [cut for cut in followed if labels[cut + 1] in performance.may_follow(_seen(performance, cut))]


def _question(
    performance: Performance, kind: str, tag: object, *, text: str, answer: str, answer_type: str = "text",
    choices: tuple[str, ...] = (), end_s: float | None = None,
) -> QuestionRow:  # fmt: skip
    stem = performance.uri.removesuffix(".mp4")
    from_card = performance.is_new_dish and kind.startswith("next_")
    return QuestionRow(
        id=f"{stem}-{kind}-{tag}", split=performance.split, kind=kind, text=text, choices=choices, answer=answer,
        answer_type=answer_type, uri=performance.uri, start_s=0.0,
        end_s=performance.duration_s if end_s is None else end_s, group=stem,
        tags=(("answered_by", "card"),) if from_card else (),
    )  # fmt: skip


def _next_choice(performance: Performance, cut: int, rng: np.random.Generator) -> QuestionRow:
    """Only the right option may follow; wrong ones tempt: done, too early, or after the same step elsewhere."""
    answer = performance.segments[cut + 1].label
    last = performance.segments[cut].label
    possible = performance.may_follow(_seen(performance, cut))
    same_recipe = [step for step in performance.recipe.steps if step not in possible]
    elsewhere = [
        recipe.steps[i]
        for recipe in RECIPES.values()
        if recipe is not performance.recipe and last in recipe.steps
        for i in recipe.available({recipe.steps.index(last), *recipe.waits_for[recipe.steps.index(last)]})
    ]
    pools = [sorted(set(same_recipe)), sorted(set(elsewhere) - possible), sorted(set(STEP_LABELS) - possible)]
    wrong: list[str] = []
    # One of each kind where there is one, so that no single habit tells the right one from the wrong ones.
    for pool in (pools[0], pools[1] or pools[2], pools[2], pools[2]):
        free = [label for label in pool if label not in wrong and label != answer]
        if free and len(wrong) < NEXT_CHOICES - 1:
            wrong.append(str(rng.choice(free)))
    choices = [answer, *wrong]
    rng.shuffle(choices)
    return _question(
        performance, "next_choice", cut, text="What is the next step?", answer=answer, answer_type="choice",
        choices=tuple(choices), end_s=performance.segments[cut].end_s,
    )  # fmt: skip


def _next_open(performance: Performance, cut: int) -> QuestionRow:
    seen, following = performance.segments[cut : cut + 2]
    text = "Which step comes next?"
    return _question(performance, "next_open", cut, text=text, answer=following.label, end_s=seen.end_s)


def _once(performance: Performance) -> list[int]:
    """Segments whose step happens exactly once in the clip."""
    labels = [s.label for s in performance.segments]
    return [i for i, label in enumerate(labels) if labels.count(label) == 1]


def _beside(performance: Performance, rng: np.random.Generator, *, kind: str, step: int) -> QuestionRow:
    labels = [segment.label for segment in performance.segments]
    index = int(rng.choice([i for i in _once(performance) if 0 <= i + step < len(labels)]))
    text = f"Which step comes right {kind} {labels[index]}?"
    return _question(performance, kind, index, text=text, answer=labels[index + step])


def _count(performance: Performance, rng: np.random.Generator) -> QuestionRow:
    labels = [s.label for s in performance.segments]
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    absent = [label for label in performance.recipe.steps if label not in labels]
    absent = absent or sorted(set(STEP_LABELS) - set(labels))
    pool = repeated or (absent if rng.random() < 0.3 else labels)
    event = str(rng.choice(pool))
    text, answer = f"How often does {event} happen?", str(labels.count(event))
    return _question(performance, "count", event.replace(" ", "_"), text=text, answer=answer, answer_type="integer")


def _when(performance: Performance, rng: np.random.Generator) -> QuestionRow:
    index = int(rng.choice(_once(performance)))
    segment = performance.segments[index]
    text, answer = f"When does {segment.label} happen?", f"{segment.start_s:.1f}s-{segment.end_s:.1f}s"
    return _question(performance, "when", index, text=text, answer=answer, answer_type="span")


def _present(performance: Performance, rng: np.random.Generator) -> QuestionRow:
    seen = sorted({s.label.partition(" ")[2] for s in performance.segments})
    absent = sorted(set(INGREDIENTS) - set(seen))
    there = bool(rng.random() < 0.5)
    thing = str(rng.choice(seen if there else absent))
    text, answer = f"Is there any {thing} in the clip?", "yes" if there else "no"
    return _question(performance, "present", thing, text=text, answer=answer, answer_type="yes_no")
