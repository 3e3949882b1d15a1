"""The whole text job, with the video packages out of reach."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import settings_recorder
from settings_recorder import unless_given, unlike_the_table

from aot.config import load_saved
from aot.files.run_folder import RunFolder, read_rows
from aot.files.traces import read_faults, read_traces
from aot.records import MetricRow, Prediction, Trace

ROOT = Path(__file__).parents[2]
CONFIG = "configs/text/tiny_math_tiny.yaml"
SETTINGS = (
    "data.math={train: 60, test: 12, test_ood: 4}",
    "train.max_steps=4",
    "train.save_steps=2",
    "train.adaptive.labelled=8",
    "student.max_rationale_tokens=24",
)
NO_HELPERS = ("train.adaptive={}", "train.own_chains={}")
"""For runs without the arms that read these sections."""
WITHOUT_VIDEO = """
import sys
for name in ("av", "cv2", "decord", "torchvision"):
    sys.modules[name] = None
sys.path.insert(0, RECORDER_FOLDER)
import settings_recorder
settings_recorder.cli.main()
""".replace("RECORDER_FOLDER", repr(str(Path(settings_recorder.__file__).parent)))
READ_IDLY = [
    "AnswersArm.granularity",
    "ChainsArm.names",
    "RunSection.node_rank",
    "RunSection.rendezvous",
    "SpanWeights.call",
    "StudentConfig.frame_view",
    "StudentConfig.num_frames",
    "TrainConfig.early_stop",
    "TrainConfig.epochs",
    "TrainConfig.frame_cache_mb",
]
"""Noted in the contract of a student, or handed to what would keep frames, and of no effect where no frame is shown or
named; or asked for, and not set: one machine trains alone, for a number of steps, no arm calls tools, one without
chains chooses none, and nothing is held out."""
pytestmark = pytest.mark.slow


def aot(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_VIDEO, *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=env)


def job(folder: Path, *settings: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return aot("run", CONFIG, f"run.dir={folder}", *unless_given(SETTINGS, settings), *settings, **environment)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that noted which settings it reads, in the file beside it."""
    folder = tmp_path_factory.mktemp("text_job") / "run"
    done = job(folder, SETTINGS_READ=str(folder.with_name("read.txt")))
    assert done.returncode == 0, done.stderr
    return RunFolder(folder)


def test_the_run_read_the_settings_that_the_table_says_and_no_other(finished: RunFolder) -> None:
    unread, unsaid = unlike_the_table(load_saved(finished.config), finished.root.with_name("read.txt"))
    assert (unread, unsaid) == ([], READ_IDLY)


def metrics(run: RunFolder) -> list[MetricRow]:
    return [MetricRow.model_validate(row) for row in json.loads(run.metrics.read_text())]


def test_the_job_runs_without_any_video_package_and_reports_every_arm(finished: RunFolder) -> None:
    arms = {row.arm for row in metrics(finished) if row.metric == "accuracy" and row.split == "test"}
    orders = {"base", "answers_only", "pre", "post", "adaptive", "self", "teacher"}
    assert arms >= orders | {"wrong_content", "shuffled", "deleted", "pre_full"}
    report = finished.report.read_text()
    assert all(arm in report for arm in arms)


def test_every_accuracy_has_n_and_interval(finished: RunFolder) -> None:
    rows = [row for row in metrics(finished) if row.metric == "accuracy"]
    assert rows and all(row.n > 0 and row.low <= row.value <= row.high for row in rows)


def test_an_adaptive_prediction_tells_its_choice_and_how_sure_it_was(finished: RunFolder) -> None:
    rows = list(read_rows(finished.predictions / "adaptive-adaptive.jsonl", Prediction))
    assert len(rows) == 16
    assert all(row.thought and sum(row.thought_probs) == pytest.approx(1.0) for row in rows)


def test_every_question_has_a_coarse_and_a_fine_chain(finished: RunFolder) -> None:
    traces = list(read_traces(finished))
    assert [trace.granularity for trace in traces] == ["coarse", "fine"] * (len(traces) // 2)


def test_planted_faults_are_all_dropped_and_nothing_else_is(finished: RunFolder) -> None:
    planted = {(fault.question_id, fault.sample_index) for fault in read_faults(finished)}
    dropped = {(trace.question_id, trace.sample_index) for trace in read_rows(finished.dropped, Trace)}
    assert planted and dropped == planted


def test_a_rerun_does_nothing(finished: RunFolder) -> None:
    done = job(finished.root)
    assert done.returncode == 0 and done.stderr.count("nothing to do") == 6


def test_rounds_of_own_chains_are_told_and_the_last_row_is_the_student_itself(finished: RunFolder) -> None:
    rounds = json.loads((finished.arm("self") / "rounds.json").read_text())
    assert [row["round"] for row in rounds] == [0, 1] and all(row["n"] == 12 for row in rounds)
    assert [row["sampled"] > 0 for row in rounds] == [True, False]


def test_a_chat_teacher_without_a_chat_model_is_refused_before_any_work(tmp_path: Path) -> None:
    done = job(tmp_path / "run", "teacher={planner: chat}")
    assert done.returncode == 2 and "needs a section `chat`" in done.stderr
    assert not (tmp_path / "run" / "questions.jsonl").exists()


def test_a_video_arm_in_a_text_run_is_refused(tmp_path: Path) -> None:
    done = job(tmp_path / "run", "train.arms=[{name: a}]", *NO_HELPERS)
    assert done.returncode == 2 and "order of arm a is 'both'" in done.stderr


def test_own_files_are_trained_on_with_their_own_solutions(tmp_path: Path) -> None:
    rows = [
        {"question": f"What is {n} + 2?", "answer": str(n + 2), "rationale": f"{n} + 2 = {n + 2}."} for n in range(40)
    ]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = job(
        tmp_path / "run", "data={dataset: text_jsonl, files: {train: sums.jsonl, test_share: 0.3}}",
        f"data.root={tmp_path}", "teacher={planner: given}", "train.arms=[{name: pre, order: pre}]", *NO_HELPERS,
        "evaluate.splits=[test]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert RunFolder(tmp_path / "run").report.exists()


def test_dry_run_counts_and_starts_nothing(tmp_path: Path) -> None:
    done = job(tmp_path / "run", "--dry-run")
    assert done.returncode == 0 and "train: 60 questions" in done.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.timeout(900)
def test_kills_at_random_moments_change_nothing(finished: RunFolder, tmp_path: Path) -> None:
    # With this seed both kills come before the job ends, so that no other run has to be begun for the second.
    command = [sys.executable, "scripts/check_kills.py", CONFIG, "--kills", "2", "--seed", "16"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path), "--calm", str(finished.root), *SETTINGS],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
