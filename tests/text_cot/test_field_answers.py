"""Pairs and data files that people had trouble with: each has its right verdict, or a refusal that says what to do."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from aot.answers import find_answer
from aot.errors import SourceError
from aot.files.jsonl import RowProblem
from text_cot.datasets.files import read_text_files
from text_cot.datasets.forms import plain_math
from text_cot.datasets.layouts import LAYOUTS, FileKind
from text_cot.datasets.source import TextSource

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from foreign_pairs import foreign_gold, grade_foreign, last_value  # noqa: E402

CASES = ROOT.parent / "shared" / "cases" / "text"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="the folder of field cases is not here")


@pytest.fixture
def check() -> ModuleType:
    """scripts/check_answers.py as a module."""
    spec = importlib.util.spec_from_file_location("check_answers", ROOT / "scripts" / "check_answers.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def read(kind: FileKind, path: Path) -> TextSource:
    return read_text_files(kind, train=path, test=None, test_share=1e-9, seed=0, limit=None)


@needs_cases
def test_every_field_pair_has_its_right_verdict(check: ModuleType) -> None:
    rows = check.read_pairs(CASES / "answers.jsonl")
    judged = [check.judge(str(number), row) for number, row in rows]
    assert len(judged) == 46
    assert [(one.row["gold"], one.row["reply"], one.verdict) for one in judged if not one.agrees] == []


@needs_cases
def test_a_decimal_comma_in_a_gsm8k_gold_is_refused_and_never_dropped() -> None:
    found = read("gsm8k", CASES / "data" / "gsm8k_golds.jsonl")
    assert [question.answer for question in found.questions] == ["1234", "5", "5", "-3", "0.5", "05"]
    assert {refusal.reason for refusal in found.refusals} == {"gold_unparsable"}
    comma = next(refusal for refusal in found.refusals if "2,50" in refusal.detail)
    assert "would be read" in comma.detail and "a comma parts thousands" in comma.detail


@needs_cases
def test_forms_of_gsm8k_solutions_are_read_or_refused_with_the_form_that_fits() -> None:
    found = read("gsm8k", CASES / "data" / "gsm8k_forms.jsonl")
    assert [question.answer for question in found.questions] == ["5"] * 4
    assert [refusal.item for refusal in found.refusals] == ["gsm8k_forms.jsonl:2", "gsm8k_forms.jsonl:4"]
    assert all("`#### 72` would be read" in refusal.detail for refusal in found.refusals)


@needs_cases
@pytest.mark.parametrize(("name", "column"), [("sharegpt.json", "conversations"), ("messages.jsonl", "messages")])
@pytest.mark.parametrize("kind", ["text_jsonl", "gsm8k", "math"])
def test_a_file_of_chats_is_refused_with_the_kind_of_data_set_that_reads_it(
    name: str, column: str, kind: FileKind
) -> None:
    with pytest.raises(SourceError, match=rf"chats in the column '{column}'; data\.dataset hf reads those"):
        read(kind, CASES / "data" / name)


@needs_cases
def test_the_answer_column_of_numina_is_read_where_the_solution_has_no_box() -> None:
    found = read("math", CASES / "data" / "numina.jsonl")
    assert [(asked.answer, asked.kind, asked.reading) for asked in found.questions][:1] == [("5", "algebra", "contest")]
    assert (len(found.questions), found.refusals) == (4, ())
    assert found.rationales[0].text == "We count. The result is 5.\nAnswer: 5"


@needs_cases
def test_columns_of_ones_own_beside_the_known_ones_are_left_alone() -> None:
    found = read("text_jsonl", CASES / "data" / "extra_columns.jsonl")
    assert ([question.answer for question in found.questions], found.refusals) == (["5", "3", "12", "8"], ())


@pytest.mark.parametrize("answer", ["proof", "not found", "", None])
def test_a_problem_without_an_answer_to_compare_is_refused(answer: str | None) -> None:
    with pytest.raises(RowProblem, match="either would be read"):
        LAYOUTS["math"].read({"problem": "p", "solution": "We prove it.", "answer": answer})


@pytest.mark.parametrize("gold", ["2,50", "1,23", "1.234,5", "1 000", "12,3456", "1,2345", "5 apples", "0,5"])
def test_no_gold_of_gsm8k_is_read_by_dropping_what_is_not_understood(gold: str) -> None:
    with pytest.raises(RowProblem, match="would be read"):
        LAYOUTS["gsm8k"].read({"question": "q", "answer": f"So.\n#### {gold}"})


@pytest.mark.parametrize(
    ("gold", "read_as"), [("1,234,567", "1234567"), ("1,00,000", "100000"), ("-1,234.5", "-1234.5")]
)
def test_thousands_of_a_gsm8k_gold_are_read(gold: str, read_as: str) -> None:
    assert LAYOUTS["gsm8k"].read({"question": "q", "answer": f"So.\n#### {gold}"}).answer == read_as


@pytest.mark.parametrize(
    "answer", [r"\frac{5}{6}", r"-\dfrac{5}{6}", r"\tfrac56", r"\frac34", r"\text{Evelyn}", r"11,\! 111", r"10\%",
               r"2\frac12", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\left(1, 2\right)", r"[-2,7]",
               r"90^\circ", r"\$32,\!348"]
)  # fmt: skip
def test_a_math_solution_states_its_own_answer_in_the_box_and_in_the_line_below(answer: str) -> None:
    problem = LAYOUTS["math"].read({"problem": "p", "solution": rf"We see that it is $\boxed{{{answer}}}$."})
    found = find_answer(problem.rationale)
    assert (found.answer, found.slot) == (problem.answer, "declared")


def test_thin_spaces_within_a_number_are_no_list() -> None:
    assert plain_math(r"11,\! 111,\! 111,\! 100") == "11,111,111,100"


@pytest.mark.parametrize(
    ("gold", "reply", "right"),
    [
        ("$2.5$", "It costs 2,5 €", True),
        ("$25$", "It costs 2,5 €", False),
        (r"so it is \boxed{7}.", "Therefore the number is 7.", True),
        ("$7$", "It is 7 and not $8$.", False),
        ("$7$", "Answer $ \n 7 \n $", False),
        (r"$\frac{1}{3}$", "$0.333333$", True),
        (r"$\frac{1}{3}$", "$0.33$", False),
        (r"$\frac{1}{3}$", "$0.333334$", False),
        (r"$x \ge 2$", r"Hence $2 \le x$ holds.", True),
        (r"$x \ge 2$", r"Hence $2 < x$ holds.", False),
        (r"$p=5,q=2;p=7,q=2$", "$(5,2),(7,2)$", True),
        (r"$p=5,q=2;p=7,q=2$", "$(2,5),(7,2)$", False),
        (r"$\text{13}$", "$13$", False),
        (r"$3$", r"\\boxed{3}", True),
        (r"$1,2$", r"\boxed{1} then \boxed{2}", False),
        ("$2$", "AZYUK2A", False),
    ],
)  # fmt: skip
def test_pairs_of_other_projects_are_read_by_their_laxer_convention(gold: str, reply: str, right: bool) -> None:
    assert (grade_foreign(gold, reply).verdict == "right") == right


def test_the_last_value_of_prose_is_no_letter_and_no_broken_formula() -> None:
    assert last_value("not 10 but $x = 3$, and 1,000.99m²") == "1,000.99"
    assert last_value("about $x$") is None
    assert foreign_gold(r"long words, so $x = \boxed{4}$.") == "4"


def test_the_script_counts_false_rights_and_fails_for_one(
    check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"gold": "5", "reply": "Answer: 5", "right": True, "dataset": "own"},
        {"gold": "5", "reply": "Answer: 5", "right": "wrong", "dataset": "own"},
        {"gold": "5", "reply": "It is 6.", "right": False},
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    monkeypatch.setattr(sys, "argv", ["check_answers.py", str(path)])
    assert check.main() == 1
    assert "2 of 3 pairs agree; false rights 1" in capsys.readouterr().out
    path.write_text('{"gold": "5"}\n')
    assert check.main() == 2
    assert "line 1 needs the texts gold and reply" in capsys.readouterr().err
