"""Training as a list of jobs: what each reads and leaves behind, and that done ones are left alone."""

from pathlib import Path
from typing import Any

import pytest

from aot.arms.jobs import Job, plan_jobs
from aot.arms.own_chains import is_over
from aot.config import RunConfig, parse_arm, parse_config
from aot.files.run_folder import RunFolder, publish


def config(*arms: dict[str, Any], dataset: str = "toy_math", **train: Any) -> RunConfig:
    text = {"teacher": {"planner": "procedural"}, "student": {"base": "tiny-text"}} if dataset == "toy_math" else {}
    return parse_config({"data": {"dataset": dataset}, "train": {"arms": arms, **train}, **text}, source="test")


SIMPLE = {"name": "pre", "order": "pre"}
ADAPTIVE = {"name": "adaptive", "order": "adaptive"}
OWN = {"name": "own", "order": "pre", "chains": "self"}


def jobs(root: Path, *arms: dict[str, Any], **more: Any) -> list[Job]:
    return plan_jobs(RunFolder(root), config(*arms, **more))


def test_a_plain_arm_is_two_jobs_and_each_reads_what_an_earlier_one_leaves(tmp_path: Path) -> None:
    lessons, train = jobs(tmp_path, SIMPLE, max_steps=7)
    assert (lessons.name, train.name) == ("pre:lessons", "pre:train")
    assert lessons.inputs == (RunFolder(tmp_path).kept,) and train.inputs == lessons.outputs
    assert (lessons.steps, train.steps) == (0, 7)


@pytest.mark.parametrize("dataset", ["toy_math", "toy_kitchen"])
def test_every_input_is_the_kept_chains_or_what_an_earlier_job_leaves(dataset: str, tmp_path: Path) -> None:
    made = jobs(tmp_path, SIMPLE, ADAPTIVE, OWN, dataset=dataset, own_chains={"rounds": 2})
    there = {RunFolder(tmp_path).kept}
    for job in made:
        assert set(job.inputs) <= there, job.name
        there |= {*job.outputs, job.marker}
    assert len({job.name for job in made}) == len({job.marker for job in made}) == len(made)


def test_helpers_of_an_adaptive_arm_and_rounds_of_own_chains_are_jobs_of_their_own(tmp_path: Path) -> None:
    names = [job.name for job in jobs(tmp_path, ADAPTIVE)]
    fold = ["lessons", "train", "answer"]
    assert names == [
        "adaptive:ask_base", *(f"adaptive/fold0:{work}" for work in fold), *(f"adaptive/fold1:{work}" for work in fold),
        "adaptive:lessons", "adaptive:train",
    ]  # fmt: skip
    names = [job.name for job in jobs(tmp_path, OWN, own_chains={"rounds": 1})]
    assert names == [
        "own/round0:lessons", "own/round0:train", "own/round0:sample", "own:lessons", "own:train", "own:reach",
    ]  # fmt: skip


def test_a_job_is_done_when_its_marker_and_all_its_outputs_are_there(tmp_path: Path) -> None:
    lessons, _ = jobs(tmp_path, SIMPLE)
    assert not lessons.is_done
    publish(lessons.marker, "")
    assert not lessons.is_done
    publish(lessons.outputs[0], "")
    assert lessons.is_done and jobs(tmp_path, SIMPLE)[0].is_done


def test_a_round_that_brought_nothing_is_the_last_one(tmp_path: Path) -> None:
    made = {job.name: job for job in jobs(tmp_path, OWN, own_chains={"rounds": 3})}
    run = RunFolder(tmp_path)
    publish(made["own/round0:sample"].outputs[1], "{}\n")
    publish(made["own/round1:sample"].outputs[1], "")
    over = [name for name, job in made.items() if is_over(run, job)]
    assert over == ["own/round2:lessons", "own/round2:train", "own/round2:sample"]


def test_names_of_helpers_are_legal_so_that_their_settings_are_checked_like_any_other(tmp_path: Path) -> None:
    for job in jobs(tmp_path, ADAPTIVE, OWN):
        assert parse_arm(job.student.model_dump()) == job.student
