import inspect
import json
import re
from pathlib import Path

import pytest

from aot.errors import SourceError
from aot.files.jsonl import MAX_LINE_BYTES, read_json_lines
from video_data.datasets.plain import check_windows, read_plain
from video_data.datasets.plain_fields import _REASONS, checked_fields
from video_data.datasets.rows import VideoData

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "plain_data.md"
GOOD = {"id": "q", "video": "a.mp4", "question": "What is next?", "answer": "fry egg", "kind": "next_open"}


def read(folder: Path, *lines: object, annotations: list[object] | None = None) -> VideoData:
    """A data set of these lines beside the clips a.mp4 and b.mp4."""
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(b"clip")
    for name, rows in (("questions.jsonl", lines), ("notes.jsonl", annotations or ())):
        data = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        (folder / name).write_bytes(b"".join(line + b"\n" for line in data))
    return read_plain(folder, "questions.jsonl", "notes.jsonl" if annotations is not None else None)


def test_the_documented_rows_are_read(tmp_path: Path) -> None:
    question, annotation = re.findall(r"```json\n(.*?)\n```", DOCUMENT.read_text(), re.DOTALL)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "eggs.mp4").touch()
    (tmp_path / "questions.jsonl").write_text(question + "\n")
    (tmp_path / "annotations.jsonl").write_text(annotation + "\n")
    data = read_plain(tmp_path, "questions.jsonl", "annotations.jsonl")
    assert data.refused == ()
    (row,), (entry,) = data.questions, data.annotations
    assert (row.answer, row.answer_type, row.end_s, row.group) == ("fry egg", "choice", 2.5, "eggs")
    assert [segment.label for segment in entry.segments] == ["mix egg", "fry egg"]
    assert data.clips == (("clips/eggs.mp4", tmp_path.resolve() / "clips/eggs.mp4"),)


def test_every_reason_stands_in_the_document() -> None:
    functions = (read_plain, checked_fields, read_json_lines)
    code = "".join(Path(inspect.unwrap(one).__code__.co_filename).read_text() for one in functions)
    reasons = set(re.findall(r'(?:RowProblem|RefusedRow)\((?:row\.id, )?\s*"(\w+)"', code)) | set(_REASONS.values())
    assert len(reasons) > 12
    assert not {reason for reason in reasons if f"`{reason}`" not in DOCUMENT.read_text()}


def test_defaults_are_the_whole_clip_the_test_split_and_the_clip_as_group(tmp_path: Path) -> None:
    (row,) = read(tmp_path, GOOD).questions
    assert (row.start_s, row.end_s, row.split, row.group, row.answer_type) == (0.0, None, "test", "a.mp4", "text")


@pytest.mark.parametrize(
    ("kind", "answer", "stored", "answer_type"),
    [
        ("mine", "Yes", "yes", "yes_no"),
        ("mine", 2, "2", "integer"),
        ("mine", 2.0, "2", "integer"),
        ("mine", "2.4s-5.1s", "2.4s-5.1s", "span"),
        ("mine", "0,5s-1,5s", "0.5s-1.5s", "span"),
        ("mine", "two eggs", "two eggs", "text"),
        ("mine", "1-2", "1-2", "text"),
        ("next_open", "fry egg", "fry egg", "text"),
        ("before", "3", "3", "text"),
        ("after", "yes", "yes", "text"),
        ("count", "two", "two", "integer"),
        ("count", 3.0, "3", "integer"),
        ("present", "No", "no", "yes_no"),
        ("when", "2.4s-5.1s", "2.4s-5.1s", "span"),
    ],
)
def test_the_answer_type_follows_from_the_kind_and_for_own_kinds_from_the_answer(
    tmp_path: Path, kind: str, answer: object, stored: str, answer_type: str
) -> None:
    (row,) = read(tmp_path, {**GOOD, "kind": kind, "answer": answer}).questions
    assert (row.answer, row.answer_type) == (stored, answer_type)


