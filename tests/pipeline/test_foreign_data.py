"""Chats of somebody else through a whole run, and the run's traces and lessons as a data set for others."""

import json
from pathlib import Path
from typing import Any

import pytest

from aot.cli import app
from aot.config import load_config
from aot.errors import ConfigError, RunError
from aot.files.run_folder import RunFolder, read_rows
from aot.files.traces import read_traces
from aot.pipeline import run_stages
from aot.pipeline.data.export import DataExport, Wanted, damaged, export_data
from aot.pipeline.data.rows import lesson_row
from aot.records import Lesson, LessonTurn, MetricRow, Question
from text_cot.datasets.toy_math import draw_toy_math
from text_cot.families import FAMILIES

datasets = pytest.importorskip("datasets")
CONFIG = """
data: {{dataset: hf, hf: {{path: {path}, test_share: 0.3}}}}
teacher: {{planner: given}}
student: {{base: tiny-text, max_answer_tokens: 8, max_rationale_tokens: 24}}
train:
  {{max_steps: 2, questions_per_step: 8, questions_per_device: 8, save_steps: 2,
   arms: [{{name: pre, order: pre}}, {{name: hurt, order: pre, chains: shuffled}}]}}
evaluate: {{splits: [test], batch_size: 64, bootstrap_samples: 100}}
"""


def chats(count: int) -> list[dict[str, Any]]:
    """Drawn problems as somebody's chats."""
    from aot.config import ToyMathConfig

    rows: list[dict[str, Any]] = []
    for question in draw_toy_math(ToyMathConfig(train=count, test=1, test_ood=1), seed=3, limit=None):
        if question.split != "train":
            continue
        family = FAMILIES[str(question.state["family"])]
        state = family.state_type.model_validate(question.state)
        steps = "\n".join(family.solve(state, "fine", 0))
        reply = f"<think>\n{steps}\n</think>\nThe answer is {family.answer(state)}."
        turns = [{"from": "human", "value": question.text}, {"from": "gpt", "value": reply}]
        rows.append({"conversations": turns, "source": "somebody"})
    return rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("foreign")
    lines = [json.dumps(row) for row in chats(60)]
    lines += ['{"conversations": [{"from": "human", "value": "and then?"}]}', "{broken"]
    (folder / "chats.jsonl").write_text("\n".join(lines) + "\n")
    config_path = folder / "foreign.yaml"
    config_path.write_text(CONFIG.format(path=folder / "chats.jsonl"))
    config = load_config(config_path, overrides=(f"run.dir={folder / 'run'}",))
    run, code = run_stages(config, config_path=config_path, command=["aot", "run"])
    assert code == 3  # two rows were refused, and told
    return run


def test_a_foreign_chat_data_set_goes_through_a_run_to_a_report(finished: RunFolder) -> None:
    assert {trace.teacher for trace in read_traces(finished)} == {"foreign"}
    metrics = [MetricRow.model_validate(row) for row in json.loads(finished.metrics.read_text())]
    arms = {row.arm for row in metrics if row.metric == "accuracy" and row.split == "test"}
    assert {"base", "pre", "hurt", "teacher"} <= arms
    assert "foreign" in finished.report.read_text() and finished.done.exists()


def test_whole_groups_of_the_chats_are_held_out_and_bad_rows_are_counted(finished: RunFolder) -> None:
    splits: dict[str, set[str]] = {}
    for question in read_rows(finished.questions, Question):
        splits.setdefault(question.split, set()).add(question.group)
    assert splits["train"] and splits["test"] and not splits["train"] & splits["test"]
    reasons = [json.loads(line)["reason"] for line in finished.refusals.read_text().splitlines()]
    assert sorted(reasons) == ["broken_json", "no_reply"]


@pytest.fixture(scope="module")
def exported(finished: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DataExport]:
    out = tmp_path_factory.mktemp("export") / "data"
    made, was_there = export_data(finished.root, out, Wanted())
    assert not was_there
    return out, made


def rows_of(folder: Path, name: str, cache: Path, split: str = "train") -> list[dict[str, Any]]:
    return list(datasets.load_dataset(str(folder), name, split=split, cache_dir=str(cache)))


