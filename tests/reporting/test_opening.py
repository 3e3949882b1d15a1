"""The first screen of the report, and how it looks: what a reader sees who sees nothing else."""

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from report_run import read_frames
from test_report import HOSTILE, page_of
from text_run import build_text_run

from aot.config import RunConfig
from aot.files.run_folder import RunFolder, publish_json, publish_rows, read_rows
from aot.records import MetricRow, Prediction, Verdict
from aot.reporting.load import RunData, load_run
from aot.reporting.report import write_report
from aot.reporting.sections.errors import SHOWN_MISTAKES, mistake_blocks
from aot.reporting.sections.opening import flow_drawings, outcome
from aot.reporting.students import Learning
from aot.reporting.thumbs import ThumbBook

MakeRun = Callable[..., tuple[RunFolder, RunConfig]]


def html_of(run: RunFolder, config: RunConfig) -> str:
    write_report(run, config, frames=read_frames)
    return run.report.read_text(encoding="utf-8")


def first_screen(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html.partition("<body>")[2].partition("<nav>")[0])).split())


def with_gain(data: RunData, low: float, value: float, high: float) -> RunData:
    rows = [r for r in data.metrics if "difference" not in r.metric]
    gain = MetricRow(arm="distilled", mode="direct", split="test", kind="next", value=value, low=low, high=high, n=80,
                     metric="accuracy_difference_vs_answer_only")  # fmt: skip
    return replace(data, metrics=[*rows, gain])


@pytest.mark.parametrize(
    ("low", "high", "kind", "headline", "more"),
    [
        (0.02, 0.2, "better", "Learning from the teacher's traces helped.", "significantly better."),
        (-0.2, -0.02, "worse", "Learning from the teacher's traces hurt.", "significantly worse."),
        (-0.1, 0.1, "open", "Learning from the teacher's traces made no significant difference.",
         "With n=80, only differences of more than about 10 points can be ruled out."),
        (0.0, 0.3, "open", "Learning from the teacher's traces made no significant difference.",
         "only a gain of more than 30.0 points and any loss can be ruled out."),
    ],
)  # fmt: skip
def test_the_verdict_says_in_words_what_the_interval_says(
    make_run: MakeRun, low: float, high: float, kind: str, headline: str, more: str
) -> None:
    made = outcome(with_gain(load_run(*make_run()), low, (low + high) / 2, high))
    assert (made.kind, made.headline) == (kind, headline)
    text = " ".join(made.sentences)
    assert re.search(r"On test, distilled \(answer at once\) gets \d+\.\d% of next-step questions right \(95%", text)
    assert more in text and re.search(r"interval \d+\.\d to \d+\.\d, n=\d+\)", text)


def test_where_no_student_learned_answers_alone_the_verdict_names_the_base(make_run: MakeRun) -> None:
    data = load_run(*make_run())
    arms = tuple(arm for arm in data.learning.arms if arm.name != data.learning.control)
    made = outcome(replace(data, learning=Learning(arms, data.learning.seen)))
    (elsewhere,) = (text for text in made.sentences if text.startswith("Elsewhere"))
    assert "the difference from the untrained base: " in elsewhere


def test_a_run_without_training_has_a_first_screen_that_says_so(make_run: MakeRun) -> None:
    run, config = make_run()
    for path in (*run.arm("").rglob("*.json*"), *run.predictions.glob("*.jsonl"), run.metrics):
        path.unlink()
    text = first_screen(html_of(run, config))
    assert "No student was trained yet." in text and re.search(r"\d+ of \d+ traces of the teacher passed", text)
    assert "KEPT BY THE FILTERS" in text and "not measured" in text and "Rejected by a filter" in text


def test_the_flow_tells_questions_traces_kept_dropped_by_reason_and_learned(make_run: MakeRun) -> None:
    run, config = make_run()
    data = load_run(run, config)
    assert data.funnel
    (spoilt,) = set(data.planted)
    refused = Verdict(question_id=spoilt[0], sample_index=spoilt[1], filter="answer_correct", keep=False,
                      reason="answer_mismatch")  # fmt: skip
    publish_rows(run.verdicts, [refused])
    for drawing in flow_drawings(data):
        words = [shape.text for shape in drawing.shapes]
        for number in (len(data.questions), data.funnel.traces, data.funnel.kept, data.funnel.dropped):
            assert str(number) in words
        assert "answer mismatch" in words and any("planted" in text for text in words)
        assert f"rationales learned: {data.funnel.kept}" in drawing.name and "traces to train on" in drawing.name
        assert any(shape.tip.endswith("1 of them planted") for shape in drawing.shapes)


