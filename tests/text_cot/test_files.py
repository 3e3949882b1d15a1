"""Local text data sets: what becomes of each row, and of files that strangers wrote."""

import doctest
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aot.answers import grade
from aot.errors import SourceError
from text_cot.datasets import forms, source
from text_cot.datasets.files import read_text_files
from text_cot.datasets.layouts import FileKind
from text_cot.datasets.source import TextSource
from text_cot.teacher.teachers import take

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "annotations" / "gsm8k_train.jsonl"
needs_gsm8k = pytest.mark.skipif(not GSM8K.exists(), reason=f"{GSM8K} is absent")
GOOD = {"question": "What is 2 + 3?", "answer": "Add: 2+3=<<2+3=5>>5.\n#### 5"}


def read(kind: FileKind, train: Path, **settings: Any) -> TextSource:
    chosen: dict[str, Any] = {"test": None, "test_share": 1e-9, "seed": 0, "limit": None, **settings}
    return read_text_files(kind, train=train, **chosen)


def lines(path: Path, *rows: object) -> Path:
    """A file of JSON lines; bytes are written as they are."""
    content = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(content) + b"\n")
    return path


def reasons(found: TextSource) -> dict[str, str]:
    return {refusal.item: refusal.reason for refusal in found.refusals}


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(forms).failed == doctest.testmod(source).failed == 0


def test_the_rows_in_the_documentation_are_good_rows(tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "text_data.md").read_text()
    kinds: tuple[FileKind, ...] = ("gsm8k", "math", "cot_collection", "text_jsonl")
    for kind, row in zip(kinds, re.findall(r"```json\n(.*)\n```", document), strict=True):
        found = read(kind, lines(tmp_path / "row.jsonl", row.encode()))
        assert (len(found.questions), len(found.rationales), found.refusals) == (1, 1, ())


@needs_gsm8k
def test_every_row_of_gsm8k_is_a_question_with_a_gold_that_is_right_and_a_chain() -> None:
    found = read("gsm8k", GSM8K, test_share=0.1)
    assert (len(found.questions), len(found.rationales), found.refusals) == (7473, 7473, ())
    assert 0.08 < sum(asked.split == "test" for asked in found.questions) / 7473 < 0.12
    assert all(grade(asked.answer, asked).verdict == "right" for asked in found.questions)
    chains = zip(found.questions, found.rationales, strict=True)
    assert not any("<<" in take(asked, chain.text, config_digest="").rationale for asked, chain in chains)


def test_gsm8k_notes_leave_the_chain_and_the_number_stays(tmp_path: Path) -> None:
    row = {"question": "How much?", "answer": "It costs 12*100 = $<<12*100=1200>>1,200.\n\n#### $1,200"}
    found = read("gsm8k", lines(tmp_path / "g.jsonl", row))
    asked = found.questions[0]
    trace = take(asked, found.rationales[0].text, config_digest="")
    assert trace.rationale == "It costs 12*100 = $1,200.\nAnswer: 1200"
    assert (asked.id, asked.answer, asked.answer_type) == ("gsm8k/train/1", "1200", "integer")


def test_a_row_with_no_chain_is_a_question_without_one(tmp_path: Path) -> None:
    found = read("gsm8k", lines(tmp_path / "g.jsonl", {**GOOD, "answer": "#### 5"}))
    assert (len(found.questions), found.rationales) == (1, ())


def test_math_takes_the_last_box_and_the_slug_of_the_type(tmp_path: Path) -> None:
    row = {
        "problem": "Halve it.",
        "solution": r"Not \boxed{1}.\nSo $\boxed{\text{two}}$",
        "level": "Level 2",
        "type": "Counting & Probability",
    }
    asked = read("math", lines(tmp_path / "m.jsonl", row)).questions[0]
    assert (asked.kind, asked.answer, asked.answer_type) == ("counting_probability", "two", "text")


@pytest.mark.parametrize(
    ("boxed", "answer"),
    [(r"{7}", "7"), (r" 7$", "7"), (r"{\sqrt{\frac{a}{b}}}", r"\sqrt{\frac{a}{b}}"), (r"{\{1, 2\}}", r"\{1, 2\}")],
)
def test_a_boxed_answer_ends_where_its_own_brace_ends(boxed: str, answer: str) -> None:
    assert forms.last_boxed(rf"so $\boxed{boxed}$ and {{more}}") == answer


def test_a_folder_of_json_files_is_math_in_its_original_form(tmp_path: Path) -> None:
    (tmp_path / "algebra").mkdir()
    row = {"problem": "1 + 1?", "solution": r"\boxed{2}", "type": "Algebra"}
    lines(tmp_path / "algebra" / "7.json", row)
    lines(tmp_path / "algebra" / "8.json", b"{")
    found = read("math", tmp_path)
    assert (found.questions[0].id, reasons(found)) == ("math/train/algebra/7", {"algebra/8.json": "broken_json"})


