"""The generate stage on Ray: the same traces as from processes, and nothing lost when a worker is killed."""

import os
import shutil
import signal
import sys
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


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    return DOORS[request.param]


@pytest.fixture
def prepared(door: Door, tmp_path: Path) -> RunFolder:
    return door.prepare(tmp_path / "prepared")


@pytest.fixture
def expected(door: Door, prepared: RunFolder, tmp_path: Path) -> list[Trace]:
    return solved_by(door, prepared, tmp_path / "expected", "processes")


def solved_by(door: Door, prepared: RunFolder, root: Path, engine: str, kill_after: int | None = None) -> list[Trace]:
    """The timeless traces of a copy of the run; after so many questions, one worker of Ray is killed."""
    run = RunFolder(Path(shutil.copytree(prepared.root, root)))

    def progress(done: int, total: int) -> None:
        if done == kill_after and (pids := worker_pids()):
            os.kill(pids[0], signal.SIGKILL)

    generate(run, door.config(workers=2, engine=engine, faults=FAULTS), progress, door.room)
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
    door: Door, prepared: RunFolder, expected: list[Trace], tmp_path: Path
) -> None:
    assert solved_by(door, prepared, tmp_path / "run", "ray", kill_after=5) == expected
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


@pytest.mark.parametrize("door", [DOORS["video"]], ids=["video"])
def test_a_question_that_kills_two_workers_is_refused_and_the_others_are_not(
    door: Door, prepared: RunFolder, expected: list[Trace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Workers cannot import this module.
    monkeypatch.setattr(ray_engine, "SolvingActor", Deadly)
    traces = solved_by(door, prepared, tmp_path / "run", "ray")
    different = [trace for trace, before in zip(traces, expected, strict=True) if trace != before]
    deadly = [q.id for q in read_rows(prepared.questions, Question) if is_deadly(q)]
    assert deadly
    assert [trace.question_id for trace in different] == deadly
    assert {(t.status, t.error.boundary, t.error.reason) for t in different if t.error} == {
        ("failed", "guard", "worker_lost")
    }


def test_a_text_run_with_ray_goes_through_to_its_report(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(WHOLE.format(run=tmp_path / "run"))
    loaded = load_config(config)
    run, code = run_stages(loaded, config_path=config, command=["test"])
    assert code == 0 and run.report.exists() and run.done.exists()
    assert len(written(run)) == 2 * len(list(read_rows(run.questions, Question)))
