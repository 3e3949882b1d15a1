"""How many questions a data set has and how long its rows are: published sizes and assumed means, from a config alone.

Where the data are at hand, `--dry-run` counts them instead.
"""

from dataclasses import dataclass, replace

from aot.config import ClipData, GymData, KitchenData, MathData, RunConfig
from aot.config.data import StepFiles
from text_cot.datasets.toy_math import OOD_SPLITS

QUESTIONS_OF_A_CLIP = {"train": 5, "test": 4}
"""Of the synthetic kitchen."""


@dataclass(frozen=True)
class RowLengths:
    """Mean tokens of what a row is made of."""

    question: float
    """With what the chat template adds, without frames."""
    answer: float
    chain: float
    """A rationale with its answer."""
    frame_words: float = 0.0
    """Before each frame, such as its time."""


@dataclass(frozen=True)
class Volume:
    """How much there is of a data set."""

    train: int
    """Questions to train on; 0 where nobody knows."""
    test: int
    """Questions of the splits that are evaluated."""
    clips: int
    clip_s: float
    choices: float
    """Share of questions that have options, of which each is scored by its likelihood too."""
    lengths: RowLengths
    source: str
    """Where the counts come from, in words."""


_TINY_VIDEO, _TINY_TEXT = RowLengths(28, 3, 54.5), RowLengths(29, 3.2, 42.5)
_STEPS = RowLengths(130, 10, 220, frame_words=6)
_MATHS = {
    "gsm8k": RowLengths(110, 6, 180), "math": RowLengths(130, 12, 320), "cot_collection": RowLengths(250, 12, 120),
    "text_jsonl": RowLengths(150, 10, 200), "gym": RowLengths(90, 6, 160),
}  # fmt: skip
_WORDS = RowLengths(150, 10, 200)
_CLIPS = {
    # name: clips to train on, clips to test on, seconds of a clip, steps of a clip
    "youcook2": (1333, 457, 316.0, 7.7),
    "coin": (9030, 2797, 142.0, 3.9),
    "crosstask": (2390, 360, 297.0, 7.4),
}
"""Published sizes: arXiv 1703.09788 (YouCook2), 1903.02874 (COIN), 1903.08225 (CrossTask, primary tasks)."""
_QUESTIONS = {
    # name: training questions, questions of the validation or test file, clips, seconds of a clip
    "nextqa": (34_132, 4_996, 4_440, 44.0),
    "star": (45_731, 7_098, 3_946, 12.0),
    "gsm8k": (7_473, 1_319, 0, 0.0),
    "math": (7_500, 5_000, 0, 0.0),
}
"""Published sizes: arXiv 2105.08276 (NExT-QA), 2405.09711 (STAR), 2110.14168 (GSM8K), 2103.03874 (MATH)."""


def volume_of(config: RunConfig) -> Volume:
    """How much there is to learn and to answer, by the config alone."""
    volume, data = _volume(config), config.data
    if data.limit is None:
        return volume
    per_clip = max(1, round(volume.train / volume.clips)) if volume.clips else 1
    most = data.limit * per_clip
    return replace(
        volume, train=min(volume.train, most), test=min(volume.test, most * len(config.evaluate.splits)),
        clips=min(volume.clips, 2 * data.limit),
    )  # fmt: skip


def _volume(config: RunConfig) -> Volume:
    data, name = config.data, config.data.dataset
    if isinstance(data, KitchenData):
        toy = data.toy
        tested = toy.test_clips + toy.test_ood_clips
        of_clip = {split: count + toy.open_book for split, count in QUESTIONS_OF_A_CLIP.items()}
        trained = toy.train_clips + toy.new_dishes
        return Volume(
            of_clip["train"] * trained,
            of_clip["test"] * tested,
            trained + tested,
            8.0,
            0.25,
            _TINY_VIDEO,
            "drawn, as many as the config says",
        )
    if isinstance(data, MathData):
        test = data.math.test + data.math.test_ood * sum(split in OOD_SPLITS for split in config.evaluate.splits)
        return Volume(data.math.train, test, 0, 0.0, 0.0, _TINY_TEXT, "drawn, as many as the config says")
    if isinstance(data, GymData):
        gym = data.gym
        counts = (gym.train * len(gym.tasks), gym.test * (len(gym.tasks) + len(gym.unseen_tasks)))
        return Volume(*counts, 0, 0.0, 0.0, _MATHS[name], "drawn, as many as the config says")
    if name in _CLIPS and isinstance(files := getattr(data, "annotated", None), StepFiles):
        train, test, clip_s, steps = _CLIPS[name]
        kinds = [kind for kind in files.kinds if (name, kind) != ("youcook2", "next_open")]
        asked_steps = min(steps - files.min_history, files.per_clip or steps)
        each = max(0.0, asked_steps) * len(kinds)
        share = kinds.count("next_choice") / max(1, len(kinds))
        counts = (round(train * each), round(test * each))
        return Volume(*counts, train + test, clip_s, share, _STEPS, "published size of the data set, all clips at hand")
    if name in _QUESTIONS:
        train, test, clips, clip_s = _QUESTIONS[name]
        lengths = _MATHS.get(name, _STEPS)
        return Volume(train, test, clips, clip_s, float(bool(clips)), lengths, "published size of the data set")
    lengths = _STEPS if isinstance(data, ClipData) else _MATHS.get(name, _WORDS)
    return Volume(0, 0, 0, 0.0, 0.0, lengths, "unknown without the files; --dry-run counts them")
