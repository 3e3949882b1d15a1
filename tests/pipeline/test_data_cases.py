"""Annotation files and questions as people really have them, and what must become of each."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from aot.answers import is_right
from aot.files.jsonl import MAX_QUESTION_CHARS
from aot.pipeline.prepare import usable_questions
from text_cot.datasets.files import read_text_files
from video_data.datasets.annotated import read_annotated
from video_data.datasets.official import Wanted
from video_data.datasets.plain import check_windows, read_plain
from video_data.datasets.rows import QuestionRow, VideoData
from video_data.datasets.step_readers import epic_seconds

SHARED = Path(__file__).resolve().parents[3] / "shared"
CASES = SHARED / "cases" / "video"
EPIC = SHARED / "data" / "annotations" / "epic100_sample.csv"
GOOD_TEXT = '{"question": "How many?", "answer": "3"}\n'
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"no field cases in {CASES}")


def read(dataset: str, train: Path | None = None, *, test: Path | None = None) -> VideoData:
    return read_annotated(dataset, Wanted(train, test), clips=None)


@needs_cases
def test_egoplan_frame_numbers_of_epic_videos_are_sixty_a_second_whatever_the_files_rate() -> None:
    data = read("egoplan", test=CASES / "egoplan" / "EgoPlan_validation.json")
    ends_s = {question.uri: question.end_s for question in data.questions}
    frames = {"P01_01": 28604, "P01_05": 18115, "P09_08": 7253, "P17_02": 32754, "P10_04": 190000, "P18_09": 16000}
    assert ends_s == {video: round(frame / 60, 3) for video, frame in frames.items()}
    assert ends_s["P01_01"] == 476.733 and not data.refused


@pytest.mark.skipif(not EPIC.is_file(), reason=f"no sample of EPIC-KITCHENS-100 in {EPIC}")
def test_epic_own_frame_numbers_count_sixty_a_second_too() -> None:
    with EPIC.open(encoding="utf-8", newline="") as file:
        apart_s = [
            abs(int(row["start_frame"]) / 60 - epic_seconds(row["start_timestamp"])) for row in csv.DictReader(file)
        ]
    assert len(apart_s) == 800 and max(apart_s) < 0.03


@needs_cases
def test_star_windows_past_the_end_are_cut_and_told_and_those_outside_refused() -> None:
    data = read("star", CASES / "star" / "STAR_train.json", test=CASES / "star" / "STAR_val.json")
    checked = check_windows(data.questions, {"42K3H": 3.5, "AAAAA": 31.0, "BBBBB": 4.0})
    windows = {q.id.rpartition("_")[2]: (q.start_s, q.end_s) for q in checked.questions}
    expected = {"1": (0.0, 3.5), "2": (0.0, 3.5), "3": (2.0, 3.5), "4": (1.0, 3.5), "5": (10.2, 31.0), "8": (3.1, 9.5)}
    assert windows == {**expected, "100": (0.0, 2.0)} and checked.num_cut == 5
    assert [(row.item, row.reason) for row in checked.refused] == [("Interaction_T1_6", "window_outside")]
    assert Counter(row.reason for row in data.refused) == {"bad_window": 1, "bad_value": 1}


@needs_cases
def test_own_questions_as_people_write_them_are_read_as_meant_or_refused(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").touch()
    (tmp_path / "questions.jsonl").write_bytes((CASES / "qa" / "questions.jsonl").read_bytes())
    data = read_plain(tmp_path, "questions.jsonl", None)
    questions, refused = usable_questions(data.questions, dataset="plain")
    assert {row.item: row.reason for row in refused} == {"near-1": "bad_choices", "near-2": "bad_choices"}
    spans = dict.fromkeys(("when-1", "when-2", "when-3"), ("0.5s-1.5s", "span"))
    others = {"count-1": ("2", "integer"), "null-1": ("no", "yes_no"), "good": ("no", "yes_no")}
    assert {q.id: (q.answer, q.answer_type) for q in questions} == {**spans, **others} and not data.refused


def nextqa(folder: Path, *rows: str) -> Path:
    header = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
    path = folder / "val.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("options", "right", "letter"),
    [
        ("hug,Hug,sit,run,cry", 1, "B"),
        ("hug,hug,sit,run,cry", 0, "A"),
        ("hug.,hug,sit,run,cry", 1, "B"),
        ("b,a,sit,run,cry", 0, "A"),
        ("...,a man,sit,run,cry", 0, "A"),
        ("hug,hug,sit,run,cry", 2, ""),  # the wrong ones may be mixed up among themselves
        ("hug,kiss,sit,run,cry", 2, ""),
    ],
)
def test_a_benchmarks_row_with_options_that_cannot_be_told_apart_is_kept_and_graded_by_letter(
    tmp_path: Path, options: str, right: int, letter: str
) -> None:
    data = read("nextqa", test=nextqa(tmp_path, f"1,9,3,2,what is it,{right},0,TN,{options}"))
    questions, refused = usable_questions(data.questions, dataset="nextqa")
    assert not refused and questions[0].right_answer == (letter or options.split(",")[right])
    assert [is_right(said, questions[0]) for said in "ABCDE"] == [place == right for place in range(5)]


def test_a_number_or_a_yes_that_the_grader_cannot_read_is_refused_with_the_form_that_fits() -> None:
    def row(kind: str, answer: str) -> QuestionRow:
        types = {"count": "integer", "present": "yes_no"}
        return QuestionRow(f"{kind} {answer}", "test", kind, "?", (), answer, types[kind], "a.mp4", 0.0, None, "g")

    answers = {"count": ("two", "2 eggs", "a few"), "present": ("Yes.", "maybe")}
    rows = [row(kind, answer) for kind, said in answers.items() for answer in said]
    questions, refused = usable_questions(rows, dataset="plain")
    assert {q.id: q.answer for q in questions} == {"count two": "2", "present Yes.": "yes"}
    assert [(r.item, r.reason) for r in refused] == [
        ("count 2 eggs", "bad_answer"), ("count a few", "bad_answer"), ("present maybe", "bad_answer"),
    ]  # fmt: skip
    assert "wants a whole number such as 2" in refused[0].detail and "wants yes or no" in refused[2].detail


@pytest.mark.parametrize(("chars", "fine"), [(MAX_QUESTION_CHARS, True), (MAX_QUESTION_CHARS + 1, False)])
def test_a_question_has_the_same_longest_length_behind_both_doors(tmp_path: Path, chars: int, fine: bool) -> None:
    text = "x" * chars
    row = QuestionRow("q", "test", "next_choice", text, ("fry", "mix"), "fry", "choice", "a.mp4", 0.0, None, "g")
    questions, refused = usable_questions([row], dataset="plain")
    assert ([r.reason for r in refused], len(questions)) == (([], 1) if fine else (["too_long"], 0))
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"question": text, "answer": "2"}) + "\n" + GOOD_TEXT)
    source = read_text_files("text_jsonl", train=path, test=None, test_share=0.1, seed=0, limit=None)
    assert [r.reason for r in source.refusals] == ([] if fine else ["too_long"])
