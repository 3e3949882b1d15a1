"""The language columns of a LeRobot data set: what is written is read again, by us and by the library that they use."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from robot_data import CAMERA, LENGTHS, STEPS, frames_table, times_of, write_data_set

from aot.answer_records import Answer
from aot.errors import SourceError
from aot.records import Segment
from aot.serving.lerobot import (
    LanguageRow,
    check_rows,
    read_annotations,
    read_episodes,
    rows_of_answers,
    rows_of_segments,
    subtask_segments,
    write_language,
    write_plain,
)

SAY = {"type": "function", "function": {"name": "say", "arguments": {"text": "Sure."}}}
TIMES = tuple(float(one) for one in times_of(20))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "data set")


def rows(*, steps: tuple[str, ...] = STEPS[:3]) -> tuple[LanguageRow, ...]:
    """Rows of every kind: subtasks, a plan, a memory, speech that answers an interjection, one about a picture."""
    subtasks = tuple(LanguageRow(style="subtask", content=one, timestamp=TIMES[3 * i]) for i, one in enumerate(steps))
    answer = json.dumps({"label": "cup", "count": 2})
    return (
        *subtasks,
        LanguageRow(style="plan", content="1. cup 2. water", timestamp=TIMES[5]),
        LanguageRow(style="memory", content="the cup is held", timestamp=TIMES[3]),
        LanguageRow(role="user", style="interjection", content="faster!", timestamp=TIMES[5]),
        LanguageRow(tool_calls=(SAY,), timestamp=TIMES[5]),
        LanguageRow(role="user", style="vqa", content="How many cups?", camera=CAMERA, timestamp=TIMES[7]),
        LanguageRow(style="vqa", content=answer, camera=CAMERA, timestamp=TIMES[7]),
    )


def in_order(some: tuple[LanguageRow, ...]) -> list[LanguageRow]:
    return sorted(some, key=LanguageRow.in_order)


def test_rows_of_every_kind_come_back_as_they_were_written(root: Path) -> None:
    written = write_language(root, {0: rows()})
    episodes, refused = read_episodes(root)
    assert len(written) == 2 and not refused
    assert list(episodes[0].rows) == in_order(rows()) and not episodes[1].rows and not episodes[2].rows
    assert [len(one.frame_times_s) for one in episodes] == list(LENGTHS)
    assert [one.task for one in episodes] == ["serve a drink", "tidy up", "serve a drink"]


def test_other_columns_keep_values_order_types_and_codec(root: Path) -> None:
    path = root / "data/chunk-000/file-000.parquet"
    before, codec = pq.read_table(path), pq.ParquetFile(path).metadata.row_group(0).column(0).compression
    write_language(root, {0: rows()})
    after = pq.read_table(path)
    assert after.column_names == [*before.column_names, "language_persistent", "language_events"]
    assert (
        after.select(before.column_names).equals(before) and after.select(before.column_names).schema == before.schema
    )
    assert after.schema.metadata == {b"theirs": b"kept"}
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == codec == "ZSTD"
    assert not [one for one in path.parent.iterdir() if one.suffix != ".parquet"]


def test_the_columns_have_the_types_that_lerobot_declares(root: Path) -> None:
    """`datasets` casts what it reads to these features, copied by meaning from LeRobot's language.py."""
    datasets = pytest.importorskip("datasets")
    write_language(root, {0: rows()})
    text = datasets.Value("string")
    event = {"role": text, "content": text, "style": text, "camera": text, "tool_calls": datasets.List(datasets.Json())}
    persistent = {**event, "timestamp": datasets.Value("float32")}
    table = pq.read_table(root / "data/chunk-000/file-000.parquet")
    assert table.schema.field("language_persistent").type.value_type.field("timestamp").type == pa.float32()
    features = datasets.Features(
        {"language_persistent": datasets.List(persistent), "language_events": datasets.List(event)}
    )
    some = datasets.Dataset(table.select(["language_persistent", "language_events"])).cast(features)
    speech = [one for one in some[5]["language_events"] if one["style"] is None]
    assert speech[0]["tool_calls"] == [SAY] and some[6]["language_events"] == []
    assert [one["content"] for one in some[19]["language_persistent"] if one["style"] == "subtask"] == list(STEPS[:3])
    assert some[20]["language_persistent"] == []


