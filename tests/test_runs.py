import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aot import STAGES
from aot.config import RunConfig, load_config
from aot.errors import RunError, SourceError
from aot.files.opening import open_run
from aot.files.run_folder import (
    RunFolder,
    append_row,
    missing_files,
    open_append,
    publish,
    publish_rows,
    publishing,
    read_rows,
    read_run_json,
    run_root,
    set_stage,
    stage_done,
)
from aot.records import Refusal


def refusal(item: str) -> Refusal:
    return Refusal(item=item, boundary="source", reason="test")


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    path = tmp_path / "job.yaml"
    path.write_text("data: {dataset: toy_kitchen}\n")
    return load_config(path, overrides=(f"run.dir={tmp_path / 'run'}",))


def open_it(config: RunConfig) -> RunFolder:
    return open_run(config, config_path=Path("job.yaml"), command=["aot", "run"])


def publish_all(run: RunFolder, stage: str) -> None:
    for path in missing_files(run, stage):
        publish(path / "part" if path.name in ("frames", "traces", "predictions") else path, b"x")


def test_half_written_last_line_is_cut_before_appending(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(refusal("a").model_dump_json().encode() + b'\n{"item": "b", "bound')
    with open_append(path) as file:
        append_row(file, refusal("c"))
    assert [row.item for row in read_rows(path, Refusal)] == ["a", "c"]


def test_a_file_with_only_half_a_line_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"item":' + b" " * 200_000)
    with open_append(path) as file:
        append_row(file, refusal("a"))
    assert [row.item for row in read_rows(path, Refusal)] == ["a"]


def test_reading_leaves_a_half_line_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(refusal("a").model_dump_json().encode() + b'\n{"item"')
    assert [row.item for row in read_rows(path, Refusal)] == ["a"]


def test_a_bad_whole_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"{}\n")
    with pytest.raises(SourceError, match=r"rows\.jsonl:1"):
        list(read_rows(path, Refusal))


def test_failed_publication_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    publish_rows(path, [refusal("old")])
    with pytest.raises(ZeroDivisionError), publishing(path) as file:
        append_row(file, refusal("new"))
        _ = 1 / 0
    assert [row.item for row in read_rows(path, Refusal)] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_full_disk_is_a_clear_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    publish(path, b"old")
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from aot.files.run_folder import publish; from aot.errors import GuardStop\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: publish(Path(sys.argv[1]), b'x' * 5000)\n"
        "except GuardStop as error: print(error); sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 7 and "free space" in done.stdout
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["big.bin"]


def test_unwritable_run_folder_is_told(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file stands where the folder should be")
    with pytest.raises(RunError, match=r"run\.dir="):
        open_it(config)


def test_a_run_folder_whose_name_is_no_utf_8_is_refused(config: RunConfig) -> None:
    unnamed = config.model_copy(update={"run": config.run.model_copy(update={"dir": None})})
    with pytest.raises(RunError, match=r"no UTF-8; .*run\.dir="):
        run_root(unnamed, config_path=Path(os.fsdecode(b"jo\xffb.yaml")))


def test_resolved_config_and_provenance_are_saved_first(config: RunConfig) -> None:
    run = open_it(config)
    assert load_config(run.config) == config
    assert "revision" in run.run_json.read_text()


def test_rerun_under_another_config_is_refused_with_the_keys(config: RunConfig) -> None:
    run = open_it(config)
    publish(run.questions, b"")
    other = config.model_copy(update={"seed": 5})
    with pytest.raises(RunError, match="seed: 0 there, 5 now"):
        open_it(other)


def test_rerun_with_more_workers_is_allowed(config: RunConfig) -> None:
    open_it(config)
    teacher = config.teacher.model_copy(update={"workers": 7})
    assert open_it(config.model_copy(update={"teacher": teacher})).root.exists()


def test_stage_states_survive_and_errors_are_cleared(config: RunConfig) -> None:
    run = open_it(config)
    publish_all(run, "prepare")
    set_stage(run, "prepare", "failed", error="disk")
    assert not stage_done(run, "prepare")
    set_stage(run, "prepare", "done", clips=3)
    assert stage_done(run, "prepare") and "disk" not in run.run_json.read_text()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_without_one_of_its_files_is_not_done(config: RunConfig, stage: str) -> None:
    run = open_it(config)
    set_stage(run, stage, "done")
    assert missing_files(run, stage) and not stage_done(run, stage)
    publish_all(run, stage)
    assert stage_done(run, stage)


def test_a_corrected_config_is_taken_while_no_stage_has_left_a_file(config: RunConfig) -> None:
    run = open_it(config)
    set_stage(run, "prepare", "failed", error="no such folder")
    publish(run.log, b"")
    other = config.model_copy(update={"seed": 5})
    open_it(other)
    assert load_config(run.config) == other
    assert (read_run_json(run)["seed"], len(read_run_json(run)["commands"])) == (5, 2)


def test_provenance_is_added_after_a_kill_between_the_first_two_files(config: RunConfig) -> None:
    run = open_it(config)
    run.run_json.unlink()
    assert {"revision", "versions", "seed", "hardware"} <= read_run_json(open_it(config)).keys()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "3", '{"stages": 3}', '{"stages": {}, "commands": 3}', '{"stages": {"prepare": 1}}', "\x00"],
)
def test_a_broken_run_json_is_told(config: RunConfig, text: str) -> None:
    run = open_it(config)
    run.run_json.write_text(text)
    with pytest.raises(RunError, match=r"holds no readable run\.json") as told:
        read_run_json(run)
    assert "object has no" not in str(told.value)
    run.run_json.unlink()
    with pytest.raises(RunError, match=r"run\.json \(there is none\); is it a run folder\?$"):
        read_run_json(run)


def test_what_a_killed_publication_left_is_swept_by_the_next_one(tmp_path: Path) -> None:
    for name in (".rows.jsonl.123.tmp", ".other.jsonl.123.tmp", ".rows.jsonl.new.tmp"):
        (tmp_path / name).touch()
    publish(tmp_path / "rows.jsonl", b"")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"rows.jsonl", ".other.jsonl.123.tmp", ".rows.jsonl.new.tmp"}


def test_kill_while_appending_loses_at_most_the_last_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    program = (
        "import sys; from pathlib import Path; from aot.files.run_folder import open_append, append_row\n"
        "from aot.records import Refusal\n"
        "file = open_append(Path(sys.argv[1])); i = 0\n"
        "while True:\n"
        "    append_row(file, Refusal(item=str(i), boundary='b', reason='r')); i += 1; print(i, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    while int(child.stdout.readline()) < 200:
        pass
    os.kill(child.pid, signal.SIGKILL)
    finished = [int(line) for line in child.stdout.read().split()]
    child.wait()
    rows = [int(row.item) for row in read_rows(path, Refusal)]
    assert rows == list(range(len(rows))) and len(rows) >= max(finished, default=200)
