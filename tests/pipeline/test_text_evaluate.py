import subprocess
import sys
from pathlib import Path

from aot.config import parse_config
from aot.files.run_folder import RunFolder, publish_rows
from aot.pipeline.evaluate import learned_ids, plan_predictors, teacher_prediction
from aot.records import Lesson, Question, Trace

HEAVY = ("video_data.store.shards", "cv2", "decord", "av", "torchvision", "PIL")


def test_each_text_arm_answers_in_the_mode_of_its_order() -> None:
    arms = [{"name": name, "order": name} for name in ("answers_only", "pre", "post", "adaptive")]
    raw = {"data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "student": {"base": "tiny-text"},
           "train": {"arms": arms}}  # fmt: skip
    run, config = RunFolder(Path("run")), parse_config(raw, source="test")
    plan = plan_predictors(run, config.train.arms, [])
    assert [(one.arm, one.mode, one.adapter is None) for one in plan] == [
        ("base", "direct", True), ("base", "reason", True), ("answers_only", "direct", False),
        ("pre", "reason", False), ("post", "explain", False), ("adaptive", "adaptive", False),
    ]  # fmt: skip
    closed = Question(id="q", dataset="d", split="test", kind="k", text="?", choices=("a", "b"), answer="a",
                      answer_type="choice", group="q")  # fmt: skip
    added = set(plan_predictors(run, config.train.arms, [closed])) - set(plan)
    assert {one.arm for one in added} == {"base", "answers_only", "pre", "post", "adaptive"}
    assert {one.mode for one in added} == {"likelihood"}


def test_lessons_tell_which_questions_an_arm_learned_from(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    raw = {"data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "student": {"base": "tiny-text"},
           "train": {"arms": [{"name": "pre", "order": "pre"}, {"name": "post", "order": "post"}]}}  # fmt: skip
    lessons = [Lesson(question_id=id_, mode="reason", rationale="Answer: 1") for id_ in ("a", "b", "a")]
    publish_rows(run.arm("pre") / "lessons.jsonl", lessons)
    assert learned_ids(run, parse_config(raw, source="test").train.arms) == {"pre": {"a", "b"}}


def test_a_chat_teachers_cut_reply_is_told_as_cut_and_its_whole_ones_as_whole() -> None:
    question = Question(id="q", dataset="d", split="test", kind="k", text="?", answer="2", answer_type="integer",
                        group="q")  # fmt: skip
    row = {"question_id": "q", "sample_index": 0, "teacher": "chat:m", "config_digest": "0", "usage": {"chat_calls": 1}}
    cut = {"status": "failed", "error": {"boundary": "chat", "message": "cut off", "reason": "truncated"}}
    lost = {"status": "failed", "error": {"boundary": "chat", "message": "gone", "reason": "timeout"}}
    for made, reason in (({"status": "ok", "answer": "2"}, "stop"), (cut, "length"), (lost, "")):
        said = teacher_prediction(Trace.model_validate({**row, **made}), question)
        assert (said.finish_reason, said.answer) == (reason, "2" if reason == "stop" else None)
    drawn = Trace.model_validate({**row, "status": "ok", "answer": "2", "usage": {}})
    assert teacher_prediction(drawn, question).finish_reason == "", "nobody generated it"


def test_evaluating_and_reporting_text_imports_nothing_of_video() -> None:
    program = (
        "import sys, aot.pipeline.evaluate, aot.pipeline.commands.compare, aot.reporting.report, "
        f"aot.reporting.card; print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
