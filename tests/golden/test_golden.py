"""The golden results: what a difference is called, what is no difference, and that a change needs a reason.

No run is made here: .ci/run makes both tiny ones and compares them.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from golden import check, comparison_lines, declare, main, pins, read_golden, undeclared  # noqa: E402
from golden_results import Comparison, Golden, collect, compare  # noqa: E402

from aot.errors import AotError, ConfigError, RunError  # noqa: E402
from aot.records import Trace  # noqa: E402

HERE = Path(__file__).parent
PROBES = {"matmul": "00", "square root": "11"}
VERSIONS = {"torch": "2.13.0", "transformers": "5", "peft": "0", "accelerate": "1", "numpy": "2"}
PAGE = """<dl><div><dt>config</dt><dd class="mono">{day}</dd></div><div><dt>started</dt><dd>{day}</dd></div></dl>
<p class="note">Time: train {day} s.</p>
<h2 id="headline">Headline</h2><p>accuracy {accuracy}</p>
<h2 id="gallery">Gallery</h2><article class="panel" id="t1"><span class="soft">{day} ms</span></article>
<h2 id="settings">Settings</h2><pre>dir: {root}</pre>"""


def trace(number: int, *, seconds: float, rationale: str = "Answer: 1") -> dict[str, Any]:
    return {
        "question_id": f"q{number}", "sample_index": 0, "teacher": "rules", "rationale": rationale,
        "steps": [{"index": 1, "text": "look", "duration_s": seconds}], "usage": {"tool_calls": 1, "seconds": seconds},
        "status": "ok", "config_digest": f"digest{seconds}",
    }  # fmt: skip


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_run(root: Path, *, day: int = 1, pinned: bool = True) -> Path:
    """A small finished run; of another `day` it has other times, paths, workers and settings, and the same results."""
    seconds = 0.1 * day
    rows = [trace(number, seconds=seconds) for number in range(4)]
    cut = day % 4
    write_rows(root / "traces" / "part-0.jsonl", rows[:cut])
    write_rows(root / "traces" / "part-1.jsonl", rows[cut:])
    write_rows(root / "kept.jsonl", rows[:2])
    said = {"arm": "pre", "mode": "direct", "raw_text": "1", "answer": "1", "latency_s": seconds}
    asked = [{"question_id": f"q{number}", **said, "choice_probs": [0.25, 0.75]} for number in range(40)]
    write_rows(root / "predictions" / "pre-direct.jsonl", asked)
    write_rows(root / "predictions" / "teacher-none.jsonl", [{**row, "arm": "teacher"} for row in asked])
    arm = root / "student" / "pre"
    write_rows(arm / "metrics.jsonl", [{"step": step, "loss": 2.5 - step, "grad_norm": 1.0} for step in (1, 2)])
    write_rows(arm / "lessons.jsonl", [{"question_id": f"q{number}", "label": "1"} for number in range(2)])
    save_file({"lora_A": np.ones((2, 3), dtype=np.float32)}, arm / "adapter_model.safetensors")
    (arm / "DONE").write_text(f"digest{day}")
    cost = [{"tool": "look", "calls": 4, "mean_ms": seconds}]
    stats = {"planner": "rules", "seconds_per_verified_trace": seconds, "tool_cost": cost}
    (root / "teacher.json").write_text(json.dumps(stats))
    score = {"arm": "pre", "mode": "direct", "split": "test", "kind": "all", "metric": "accuracy", "value": 0.5}
    (root / "metrics.json").write_text(json.dumps([score]))
    (root / "report.html").write_text(PAGE.format(day=day, root=root, accuracy=0.5))
    (root / "MODEL_CARD.md").write_text(f"# run\nRevision `r{day}`, config `c{day}`, made {day}.\n## Results\n0.5\n")
    (root / "log.txt").write_text(f"day {day}\n")
    facts = {
        "hardware": {"machine": "x86_64"}, "arithmetic": pins() if pinned else {}, "versions": VERSIONS,
        "revision": f"r{day}", "stages": {},
    }  # fmt: skip
    (root / "run.json").write_text(json.dumps(facts))
    (root / "DONE").write_text(str(day))
    return root


def edit(path: Path, old: str, new: str, *, times: int = 1) -> None:
    assert path.read_text().count(old) >= times
    path.write_text(path.read_text().replace(old, new, times))


Change = Callable[[Path], None]


@pytest.fixture
def compared(tmp_path: Path) -> Callable[..., Comparison]:
    """A run of another day with one change, compared with the first run."""
    golden = collect(make_run(tmp_path / "there" / "run"), probes=PROBES)

    def make(change: Change, *, pinned: bool = True, probes: dict[str, str] = PROBES) -> Comparison:
        root = make_run(tmp_path / "elsewhere" / "run", day=3, pinned=pinned)
        change(root)
        return compare(golden, collect(root, probes=probes))

    return make


def test_times_paths_workers_and_settings_are_no_difference(compared: Callable[..., Comparison]) -> None:
    found = compared(lambda root: None)
    assert (found.problems, found.why_tolerant) == ((), ())
    assert found.exact == 13, "every artifact is compared"


def test_a_run_beside_runs_is_the_same_as_one_with_a_whole_path(compared: Callable[..., Comparison]) -> None:
    found = compared(lambda root: edit(root / "report.html", str(root), f"runs/{root.name}"))
    assert (found.problems, found.exact) == ((), 13)


def test_the_rows_are_those_of_real_traces() -> None:
    Trace.model_validate(trace(1, seconds=0.5))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda root: edit(root / "traces" / "part-1.jsonl", "Answer: 1", "Answer: 2"),
            "traces: 1 of 4 rows differ: q3/0",
        ),
        (
            lambda root: edit(root / "student" / "pre" / "metrics.jsonl", "0.5", "0.5001"),
            "student/pre/metrics.jsonl: step 2 loss was 0.5, is 0.5001",
        ),
        (
            lambda root: edit(root / "student" / "pre" / "metrics.jsonl", "0.5", "0.500000001"),
            "student/pre/metrics.jsonl: other content; its numbers are the same to 7 digits",
        ),
        (
            lambda root: save_file({"lora_A": np.zeros((2, 3), "f4")}, root / "student/pre/adapter_model.safetensors"),
            "student/pre/adapter_model.safetensors: norm was 2.44949, is 0.0",
        ),
        (
            lambda root: edit(root / "predictions" / "pre-direct.jsonl", "0.75", "0.7500001"),
            "predictions/pre-direct.jsonl: probabilities: 1 of 40 rows differ: q0",
        ),
        (
            lambda root: edit(root / "report.html", "accuracy 0.5", "accuracy 0.6"),
            "report.html: 1 of 4 rows differ: headline",
        ),
        (
            lambda root: edit(root / "MODEL_CARD.md", "\n0.5", "\n0.6"),
            "MODEL_CARD.md: 1 of 2 rows differ: Results",
        ),
        (
            lambda root: edit(root / "teacher.json", '"calls": 4', '"calls": 5'),
            "teacher.json: 1 of 2 rows differ: tool_cost",
        ),
        (
            lambda root: write_rows(root / "kept.jsonl", [trace(number, seconds=1) for number in (1, 0)]),
            "kept.jsonl: the same rows in another order",
        ),
        (
            lambda root: write_rows(root / "kept.jsonl", [trace(number, seconds=1) for number in (0, 1, 3)]),
            "kept.jsonl: 1 new: q3/0; 2 rows there, 3 now",
        ),
        (
            lambda root: (root / "predictions" / "pre-direct.jsonl").unlink(),
            "predictions/pre-direct.jsonl: missing",
        ),
        (
            lambda root: (root / "more.bin").write_bytes(b"\0"),
            "more.bin: new; pin it with `make`, or leave it out in scripts/golden_results.py",
        ),
    ],
)
def test_a_change_is_told_by_its_place(compared: Callable[..., Comparison], change: Change, told: str) -> None:
    found = compared(change)
    assert told in found.problems
    assert any("1 problems" in line or "2 problems" in line for line in comparison_lines("run", found))


def test_a_difference_comes_with_the_versions_that_may_explain_it(compared: Callable[..., Comparison]) -> None:
    def change(root: Path) -> None:
        edit(root / "run.json", '"numpy": "2"', '"numpy": "3"')
        edit(root / "kept.jsonl", "look", "see")

    lines = comparison_lines("run", compared(change))
    assert "run: other versions than when the golden file was made: numpy 3 (was 2)" in lines


def drift(root: Path) -> None:
    """What another processor does: the last digits of losses, weights, probabilities, and a word of one reply."""
    edit(root / "student" / "pre" / "metrics.jsonl", "0.5", "0.500001")
    save_file({"lora_A": np.full((2, 3), 1.000001, dtype="f4")}, root / "student/pre/adapter_model.safetensors")
    edit(root / "predictions" / "pre-direct.jsonl", "0.75", "0.7500001")
    edit(root / "predictions" / "pre-direct.jsonl", '"raw_text": "1"', '"raw_text": "2"')
    edit(root / "report.html", "accuracy 0.5", "accuracy 0.52")
    edit(root / "metrics.json", "0.5", "0.525")


def test_drift_is_a_difference_where_the_run_was_pinned(compared: Callable[..., Comparison]) -> None:
    assert len(compared(drift).problems) == 6


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"pinned": False}, "MKL_CBWR is not set, not COMPATIBLE"),
        ({"probes": {**PROBES, "square root": "22"}}, "this processor gives other digits for: square root"),
    ],
)
def test_drift_is_within_tolerance_elsewhere_and_that_is_said(
    compared: Callable[..., Comparison], made: dict[str, Any], why: str
) -> None:
    found = compared(drift, **made)
    assert found.problems == ()
    assert why in found.why_tolerant
    assert len(found.within_tolerance) == 4
    assert found.not_judged == ("predictions/pre-direct.jsonl: probabilities", "report.html")
    lines = comparison_lines("run", found)
    assert any(why in line for line in lines) and any("not judged" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "artifact"),
    [
        (lambda root: edit(root / "traces" / "part-1.jsonl", "Answer: 1", "Answer: 2"), "traces"),
        (lambda root: edit(root / "student/pre/lessons.jsonl", '"1"', '"2"'), "student/pre/lessons.jsonl"),
        (lambda root: edit(root / "predictions/teacher-none.jsonl", '"1"', '"2"'), "predictions/teacher-none.jsonl"),
        (lambda root: edit(root / "student/pre/metrics.jsonl", "0.5", "0.501"), "student/pre/metrics.jsonl"),
        (lambda root: edit(root / "metrics.json", "0.5", "0.6"), "metrics.json"),
        (lambda root: (root / "report.html").unlink(), "report.html"),
        (
            lambda root: edit(root / "predictions/pre-direct.jsonl", '"raw_text": "1"', '"raw_text": "2"', times=3),
            "predictions/pre-direct.jsonl",
        ),
    ],
)
def test_no_tolerance_hides_a_real_change(compared: Callable[..., Comparison], change: Change, artifact: str) -> None:
    problems = compared(change, pinned=False).problems
    assert [problem.split(":")[0] for problem in problems] == [artifact]


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run")
    (root / "DONE").unlink()
    with pytest.raises(RunError, match="is not finished"):
        collect(root, probes=PROBES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one declared golden file."""
    folder = tmp_path / "golden"
    assert declare(folder, "run", collect(make_run(tmp_path / "run"), probes=PROBES), reason="first")
    return folder


