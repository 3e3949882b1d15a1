import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aot.config import dump_config, parse_config
from aot.errors import AotError
from aot.files.run_folder import RunFolder, publish, publish_json, publish_rows, read_rows, set_stage
from aot.files.seals import stage_seals
from aot.pipeline.commands.compare import compare_runs, comparison_lines
from aot.records import Prediction, Question

MakeRun = Callable[..., Path]
MODES = {"base": "direct", "answers_only": "direct", "pre": "reason"}


def _question(number: int, text: str) -> Question:
    kind = "sum" if number % 2 else "story"
    return Question(
        id=f"q{number:02d}", dataset="toy_math", split="test", kind=kind, text=text, answer=str(number),
        answer_type="integer", group=f"q{number}", tags={"steps": 3},
    )  # fmt: skip


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(name: str, *, right: dict[str, set[int]], count: int = 20, text: str = "What is {n} + 0?") -> Path:
        run = RunFolder(tmp_path / name)
        arms = [{"name": arm, "order": arm} for arm in ("answers_only", "pre")]
        raw = {"data": {"dataset": "toy_math"}, "teacher": {"planner": "procedural"}, "train": {"arms": arms},
               "student": {"base": "tiny-text"}, "evaluate": {"bootstrap_samples": 200}}  # fmt: skip
        publish(run.config, dump_config(parse_config(raw, source="test")))
        publish_json(run.run_json, {"stages": {"train": {"state": "done", "seconds": 12.5}}})
        publish_rows(run.questions, [_question(i, text.format(n=i)) for i in range(count)])
        for arm, numbers in right.items():
            said = {i: str(i) if i in numbers else "-1" for i in range(count)}
            publish_rows(run.predictions / f"{arm}.jsonl", [
                Prediction(question_id=f"q{i:02d}", arm=arm, mode=MODES[arm], raw_text=answer, answer=answer,  # type: ignore[arg-type]
                           completion_tokens=5) for i, answer in said.items()])  # fmt: skip
            facts = {
                "trainable_parameters": 1234,
                "max_steps": 7,
                "rationales_seen": 0 if arm == "answers_only" else 12,
            }
            publish_json(run.arm(arm) / "training.json", facts)
        return run.root

    return make


def test_the_share_of_cut_replies_stands_beside_the_costs(make_run: MakeRun) -> None:
    a, b = make_run("a", right={"pre": set(range(8))}), make_run("b", right={"pre": set(range(8))})
    path = RunFolder(b).predictions / "pre.jsonl"
    ends = ["length" if i < 5 else "stop" for i in range(20)]
    made = zip(read_rows(path, Prediction), ends, strict=True)
    publish_rows(path, [row.model_copy(update={"finish_reason": end}) for row, end in made])
    found = compare_runs(a, b)
    cut = found.result.tokens_after.truncated_rate
    assert found.result.tokens_before.truncated_rate is None and cut is not None and (cut.value, cut.n) == (0.25, 20)
    assert found.result.groups[0].after.value == 0.15, "five of the eight right ones were cut off"
    (line,) = (line for line in comparison_lines(found) if line.startswith("replies cut off"))
    assert "not counted" in line and "25.0 [" in line


def test_two_runs_are_compared_on_their_main_arms_with_flips_and_paired_tests(make_run: MakeRun) -> None:
    a, b = make_run("a", right={"pre": set(range(8))}), make_run("b", right={"pre": set(range(2, 20))})
    found = compare_runs(a, b)
    whole = found.result.groups[0]
    assert (found.before.arm, found.after.arm, found.common, found.left_out) == ("pre", "pre", 20, ())
    assert (whole.n, whole.before.value, whole.after.value, whole.difference.value) == (20, 0.4, 0.9, 0.5)
    assert (whole.wrong_to_right, whole.right_to_wrong, whole.p_mcnemar) == (12, 2, pytest.approx(0.0129, abs=1e-4))
    assert [flip.question_id for flip in found.result.right_to_wrong] == ["q00", "q01"]
    assert len(found.result.wrong_to_right) == 5
    assert [group.kind for group in found.result.groups] == ["all", "all", "story", "sum", "steps=3", "steps=3-4"]


def test_tables_tell_accuracy_cost_and_examples(make_run: MakeRun) -> None:
    run = make_run("a", right={"pre": set(range(20)), "answers_only": {1}})
    text = "\n".join(comparison_lines(compare_runs(run, run, arm_b="answers_only")))
    assert "-95.0 [-100.0, -85.0]" in text and "p below 0.0001" in text
    assert "1,234" in text and "5.0 [" in text and "100.0 [" in text and "] n=20" in text
    assert "train stage" not in text, "it is the same for all arms of a run"
    assert "right in A, wrong in B: 19, the first 5:" in text and "wrong in A, right in B: 0" in text


def test_an_arm_that_saw_no_rationale_is_named_so_and_is_no_main_arm(make_run: MakeRun) -> None:
    run = make_run("a", right={"pre": {1}, "answers_only": {2}})
    told = "\n".join(comparison_lines(compare_runs(run, run, arm_b="answers_only")))
    assert f"A: pre (reason) of {run}" in told and re.search(r"rationales learned +12 +0", told)
    publish_json(RunFolder(run).arm("pre") / "training.json", {"rationales_seen": 0})
    found = compare_runs(run, run, arm_b="pre")
    assert (found.before.arm, found.after.rationales_seen) == ("answers_only", 0)
    assert "B: pre (saw no rationale) (reason) of" in "\n".join(comparison_lines(found))


