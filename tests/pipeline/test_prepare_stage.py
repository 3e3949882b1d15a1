import json
from pathlib import Path

import pytest

from aot.config import EvaluateConfig, RunConfig, parse_config
from aot.errors import AotError, ConfigError, SourceError, ToolError
from aot.files.run_folder import RunFolder, read_rows
from aot.pipeline.commands.inputs import check_inputs
from aot.pipeline.commands.plan import plan_lines
from aot.pipeline.prepare import prepare
from aot.pipeline.source import read_source, usable_source
from aot.records import ClipAnnotation, MediaRef, Question, Refusal
from aot.teacher.clip_shelf import open_shelf
from video_data.kitchen.dataset import draw_toy_kitchen

ROW = {"video": "train_0000.mp4", "question": "What is the next step?", "answer": "fry egg", "kind": "next_open"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    draw_toy_kitchen(root, seed=0, counts={"train": 3, "test": 1, "test_ood": 1}, workers=1)
    (root / "broken.mp4").write_bytes((root / "train_0002.mp4").read_bytes()[:300])
    (root / "copy.mp4").write_bytes((root / "test_0000.mp4").read_bytes())
    return root


def plain(clips: Path, rows: list[dict | str], **data: object) -> RunConfig:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (clips / "questions.jsonl").write_text("\n".join(lines) + "\n")
    return parse_config({"data": {"dataset": "plain", "root": str(clips), **data}}, source="test")


def run_prepare(config: RunConfig, folder: Path) -> tuple[list[Question], dict[str, str]]:
    run = RunFolder(folder)
    prepare(run, config, lambda done, total: None)
    refusals = {row.item: row.reason for row in read_rows(run.refusals, Refusal)}
    return list(read_rows(run.questions, Question)), refusals


def test_bad_rows_and_clips_are_refused_with_a_reason_and_neighbours_stay(clips: Path, tmp_path: Path) -> None:
    rows: list[dict | str] = [
        {**ROW, "id": "good"},
        "{not json",
        {**ROW, "id": "no-clip", "video": "nowhere.mp4"},
        {**ROW, "id": "broken-clip", "video": "broken.mp4"},
        {**ROW, "id": "late", "start_s": 500.0, "end_s": 501.0},
        {**ROW, "id": "blind", "start_s": 0.1, "end_s": 0.101},
        {**ROW, "id": "good-too", "video": "train_0001.mp4"},
    ]
    questions, refusals = run_prepare(plain(clips, rows), tmp_path)
    assert [q.id for q in questions] == ["good", "good-too"]
    assert len(refusals) >= 5 and refusals["late"] == "window_outside" and refusals["broken-clip"] == "clip_refused"
    assert refusals["blind"] == "window_without_frames"


def test_a_partial_clip_is_asked_only_about_what_decodes(clips: Path, tmp_path: Path) -> None:
    data = bytearray((clips / "train_0002.mp4").read_bytes())
    start = data.find(b"mdat") + 4
    end = start - 8 + int.from_bytes(data[start - 8 : start - 4], "big")
    data[(start + end) // 2 : end] = bytes(end - (start + end) // 2)
    (clips / "spoilt.mp4").write_bytes(data)
    row = {**ROW, "video": "spoilt.mp4"}
    rows: list[dict | str] = [
        {**row, "id": "whole"},
        {**row, "id": "from-there", "start_s": 1.0},
        {**row, "id": "seen", "start_s": 0.0, "end_s": 1.0},
        {**row, "id": "beyond", "start_s": 0.0, "end_s": 7.0},
    ]
    questions, refusals = run_prepare(plain(clips, rows), tmp_path)
    assert [question.id for question in questions] == ["seen"]
    assert refusals == {
        "spoilt.mp4": "partial",
        **dict.fromkeys(["whole", "from-there", "beyond"], "window_not_decoded"),
    }
    shelf = open_shelf(RunFolder(tmp_path))
    assert shelf.view(questions[0].media).end_s == 1.0
    with pytest.raises(ToolError, match=r"cannot be seen at .*decode undamaged|damaged pixels"):
        shelf.view(MediaRef(uri="spoilt.mp4"))


def test_a_training_clip_that_looks_like_a_test_clip_is_left_out(clips: Path, tmp_path: Path) -> None:
    rows: list[dict | str] = [
        {**ROW, "id": "a", "split": "train", "video": "copy.mp4"},
        {**ROW, "id": "b", "split": "train"},
        {**ROW, "id": "c", "split": "test", "video": "test_0000.mp4"},
    ]
    questions, refusals = run_prepare(plain(clips, rows), tmp_path)
    assert [q.id for q in questions] == ["b", "c"]
    assert refusals["copy.mp4"] == "near_duplicate_of_test"


def test_a_training_clip_that_is_only_annotated_is_compared_with_test_clips_too(clips: Path, tmp_path: Path) -> None:
    marks = {"task": "eggs", "duration_s": 3.0, "segments": [{"start_s": 0.0, "end_s": 1.0, "label": "fry egg"}]}
    rows = [{**marks, "video": name, "split": "train"} for name in ("copy.mp4", "train_0001.mp4", "broken.mp4")]
    (clips / "annotations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions: list[dict | str] = [{**ROW, "id": "c", "split": "test", "video": "test_0000.mp4"}]
    _, refusals = run_prepare(plain(clips, questions, annotations="annotations.jsonl"), tmp_path)
    assert refusals["copy.mp4"] == "near_duplicate_of_test" and "train_0001.mp4" not in refusals
    known = [row.uri for row in read_rows(RunFolder(tmp_path).annotations, ClipAnnotation)]
    assert known == ["train_0001.mp4", "broken.mp4"]


def test_no_usable_question_is_an_error_that_names_reasons(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no usable question"):
        run_prepare(plain(clips, [{**ROW, "id": "x", "video": "nowhere.mp4"}]), tmp_path)


def test_where_a_split_ends_up_empty_what_was_refused_is_told_with_its_reasons(clips: Path, tmp_path: Path) -> None:
    rows = [{**ROW, "id": "a", "split": "train"}, {**ROW, "id": "b", "split": "test"}, {"id": "c", "split": "test"}]
    with pytest.raises(
        ConfigError, match=r"no question is in split 'test'.*first questions\.jsonl:2: two_splits \(.*already"
    ):
        usable_source(plain(clips, rows), RunFolder(tmp_path))
    rows = [{**ROW, "id": "a", "video": "train_0000.mp4", "split": "train"}]
    rows += [{**ROW, "id": "b", "video": "broken.mp4", "split": "test"}]
    with pytest.raises(ConfigError, match=r"no question is in split 'test'.*first broken\.mp4: \w+ \("):
        run_prepare(plain(clips, rows), tmp_path)


def test_a_missing_field_is_told_by_name(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"questions\.jsonl:1: missing_field \(field 'answer'"):
        usable_source(
            plain(clips, [{k: v for k, v in {**ROW, "id": "a"}.items() if k != "answer"}]), RunFolder(tmp_path)
        )


def test_limit_takes_whole_clips_of_each_split(clips: Path, tmp_path: Path) -> None:
    rows: list[dict | str] = [
        {**ROW, "id": f"{clip}{n}", "video": f"train_000{clip}.mp4"} for clip in "01" for n in "ab"
    ]
    source = read_source(plain(clips, rows, limit=1), RunFolder(tmp_path))
    assert [row.id for row in source.questions] == ["0a", "0b"]


def test_missing_questions_file_is_told(tmp_path: Path) -> None:
    config = parse_config({"data": {"dataset": "plain", "root": str(tmp_path)}}, source="test")
    with pytest.raises(SourceError, match=r"questions\.jsonl"):
        read_source(config, RunFolder(tmp_path))


def test_a_misspelt_split_is_told_before_any_decoding(clips: Path, tmp_path: Path) -> None:
    config = plain(clips, [{**ROW, "id": "a", "split": "test"}])
    config = config.model_copy(update={"evaluate": EvaluateConfig(splits=("tset",))})
    with pytest.raises(ConfigError, match="did you mean 'test'"):
        prepare(RunFolder(tmp_path / "run"), config, lambda done, total: None)
    with pytest.raises(ConfigError, match="'tset'"):
        plan_lines(config, config_path=Path("x.yaml"))
    assert not (tmp_path / "run").exists()


def test_of_the_default_splits_one_is_enough(clips: Path, tmp_path: Path) -> None:
    assert usable_source(plain(clips, [{**ROW, "id": "a", "split": "test"}]), RunFolder(tmp_path)).questions
    with pytest.raises(ConfigError, match="the questions have: train"):
        usable_source(plain(clips, [{**ROW, "id": "a", "split": "train"}]), RunFolder(tmp_path))


def test_a_dry_run_fails_where_the_run_would(clips: Path, tmp_path: Path) -> None:
    config = plain(clips, [{**ROW, "id": "a", "split": "test"}], root=str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match=r"nowhere; set data\.root"):
        plan_lines(config, config_path=Path("x.yaml"))
    with pytest.raises(SourceError, match="no usable question"):
        plan_lines(plain(clips, [{**ROW, "id": "a", "video": "no.mp4"}]), config_path=Path("x.yaml"))


@pytest.mark.parametrize(
    ("section", "settings", "told"),
    [
        ("teacher", {"appearance": "nowhere.json"}, r"nowhere\.json"),
        ("student", {"base": "nowhere"}, r"student\.base 'nowhere'"),
        ("student", {"base": "tests"}, "model configuration"),
        ("data", {"dataset": "plain"}, r"data\.root"),
    ],
)
def test_a_wrong_path_is_told_before_any_work(tmp_path: Path, section: str, settings: dict, told: str) -> None:
    raw = {"data": {"dataset": "toy_kitchen"}, section: settings}
    with pytest.raises(AotError, match=told):
        check_inputs(parse_config(raw, source="test"), RunFolder(tmp_path / "run"))


@pytest.mark.parametrize(("teacher", "told"), [({}, True), ({"appearance": "card.json"}, False)])
def test_dry_run_says_where_the_default_tools_cannot_know_the_clips(
    clips: Path, tmp_path: Path, teacher: dict, told: bool
) -> None:
    (tmp_path / "card.json").write_text(json.dumps({"name": "mine", "objects": {}}))
    config = plain(clips, [{**ROW, "id": "a", "split": "test"}])
    own = {name: str(tmp_path / value) for name, value in teacher.items()}
    config = config.model_copy(update={"teacher": config.teacher.model_copy(update=own)})
    assert ("synthetic kitchen only" in "\n".join(plan_lines(config, config_path=Path("x.yaml")))) == told


def test_dry_run_starts_nothing_and_counts_everything(tmp_path: Path) -> None:
    raw = {"data": {"dataset": "toy_kitchen"}, "run": {"dir": str(tmp_path / "run")}}
    lines = plan_lines(parse_config(raw, source="test"), config_path=Path("x.yaml"))
    assert "train: 320 clips, 1,600 questions" in lines and not (tmp_path / "run").exists()
