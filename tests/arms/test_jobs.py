"""Training as a list of jobs: what each reads and leaves behind, and that done ones are left alone."""

import errno
from pathlib import Path
from typing import Any

import pytest

from aot.arms.jobs import Job, is_over, job_facts, job_folders, job_named, job_piece, plan_jobs
from aot.config import RunConfig, parse_arm, parse_config
from aot.errors import ConfigError, GuardStop, RunError
from aot.files.lease import hold
from aot.files.pieces import read_state, working_on, write_state
from aot.files.run_folder import RunFolder, publish
from aot.run_records import PieceState


def config(*arms: dict[str, Any], dataset: str = "toy_math", **train: Any) -> RunConfig:
    text = {"teacher": {"planner": "procedural"}, "student": {"base": "tiny-text"}} if dataset == "toy_math" else {}
    return parse_config({"data": {"dataset": dataset}, "train": {"arms": arms, **train}, **text}, source="test")


SIMPLE = {"name": "pre", "order": "pre"}
ADAPTIVE = {"name": "adaptive", "order": "adaptive"}
OWN = {"name": "own", "order": "pre", "chains": "self"}
JUDGED = {"name": "judged", "order": "pre", "chains": "on_policy"}


def jobs(root: Path, *arms: dict[str, Any], **more: Any) -> list[Job]:
    return plan_jobs(RunFolder(root), config(*arms, **more))


def test_a_plain_arm_is_two_jobs_and_each_reads_what_an_earlier_one_leaves(tmp_path: Path) -> None:
    lessons, train = jobs(tmp_path, SIMPLE, max_steps=7)
    assert (lessons.name, train.name) == ("pre:lessons", "pre:train")
    assert lessons.inputs == (RunFolder(tmp_path).kept,) and train.inputs == lessons.outputs
    assert (lessons.steps, train.steps) == (0, 7)


@pytest.mark.parametrize("dataset", ["toy_math", "toy_kitchen"])
def test_every_input_is_the_kept_chains_or_what_an_earlier_job_leaves(dataset: str, tmp_path: Path) -> None:
    made = jobs(tmp_path, SIMPLE, ADAPTIVE, OWN, JUDGED, dataset=dataset, own_chains={"rounds": 2})
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


def test_an_adaptive_arm_that_labels_for_itself_goes_on_from_its_one_helper(tmp_path: Path) -> None:
    settings = {"adaptive": {"labels": "own", "folds": 5, "fold_steps": 0.5}, "max_steps": 40}
    made = {job.name: job for job in jobs(tmp_path, ADAPTIVE, **settings)}
    assert [name for name in made if "/" in name] == [
        f"adaptive/fold0:{work}" for work in ("lessons", "train", "answer")
    ]
    assert made["adaptive/fold0:train"].steps == made["adaptive:train"].steps == 40
    assert made["adaptive/fold0:train"].marker in made["adaptive:train"].inputs
    assert config(ADAPTIVE, **settings).start_of(made["adaptive:train"].student) == "adaptive/fold0"
    assert not config(ADAPTIVE).start_of(made["adaptive:train"].student)


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
    for job in jobs(tmp_path, ADAPTIVE, OWN, JUDGED):
        assert parse_arm(job.student.model_dump()) == job.student


def test_a_job_says_which_jobs_make_what_it_reads_and_how_far_it_is(tmp_path: Path) -> None:
    run, made = RunFolder(tmp_path), jobs(tmp_path, SIMPLE, OWN, own_chains={"rounds": 2})
    facts = {one.name: one for one in job_facts(run, made, prepared=True)}
    assert facts["own:lessons"].needs == ("own/round0:sample", "own/round1:sample")
    assert facts["pre:train"].needs == ("pre:lessons",) and facts["pre:train"].makes == ("student/pre/DONE",)
    assert {name for name, one in facts.items() if one.state == "ready"} == {"pre:lessons", "own/round0:lessons"}
    assert {one.state for one in job_facts(run, made, prepared=False)} == {"waits"}
    lessons = job_named(made, "pre:lessons")
    for path in (*lessons.outputs, lessons.marker):
        publish(path, "")
    publish(job_named(made, "own/round0:sample").outputs[1], "")
    states = {one.name: one.state for one in job_facts(run, made, prepared=True)}
    assert (states["pre:lessons"], states["pre:train"]) == ("done", "ready")
    assert states["own/round1:train"] == "not_needed"


def test_a_job_whose_process_is_gone_counts_as_stopped_and_a_failed_one_tells_its_error(tmp_path: Path) -> None:
    run, made = RunFolder(tmp_path), jobs(tmp_path, SIMPLE)
    lessons, train = (job_piece(run, job) for job in made)
    write_state(lessons, PieceState(state="failed", error="no such file"))
    write_state(train, PieceState(state="running", done=2, total=7))
    assert [(one.state, one.error) for one in job_facts(run, made, prepared=True)] == [
        ("failed", "no such file"), ("stopped", "it ended without a word"),
    ]  # fmt: skip
    with hold(train.lease, root=run.root, command=["aot", "train"]):
        assert job_facts(run, made, prepared=True)[1].state == "running"


def test_a_job_looks_at_the_folders_of_its_arm_its_student_and_its_inputs(tmp_path: Path) -> None:
    run, made = RunFolder(tmp_path), jobs(tmp_path, SIMPLE, ADAPTIVE, OWN, own_chains={"rounds": 2})

    def looked_at(name: str) -> list[str]:
        return sorted(path.relative_to(run.arm("")).as_posix() for path in job_folders(run, job_named(made, name)))

    assert looked_at("pre:train") == ["pre"]
    assert looked_at("adaptive:lessons") == ["adaptive", "adaptive/fold0", "adaptive/fold1"]
    assert looked_at("own/round1:sample") == ["own", "own/round1"]


FULL = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1182720 vs 1182612")


@pytest.mark.parametrize(
    ("error", "told", "state"),
    [
        (FULL, GuardStop, "stopped"),
        (OSError(errno.ENOSPC, "No space left on device"), GuardStop, "stopped"),
        (OSError(errno.EIO, "Input/output error"), RunError, "failed"),
    ],
)
def test_the_state_of_a_job_notes_what_the_user_is_told_and_its_own_log(
    error: Exception, told: type[Exception], state: str, tmp_path: Path
) -> None:
    piece = job_piece(RunFolder(tmp_path), jobs(tmp_path, SIMPLE)[1])
    with pytest.raises(told) as caught, working_on(piece):
        raise error
    noted = read_state(piece)
    assert noted and (noted.state, noted.error) == (state, str(caught.value))
    assert told is GuardStop or str(tmp_path / "jobs" / "pre" / "train.log") in noted.error


def test_an_unknown_job_is_told_with_the_nearest_name_and_all_of_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean pre:train\?") as caught:
        job_named(jobs(tmp_path, SIMPLE), "pre:trian")
    assert caught.value.lines == ("  pre:lessons", "  pre:train")
