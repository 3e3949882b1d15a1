from collections.abc import Callable
from dataclasses import replace

import pytest

from aot.config import RunConfig, ToolArm
from aot.evaluation.groups import NEXT, OPEN_BOOK
from aot.files.run_folder import RunFolder, publish_json
from aot.records import MetricRow
from aot.reporting.load import RunData, load_run
from aot.reporting.pivot import points
from aot.reporting.sections.accuracy import accuracy_table, arm_about, findings, gap_sentence, kind_tables
from aot.reporting.students import Learned, Learning

MakeRun = Callable[..., tuple[RunFolder, RunConfig]]


def with_difference(data: RunData, low: float, value: float, high: float) -> RunData:
    row = MetricRow(arm="distilled", mode="direct", split="test", kind="next",
                    metric="accuracy_difference_vs_answer_only",
                    value=value, low=low, high=high, n=80, note="McNemar exact p=0.5")  # fmt: skip
    rows = [r for r in data.metrics if r.kind == "next" and "difference" not in r.metric] + [row]
    return replace(data, metrics=rows)


@pytest.mark.parametrize(
    ("low", "value", "high", "words"),
    [
        (0.02, 0.1, 0.2, "distilled is better than"),
        (-0.2, -0.1, -0.02, "distilled is worse than"),
        (-0.05, 0.01, 0.07, "a gain of more than 7.0 points and a loss of more than 5.0 can be ruled out"),
    ],
)
def test_headline_sentence_is_honest_either_way(
    make_run: MakeRun, low: float, value: float, high: float, words: str
) -> None:
    run, config = make_run()
    sentences = list(findings(with_difference(load_run(run, config), low, value, high)))
    assert len(sentences) == 1 and words in sentences[0][0]


def test_headline_lists_students_teacher_and_all_baselines_on_every_split(make_run: MakeRun) -> None:
    (table,) = accuracy_table(load_run(*make_run()))
    assert [row.key for row in table.rows] == [
        *((arm, mode) for arm in ("base", "answer_only", "distilled") for mode in ("direct", "reason", "likelihood")),
        ("distilled_no_frames", "direct"), ("teacher", "none"), ("copy_last", "none"), ("task_majority", "none"),
        ("bigram_predicted", "none"), ("bigram_gold", "none"), ("trigram_predicted", "none"), ("trigram_gold", "none"),
    ]  # fmt: skip
    assert [column.label for column in table.columns] == ["test", "test_ood"]
    assert all(all(line) for line in table.cells)
    assert [row.label for row in table.rows if row.strong] == [
        "distilled, answer at once", "distilled, reasoning first", "distilled, likeliest choice",
    ]  # fmt: skip


def test_kind_tables_begin_with_the_sums(make_run: MakeRun) -> None:
    tables = kind_tables(load_run(*make_run()))
    assert [table.title for table in tables] == ["test", "test_ood"]
    kinds = [column.label for column in tables[0].columns]
    assert kinds == ["all", "next", "next_choice", "next_open", "before", "count", "when"]


def test_gap_is_not_told_where_the_bigrams_do_not_differ(make_run: MakeRun) -> None:
    run, config = make_run()
    assert gap_sentence(load_run(run, config)) == ""


def test_roles_follow_the_weights_and_not_the_names(make_run: MakeRun) -> None:
    run, config = make_run()
    learning = load_run(run, config).learning
    assert (learning.control, learning.main) == ("answer_only", "distilled")


def test_a_verdict_about_open_books_is_about_the_arm_that_acts(make_run: MakeRun) -> None:
    data = load_run(*make_run())
    acts = ToolArm(name="acts", order="tool_use", tools=("look_up_recipe",))
    learning = Learning((*data.learning.arms, acts), {**data.learning.seen, "acts": Learned(9, 5)})
    data = replace(data, learning=learning)
    assert (arm_about(data, OPEN_BOOK), arm_about(data, NEXT)) == ("acts", "distilled")


@pytest.mark.parametrize(
    ("facts", "main", "what"),
    [
        ({"questions_seen": 1200, "rationales_seen": 1}, "distilled", "on 1,200 answers and 1 rationale (λ=1)"),
        ({"questions": 9, "rationales": 5}, "distilled", "on 9 answers and 5 rationales (λ=1)"),
        (
            {"questions_seen": 9, "rationales_seen": 0, "rationales": 5},
            None,
            "saw no rationale: trained on answers only",
        ),
        (None, "distilled", "no record of what it saw"),
    ],
)
def test_what_an_arm_is_follows_its_record_of_what_it_saw(
    make_run: MakeRun, facts: dict[str, int] | None, main: str | None, what: str
) -> None:
    run, config = make_run()
    record = run.arm("distilled") / "training.json"
    record.unlink() if facts is None else publish_json(record, facts)
    data = load_run(run, config)
    assert data.learning.main == main
    assert what in data.learning.what("distilled")


def test_points_have_no_negative_zero() -> None:
    row = MetricRow(arm="a", mode="direct", split="s", kind="k", metric="m", value=-1e-9, low=-0.1, high=0.1, n=3)
    assert points(row) == "+0.0 [-10.0, +10.0] points, n=3"
