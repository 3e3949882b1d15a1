"""The generate stage: nothing lost or repeated however it was killed, and honest rows for clips that are not there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from teacher_scenes import config_of, make_run

from aot.answers import grade
from aot.config import RunConfig, dump_config
from aot.errors import ConfigError, GuardStop, SourceError
from aot.files.run_folder import RunFolder, append_row, open_append, publish_rows, read_rows
from aot.files.shards import Shard
from aot.files.todo import pending_questions
from aot.files.traces import read_faults, read_traces
from aot.generate import video_run as runner
from aot.generate.video_run import generate
from aot.generate.video_work import Solved, Solver, solve_all, solve_in_threads
from aot.records import MediaRef, Question, Refusal, Trace
from aot.teacher.clip_shelf import open_shelf

FAULTS = {"rate": 0.5}
Expected = tuple[list[Trace], list[str]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("prepared"), train=5, test=2)


@pytest.fixture
def run(prepared: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(prepared.root, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def questions_of(run: RunFolder) -> list[Question]:
    return list(read_rows(run.questions, Question))


def done(run: RunFolder, config: RunConfig) -> Expected:
    generate(run, config, progress=lambda done, total: None)
    return [trace.timeless() for trace in read_traces(run)], [row.model_dump_json() for row in read_faults(run)]


@pytest.fixture(scope="module")
def expected(prepared: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Expected:
    root = tmp_path_factory.mktemp("expected") / "run"
    shutil.copytree(prepared.root, root)
    return done(RunFolder(root), config_of(workers=1, faults=FAULTS))


def test_one_trace_for_each_question_in_their_order(run: RunFolder, expected: Expected) -> None:
    traces, _ = expected
    assert [trace.question_id for trace in traces] == [question.id for question in questions_of(run)]


def test_most_questions_are_solved(run: RunFolder, expected: Expected) -> None:
    pairs = zip(expected[0], questions_of(run), strict=True)
    right = [grade(t.answer, q).verdict == "right" for t, q in pairs if not q.kind.startswith("next")]
    assert sum(right) / len(right) >= 0.85


def test_faults_are_planted_in_verified_training_traces_only(run: RunFolder, expected: Expected) -> None:
    traces, faults = expected
    by_id = {trace.question_id: (trace, q) for trace, q in zip(traces, questions_of(run), strict=True)}
    assert faults
    for row in map(json.loads, faults):
        trace, question = by_id[row["question_id"]]
        assert question.split == "train"
        assert (trace.status, trace.sample_index) == ("ok", row["sample_index"])
        assert grade(trace.answer, question).verdict == "right"


def test_more_workers_write_the_same_traces(
    run: RunFolder, expected: Expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "FEW_QUESTIONS", 1)
    assert done(run, config_of(workers=2, faults=FAULTS)) == expected
    assert len(list(run.traces.glob("part-*.jsonl"))) == 2


def test_test_questions_get_one_candidate(run: RunFolder, expected: Expected) -> None:
    held_out = [t for t, q in zip(expected[0], questions_of(run), strict=True) if q.split != "train"]
    assert {trace.sample_index for trace in held_out} == {0}


def test_a_stop_between_fault_and_trace_is_mended(run: RunFolder, expected: Expected) -> None:
    config = config_of(workers=1, faults=FAULTS)
    faulty = json.loads(expected[1][0])["question_id"]
    asked = questions_of(run)
    for question_id in solve_all(run, config, asked, writer="3"):
        if question_id == faulty:
            break
    part = run.traces / "part-3.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    assert done(run, config) == expected


def test_repeated_rows_count_once(run: RunFolder, expected: Expected) -> None:
    config = config_of(workers=1, faults=FAULTS)
    done(run, config)
    shutil.copy(run.traces / "part-0.jsonl", run.traces / "part-7.jsonl")
    shutil.copy(run.faults / "part-0.jsonl", run.faults / "part-7.jsonl")
    assert done(run, config) == expected


SCRIPT = """
import sys
from pathlib import Path
from aot.config import load_config
from aot.files.run_folder import RunFolder
from aot.files.shards import Shard
from aot.teacher import runner
runner.FEW_QUESTIONS = 1
if __name__ == "__main__":
    run = RunFolder(Path(sys.argv[1]))
    runner.generate(run, load_config(run.config), progress=lambda done, total: print(done, flush=True))
