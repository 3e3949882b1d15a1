"""What the weights of an arm do to its training: the loss of the first step, in which all arms are still alike."""

import json
from pathlib import Path
from typing import Any

import pytest
from text_kit import save_text_base, steps_of, sums, text_config, text_run

from aot.arms.lessons import refused_lesson
from aot.records import Lesson
from aot.student.train.arm import train_arm


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_base(tmp_path_factory.mktemp("base") / "model")


def first_step(root: Path, base: Path, lessons: list[Lesson], **arm: Any) -> tuple[float, int]:
    """Rationale loss, and tokens, of one step over all sums."""
    config = text_config(base, arm={"order": "pre", **arm}, max_steps=1, questions_per_step=12, questions_per_device=12)
    run = text_run(root, config, lessons=lessons)
    train_arm(run, config, config.train.arms[0])
    (line,) = (run.arm("all") / "metrics.jsonl").read_text().splitlines()
    row = json.loads(line)
    return row["rationale_loss"], row["rationale_tokens"]


ONCE = [Lesson(question_id=q.id, mode="reason", rationale=f"{steps_of(q)}\nAnswer: {q.answer}") for q in sums(6)]
LESSONS = [*ONCE, *ONCE]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory, base: Path) -> tuple[float, int]:
    return first_step(tmp_path_factory.mktemp("usual"), base, LESSONS)


def test_keys_make_the_loss_of_the_first_step_larger_and_own_probabilities_smaller(
    tmp_path: Path, base: Path, usual: tuple[float, int]
) -> None:
    plain, tokens = usual
    heavy, same = first_step(tmp_path / "keys", base, LESSONS, key_weight=3.0)
    weighed, _ = first_step(tmp_path / "dft", base, LESSONS, weighting="own_probability")
    assert tokens == same and plain < heavy < 3 * plain
    assert 0 < weighed < plain


def test_what_is_refused_takes_its_share_off_the_loss_and_is_no_rationale_that_was_seen(
    tmp_path: Path, base: Path, usual: tuple[float, int]
) -> None:
    """The same six replies once as right and once as refused: (1 - alpha) of the loss, over the same tokens."""
    both = [*ONCE, *(refused_lesson(q, one.rationale) for q, one in zip(sums(6), ONCE, strict=True))]
    plain, tokens = usual
    pushed, same = first_step(tmp_path / "refused", base, both, chains="self", negative_weight=0.25)
    assert tokens == same and pushed == pytest.approx(plain * (1 - 0.25) / 2, rel=1e-4)
    facts = json.loads((tmp_path / "refused" / "student" / "all" / "training.json").read_text())
    assert (facts["rationales"], facts["arm"]["negative_weight"]) == (6, 0.25)
