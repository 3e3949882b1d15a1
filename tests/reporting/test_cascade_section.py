"""The section of a cascade stands in the report of a run that was calibrated, and in no other."""

from pathlib import Path

import pytest
from report_run import build_run, read_frames
from test_report import HOSTILE, Page

from aot.config import RunConfig
from aot.files.run_folder import RunFolder, publish_rows, read_rows
from aot.pipeline.student.cascade import publish_cascade
from aot.records import Prediction, Question
from aot.reporting.report import write_report
from aot.reporting.summary import summary_lines
from aot.served_records import CascadeThreshold, KindTemperature, ServedCalibration


def calibration(threshold: float | None, *, source: str = "questions of its own") -> ServedCalibration:
    row = CascadeThreshold(
        mode="decide", loss="wrong", target=0.2, confidence=0.95, threshold=threshold, n=120, kept=90, errors=9,
        upper=0.17, base_risk=0.25, must_escalate=0.0625,
    )  # fmt: skip
    return ServedCalibration(
        temperatures=(KindTemperature(kind="*", temperature=1.0, n=60),), source=source, questions_digest="0" * 12,
        n=180, ece_before=0.1, ece_after=0.1, brier_before=0.1, brier_after=0.1, thresholds=(row,),
    )  # fmt: skip


def calibrated_run(root: Path, threshold: float | None, *, source: str = "fresh ones") -> tuple[RunFolder, RunConfig]:
    """A made-up run whose predictions lie where a run's own do, with the curves of one threshold."""
    run, config = build_run(root, clips=24)
    rows = list(read_rows(run.predictions / "all.jsonl", Prediction))
    (run.predictions / "all.jsonl").unlink()
    for arm, mode in dict.fromkeys((row.arm, row.mode) for row in rows):
        publish_rows(run.predictions_of(arm, mode), [row for row in rows if (row.arm, row.mode) == (arm, mode)])
    publish_cascade(
        run, config, calibration(threshold, source=source), arm="distilled", mode="direct",
        ask=lambda questions: pytest.fail("the answers of the run are enough"),
    )  # fmt: skip
    return run, config


def test_a_run_that_was_not_calibrated_says_nothing_of_cascades(tmp_path: Path) -> None:
    run, config = build_run(tmp_path, clips=6)
    write_report(run, config, frames=read_frames)
    page = run.report.read_text(encoding="utf-8").lower()
    assert "cascade" not in page and not any("cascade" in line for line in summary_lines(run))


def test_the_section_shows_curve_chosen_point_and_all_three_alternatives(tmp_path: Path) -> None:
    run, config = calibrated_run(tmp_path, 0.9)
    write_report(run, config, frames=read_frames)
    page = Page(run.report.read_text(encoding="utf-8"))
    assert "cascade" in page.ids
    for words in (
        "Accuracy and share escalated, decide", "distilled alone", "teacher alone", "cascade minus teacher",
        "wrong among the local ones", "this target needs at least this share escalated",
        "Costs are seconds of computing",
        "n=120 of fresh ones",
    ):  # fmt: skip
        assert words in page.text, words
    (line,) = [line for line in summary_lines(run) if line.startswith("cascade")]
    closed = [q for q in read_rows(run.questions, Question) if q.split == "test" and q.choices]
    assert "answers with a confidence of at least 0.900 are kept; test " in line and f"n={len(closed)}" in line


def test_without_a_threshold_everything_is_escalated_and_the_bound_says_why(tmp_path: Path) -> None:
    run, config = calibrated_run(tmp_path, None)
    write_report(run, config, frames=read_frames)
    text = Page(run.report.read_text(encoding="utf-8")).text
    assert "no threshold could be proven on n=120 of fresh ones, so everything is escalated" in text
    assert "none kept" in text and "With any threshold, this target needs at least" in text


def test_hostile_words_of_a_calibration_stay_words(tmp_path: Path) -> None:
    run, config = calibrated_run(tmp_path, 0.9, source=HOSTILE)
    write_report(run, config, frames=read_frames)
    page = Page(run.report.read_text(encoding="utf-8"))
    assert not page.tags["script"] and not page.tags["img"] and not page.handlers and HOSTILE in page.text


def test_open_questions_are_asked_again_where_nobody_kept_how_likely_the_replies_were(tmp_path: Path) -> None:
    run, config = calibrated_run(tmp_path, 0.9)
    base = calibration(0.5)
    row = base.thresholds[0].model_copy(update={"mode": "direct"})
    asked: list[Question] = []

    def ask(questions: list[Question]) -> dict[str, list[tuple[Question, Prediction]]]:
        asked.extend(questions)
        said = [
            (q, Prediction(question_id=q.id, arm="distilled", mode="direct", raw_text=q.answer, answer=q.answer,
                           token_logprobs=(-0.1,), finish_reason="stop"))
            for q in questions
        ]  # fmt: skip
        return {"direct": said}

    made = base.model_copy(update={"thresholds": (row,)})
    publish_cascade(run, config, made, arm="distilled", mode="direct", ask=ask)  # type: ignore[arg-type]
    assert asked and not any(question.choices for question in asked)
    write_report(run, config, frames=read_frames)
    (line,) = [line for line in summary_lines(run) if line.startswith("cascade")]
    assert "test 0.0% escalated, accuracy 100.0%" in line
