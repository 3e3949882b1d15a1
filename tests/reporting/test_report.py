import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from fixtures.steps import tool_step
from report_run import build_run, cut_replies, read_frames

import aot.reporting.report as report_module
from aot.config import RunConfig
from aot.errors import SourceError
from aot.files.run_folder import RunFolder, publish_json
from aot.reporting.card import write_card
from aot.reporting.report import write_report
from aot.reporting.sections.gallery import FRAMES_A_STEP, pick_frames
from aot.reporting.summary import summary_lines

MakeRun = Callable[..., tuple[RunFolder, RunConfig]]
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}</style></svg>"


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.targets: set[str] = set()
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                (self.targets.add if (value or "").startswith("#") else self.links.append)(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(run: RunFolder, config: RunConfig) -> Page:
    write_report(run, config, frames=read_frames)
    return Page(run.report.read_text(encoding="utf-8"))


def test_every_link_has_its_target_and_no_id_stands_twice(make_run: MakeRun) -> None:
    page = page_of(*make_run())
    assert page.targets and page.targets <= {f"#{name}" for name in page.ids}
    assert len(page.ids) == len(set(page.ids))
    assert any(re.fullmatch(r"#t\d+-s\d+", target) for target in page.targets)


def test_page_is_self_contained_and_forbids_scripts(make_run: MakeRun) -> None:
    run, config = make_run()
    page = page_of(run, config)
    text = run.report.read_text(encoding="utf-8")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    assert not re.search(r"url\(|@import|https?:", re.sub(r'"data:[^"]*"', "", text))


def test_hostile_texts_add_no_element_and_no_handler(make_run: MakeRun) -> None:
    harmless = page_of(*make_run())
    hostile = page_of(*make_run(hostile=HOSTILE))
    assert hostile.handlers == []
    assert hostile.tags["script"] == hostile.tags["img"] == 0
    marks = {"rect", "text", "title"}  # charts draw more or fewer of these for other labels
    assert {t: n for t, n in hostile.tags.items() if t not in marks} == {
        t: n for t, n in harmless.tags.items() if t not in marks
    }
    assert "<script>alert(1)</script>" in hostile.text, "hostile text is shown as text"


def test_sections_stand_in_reading_order_with_their_numbers(make_run: MakeRun) -> None:
    page = page_of(*make_run())
    sections = [name for name in page.ids if re.fullmatch(r"[a-z]+", name)]
    order = (
        "headline mistakes use cost transfer kinds paired memorised funnel teacher confusion calibration training "
        "gallery refused"
    )
    assert sections == [*order.split(), "settings"]
    assert re.search(r"\d+\.\d% ?\[\d+\.\d, \d+\.\d\] n=\d+", " ".join(page.text.split()))
    assert "88.9% [56.5, 98.0] n=9" in page.text


def test_empty_run_folder_gives_a_page_that_says_what_is_missing(make_run: MakeRun) -> None:
    run, config = make_run()
    empty = RunFolder(run.root.parent / "empty")
    publish_json(empty.run_json, {})
    page = page_of(empty, config)
    assert "metrics.json" in page.text and page.text.count("Nothing to show") >= 7
    assert "Calibration (needs questions with options)" in page.text


@pytest.mark.parametrize(("name", "damaged"), [("run_json", {"stages": None}), ("teacher_stats", {"chat_settings": 3})])
def test_a_damaged_file_of_facts_is_told_with_what_to_do(make_run: MakeRun, name: str, damaged: object) -> None:
    run, config = make_run()
    publish_json(getattr(run, name), damaged)
    with pytest.raises(SourceError, match="delete it and run the stage that makes it again"):
        page_of(run, config)


def test_planted_defects_are_marked_among_the_rejected_and_counted(make_run: MakeRun) -> None:
    run, config = make_run(gallery=200)
    page = page_of(run, config)
    dropped = len(run.dropped.read_text().splitlines())
    assert page.text.count("planted defect: wrong_label") == 2, "once among the rejected, once in the gallery"
    assert f"answer_mismatch ({dropped - 1}, 1 of them planted)" in page.text
    assert f"1 of {dropped} dropped traces had been verified" in page.text
    assert f"{dropped - 1} failed by themselves" in page.text


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose page has two hundred traces, and up to twenty rejected ones of each reason."""
    run, config = build_run(tmp_path_factory.mktemp("large") / "run", clips=66, gallery=200)
    asked = config.report.model_copy(update={"rejected_per_reason": 20})
    write_report(run, config.model_copy(update={"report": asked}), frames=read_frames)
    return run


def test_a_report_of_two_hundred_traces_with_frames_is_one_file_below_20_mb(large: RunFolder) -> None:
    page = large.report.read_text(encoding="utf-8")
    assert page.count("<article") == 200 and page.count("<use ") > 1000
    assert large.report.stat().st_size < 20_000_000


def test_twenty_rejected_examples_of_a_reason_are_shown_where_so_many_are_wanted(large: RunFolder) -> None:
    assert len(large.dropped.read_text().splitlines()) > 20
    assert large.report.read_text(encoding="utf-8").count("answer_correct: said wash tomato") == 20


def test_a_finished_stage_is_not_said_to_make_what_it_could_not(make_run: MakeRun) -> None:
    run, config = make_run()
    for part in run.predictions.glob("*.jsonl"):
        part.unlink()
    questions = [json.loads(line) for line in run.questions.read_text().splitlines()]
    publish_json(run.metrics, [])
    text = " ".join(page_of(run, config).text.split())
    assert "no option probabilities yet. The evaluate stage makes it." in text
    publish_json(run.run_json, {"stages": {"evaluate": {"state": "done"}}})
    text = " ".join(page_of(run, config).text.split())
    for told in (
        "metrics.json holds no accuracy on test, test_ood.",
        "the predictions hold no probabilities.",
        "no student answered the next-step questions of test, test_ood.",
    ):
        assert f"Nothing to show: {told}" in text
    assert "The evaluate stage makes it" not in text
    for row in questions:
        row.update(kind="count", choices=[], answer_type="text")
    run.questions.write_text("".join(json.dumps(row) + "\n" for row in questions))
    text = " ".join(page_of(run, config).text.split())
    assert "Confusion (needs questions about the next step); Calibration (needs questions with options)" in text


def test_gallery_holds_as_many_traces_as_asked_of_every_fate(make_run: MakeRun) -> None:
    page = page_of(*make_run(clips=24, gallery=20))
    assert page.tags["article"] == 20
    for fate in ("kept", "rejected", "held out, student right", "held out, student wrong"):
        assert fate in page.text


def test_a_picture_is_embedded_once_however_often_it_is_shown(make_run: MakeRun) -> None:
    page = page_of(*make_run())
    assert 0 < page.tags["image"] == len(page.links) < page.tags["use"]


def test_pictures_stop_at_the_budget_and_the_page_says_so(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "MAX_PICTURE_BYTES", 4000)
    run, config = make_run()
    page = page_of(run, config)
    assert "more frames are left out" in page.text
    assert sum(map(len, page.links)) < 8000


def test_unreadable_frames_are_told_and_the_rest_is_shown(make_run: MakeRun) -> None:
    run, config = make_run()

    def refuse(uri: str, times_s: list[float]) -> list[object]:
        raise KeyError(f"no clip {uri}")

    write_report(run, config, frames=refuse)  # type: ignore[arg-type]
    page = Page(run.report.read_text(encoding="utf-8"))
    assert "cannot be shown" in page.text and page.tags["article"] == 8


def test_frames_with_detections_are_picked_first() -> None:
    boxes = [{"time_s": t, "box_xyxy": [0, 0, 1, 1], "score": 1} for t in (3.0, 7.0)]
    times = tuple(float(i) for i in range(30))
    result = {"object": "pan", "boxes": boxes}
    step = tool_step(1, "detect_objects", {"object": "pan"}, result, frame_times_s=times)
    assert pick_frames(step) == [3.0, 7.0]
    plain = pick_frames(step.model_copy(update={"findings": ()}))
    assert len(plain) == FRAMES_A_STEP and (plain[0], plain[-1]) == (0.0, 29.0)


def test_card_states_results_limits_licence_and_where_answers_come_from(make_run: MakeRun) -> None:
    run, config = make_run()
    write_card(run, config)
    card = run.model_card.read_text(encoding="utf-8")
    assert "license: Apache-2.0" in card and "distilled model" in card and "review by a person" in card
    assert re.search(r"\| distilled, answer at once \| \d+\.\d% \[\d+\.\d, \d+\.\d\] n=\d+ \|", card)
    other = config.model_copy(update={"data": config.data.model_copy(update={"dataset": "plain"})})
    write_card(run, other)
    assert "license: unknown" in run.model_card.read_text(encoding="utf-8")


def test_the_card_tells_what_training_took_and_that_energy_was_not_measured(make_run: MakeRun) -> None:
    run, config = make_run()
    write_card(run, config)
    assert "Cost of training: time not noted, on an unknown device; energy not measured" in run.model_card.read_text()
    papers = json.loads(run.run_json.read_text())
    publish_json(run.run_json, {**papers, "stages": {"train": {"state": "done", "seconds": 21.09}}})
    seen = {"questions_seen": 20, "rationales_seen": 9}
    publish_json(run.arm("distilled") / "training.json", {**seen, "device": "cpu", "processes": 2})
    write_card(run, config)
    assert "21 s for the students of 2 arms together, in its last attempt, on 2 CPU cores (x86_64), 2 processes;" in (
        run.model_card.read_text()
    )
    publish_json(run.arm("distilled") / "training.json", {**seen, "device": "cuda", "gpu": "NVIDIA H200"})
    publish_json(run.run_json, {**papers, "stages": {"train": {"state": "done", "seconds": 9000}}})
    write_card(run, config)
    assert "2.5 hours for the students of 2 arms together, in its last attempt, on NVIDIA H200; energy not" in (
        run.model_card.read_text()
    )


def test_no_required_field_of_the_card_is_empty(make_run: MakeRun) -> None:
    run, config = make_run()
    write_card(run, config)
    _, head, body = run.model_card.read_text(encoding="utf-8").split("---\n", 2)
    assert {key: bool(value) for key, value in yaml.safe_load(head).items()} == {
        "license": True, "base_model": True, "tags": True,
    }  # fmt: skip
    sections = dict(re.findall(r"^## ([^\n]+)\n\n(.+?)(?=\n## |\Z)", body, flags=re.MULTILINE | re.DOTALL))
    assert list(sections) == ["What it is", "How to use it", "Results", "Limits", "Licence"]
    assert all(text.strip() for text in sections.values())
    fields = re.findall(r"^- ([A-Z][a-z ]+): (.*)$", sections["What it is"], flags=re.MULTILINE)
    assert [name for name, value in fields if value.strip(" .")] == [
        "Base", "Data set", "Teacher", "Traces", "Training", "Cost of training",
    ]  # fmt: skip


def test_the_card_is_about_one_arm_names_its_base_and_says_how_to_load_it(make_run: MakeRun, tmp_path: Path) -> None:
    run, config = make_run()
    publish_json(run.arm("distilled") / "training.json", {"rationales_seen": 9, "base_digest": "5ec17247ed632539"})
    (tmp_path / "secret" / "my_base").mkdir(parents=True)
    base = config.student.model_copy(update={"base": str(tmp_path / "secret" / "my_base")})
    write_card(run, config.model_copy(update={"student": base}))
    card = run.model_card.read_text(encoding="utf-8")
    assert "base_model: my_base\n" in card and "`my_base` (digest of its files: `5ec17247ed632539`)" in card
    assert "secret" not in card and "- Arm `distilled`" in card and "- Arm `answer_only`" not in card
    assert "| answer_only, answer at once |" in card and "bigram" not in card and "distilled_no_frames" not in card
    assert 'student.ask("A question?", clip="clip.mp4")' in card and 'load_student("OUT")' in card
    assert "aot export RUN distilled OUT" in card and "with a data card" in card


def test_an_arm_that_saw_no_rationale_is_called_distilled_nowhere(make_run: MakeRun) -> None:
    run, config = make_run()
    publish_json(run.arm("distilled") / "training.json", {"questions_seen": 20, "rationales_seen": 0})
    write_card(run, config)
    page = page_of(run, config)
    texts = (page.text.partition("Settings, and how to repeat")[0], run.model_card.read_text(encoding="utf-8"))
    for text in (*texts, "\n".join(summary_lines(run))):
        named = re.findall(r"distilled(?:_no_frames)?(?! \(saw no|_no_frames| student\.)", text)
        assert named == [] and "distilled (saw no rationale)" in text
        assert "learns from what was kept" not in text and "better than" not in text
    assert "no student of this run" in texts[1] and "tags: [video]" in texts[1]


def test_the_share_of_cut_replies_stands_beside_accuracies_of_a_video_run(make_run: MakeRun) -> None:
    run, config = make_run()
    cut_replies(run, arm="base", mode="direct", share=0.875)
    write_card(run, config)
    summary, card = "\n".join(summary_lines(run)), run.model_card.read_text(encoding="utf-8")
    page = " ".join(page_of(run, config).text.split())
    assert re.search(r"base, answer at once +\d+\.\d% \[.*\] n=\d+, 87\.5% cut off", summary)
    assert re.search(r"distilled, answer at once +\d+\.\d% \[.*\] n=\d+, 0\.0% cut off", summary)
    assert re.search(r"\| base, answer at once \| \d+\.\d% \[[^|]*\] n=\d+, 87\.5% cut off \|", card)
    assert page.count("n=8, 87.5% cut off") >= 2 and "cut off by the cap" in page, "headline, kinds and quality"
    told = "student.max_answer_tokens cut off more than 5% of the replies of base, direct (87.5% on test"
    assert all(told in text for text in (summary, card.replace("\\", ""), page))


def test_summary_tells_decided_choices_beside_the_written_ones(make_run: MakeRun) -> None:
    run, _ = make_run()
    (line,) = [line for line in summary_lines(run) if line.startswith("closed choices")]
    assert re.search(
        r"decided by distilled: \d+\.\d% \[.*\] n=\d+; written: \d+\.\d% \[.*\] n=\d+ answer at once", line
    )


def test_summary_fits_a_terminal_and_names_yield_funnel_result_and_report(make_run: MakeRun) -> None:
    run, config = make_run()
    write_report(run, config, frames=read_frames)
    lines = summary_lines(run)
    assert 10 <= len(lines) <= 24
    text = "\n".join(lines)
    for word in ("pass@1 61.0%", "traces kept", "distilled", "recall 0.889", str(run.report)):
        assert word in text


APACHE = "                                 Apache License\n                           Version 2.0, January 2004\n"


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({}, "unknown"),
        ({"README.md": "---\nlicense: mit\nlanguage: en\n---\nlicense: apache-2.0"}, "mit"),
        ({"README.md": "---\nlicense: other\nlicense_name: 'qwen-research'\n---\n"}, "qwen-research"),
        ({"README.md": "---\r\nlicense:\n- llama3.2\n---\r\n", "LICENSE": APACHE}, "llama3.2"),
        ({"README.md": "---\ntags: [x]\n---\nlicense: mit", "config.json": '{"license": "gemma"}'}, "gemma"),
        ({"config.json": '{"model_type": "llama"}', "LICENSE.txt": APACHE}, "apache-2.0"),
        ({"License": "You may look at it."}, "other"),
        ({"README.md": "---\nlicense: a\x1b[2J](javascript:x)\n---\n", "config.json": "[" * 100_000}, "unknown"),
    ],
)
def test_the_licence_of_the_card_is_the_one_that_the_base_gives_itself(
    make_run: MakeRun, tmp_path: Path, files: dict[str, str], name: str
) -> None:
    run, config = make_run()
    base = tmp_path / "base"
    base.mkdir()
    for file, text in files.items():
        (base / file).write_text(text)
    foreign = config.model_copy(update={"student": config.student.model_copy(update={"base": str(base)})})
    write_card(run, foreign)
    card = run.model_card.read_text(encoding="utf-8")
    assert card.startswith(f"---\nlicense: {name}\n") and "Apache-2.0" not in card
    assert ("unknown: see the base's licence" in card) == (name == "unknown")


def test_a_base_of_the_hub_is_of_unknown_licence(make_run: MakeRun) -> None:
    run, config = make_run()
    write_card(run, config.model_copy(update={"student": config.student.model_copy(update={"base": "org/model"})}))
    assert "license: unknown" in run.model_card.read_text(encoding="utf-8")