def test_three_traces_with_frames_stand_before_the_first_table(make_run: MakeRun) -> None:
    html = html_of(*make_run())
    opening = html.partition("<table")[0].partition('class="minis"')[2]
    assert opening.count('class="mini"') == 3 and opening.count("<use") >= 6
    for fate in ("Kept: students may", "Rejected by a filter", "Held out: students are"):
        assert fate in opening


def test_a_planted_defect_wears_its_badge_on_the_first_screen(make_run: MakeRun) -> None:
    run, config = make_run()
    only = list(load_run(run, config).planted)
    rows = [row for row in run.dropped.read_text().splitlines() if f'"{only[0][0]}"' in row]
    run.dropped.write_text("\n".join(rows) + "\n")
    assert "planted defect: wrong_label" in first_screen(html_of(run, config))


def test_mistakes_are_the_surest_wrong_answers_with_frames_of_their_window(make_run: MakeRun) -> None:
    run, config = make_run(clips=24)
    data, book = load_run(run, config), ThumbBook(read_frames, 10**7)
    questions = [q for q in data.evaluated if q.split == "test" and q.choices]
    sure = [
        Prediction(question_id=q.id, arm="distilled", mode="likelihood", raw_text="x", answer=q.choices[1],
                   choice_probs=(0.1, 0.5 + 0.04 * i, 0.1, 0.1)) for i, q in enumerate(questions)
    ]  # fmt: skip
    others = [p for p in data.predictions if p.mode != "likelihood"]
    said, shown = mistake_blocks(replace(data, predictions=[*others, *sure]), book)
    assert len(questions) == 8 and said.text.startswith(f"{SHOWN_MISTAKES} of the 8 wrong answers of distilled")
    cards = shown.values["cards"]
    assert [card["sure"] for card in cards] == sorted((p.choice_probs[1] for p in sure), reverse=True)[:6]
    assert all(len(card["frames"]) == 4 and card["reply"]["mark"] == "wrong" for card in cards)


def test_commands_for_the_student_name_the_run_the_arm_and_a_question_of_its_own(make_run: MakeRun) -> None:
    run, config = make_run()
    page = page_of(run, config)
    assert f"aot export {run.root} distilled exports/{run.root.name}" in page.text
    assert f"--clip {run.clips}/test/clip001.mp4" in page.text and "student = load_student('exports/" in page.text


def test_commands_hold_hostile_questions_as_one_word_of_a_shell(make_run: MakeRun) -> None:
    page = page_of(*make_run(hostile=HOSTILE))
    assert "aot predict" in page.text and "'\"'\"'><script>alert(1)" in page.text


def test_large_tables_are_folded_and_say_their_size(make_run: MakeRun) -> None:
    html = html_of(*make_run())
    assert re.search(r"<details><summary>Table: test \(\d+ rows, \d+ columns\)</summary>", html)
    for table in re.finditer(r'<table class="wide">', html):
        before = html[: table.start()]
        assert before.count("<details") > before.count("</details>")


def test_colours_have_a_dark_value_and_charts_name_no_colour_of_ink(make_run: MakeRun) -> None:
    html = html_of(*make_run())
    light, dark = (html.partition("@media (prefers-color-scheme: dark)")[part].partition("\n*")[0] for part in (0, 2))
    names = set(re.findall(r"(--[a-z0-9-]+):", light))
    assert names and names == set(re.findall(r"(--[a-z0-9-]+):", dark))
    assert set(re.findall(r"var\((--[a-z0-9-]+)\)", html)) <= names


def test_times_of_students_are_told_where_they_were_taken(tmp_path: Path) -> None:
    run, config = build_text_run(tmp_path / "run", size=6)
    path = run.predictions / "all.jsonl"
    assert "mean time" not in html_of(run, config)
    publish_rows(path, [row.model_copy(update={"latency_s": 0.05}) for row in read_rows(path, Prediction)])
    publish_json(run.run_json, {"stages": {"train": {"state": "done", "seconds": 12.5}}})
    html = html_of(run, config)
    assert "Time per question, answered in batches" in html and "50 ms" in html and "Time: train 12 s." in html
