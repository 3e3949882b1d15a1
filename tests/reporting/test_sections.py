"""Sections follow the data of a run: none asks through which door its questions came."""

import inspect
import re
from pathlib import Path

from report_run import build_run, read_frames
from test_report import Page
from text_run import build_text_run

from aot.evaluation.metrics import compute_metrics
from aot.files.run_folder import RunFolder, publish_json, publish_rows, read_rows
from aot.records import ClipAnnotation, Prediction, Question, Trace
from aot.reporting import report as report_module
from aot.reporting.load import load_run
from aot.reporting.report import SECTIONS, write_report
from aot.reporting.sections import accuracy, chains, errors, funnel, gallery, making
from aot.reporting.sections.making import settings_sentence


def joined_run(root: Path) -> RunFolder:
    """A made-up run of questions about clips and problems in words, each with its own kind of trace."""
    run, config = build_run(root / "mixed", clips=6, gallery=20)
    other, text_config = build_text_run(root / "text", size=6)
    for name, model in (("questions", Question), ("kept", Trace), ("dropped", Trace)):
        rows = [*read_rows(getattr(run, name), model), *read_rows(getattr(other, name), model)]  # type: ignore[type-var]
        publish_rows(getattr(run, name), rows)
    publish_rows(run.traces / "part-00001.jsonl", read_rows(other.traces / "part-0.jsonl", Trace))
    said = [
        *read_rows(run.predictions / "all.jsonl", Prediction),
        *read_rows(other.predictions / "all.jsonl", Prediction),
    ]
    publish_rows(run.predictions / "all.jsonl", said)
    arms = (*config.train.arms, *text_config.train.arms)
    names = ("test", "test_ood", "ood_terms")
    config = config.model_copy(
        update={
            "train": config.train.model_copy(update={"arms": arms}),
            "evaluate": config.evaluate.model_copy(update={"splits": names}),
        }
    )
    asked = [q for q in read_rows(run.questions, Question) if q.split in names]
    metrics = compute_metrics(
        questions=asked, predictions=said, arms=arms, splits=names, bootstrap_samples=50, seed=0,
        annotations=list(read_rows(run.annotations, ClipAnnotation)), training=asked[:3],
    )  # fmt: skip
    publish_json(run.metrics, [row.model_dump(mode="json") for row in metrics])
    write_report(run, config, frames=read_frames)
    return run


def test_a_run_with_clips_and_with_chains_of_words_has_the_sections_of_both(tmp_path: Path) -> None:
    run = joined_run(tmp_path)
    page = Page(run.report.read_text(encoding="utf-8"))
    names = [name for name in page.ids if re.fullmatch(r"[a-z]+", name)]
    wanted = {"confusion", "calibration", "transfer", "memorised", "choices", "steps", "structure"}
    assert wanted <= set(names) and names == [s.name for s in SECTIONS if s.name in names]
    assert page.tags["image"] > 0 and "chose full" in page.text, "panels of both kinds of trace stand in one gallery"
    assert "rounds" not in names and "Own chains (needs an arm that writes its own chains)" in page.text


def test_a_section_applies_where_its_data_are_and_nowhere_else(tmp_path: Path) -> None:
    made = build_run(tmp_path / "video"), build_text_run(tmp_path / "text")
    video, text = ({s.name for s in SECTIONS if s.applies(load_run(*one))} for one in made)
    assert video - text == {"confusion", "calibration"}
    assert text - video == {"choices", "steps", "rounds", "structure"}


def test_no_section_asks_for_the_door() -> None:
    for module in (report_module, accuracy, chains, errors, funnel, gallery, making):
        assert not re.search(r"\.door|is_text|is_agent_trace", inspect.getsource(module)), module.__name__


def test_rows_of_an_earlier_version_had_a_later_setting_as_it_is_by_itself() -> None:
    old, new = {"chat.temperature": 0.7}, {"chat.temperature": 0.7, "chat.logprobs": False}

    def sentence(*settings: dict[str, object]) -> str:
        return settings_sentence({"chat_settings": [{"rows": 5, "settings": one} for one in settings]})

    assert sentence(old, new) == ""
    asked = {**new, "chat.logprobs": True}
    assert sentence(old, new, asked).endswith("10 rows with chat.logprobs=False; 5 rows with chat.logprobs=True")
