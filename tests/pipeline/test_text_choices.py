"""A text run whose questions have choices goes through to its report, with the likelihood of each choice."""

import json
from pathlib import Path

from aot.config import parse_config
from aot.files.run_folder import read_rows
from aot.pipeline import run_stages
from aot.records import Prediction

NAMES = ("Dan", "Eve", "Leo", "Ann")


def test_a_text_run_with_choices_reports_their_likelihood_and_calibration(tmp_path: Path) -> None:
    rows = []
    for number in range(36):
        young, old = NAMES[number % 4], NAMES[(number + 1 + number // 4 % 3) % 4]
        who, right = ("oldest", old) if number % 2 else ("youngest", young)
        rows.append(
            {"id": f"q{number}", "question": f"{young} is younger than {old}. Who is the {who}?", "answer": right,
             "choices": [young, old], "rationale": f"{old} > {young}.", "split": "test" if number % 3 == 0 else "train",
             "group": f"q{number}"}
        )  # fmt: skip
    (tmp_path / "sheet.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = {
        "run": {"dir": str(tmp_path / "run")},
        "data": {"dataset": "text_jsonl", "files": {"train": str(tmp_path / "sheet.jsonl")}},
        "teacher": {"planner": "given"},
        "filter": {"min_kept": 1},
        "student": {"base": "tiny-text", "max_tokens": 256, "max_answer_tokens": 8, "max_rationale_tokens": 16},
        "train": {"max_steps": 2, "questions_per_step": 8, "questions_per_device": 8,
                  "arms": [{"name": "pre", "order": "pre"}]},
        "evaluate": {"splits": ["test"], "bootstrap_samples": 100},
    }  # fmt: skip
    run, code = run_stages(parse_config(raw, source="choices.yaml"), config_path=tmp_path / "c.yaml", command=["aot"])
    assert code == 0
    scored = list(read_rows(run.predictions / "pre-likelihood.jsonl", Prediction))
    assert len(scored) == 12 and all(abs(sum(row.choice_probs) - 1) < 1e-4 for row in scored)
    metrics = {(row["arm"], row["mode"], row["metric"]) for row in json.loads(run.metrics.read_text())}
    assert {("pre", "likelihood", "accuracy"), ("pre", "likelihood", "ece")} <= metrics
    assert "likelihood" in run.report.read_text()