@pytest.mark.parametrize(
    "written",
    [
        "0,5s-1,5s", "0.5s–1.5s", "0.5 - 1.5 s", "0.5-1.5", "0.50s - 1.50s", "0.5 s to 1.5 s",
        "from 0.5 to 1.5 seconds",
        "[0.5s-1.5s]", "(0.5 − 1.5)", "500ms-1500ms", "500-1500 ms", "0.5s-1500ms", "0:00.5-0:01.5",
        "00:00,500 --> 00:01,500",
        "00:00:00.500 - 00:00:01.500", "0.5 sec — 1.5 sec", "between 0.5 s and 1.5 s.", "0.5s-1.5",
    ],
)  # fmt: skip
def test_a_span_of_kind_when_may_be_written_in_many_ways(tmp_path: Path, written: str) -> None:
    (row,) = read(tmp_path, {**GOOD, "kind": "when", "answer": written}).questions
    assert (row.answer, row.answer_type) == ("0.5s-1.5s", "span")


@pytest.mark.parametrize(
    ("kind", "answer", "reason"),
    [
        ("when", "after a while", "bad_answer"),
        ("when", "1.5s", "bad_answer"),
        ("when", 3, "bad_answer"),
        ("when", "1.5s-0.5s", "bad_answer"),
        ("when", "1.5s-1.5s", "bad_answer"),
        ("when", "0:30-45", "bad_answer"),
        ("when", "0.5-1.5 min", "bad_answer"),
        ("when", "1,500ms-2,500ms", "bad_answer"),
        ("when", "0.5, 1.5", "bad_answer"),
        ("when", "1" * 5000 + "s-2s", "bad_answer"),
        ("before", "0.5s-1.5s", "bad_answer"),
        ("next_open", "0,5 s - 1,5 s", "bad_answer"),
        ("next_choice", "fry egg", "bad_choices"),
        ("When", "0.5s-1.5s", "bad_value"),
        ("next choice", "fry egg", "bad_value"),
        ("count", 2.5, "bad_value"),
    ],
)
def test_an_answer_that_its_kind_does_not_fit_is_refused(
    tmp_path: Path, kind: str, answer: object, reason: str
) -> None:
    data = read(tmp_path, {**GOOD, "kind": kind, "answer": answer})
    assert [row.reason for row in data.refused] == [reason] and not data.questions


