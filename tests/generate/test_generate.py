"""The generate stage of both doors: nothing lost or repeated however it was killed, honest rows for missing clips."""

import json
import multiprocessing
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
from generate_scenes import DOORS, FAULTS, Door, Made, config_of, written

from aot.answers import grade, verifies
from aot.config import RunConfig, dump_config
from aot.errors import ConfigError, GuardStop, SourceError
from aot.files.run_folder import RunFolder, append_row, open_append, publish_rows, read_rows
from aot.files.shards import Shard
from aot.files.traces import read_traces
from aot.generate.run import Rows, generate
from aot.generate.solve import Solved, Solver, Task, Threads
from aot.generate.todo import pending_questions
from aot.records import MediaRef, Question, Refusal, Trace
from aot.teacher import agent
from aot.teacher.clip_shelf import open_shelf

VIDEO = DOORS["video"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    return {name: door.prepare(tmp_path_factory.mktemp(name)) for name, door in DOORS.items()}


@pytest.fixture(scope="module")
def made(prepared: dict[str, RunFolder], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """What one process makes of each run, undisturbed."""
    results = {}
    for name, run in prepared.items():
        root = tmp_path_factory.mktemp("expected") / "run"
        shutil.copytree(run.root, root)
        results[name] = DOORS[name].run(RunFolder(root), DOORS[name].config(workers=1, faults=FAULTS))
    return results


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


@pytest.fixture
def expected(request: pytest.FixtureRequest, made: dict[str, Made]) -> Made:
    return made[_door_of(request)]


@pytest.fixture
def run(request: pytest.FixtureRequest, prepared: dict[str, RunFolder], tmp_path: Path) -> RunFolder:
    shutil.copytree(prepared[_door_of(request)].root, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def _door_of(request: pytest.FixtureRequest) -> str:
    """The door that a test asks for; that of clips where it asks for none."""
    return request.getfixturevalue("door").name if "door" in request.fixturenames else "video"


def questions_of(run: RunFolder) -> list[Question]:
    return list(read_rows(run.questions, Question))


def solver_of(run: RunFolder, config: RunConfig, door: Door = VIDEO) -> Solver:
    return Solver(door.room.open_teacher, run, config, door.room.tries_of(config.teacher), "3")


def test_the_rows_of_each_question_in_their_order(run: RunFolder, expected: Made, door: Door) -> None:
    found = [(trace.question_id, trace.sample_index if door.samples > 1 else 0) for trace in expected[0]]
    assert found == door.rows(run)


def test_most_questions_are_solved(run: RunFolder, expected: Made) -> None:
    pairs = zip(expected[0], questions_of(run), strict=True)
    right = [grade(t.answer, q).verdict == "right" for t, q in pairs if not q.kind.startswith("next")]
    assert sum(right) / len(right) >= 0.85


def test_faults_are_planted_in_verified_training_traces_only(run: RunFolder, expected: Made, door: Door) -> None:
    traces, faults = expected
    questions = {question.id: question for question in questions_of(run)}
    rows = {(trace.question_id, trace.sample_index): trace for trace in traces}
    assert faults
    for fault in map(json.loads, faults):
        trace, question = rows[fault["question_id"], fault["sample_index"]], questions[fault["question_id"]]
        assert question.split == "train" and verifies(trace, question)


def test_more_workers_write_the_same_traces(
    run: RunFolder, expected: Made, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.room, "FEW_QUESTIONS", 1)
    assert door.run(run, door.config(workers=2, faults=FAULTS)) == expected
    assert sorted(written(run)) == sorted((trace.question_id, trace.sample_index) for trace in expected[0])


def test_a_worker_that_is_killed_stops_the_run_and_the_same_command_goes_on(
    run: RunFolder, expected: Made, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.room, "FEW_QUESTIONS", 1)
    config = door.config(workers=2, faults=FAULTS)
    workers: list[int] = []

    def progress(done: int, total: int) -> None:
        if not workers and (children := multiprocessing.active_children()):
            workers.extend(int(child.pid or 0) for child in children)
            os.kill(workers[0], signal.SIGKILL)

    with pytest.raises(GuardStop, match="ended with code -9"):
        generate(run, config, progress, door.room)
    assert len(workers) == 2 and 0 < len(written(run)) < len(expected[0])
    assert door.run(run, config) == expected
    assert sorted(written(run)) == sorted((trace.question_id, trace.sample_index) for trace in expected[0])


def test_test_questions_get_one_candidate(run: RunFolder, expected: Made) -> None:
    held_out = [t for t, q in zip(expected[0], questions_of(run), strict=True) if q.split != "train"]
    assert {trace.sample_index for trace in held_out} == {0}


def test_a_stop_between_fault_and_trace_is_mended(run: RunFolder, expected: Made, door: Door) -> None:
    config = door.config(workers=1, faults=FAULTS)
    faulty = json.loads(expected[1][0])["question_id"]
    solver = solver_of(run, config, door)
    with Rows(run, writer="3") as rows:
        for question in questions_of(run):
            rows.add(solver.solve((question, 0)))
            if question.id == faulty:
                break
    part = run.traces / "part-3.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    assert door.run(run, config) == expected


def test_repeated_rows_count_once(run: RunFolder, expected: Made, door: Door) -> None:
    config = door.config(workers=1, faults=FAULTS)
    door.run(run, config)
    shutil.copy(run.traces / "part-0.jsonl", run.traces / "part-7.jsonl")
    shutil.copy(run.faults / "part-0.jsonl", run.faults / "part-7.jsonl")
    assert door.run(run, config) == expected


SCRIPT = """
import sys
from pathlib import Path
from aot.config import load_config
from aot.files.run_folder import RunFolder
from aot.generate.run import generate
from aot.teacher import agent
from text_cot.teacher import teachers
if __name__ == "__main__":
    run = RunFolder(Path(sys.argv[1]))
    config = load_config(run.config)
    module = teachers if config.data.dataset == "toy_math" else agent
    module.FEW_QUESTIONS = 1

    def progress(done, total):
        if done >= int(sys.argv[2]):
            print(done, flush=True)
            sys.stdin.read()

    generate(run, config, progress, module)
"""


def test_killed_runs_lose_and_repeat_nothing_and_leave_no_child(
    run: RunFolder, expected: Made, door: Door, tmp_path: Path
) -> None:
    script = tmp_path / "go.py"
    script.write_text(SCRIPT)
    config = door.config(workers=2, faults=FAULTS)
    run.config.write_text(dump_config(config))
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    for stop_at in ("3", "12"):
        command = [sys.executable, str(script), str(run.root), stop_at]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline().strip() == stop_at.encode()
        workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdin.close()
        child.stdout.close()
        deadline = time.monotonic() + 10
        while any(alive(int(pid)) for pid in workers) and time.monotonic() < deadline:
            os.sched_yield()
        assert not [pid for pid in workers if alive(int(pid))]
        assert len(written(run)) == int(stop_at) * door.samples
    assert door.run(run, config) == expected
    assert sorted(written(run)) == sorted((trace.question_id, trace.sample_index) for trace in expected[0])


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
    traces, _ = VIDEO.run(run, config_of(workers=1))
    assert [trace.status for trace in traces] == ["failed"] * 4
    assert [trace.error.boundary for trace in traces] == ["source", "decode", "tool", "source"]
    assert "corrupt" in traces[1].error.message


def test_a_finished_stage_writes_no_row_again(run: RunFolder, door: Door) -> None:
    config = door.config(workers=1)
    door.run(run, config)
    before = {path: path.read_bytes() for path in run.traces.iterdir()}
    door.run(run, config)
    assert {path: path.read_bytes() for path in run.traces.iterdir()} == before


def test_a_line_that_is_no_trace_is_told_with_its_place(run: RunFolder) -> None:
    with open_append(run.traces / "part-0.jsonl") as file:
        append_row(file, Refusal(item="x", boundary="y", reason="z"))
    with pytest.raises(SourceError, match=r"part-0\.jsonl:1"):
        list(read_traces(run))


def test_a_bad_card_is_told_before_any_work(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        generate(run, config_of(appearance=str(tmp_path / "nowhere.json")), lambda done, total: None, agent)
    assert not run.traces.exists()


def test_every_attempt_at_a_question_is_a_row(run: RunFolder) -> None:
    train = next(q for q in questions_of(run) if q.split == "train" and q.kind == "count")
    publish_rows(run.questions, [train.model_copy(update={"answer": "77"})])
    generate(run, config_of(candidates=3), lambda done, total: None, agent)
    attempts = [row for part in run.attempts.glob("part-*.jsonl") for row in read_rows(part, Trace)]
    assert [row.sample_index for row in attempts] == [0, 1]
    assert [row.sample_index for row in read_traces(run)] == [2]


def test_stats_hold_yield_cost_and_tool_accuracy(run: RunFolder) -> None:
    VIDEO.run(run, config_of(workers=1))
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


def test_threads_write_the_same_traces(run: RunFolder, expected: Made) -> None:
    config = config_of(workers=1, faults=FAULTS)
    tasks = [(question, 0) for question in questions_of(run)]
    engine = Threads(solver_of(run, config), tasks, threads=4)
    with Rows(run, writer="0") as rows:
        for solved in engine.solved():
            rows.add(solved)
    assert list(engine.end()) == []
    assert {trace.question_id for trace in read_traces(run)} == {question.id for question, _ in tasks}
    assert VIDEO.run(run, config) == expected


def test_rows_that_other_threads_finish_are_given_when_one_stops_the_work(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = questions_of(run)[:8]
    solve, begun = Solver.solve, threading.Semaphore(0)

    def counted(solver: Solver, task: Task) -> Solved:
        begun.release()
        return solve(solver, task)

    def tasks() -> Iterator[Task]:
        yield from ((question, 0) for question in asked)
        for _ in asked:  # what no thread has begun yet may be left undone
            assert begun.acquire(timeout=60)
        raise GuardStop("enough")

    monkeypatch.setattr(Solver, "solve", counted)

    engine, rows = Threads(solver_of(run, config_of()), tasks(), threads=4), list[Solved]()
    with pytest.raises(GuardStop, match="enough"):
        rows.extend(engine.solved())
    rows.extend(engine.end())
    assert {solved.trace.question_id for solved in rows} == {question.id for question in asked}


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
