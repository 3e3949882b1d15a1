"""The generate stage on Ray: the same traces as from processes, and nothing lost when a worker is killed."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from generate_scenes import DOORS, FAULTS, Door, written

from aot.config import load_config
from aot.files.run_folder import RunFolder, read_rows
from aot.files.traces import read_faults, read_traces
from aot.generate.processes import Failure
from aot.generate.run import generate
from aot.generate.solve import Solved, Task
from aot.pipeline import run_stages
from aot.records import Question, Trace

cloudpickle = pytest.importorskip("ray.cloudpickle", reason="the extra `ray` is not installed")
Cluster = pytest.importorskip("ray.cluster_utils").Cluster
ray_engine = pytest.importorskip("aot.generate.ray_engine")

pytestmark = pytest.mark.slow
WHOLE = """
run: {{dir: "{run}"}}
data: {{dataset: toy_math, math: {{train: 40, test: 4, test_ood: 2}}}}
teacher: {{planner: procedural, engine: ray, workers: 2, faults: {{rate: 0.3}}}}
student: {{base: tiny-text, max_tokens: 256, max_answer_tokens: 8, max_rationale_tokens: 16}}
train:
  max_steps: 2
  questions_per_step: 4
  questions_per_device: 4
  save_steps: 2
  arms: [{{name: pre, order: pre}}]
evaluate: {{splits: [test], bootstrap_samples: 100}}
"""


@pytest.fixture(scope="module", autouse=True)
def as_soon_as_others() -> Iterator[None]:
    """Workers of Ray let all other processes go first unless they are told otherwise: here, other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        yield


@pytest.fixture(scope="module")
def address(as_soon_as_others: None) -> Iterator[str]:
    """Of a Ray that is there before the runs, and after them."""
    settings = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": ray_engine.OBJECT_STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=settings)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture(params=DOORS, scope="module")
def door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


@pytest.fixture(scope="module")
def prepared(door: Door, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return door.prepare(tmp_path_factory.mktemp("ray") / "prepared")


@pytest.fixture(scope="module")
def expected(door: Door, prepared: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> list[Trace]:
    return solved_by(door, prepared, tmp_path_factory.mktemp("ray") / "expected", engine="processes")


def solved_by(
    door: Door, prepared: RunFolder, root: Path, *, kill_after: int | None = None, **teacher: str
) -> list[Trace]:
    """The timeless traces of a copy of the run; after so many questions, one worker of Ray is killed."""
    run = RunFolder(Path(shutil.copytree(prepared.root, root)))

    def progress(done: int, total: int) -> None:
        if done == kill_after and (pids := worker_pids()):
            os.kill(pids[0], signal.SIGKILL)

    generate(run, door.config(workers=2, faults=FAULTS, **teacher), progress, door.room)
    assert len(written(run)) == len(set(written(run))) == len(door.rows(run))
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
    door: Door, prepared: RunFolder, expected: list[Trace], address: str, tmp_path: Path
) -> None:
    assert solved_by(door, prepared, tmp_path / "run", engine="ray", ray_address=address, kill_after=5) == expected
    until_s = time.monotonic() + 30
    while worker_pids() and time.monotonic() < until_s:  # a Ray that stays ends them a moment after they were let go
        time.sleep(0.05)
    assert not worker_pids()


def is_deadly(question: Question) -> bool:
    """One question is, because each costs the start of two workers."""
    return question.kind == "when" and question.id.startswith("train_0000")


class Deadly(ray_engine.SolvingActor):
    """A worker that one question kills."""

    def solve(self, task: Task) -> Solved | Failure:
        if is_deadly(task[0]):
            os._exit(1)
        return super().solve(task)


@pytest.mark.parametrize("door", ["video"], indirect=True)
def test_a_question_that_kills_two_workers_is_refused_and_the_others_are_not(
    door: Door, prepared: RunFolder, expected: list[Trace], address: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Workers cannot import this module.
    monkeypatch.setattr(ray_engine, "SolvingActor", Deadly)
    traces = solved_by(door, prepared, tmp_path / "run", engine="ray", ray_address=address)
    different = [trace for trace, before in zip(traces, expected, strict=True) if trace != before]
    deadly = [q.id for q in read_rows(prepared.questions, Question) if is_deadly(q)]
    assert deadly
    assert [trace.question_id for trace in different] == deadly
    assert {(t.status, t.error.boundary, t.error.reason) for t in different if t.error} == {
        ("failed", "guard", "worker_lost")
    }


def test_a_text_run_with_a_ray_of_its_own_goes_through_to_its_report(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(WHOLE.format(run=tmp_path / "run"))
    loaded = load_config(config)
    run, code = run_stages(loaded, config_path=config, command=["test"])
    assert code == 0 and run.report.exists() and run.done.exists()
    assert len(written(run)) == 2 * len(list(read_rows(run.questions, Question)))
