"""Shards of the evaluation: killed, in two processes at once, united, they give what one process gives."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from settings_recorder import unless_given

from aot import STAGES
from aot.config import load_config
from aot.errors import RunError
from aot.files.pieces import write_state
from aot.files.run_folder import RunFolder, read_rows, stage_done
from aot.files.shards import Shard, shard_piece
from aot.pipeline import run_stages
from aot.pipeline.commands.status import status_lines
from aot.records import Prediction
from aot.run_records import PieceState

CONFIG = """
data: {dataset: toy_math, math: {train: 24, test: 20, test_ood: 2}}
teacher: {planner: procedural}
student: {base: tiny-text, max_tokens: 512, max_answer_tokens: 6, max_rationale_tokens: 12, device: cpu}
train:
  max_steps: 2
  questions_per_step: 4
  questions_per_device: 4
  arms: [{name: pre, order: pre}, {name: answers_only, order: answers_only}]
filter: {min_kept: 1}
evaluate: {splits: [test, ood_terms], batch_size: 1, bootstrap_samples: 100}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and a run in which everything before the evaluation is done."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "config.yaml").write_text(CONFIG)
    stages(folder, *STAGES[: STAGES.index("evaluate")])
    return folder


@pytest.fixture(scope="module")
def alone(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The same run, evaluated by one process that nobody disturbed."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("alone") / "work"))
    return stages(folder, "evaluate")


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "work"))


def stages(folder: Path, *names: str, overrides: Iterable[str] = ()) -> RunFolder:
    settings = (*unless_given((f"run.dir={folder / 'run'}",), tuple(overrides)), *overrides)
    config = load_config(folder / "config.yaml", overrides=settings)
    run, code = run_stages(config, config_path=folder / "config.yaml", command=["aot"], stages=names)
    assert code == 0
    return run


def said(run: RunFolder) -> dict[str, list[Prediction]]:
    """Every prediction file without wall times, which no two processes share."""
    return {
        path.name: [row.model_copy(update={"latency_s": 0.0}) for row in read_rows(path, Prediction)]
        for path in sorted(run.predictions.glob("*.jsonl"))
    }


def test_shards_one_killed_and_one_of_two_processes_give_what_one_process_gives(folder: Path, alone: RunFolder) -> None:
    run = RunFolder(folder / "run")
    papers = [path.read_bytes() for path in (run.config, run.run_json, run.log)]
    for shard in ("0/3", "1/3"):
        stages(folder, "evaluate", overrides=[f"run.shard={shard}"])
    parts = {path.name for path in run.prediction_parts.iterdir()}
    assert parts == {"part-0of3.jsonl", "part-1of3.jsonl"} and not run.metrics.exists()
    assert [path.read_bytes() for path in (run.config, run.run_json, run.log)] == papers
    assert any("2 of 3 done, 0 begun, 1 missing" in line for line in status_lines(run.root))
    with pytest.raises(RunError, match=r"aot evaluate .* --shard 2/3"):
        stages(folder, "evaluate")

    # What kill -9 leaves of a shard: a part whose last line is half, and a state that says it runs.
    part = run.prediction_parts / "part-1of3.jsonl"
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    write_state(shard_piece(run, "evaluate", Shard(1, 3)), PieceState(state="running"))
    rows_kept = part.read_bytes().rpartition(b"\n")[0]
    stages(folder, "evaluate", overrides=["run.shard=1/3"])
    stages(folder, "evaluate", overrides=["run.shard=2/3", "evaluate.procs=2"])
    assert {path.name for path in run.prediction_parts.iterdir()} == {*parts, "part-2of3-0.jsonl", "part-2of3-1.jsonl"}
    assert part.read_bytes().startswith(rows_kept)

    stages(folder, "evaluate")
    assert stage_done(run, "evaluate") and not run.prediction_parts.exists()
    assert said(run) == said(alone)
    assert run.metrics.read_bytes() == alone.metrics.read_bytes()


def test_a_finished_shard_and_a_finished_stage_do_nothing_and_say_so(
    folder: Path, alone: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        stages(folder, "evaluate", overrides=["run.shard=0/2"])
        before = (folder / "run" / "predictions" / "parts" / "part-0of2.jsonl").read_bytes()
        stages(folder, "evaluate", overrides=["run.shard=0/2"])
        assert (folder / "run" / "predictions" / "parts" / "part-0of2.jsonl").read_bytes() == before
        stages(alone.root.parent, "evaluate", overrides=["run.shard=0/2"])
    assert "evaluate shard 0/2: finished before, nothing to do" in caplog.text
    assert "evaluate: finished before as a whole, nothing to do" in caplog.text


def test_a_shard_needs_trained_students(folder: Path) -> None:
    (RunFolder(folder / "run").arm("pre") / "DONE").unlink()
    with pytest.raises(RunError, match=r"prepare, generate, filter, train are done.*aot train"):
        stages(folder, "evaluate", overrides=["run.shard=0/2"])