def test_writing_names_the_columns_in_info_and_keeps_the_others(root: Path) -> None:
    write_language(root, {0: rows()})
    info = json.loads((root / "meta/info.json").read_text())
    assert info["features"]["language_events"] == {"dtype": "language", "shape": [1], "names": None}
    assert CAMERA in info["features"] and info["robot_type"] == "so101"


def test_episodes_that_are_not_given_keep_their_rows_and_an_empty_list_clears_one(root: Path) -> None:
    write_language(root, {0: rows()})
    other = (LanguageRow(style="subtask", content="wipe", timestamp=0.0),)
    write_language(root, {2: other})
    assert [list(one.rows) for one in read_episodes(root)[0]] == [in_order(rows()), [], list(other)]
    write_language(root, {0: ()})
    assert [len(one.rows) for one in read_episodes(root)[0]] == [0, 0, 1]


SUBTASK = LanguageRow(style="subtask", content="wipe", timestamp=0.0)
BROKEN = {
    "no subtask at the first frame": ([SUBTASK.model_copy(update={"timestamp": TIMES[4]})], "frames from 0.0 s"),
    "no subtask at all": ([LanguageRow(style="plan", content="x", timestamp=0.0)], "there is no subtask row"),
    "two at once": ([SUBTASK, SUBTASK.model_copy(update={"content": "other"})], "2 subtasks start at 0.0 s"),
    "off the frames": ([SUBTASK, LanguageRow(style="memory", content="x", timestamp=0.1)], "stands on no frame"),
    "unknown style": ([SUBTASK, LanguageRow(style="thought", content="x", timestamp=0.0)], "style 'thought' is none"),
    "unknown role": ([SUBTASK.model_copy(update={"role": "robot"})], "role 'robot' is none"),
    "empty": ([SUBTASK.model_copy(update={"content": " "})], "content is empty"),
    "nothing in it": ([SUBTASK, LanguageRow(style="plan", timestamp=0.0)], "neither content nor tool calls"),
    "speech without a call": ([SUBTASK, LanguageRow(content="hi", timestamp=0.0)], "a row without style"),
    "camera needed": ([SUBTASK, LanguageRow(style="trace", content="[]", timestamp=0.0)], "names no camera"),
    "camera not there": (
        [SUBTASK, LanguageRow(style="trace", content="[]", camera="observation.images.x", timestamp=0.0)],
        "is none of observation.images.front",
    ),
    "camera forbidden": ([SUBTASK.model_copy(update={"camera": CAMERA})], "names camera"),
    "answer in words": ([SUBTASK, LanguageRow(style="vqa", content="two", camera=CAMERA, timestamp=0.0)], "no JSON"),
    "nobody answers": (
        [SUBTASK, LanguageRow(role="user", style="interjection", content="stop", timestamp=0.0)],
        "no speech answers it",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_row_is_named_and_nothing_is_written(case: str, root: Path) -> None:
    broken, sentence = BROKEN[case]
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(SourceError, match="nothing was written") as told:
        write_language(root, {0: broken, 1: (SUBTASK,)})
    assert sentence in str(told.value) and "episode 0" in str(told.value)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_rows_of_an_episode_that_is_not_there_are_refused(root: Path) -> None:
    with pytest.raises(SourceError, match="episode 9 is not in the data set"):
        write_language(root, {9: (SUBTASK,)})


def test_a_file_that_changed_meanwhile_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "data/chunk-000/file-000.parquet"
    monkeypatch.setattr("aot.serving.lerobot.columns._stamp", lambda path, seen=[]: (seen.append(path), len(seen)))
    before = path.read_bytes()
    with pytest.raises(SourceError, match="changed by somebody else"):
        write_language(root, {0: rows()})
    assert path.read_bytes() == before and [one.name for one in path.parent.iterdir() if one.name.startswith(".")] == []


ODD_FILES = {
    "no parquet": (b"not parquet at all", "not_parquet"),
    "no timestamp": (frames_table({5: 4}).drop_columns(["timestamp"]), "missing_field"),
    "no episode": (frames_table({5: 4}).drop_columns(["episode_index"]), "missing_field"),
    "times in words": (frames_table({5: 4}).set_column(1, "timestamp", pa.array(["a"] * 4)), "bad_value"),
    "times go back": (frames_table({5: 4}).set_column(1, "timestamp", pa.array([0.0, 2.0, 1.0, 3.0])), "bad_times"),
    "times not finite": (
        frames_table({5: 4}).set_column(1, "timestamp", pa.array([0.0, 1.0, np.nan, 3.0])),
        "bad_times",
    ),
    "time missing": (frames_table({5: 4}).set_column(1, "timestamp", pa.array([0.0, None, 1.0, 3.0])), "bad_value"),
    "language in words": (frames_table({5: 4}).append_column("language_events", pa.array(["x"] * 4)), "bad_value"),
    "episode again": (frames_table({0: 4}), "two_pieces"),
    "rows differ": (
        frames_table({5: 2}).append_column(
            "language_persistent", pa.array([[], [{"role": "user", "content": "x", "timestamp": 0.0}]])
        ),
        "not_persistent",
    ),
    "row without role": (
        frames_table({5: 1}).append_column("language_events", pa.array([[{"content": "x", "style": "vqa"}]])),
        "bad_row",
    ),
    "calls no JSON": (
        frames_table({5: 1}).append_column("language_events", pa.array([[{"role": "user", "tool_calls": ["{"]}]])),
        "bad_row",
    ),
}


@pytest.mark.parametrize("case", ODD_FILES)
def test_an_odd_file_is_counted_with_its_reason_and_its_neighbours_are_read(case: str, root: Path) -> None:
    content, reason = ODD_FILES[case]
    path = root / "data/chunk-000/file-002.parquet"
    path.write_bytes(content) if isinstance(content, bytes) else pq.write_table(content, path)
    episodes, refused = read_episodes(root)
    assert [one.reason for one in refused] == [reason] and "file-002" in refused[0].item
    assert {0, 1, 2} <= {one.index for one in episodes}
    with pytest.raises(SourceError, match="nothing was written"):
        write_language(root, {0: rows()})


def test_columns_of_other_writers_are_read_structs_nulls_and_empty_episodes_alike(root: Path) -> None:
    """LeRobot's writer leaves the types to pyarrow: calls become structs, and a column of empty lists has no type."""
    path = root / "data/chunk-000/file-001.parquet"
    table = pq.read_table(path)
    subtask = {"role": "assistant", "content": "wipe", "style": "subtask", "timestamp": 0.0, "camera": None}
    events = [[{"role": "assistant", "content": None, "style": None, "camera": None, "tool_calls": [SAY]}], None]
    table = table.append_column("language_persistent", pa.array([[{**subtask, "tool_calls": None}]] * LENGTHS[2]))
    pq.write_table(table.append_column("language_events", pa.array(events + [[]] * 10)), path)
    untyped = pq.read_table(root / "data/chunk-000/file-000.parquet")
    untyped = untyped.append_column("language_events", pa.array([[]] * untyped.num_rows))
    pq.write_table(untyped, root / "data/chunk-000/file-000.parquet")
    episodes, refused = read_episodes(root)
    assert not refused and not episodes[0].rows
    assert [(one.style, one.content, one.tool_calls) for one in episodes[2].rows] == [
        (None, None, (SAY,)),
        ("subtask", "wipe", None),
    ]
    write_language(root, {0: rows()})
    assert read_episodes(root)[0][2].rows == episodes[2].rows


def test_an_episode_without_frames_is_counted(root: Path) -> None:
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, pa.Table.from_pylist([{"episode_index": 3}], table.schema)]), path)
    assert [(one.item, one.reason) for one in read_episodes(root)[1]] == [("episode 3", "no_frames")]