def test_an_export_loads_by_its_card_with_the_columns_that_trl_reads(
    exported: tuple[Path, DataExport], tmp_path: Path
) -> None:
    out, made = exported
    assert made.parts.keys() == {"traces", "lessons-pre"}  # damaged chains only where named
    rows = rows_of(out, "lessons-pre", tmp_path)
    assert len(rows) == made.parts["lessons-pre"] > 10
    for row in rows:
        assert [turn["role"] for turn in row["prompt"] + row["completion"]] == ["user", "assistant"]
        assert row["messages"] == row["prompt"] + row["completion"] and "images" not in row
        reply = row["completion"][0]["content"]
        assert "".join(reply[part["start"] : part["end"]] for part in row["weights"]) == reply
    assert rows_of(out, "traces", tmp_path)[0]["evidence"][0]["text"]


def test_a_lesson_with_tools_has_a_turn_for_each_call_and_result() -> None:
    turns = (LessonTurn(role="assistant", text="1 + 1 = <tool_call>"), LessonTurn(role="tool", text="2"))
    lesson = Lesson(question_id="q", mode="tools", rationale="2\nAnswer: 2", turns=turns)
    question = Question(
        id="q", dataset="d", split="train", kind="k", text="1 + 1?", answer="2", answer_type="integer", group="q"
    )
    row = lesson_row(question, lesson, None, arm="a", rationale_weight=1.0)
    assert [(one["role"], one["content"]) for one in row["completion"]] == [
        ("assistant", "1 + 1 = <tool_call>"), ("tool", "2"), ("assistant", "2\nAnswer: 2"),
    ]  # fmt: skip
    assert row["prompt"][0]["content"].endswith("Use the tools, then answer.")


def test_no_question_of_a_test_split_leaves_unless_its_split_is_named(
    finished: RunFolder, exported: tuple[Path, DataExport], tmp_path: Path
) -> None:
    held_out = {question.id for question in read_rows(finished.questions, Question) if question.split == "test"}
    for name in exported[1].parts:
        assert not held_out & {row["question_id"] for row in rows_of(exported[0], name, tmp_path)}
    asked = tmp_path / "asked"
    export_data(finished.root, asked, Wanted(splits=("test",), arms=("hurt",)))
    rows = rows_of(asked, "questions", tmp_path, split="test")
    assert {row["question_id"] for row in rows} == held_out and all(row["answer"] for row in rows)
    assert (asked / "lessons-hurt").is_dir() and not (asked / "lessons-pre").exists()


def test_the_same_export_again_does_nothing_and_another_folder_is_never_written_over(
    finished: RunFolder, exported: tuple[Path, DataExport], tmp_path: Path
) -> None:
    out, made = exported
    assert export_data(finished.root, out, Wanted()) == (made, True)
    with pytest.raises(RunError, match="holds another export"):
        export_data(finished.root, out, Wanted(splits=("test",)))
    (tmp_path / "own.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        export_data(finished.root, tmp_path, Wanted())
    with pytest.raises(RunError, match="lies in the run folder"):
        export_data(finished.root, finished.root / "data", Wanted())
    with pytest.raises(ConfigError, match="has no arm 'pree'"):
        export_data(finished.root, tmp_path / "new", Wanted(arms=("pree",)))
    with pytest.raises(ConfigError, match="no question is in 'val'"):
        export_data(finished.root, tmp_path / "new", Wanted(splits=("val",)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.txt"]


def test_an_altered_export_is_noticed(finished: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "data"
    made, _ = export_data(finished.root, out, Wanted(arms=("pre",)))
    (out / "README.md").write_text("mine")
    assert damaged(out, made) == ["README.md"]
    with pytest.raises(RunError, match="altered since"):
        export_data(finished.root, out, Wanted(arms=("pre",)))


def test_an_exported_data_set_is_read_again_by_a_run(exported: tuple[Path, DataExport]) -> None:
    from aot.config import HfSection
    from text_cot.datasets.hf import read_hf

    source = read_hf(HfSection(path=str(exported[0]), subset="lessons-pre"), seed=0, limit=None)
    assert len(source.questions) + len(source.refusals) == exported[1].parts["lessons-pre"]
    assert len(source.rationales) == len(source.questions) > 10


def test_the_export_command_says_what_it_wrote(
    finished: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app(["data", "export", str(finished.root), "--to", str(tmp_path / "data")], standalone_mode=False)
    said = capsys.readouterr().out
    assert "lessons-pre" in said and "datasets.load_dataset" in said and (tmp_path / "data" / "README.md").is_file()
