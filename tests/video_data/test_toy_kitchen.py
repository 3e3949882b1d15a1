import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
from processes import descendants, runs

from aot.errors import VideoError
from video_data.datasets.plain import check_windows
from video_data.datasets.rows import QuestionRow
from video_data.kitchen.dataset import SPLITS, draw_toy_kitchen, frame_times_s, kitchen_stamp, plan_toy_kitchen
from video_data.kitchen.stories import Performance, make_performances, make_questions
from video_data.kitchen.world import OOD_RECIPES, RECIPES, STEP_LABELS, TRAIN_RECIPES, may_follow

COUNTS = {"train": 24, "test": 12, "test_ood": 8}
ONE = {"train": 1, "test": 0, "test_ood": 0}


def test_the_world_is_large_enough() -> None:
    assert len(RECIPES) >= 12 and len(STEP_LABELS) >= 50


def test_ood_recipes_are_never_cooked_in_training_and_have_the_same_size() -> None:
    assert not {r.name for r in OOD_RECIPES} & {r.name for r in TRAIN_RECIPES}
    assert {len(r.steps) for r in OOD_RECIPES} == {len(r.steps) for r in TRAIN_RECIPES}


def test_every_recipe_can_be_cooked_to_the_end() -> None:
    for recipe in RECIPES.values():
        done: set[int] = set()
        while available := recipe.available(done):
            done.add(available[0])
        assert len(done) == len(recipe.steps), recipe.name


def test_clips_last_8_to_20_seconds_without_gaps() -> None:
    for performance in make_performances(seed=3, split="train", count=60):
        assert 8.0 <= performance.duration_s <= 20.0
        ends = [s.end_s for s in performance.segments]
        assert [s.start_s for s in performance.segments] == [0.0, *ends[:-1]]


def test_a_clip_belongs_to_one_split_only(tmp_path: Path) -> None:
    kitchen = plan_toy_kitchen(tmp_path, seed=0, counts=COUNTS)
    splits: dict[str, set[str]] = {}
    for question in kitchen.questions:
        splits.setdefault(question.uri, set()).add(question.split)
    assert all(len(names) == 1 for names in splits.values()) and len(splits) == sum(COUNTS.values())


def test_wrong_choices_may_never_follow_in_any_recipe_that_fits() -> None:
    for performance in make_performances(seed=1, split="train", count=60):
        for question in make_questions(performance, seed=1):
            if question.kind == "next_choice":
                assert set(question.choices) & may_follow(_seen(performance, question)) == {question.answer}


def test_open_next_step_has_one_right_answer() -> None:
    for performance in make_performances(seed=1, split="test_ood", count=60):
        for question in (q for q in make_questions(performance, seed=1) if q.kind == "next_open"):
            assert may_follow(_seen(performance, question)) == {question.answer}


def test_steps_that_two_recipes_share_leave_both_open() -> None:
    assert may_follow({"chop onion", "fry onion"}) == {"peel carrot", "peel potato"}
    assert may_follow({"chop onion", "fry onion", "peel carrot"}) == {"chop carrot"}


def _seen(performance: Performance, question: QuestionRow) -> set[str]:
    return {s.label for s in performance.segments if s.end_s <= (question.end_s or 0)}


def test_count_answers_match_the_story() -> None:
    for performance in make_performances(seed=2, split="test", count=40):
        labels = [s.label for s in performance.segments]
        for question in (q for q in make_questions(performance, seed=2) if q.kind == "count"):
            event = question.text.removeprefix("How often does ").removesuffix(" happen?")
            assert question.answer == str(labels.count(event))


@pytest.mark.parametrize("seed", range(5))
def test_no_window_is_outside_its_clip(seed: int) -> None:
    for split in SPLITS:
        for performance in make_performances(seed=seed, split=split, count=150):
            end_s = frame_times_s(performance, seed=seed)[-1]
            assert performance.duration_s - 0.16 < end_s < performance.duration_s
            questions = make_questions(performance, seed=seed)
            assert check_windows(questions, {performance.uri: end_s}).refused == ()


def test_the_same_seed_makes_the_same_questions_and_another_does_not(tmp_path: Path) -> None:
    first, again = (plan_toy_kitchen(tmp_path, seed=0, counts=COUNTS) for _ in range(2))
    other = plan_toy_kitchen(tmp_path, seed=1, counts=COUNTS)
    assert first == again and first.questions != other.questions


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kitchen")
    draw_toy_kitchen(root, seed=0, counts={"train": 6, "test": 1, "test_ood": 1}, workers=1)
    return root