def test_a_place_without_an_episode_is_refused_and_is_not_that_of_the_first(root: Path) -> None:
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    before = read_episodes(root)[0]
    nobody = table.slice(2, 1).set_column(0, "episode_index", pa.array([None], pa.int64()))
    pq.write_table(pa.concat_tables([table, nobody]), path)
    episodes, refused = read_episodes(root)
    assert episodes == before and [(one.reason, one.detail) for one in refused] == [("bad_value", "no episode_index")]
    pq.write_table(table.drop_columns("episode_index"), path)
    episodes, refused = read_episodes(root)
    assert [one.reason for one in refused] == ["missing_field"] and not any(one.videos for one in episodes)
    column = f"videos/{CAMERA}/file_index"
    for values, reasons in (([None] * 3, []), (["a"] * 3, ["bad_value"]), ([0.0, np.nan, 0.0], [])):
        place = table.column_names.index(column)
        pq.write_table(table.set_column(place, column, pa.array(values)), path)
        episodes, refused = read_episodes(root)
        assert [one.reason for one in refused] == reasons
        assert [bool(one.videos) for one in episodes] == [value == 0 for value in values]


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        ("{", "cannot be read"),
        ('{"codebase_version": "v2.1"}', "v2.1; v3.x is read"),
        ("[]", "unknown"),
        (None, "is no"),
    ],
)
def test_a_folder_of_another_kind_is_refused_in_one_sentence(info: str | None, sentence: str, root: Path) -> None:
    path = root / "meta/info.json"
    path.unlink() if info is None else path.write_text(info)
    with pytest.raises(SourceError, match=re.escape(sentence)):
        read_episodes(root)


