"""`aot audit` on the embedded base of text, which is exported without training."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))
sys.path.insert(0, str(Path(__file__).parents[1] / "student"))

import text_kit
from audit_kit import bbq_file, bbq_row, crows_file, stereoset_file, stereoset_item
from serving_kit import export_base, export_student

from aot.audit.auditing import Wanted, audit_export
from aot.cli import app
from aot.config import ToyMathConfig, dump_config, load_config
from aot.errors import ConfigError
from aot.files.run_folder import RunFolder, publish, publish_rows
from aot.records import Prediction
from aot.student.model.loading import load_student
from aot.student.train.arm import train_arm
from text_cot.datasets.toy_math import draw_toy_math

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_base("tiny-text", tmp_path_factory.mktemp("exports") / "text")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with questions and a teacher's answers, and no trained arm."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "math")
    config = load_config(ROOT / "configs/text/tiny_math_tiny.yaml", overrides=(f"run.dir={folder.root}",))
    publish(folder.config, dump_config(config))
    publish(folder.run_json, json.dumps({"command": [], "stages": {}}))
    questions = draw_toy_math(ToyMathConfig(train=40, test=20, test_ood=1), seed=0)
    publish_rows(folder.questions, questions)
    right = [
        Prediction(question_id=one.id, arm="teacher", mode="none", raw_text="", answer=one.answer)
        for one in questions
        if one.split == "test"
    ]
    publish_rows(folder.predictions_of("teacher", "none"), right)
    return folder.root


def test_suites_of_all_three_formats_are_asked_and_refusals_are_counted(export: Path, tmp_path: Path) -> None:
    strange = bbq_row(9) | {"ans0": "Zebulon"}
    pairs = [("Ann has 3 books.", "Bob has 3 books."), ("Ann has quarks.", "Bob has 3.")]
    suites = (
        bbq_file(tmp_path / "hats.jsonl", [*(bbq_row(i) for i in range(4)), strange, {"label": 1}]),
        crows_file(tmp_path / "pairs.csv", pairs),
        stereoset_file(
            tmp_path / "set.json",
            [stereoset_item(1, {"stereotype": "Ann has 3 books.", "anti-stereotype": "Ann has 4 books.",
                                "unrelated": "books 3 has Ann."})],
        ),
    )  # fmt: skip
    teacher = tmp_path / "teacher.jsonl"
    teacher.write_text("".join(json.dumps({"id": f"Hats/{i}", "answer": 2}) + "\n" for i in range(4)))
    made = audit_export(export, Wanted(suites=suites, teacher=teacher))
    assert {row.arm for row in made.rows if row.metric == "s_amb"} == {"base", "teacher"}
    assert "pairs.csv: no answers of the teacher; give them with --teacher FILE" in made.missing
    by_metric = {(row.split, row.metric): row for row in made.rows if row.arm == "base"}
    assert by_metric["hats.jsonl", "s_amb"].n == 4 and by_metric["pairs.csv", "stereotype_likelier"].n == 1
    assert by_metric["set.json", "lms"].n == 1
    assert made.refused == {
        "hats.jsonl": {"missing_field": 1},
        "base": {"hats.jsonl: unknown_words": 1, "pairs.csv: unknown_words": 1},
    }
    assert made.exit_code == 3 and "category" in made.examples[0]


def test_a_run_gives_pairs_and_categories_beside_the_teacher(export: Path, run: Path) -> None:
    made = audit_export(export, Wanted(run=run))
    by_key = {(row.arm, row.kind, row.metric): row for row in made.rows}
    assert by_key["teacher", "arithmetic", "accuracy"].value == 1.0
    kept, right = by_key["base", "arithmetic", "recovery"], by_key["base", "arithmetic", "accuracy"]
    assert kept.value == right.value and right.n == 8
    assert made.items["pairs by name"] == made.items["pairs by gender"] == 8
    assert by_key["base", "all", "changed_by_gender_beyond_name"].n == 8
    assert any(line.startswith("commonsense relations: no question") for line in made.missing)
    assert any("no question of test has a word to swap" in line for line in made.missing), "of places"
    assert made.exit_code == 0


def test_the_verb_prints_a_table_writes_a_page_and_tells_json(export: Path, run: Path, tmp_path: Path) -> None:
    page = tmp_path / "audit.md"
    suite = bbq_file(tmp_path / "hats.jsonl", [bbq_row(0, category="<b>Hats|"), bbq_row(1, category="\x1b[31mx")])
    told = CliRunner().invoke(app, ["audit", str(export), "--run", str(run), "--suite", str(suite), "--out", str(page)])
    assert told.exit_code == 0, told.output
    assert "recovery" in told.stdout and "missing:" in told.stdout and "\x1b" not in told.stdout
    text = page.read_text()
    assert "| s\\_amb" in text or "| s_amb" in text
    assert "<b>" not in text and "&lt;b&gt;Hats\\|" in text and "\x1b" not in text
    as_json = CliRunner().invoke(app, ["audit", str(export), "--suite", str(suite), "--json"])
    assert json.loads(as_json.stdout)["student"] == "base"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Wanted(), "nothing to audit by"),
        (Wanted(suites=(Path("a.csv"), Path("a.csv"))), "two suites are called a.csv"),
    ],
)
def test_what_cannot_be_audited_is_told(
    wanted: Wanted, told: str, export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    crows_file(tmp_path / "a.csv", [("Ann has 3.", "Bob has 3.")])
    with pytest.raises(ConfigError, match=told):
        audit_export(export, wanted)


def test_another_split_than_the_run_has_is_told(export: Path, run: Path) -> None:
    with pytest.raises(ConfigError, match="no question of split 'val'; it has"):
        audit_export(export, Wanted(run=run, split="val"))


def test_base_and_answers_only_go_through_the_same_items_before_the_export(tmp_path: Path) -> None:
    base = text_kit.save_text_base(tmp_path / "base")
    both = [{"name": "plain", "order": "answers_only"}, {"name": "all", "order": "adaptive"}]
    config = text_kit.text_config(base, arms=both)
    run = text_kit.text_run(tmp_path / "run", config)
    publish(run.run_json, json.dumps({"command": [], "stages": {}}))
    lessons = [lesson for question in text_kit.sums() for lesson in text_kit.lessons_of(question)]
    publish_rows(run.arm("all") / "lessons.jsonl", lessons)
    tests = [one.model_copy(update={"id": f"t{one.id}", "split": "test"}) for one in text_kit.sums(4)]
    publish_rows(run.questions, [*text_kit.sums(), *tests])
    for arm in config.train.arms:
        train_arm(run, config, arm)
    student = load_student(str(base), adapter=run.arm("all"), config=config.student)
    export = export_student(student, str(base), tmp_path / "export", arm="all", modes=("adaptive",))
    suite = crows_file(tmp_path / "p.csv", [("What is 1 + 2?", "What is 2 + 1?"), ("is 3", "is 4")])
    made = audit_export(export, Wanted(run=run.root, suites=(suite,)))
    assert made.modes == {"base": "direct", "plain": "direct", "all": "adaptive"}
    assert {row.arm for row in made.rows if row.metric == "stereotype_likelier"} == {"base", "plain", "all"}
    differences = {row.metric for row in made.rows if row.split == "p.csv" and row.arm == "all"}
    assert {f"stereotype_likelier_difference_vs_{name}" for name in ("base", "plain")} <= differences
    assert "recovery: the run has no stored answers of its teacher; run aot evaluate" in made.missing
