import subprocess
import sys
from pathlib import Path

from aot.config import parse_config
from aot.pipeline.evaluate import plan_predictors
from aot.runs import RunFolder

HEAVY = ("video_data.shards", "cv2", "decord", "av", "torchvision", "PIL")


def test_each_text_arm_answers_in_the_mode_of_its_order() -> None:
    arms = [{"name": name, "order": name} for name in ("answers_only", "pre", "post", "adaptive")]
    raw = {"data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "student": {"base": "tiny-text"},
           "train": {"arms": arms}}  # fmt: skip
    plan = plan_predictors(RunFolder(Path("run")), parse_config(raw, source="test"))
    assert [(one.arm, one.mode, one.adapter is None) for one in plan] == [
        ("base", "direct", True), ("base", "reason", True), ("answers_only", "direct", False),
        ("pre", "reason", False), ("post", "explain", False), ("adaptive", "adaptive", False),
    ]  # fmt: skip


def test_evaluating_and_reporting_text_imports_nothing_of_video() -> None:
    program = (
        "import sys, aot.pipeline.evaluate, aot.pipeline.compare, aot.reporting.text_report, "
        f"aot.reporting.card; print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