def test_a_hash_that_changed_without_a_reason_is_told(folder: Path) -> None:
    assert undeclared(folder) == []
    first = read_golden(folder / "run.json").artifacts["traces"].rows["q0/0"]
    edit(folder / "run.json", first, "000000")
    assert "declare the change with" in undeclared(folder)[0]


def test_a_golden_file_that_no_line_names_is_told(folder: Path) -> None:
    shutil.copy(folder / "run.json", folder / "other.json")
    assert undeclared(folder)[0].startswith("other.json has the digest")


def test_making_again_without_a_change_writes_no_reason(folder: Path) -> None:
    before = (folder / "CHANGES.md").read_text()
    assert not declare(folder, "run", read_golden(folder / "run.json"), reason="nothing")
    assert (folder / "CHANGES.md").read_text() == before


def test_a_change_adds_its_reason_as_one_line(folder: Path, tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", day=2)
    edit(root / "metrics.json", "0.5", "0.6")
    now = collect(root, probes=PROBES)
    assert declare(folder, "run", now, reason="a better\nstudent")
    assert (folder / "CHANGES.md").read_text().splitlines()[1] == f"- `run` `{now.digest()}`: a better student"
    assert undeclared(folder) == []


def test_files_that_a_merge_left_broken_are_told_and_made_again(folder: Path) -> None:
    golden = read_golden(folder / "run.json")
    (folder / "run.json").write_text("<<<<<<< ours\n" + (folder / "run.json").read_text())
    assert undeclared(folder)[0].startswith("run.json has the digest of no golden file")
    assert declare(folder, "run", golden, reason="merge of two changes")
    assert undeclared(folder) == []


def test_a_change_needs_a_reason(folder: Path) -> None:
    with pytest.raises(ConfigError, match="needs a reason"):
        declare(folder, "run", read_golden(folder / "run.json"), reason=" \n")
    assert main(["make", "--reason", " "]) == ConfigError.exit_code


def test_a_golden_file_without_artifacts_is_refused(folder: Path) -> None:
    emptied = {**json.loads((folder / "run.json").read_text()), "artifacts": {}}
    (folder / "run.json").write_text(json.dumps(emptied))
    with pytest.raises(ConfigError, match="is no golden file"):
        read_golden(folder / "run.json")


def test_check_ends_with_one_on_a_difference_and_names_what_it_does_not_know(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_run(tmp_path / "run", day=2)
    assert check([root], folder=folder, measured=PROBES) == 0
    assert "this run was made by revision r2" in capsys.readouterr().out
    edit(root / "kept.jsonl", "look", "see")
    assert check([root], folder=folder, measured=PROBES) == 1
    assert "run: kept.jsonl: 1 of 2 rows differ: q0/0" in capsys.readouterr().out
    with pytest.raises(AotError, match="known: run"):
        check([make_run(tmp_path / "unknown")], folder=folder, measured=PROBES)


def test_the_committed_golden_files_are_declared() -> None:
    assert undeclared(HERE) == []


@pytest.mark.parametrize(("name", "arms"), [("toy_kitchen_tiny", 2), ("tiny_math_tiny", 9)])
def test_the_committed_golden_files_hold_every_kind_of_result(name: str, arms: int) -> None:
    golden: Golden = read_golden(HERE / f"{name}.json")
    assert golden.made_with.pins == pins()
    assert set(golden.made_with.probes) >= {"matmul", "square root"}
    wanted = {
        "questions.jsonl",
        "traces",
        "verdicts.jsonl",
        "kept.jsonl",
        "dropped.jsonl",
        "funnel.json",
        "teacher.json",
    }
    wanted |= {"refusals.jsonl", "annotations.jsonl", "metrics.json", "report.html", "MODEL_CARD.md", "faults"}
    assert wanted <= golden.artifacts.keys()
    for path in ("student/{}/metrics.jsonl", "student/{}/training.json", "student/{}/contract.json"):
        head, tail = path.split("{}")
        found = {key for key in golden.artifacts if key.startswith(head) and key.endswith(tail) and key.count("/") == 2}
        assert len(found) == arms, path
    assert all(artifact.numbers for key, artifact in golden.artifacts.items() if key.endswith(".safetensors"))


def test_ci_makes_both_tiny_runs_under_the_pins_and_compares_them() -> None:
    lines = [line.strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]
    pinned = lines.index("source tests/golden/pins.env")
    jobs = [line for line in lines if "bash scripts/distill_" in line]
    assert len(jobs) == 4 and all(lines.index(line) > pinned and line.startswith("pinned ") for line in jobs)
    assert lines[-1] == 'pinned "$python" scripts/golden.py check runs/toy_kitchen_tiny runs/tiny_math_tiny'
