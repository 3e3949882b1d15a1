"""A run with the arms that test the claims goes through to their report, and each arm learns what its switch says."""

import json
from pathlib import Path

import pytest

from aot.arms.choice import Likelihood
from aot.config import RunConfig, load_config
from aot.files.run_folder import LESSONS, RunFolder, read_rows
from aot.files.traces import read_faults
from aot.pipeline import run_stages
from aot.records import Lesson, MetricRow, Trace
from aot.reporting.summary import summary_lines

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "configs/text/tiny_math_claims_tiny.yaml"
SMALL = (
    "data.math={train: 40, test: 8, test_ood: 2}", "train.max_steps=2", "train.save_steps=2", "evaluate.splits=[test]",
    "student.max_rationale_tokens=16",
    "train.arms=[{name: aot_seed0, order: pre}, {name: aot_seed1, order: pre, seed: 1}, "
    "{name: plain_cot, order: pre, chains: plain}, {name: apart, order: pre, parts: apart}, "
    "{name: likeliest, order: pre, choice: likelihood}, "
    "{name: aot_tools, order: tool_use, tools: [calculator], without_calls: learn}]",
)  # fmt: skip
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunConfig]:
    config = load_config(TEXT, overrides=(f"run.dir={tmp_path_factory.mktemp('text') / 'run'}", *SMALL))
    run, code = run_stages(config, config_path=TEXT, command=["aot"])
    assert code == 0
    return run, config


def lessons_of(run: RunFolder, arm: str) -> list[Lesson]:
    return list(read_rows(run.arm(arm) / LESSONS, Lesson))


def test_every_arm_of_the_text_study_stands_in_the_report_and_seeds_stand_together(
    text: tuple[RunFolder, RunConfig],
) -> None:
    run, config = text
    page = run.report.read_text()
    assert all(arm.name in page for arm in config.train.arms) and "aot (2 seeds)" in page
    rows = [MetricRow.model_validate(row) for row in json.loads(run.metrics.read_text())]
    at = {(r.arm, r.metric): r for r in rows if (r.split, r.kind) == ("test", "all")}
    both = [at[f"aot_seed{seed}", "accuracy"].value for seed in (0, 1)]
    assert at["aot (2 seeds)", "accuracy"].value == pytest.approx(sum(both) / 2, abs=1e-6)
    difference = at["aot (2 seeds)", "accuracy_difference_vs_plain_cot"]
    assert difference.value == pytest.approx(sum(both) / 2 - at["plain_cot", "accuracy"].value, abs=1e-6)
    assert difference.low <= difference.value <= difference.high
    against = {metric for arm, metric in at if arm == "aot_tools" and metric.startswith("accuracy_difference_vs_")}
    assert {f"accuracy_difference_vs_{name}" for name in ("aot_seed0", "plain_cot")} <= against
    lines = summary_lines(run)
    assert any(line.startswith("  aot (2 seeds): accuracy") for line in lines)
    assert any(line.startswith("Time: ") and "train" in line for line in lines)


def test_plain_chains_of_text_are_those_before_the_filters_without_planted_ones(
    text: tuple[RunFolder, RunConfig],
) -> None:
    run, _ = text
    planted = {(row.question_id, row.sample_index) for row in read_faults(run)}
    plain = list(read_rows(run.arm("plain_cot") / "plain.jsonl", Trace))
    assert plain and not planted & {(trace.question_id, trace.sample_index) for trace in plain}
    learned = [[one.question_id for one in lessons_of(run, arm)] for arm in ("plain_cot", "aot_seed0")]
    assert learned[0] == learned[1], "the same questions"


def test_each_switch_shows_in_what_its_arm_learns(text: tuple[RunFolder, RunConfig]) -> None:
    run, _ = text
    whole, apart = lessons_of(run, "aot_seed0"), lessons_of(run, "apart")
    assert [one.form for one in apart[:2]] == ["begun", "whole"] and len(apart) == 2 * len(whole)
    assert {a.rationale + b.label for a, b in zip(apart[::2], apart[1::2], strict=True)} == {
        one.rationale for one in whole
    }


def test_the_likeliest_chain_of_each_question_is_learned(text: tuple[RunFolder, RunConfig]) -> None:
    run, _ = text
    rows = list(read_rows(run.arm("likeliest") / "likelihoods.jsonl", Likelihood))
    kept = {(trace.question_id, trace.sample_index): trace.rationale for trace in read_rows(run.kept, Trace)}
    learned = {one.question_id: one.rationale for one in lessons_of(run, "likeliest")}
    several = {row.question_id for row in rows}
    assert several
    for question_id in several:
        mine = [row for row in rows if row.question_id == question_id]
        best = max(mine, key=lambda row: (row.log_prob, -row.sample_index))
        assert learned[question_id] == kept[question_id, best.sample_index]
