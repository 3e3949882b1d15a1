import re
from collections.abc import Callable
from pathlib import Path

import pytest
from report_run import cut_replies
from test_report import HOSTILE, Page
from text_run import build_text_run

from aot.config import RunConfig
from aot.files.run_folder import RunFolder, publish_json, publish_rows, read_rows
from aot.records import Prediction
from aot.reporting.card import write_card
from aot.reporting.load import load_run
from aot.reporting.pivot import Pivot
from aot.reporting.report import write_report
from aot.reporting.sections.accuracy import accuracy_chart, accuracy_table, kind_tables, quality_tables, transfer_tables
from aot.reporting.sections.chains import choice_tables, round_tables, structure_table
from aot.reporting.sections.gallery import Panel, make_gallery
from aot.reporting.summary import summary_lines
from aot.reporting.thumbs import ThumbBook, no_frames

MakeTextRun = Callable[..., tuple[RunFolder, RunConfig]]
NAMES = ["base, answer at once", "base, reasoning first", "answers_only", "pre", "post", "adaptive", "own", "shuffled",
         "teacher"]  # fmt: skip


@pytest.fixture
def make_run(tmp_path: Path) -> MakeTextRun:
    def make(**options: object) -> tuple[RunFolder, RunConfig]:
        return build_text_run(tmp_path / "run", **options)  # type: ignore[arg-type]

    return make


def gallery_of(run: RunFolder, config: RunConfig) -> list[Panel]:
    return make_gallery(load_run(run, config), ThumbBook(no_frames, 0))


def page_of(run: RunFolder, config: RunConfig) -> Page:
    write_report(run, config)
    return Page(run.report.read_text(encoding="utf-8"))


def labels(table: Pivot) -> list[str]:
    return [row.label for row in table.rows]


def columns(table: Pivot) -> list[str]:
    return [column.label for column in table.columns]


def test_every_student_and_the_teacher_stand_in_the_tables(make_run: MakeTextRun) -> None:
    data = load_run(*make_run())
    (accuracy,) = accuracy_table(data)
    assert labels(accuracy) == NAMES and columns(accuracy) == ["test", "ood_terms", "ood_names", "ood_family"]
    answers = quality_tables(data)[0]
    assert labels(answers) == NAMES and answers.title == "test"
    assert columns(answers) == ["unreadable or not an option", "tokens of a reply", "tokens per right answer"]
    gap, tokens = transfer_tables(data)
    assert columns(gap) == ["ood_terms", "ood_names", "ood_family"] and gap.title == "gap to test"
    assert labels(tokens) == NAMES[:-1], "nobody counted the teacher's tokens"
    kinds = kind_tables(data)[0]
    assert kinds.corner == "kind" and "steps=3-4" in labels(kinds), "there are more kinds than students"


def test_the_share_of_cut_replies_stands_beside_accuracies_of_a_text_run(make_run: MakeTextRun) -> None:
    run, config = make_run()
    cut_replies(run, arm="base", mode="reason", share=0.875)
    data = load_run(run, config)
    answers = quality_tables(data)[0]
    assert columns(answers)[0] == "cut off by the cap"
    shares = dict(zip(labels(answers), (line[0].text if line[0] else None for line in answers.cells), strict=True))
    assert (shares["base, reasoning first"], shares["pre"], shares["teacher"]) == ("87.5%", "0.0%", None)
    (headline,) = accuracy_table(data)
    assert [", 87.5% cut off" in (cell.range if cell else "") for cell in headline.cells[1]] == [True] * 4
    kinds = kind_tables(data)[0].cells[0]
    assert [", 87.5% cut off" in (cell.range if cell else "") for cell in kinds[:3]] == [False, True, False]
    write_card(run, config)
    summary, card = "\n".join(summary_lines(run)), run.model_card.read_text(encoding="utf-8")
    page = " ".join(page_of(run, config).text.split())
    assert re.search(r"base, reasoning first +\d+\.\d% \[.*, 87\.5% cut off.*tokens", summary)
    assert re.search(r"\| base, reasoning first \| \d+\.\d% [^|]*, 87\.5% cut off \|", card)
    told = "student.max_rationale_tokens cut off more than 5% of the replies of base, reason (87.5% on test). A cut"
    assert all(told in text for text in (summary, card.replace("\\", ""), page))


def test_a_cut_reply_is_told_as_such_in_the_gallery(make_run: MakeTextRun) -> None:
    run, config = make_run(gallery=12)
    path = run.predictions / "all.jsonl"
    rows = [
        row.model_copy(update={"answer": None, "finish_reason": "length"} if row.arm == "pre" else {})
        for row in read_rows(path, Prediction)
    ]
    publish_rows(path, rows)
    held = next(panel for panel in gallery_of(run, config) if panel["replies"])
    said = {arm: (replies[0]["said"], replies[0]["mark"]) for arm, replies in held["replies"].items()}
    assert said["pre"] == ("cut off before its end", "none") and said["own"][1] in ("right", "wrong")


def test_studies_and_choices_have_tables_of_their_own(make_run: MakeTextRun) -> None:
    data = load_run(*make_run())
    (structure,) = structure_table(data)
    assert labels(structure) == ["answers_only", "pre", "shuffled"]
    assert columns(structure)[-1] == "against pre, test"
    choices = choice_tables(data)[0]
    assert labels(choices)[:3] == ["all", "steps=1", "steps=2"]
    assert choices.cells[1][0] and choices.cells[1][0].text == "100.0%"


