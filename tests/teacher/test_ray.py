"""The generate stage on Ray: the same traces as from processes, and nothing lost when a worker is killed."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from teacher_scenes import config_of, make_run

from aot.files.run_folder import RunFolder, read_rows
from aot.files.traces import read_faults, read_traces
from aot.generate.processes import Failure
from aot.generate.video_run import generate
from aot.generate.video_work import Solved
from aot.records import Question, Trace

cloudpickle = pytest.importorskip("ray.cloudpickle", reason="the extra `ray` is not installed")
ray_runner = pytest.importorskip("aot.generate.ray_engine")

pytestmark = pytest.mark.slow
FAULTS = {"rate": 0.5}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("prepared"), train=4, test=2)


@pytest.fixture(scope="module")
def expected(prepared: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> list[Trace]:
    return solved_by(prepared, tmp_path_factory.mktemp("expected") / "run", "processes")


def solved_by(prepared: RunFolder, root: Path, engine: str, kill_after: int | None = None) -> list[Trace]:
    """The timeless traces of a copy of the run; after so many rows, one worker of Ray is killed."""
    run = RunFolder(Path(shutil.copytree(prepared.root, root)))

    def progress(done: int, total: int) -> None:
        if done == kill_after:
            os.kill(worker_pids()[0], signal.SIGKILL)

    generate(run, config_of(workers=2, engine=engine, faults=FAULTS), progress=progress)
    rows = sum(len(part.read_bytes().splitlines()) for part in run.traces.iterdir())
    assert rows == len(list(read_rows(run.questions, Question)))
    assert read_faults(run)
    return [trace.timeless() for trace in read_traces(run)]


def worker_pids() -> list[int]:
    """Processes that work as actors of this Ray; each has its name as title."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes()
        except OSError:
            continue
        if title.startswith((b"ray::SolvingActor", b"ray::Deadly")):
            found.append(int(path.parent.name))
    return found


def test_two_workers_of_ray_write_the_traces_of_the_processes_though_one_is_killed(
    prepared: RunFolder, expected: list[Trace], tmp_path: Path
) -> None:
    assert solved_by(prepared, tmp_path / "run", "ray", kill_after=5) == expected
    assert not worker_pids()


class Deadly(ray_runner.SolvingActor):
    """A worker that one question kills."""

    def solve(self, question: Question) -> Solved | Failure:
        if question.kind == "when":
            os._exit(1)
        return super().solve(question)


def test_a_question_that_kills_two_workers_is_refused_and_the_others_are_not(
    prepared: RunFolder, expected: list[Trace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Workers cannot import this module.
    monkeypatch.setattr(ray_runner, "SolvingActor", Deadly)
    traces = solved_by(prepared, tmp_path / "run", "ray")
    different = [trace for trace, before in zip(traces, expected, strict=True) if trace != before]
    deadly = [q.id for q in read_rows(prepared.questions, Question) if q.kind == "when"]
    assert deadly
    assert [trace.question_id for trace in different] == deadly
    assert {(t.status, t.error.boundary, t.error.reason) for t in different if t.error} == {
        ("failed", "guard", "worker_lost")
    }
