"""`aot baselines --noise`: a simulated recogniser errs as it is told to, and every predictor meets the same errors."""

import numpy as np
import pytest
from typer.testing import CliRunner

from aot.cli import app
from aot.errors import ConfigError
from aot.evaluation.intervals import Bootstrap
from aot.pipeline.commands.noise import AGAINST_BIGRAM, BAYES, BIGRAM, Errors, Recogniser, noise_rows, read_levels
from aot.records import ClipAnnotation, MediaRef, Question, Segment

SOUP = ("wash leek", "chop leek", "fry leek", "pour stock", "boil stock", "salt soup")
TASKS = {"soup": SOUP, "one": ("wait",)}


def clip(uri: str, *labels: str, split: str = "train", task: str = "soup") -> ClipAnnotation:
    segments = tuple(Segment(start_s=2.0 * i, end_s=2.0 * i + 2, label=label) for i, label in enumerate(labels))
    return ClipAnnotation(uri=uri, split=split, task=task, duration_s=2.0 * len(labels), segments=segments)


def asked(uri: str, steps: int) -> Question:
    return Question(
        id=f"{uri}-{steps}", dataset="d", split="test", kind="next_open", text="next?", group=uri, answer=SOUP[steps],
        answer_type="text", media=MediaRef(uri=uri), steps_before=steps,
    )  # fmt: skip


CLIPS = [clip(f"t{i}", *SOUP) for i in range(6)] + [clip(f"e{i}", *SOUP, split="test") for i in range(10)]
QUESTIONS = [asked(f"e{i}", steps) for i in range(10) for steps in (2, 3, 4)]


@pytest.mark.parametrize("errors", ["independent", "correlated"])
def test_so_many_steps_are_recognised_and_the_others_taken_for_steps_of_their_task(errors: Errors) -> None:
    recogniser = Recogniser(0.7, errors, TASKS, seed=3)
    seen = [recogniser.seen(SOUP, task="soup", name=f"c{i}") for i in range(400)]
    right = np.mean([one == true for row in seen for one, true in zip(row, SOUP, strict=True)])
    assert right == pytest.approx(0.7, abs=0.03)
    assert {one for row in seen for one in row} <= set(SOUP)
    for_chopping = [row[1] for row in seen if row[1] != "chop leek"]
    shares = [for_chopping.count(label) / len(for_chopping) for label in set(for_chopping)]
    assert max(shares) > 0.6 if errors == "correlated" else max(shares) < 0.35
    assert seen[7] == recogniser.seen(SOUP, task="soup", name="c7")
    assert recogniser.seen(("wait",) * 50, task="one", name="c") == ("wait",) * 50  # there is no other step


def test_the_filter_is_better_than_the_bigram_where_recognitions_are_doubtful_and_the_order_is_known() -> None:
    rows = noise_rows(QUESTIONS, CLIPS, levels=(0.6,), seed=0, bootstrap=Bootstrap(200, 0))
    by_key = {(row.arm, row.mode, row.metric): row for row in rows}
    for errors in ("independent", "correlated"):
        gap = by_key[BAYES, f"p=0.6 {errors}", AGAINST_BIGRAM]
        assert gap.low > 0 and (gap.n, gap.num_clusters) == (30, 10)
        bayes, bigram = (by_key[arm, f"p=0.6 {errors}", "accuracy"] for arm in (BAYES, BIGRAM))
        assert gap.value == pytest.approx(bayes.value - bigram.value, abs=1e-5)
        assert bayes.low < bayes.value < bayes.high or bayes.value == 1.0


def test_without_errors_everybody_knows_the_only_way_and_there_is_one_kind_of_row() -> None:
    rows = noise_rows(QUESTIONS, CLIPS, levels=(1.0,), seed=0, bootstrap=Bootstrap(200, 0))
    assert {row.mode for row in rows} == {"p=1"}
    assert {row.value for row in rows if row.metric == "accuracy"} == {1.0}


def test_the_same_seed_gives_the_same_rows_and_questions_of_other_kinds_are_passed_over() -> None:
    other = QUESTIONS[0].model_copy(update={"kind": "count", "id": "x"})
    made = [
        noise_rows([*QUESTIONS, other], CLIPS, levels=(0.8,), seed=seed, bootstrap=Bootstrap(50, 0))
        for seed in (1, 1, 2)
    ]
    assert made[0] == made[1] != made[2] and {row.n for row in made[0]} == {30}
    assert noise_rows([other], CLIPS, levels=(0.8,), seed=0, bootstrap=Bootstrap(50, 0)) == []


@pytest.mark.parametrize("text", ["0.5,much", "0", "1.2", "0.6,,0.7", "nan"])
def test_a_level_that_is_no_share_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"above 0 and up to 1, such as 0\.66,0\.73,0\.85; got"):
        read_levels(text)
    result = CliRunner().invoke(app, ["baselines", "configs/video/coin.yaml", "--noise", text])
    assert isinstance(result.exception, ConfigError)
    assert read_levels("0.66,0.73,0.66") == (0.66, 0.73)
