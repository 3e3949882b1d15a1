import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import settings_recorder
from settings_recorder import unless_given, unlike_the_table

from aot import STAGES
from aot.config import load_saved
from aot.files.run_folder import PUBLISHED, RunFolder, missing_files
from aot.records import MetricRow

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "data.toy={train_clips: 8, test_clips: 3, test_ood_clips: 2}",
    "filter.min_kept=1",
    "train.max_steps=4",
    "train.questions_per_step=4",
    "train.questions_per_device=4",
    "train.save_steps=2",
    "student.max_rationale_tokens=24",
    "evaluate.bootstrap_samples=200",
    "teacher.faults={rate: 0.37}",
)
RECORDER = settings_recorder.__file__
READ_IDLY = [
    "ChainsArm.granularity",
    "EvaluateConfig.every_way",
    "FilterConfig.leak_jaccard",
    "RunSection.node_rank",
    "RunSection.rendezvous",
    "SpanWeights.call",
    "StudentConfig.think_tags",
    "ToyKitchenConfig.card",
    "TrainConfig.early_stop",
]
"""Looked at, and of no effect: no question here is without a clip, no model takes text only, one machine trains alone,
no arm calls tools, chooses how to answer or learns one of several chains, no question is about a card, and nothing is
held out."""
pytestmark = pytest.mark.slow


