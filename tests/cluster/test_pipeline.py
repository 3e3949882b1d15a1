"""scripts/slurm_pipeline.sh: which jobs a whole run is submitted as, and which of them wait for which."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import HEAD, ROOT, Slurm

SCRIPT = ROOT / "scripts" / "slurm_pipeline.sh"
CONFIG = """
data: {dataset: toy_math}
teacher: {planner: procedural}
student: {base: tiny-text}
train:
  arms:
    - {name: pre, order: pre}
    - {name: adaptive, order: adaptive}
"""
REAL_JOBS = """
if sys.argv[1] == "jobs":
    os.environ["PYTHONPATH"] = os.environ["FAKE_ROOT"]
    os.execv(sys.executable, [sys.executable, "-m", "aot", *sys.argv[1:]])
"""


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    """A Slurm, and an environment whose `aot` lists the true jobs."""
    (tmp_path / "own.yaml").write_text(CONFIG)
    slurm = Slurm(tmp_path)
    slurm.environment["FAKE_ROOT"] = str(ROOT)
    (tmp_path / "venv/bin/aot").write_text(HEAD.format(python=sys.executable) + REAL_JOBS)
    return slurm


def jobs(slurm: Slurm) -> dict[str, dict[str, Any]]:
    """Name of each submitted job to its options, the words inside it, and the names of those that it waits for."""
    rows = slurm.calls("sbatch")
    given = [dict(word.lstrip("-").split("=", 1) for word in row["words"] if "=" in word) for row in rows]
    names = {row["id"]: one["job-name"].removeprefix("aot-own-") for row, one in zip(rows, given, strict=True)}
    made = {}
    for row, options in zip(rows, given, strict=True):
        ids = options.get("dependency", "afterok:").removeprefix("afterok:").split(":")
        after = {names[one] for one in ids if one}
        made[names[row["id"]]] = {**options, "after": after, "inner": shlex.split(options["wrap"]), "row": row}
    return made


def test_each_part_waits_for_the_one_before_and_each_training_job_for_those_it_needs(slurm: Slurm) -> None:
    done = slurm.run("own.yaml", "--shards", "4", "--nodes", "2", "run.dir=run", script=SCRIPT)
    assert done.returncode == 0, done.stderr
    made = jobs(slurm)
    after = {name: job["after"] for name, job in made.items()}
    arrays = {"prepare-shares", "generate-shares", "evaluate-shares"}
    assert {name for name, job in made.items() if job.get("array") == "0-3"} == arrays
    assert after["prepare-shares"] == set() and after["prepare"] == {"prepare-shares"}
    assert after["generate-shares"] == {"prepare"} and after["generate"] == {"generate-shares"}
    assert after["filter"] == {"generate"}
    assert after["pre.lessons"] == {"filter"} and after["pre.train"] == {"filter", "pre.lessons"}
    answered = {f"adaptive-fold{n}.answer" for n in (0, 1)}
    assert after["adaptive.lessons"] == {"filter", "adaptive.ask_base", *answered}
    training = {name for name in made if "." in name}
    assert after["train"] == {"filter", *training} and len(training) == 11
    assert after["evaluate-shares"] == {"train"} and after["report"] == {"evaluate-shares"}
    assert all("--kill-on-invalid-dep=yes" in job["row"]["words"] for job in made.values() if job["after"])


def test_each_job_asks_for_what_its_work_needs_and_can_be_requeued(slurm: Slurm) -> None:
    slurm.run("own.yaml", "--nodes", "2", "run.dir=run", "seed=3", script=SCRIPT, SBATCH_ACCOUNT="mine")
    made = jobs(slurm)
    for name, job in made.items():
        trains, gpus = name.endswith(".train"), job.get("gpus-per-node")
        asks = name.endswith((".answer", ".ask_base", "evaluate-shares"))
        assert (job.get("nodes"), gpus) == (("2", "8") if trains else (None, "1" if asks else None)), name
        assert {"--parsable", "--requeue", "--open-mode=append", "--signal=TERM@300"} <= set(job["row"]["words"])
        assert job["row"]["site"] == {"SBATCH_ACCOUNT": "mine"}
        assert job["inner"][:4] == [
            "bash",
            str(ROOT / "scripts/distill_video.sh"),
            "--config",
            str(slurm.folder / "own.yaml"),
        ]
        assert {"--refused-ok", "seed=3", "run.dir=run"} <= set(job["inner"])
    assert made["generate-shares"]["inner"][5:10] == ["--shards", "8", "--first-shard", "0", "generate"]
    assert made["adaptive-fold0.train"]["inner"][5:8] == ["--job", "adaptive/fold0:train", "train"]
    assert made["report"]["inner"][5:7] == ["evaluate", "report"]


def test_no_array_is_larger_than_slurm_takes(slurm: Slurm) -> None:
    slurm.run("own.yaml", "--shards", "7", "run.dir=run", script=SCRIPT, FAKE_ARRAY="4")
    shares = {name: job for name, job in jobs(slurm).items() if name.startswith("generate-shares")}
    assert [job["array"] for job in shares.values()] == ["0-2", "0-2", "0-0"]
    assert [job["inner"][8] for job in shares.values()] == ["0", "3", "6"]
    assert jobs(slurm)["generate"]["after"] == set(shares)


def test_what_is_done_is_not_submitted_again(slurm: Slurm) -> None:
    run = slurm.folder / "run"
    for name, files in {"pre": ["DONE", "lessons.DONE", "lessons.jsonl"]}.items():
        (run / "student" / name).mkdir(parents=True)
        for file in files:
            (run / "student" / name / file).touch()
    slurm.run("own.yaml", "run.dir=run", script=SCRIPT)
    assert not any(name.startswith("pre.") for name in jobs(slurm)) and "adaptive.train" in jobs(slurm)
    slurm.log.unlink()
    (run / "DONE").touch()
    done = slurm.run("own.yaml", "run.dir=run", script=SCRIPT)
    assert "nothing to submit" in done.stdout and not slurm.calls("sbatch")


def test_a_dry_run_prints_each_command_and_submits_nothing(slurm: Slurm) -> None:
    (slurm.folder / "bin" / "sbatch").unlink()
    done = slurm.run("own.yaml", "--shards", "2", "run.dir=run", "--dry-run", script=SCRIPT)
    assert done.returncode == 0, done.stderr
    commands = [shlex.split(line) for line in done.stdout.splitlines() if line.startswith("sbatch ")]
    assert len(commands) == 19 and "19 submissions would be made" in done.stdout
    assert "--dependency=afterok:filter:pre.lessons" in commands[6]
    refused = slurm.run("own.yaml", script=SCRIPT, PATH="/usr/bin:/bin")
    assert refused.returncode == 2 and "no sbatch here" in refused.stderr


def test_a_dry_run_without_environment_makes_none_and_says_what_it_cannot_list(slurm: Slurm) -> None:
    shutil.rmtree(slurm.folder / "venv")
    done = slurm.run("own.yaml", "--dry-run", script=SCRIPT)
    assert done.returncode == 0 and "once the environment is made" in done.stdout, done.stderr
    assert not (slurm.folder / "venv").exists()


def test_generation_asks_for_a_gpu_where_the_config_wants_a_server_beside_it(slurm: Slurm) -> None:
    config = (
        CONFIG.replace("planner: procedural", "planner: chat")
        + "chat: {model: m, base_url: 'http://127.0.0.1:{port}/v1'}\n"
    )
    (slurm.folder / "own.yaml").write_text(config)
    refused = slurm.run("own.yaml", script=SCRIPT)
    assert refused.returncode == 2 and "AOT_SERVER" in refused.stderr and not slurm.calls("sbatch")
    done = slurm.run("own.yaml", "run.dir=run", script=SCRIPT, AOT_SERVER="vllm serve {model} --port {port}")
    assert done.returncode == 0, done.stderr
    made = jobs(slurm)
    assert made["generate-shares"]["gpus-per-node"] == "1" and "--no-server" not in made["generate-shares"]["inner"]
    for name in ("generate", "filter"):
        assert "gpus-per-node" not in made[name] and "--no-server" in made[name]["inner"]