def test_segments_and_rows_are_each_other_again(root: Path) -> None:
    segments = tuple(
        Segment(start_s=start_s, end_s=end_s, label=label)
        for (start_s, end_s), label in zip(((0.02, 0.5), (0.5, 1.2), (1.2, 2.0)), STEPS, strict=False)
    )
    made = rows_of_segments(segments, TIMES, rationales=("it stands there", "", "it is empty"))
    assert not check_rows(made, TIMES) and [row.style for row in made].count("memory") == 2
    write_language(root, {0: made})
    again = subtask_segments(read_episodes(root)[0][0])
    assert [one.label for one in again] == list(STEPS[:3])
    assert [(one.start_s, one.end_s) for one in again] == [(0, TIMES[5]), (TIMES[5], TIMES[12]), (TIMES[12], 2.0)] or (
        abs(again[-1].end_s - 2.0) < 1e-6
    )


def test_a_rationale_stays_with_its_segment_where_these_are_in_no_order() -> None:
    later = [Segment(start_s=1.0, end_s=2.0, label="b"), Segment(start_s=0.0, end_s=1.0, label="a")]
    made = rows_of_segments(later, TIMES, rationales=("because of b", "because of a"))
    assert [row.content for row in made] == ["a", "because of a", "b", "because of b"] and not check_rows(made, TIMES)


def test_two_segments_on_one_frame_are_refused() -> None:
    close = [Segment(start_s=0.0, end_s=0.01, label="a"), Segment(start_s=0.01, end_s=1.0, label="b")]
    with pytest.raises(SourceError, match="both begin on the frame at"):
        rows_of_segments(close, TIMES)