def test_clips_are_real_video_files_with_true_times(drawn: Path) -> None:
    for performance in make_performances(seed=0, split="train", count=6):
        with av.open(str(drawn / performance.uri)) as container:
            times = [frame.time for frame in container.decode(video=0)]
        assert times == pytest.approx(frame_times_s(performance, seed=0), abs=0.002)


def test_drawing_again_writes_nothing(drawn: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in drawn.iterdir()}
    draw_toy_kitchen(drawn, seed=0, counts={"train": 6, "test": 1, "test_ood": 1}, workers=1)
    assert {path.name: path.stat().st_mtime_ns for path in drawn.iterdir()} == before


def test_a_clip_drawn_alone_is_the_same_file(drawn: Path, tmp_path: Path) -> None:
    draw_toy_kitchen(tmp_path, seed=0, counts={"train": 2, "test": 0, "test_ood": 0}, workers=1)
    assert (tmp_path / "train_0001.mp4").read_bytes() == (drawn / "train_0001.mp4").read_bytes()


def test_a_folder_of_another_seed_is_refused_and_left_alone(drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn, tmp_path / "clips")
    before = sorted(path.name for path in drawn.iterdir())
    with pytest.raises(VideoError, match=r"drawn with seed 0.*seed 1") as caught:
        draw_toy_kitchen(tmp_path / "clips", seed=1, counts=COUNTS, workers=1)
    assert caught.value.reason == "other_kitchen"
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == before


@pytest.mark.parametrize("stamp", [None, "not json", '{"seed": 0, "stories": "those of last year"}'])
def test_clips_of_unknown_stories_are_refused(drawn: Path, tmp_path: Path, stamp: str | None) -> None:
    shutil.copyfile(drawn / "test_0000.mp4", tmp_path / "test_0000.mp4")
    if stamp is not None:
        (tmp_path / "kitchen.json").write_text(stamp)
    with pytest.raises(VideoError, match="delete these clips"):
        draw_toy_kitchen(tmp_path, seed=0, counts=ONE, workers=1)
    (tmp_path / "test_0000.mp4").unlink()
    draw_toy_kitchen(tmp_path, seed=0, counts=ONE, workers=1)


def test_counts_may_grow_with_the_same_seed(tmp_path: Path) -> None:
    draw_toy_kitchen(tmp_path, seed=0, counts=ONE, workers=1)
    draw_toy_kitchen(tmp_path, seed=0, counts={**ONE, "test": 1}, workers=1)
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == ["test_0000.mp4", "train_0000.mp4"]


def test_other_frame_times_make_another_stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    before = kitchen_stamp(0)
    monkeypatch.setattr("video_data.kitchen.dataset.FPS", 9.0)
    assert (before.seed, before != kitchen_stamp(0)) == (0, True)


@pytest.mark.parametrize("share", [0.1, 0.6, 0.99])
def test_a_full_disk_is_told_and_leaves_no_half_drawn_clip(drawn: Path, tmp_path: Path, share: float) -> None:
    clip = drawn / "train_0000.mp4"
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from video_data.kitchen.dataset import draw_toy_kitchen\n"
        "from aot.errors import VideoError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))\n"
        f"try: draw_toy_kitchen(Path(sys.argv[1]), seed=0, counts={ONE}, workers=1)\n"
        "except VideoError as error: print(error.reason, '-', error)"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(int(share * clip.stat().st_size))]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.startswith("disk_full - no_space: the disk is full")
    assert not list(tmp_path.glob("*.mp4")) + list(tmp_path.glob(".*.tmp*"))
    draw_toy_kitchen(tmp_path, seed=0, counts=ONE, workers=1)
    assert (tmp_path / clip.name).read_bytes() == clip.read_bytes()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # below a regular file nobody may write, not even root
    with pytest.raises(VideoError, match="choose another folder") as caught:
        draw_toy_kitchen(tmp_path / "file" / "clips", seed=0, counts=COUNTS, workers=1)
    assert caught.value.reason == "unwritable"


def test_drawing_processes_die_with_a_killed_parent(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from video_data.kitchen.dataset import draw_toy_kitchen\n"
        "counts = {'train': 4000, 'test': 0, 'test_ood': 0}\n"
        "say = lambda done, total: print(done, flush=True)\n"
        "draw_toy_kitchen(Path(sys.argv[1]), seed=0, counts=counts, workers=2, progress=say)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "2\n"
    children = descendants(parent.pid)
    assert len(children) == 4  # two workers, the fork server and the resource tracker
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline_s = time.monotonic() + 20
    while any(runs(child) for child in children) and time.monotonic() < deadline_s:
        os.sched_yield()
    assert not any(runs(child) for child in children)