def test_questions_that_differ_or_are_missing_are_left_out_and_counted(make_run: MakeRun) -> None:
    a = make_run("a", right={"pre": {1}}, text="What is {n} + 0?")
    b = make_run("b", right={"pre": {1}}, count=25)
    rows = [json.loads(line) for line in (b / "questions.jsonl").read_text().splitlines()]
    rows[3]["answer"] = "33"
    rows[4]["answer_type"] = "number"
    (b / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = compare_runs(a, b)
    assert found.common == 18
    assert {row.reason: row.count for row in found.left_out} == {
        "only in B": 5, "another text, gold answer, answer type or choices under the same id": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"arm": "pra"}, "did you mean 'pre'?"),
        ({"arm": "pre:explain"}, "its modes are reason"),
        ({}, "both sides are pre (reason)"),
    ],
)
def test_a_wrong_arm_is_told_with_the_nearest_one(make_run: MakeRun, options: dict[str, str], told: str) -> None:
    run = make_run("a", right={"pre": {1}, "answers_only": {1}})
    with pytest.raises(AotError, match=told.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")):
        compare_runs(run, run, **options)


def answer_directly(root: Path, arm: str) -> Path:
    """The file of the arm's answers in another mode, the same as in its own."""
    run = RunFolder(root)
    rows = read_rows(run.predictions / f"{arm}.jsonl", Prediction)
    path = run.predictions / f"{arm}-direct.jsonl"
    publish_rows(path, [row.model_copy(update={"mode": "direct"}) for row in rows])
    return path


def test_a_mode_that_nobody_named_is_one_in_which_both_sides_answered(make_run: MakeRun) -> None:
    a, b = make_run("a", right={"pre": {1}, "answers_only": {2}}), make_run("b", right={"pre": {2}})
    answer_directly(b, "pre")

    def modes(*runs: Path, **arms: str) -> tuple[str, str, str]:
        found = compare_runs(*runs, **arms)
        return found.before.mode, found.after.mode, found.note

    assert modes(a, b) == ("reason", "reason", "")
    assert modes(a, b, arm="answers_only", arm_b="pre") == ("direct", "direct", "")
    assert modes(b, b, arm="pre", arm_b="pre:reason") == ("direct", "reason", "")
    assert "modes differ" in modes(a, b, arm_b="pre:direct")[2]
    assert modes(a, b, arm="pre:reason", arm_b="pre:direct") == ("reason", "direct", "")
    told = "\n".join(comparison_lines(compare_runs(a, a, arm_b="answers_only")))
    assert "note: the modes differ: A answered in reason, B in direct" in told


def test_two_arms_that_only_ranked_options_in_common_are_compared_as_each_writes(make_run: MakeRun) -> None:
    root = make_run("a", right={"pre": {1}, "answers_only": {2}})
    run = RunFolder(root)
    for arm in ("pre", "answers_only"):
        rows = [
            row.model_copy(update={"mode": "likelihood"})
            for row in read_rows(run.predictions / f"{arm}.jsonl", Prediction)
        ]
        publish_rows(run.predictions / f"{arm}-likelihood.jsonl", rows)
    found = compare_runs(root, root, arm_b="answers_only")
    assert (found.before.mode, found.after.mode) == ("reason", "direct") and "the modes differ" in found.note
    found = compare_runs(root, root, arm="pre:likelihood", arm_b="answers_only")
    assert (found.before.mode, found.after.mode, found.note) == ("likelihood", "likelihood", "")


def test_a_published_file_of_predictions_that_is_gone_is_told(make_run: MakeRun) -> None:
    a, b = make_run("a", right={"pre": {1}}), make_run("b", right={"pre": {2}})
    path = answer_directly(a, "pre")
    set_stage(RunFolder(a), "evaluate", "done", files=stage_seals(RunFolder(a), "evaluate"))
    compare_runs(a, b)
    path.unlink()
    with pytest.raises(AotError, match=rf"{path} was published and is gone.* `aot run CONFIG` of {a} again"):
        compare_runs(a, b)


def test_folders_that_cannot_be_compared_say_why(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("a", right={"pre": {1}})
    with pytest.raises(AotError, match="is no run folder"):
        compare_runs(run, tmp_path)
    with pytest.raises(AotError, match="has no predictions yet"):
        compare_runs(run, make_run("b", right={}))
    with pytest.raises(AotError, match=r"no question in common \(20 another text"):
        compare_runs(run, make_run("c", right={"pre": {1}}, text="What is {n} + 1?"))


def test_model_text_cannot_write_to_the_terminal(make_run: MakeRun) -> None:
    a, b = (make_run(n, right={"pre": right}, text="\x1b[2J{n}") for n, right in (("a", {1}), ("b", {2})))
    for run in (a, b):
        text = (run / "questions.jsonl").read_text().replace('"sum"', '"\\u001b[2Jsum"')
        (run / "questions.jsonl").write_text(text)
    lines = comparison_lines(compare_runs(a, b))
    assert not any("\x1b" in line for line in lines)
    assert any("train stage, all arms of the run, s" in line for line in lines)


def test_the_verb_prints_json(make_run: MakeRun) -> None:
    a, b = make_run("a", right={"pre": {1}}), make_run("b", right={"pre": {2}})
    command = [sys.executable, "-m", "aot", "compare", str(a), str(b), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert json.loads(done.stdout)["result"]["groups"][0]["n"] == 20