def test_cot_collection_is_read_by_id_and_typed_by_the_form_of_its_target(tmp_path: Path) -> None:
    rows = {
        name: {"source": f"Is it {name}?", "target": target, "rationale": "Think.", "task": "BoolQ"}
        for name, target in {"a": "Yes", "b": "fry egg", "c": "12"}.items()
    }
    (tmp_path / "c.json").write_text(json.dumps(rows))
    found = read("cot_collection", tmp_path / "c.json")
    assert [asked.answer_type for asked in found.questions] == ["yes_no", "text", "integer"]
    assert {asked.kind for asked in found.questions} == {"boolq"}
    assert found.rationales[0].text == "Think.\nAnswer: Yes"


def test_own_fields_of_a_row_are_used(tmp_path: Path) -> None:
    row = {
        "question": "Which?", "answer": "red", "choices": ["red", "blue"], "id": "q1", "kind": "colour",
        "group": "g", "split": "test_ood", "rationale": "It is red.\nAnswer: red",
    }  # fmt: skip
    found = read("text_jsonl", lines(tmp_path / "t.jsonl", row), test_share=0.5)
    asked = found.questions[0]
    assert (asked.id, asked.kind, asked.group, asked.split) == ("q1", "colour", "g", "test_ood")
    assert (asked.answer_type, found.rationales[0].text) == ("choice", "It is red.\nAnswer: red")


def test_bad_rows_are_refused_with_line_and_reason_and_nothing_vanishes(tmp_path: Path) -> None:
    bad: dict[str, object] = {
        "missing_field": {"question": "q"},
        "not_text": {**GOOD, "question": 7},
        "empty": {**GOOD, "question": " "},
        "no_answer": {**GOOD, "answer": "no mark"},
        "gold_unparsable": {**GOOD, "answer": "#### many"},
        "too_long": {**GOOD, "question": "x" * 900_000},
        "line_too_long": {**GOOD, "question": "x" * 1_100_000},
        "broken_json": b'{"question": ',
        "not_utf8": '{"question": "caf\xe9", "answer": "#### 5"}'.encode("latin-1"),
        "bad_text": b'{"question": "\\ud800", "answer": "#### 5"}',
        "not_a_number": b'{"question": NaN, "answer": "#### 5"}',
        "duplicate_key": b'{"question": "a", "question": "b"}',
    }
    found = read("gsm8k", lines(tmp_path / "g.jsonl", GOOD, *bad.values()))
    assert reasons(found) == {f"g.jsonl:{number}": reason for number, reason in enumerate(bad, 2)}
    assert len(found.questions) == 1


def test_numbers_of_5000_digits_are_refused_wherever_they_stand(tmp_path: Path) -> None:
    digits = "9" * 5000
    rows = (GOOD, {**GOOD, "answer": f"#### {digits}"}, f'{{"question": {digits}, "answer": "#### 5"}}'.encode())
    found = read("gsm8k", lines(tmp_path / "g.jsonl", *rows))
    assert reasons(found) == {"g.jsonl:2": "too_long", "g.jsonl:3": "not_a_number"}


def test_refusals_of_own_rows_name_what_is_known(tmp_path: Path) -> None:
    plain = {"question": "q", "answer": "a"}
    rows = (
        {**plain, "id": "q1"},
        {**plain, "id": "q1"},
        {**plain, "answer_type": "integr"},
        {**plain, "answer_type": "integer"},
        {**plain, "choices": ["b", "c"]},
        {**plain, "rationle": "r"},
        {**plain, "answer": True},
        {**plain, "split": "test"},
    )
    found = read("text_jsonl", lines(tmp_path / "t.jsonl", *rows))
    expected = "duplicate_id bad_answer_type gold_unparsable bad_choices unknown_field not_text two_splits"
    assert [refusal.reason for refusal in found.refusals] == expected.split()
    assert "known: choice, text, integer" in found.refusals[1].detail
    assert "did you mean 'rationale'" in found.refusals[4].detail


def test_wrong_columns_are_one_error_with_the_nearest_names(tmp_path: Path) -> None:
    path = lines(tmp_path / "g.jsonl", *[{"questions": "q", "answer": "#### 5"}] * 3)
    with pytest.raises(SourceError, match=r"has the columns question, answer, found: questions, answer; did you mean"):
        read("gsm8k", path)


def test_columns_of_another_data_set_are_recognised(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"these columns fit data\.dataset math"):
        read("gsm8k", lines(tmp_path / "g.jsonl", {"problem": "p", "solution": "s"}))


def test_a_file_without_a_usable_row_is_one_error_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none of the 2 rows can be used: no_answer 2; first g\.jsonl:1"):
        read("gsm8k", lines(tmp_path / "g.jsonl", *[{**GOOD, "answer": "5"}] * 2))


def test_a_missing_file_and_an_unknown_kind_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no file .*none\.jsonl"):
        read("gsm8k", tmp_path / "none.jsonl")
    (tmp_path / "rows.xlsx").touch()
    with pytest.raises(SourceError, match=r"give one of \.jsonl"):
        read("gsm8k", tmp_path / "rows.xlsx")


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.parquet", "rows.jsonl"])
def test_each_file_format_gives_the_same_question(name: str, tmp_path: Path) -> None:
    row = {"question": "How\nmany, é?", "answer": "007", "rationale": "Seven."}
    path = tmp_path / name
    if name == "rows.csv":
        path.write_bytes('\ufeffquestion,answer,rationale\r\n"How\nmany, é?",007,Seven.\r\n'.encode())
    elif name == "rows.parquet":
        arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps([row] if name == "rows.json" else row), encoding="utf-8-sig")
    found = read("text_jsonl", path)
    assert (found.questions[0].text, found.questions[0].answer) == ("How\nmany, é?", "007")
    assert found.rationales[0].text == "Seven.\nAnswer: 007"


