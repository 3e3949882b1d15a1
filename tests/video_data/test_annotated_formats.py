"""Each official layout in small, with its traps."""

import json
from collections import Counter
from pathlib import Path

import pytest

from aot.errors import SourceError
from video_data.datasets.annotated import read_annotated
from video_data.datasets.official import Wanted
from video_data.datasets.plain import check_windows
from video_data.datasets.rows import VideoData

EPIC_HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
)
NEXTQA_HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"


def read(dataset: str, train: Path, *, test: Path | None = None, clips: Path | None = None, **more: object) -> VideoData:  # fmt: skip  # noqa: E501
    return read_annotated(dataset, Wanted(train, test, **{"num_choices": 2, **more}), clips=clips)  # type: ignore[arg-type]


def reasons(data: VideoData) -> Counter[str]:
    return Counter(row.reason for row in data.refused)


def as_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def lines(path: Path, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")
    return path


def step(start_s: float, end_s: float, label: str) -> dict[str, object]:
    return {"id": "239", "segment": [start_s, end_s], "label": label}


def video(subset: str, *steps: dict, **more: object) -> dict[str, object]:
    return {
        "recipe_type": 3, "annotation": list(steps), "start": 2.0, "end": 30.0, "duration": 40.0, "class": "MakeTea",
        "subset": subset, **more,
    }  # fmt: skip


def test_coin_subsets_become_splits_and_unsorted_steps_are_sorted(tmp_path: Path) -> None:
    rows = {
        "a": video("training", step(9, 12, "pour water"), step(3, 8, "boil water")),
        "b": video("testing", step(3, 8, "boil water"), step(9, 12, "add tea")),
        "c": video("validation", step(3, 8, "boil water"), step(9, 12, "add tea"), step(20, 99, "late")),
        "d": video("holdout", step(3, 8, "boil water")),
        "../e": video("testing", step(3, 8, "boil water"), step(9, 12, "add tea")),
        "f": {"duration": 3},
    }
    data = read("coin", as_json(tmp_path / "c.json", {"database": rows}))
    assert [(a.uri, a.split) for a in data.annotations] == [("a", "train"), ("b", "test"), ("c", "test")]
    first = data.questions[0]
    assert (first.answer, first.start_s, first.end_s, first.group) == ("pour water", 2.0, 8.0, "a")
    assert reasons(data) == {"bad_segment": 1, "bad_subset": 1, "bad_clip_id": 1, "no_annotation": 1}


def test_coin_of_one_subset_only_is_split_by_whole_clips(tmp_path: Path) -> None:
    steps = (step(3, 8, "boil water"), step(9, 12, "add tea"))
    path = as_json(tmp_path / "c.json", {"database": {f"v{n}": video("testing", *steps) for n in range(10)}})
    data = read("coin", path)
    assert Counter(a.split for a in data.annotations) == {"train": 8, "test": 2}
    assert data == read("coin", path) and data.annotations != read("coin", path, seed=1).annotations


def test_a_clip_that_stands_twice_in_the_file_is_counted(tmp_path: Path) -> None:
    one = json.dumps(video("training", step(3, 8, "boil water"), step(9, 12, "add tea")))
    path = lines(tmp_path / "c.json", f'{{"database": {{"a": {one}, "a": {one}}}}}')
    assert reasons(read("coin", path)) == {"duplicate_id": 1}


def test_coins_list_form_is_read_like_its_official_one(tmp_path: Path) -> None:
    one = video("training", step(3, 8, "boil water"), step(9, 12, "add tea"))
    other = video("testing", step(3, 8, "boil water"), step(9, 12, "pour"))
    listed = read("coin", as_json(tmp_path / "l.json", [{"a": one}, {"b": other}]))
    official = read("coin", as_json(tmp_path / "c.json", {"database": {"a": one, "b": other}}))
    assert listed == official and len(listed.questions) == 4


def test_in_coins_list_form_the_file_tells_the_split_where_there_is_one_for_each(tmp_path: Path) -> None:
    steps = (step(3, 8, "boil water"), step(9, 12, "add tea"))
    train = as_json(tmp_path / "coin_train.json", [{"a": video("testing", *steps)}, {"b": video("training", *steps)}])
    test = as_json(tmp_path / "coin_valid.json", [{"c": video("training", *steps)}, {"b": video("training", *steps)}])
    data = read("coin", train, test=test)
    assert {a.uri: a.split for a in data.annotations} == {"a": "train", "b": "test", "c": "test"}
    assert [(row.item, row.reason) for row in data.refused] == [("b", "two_splits")]


def test_items_of_a_list_that_are_no_entries_are_refused_one_by_one(tmp_path: Path) -> None:
    one = video("training", step(3, 8, "boil water"), step(9, 12, "add tea"))
    data = read("coin", as_json(tmp_path / "l.json", [{"a": one}, 3, {"b": None}, {"a": one}, {"c": {}}]))
    assert [a.uri for a in data.annotations] == ["a"]
    told = [row.detail for row in data.refused if row.reason == "bad_value"]
    assert told == ["an item must be {clip id: entry}, got int", "the entry of 'b' must be an object, got null"]
    assert reasons(data) == {"bad_value": 2, "duplicate_id": 1, "no_annotation": 1}


def test_youcook2_asks_only_among_sentences_and_says_why(tmp_path: Path) -> None:
    def sentence(start_s: int, text: str) -> dict[str, object]:
        return {"segment": [start_s, start_s + 5], "id": 0, "sentence": text}

    own = [sentence(10, "chop the onion"), sentence(20, "fry the onion in oil"), sentence(30, "add salt .")]
    other = [sentence(10, "fry the onion in the oil"), sentence(20, "serve")]
    rows = {
        "x": {"duration": 60, "subset": "training", "recipe_type": "113", "annotations": own},
        "y": {"duration": 60, "subset": "validation", "recipe_type": "113", "annotations": other},
        "z": {"duration": 60, "subset": "testing", "recipe_type": "113"},
    }
    data = read("youcook2", as_json(tmp_path / "y.json", {"database": rows}), num_choices=4)
    assert {q.kind for q in data.questions} == {"next_choice"} and "next_open" in data.notes[0]
    assert set(data.questions[0].choices) == {"fry the onion in oil", "chop the onion", "add salt", "serve"}
    assert data.annotations[0].task == "113" and reasons(data) == {"no_annotation": 1}


def test_a_youcook2_clip_in_both_files_is_tested_on_and_told(tmp_path: Path) -> None:
    sentences = [{"segment": [9 * n, 9 * n + 5], "sentence": f"step {n}"} for n in range(3)]
    clip = {"duration": 60, "recipe_type": "113", "annotations": sentences}
    train = as_json(tmp_path / "t.json", {"database": {"x": {**clip, "subset": "training"}}})
    test = as_json(tmp_path / "v.json", {"database": {"x": {**clip, "subset": "validation"}}})
    data = read("youcook2", train, test=test, num_choices=2)
    assert [(a.uri, a.split) for a in data.annotations] == [("x", "test")]
    assert [(row.item, row.reason) for row in data.refused] == [("x", "two_splits")]


def crosstask(folder: Path) -> Path:
    lines(folder / "tasks_primary.txt", "7", "Make Tea", "http://w", "2", "boil water,add tea", "", "8", "Bad", "u", "3", "a,b")  # noqa: E501 # fmt: skip
    lines(folder / "videos_val.csv", "7,-v_2,http://v")
    lines(folder / "annotations" / "7_v1.csv", "2,6.28,13.31", "1,2.1,8.0", "3,20,21", "0,22,23", "1,30", "1,9,9")
    lines(folder / "annotations" / "7_-v_2.csv", "1,2,3", "2,2.2,4", "1,5,6")
    lines(folder / "annotations" / "8_v3.csv", "1,2,3")
    return folder


def test_crosstask_steps_count_from_one_and_bad_rows_are_refused(tmp_path: Path) -> None:
    data = read("crosstask", crosstask(tmp_path))
    by_uri = {a.uri: a for a in data.annotations}
    assert [(s.label, s.start_s) for s in by_uri["v1"].segments] == [("boil water", 2.1), ("add tea", 6.28)]
    assert (by_uri["v1"].split, by_uri["-v_2"].split, by_uri["v1"].task) == ("train", "test", "Make Tea")
    expected = {"bad_step": 2, "broken_csv": 1, "bad_segment": 1, "bad_task": 1, "unknown_task": 1}
    assert reasons(data) == expected


def test_only_where_two_steps_start_together_does_a_window_show_some_of_the_asked_one(tmp_path: Path) -> None:
    data = read("crosstask", crosstask(tmp_path))
    ends_s = {(q.uri, q.steps_before): (q.answer, q.end_s) for q in data.questions}
    assert ends_s == {("v1", 1): ("add tea", 6.28), ("-v_2", 1): ("add tea", 2.5), ("-v_2", 2): ("boil water", 4.0)}
    assert any("pairs of steps that start together: 1" in note for note in data.notes)


def epic(
    number: int, start: str, stop: str, *, verb: str = "take,0", noun: str = "plate,2", clip: str = "P01_1"
) -> str:
    return f"P01_1_{number},P01,P01_1,00:00:01.0,{start},{stop},1,2,n,{verb},{noun},['x'],[1]"


def test_epic_actions_have_one_name_and_end_a_second_before_the_asked_one(tmp_path: Path) -> None:
    rows = [
        epic(0, "00:00:01.00", "00:00:04.50"),
        epic(1, "00:01:02.50", "00:01:09.00", verb="put-into,1", noun="board:cutting,3"),
        epic(2, "00:01:03.00", "00:01:04.00", verb="put-into,1", noun="board:cutting,3"),
        epic(3, "01:00:00.00", "01:00:01.00", verb="put,1"),
        epic(3, "01:00:02.00", "01:00:03.00"),
        epic(4, "62.5", "63"),
        epic(5, "00:00:09.00", "00:00:08.00"),
        "too,short",
    ]
    data = read("epic100", lines(tmp_path / "e.csv", EPIC_HEADER, *rows), kinds=("next_open",))
    asked = {q.end_s: q.answer for q in data.questions}
    assert asked == {61.5: "put into cutting board", 62.0: "put into cutting board", 3599.0: "put into plate"}
    assert reasons(data) == {"duplicate_id": 1, "bad_value": 1, "bad_segment": 1, "broken_csv": 1}


def test_an_epic_row_without_a_kitchen_is_refused_and_its_neighbours_stay(tmp_path: Path) -> None:
    rows = [epic(0, "00:00:01.00", "00:00:04.50"), epic(1, "00:00:05.00", "00:00:06.00").replace(",P01,", ",,")]
    data = read("epic100", lines(tmp_path / "e.csv", EPIC_HEADER, *rows))
    assert reasons(data)["bad_value"] == 1 and [len(a.segments) for a in data.annotations] == [1]


def test_epic_test_files_without_labels_are_told(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.csv", "narration_id,participant_id,video_id,start_timestamp,stop_timestamp", "a,b,c,d,e")
    with pytest.raises(SourceError, match="no column verb"):
        read("epic100", path)


def test_nextqa_answers_are_indices_and_the_map_tells_folders(tmp_path: Path) -> None:
    row = "{video},1,2,3,what is it,{answer},{qid},TN,one,two,three,four,{last}"
    rows = [
        row.format(video="11", answer=2, qid=0, last="five"),
        row.format(video="11", answer=5, qid=1, last="five"),
        row.format(video="11", answer=0, qid=2, last="Two"),
        row.format(video="12", answer=0, qid=0, last="five"),
        row.format(video="11", answer=1, qid=0, last="five"),
    ]
    as_json(tmp_path / "map_vid_vidorID.json", {"11": "0007/11"})
    clip = lines(tmp_path / "clips" / "0007" / "11.mp4", "x")
    data = read("nextqa", lines(tmp_path / "n.csv", NEXTQA_HEADER, *rows), clips=tmp_path / "clips")
    assert [(q.id, q.kind, q.answer, q.uri) for q in data.questions] == [
        ("11-0", "TN", "three", "0007/11.mp4"),
        ("11-2", "TN", "one", "0007/11.mp4"),  # two of its options differ in case only, and a published score counts it
    ]
    assert data.clips == (("0007/11.mp4", clip),) and "1 of 2 clips available" in data.notes[-1]
    assert reasons(data) == {"bad_answer": 1, "duplicate_id": 1, "clip_missing": 1}


@pytest.mark.parametrize("quoted", ['"why is it', 'what,"why', '"what is ""it'])
def test_a_quote_that_is_never_closed_loses_its_row_and_not_the_rest_of_the_file(tmp_path: Path, quoted: str) -> None:
    rows = [f"{n},1,2,3,what is it,2,0,TN,one,two,three,four,five" for n in range(10)]
    rows[1] = f"1,1,2,3,{quoted},2,0,TN,one,two,three,four,five"
    rows[2] = '2,1,2,3,"what is it,\nand why",2,0,TN,one,two,three,four,five'
    rows[5] = '5,1,2,3,what is it,2,0,TN,one,two,three,four,"five'
    data = read("nextqa", lines(tmp_path / "n.csv", NEXTQA_HEADER, *rows))
    assert [q.uri for q in data.questions] == [str(n) for n in range(10) if n not in (1, 5)]
    assert [(r.item, r.reason) for r in data.refused] == [("n.csv:3", "broken_csv"), ("n.csv:8", "broken_csv")]


def test_a_header_that_names_a_column_twice_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"n\.csv names the column 'a0' twice"):
        read("nextqa", lines(tmp_path / "n.csv", f"{NEXTQA_HEADER},a0", "1,1,2,3,what,0,0,TN,a,b,c,d,e,f"))


def test_star_keeps_the_window_and_reads_the_kind_from_the_id(tmp_path: Path) -> None:
    good = {
        "question_id": "Sequence_T1_7", "question": "Which?", "answer": "The cup.", "video_id": "6H78U", "start": 11.1,
        "end": 19.6, "choices": [{"choice_id": n, "choice": text} for n, text in enumerate(("The cup.", "The bag."))],
    }  # fmt: skip
    rows = [
        good,
        {**good, "question_id": "Sequence_T1_8", "end": 3.0},
        {**good, "question_id": "Sequence_T1_9", "start": 3, "end": 3},
        {**good, "question_id": "Other_T1_8"},
        {**good, "question_id": "Prediction_T1_8", "answer": None},
        {**good, "question_id": "Prediction_T1_9", "answer": "The hat."},
    ]
    data = read("star", as_json(tmp_path / "train.json", rows[:1]), test=as_json(tmp_path / "s.json", rows[1:]))
    (only,) = data.questions
    assert (only.kind, only.split, only.start_s, only.end_s) == ("Sequence", "train", 11.1, 19.6)
    assert reasons(data) == {"bad_window": 2, "unknown_kind": 1, "no_answer": 1, "bad_answer": 1}
    told = [row.detail for row in data.refused if row.reason == "bad_window"]
    assert told == ["the window 11.1-3 s ends before it starts", "the window 3-3 s is empty"]


@pytest.mark.parametrize(
    ("start_s", "end_s", "shown"),
    [
        (0.0, 5.0, (0.0, 3.5)),
        (2.0, 3.6, (2.0, 3.5)),
        (3.4, 99.0, (3.4, 3.5)),
        (0.0, 3.5, (0.0, 3.5)),
        (1.0, 2.0, (1.0, 2.0)),
        (3.5, 5.0, None),
        (3.6, 5.0, None),
    ],
)
def test_star_windows_are_cut_at_the_end_of_the_clip_and_refused_outside(
    tmp_path: Path, start_s: float, end_s: float, shown: tuple[float, float] | None
) -> None:
    data = read("star", as_json(tmp_path / "s.json", [star(1, start=start_s, end=end_s)]))
    checked = check_windows(data.questions, {"6H78U": 3.5})
    assert [(q.start_s, q.end_s) for q in checked.questions] == ([shown] if shown else [])
    assert [row.reason for row in checked.refused] == ([] if shown else ["window_outside"])
    assert checked.num_cut == (shown is not None and shown[1] < end_s)


def test_training_questions_about_a_tested_clip_are_refused(tmp_path: Path) -> None:
    row = "11,1,2,3,what is it,0,{},TN,one,two,three,four,five"
    train = lines(tmp_path / "a.csv", NEXTQA_HEADER, row.format(1), row.format(2).replace("11,", "12,", 1))
    data = read("nextqa", train, test=lines(tmp_path / "b.csv", NEXTQA_HEADER, row.format(3)))
    assert [(q.id, q.split) for q in data.questions] == [("12-2", "train"), ("11-3", "test")]
    assert reasons(data) == {"two_splits": 1}


EGOPLAN = {
    "sample_id": 115, "video_source": "EpicKitchens", "video_id": "P01_13", "task_goal": "store cereal",
    "question": "What next?", "choice_a": "put box", "choice_b": "take bag", "choice_c": "open door",
    "choice_d": "put bag", "golden_choice_idx": "B", "answer": "take bag", "current_observation_frame": 900,
    "task_progress_metadata": [{"narration_text": "take bag", "start_frame": 60, "stop_frame": 105}],
}  # fmt: skip


def test_egoplan_letters_name_options_and_training_rows_get_some(tmp_path: Path) -> None:
    training = {k: v for k, v in EGOPLAN.items() if not k.startswith(("choice", "golden"))}
    rows = [
        EGOPLAN,
        {**EGOPLAN, "sample_id": 1, "golden_choice_idx": "A"},
        {**training, "sample_id": 4, "negative_answers": ["put box", "open door", "take bag"]},
        {**training, "sample_id": 5, "negative_answers": ["put box", "open door"], "golden_choice_idx": None},
    ]
    data = read("egoplan", as_json(tmp_path / "e.json", rows))
    windows = {q.id: (q.answer, q.start_s, q.end_s) for q in data.questions}
    assert windows["P01_13-115"] == ("take bag", 1.0, 15.0) and "P01_13-5" in windows
    made = next(q for q in data.questions if q.id == "P01_13-4")
    assert len(set(made.choices)) == 2 and "take bag" in made.choices
    assert reasons(data) == {"bad_answer": 1}


@pytest.mark.parametrize(
    ("source", "video", "frame", "end_s"),
    [
        ("EpicKitchens", "P01_01", 28604, 476.733),  # the files themselves have 59.94, 29.97, 47.95 or 90 a second
        ("EpicKitchens", "P01_05", 18115, 301.917),
        ("EpicKitchens", "P09_08", 7253, 120.883),
        ("EpicKitchens", "P10_04", 190000, 3166.667),
        ("EpicKitchens", "P17_02", 32754, 545.9),
        ("EpicKitchens", "P18_09", 16000, 266.667),
        ("EpicKitchens", "P01_101", 15000, 300.0),
        ("EpicKitchens", "P06_110", 15000, 300.0),
        ("Ego4D", "0d271871-c8ba-4249-9434-d39ce0060e58", 900, 30.0),
    ],
)
def test_egoplan_frame_numbers_count_extracted_frames(
    tmp_path: Path, source: str, video: str, frame: int, end_s: float
) -> None:
    row = {**EGOPLAN, "video_source": source, "video_id": video, "current_observation_frame": frame}
    info = f"video_id,duration,fps,resolution\n{video},60,29.97,1920x1080\n"
    (tmp_path / "EPIC_100_video_info.csv").write_text(info)  # tells the rate of the file, which does not count
    (question,) = read("egoplan", as_json(tmp_path / "e.json", [row])).questions
    assert question.end_s == end_s


@pytest.mark.parametrize("video", ["P01_1", "P1_01", "P01_201", "kitchen"])
def test_egoplan_guesses_no_frame_rate(tmp_path: Path, video: str) -> None:
    data = read("egoplan", as_json(tmp_path / "e.json", [{**EGOPLAN, "video_id": video}]))
    assert reasons(data) == {"fps_unknown": 1}


def star(number: int, **more: object) -> dict[str, object]:
    choices = [{"choice_id": n, "choice": text} for n, text in enumerate(("The cup.", "The bag."))]
    return {
        "question_id": f"Sequence_T1_{number}", "question": "Which?", "answer": "The cup.", "video_id": "6H78U",
        "start": 1.0, "end": 2.0, "choices": choices, **more,
    }  # fmt: skip


BAD = "caf\udce9"
"""What surrogateescape makes of a Latin-1 e with an accent."""
NEXTQA_ROWS = (
    NEXTQA_HEADER, "1,1,2,3,what is it,0,0,TN,a,b,c,d,e", f"1,1,2,3,{BAD},0,1,TN,a,b,c,d,e"
)  # fmt: skip
EPIC_ROWS = (
    EPIC_HEADER, epic(0, "00:00:01.0", "00:00:02.0"), epic(1, "00:00:03.0", "00:00:04.0"),
    epic(2, "00:00:05.0", "00:00:06.0", verb=f"{BAD},0"),
)  # fmt: skip
COIN = {"database": {"a": video("training", step(3, 8, "boil"), step(9, 12, BAD), step(13, 14, "pour"))}}
SENTENCES = [{"segment": [1, 2], "sentence": "chop"}, {"segment": [3, 4], "sentence": BAD}]
YOUCOOK2 = {"duration": 60, "subset": "training", "recipe_type": "1", "annotations": SENTENCES}


@pytest.mark.parametrize(
    ("dataset", "content", "good"),
    [
        ("nextqa", NEXTQA_ROWS, 1),
        ("epic100", EPIC_ROWS, 2),
        ("coin", COIN, 2),
        ("youcook2", {"database": {"a": YOUCOOK2}}, 1),
        ("star", [star(1), star(2, question=BAD)], 1),
        ("egoplan", [EGOPLAN, {**EGOPLAN, "sample_id": 2, "question": BAD}], 1),
    ],
)
def test_a_byte_that_is_not_utf8_loses_its_row_and_not_the_file(
    tmp_path: Path, dataset: str, content: object, good: int
) -> None:
    path = tmp_path / "file"
    text = "\n".join(content) if isinstance(content, tuple) else json.dumps(content, ensure_ascii=False)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    data = read(dataset, path)
    assert reasons(data)["not_utf8"] == 1
    rows = sum(len(a.segments) for a in data.annotations)
    assert (
        rows + sum(q.kind not in ("next_choice", "next_open") or dataset == "egoplan" for q in data.questions) == good
    )
    json.dumps([row.item for row in data.refused], ensure_ascii=False).encode()


@pytest.mark.parametrize("name", ["tasks_primary.txt", "videos_val.csv", "annotations/7_v1.csv"])
def test_a_bad_byte_in_a_crosstask_file_loses_its_row_and_not_the_file(tmp_path: Path, name: str) -> None:
    path = crosstask(tmp_path) / name
    path.write_bytes(path.read_bytes() + (b"\n9\nT\xe9\nu\n1\na\n" if "tasks" in name else b"1,2,\xe9\n"))
    data = read("crosstask", tmp_path)
    assert {a.uri for a in data.annotations} == {"v1", "-v_2"} and reasons(data)["not_utf8"] == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_a_whole_file_in_another_encoding_is_told_by_name(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "val.csv"
    path.write_text(f"{NEXTQA_HEADER}\n1,1,2,3,what is it,0,0,TN,a,b,c,d,e\n", encoding=encoding)
    with pytest.raises(SourceError, match=r"val\.csv is not CSV in UTF-8"):
        read("nextqa", path)
    path.write_text("[]", encoding=encoding)
    with pytest.raises(SourceError, match=r"val\.csv is not JSON"):
        read("star", path)


@pytest.mark.parametrize("text", ["{broken", "[1, 2]", "[]", "3", '{"data": {}}'])
def test_a_file_of_another_layout_is_told_as_such(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match=r"official|not JSON"):
        read("coin", lines(tmp_path / "x.json", text))


def test_hostile_values_are_refused_rows_and_never_stop_their_neighbours(tmp_path: Path) -> None:
    steps = (step(3, 8, "boil water"), step(9, 12, "add tea"))
    rows = {
        "\ud800": video("training", *steps),
        "x" * 5000: video("training", *steps),
        "a": {**video("training", *steps), "subset": ["training"]},
        "b": video("training", *steps, duration=10**400),
        "c": video("training", {"segment": [0, 1e999], "label": 3}, "no step", *steps),
        "good": video("testing", *steps),
    }
    (tmp_path / "clips").mkdir()
    data = read("coin", as_json(tmp_path / "c.json", {"database": rows}), clips=tmp_path / "clips")
    assert [a.uri for a in data.annotations] == ["c", "good"]
    json.dumps([row.item for row in data.refused], ensure_ascii=False).encode()
    expected = {"bad_text": 1, "bad_clip_id": 1, "bad_subset": 1, "bad_value": 2, "bad_segment": 1, "clip_missing": 2}
    assert reasons(data) == expected
