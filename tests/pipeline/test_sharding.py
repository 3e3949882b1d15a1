"""Shards of prepare and generate: side by side in processes of their own, killed, put together, and what is refused."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from settings_recorder import unless_given

from aot.cli.runs import RANKS, with_shard
from aot.config import RunConfig, load_config
from aot.errors import ConfigError, RunError
from aot.files import pieces
from aot.files.lease import hold
from aot.files.pieces import write_state
from aot.files.run_folder import RunFolder, read_rows, stage_done
from aot.files.shards import Shard, read_states, shard_piece, shard_states
from aot.files.traces import read_traces
from aot.generate.todo import pending_questions
from aot.pipeline import run_stages
from aot.pipeline.commands.plan import plan_lines
from aot.pipeline.commands.status import status_lines
from aot.records import Question
from aot.run_records import PieceState

ROOT = Path(__file__).parents[2]
CONFIG = """
data:
  dataset: toy_kitchen
  toy: {train_clips: 5, test_clips: 3, test_ood_clips: 1}
frames: {shard_clips: 2, workers: 1}
teacher: {workers: 1}
"""
Generate = Callable[..., tuple[RunFolder, int]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "config.yaml").write_text(CONFIG)
    settings(folder, "prepare")
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "work"))


def settings(folder: Path, stage: str, *overrides: str) -> RunFolder:
    """Do one stage in this process."""
    settings = (*unless_given((f"run.dir={folder / 'run'}",), overrides), *overrides)
    config: RunConfig = load_config(folder / "config.yaml", overrides=settings)
    run, code = run_stages(config, config_path=folder / "config.yaml", command=["aot"], stages=(stage,))
    assert code == 0
    return run


def started(folder: Path, shard: str, *, stage: str = "generate") -> subprocess.Popen[str]:
    """A shard in a process of its own."""
    command = [sys.executable, "-m", "aot", stage, str(folder / "config.yaml"), f"run.dir={folder / 'run'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, f"run.shard={shard}"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )


def missing(run: RunFolder) -> list[Shard]:
    return [one.shard for one in shard_states(run, "generate") if not one.is_done]


def papers(run: RunFolder) -> list[bytes]:
    return [path.read_bytes() for path in (run.config, run.run_json, run.log)]


def test_a_shard_is_worked_on_once_at_a_time_and_others_beside_it(folder: Path) -> None:
    run, shard = RunFolder(folder / "run"), Shard(0, 2)
    write_state(shard_piece(run, "generate", Shard(0, 2)), PieceState(state="running", done=1, total=4))
    with hold(shard_piece(run, "generate", shard).lease, root=run.root, command=["aot", "generate", "--shard", "0/2"]):
        with pytest.raises(RunError, match=r"in use by `aot generate --shard 0/2` \(pid"):
            settings(folder, "generate", "run.shard=0/2")
        settings(folder, "generate", "run.shard=1/2")
        assert "    in use by `aot generate --shard 0/2`" in "\n".join(status_lines(run.root))
    settings(folder, "generate", "run.shard=0/2")
    assert missing(run) == [] and list(run.shards_of("generate").glob("*.lease")) == []


def test_the_whole_run_is_not_generated_while_a_shard_is_at_work(folder: Path) -> None:
    run = RunFolder(folder / "run")
    with (
        hold(shard_piece(run, "generate", Shard(2, 3)).lease, root=run.root, command=["aot", "generate"]),
        pytest.raises(RunError, match=r"in use by .*, generate shard 2/3, last sign of life"),
    ):
        settings(folder, "generate")
    settings(folder, "generate")
    assert stage_done(run, "generate")


def test_no_shard_begins_while_a_command_works_on_the_whole_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "WAIT_S", 0.0)
    run = RunFolder(folder / "run")
    with (
        hold(run.lease, root=run.root, command=["aot", "run", "x.yaml"]),
        pytest.raises(RunError, match=r"in use by `aot run x.yaml`"),
    ):
        settings(folder, "generate", "run.shard=0/2")
    assert list(run.shards_of("generate").glob("*")) == []


def test_two_shards_at_once_a_kill_and_all_together_give_the_traces_of_one_process(
    folder: Path, prepared: Path
) -> None:
    run = RunFolder(folder / "run")
    before = papers(run)
    first, second = started(folder, "0/2"), started(folder, "1/2")
    while not run.traces.exists() or not any(path.stat().st_size for path in run.traces.glob("part-1of2*")):
        time.sleep(0.001)  # so that what is waited for has this core
    second.send_signal(signal.SIGKILL)
    second.wait()
    assert first.wait() == 0
    assert papers(run) == before
    assert missing(run) == [Shard(1, 2)]
    with pytest.raises(RunError, match=r"aot generate .* --shard 1/2"):
        settings(folder, "generate")
    assert any("1 of 2 done, 1 begun" in line for line in status_lines(run.root))
    again = started(folder, "1/2")
    assert again.wait() == 0, again.stderr
    assert (run.shards_of("generate") / "1of2.log").exists()

    rows = {path: path.read_bytes() for path in run.traces.iterdir()}
    settings(folder, "generate")
    assert stage_done(run, "generate")
    assert {path: path.read_bytes() for path in run.traces.iterdir()} == rows
    ids = [trace.question_id for trace in read_traces(run)]
    assert sum(len(row.splitlines()) for row in rows.values()) == len(ids) == len(set(ids))

    whole = folder / "whole"
    shutil.copytree(prepared, whole)
    expected = [trace.timeless() for trace in read_traces(settings(whole, "generate"))]
    assert [trace.timeless() for trace in read_traces(run)] == expected


def test_a_finished_shard_does_nothing_and_says_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunFolder(folder / "run")
    write_state(shard_piece(run, "generate", Shard(0, 2)), PieceState(state="done"))
    before = (run.shards_of("generate") / "0of2.json").read_bytes()
    with caplog.at_level("INFO"):
        settings(folder, "generate", "run.shard=0/2")
    assert "generate shard 0/2: finished before, nothing to do" in caplog.text
    assert (run.shards_of("generate") / "0of2.json").read_bytes() == before


def test_another_number_of_shards_is_refused(folder: Path) -> None:
    write_state(shard_piece(RunFolder(folder / "run"), "generate", Shard(0, 4)), PieceState(state="done"))
    with pytest.raises(RunError, match="split in 4 shards"):
        settings(folder, "generate", "run.shard=0/2")
    config = load_config(folder / "config.yaml", overrides=[f"run.dir={folder / 'run'}"])
    assert any("note: 1 of 4 shards of generate are done" in line for line in plan_lines(config, config_path=folder))


def test_a_shard_needs_a_prepared_run_of_the_same_settings(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"other settings .teacher.candidates: 3 there, 1 now"):
        settings(folder, "generate", "run.shard=0/2", "teacher.candidates=1")
    with pytest.raises(RunError, match="aot prepare"):
        settings(folder, "generate", "run.shard=0/2", f"run.dir={tmp_path / 'empty'}")
    assert not (tmp_path / "empty").exists()


def test_a_shard_is_of_a_stage_that_splits(folder: Path) -> None:
    with pytest.raises(ConfigError, match="one of prepare, generate, evaluate"):
        settings(folder, "filter", "run.shard=0/2")


def test_shards_share_out_whole_clips_and_every_question_once(folder: Path) -> None:
    questions = list(read_rows(RunFolder(folder / "run").questions, Question))
    clips = {question.media.uri for question in questions if question.media}
    owners = {clip: [i for i in range(3) if Shard(i, 3).owns(clip)] for clip in clips}
    assert set(map(len, owners.values())) == {1}
    assert len({owner for (owner,) in owners.values()}) > 1
    pending = [pending_questions(RunFolder(folder / "run"), Shard(i, 3)) for i in range(3)]
    assert sum(one.total for one in pending) == len(questions)
    assert all(owners[place.key] == [i] for i, one in enumerate(pending) for place in one.places)


def test_who_owns_a_question_is_the_same_on_every_machine() -> None:
    assert [i for i in range(12) if Shard(0, 3).owns(f"clip{i}.mp4")] == [0, 2, 4, 6]


@pytest.mark.parametrize("text", ["8/8", "1", "a/b", "-1/4", "0/0", "1/2/3"])
def test_what_names_no_shard_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError, match="shard is"):
        Shard.of(text)


def test_missing_shards_are_those_that_never_began_and_those_that_did_not_end(folder: Path) -> None:
    run = RunFolder(folder / "run")
    assert missing(run) == []
    write_state(shard_piece(run, "generate", Shard(0, 3)), PieceState(state="done", done=4, total=4))
    write_state(
        shard_piece(run, "generate", Shard(1, 3)),
        PieceState(state="stopped", done=1, total=4, error="stopped by SIGTERM"),
    )
    assert missing(run) == [Shard(1, 3), Shard(2, 3)]
    assert [state.done for state in read_states(run, "generate").values()] == [4, 1]
    lines = "\n".join(status_lines(run.root))
    assert "1/3       stopped   1/4" in lines
    assert "missing: 2/3" in lines


def published(run: RunFolder) -> dict[str, bytes]:
    """What prepare leaves behind, by its place in the run folder."""
    paths = [run.questions, run.annotations, run.refusals, *run.frames.iterdir(), *run.clips.iterdir()]
    return {path.relative_to(run.root).as_posix(): path.read_bytes() for path in paths}


def test_two_shards_of_prepare_at_once_and_one_that_was_killed_give_the_bytes_of_one_process(
    prepared: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copy(prepared / "config.yaml", tmp_path)
    both = [started(tmp_path, shard, stage="prepare") for shard in ("0/3", "1/3")]
    assert [one.wait() for one in both] == [0, 0], [one.stderr and one.stderr.read() for one in both]
    assert run.config.exists() and not run.run_json.exists() and not run.log.exists()
    assert sorted(path.name for path in run.frames.glob("*.safetensors")) == [
        f"shard-{number:05d}.safetensors" for number in (0, 1, 3, 4)
    ]
    assert any("2 of 3 done, 0 begun, 1 missing" in line for line in status_lines(run.root))
    with pytest.raises(RunError, match=r"aot prepare .* --shard 2/3"):
        settings(tmp_path, "prepare")

    last = started(tmp_path, "2/3", stage="prepare")
    while not shard_piece(run, "prepare", Shard(2, 3)).lease.exists():
        time.sleep(0.001)  # so that what is waited for has this core
    last.send_signal(signal.SIGKILL)
    last.wait()
    (run.frames / ".shard-00001.json.1.tmp").touch()  # such as a shard beside this one may be writing
    settings(tmp_path, "prepare", "run.shard=2/3")
    assert (run.frames / ".shard-00001.json.1.tmp").exists()
    settings(tmp_path, "prepare")
    assert stage_done(run, "prepare")
    assert published(run) == published(RunFolder(prepared / "run"))


def test_a_shard_of_prepare_takes_the_settings_of_the_first_one(prepared: Path, tmp_path: Path) -> None:
    shutil.copy(prepared / "config.yaml", tmp_path)
    settings(tmp_path, "prepare", "run.shard=0/9")
    with pytest.raises(RunError, match=r"other settings .seed: 0 there, 1 now.*every shard"):
        settings(tmp_path, "prepare", "run.shard=1/9", "seed=1")
    with pytest.raises(ConfigError, match=r"run.reuse takes over"):
        settings(tmp_path, "prepare", "run.shard=1/9", f"run.reuse={prepared / 'run'}")


def test_a_shard_without_a_file_of_frames_does_nothing_and_says_so(
    prepared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(prepared / "config.yaml", tmp_path)
    with caplog.at_level("INFO"):
        settings(tmp_path, "prepare", "run.shard=8/9")
        settings(tmp_path, "prepare", "run.shard=8/9")
    assert "shard 8/9: nothing to do: 9 clips go into 5 files of frames" in caplog.text
    assert "prepare shard 8/9: finished before, nothing to do" in caplog.text


def test_the_shard_of_a_rank_is_told_by_torchrun_or_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in RANKS:
        for name in names:
            monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"neither RANK/WORLD_SIZE nor SLURM_PROCID/SLURM_NTASKS is set"):
        with_shard(["seed=1"], "rank")
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert with_shard(["seed=1"], "rank") == ["seed=1", "run.shard=3/4"]
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert with_shard(None, "rank") == ["run.shard=1/2"]
    assert with_shard(None, "0/8") == ["run.shard=0/8"] and with_shard(None, None) == []