"""


def test_killed_runs_lose_and_repeat_nothing_and_leave_no_child(
    run: RunFolder, expected: Expected, tmp_path: Path
) -> None:
    script = tmp_path / "go.py"
    script.write_text(SCRIPT)
    config = config_of(workers=2, faults=FAULTS)
    run.config.write_text(dump_config(config))
    command = [sys.executable, str(script), str(run.root)]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    for stop_at in (3, 12):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= stop_at:
                break
        workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        deadline = time.monotonic() + 10
        while any(alive(int(pid)) for pid in workers) and time.monotonic() < deadline:
            os.sched_yield()
        assert not [pid for pid in workers if alive(int(pid))]
    assert done(run, config) == expected
    lines = [line for part in run.traces.glob("part-*") for line in part.read_bytes().splitlines()]
    ids = [json.loads(line)["question_id"] for line in lines]
    assert len(ids) == len(set(ids)) == len(questions_of(run))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_missing_clips_and_bad_windows_become_failed_rows(run: RunFolder) -> None:
    asked = questions_of(run)[:4]
    media = [{"uri": "gone.mp4"}, {"uri": "bad.mp4"}, {"uri": asked[2].media.uri, "start_s": 500.0, "end_s": 501.0}]
    broken = [Question.model_validate({**q.model_dump(), "media": m}) for q, m in zip(asked, media, strict=False)]
    nowhere = asked[3].model_copy(update={"media": None})
    publish_rows(run.questions, [*broken, nowhere])
    publish_rows(run.refusals, [Refusal(item="bad.mp4", boundary="decode", reason="corrupt", detail="no frames")])
    traces, _ = done(run, config_of(workers=1))
    assert [trace.status for trace in traces] == ["failed"] * 4
    assert [trace.error.boundary for trace in traces] == ["source", "decode", "tool", "source"]
    assert "corrupt" in traces[1].error.message


def test_a_finished_stage_writes_no_row_again(run: RunFolder) -> None:
    config = config_of(workers=1)
    done(run, config)
    before = {path: path.read_bytes() for path in run.traces.iterdir()}
    done(run, config)
    assert {path: path.read_bytes() for path in run.traces.iterdir()} == before


def test_a_line_that_is_no_trace_is_told_with_its_place(run: RunFolder) -> None:
    with open_append(run.traces / "part-0.jsonl") as file:
        append_row(file, Refusal(item="x", boundary="y", reason="z"))
    with pytest.raises(SourceError, match=r"part-0\.jsonl:1"):
        list(read_traces(run))


def test_a_bad_card_is_told_before_any_work(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        generate(run, config_of(appearance=str(tmp_path / "nowhere.json")), progress=lambda done, total: None)
    assert not run.traces.exists()


def test_every_attempt_at_a_question_is_a_row(run: RunFolder) -> None:
    train = next(q for q in questions_of(run) if q.split == "train" and q.kind == "count")
    publish_rows(run.questions, [train.model_copy(update={"answer": "77"})])
    generate(run, config_of(candidates=3), progress=lambda done, total: None)
    attempts = [row for part in run.attempts.glob("part-*.jsonl") for row in read_rows(part, Trace)]
    assert [row.sample_index for row in attempts] == [0, 1]
    assert [row.sample_index for row in read_traces(run)] == [2]


def test_stats_hold_yield_cost_and_tool_accuracy(run: RunFolder) -> None:
    done(run, config_of(workers=1))
    stats = json.loads(run.teacher_stats.read_text())
    rows = {(row["tool"], row["metric"]): row for row in stats["tool_accuracy"]}
    assert rows["list_steps", "step_recall"]["share"]["value"] >= 0.9
    assert {tool for tool, _ in rows} == {"list_steps", "read_order", "find_moments", "count_events",
                                          "recognise_action", "detect_objects"}  # fmt: skip
    assert rows["list_steps", "step_recall"]["n"] > 5
    total = next(row for row in stats["yields"] if (row["split"], row["kind"]) == ("train", "all"))
    assert 0 < total["pass_at_1"]["value"] <= total["pass_at_k"]["value"] <= total["pass_at_k"]["high"] <= 1
    assert all(row["pass_at_k"] is None for row in stats["yields"] if row["split"] != "train")
    assert stats["seconds_per_verified_trace"] > 0


def test_questions_of_one_clip_stay_with_one_worker(run: RunFolder) -> None:
    dealt = pending_questions(run, Shard.of(None)).dealt(3)
    owners = [{place.key for place in share} for share in dealt]
    assert sum(map(len, dealt)) == len(questions_of(run))
    assert not owners[0] & owners[1]
    assert not owners[1] & owners[2]


def test_threads_write_the_same_traces(run: RunFolder, expected: Expected) -> None:
    config = config_of(workers=1, faults=FAULTS)
    ids = list(solve_in_threads(run, config, questions_of(run), writer="0", threads=4))
    assert sorted(ids) == sorted(question.id for question in questions_of(run))
    assert done(run, config) == expected


def test_rows_that_other_threads_finish_are_written_when_one_stops_the_work(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = questions_of(run)[:8]
    solve, begun = Solver.solve, threading.Semaphore(0)

    def counted(solver: Solver, question: Question) -> Solved:
        begun.release()
        return solve(solver, question)

    def questions() -> Iterator[Question]:
        yield from asked
        for _ in asked:  # what no thread has begun yet may be left undone
            assert begun.acquire(timeout=60)
        raise GuardStop("enough")

    monkeypatch.setattr(Solver, "solve", counted)

    with pytest.raises(GuardStop, match="enough"):
        list(solve_in_threads(run, config_of(), questions(), writer="0", threads=4))
    assert {trace.question_id for trace in read_traces(run)} == {question.id for question in asked}


def test_threads_share_the_frames_of_a_clip_and_let_go_of_them(run: RunFolder) -> None:
    shelf = open_shelf(run)
    first, other = (MediaRef(uri=uri) for uri in shelf.store.uris()[:2])
    with ThreadPoolExecutor(4) as pool:
        views = list(pool.map(shelf.view, [first] * 8))
    assert len({view.frames_THWC.ctypes.data for view in views}) == 1
    frames = weakref.ref(views[0].frames_THWC.base)
    del views
    shelf.view(other)
    assert frames() is None
