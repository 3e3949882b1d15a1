"""scripts/distill_video.sh as a job of Slurm, and on machines without one."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fake_slurm import ROOT, Slurm, printed_commands

STAGES = ["prepare", "generate", "filter", "train", "evaluate", "report"]


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    (tmp_path / "own.yaml").write_text("data: {dataset: toy_kitchen}\n")
    return Slurm(tmp_path)


def stages_of(words: list[str]) -> list[str]:
    return [word for word in words if word in STAGES]


def settings_of(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words if "=" in word)


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_training_runs_once_on_each_node_and_the_other_stages_on_the_first(slurm: Slurm, nodes: int) -> None:
    slurm.job(nodes=nodes)
    done = slurm.run("--config", "own.yaml")
    assert done.returncode == 0, done.stderr
    calls = slurm.calls("aot")
    training = [call for call in calls if "train" in stages_of(call["words"]) or nodes == 1]
    others = [call for call in calls if call not in training]
    assert [stages_of(call["words"]) for call in others] == ([] if nodes == 1 else [STAGES[:3], STAGES[4:]])
    assert len(training) == nodes and all(call["node"] == "0" for call in others)
    if nodes == 1:
        assert calls[0]["words"][:2] == ["run", "own.yaml"] and not stages_of(calls[0]["words"])
        return
    places = [settings_of(call["words"]) for call in training]
    assert sorted(int(place["run.node_rank"]) for place in places) == list(range(nodes))
    assert all(call["node"] == settings_of(call["words"])["run.node_rank"] for call in training)
    assert {place["train.nodes"] for place in places} == {str(nodes)}
    assert {place["run.rendezvous"] for place in places} == {f"gpu00:{10000 + 4242}"}
    assert {place["train.procs"] for place in places} == {"4"}  # one for each GPU of a node


def test_srun_gets_one_task_a_node_all_cpus_of_a_task_and_ends_all_when_one_fails(slurm: Slurm) -> None:
    slurm.job(nodes=4)
    slurm.run("--config", "own.yaml", AOT_SRUN_OPTIONS="--mpi=none --exact")
    first, training, last = slurm.calls("srun")
    assert training["options"]["nodes"] == training["options"]["ntasks"] == "4"
    assert training["options"]["nodelist"] == "gpu00,gpu01,gpu02,gpu03"
    for step in (first, training, last):
        assert {"kill-on-bad-exit": "1", "wait": "60", "cpus-per-task": "16", "mpi": "none"}.items() <= step[
            "options"
        ].items()
        assert "--exact" in step["flags"] and ("--label" in step["flags"]) == (step is training)
    assert first["options"]["nodelist"] == last["options"]["nodelist"] == "gpu00"


@pytest.mark.parametrize("job", [1, 19_999, 20_000, 67_108_863])
def test_the_port_follows_from_the_number_of_the_job_and_lies_below_those_that_systems_give_away(
    slurm: Slurm, job: int
) -> None:
    slurm.job(nodes=2, id=job)
    slurm.run("--config", "own.yaml", "train")
    port = int(settings_of(slurm.calls("aot")[0]["words"])["run.rendezvous"].rpartition(":")[2])
    assert port == 10_000 + job % 20_000 and 1024 < port < 32_768


def test_part_of_a_job_can_train_and_more_than_it_has_is_refused(slurm: Slurm) -> None:
    slurm.job(nodes=4)
    assert slurm.run("--config", "own.yaml", "--nodes", "2", "train").returncode == 0
    assert slurm.calls("srun")[0]["options"]["nodelist"] == "gpu00,gpu01"
    done = slurm.run("--config", "own.yaml", "--nodes", "5")
    assert done.returncode == 2 and "more than the 4 of this job" in done.stderr


@pytest.mark.parametrize("hint", ["FAKE_COMMAND", "SLURM_SUBMIT_DIR", "AOT_CLONE"])
def test_the_copy_that_sbatch_makes_of_the_script_finds_its_clone(slurm: Slurm, hint: str) -> None:
    spool = slurm.folder / "spool"
    spool.mkdir()
    copy = Path(shutil.copy(ROOT / "scripts/distill_video.sh", spool / "slurm_script"))
    slurm.job()
    done = slurm.run("--config", "own.yaml", script=copy)
    assert done.returncode == 2 and "AOT_CLONE" in done.stderr
    value = str(ROOT / "scripts/distill_video.sh") if hint == "FAKE_COMMAND" else str(ROOT)
    done = slurm.run("--config", "own.yaml", script=copy, **{hint: value})
    assert done.returncode == 0, done.stderr
    assert f"run.dir={ROOT}/runs/own" in slurm.calls("aot")[0]["words"]


def test_a_stopped_job_is_requeued_and_says_how_often_it_was(slurm: Slurm) -> None:
    slurm.job(nodes=2, SLURM_RESTART_COUNT="3")
    done = slurm.run("--config", "own.yaml", FAKE_CODES='{"train": 4}')
    assert done.returncode == 4 and "restart 3 of at most 20" in done.stderr and "restart 4 of" in done.stderr
    assert [call["words"] for call in slurm.calls("scontrol")] == [["requeue", "4242"]]
    assert not any("report" in call["words"] for call in slurm.calls("aot"))


@pytest.mark.parametrize(
    ("codes", "more", "why"),
    [
        ('{"train": 4}', {"SLURM_RESTART_COUNT": "20"}, "it was 20 times already"),
        ('{"train": 4}', {"AOT_REQUEUE": "0"}, "AOT_REQUEUE is 0"),
        ('{"train": 4}', {"AOT_SHORTEST_LIFE_S": "600"}, "would do so again"),
        ('{"train": 2}', {}, "ended with code 2"),
        ("{}", {}, "ended with code 0"),
    ],
)
def test_a_job_is_not_requeued_without_end_nor_to_no_purpose(
    slurm: Slurm, codes: str, more: dict[str, str], why: str
) -> None:
    slurm.job(nodes=2)
    done = slurm.run("--config", "own.yaml", FAKE_CODES=codes, **more)
    assert why in done.stderr and not slurm.calls("scontrol")


def test_a_file_that_asks_to_stop_keeps_a_job_from_being_requeued(slurm: Slurm) -> None:
    slurm.job()
    (slurm.folder / "run").mkdir()
    stop = slurm.folder / "run" / "STOP"
    stop.touch()
    os.utime(stop, (2_000_000_000, 2_000_000_000))
    done = slurm.run("--config", "own.yaml", "run.dir=run", "train", FAKE_CODES='{"train": 4}')
    assert done.returncode == 4 and "run/STOP was touched" in done.stderr and not slurm.calls("scontrol")
    os.utime(stop, (1, 1))  # one that was there before this life
    slurm.run("--config", "own.yaml", "run.dir=run", "train", FAKE_CODES='{"train": 4}')
    assert slurm.calls("scontrol")


def test_refused_inputs_stop_no_stage_and_with_refused_ok_no_job_that_waits(slurm: Slurm) -> None:
    slurm.job(nodes=2)
    assert slurm.run("--config", "own.yaml", FAKE_CODES='{"prepare": 3}').returncode == 3
    assert stages_of(slurm.calls("aot")[-1]["words"]) == ["evaluate", "report"]
    assert slurm.run("--config", "own.yaml", "--refused-ok", FAKE_CODES='{"prepare": 3}').returncode == 0


def test_a_signal_to_the_script_reaches_the_stage_and_the_job_comes_back(slurm: Slurm) -> None:
    slurm.job()
    (slurm.folder / "waits").touch()
    command = ["bash", str(ROOT / "scripts/distill_video.sh"), "--config", "own.yaml", "train"]
    with subprocess.Popen(command, cwd=slurm.folder, env=slurm.environment, stderr=subprocess.PIPE) as script:
        while not (slurm.folder / "begun").exists():
            assert script.poll() is None
            time.sleep(0.01)
        script.send_signal(signal.SIGTERM)
        assert script.wait(timeout=60) == 4
    assert [call["words"] for call in slurm.calls("scontrol")] == [["requeue", "4242"]]


def test_a_task_of_an_array_does_its_share_and_a_job_of_the_list_its_own(slurm: Slurm) -> None:
    slurm.job(SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_JOB_ID="4240")
    slurm.run("--config", "own.yaml", "--shards", "2000", "--first-shard", "1000", "generate")
    slurm.run("--config", "own.yaml", "--job", "distilled:lessons", "train", "seed=1")
    share, job = (call["words"] for call in slurm.calls("aot"))
    assert share[:4] == ["generate", "own.yaml", "--shard", "1003/2000"]
    assert job[:4] == ["train", "own.yaml", "--job", "distilled:lessons"] and "seed=1" in job


def test_a_job_of_a_finished_run_asks_once_whether_it_is_and_ends(slurm: Slurm) -> None:
    slurm.job(nodes=4, SLURM_RESTART_COUNT="1")
    (slurm.folder / "run").mkdir()
    (slurm.folder / "run" / "DONE").touch()
    done = slurm.run("--config", "own.yaml", "run.dir=run")
    assert done.returncode == 0 and "which is finished" in done.stderr
    assert [call["words"][:2] for call in slurm.calls("aot")] == [["run", "own.yaml"]]


@pytest.mark.parametrize("nodes", [1, 4])
def test_a_dry_run_in_a_job_prints_what_the_run_then_does_and_starts_nothing(slurm: Slurm, nodes: int) -> None:
    slurm.job(nodes=nodes)
    dry = slurm.run("--config", "own.yaml", "--zero", "2", "--limit", "5", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert not slurm.calls("srun") and [call["words"][2] for call in slurm.calls("aot")] == ["--dry-run"]
    slurm.log.unlink()
    slurm.run("--config", "own.yaml", "--zero", "2", "--limit", "5")
    steps = slurm.calls("srun")
    printed = printed_commands(dry.stdout)
    assert [words[-len(step["command"]) :] for words, step in zip(printed, steps, strict=True)] == [
        step["command"] for step in steps
    ]
    assert f"{nodes} node(s) with 4 process(es) each" in dry.stdout and "4 GPU(s), 16 CPU(s)" in dry.stdout


def test_a_dry_run_and_help_need_neither_environment_nor_allocation(slurm: Slurm) -> None:
    shutil.rmtree(slurm.folder / "venv")
    dry = slurm.run("--config", "own.yaml", "--nodes", "4", "--dry-run")
    assert dry.returncode == 0 and "would be made first" in dry.stdout, dry.stderr
    first, training, last = printed_commands(dry.stdout)
    assert "--nodes=4" in training and "run.rendezvous=FIRST_NODE:PORT" in training and "train.procs=8" in training
    assert all("--nodes=1" in words for words in (first, last))
    assert "--signal=TERM@300" in dry.stdout and "--gpus-per-node=8" in dry.stdout
    assert not (slurm.folder / "venv").exists() and not slurm.log.exists()
    assert "--node-rank" in slurm.run("--help").stdout


def test_the_head_of_the_script_asks_to_be_requeued_and_told_in_time() -> None:
    lines = [
        line for line in (ROOT / "scripts/distill_video.sh").read_text().splitlines() if line.startswith("#SBATCH")
    ]
    words = " ".join(lines).split()
    assert {"--requeue", "--open-mode=append", "--signal=TERM@300", "--ntasks-per-node=1"} <= set(words)
    assert not any(word.startswith(("--partition", "--account")) for word in words)


def test_site_settings_are_read_and_a_container_needs_no_environment(slurm: Slurm) -> None:
    site = slurm.folder / "site.env"
    site.write_text(f'AOT_COMMAND="env IN_CONTAINER=1 {slurm.folder}/venv/bin/aot"\nAOT_PORT=12345\n')
    for stamp in (slurm.folder / "venv").glob(".ready-*"):
        stamp.unlink()
    slurm.job(nodes=2)
    done = slurm.run("--config", "own.yaml", "train", AOT_SLURM_ENV=str(site))
    assert done.returncode == 0 and str(site) in done.stderr, done.stderr
    assert slurm.calls("srun")[0]["command"][4:6] == ["env", "IN_CONTAINER=1"]
    assert settings_of(slurm.calls("aot")[0]["words"])["run.rendezvous"] == "gpu00:12345"


def test_machines_without_slurm_get_their_place_from_the_environment_or_from_options(slurm: Slurm) -> None:
    arguments = ("--config", "own.yaml", "--nodes", "2", "--procs", "3")
    told = {"AOT_NODE_RANK": "1", "MASTER_ADDR": "10.0.0.7", "RANK": "1", "WORLD_SIZE": "2"}
    assert slurm.run(*arguments, **told).returncode == 0
    assert slurm.run(*arguments, "--node-rank", "0", "--rendezvous", "10.0.0.7:29500").returncode == 0
    places = [settings_of(call["words"]) for call in slurm.calls("aot")]
    assert [place["run.node_rank"] for place in places] == ["1", "0"] and not slurm.calls("srun")
    for place in places:
        assert (place["run.rendezvous"], place["train.nodes"], place["train.procs"]) == ("10.0.0.7:29500", "2", "3")
    refused = slurm.run(*arguments)
    assert refused.returncode == 2 and "sbatch --nodes=2" in refused.stderr


@pytest.mark.parametrize(
    "wrong",
    [("--nodes", "0"), ("--zero", "4"), ("--job", "a:train"), ("--shards", "2"), ("--nodes", "2", "--node-rank", "x")],
)
def test_a_wrong_argument_exits_2_before_anything_is_begun(slurm: Slurm, wrong: tuple[str, ...]) -> None:
    done = slurm.run("--config", "own.yaml", *wrong)
    assert done.returncode == 2 and "distill_video.sh:" in done.stderr and not slurm.log.exists()


def test_a_script_that_srun_starts_many_times_is_refused(slurm: Slurm) -> None:
    slurm.job(nodes=2, SLURM_STEP_NUM_TASKS="2")
    done = slurm.run("--config", "own.yaml")
    assert done.returncode == 2 and "not with srun" in done.stderr


@pytest.mark.parametrize("nodes", [1, 4])
def test_the_dry_runs_in_the_docs_are_what_the_script_prints(slurm: Slurm, nodes: int) -> None:
    shown = (
        (ROOT / "docs/cluster.md").read_text().partition(f"<!-- dry run: {nodes} -->\n```text\n")[2].partition("```")[0]
    )
    command, _, expected = shown.partition("\n")
    slurm.environment["AOT_VENV"] = f"{ROOT}/no-environment"
    dry = subprocess.run(
        shlex.split(command.removeprefix("$ ")),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=slurm.environment,
    )
    printed = dry.stdout.replace(str(ROOT), "/shared/me/aot-distill").replace("no-environment", ".venv")
    assert printed == expected
