"""Data sets of strangers, in every form that is read: which rows become questions, and what is told of the others."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from aot.config import HfSection, load_config
from aot.config.data import HfColumns
from aot.errors import AotError, ConfigError, SourceError
from text_cot.datasets.chats import pick_layout
from text_cot.datasets.hf import open_splits, read_hf
from text_cot.datasets.source import TextSource

CASES = Path(__file__).parents[2].parent / "shared" / "cases" / "text" / "data"
USER = {"role": "user", "content": "What is 2 + 3?"}
REPLY = {"role": "assistant", "content": "I add: 2 + 3 = 5.\nThe answer is 5."}


def chat(*turns: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(turns)}


def lines_of(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def read(path: Path, **settings: Any) -> TextSource:
    return read_hf(HfSection(path=str(path), **settings), seed=0, limit=None)


@pytest.mark.parametrize(
    ("row", "text", "answer", "chain"),
    [
        (chat(USER, REPLY), "What is 2 + 3?", "5", "I add: 2 + 3 = 5.\nThe answer is 5.\nAnswer: 5"),
        ({"conversations": [{"from": "human", "value": "2 + 3?"}, {"from": "gpt", "value": r"So \boxed{5}."}]},
         "2 + 3?", "5", "So \\boxed{5}.\nAnswer: 5"),
        ({"prompt": "2 + 3?", "completion": "2 + 3 = <<2+3=5>>5\n#### 5"}, "2 + 3?", "5",
         "2 + 3 = <<2+3=5>>5\nAnswer: 5"),
        ({"prompt": [USER], "completion": [REPLY]}, "What is 2 + 3?", "5", None),
        ({"instruction": "Add.", "input": "2, 3", "output": "5"}, "Add.\n2, 3", "5", ""),
        ({"problem": "2 + 3?", "solution": "2 + 3 is 5", "answer": 5}, "2 + 3?", "5", "2 + 3 is 5\nAnswer: 5"),
        ({"question": "2 + 3?", "answer": "Two and three.\n#### 5"}, "2 + 3?", "5", "Two and three.\nAnswer: 5"),
        (chat(USER, {"role": "assistant", "content": "<think>2 + 3 = 5</think>\n5"}), None, "5",
         "2 + 3 = 5\nAnswer: 5"),
        (chat(USER, {"role": "assistant", "content": "5", "reasoning_content": "2 + 3 = 5"}), None, "5",
         "2 + 3 = 5\nAnswer: 5"),
        (chat({"role": "system", "content": "Be brief."}, USER, REPLY), "Be brief.\nWhat is 2 + 3?", "5", None),
        (chat({"role": "user", "content": [{"type": "text", "text": "2 + 3?"}]}, REPLY), "2 + 3?", "5", None),
        (chat({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, USER, REPLY),
         "User: Hi\nAssistant: Hello\nUser: What is 2 + 3?", "5", None),
        ({"messages": {"role": ["user", "assistant"], "content": ["2 + 3?", "Two and three.\nAnswer: 5"]}}, "2 + 3?",
         "5", "Two and three.\nAnswer: 5"),
        ({"messages": json.dumps([USER, REPLY])}, "What is 2 + 3?", "5", None),
        ({**chat(USER, {"role": "assistant", "content": "It is\nhard to say"}), "answer": "5"}, None, "5", ""),
        ({**chat(USER, {"role": "assistant", "content": "I say:\nAnswer: 6"}), "answer": "5"}, None, "5",
         "I say:\nAnswer: 6"),
    ],
)  # fmt: skip
def test_a_row_of_any_known_form_becomes_a_question_and_its_chain(
    tmp_path: Path, row: dict[str, Any], text: str | None, answer: str, chain: str | None
) -> None:
    source = read(lines_of(tmp_path / "rows.jsonl", [row]))
    assert not source.refusals and len(source.questions) == 1
    assert source.questions[0].answer == answer and text in (None, source.questions[0].text)
    assert chain is None or [row.text for row in source.rationales] == ([chain] if chain else [])


REFUSED: dict[str, Any] = {
    "no_reply": chat(USER),
    "tool_calls": chat(USER, {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}),
    "unknown_role": chat({"role": "alien", "content": "x"}, REPLY),
    "bad_turns": chat(USER, USER, REPLY),
    "empty": chat(USER, {"role": "assistant", "content": "  "}),
    "not_a_chat": {"messages": None},
    "has_media": chat({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}, REPLY),
    "no_answer": chat(USER, {"role": "assistant", "content": "Once upon a time.\nThere was a road. It went on."}),
    "not_text": chat({"role": "user", "content": 5}, REPLY),
    "too_long": chat({"role": "user", "content": "x" * 30_000}, REPLY),
    "line_too_long": chat(USER, {"role": "assistant", "content": "x" * 10_000_000}),
    "broken_json": '{"messages": [',
    "duplicate_key": '{"messages": [], "messages": []}',
    "missing_field": {"other": 1},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_bad_row_is_counted_with_its_reason_and_its_neighbours_stay(tmp_path: Path, reason: str) -> None:
    source = read(lines_of(tmp_path / "rows.jsonl", [chat(USER, REPLY), REFUSED[reason], chat(USER, REPLY)]))
    assert [(row.item, row.reason) for row in source.refusals] == [("rows.jsonl:2", reason)]
    assert len(source.questions) == 2


def test_a_row_that_shows_pictures_is_refused_by_name(tmp_path: Path) -> None:
    rows = [{**chat(USER, REPLY), "images": ["a.jpg"]}, {**chat(USER, REPLY), "images": []}]
    source = read(lines_of(tmp_path / "rows.jsonl", rows))
    assert [row.reason for row in source.refusals] == ["has_media"] and len(source.questions) == 1


def test_settings_say_what_becomes_of_system_messages_and_earlier_turns(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be brief."}
    path = lines_of(tmp_path / "rows.jsonl", [chat(system, USER, REPLY), chat(USER, REPLY, USER, REPLY)])
    source = read(path, system="drop", turns="refuse")
    assert [question.text for question in source.questions] == ["What is 2 + 3?"]
    assert [row.reason for row in source.refusals] == ["several_turns"]


def test_columns_of_other_names_are_mapped_and_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    rows = [
        {"q": f"{n} + 1?", "gold": n + 1, "why": f"{n} and 1", "key": "k" if n else "j", "area": "Sums"}
        for n in range(3)
    ]
    columns = {"question": "q", "answer": "gold", "rationale": "why", "id": "key", "kind": "area"}
    source = read(lines_of(tmp_path / "rows.jsonl", rows), columns=columns)
    assert [(one.id, one.kind, one.answer) for one in source.questions] == [("j", "sums", "1"), ("k", "sums", "2")]
    assert [row.reason for row in source.refusals] == ["duplicate_id"]


@pytest.mark.parametrize(
    ("columns", "rows", "told"),
    [
        (
            {"messages": "mesages"},
            [chat(USER, REPLY)],
            "data.hf.columns.messages is 'mesages'.*did you mean 'messages'",
        ),
        ({}, [{"convresations": [], "n": 1}], "did you mean 'conversations'.*columns are: convresations, n"),
        ({}, [{"a": 1}], "no column of question and answer.*say in data.hf.columns"),
        ({}, [], "has no rows"),
        ({}, ["{broken"], "none of the first 1 rows can be read: broken_json"),
    ],
)
def test_files_without_known_columns_are_one_error_that_lists_those_there_are(
    tmp_path: Path, columns: dict[str, str], rows: list[Any], told: str
) -> None:
    with pytest.raises(SourceError, match=told):
        read(lines_of(tmp_path / "rows.jsonl", rows), columns=columns)


def test_named_columns_go_before_those_of_usual_names() -> None:
    columns = ("problem", "answer", "messages")
    usual = pick_layout(columns, HfSection())
    named = pick_layout(columns, HfSection(columns=HfColumns(messages="messages")))
    assert usual and named and (usual.wanted, named.wanted) == (("problem", "answer"), ("messages",))


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
@pytest.mark.parametrize("name", ["messages.jsonl", "sharegpt.json"])
def test_chats_of_the_shared_cases_are_read_whole(name: str) -> None:
    source = read(CASES / name)
    assert len(source.questions) == len(source.rationales) == 4 and not source.refusals
    assert {question.answer_type for question in source.questions} == {"integer"}


def test_a_gold_that_may_be_two_numbers_is_refused(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"How much is {n}?", "completion": f"So\n#### {n}"} for n in ("2,50", "1,234", "1.000.000", "2.50")
    ]
    source = read(lines_of(tmp_path / "rows.jsonl", rows))
    assert [question.answer for question in source.questions] == ["1,234", "2.50"]
    assert [row.reason for row in source.refusals] == ["gold_unparsable"] * 2


def many(count: int) -> list[dict[str, Any]]:
    names = "abcdefghijklmnopqrstuvwxyz"
    return [
        {"question": f"How many are {n} and 1 {names[n % 26]}{names[n // 26 % 26]}?", "answer": n + 1}
        for n in range(count)
    ]


def saved(folder: Path, form: str) -> HfSection:
    """The same rows in each form that is read."""
    datasets = pytest.importorskip("datasets")
    train, test = datasets.Dataset.from_list(many(40)), datasets.Dataset.from_list(many(60)[40:])
    if form == "parquet":
        train.to_parquet(folder / "a.parquet")
        test.to_parquet(folder / "b.parquet")
        return HfSection(path=str(folder / "a.parquet"), test_file=str(folder / "b.parquet"))
    if form == "csv":
        train.to_csv(folder / "a.csv")
        test.to_csv(folder / "b.csv")
        return HfSection(path=str(folder / "a.csv"), test_file=str(folder / "b.csv"))
    if form == "saved":
        datasets.DatasetDict({"train": train, "test": test}).save_to_disk(folder / "d")
    else:
        (folder / "d" / "data").mkdir(parents=True)
        train.select(range(20)).to_parquet(folder / "d" / "data" / "train-0.parquet")
        train.select(range(20, 40)).to_parquet(folder / "d" / "data" / "train-1.parquet")
        test.to_parquet(folder / "d" / "data" / "test-0.parquet")
    return HfSection(path=str(folder / "d"), test="test")


@pytest.mark.parametrize("form", ["parquet", "csv", "saved", "folder"])
def test_every_form_of_a_data_set_gives_the_same_questions(tmp_path: Path, form: str) -> None:
    source = read_hf(saved(tmp_path, form), seed=0, limit=None)
    assert not source.refusals
    by_split = {split: [q.text for q in source.questions if q.split == split] for split in ("train", "test")}
    assert by_split == {
        "train": [row["question"] for row in many(40)],
        "test": [row["question"] for row in many(60)[40:]],
    }
    assert len({question.id for question in source.questions}) == 60


def test_without_a_test_split_groups_are_held_out_by_hash_and_a_limit_takes_a_sample(tmp_path: Path) -> None:
    path = lines_of(tmp_path / "rows.jsonl", many(200))
    source = read(path, test_share=0.25)
    held_out = {one.text for one in source.questions if one.split == "test"}
    assert 20 < len(held_out) < 80
    more = read(lines_of(tmp_path / "more.jsonl", many(300)), test_share=0.25)
    assert held_out <= {one.text for one in more.questions if one.split == "test"}  # more rows move no other row
    limited = read_hf(HfSection(path=str(path)), seed=0, limit=5)
    assert sum(one.split == "train" for one in limited.questions) == 5
    assert len(read(path, first_rows=30).questions) == 30


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"train": "trian"}, "no split 'trian'; it has train, test"),
        ({"test": "train"}, "are both 'train'"),
        ({"test_file": "x.jsonl"}, "belongs to a file in data.hf.path"),
    ],
)
def test_a_split_that_is_not_there_is_told_with_those_that_are(
    tmp_path: Path, settings: dict[str, str], told: str
) -> None:
    folder = saved(tmp_path, "folder").path
    with pytest.raises(ConfigError, match=told):
        open_splits(HfSection(path=folder, **settings))


@pytest.mark.parametrize(
    ("path", "revision", "error", "told"),
    [
        (None, None, ConfigError, "data.hf.path is not set"),
        ("/nowhere/at/all", None, SourceError, "there is no /nowhere/at/all"),
        ("someone/numbers", None, ConfigError, "data.hf.revision must say which state"),
        ("someone/numbers", "a" * 40, SourceError, "has not been fetched; run `aot prefetch CONFIG`"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_with_what_to_do(
    path: str | None, revision: str | None, error: type[AotError], told: str
) -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(error, match=told):
        open_splits(HfSection(path=path, revision=revision))


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("configs:\n- config_name: a\n  data_files: https://example.org/x.parquet", "outside of its folder"),
        ("configs:\n- config_name: a\n  data_files: ../x.jsonl", "outside of its folder"),
        ("configs: [", "cannot be read"),
        ("configs: 5", "cannot be read as a data set"),
    ],
)
def test_a_card_that_leads_elsewhere_or_is_broken_is_one_error(tmp_path: Path, head: str, told: str) -> None:
    pytest.importorskip("datasets")
    lines_of(tmp_path / "train.jsonl", many(3))
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n")
    with pytest.raises(SourceError, match=told):
        read(tmp_path)


def test_pictures_in_a_saved_data_set_and_files_of_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"question": datasets.Value("string"), "image": datasets.Image()})
    datasets.Dataset.from_dict({"question": ["x"], "image": [None]}, features=features).save_to_disk(tmp_path / "d")
    with pytest.raises(SourceError, match="shows pictures or sound in image"):
        read(tmp_path / "d")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "train.txt").write_text("a line\n")
    with pytest.raises(SourceError, match=r"has the file .*train\.txt; read are \.parquet"):
        read(tmp_path / "e")


def test_rows_are_streamed_and_not_held_as_a_whole(tmp_path: Path) -> None:
    rows = ({"question": f"{n}?", "answer": n, "notes": "x" * 8000} for n in range(600))
    path = lines_of(tmp_path / "rows.jsonl", list(rows))
    tracemalloc.start()
    read_hf(HfSection(path=str(path)), seed=0, limit=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size  # of 5 MB; what is kept of a row is its id and two hashes


def test_a_hub_name_stays_a_name_and_a_path_becomes_absolute(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    text = (
        "data: {dataset: hf, hf: {path: %s, revision: main}}\nteacher: {planner: given}\nstudent: {base: tiny-text}\n"
    )
    text += "train: {arms: [{name: a, order: pre}]}\n"
    config.write_text(text % "someone/numbers")
    assert load_config(config).data.hf.path == "someone/numbers"  # type: ignore[union-attr]
    lines_of(tmp_path / "rows.jsonl", many(3))
    config.write_text(text % "rows.jsonl")
    assert load_config(config).data.hf.path == str(tmp_path / "rows.jsonl")  # type: ignore[union-attr]