def test_answers_along_an_episode_become_one_subtask_for_every_frame() -> None:
    said = [("a", ""), ("a", ""), ("", "uncertain"), ("b", "")]
    answers = [
        (0.4 * i, Answer(answer=text, abstained=reason, mode="direct", rationale=f"because {i}"))
        for i, (text, reason) in enumerate(said)
    ]
    made = rows_of_answers(answers, TIMES)
    assert not check_rows(made, TIMES)
    assert [(row.content, row.timestamp) for row in made if row.style == "subtask"] == [("a", 0.0), ("b", TIMES[12])]
    assert [row.content for row in made if row.style == "memory"] == ["because 0", "because 3"]


def test_an_answer_that_is_taken_back_within_a_frame_leaves_the_subtask_before_it_as_it_was() -> None:
    said = [(0.0, "a"), (1.0, "b"), (1.01, "a"), (1.5, "c")]
    made = rows_of_answers([(at_s, Answer(answer=text, mode="direct")) for at_s, text in said], TIMES)
    assert [(row.content, row.timestamp) for row in made] == [("a", 0.0), ("c", TIMES[15])]


def test_first_frames_without_an_answer_need_a_word_from_the_caller() -> None:
    late = [(0.5, Answer(answer="a", mode="direct"))]
    with pytest.raises(SourceError, match="the first answer is about"):
        rows_of_answers(late, TIMES)
    made = rows_of_answers(late, TIMES, before="wait")
    assert [row.content for row in made if row.style == "subtask"] == ["wait", "a"] and not check_rows(made, TIMES)


def annotated(root: Path) -> None:
    """Three subtasks in each episode, each in other words."""
    for index, length in enumerate(LENGTHS):
        times = [float(one) for one in times_of(length)]
        steps = [STEPS[(index + i) % len(STEPS)] for i in range(3)]
        write_language(
            root,
            {index: [LanguageRow(style="subtask", content=s, timestamp=times[4 * i]) for i, s in enumerate(steps)]},
        )


def test_annotations_lie_on_the_clock_of_the_video_that_episodes_share(root: Path) -> None:
    annotated(root)
    (annotation,), refused = read_annotations(root)
    assert not refused and annotation.uri.endswith("file-000.mp4") and annotation.task == "serve a drink; tidy up"
    starts = [one.start_s for one in annotation.segments]
    assert starts == pytest.approx([0, 0.4, 0.8, 2.0, 2.4, 2.8, 3.5, 3.9, 4.3], abs=1e-6)
    assert annotation.segments[2].end_s == pytest.approx(2.0) and annotation.duration_s == pytest.approx(4.7)


def test_episodes_that_give_no_annotation_say_why(root: Path) -> None:
    write_language(root, {1: (SUBTASK,)})
    reasons = {one.item: one.reason for one in read_annotations(root, camera="observation.images.other")[1]}
    assert reasons == {"episode 0": "no_subtasks", "episode 1": "no_video", "episode 2": "no_subtasks"}
    (root / f"videos/{CAMERA}/chunk-000/file-000.mp4").unlink()
    assert {one.reason for one in read_annotations(root)[1]} == {"no_subtasks", "clip_missing"}


def test_a_robot_data_set_becomes_the_questions_of_a_plain_one(root: Path, tmp_path: Path) -> None:
    from video_data.datasets.plain_fields import AnnotationFields, QuestionFields, checked_fields

    annotated(root)
    write_plain(root, tmp_path / "plain")
    lines = [json.loads(line) for line in (tmp_path / "plain/questions.jsonl").read_text().splitlines()]
    questions = [checked_fields(QuestionFields, line) for line in lines]
    choices = [one for one in questions if one.kind == "next_choice"]
    assert len(choices) == 6 and all(one.answer in one.choices for one in choices)
    # No window reaches into the episode before it, which lies in the same video.
    assert {one.start_s for one in choices} == {0.0, 2.0, 3.5}
    for line in (tmp_path / "plain/annotations.jsonl").read_text().splitlines():
        assert len(checked_fields(AnnotationFields, json.loads(line)).segments) == 9


def test_a_data_set_without_subtasks_gives_no_questions_and_says_so(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no_subtasks"):
        write_plain(root, tmp_path / "plain")
