"""A run over clips whose arms have the orders and chains of text arms goes through to its report."""

import json
from pathlib import Path

import pytest

from aot.arms.jobs import plan_jobs
from aot.config import RunConfig, load_config
from aot.files.run_folder import LESSONS, RunFolder, read_rows
from aot.pipeline import run_stages
from aot.records import Lesson, Prediction, Trace

CONFIG = Path(__file__).parents[2] / "configs" / "video" / "toy_kitchen_arms_tiny.yaml"
SMALL = (
    "data.toy.train_clips=8", "data.toy.test_clips=2", "data.toy.test_ood_clips=2", "train.max_steps=2",
    "train.save_steps=2", "train.adaptive.labelled=4", "filter.min_kept=1", "student.max_rationale_tokens=12",
    "train.questions_per_step=4", "train.questions_per_device=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunConfig]:
    root = tmp_path_factory.mktemp("arms") / "run"
    config = load_config(CONFIG, overrides=(f"run.dir={root}", *SMALL))
    run, code = run_stages(config, config_path=CONFIG, command=["aot"])
    assert code == 0
    return run, config


def lessons_of(run: RunFolder, arm: str) -> list[Lesson]:
    return list(read_rows(run.arm(arm) / LESSONS, Lesson))


def test_every_arm_answers_as_it_was_taught_and_stands_in_the_report(finished: tuple[RunFolder, RunConfig]) -> None:
    run, config = finished
    page = run.report.read_text()
    for arm, mode in (
        ("post", "explain"),
        ("shuffled", "reason"),
        ("self", "reason"),
        ("adaptive", "adaptive"),
        ("judged", "reason"),
    ):
        assert arm in page
        assert list(read_rows(run.predictions / f"{arm}-{mode}.jsonl", Prediction))
    assert all(job.is_done for job in plan_jobs(run, config) if "round" not in job.name)


def test_lessons_hold_what_is_trained(finished: tuple[RunFolder, RunConfig]) -> None:
    run, config = finished
    for arm in config.train.arms:
        facts = json.loads((run.arm(arm.name) / "training.json").read_text())
        lessons = lessons_of(run, arm.name)
        replies = 0
        if arm.chains == "on_policy":
            replies = len((run.arm(config.start_of(arm)) / "judged.jsonl").read_text().splitlines())
            assert replies > 0
        assert facts["lessons"] == len(lessons) + replies - sum(facts["dropped"].values())
        assert all(lesson.with_frames for lesson in lessons)


def test_each_order_and_damage_shows_in_the_lessons(finished: tuple[RunFolder, RunConfig]) -> None:
    run, _ = finished
    kept = {trace.question_id: trace.rationale for trace in reversed(list(read_rows(run.kept, Trace)))}
    after, damaged = lessons_of(run, "post"), lessons_of(run, "shuffled")
    assert [lesson.question_id for lesson in after] == [lesson.question_id for lesson in damaged]
    for lesson in after:
        assert f"{lesson.rationale}\n{lesson.label.strip()}" == kept[lesson.question_id]
    for lesson in damaged:
        assert lesson.rationale != kept[lesson.question_id]
        assert sorted(lesson.rationale) == sorted(kept[lesson.question_id])
    assert {lesson.mode for lesson in lessons_of(run, "adaptive")} == {"adaptive"}
    assert 0 < len(lessons_of(run, "self/round0")) < len(after)