def test_chart_has_a_dot_and_a_line_for_each_student_with_tokens(make_run: MakeTextRun) -> None:
    (chart,) = accuracy_chart(load_run(*make_run()))
    assert sum(shape.tag == "circle" and shape.tip != "" for shape in chart.shapes) == 8
    assert sum("stroke-dasharray" in shape.attributes for shape in chart.shapes) == 8


def test_gallery_shows_chains_replies_and_the_choice_with_its_probabilities(make_run: MakeTextRun) -> None:
    run, config = make_run(gallery=12)
    panels = gallery_of(run, config)
    assert len(panels) == 12
    assert {panel["state"] for panel in panels} >= {"kept", "rejected", "held out, student right"}
    held = next(panel for panel in panels if panel["replies"])
    assert (
        sum(map(len, held["replies"].values())) == 9
        and not held["steps"]
        and held["chain"].endswith(f"Answer: {held['question'].answer}")
    )
    chose = held["replies"]["adaptive"][0]["chose"]
    assert re.fullmatch(r"chose (direct|full) \(direct \d+%, short \d+%, full \d+%\)", chose)


def test_text_page_is_self_contained_without_scripts_and_in_order(make_run: MakeTextRun) -> None:
    run, config = make_run()
    page = page_of(run, config)
    text = run.report.read_text(encoding="utf-8")
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == page.tags["img"] == 0
    assert page.links == [] and not re.search(r"url\(|@import|https?:", text)
    order = (
        "headline mistakes use cost transfer kinds paired memorised choices steps rounds structure funnel teacher "
        "training gallery"
    )
    assert [name for name in page.ids if re.fullmatch(r"[a-z]+", name)] == [*order.split(), "refused", "settings"]
    assert page.targets <= {f"#{name}" for name in page.ids}


def test_hostile_texts_of_a_text_run_are_shown_as_text(make_run: MakeTextRun) -> None:
    harmless, hostile = page_of(*make_run()), page_of(*make_run(hostile=HOSTILE))
    assert hostile.handlers == [] and hostile.tags["script"] == hostile.tags["img"] == 0
    assert "<script>alert(1)</script>" in hostile.text
    assert hostile.tags["article"] == harmless.tags["article"]


def test_empty_text_run_names_what_is_missing_and_never_annotations(make_run: MakeTextRun) -> None:
    run, config = make_run()
    empty = RunFolder(run.root.parent / "empty")
    publish_json(empty.run_json, {})
    page = page_of(empty, config)
    assert "metrics.json" in page.text and "annotations" not in page.text.partition("Settings, and how")[0]
    assert page.text.count("Nothing to show") >= 7


def test_page_tells_what_arms_learned_from_and_what_rounds_of_own_chains_reached(make_run: MakeTextRun) -> None:
    page = page_of(*make_run())
    text = " ".join(page.text.split())
    assert "trainable parameters" in text and "233,472" in text
    assert re.search(r"pre, which learns all of the teacher's chains, reaches \d+\.\d% .* n=30 on test", text)


def test_rounds_tell_chains_accuracy_and_the_share_of_the_full_accuracy(make_run: MakeTextRun) -> None:
    run, config = make_run()
    data = load_run(run, config)
    full = data.find(("pre", "reason"), "test", "accuracy")
    ((table, _),) = round_tables(data)
    first, last = ([row.label, *(cell.text if cell else "" for cell in line)] for row, line in
                   zip(table.rows, table.cells, strict=True))  # fmt: skip
    assert first[:7] == ["0", "6", "6", "0", "40", "9", "50.0% [40.0, 60.0] n=30"]
    assert last[:4] == ["final student", "15", "6", "9"] and (first[7], last[7]) == ("12.5%", "not known")
    assert full and re.fullmatch(rf"{0.6 / full.value:.1%} \[\d+\.\d, \d+\.\d\] n=30", last[-1])


def test_the_full_accuracy_is_that_of_the_same_tuning_and_seed(make_run: MakeTextRun) -> None:
    run, config = make_run()
    arms = tuple(a.model_copy(update={"seed": 1}) if a.name == "own" else a for a in config.train.arms)
    other = config.model_copy(update={"train": config.train.model_copy(update={"arms": arms})})
    ((table, note),) = round_tables(load_run(run, other))
    last = table.cells[0][-1]
    assert last and last.text == "not known" and note.startswith("No arm of this run")


def test_card_of_a_text_run_names_base_orders_and_no_frames(make_run: MakeTextRun) -> None:
    run, config = make_run()
    write_card(run, config)
    card = run.model_card.read_text(encoding="utf-8")
    assert "base_model: tiny-text" in card and "license: Apache-2.0" in card and "Arm `pre`" in card
    assert re.search(r"\| pre \| \d+\.\d% \[\d+\.\d, \d+\.\d\] n=30 \| \d", card)
    assert "frame" not in card and "clip" not in card


def test_summary_of_a_text_run_tells_accuracy_tokens_and_the_gain_of_thinking(make_run: MakeTextRun) -> None:
    run, config = make_run()
    write_report(run, config)
    text = "\n".join(summary_lines(run))
    assert re.search(r"adaptive +\d+\.\d% \[\d+\.\d, \d+\.\d\] n=30 .*   [\d.]+ \[[\d.]+, [\d.]+\] tokens", text)
    assert re.search(
        r"questions of 3 and 4 steps: pre is better than learning from answers only \(answers_only\): \+\d", text
    )
    assert re.search(r"adaptive minus pre: .* with \d\.\d\d times its tokens", text)
    assert str(run.report) in text
