"""The gates after `generate` and `filter`: what stops, what it says, and how the same folder goes on."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from aot.arms.train import train
from aot.config import VideoRun, load_config
from aot.errors import GuardStop
from aot.files.run_folder import RunFolder, publish, publish_json, publish_rows
from aot.generate.failures import MAX_REASONS, OTHER, FailureCounter, countable, failure_lines
from aot.pipeline import run_stages
from aot.pipeline.commands.status import status_lines
from aot.pipeline.gates import check_gate
from aot.records import Trace, TraceError, Verdict
from aot.run_records import FilterCount, Funnel

ROOT = Path(__file__).parents[2]
CLIP = ROOT.parent / "shared" / "data" / "clips" / "flipping_a_pancake.mkv"
STAGES = ("prepare", "generate", "filter")


def stages(path: Path, *settings: str, only: tuple[str, ...] = STAGES) -> RunFolder:
    config = load_config(path, overrides=settings)
    return run_stages(config, config_path=path, command=["aot"], stages=only)[0]


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """A text run of 15 sums to learn, 9 of which have no worked solution, and 5 others."""
    rows = [{"question": f"What is {n} + 2?", "answer": str(n + 2)} for n in range(20)]
    for n, row in enumerate(rows):
        row |= {"rationale": f"{n} + 2 = {n + 2}."} if n % 5 < 2 else {}
    for name, part in (("train", rows[:15]), ("test", rows[15:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (tmp_path / "run.yaml").write_text(
        f"run: {{dir: {tmp_path / 'run'}}}\n"
        f"data: {{dataset: text_jsonl, root: {tmp_path}, files: {{train: train.jsonl, test: test.jsonl}}}}\n"
        "teacher: {planner: given}\nfilter: {min_kept: 1}\nstudent: {base: tiny-text}\nevaluate: {splits: [test]}\n"
        "train: {arms: [{name: pre, order: pre}]}\n"
    )
    return tmp_path / "run.yaml"


@pytest.mark.skipif(not CLIP.exists(), reason="the real clips are not here")
def test_own_clips_with_the_default_tools_stop_the_run_and_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "pan.mkv").write_bytes(CLIP.read_bytes())
    asked = [
        {"question": "Is there any pancake in the clip?", "answer": "yes", "kind": "present"},
        {"question": "Is there any wok in the clip?", "answer": "no", "kind": "present"},
        {"question": "What is flipped?", "answer": "pancake", "kind": "object"},
        {"question": "What is the next step?", "answer": "serve", "choices": ["serve", "wash"], "kind": "next_choice"},
    ]
    rows = [{"id": f"q{n}", "video": "clips/pan.mkv", "split": "train", **row} for n, row in enumerate(asked)]
    (tmp_path / "clips" / "other.mkv").write_bytes(CLIP.with_name("cooking_stove.avi").read_bytes())
    rows.append({**rows[1], "id": "t", "video": "clips/other.mkv", "split": "test"})
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.yaml").write_text("data: {dataset: plain, root: .}\nevaluate: {splits: [test]}\n")
    command = [sys.executable, "-m", "aot", "run", str(tmp_path / "own.yaml"), f"data.root={tmp_path}"]
    command.append(f"run.dir={tmp_path / 'run'}")
    early = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert early.returncode == 2 and "4 of 4 training questions" in early.stderr and not (tmp_path / "run").exists()
    command.append("teacher.max_failed_share=1")
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 4 and "Traceback" not in done.stderr, done.stderr
    for told in (
        "the tools cannot know 5 of 5 questions, such as q0: no known object in 'Is there any pan", "of three ways",
        "no rule for questions of kind 'object'", "no procedural knowledge", "synthetic kitchen only",
        "docs/plain_data.md", "teacher.appearance", "teacher.tools", "teacher.planner=chat", "filter.min_kept is 8",
    ):  # fmt: skip
        assert told in done.stderr, told
    run = RunFolder(tmp_path / "run")
    assert not run.arm("distilled").exists() and not run.model_card.exists()


def test_too_many_failed_traces_stop_and_a_moved_threshold_goes_on_in_the_same_folder(
    sums: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(GuardStop, match=r"9 of 15 training traces failed.*max_failed_share is 0.5") as stop:
        stages(sums, "teacher.max_failed_share=0.5")
    assert stop.value.exit_code == 4 and "source: the data set gives no solution: 9, such as" in str(stop.value)
    run = RunFolder(sums.parent / "run")
    assert "the run stopped after it: 9 of 15" in status_lines(run.root)[1]
    written = run.teacher_stats.stat().st_mtime_ns
    caplog.clear()
    stages(sums)
    assert run.teacher_stats.stat().st_mtime_ns == written and run.funnel.exists()
    assert "generate: finished before" in caplog.text and "12 of 20 traces failed:" in caplog.text
    assert "stopped" not in "".join(status_lines(run.root))


def test_too_few_kept_traces_stop_before_anything_is_trained(sums: Path) -> None:
    with pytest.raises(GuardStop, match=r"6 of 15 training traces were kept, and filter.min_kept is 15") as stop:
        stages(sums, "filter.min_kept=15")
    assert "status: failed_source: 9" in str(stop.value) and "filter.min_kept=6" in str(stop.value)
    with pytest.raises(GuardStop, match="nothing was trained"):
        stages(sums, "filter.min_kept=15", only=("train",))
    assert not RunFolder(sums.parent / "run").arm("pre").exists()


def test_no_arm_is_trained_on_nothing_whatever_the_gates_let_pass(sums: Path, tmp_path: Path) -> None:
    stages(sums, "filter.min_kept=0", "filter.max_words=1")
    with pytest.raises(GuardStop, match="no chain was kept"):
        stages(sums, "filter.min_kept=0", "filter.max_words=1", only=("train",))
    run = RunFolder(tmp_path / "video")
    publish_rows(run.questions, [])
    publish_rows(run.kept, [])
    config = VideoRun.model_validate({"data": {"dataset": "toy_kitchen"}})
    with pytest.raises(GuardStop, match="no chain was kept, so distilled would have nothing to learn from"):
        train(run, config, lambda done, total: None)
    assert not run.arm("answer_only").exists()


def test_a_shard_passes_and_the_command_that_puts_them_together_counts_all(sums: Path) -> None:
    strict = "teacher.max_failed_share=0.5"
    stages(sums, only=("prepare",))
    for shard in ("0/2", "1/2"):
        stages(sums, strict, f"run.shard={shard}", only=("generate",))
    with pytest.raises(GuardStop, match="9 of 15 training traces failed"):
        stages(sums, strict, only=("generate",))


def test_few_kept_traces_are_told_where_the_run_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunFolder(tmp_path)
    config = VideoRun.model_validate({"data": {"dataset": "toy_kitchen"}, "filter": {"min_kept": 2}})
    reason = FilterCount(filter="status", reason="failed_tool", first=64, any=64)
    counts = {"traces": 66, "verified": 2, "natural_failures": 64, "kept": 2, "dropped": 64}
    publish(run.funnel, Funnel(**counts, by_filter={"status": 64}, reasons=(reason,)).model_dump_json())
    row = {"question_id": "q7", "sample_index": 0, "filter": "status", "reason": "failed_tool"}
    publish_rows(run.verdicts, [Verdict(**row, keep=False, detail="nothing \x1b[31mseen")])
    publish_json(run.run_json, {"stages": {"filter": {"state": "done"}}})
    check_gate(run, config, "filter")
    assert "only 2 of 66 training traces were kept" in caplog.text
    assert "status: failed_tool: 64, such as q7: nothing  [31mseen" in caplog.text and "\x1b" not in caplog.text


def failed(number: int, message: str, *, reason: str = "") -> Trace:
    error = TraceError(boundary="tool", message=message, reason=reason)
    return Trace(
        question_id=f"q{number}", sample_index=0, teacher="rules", status="failed", error=error, config_digest="0"
    )


def test_messages_that_differ_in_what_they_quote_are_one_reason_with_the_first_as_example() -> None:
    counter = FailureCounter()
    for number, thing in enumerate(("a pan", 'the cook\'s "pot"', "x" * 500)):
        counter.add(failed(number, f"no known object in {thing!r}; ask about another"), is_training=number < 2)
    (group,) = counter.groups()
    assert (group.count, group.training, counter.training_failed) == (3, 2, 2)
    example = "q0: no known object in 'a pan'; ask about another"
    assert failure_lines([group], most=1) == [f"  tool: no known object in '…': 3, such as {example}"]
    assert countable("nothing in 0.0-5.25 s") == "nothing in …-… s"
    assert countable("the model's reply holds no JSON: 'abc'") == "the model's reply holds no JSON: '…'"


def test_endless_reasons_are_counted_and_not_all_listed() -> None:
    counter = FailureCounter()
    for number in range(2 * MAX_REASONS):
        counter.add(failed(number, "x", reason=f"r{'y' * number}"), is_training=True)
    groups = counter.groups()
    assert len(groups) == MAX_REASONS + 1 and sum(group.count for group in groups) == 2 * MAX_REASONS
    assert groups[0].reason == OTHER
