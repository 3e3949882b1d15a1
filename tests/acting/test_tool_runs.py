"""A run with an arm that calls tools: its evaluation is killed and goes on, is measured, and is shown."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from acting_kit import save_word_base

from aot import STAGES
from aot.config import load_config, load_saved
from aot.errors import SourceError
from aot.files.jsonl import read_json
from aot.files.parts import placed_lines
from aot.files.run_folder import RunFolder, read_rows
from aot.files.seals import read_seals
from aot.files.shards import Shard
from aot.pipeline import run_stages
from aot.pipeline.predictors import StudentsHere, answer_share, plan_predictors, unite_shares
from aot.records import MetricRow, Prediction, Question, Trace

CONFIG = """
data: {{dataset: toy_math, math: {{train: 24, test: 12, test_ood: 2}}}}
teacher: {{planner: procedural, tools: {{calculator: "on"}}}}
student: {{base: {base}, max_tokens: 700, max_answer_tokens: 6, max_rationale_tokens: 24, device: cpu}}
train:
  max_steps: 2
  questions_per_step: 4
  questions_per_device: 4
  arms: [{{name: acts, order: tool_use, tools: [calculator]}}]
filter: {{min_kept: 1}}
evaluate: {{splits: [test], batch_size: 4, bootstrap_samples: 100}}
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of all stages by one process that nobody disturbed."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "config.yaml").write_text(CONFIG.format(base=save_word_base(folder / "base")))
    config = load_config(folder / "config.yaml", overrides=(f"run.dir={folder / 'run'}",))
    run, code = run_stages(config, config_path=folder / "config.yaml", command=["aot"], stages=STAGES)
    assert code == 0
    return run


class Evaluation:
    """An evaluation of a copy of a run, share by share."""

    def __init__(self, run: RunFolder, folder: Path) -> None:
        self.run = RunFolder(Path(shutil.copytree(run.root, folder / "run")))
        for made in (self.run.predictions, self.run.student_traces):
            shutil.rmtree(made)
        self.config = load_saved(self.run.config)
        rows = list(read_rows(self.run.questions, Question))
        self.questions = [question for question in rows if question.split == "test"]
        self.plan = plan_predictors(self.run, self.config.train.arms, self.questions)

    def answer(self, share: str) -> Path:
        """The part of predictions of a share, made or gone on with."""
        shard = Shard.of(share)
        students = partial(StudentsHere, self.run, self.config, self.questions, writer=shard.writer)
        answer_share(
            self.run, self.plan, self.questions, shard=shard, writer=shard.writer, students=students,
            progress=lambda done, total: None,
        )  # fmt: skip
        return self.run.prediction_parts / f"part-{shard.writer}.jsonl"

    def unite(self) -> None:
        unite_shares(self.run, self.plan, self.questions)


def files_of(run: RunFolder) -> dict[str, list[object]]:
    """Predictions without wall times, and traces."""
    rows: dict[str, list[object]] = {}
    for path in sorted(run.predictions.glob("*.jsonl")):
        rows[path.name] = [row.model_copy(update={"latency_s": 0.0}) for row in read_rows(path, Prediction)]
    rows.pop("teacher-none.jsonl", None)
    return rows | {f"traces/{path.name}": path.read_bytes() for path in sorted(run.student_traces.glob("*.jsonl"))}  # type: ignore[dict-item]


def test_each_prediction_of_an_arm_that_acts_has_its_trace_beside_it(alone: RunFolder) -> None:
    for name in ("acts", "acts_no_tools"):
        rows = list(read_rows(alone.predictions_of(name, "tools"), Prediction))
        traces = list(read_rows(alone.student_traces_of(name), Trace))
        assert [row.question_id for row in rows] == [trace.question_id for trace in traces] and len(rows) == 12
        assert [row.reasons for row in rows] == [trace.reasons for trace in traces]
        assert {trace.teacher for trace in traces} == {name}
    assert any(name.startswith("student_traces/") for name in read_seals(alone, "evaluate"))


def test_a_killed_evaluation_goes_on_and_two_shards_give_what_one_process_gives(
    alone: RunFolder, tmp_path: Path
) -> None:
    work = Evaluation(alone, tmp_path)
    work.answer("0/2")
    part = work.answer("1/2")
    # What kill -9 leaves: half a row, and a trace whose prediction never came.
    cut = next(offset for offset, line in reversed(list(placed_lines(part))) if b'"mode":"tools"' in line)
    part.write_bytes(part.read_bytes()[: cut + 20])
    assert work.answer("1/2") == part
    work.unite()
    assert files_of(work.run) == files_of(alone)
    assert not list(work.run.student_traces.glob("part-*")) and not work.run.prediction_parts.exists()


def test_a_broken_part_of_traces_is_named(alone: RunFolder, tmp_path: Path) -> None:
    work = Evaluation(alone, tmp_path)
    work.run.student_traces.mkdir()
    (work.run.student_traces / "part-0.jsonl").write_bytes(b"{}\n")
    with pytest.raises(SourceError, match=r"part-0.*no trace"):
        work.unite()


def test_rates_of_calls_and_reasons_stand_beside_accuracy_and_in_the_report(alone: RunFolder) -> None:
    rows = [MetricRow.model_validate(row) for row in read_json(alone.metrics)]
    of_arm = {row.metric: row for row in rows if (row.arm, row.mode, row.kind) == ("acts", "tools", "all")}
    assert {"accuracy", "tool_usage_rate", "calls_mean", "tokens_mean", "accuracy_difference_vs_acts_no_tools"} <= {
        *of_arm
    }
    reasons = {name for name in of_arm if name.startswith("plans_")}
    assert reasons and all(of_arm[name].n == 12 for name in reasons)
    page = alone.report.read_text()
    assert "How students use their tools" in page and "every tool switched off" in page
    assert "calls any tool" in page and "<h4>Teacher</h4>" in page and "calculator(" in page


def test_calling_tools_about_no_clip_imports_nothing_of_video() -> None:
    heavy = ("video_data.store.shards", "cv2", "decord", "av")
    program = (
        "import sys, aot.acting.act, aot.pipeline.benches, aot.teacher.executor; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
