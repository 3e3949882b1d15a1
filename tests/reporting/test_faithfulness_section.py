"""The section of faithfulness stands in the report of a run whose replies were perturbed, and in no other."""

from pathlib import Path

from test_report import HOSTILE, Page
from text_run import build_text_run

from aot.answer_records import Faithfulness, FaithfulReply, FaithfulStep
from aot.evaluation.intervals import Bootstrap
from aot.evaluation.steps import faithful_rows
from aot.files.run_folder import RunFolder, publish, read_rows
from aot.records import Question
from aot.reporting.report import write_report
from aot.reporting.sections.faithfulness import level_of


def measured(run: RunFolder, *, hostile: str = "") -> Faithfulness:
    questions = [one for one in read_rows(run.questions, Question) if one.split == "test"][:6]
    steps = (
        FaithfulStep(text=f"We start{hostile}."),
        FaithfulStep(
            text=f"12 + 7 = 19{hostile}", edit="result", perturbed=f"12 + 7 = 18{hostile}", implied="18",
            answer=f"18{hostile}", outcome="followed", score=0.04, change=0.9,
        ),
        FaithfulStep(text="19 - 4", edit="result", perturbed="19 - 4 = 14", outcome="none", score=0.72, change=0.1),
        FaithfulStep(text="15", edit="number", perturbed="16", answer="15", outcome="kept", score=0.0, change=0.0),
    )  # fmt: skip
    replies = [
        FaithfulReply(
            question_id=one.id, arm="pre", mode="reason", split="test", group=one.group, text="...", steps=steps,
            answer=f"15{hostile}",
        )
        for one in questions
    ]  # fmt: skip
    return Faithfulness(
        split="test", count=6, seed=0, left_out={"post": "answers before it explains"}, examples=tuple(replies[:2]),
        unusable={"pre, reason": {"cut_off": 2}}, rows=tuple(faithful_rows(replies, bootstrap=Bootstrap(100, 0))),
    )  # fmt: skip


def page_of(root: Path, *, hostile: str = "", with_section: bool = True) -> str:
    run, config = build_text_run(root, size=8, hostile=hostile)
    if with_section:
        publish(run.faithfulness, measured(run, hostile=hostile).model_dump_json())
    write_report(run, config)
    return run.report.read_text(encoding="utf-8")


def test_a_run_that_was_not_measured_says_nothing_of_it(tmp_path: Path) -> None:
    assert "faithful" not in page_of(tmp_path, with_section=False).lower()


def test_the_section_has_shares_with_interval_and_n_who_was_left_out_and_coloured_steps(tmp_path: Path) -> None:
    html = page_of(tmp_path)
    page = Page(html)
    assert "faithfulness" in page.ids
    for words in (
        "Do the answers depend on the steps?", "answer follows", "True Thinking Score", "n=18", "arXiv 2510.24941",
        "Left out: post answers before it explains", "pre, reason: cut_off 2", "0.04 / 0.90", "0.72 / 0.10",
    ):  # fmt: skip
        assert words in page.text, words
    # Legible without colour: a number behind each step, and lines of different thickness.
    for level in ("much", "none", "unknown"):
        assert f'class="step-{level}"' in html
    assert html.count('class="step-much"') == 4
    assert "12 + 7 = 18 → the answer follows: 18" in html and "19 - 4 = 14 → no answer" in html


def test_whatever_a_student_wrote_is_shown_as_text(tmp_path: Path) -> None:
    html = page_of(tmp_path, hostile=HOSTILE)
    Page(html)
    section = html[html.index('id="faithfulness"') : html.index('id="settings"')]
    assert "<script" not in section and "&lt;script" in section


def test_levels_follow_the_thresholds_of_the_paper() -> None:
    assert [level_of(score) for score in (None, 0.0, 0.05, 0.3, 0.7)] == ["unknown", "none", "little", "some", "much"]