def aot(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aot", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def job(folder: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    return aot(
        "run", "configs/video/toy_kitchen_tiny.yaml", f"run.dir={folder}", *unless_given(SETTINGS, settings), *settings
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that noted which settings it reads, in the file beside it."""
    folder = tmp_path_factory.mktemp("job") / "run"
    command = [sys.executable, RECORDER, "run", "configs/video/toy_kitchen_tiny.yaml", f"run.dir={folder}", *SETTINGS]
    noting = {**os.environ, "SETTINGS_READ": str(folder.with_name("read.txt"))}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=noting)
    assert done.returncode == 0, done.stderr
    return RunFolder(folder)


def test_the_run_read_the_settings_that_the_table_says_and_no_other(finished: RunFolder) -> None:
    unread, unsaid = unlike_the_table(load_saved(finished.config), finished.root.with_name("read.txt"))
    assert (unread, unsaid) == ([], READ_IDLY)


def test_the_whole_job_publishes_everything_it_promises(finished: RunFolder) -> None:
    names = ("kept", "dropped", "verdicts", "funnel", "teacher_stats", "metrics", "report", "model_card", "done")
    assert [name for name in names if not getattr(finished, name).exists()] == []


def test_every_row_of_the_evaluation_list_has_n_and_interval(finished: RunFolder) -> None:
    rows = [MetricRow.model_validate(row) for row in json.loads(finished.metrics.read_text())]
    arms = {row.arm for row in rows if row.metric == "accuracy" and row.split == "test" and row.kind == "next"}
    expected = {"base", "answer_only", "distilled", "distilled_no_frames", "teacher"}
    assert arms >= expected | {"copy_last", "task_majority", "bigram_gold", "bigram_predicted"}
    assert all(row.n > 0 and row.low <= row.value <= row.high for row in rows if row.metric == "accuracy")


def test_a_rerun_does_nothing_and_says_so(finished: RunFolder) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.root.rglob("*.json*") if path.name != "run.json"}
    done = job(finished.root)
    assert done.returncode == 0 and done.stderr.count("nothing to do") == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_config_is_refused_with_the_differing_key(finished: RunFolder) -> None:
    done = job(finished.root, "train.max_steps=5")
    assert done.returncode == 2 and "train.max_steps: 4 there, 5 now" in done.stderr


def test_status_shows_each_stage(finished: RunFolder) -> None:
    shown = aot("status", str(finished.root)).stdout
    assert shown.count("done") == 6 and "13/13" in shown


def test_a_comparison_shows_the_frames_of_each_flip(finished: RunFolder, tmp_path: Path) -> None:
    page = tmp_path / "flips.html"
    sides = ("--arm", "answer_only:direct", "--arm-b", "teacher")
    done = aot("compare", str(finished.root), str(finished.root), *sides, "--html", str(page))
    assert done.returncode == 0, done.stderr
    shown = page.read_text()
    flips = re.findall(r'class="mini"', shown)
    assert flips and shown.count('<use href="#f') >= len(flips) and shown.count("<image id=") > 1
    assert "script" not in shown.replace("runs no script", "")


def test_one_stage_alone_asks_for_the_earlier_ones(tmp_path: Path) -> None:
    done = aot("train", "configs/video/toy_kitchen_tiny.yaml", f"run.dir={tmp_path / 'run'}")
    assert done.returncode == 2 and "prepare, generate, filter" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_deleted_file_is_made_again(finished: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(shutil.copytree(finished.root, tmp_path / "run"))
    kept = run.kept.read_bytes()
    run.kept.unlink()
    run.report.unlink()
    done = job(run.root)
    assert done.returncode == 0 and done.stderr.count("nothing to do") == 4, done.stderr
    assert run.kept.read_bytes() == kept and run.report.exists() and run.done.exists()


INTERRUPTED_AT = {"generate": 20, "filter": 10, "evaluate": 2, "report": 1}
"""Stage to the progress report at which Ctrl-C comes; a stage reports after each item, the report once before all."""
CTRL_C = """
import os, signal, sys
from aot import cli
from aot.pipeline.progress import StageProgress
told, calls = StageProgress.__call__, 0
def tell(self, done, total):
    global calls
    told(self, done, total)
    calls += 1
    if calls == int(os.environ["INTERRUPTED_AT"]):
        os.killpg(0, signal.SIGINT)
StageProgress.__call__ = tell
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job is started without
    cli.main()
"""


@pytest.mark.parametrize("stage", INTERRUPTED_AT)
def test_ctrl_c_stops_a_stage_with_exit_code_4_and_the_same_command_finishes(
    finished: RunFolder, tmp_path: Path, stage: str
) -> None:
    run = unfinished(finished, tmp_path / "run", stage)
    program = tmp_path / "ctrl_c.py"
    program.write_text(CTRL_C)
    done = subprocess.run(
        [sys.executable, str(program), stage, "configs/video/toy_kitchen_tiny.yaml", f"run.dir={run.root}", *SETTINGS],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        start_new_session=True,
        env={**os.environ, "INTERRUPTED_AT": str(INTERRUPTED_AT[stage])},
    )
    assert done.returncode == 4 and "Traceback" not in done.stderr, done.stderr
    assert "the same command goes on" in done.stderr
    assert "stopped by Ctrl-C" in aot("status", str(run.root)).stdout
    assert not run.lease.exists()
    again = aot(stage, "configs/video/toy_kitchen_tiny.yaml", f"run.dir={run.root}", *SETTINGS)
    assert again.returncode == 0, again.stderr
    assert not missing_files(run, stage)


AT_WORK = """
import sys
from aot import cli
from aot.pipeline.progress import StageProgress
told = StageProgress.__call__
def tell(self, done, total):
    told(self, done, total)
    if not sys.stdin.closed:
        print("at work", flush=True)
        sys.stdin.readline()
        sys.stdin.close()
StageProgress.__call__ = tell
if __name__ == "__main__":
    cli.main()
"""


def at_work(folder: Path, stage: str) -> "subprocess.Popen[str]":
    """A command in the middle of a stage, which goes on when it is given a line."""
    program = folder.parent / "at_work.py"
    program.write_text(AT_WORK)
    command = [sys.executable, str(program), stage, "configs/video/toy_kitchen_tiny.yaml", f"run.dir={folder}"]
    child = subprocess.Popen(
        [*command, *SETTINGS], text=True, cwd=ROOT, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None and child.stdout.readline() == "at work\n"
    return child


@pytest.mark.parametrize(("stage", "end"), [("prepare", "kill"), ("generate", "finish"), ("evaluate", "kill")])
def test_of_two_commands_on_one_folder_one_works_and_the_other_says_who(
    finished: RunFolder, tmp_path: Path, stage: str, end: str
) -> None:
    run = unfinished(finished, tmp_path / "run", stage)
    first = at_work(run.root, stage)
    second = aot(stage, "configs/video/toy_kitchen_tiny.yaml", f"run.dir={run.root}", *SETTINGS)
    assert second.returncode == 2 and "Traceback" not in second.stderr, second.stderr
    for told in (f"{run.root} is in use by `aot {stage} ", f"(pid {first.pid} on ", ", since 2", f", stage {stage}"):
        assert told in second.stderr
    assert f"in use by `aot {stage} configs" in aot("status", str(run.root)).stdout
    if end == "finish":
        _, stderr = first.communicate("go on\n")
        assert first.returncode == 0, stderr
    else:
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
        assert "which is gone; the same command goes on" in aot("status", str(run.root)).stdout
    again = aot(stage, "configs/video/toy_kitchen_tiny.yaml", f"run.dir={run.root}", *SETTINGS)
    assert again.returncode == 0, again.stderr
    assert not missing_files(run, stage) and not run.lease.exists()
    assert not [path for path in run.root.rglob("*.tmp") if "checkpoints" not in path.parts]


def test_a_command_whose_folder_was_taken_over_stops_and_publishes_nothing(finished: RunFolder, tmp_path: Path) -> None:
    run = unfinished(finished, tmp_path / "run", "generate")
    first = at_work(run.root, "generate")
    other = {**json.loads(run.lease.read_text()), "id": "another", "host": "elsewhere"}
    run.lease.write_text(json.dumps(other))
    before = run.run_json.read_bytes()
    _, stderr = first.communicate("go on\n")
    assert first.returncode == 4 and "Traceback" not in stderr, stderr
    assert "was taken over by `aot generate" in stderr and "on elsewhere" in stderr
    assert run.run_json.read_bytes() == before and not run.teacher_stats.exists()
    assert json.loads(run.lease.read_text()) == other


def unfinished(finished: RunFolder, folder: Path, stage: str) -> RunFolder:
    """A copy of a finished run in which `stage` and those after it were never begun."""
    run = RunFolder(shutil.copytree(finished.root, folder))
    state = json.loads(run.run_json.read_text())
    for later in STAGES[STAGES.index(stage) :]:
        del state["stages"][later]
        for name in PUBLISHED[later]:
            path = getattr(run, name)
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    run.run_json.write_text(json.dumps(state))
    return run


def test_a_disk_that_fills_up_while_training_can_be_resumed_from(finished: RunFolder, tmp_path: Path) -> None:
    run = unfinished(finished, tmp_path / "run", "train")
    shutil.rmtree(run.arm("distilled").parent)
    command = ("train", "configs/video/toy_kitchen_tiny.yaml", f"run.dir={run.root}", *SETTINGS)
    done = subprocess.run(
        [sys.executable, "-m", "aot", *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.returncode == 4 and "Free space" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert aot(*command).returncode == 0


def test_a_tampered_adapter_stops_the_evaluation(finished: RunFolder, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished.root, copy, ignore=shutil.ignore_patterns("predictions", "clips"))
    adapter = copy / "student" / "distilled" / "adapter_model.safetensors"
    data = bytearray(adapter.read_bytes())
    data[-1] ^= 1
    adapter.write_bytes(bytes(data))
    state = json.loads((copy / "run.json").read_text())
    del state["stages"]["evaluate"]
    (copy / "run.json").write_text(json.dumps(state))
    done = job(copy)
    assert done.returncode == 2 and "adapter_model.safetensors" in done.stderr, done.stderr


def test_a_student_folder_without_tokenizer_is_told(finished: RunFolder, tmp_path: Path) -> None:
    student = tmp_path / "student"
    shutil.copytree(ROOT / "aot" / "student" / "tiny" / "video", student)
    (student / "tokenizer.json").unlink()
    copy = tmp_path / "run"
    shutil.copytree(
        finished.root, copy, ignore=shutil.ignore_patterns("predictions", "student", "config.yaml", "clips")
    )
    state = json.loads((copy / "run.json").read_text())
    state["stages"] = {name: state["stages"][name] for name in ("prepare", "generate", "filter")}
    (copy / "run.json").write_text(json.dumps(state))
    done = job(copy, f"student.base={student}")
    assert done.returncode == 2 and "tokenizer" in done.stderr, done.stderr


@pytest.mark.timeout(900)
def test_the_saved_config_alone_makes_the_same_bytes_again_though_killed_at_random_moments(
    finished: RunFolder, tmp_path: Path
) -> None:
    # With this seed all kills come before the job ends, so that no other run has to be begun for the last.
    command = [sys.executable, "scripts/check_kills.py", str(finished.config), "--kills", "3", "--seed", "16"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path), "--calm", str(finished.root)],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_papers_of_a_run_name_every_file_by_its_hash(finished: RunFolder) -> None:
    noted = json.loads(finished.run_json.read_text())
    assert {"revision", "versions", "seed", "command", "config_digest"} <= noted.keys()
    sealed = {name: seal["sha256"] for stage in STAGES for name, seal in noted["stages"][stage]["files"].items()}
    rows = {path.relative_to(finished.root).as_posix() for path in finished.root.glob("*.jsonl")}
    assert rows <= sealed.keys() and all(
        hashlib.sha256((finished.root / name).read_bytes()).hexdigest() == digest for name, digest in sealed.items()
    )


def test_the_report_is_one_file_without_network(finished: RunFolder) -> None:
    text = finished.report.read_text()
    assert "http://" not in text.replace("http://www.w3.org", "") and "<script" not in text
    assert finished.report.stat().st_size < 20_000_000