def test_a_file_that_is_no_parquet_is_one_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = lines(tmp_path / "t.parquet", GOOD)
    with pytest.raises(SourceError, match=r"t\.parquet cannot be read as Parquet"):
        read("text_jsonl", path)


def test_bad_bytes_nan_and_odd_rows_of_a_json_list_refuse_only_themselves(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    good = '{"question": "q", "answer": "a"}'
    path.write_bytes(f'[{good}, {{"question": "caf\xe9", "answer": "b"}}, {{"question": NaN}}, 7]'.encode("latin-1"))
    found = read("text_jsonl", path)
    assert reasons(found) == {"t.json:2": "bad_text", "t.json:3": "not_a_number", "t.json:4": "broken_json"}


def test_a_csv_row_with_too_many_cells_or_an_open_quote_is_refused_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("question,answer\nq,a\nq,b,c\n")
    assert reasons(read("text_jsonl", path)) == {"t.csv:3": "broken_csv"}
    path.write_text('question,answer\nq1,"a\nq2,b\n"q3,\nin two lines",c\nq4,d\n')
    found = read("text_jsonl", path)
    assert reasons(found) == {"t.csv:2": "broken_csv"}
    assert [(q.id.rpartition(":")[2], q.text) for q in found.questions][1][1] == "q3,\nin two lines"
    assert len(found.questions) == 3


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_column_that_is_named_twice_is_told_by_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "t.csv":
        path.write_text("question,answer,answer\nq,a,b\n")
    else:
        arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
        table = arrow.Table.from_arrays([arrow.array(["q"])] * 3, names=["question", "answer", "answer"])
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    with pytest.raises(SourceError, match=r"names the column 'answer' twice"):
        read("text_jsonl", path)


def test_a_key_that_stands_twice_in_a_row_of_a_json_list_refuses_the_row(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text('[{"question": "q", "answer": "a", "answer": "b"}, {"question": "r", "answer": "c"}]')
    found = read("text_jsonl", path)
    assert reasons(found) == {"t.json:1": "duplicate_key"}
    assert [q.answer for q in found.questions] == ["c"]


def templates(tmp_path: Path) -> Path:
    rows = [
        {**GOOD, "question": f"{word} has {n} pens?"} for word in map(str.upper, "abcdefghijklmnopqrst") for n in (1, 2)
    ]
    return lines(tmp_path / "g.jsonl", *rows)


def test_problems_that_differ_in_numbers_only_are_held_out_together(tmp_path: Path) -> None:
    found = read("gsm8k", templates(tmp_path), test_share=0.5)
    splits = {
        asked.group: {other.split for other in found.questions if other.group == asked.group}
        for asked in found.questions
    }
    assert all(len(one) == 1 for one in splits.values())
    assert Counter(asked.split for asked in found.questions).keys() == {"train", "test"}


def test_the_seed_alone_decides_what_is_held_out(tmp_path: Path) -> None:
    path = templates(tmp_path)
    first = read("gsm8k", path, test_share=0.5)
    assert first == read("gsm8k", path, test_share=0.5)
    assert first != read("gsm8k", path, test_share=0.5, seed=1)


def test_a_training_problem_that_stands_in_the_test_file_is_refused(tmp_path: Path) -> None:
    test = lines(tmp_path / "test.jsonl", GOOD)
    train = lines(tmp_path / "train.jsonl", {**GOOD, "question": "What is  4 + 5?"}, {**GOOD, "question": "Other?"})
    found = read("gsm8k", train, test=test)
    assert reasons(found) == {"train.jsonl:1": "two_splits"}
    assert [(asked.id, asked.split) for asked in found.questions] == [
        ("gsm8k/test/1", "test"),
        ("gsm8k/train/2", "train"),
    ]


def test_a_limit_keeps_a_seeded_sample_of_each_split_in_file_order(tmp_path: Path) -> None:
    path = templates(tmp_path)
    found = read("gsm8k", path, test_share=0.5, limit=3)
    assert Counter(asked.split for asked in found.questions) == {"train": 3, "test": 3}
    numbers = [int(asked.id.rpartition("/")[2]) for asked in found.questions]
    assert numbers == sorted(numbers)
    other = read("gsm8k", path, test_share=0.5, limit=3, seed=4)
    assert found.questions != other.questions


def test_reading_files_imports_no_decoder_and_no_torch() -> None:
    heavy = "{'cv2', 'av', 'decord', 'torchvision', 'PIL', 'torch', 'datasets', 'reasoning_gym'}"
    code = f"import sys, text_cot.datasets.files, text_cot.datasets.gym; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
