from pathlib import Path

import pytest

from aot.files.jsonl import RowProblem
from video_data.datasets.clip_folder import ClipFolder
from video_data.datasets.next_steps import NextRule, next_questions, num_started_together
from video_data.datasets.official import StepClip, Wanted
from video_data.datasets.rows import SegmentRow


def clip(name: str, *labels: str, task: str = "tea") -> StepClip:
    rows = tuple(SegmentRow(10.0 * i, 10.0 * i + 8, label) for i, label in enumerate(labels))
    return StepClip(name, "train", task, 10.0 * len(labels), rows)


CLIPS = [clip("a", "boil", "pour", "stir", "drink"), clip("b", "saw", "nail", task="shelf")]


def test_wrong_options_come_from_the_same_task_first() -> None:
    questions, _ = next_questions(CLIPS, wanted=Wanted(None, None, kinds=("next_choice",)), rule=NextRule())
    of_a = [q for q in questions if q.uri == "a"]
    assert all(set(q.choices) == {"boil", "pour", "stir", "drink"} for q in of_a)
    assert len({q.choices.index(q.answer) for q in of_a}) > 1


def test_a_question_does_not_depend_on_how_many_others_are_asked() -> None:
    few, _ = next_questions(CLIPS, wanted=Wanted(None, None, per_clip=1), rule=NextRule())
    every, _ = next_questions(CLIPS, wanted=Wanted(None, None, per_clip=None), rule=NextRule())
    assert set(few) < set(every) and len(few) == 4


def test_history_and_window_are_limited_as_asked() -> None:
    wanted = Wanted(None, None, kinds=("next_open",), min_history=3, window_s=5.0)
    questions, refused = next_questions(CLIPS, wanted=wanted, rule=NextRule())
    assert [(q.answer, q.start_s, q.end_s) for q in questions] == [("drink", 23.0, 28.0)]
    assert [(row.item, row.reason) for row in refused] == [("b", "too_few_steps")]


def steps(*times: tuple[float, float, str]) -> StepClip:
    return StepClip("a", "train", "tea", 100.0, tuple(SegmentRow(*one) for one in times))


@pytest.mark.parametrize(
    ("asked_starts_s", "end_s"), [(10.0, 10.5), (10.2, 10.5), (10.5, 10.5), (12.0, 12.0), (14.0, 14.0), (20.0, 14.0)]
)
def test_every_step_is_asked_after_the_one_before_it_even_where_both_start_together(
    asked_starts_s: float, end_s: float
) -> None:
    one = steps((10.0, 14.0, "boil"), (asked_starts_s, 25.0, "pour"), (30.0, 31.0, "stir"))
    wanted = Wanted(None, None, kinds=("next_open",), per_clip=None)
    questions, refused = next_questions([one], wanted=wanted, rule=NextRule())
    assert [(q.answer, q.end_s, q.steps_before) for q in questions] == [("pour", end_s, 1), ("stir", 25.0, 2)]
    assert not refused and num_started_together([one]) == (asked_starts_s < 10.5)


@pytest.mark.parametrize("last_starts_s", [5.0, 29.2, 29.96, 30.0])
def test_an_action_is_asked_a_gap_before_it_starts_whether_or_not_the_last_one_has_begun(last_starts_s: float) -> None:
    one = steps((last_starts_s, 40.0, "take cup"), (30.0, 31.0, "wash cup"))
    wanted = Wanted(None, None, kinds=("next_open",))
    (question,), refused = next_questions([one], wanted=wanted, rule=NextRule(cut="before_next", labels="closed"))
    assert (question.answer, question.end_s, question.steps_before, refused) == ("wash cup", 29.0, 1, [])


def test_an_action_before_which_nothing_can_be_seen_is_refused() -> None:
    one = steps((0.1, 0.5, "take cup"), (0.9, 3.0, "wash cup"))
    questions, refused = next_questions([one], wanted=Wanted(None, None), rule=NextRule(cut="before_next"))
    assert not questions and [row.reason for row in refused] == ["nothing_seen"]


def test_too_few_labels_are_refused_and_not_padded() -> None:
    questions, refused = next_questions([CLIPS[1]], wanted=Wanted(None, None, kinds=("next_choice",)), rule=NextRule())
    assert not questions and [row.reason for row in refused] == ["too_few_labels"]


def test_clips_are_found_directly_one_level_deep_and_where_told(tmp_path: Path) -> None:
    for name in ("a.webm", "Task/b.MP4", "P01/videos/P01_01.MP4", "a.mp4", "Task/a.mkv", "x/y/deep.mp4"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    folder = ClipFolder(tmp_path)
    assert [folder.find(name)[0] for name in "ab"] == ["a.mp4", "Task/b.MP4"]
    assert folder.find("P01_01", places=("P01/videos/P01_01",))[0] == "P01/videos/P01_01.MP4"
    with pytest.raises(RowProblem) as missing:
        folder.find("deep")
    assert missing.value.reason == "clip_missing"


def test_nothing_outside_the_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out.mp4").write_text("x")
    (tmp_path / "in" / "link.mp4").symlink_to(tmp_path / "out.mp4")
    folder = ClipFolder(tmp_path / "in")
    for name, places in (("link", ()), ("out", ("../out",)), ("out", (str(tmp_path / "out"),))):
        with pytest.raises(RowProblem) as problem:
            folder.find(name, places=places)
        assert problem.value.reason == "path_outside"
    with pytest.raises(RowProblem):
        folder.find("../out")


@pytest.mark.parametrize(("asked", "on_disk"), [("caf\u00e9", "cafe\u0301"), ("cafe\u0301", "caf\u00e9")])
def test_ids_and_places_with_composed_and_decomposed_letters_are_found(
    tmp_path: Path, asked: str, on_disk: str
) -> None:
    (tmp_path / on_disk / "deep").mkdir(parents=True)
    (tmp_path / f"{on_disk}.mp4").write_text("x")
    (tmp_path / on_disk / "deep" / "b.mp4").write_text("x")
    folder = ClipFolder(tmp_path)
    assert folder.find(asked)[0] == f"{on_disk}.mp4"
    assert folder.find("b", places=(f"{asked}/deep/b",))[1] == tmp_path / on_disk / "deep" / "b.mp4"


def test_an_id_that_two_spellings_of_a_name_answer_to_is_ambiguous(tmp_path: Path) -> None:
    for name in ("caf\u00e9.mp4", "cafe\u0301.mp4"):
        (tmp_path / name).write_text("x")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this disk holds one file under both names")
    with pytest.raises(RowProblem) as problem:
        ClipFolder(tmp_path).find("cafe\u0301")
    assert problem.value.reason == "clip_ambiguous"