def test_an_open_question_has_no_choices_and_any_other_kind_may(tmp_path: Path) -> None:
    choices = {"choices": ["fry egg", "mix egg"]}
    rows = [{**GOOD, **choices, "id": kind, "kind": kind} for kind in ("next_open", "next_choice", "after", "mine")]
    data = read(tmp_path, *rows)
    assert [row.id for row in data.questions] == ["next_choice", "after", "mine"]
    assert "write next_choice" in data.refused[0].detail


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "x", ', "broken_json"),
        (b"[1, 2]", "broken_json"),
        (b"[" * 100_000, "broken_json"),
        (b'{"id": "x", "id": "y"}', "duplicate_key"),
        (json.dumps({**GOOD, "start_s": float("nan")}).encode(), "not_a_number"),
        (json.dumps({**GOOD, "end_s": 5}).replace("5", "1e999").encode(), "not_a_number"),
        (json.dumps({**GOOD, "end_s": 5}).replace("5", "9" * 5000).encode(), "not_a_number"),
        (json.dumps({**GOOD, "question": "\ud800"}).encode(), "bad_text"),
        ('{"id": "crème"}'.encode("latin-1"), "not_utf8"),
        (json.dumps(GOOD).encode("utf-16"), "not_utf8"),
        (b'"' + b"x" * 1_200_000 + b'"', "line_too_long"),
        ({**GOOD, "id": "first"}, "duplicate_id"),
        ({key: value for key, value in GOOD.items() if key != "answer"}, "missing_field"),
        ({**GOOD, "grup": "g"}, "unknown_field"),
        ({**GOOD, "start_s": "0"}, "bad_value"),
        ({**GOOD, "answer": True}, "bad_value"),
        ({**GOOD, "answer": " "}, "bad_value"),
        ({**GOOD, "start_s": -1}, "bad_value"),
        ({**GOOD, "start_s": 3, "end_s": 3}, "bad_window"),
        ({**GOOD, "choices": ["mix egg", "pour egg"]}, "bad_choices"),
        ({**GOOD, "choices": ["fry egg"]}, "bad_choices"),
        ({**GOOD, "video": "../a.mp4"}, "path_outside"),
        ({**GOOD, "video": "/etc/hostname"}, "path_outside"),
        ({**GOOD, "video": "out.mp4"}, "path_outside"),
        ({**GOOD, "video": "a\0.mp4"}, "path_outside"),
        ({**GOOD, "video": "absent.mp4"}, "clip_missing"),
        ({**GOOD, "video": "http://example.org/a.mp4"}, "clip_missing"),
        ({**GOOD, "video": "."}, "clip_missing"),
        ({**GOOD, "split": "train"}, "two_splits"),
        ({**GOOD, "video": "b.mp4", "group": "kitchen", "split": "train"}, "two_splits"),
    ],
)
def test_a_bad_line_is_refused_by_number_and_its_neighbours_stay(tmp_path: Path, line: object, reason: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.mp4").touch()
    (folder / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    first, last = {**GOOD, "id": "first", "group": "kitchen"}, {**GOOD, "id": "last"}
    data = read(folder, first, line, last)
    assert [row.id for row in data.questions] == ["first", "last"]
    assert [(row.item.split(":")[0], row.reason) for row in data.refused][:1] == [("questions.jsonl", reason)]
    assert data.refused[0].item == "questions.jsonl:2"


@pytest.mark.parametrize("name", ["choices", "start_s", "end_s", "group", "split", "comment"])
def test_null_counts_as_left_out(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, {**GOOD, name: None}) == read(tmp_path, GOOD)


def test_null_for_a_field_that_is_needed_is_a_missing_field(tmp_path: Path) -> None:
    assert [row.reason for row in read(tmp_path, {**GOOD, "answer": None}).refused] == ["missing_field"]


def test_null_inside_an_annotation_counts_as_left_out_too(tmp_path: Path) -> None:
    segments = [{"start_s": 0, "end_s": 1, "label": "fry", "note": None}, None]
    entry = {"video": "a.mp4", "task": "eggs", "duration_s": 4.0, "segments": segments, "split": None}
    data = read(tmp_path, GOOD, annotations=[entry])
    assert data.refused == () and [s.label for s in data.annotations[0].segments] == ["fry"]


def test_an_unknown_field_names_the_nearest(tmp_path: Path) -> None:
    assert "did you mean 'group'" in read(tmp_path, {**GOOD, "grup": "g"}).refused[0].detail


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    data = read(tmp_path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), b"", b"  \r")
    assert (len(data.questions), data.refused) == (1, ())


@pytest.mark.parametrize("extra", [0, 1, 2, MAX_LINE_BYTES])
def test_a_line_too_long_by_any_number_of_bytes_leaves_the_next_one(tmp_path: Path, extra: int) -> None:
    line = json.dumps({**GOOD, "id": "long"}).encode().ljust(MAX_LINE_BYTES - 1 + extra)  # read() adds the line break
    data = read(tmp_path, line, {**GOOD, "id": "next"})
    assert [row.id for row in data.questions] == (["next"] if extra else ["long", "next"])
    assert [row.reason for row in data.refused] == (["line_too_long"] if extra else [])


def test_bad_annotations_are_refused_one_by_one(tmp_path: Path) -> None:
    good = {
        "video": "a.mp4",
        "task": "eggs",
        "duration_s": 4.0,
        "segments": [{"start_s": 2, "end_s": 4, "label": "fry"}],
    }
    late = {**good, "video": "b.mp4", "segments": [{"start_s": 2, "end_s": 9, "label": "fry"}]}
    data = read(tmp_path, GOOD, annotations=[good, good, late, {**good, "duration_s": 0}])
    assert [row.reason for row in data.refused] == ["duplicate_id", "bad_window", "bad_value"]
    assert [row.uri for row in data.annotations] == ["a.mp4"]


def test_windows_are_checked_against_the_decoded_clips(tmp_path: Path) -> None:
    lines = [
        {**GOOD, "id": "in", "end_s": 4.3},
        {**GOOD, "id": "out", "end_s": 9},
        {**GOOD, "id": "late", "start_s": 4},
    ]
    lines.append({**GOOD, "id": "lost", "video": "b.mp4"})
    checked = check_windows(read(tmp_path, *lines).questions, {"a.mp4": 4.0})
    assert [row.id for row in checked.questions] == ["in"]
    assert [(row.item, row.reason) for row in checked.refused] == [
        ("out", "window_outside"),
        ("late", "window_outside"),
        ("lost", "clip_refused"),
    ]


def test_a_window_that_shows_no_stored_frame_is_refused(tmp_path: Path) -> None:
    lines = [
        {**GOOD, "id": "on", "start_s": 0.5, "end_s": 0.6},
        {**GOOD, "id": "to", "start_s": 0.1, "end_s": 0.5},
        {**GOOD, "id": "gap", "start_s": 0.7, "end_s": 1.9},
        {**GOOD, "id": "tail", "start_s": 2.1},
        {**GOOD, "id": "past", "start_s": 9, "end_s": 10},
    ]
    questions, durations_s = read(tmp_path, *lines).questions, {"a.mp4": 2.5}
    checked = check_windows(questions, durations_s, times_s={"a.mp4": (0.0, 0.5, 2.0)})
    assert [row.id for row in checked.questions] == ["on", "to"]
    assert [(row.item, row.reason) for row in checked.refused] == [
        ("gap", "window_without_frames"),
        ("tail", "window_without_frames"),
        ("past", "window_outside"),
    ]
    assert "the nearest is at 2.00 s" in checked.refused[0].detail
    assert [row.id for row in check_windows(questions, durations_s).questions] == ["on", "to", "gap", "tail"]


NFC, NFD = "Cr\u00e8me br\u00fbl\u00e9e", "Cre\u0300me bru\u0302le\u0301e"


@pytest.mark.parametrize(("asked", "on_disk"), [(NFC, NFD), (NFD, NFC), (NFC, NFC), (NFD, NFD)])
def test_composed_and_decomposed_letters_name_the_same_clip(tmp_path: Path, asked: str, on_disk: str) -> None:
    (tmp_path / on_disk).mkdir()
    clip = tmp_path / on_disk / f"{on_disk}.mp4"
    clip.write_bytes(b"clip")
    rows = [{**GOOD, "id": name, "video": f"{name}/{name}.mp4"} for name in {asked, on_disk}]
    data = read(tmp_path, *rows)
    assert data.refused == () and data.clips == ((f"{on_disk}/{on_disk}.mp4", clip),)
    assert {row.uri for row in data.questions} == {f"{on_disk}/{on_disk}.mp4"}


@pytest.mark.parametrize("asked", [NFC, NFD])
def test_two_files_that_differ_only_in_unicode_form_are_told(tmp_path: Path, asked: str) -> None:
    for name in (NFC, NFD):
        (tmp_path / f"{name}.mp4").write_bytes(b"clip")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this disk holds one file under both names")
    data = read(tmp_path, GOOD, {**GOOD, "id": "x", "video": f"{asked}.mp4"})
    assert [(row.item, row.reason) for row in data.refused] == [("questions.jsonl:2", "clip_ambiguous")]
    assert len(data.questions) == 1 and "rename one of them" in data.refused[0].detail


def test_a_missing_questions_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no file .*questions\.jsonl"):
        read_plain(tmp_path, "questions.jsonl", None)
