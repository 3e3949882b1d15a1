"""Published data sets through prepare, dry run and baselines, with clips that are there and clips that are not."""

import json
import logging
from pathlib import Path

import pytest
from fixtures.steps import tool_step

from aot.config import RunConfig, parse_config
from aot.errors import AotError, SourceError
from aot.files.run_folder import append_row, publishing, read_rows
from aot.pipeline import run_stages
from aot.pipeline.commands.baselines import baseline_lines, measure_baselines
from aot.pipeline.commands.plan import plan_lines
from aot.records import ClipAnnotation, Question, Refusal, TimeSpan, Trace
from video_data.kitchen.dataset import draw_toy_kitchen

CONFIG = Path("coin.yaml")


def video(subset: str, *labels: str) -> dict[str, object]:
    steps = [{"id": str(i), "segment": [0.5 * i, 0.5 * i + 0.4], "label": label} for i, label in enumerate(labels)]
    return {"class": "MakeTea", "subset": subset, "duration": 3.0, "start": 0, "annotation": steps}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("coin")
    draw_toy_kitchen(root / "clips", seed=0, counts={"train": 2, "test": 1, "test_ood": 1}, workers=1)
    database = {
        "train_0000": video("training", "boil", "pour", "drink"),
        "train_0001": video("training", "boil", "pour", "stir"),
        "gone": video("training", "boil", "pour", "drink"),
        "test_0000": video("testing", "boil", "pour", "drink"),
    }
    (root / "coin.json").write_text(json.dumps({"database": database}))
    return root


def config_of(folder: Path, run: Path, **more: object) -> RunConfig:
    data = {"dataset": "coin", "root": str(folder / "clips"), "annotated": {"train": str(folder / "coin.json")}}
    raw = {"data": data, "run": {"dir": str(run)}, "frames": {"workers": 1}, "evaluate": {"splits": ["test"]}, **more}
    return parse_config(raw, source="test")


def test_prepare_goes_on_with_the_clips_that_are_there(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(folder, tmp_path / "run")
    with caplog.at_level(logging.INFO):
        run, code = run_stages(config, config_path=CONFIG, command=["test"], stages=("prepare",))
    questions = list(read_rows(run.questions, Question))
    assert code == 3 and "3 of 4 clips available" in caplog.text
    assert {q.media.uri for q in questions if q.media} == {"train_0000.mp4", "train_0001.mp4", "test_0000.mp4"}
    assert [(r.item, r.reason) for r in read_rows(run.refusals, Refusal)] == [("gone", "clip_missing")]
    assert len(list(read_rows(run.annotations, ClipAnnotation))) == 4  # steps of the missing clip still count


def test_the_dry_run_tells_how_many_clips_are_there_and_what_chat_costs(folder: Path, tmp_path: Path) -> None:
    chat = {"model": "m", "prices": {"date": "2026-01-01", "prompt": 1.0, "completion": 10.0}}
    config = config_of(folder, tmp_path / "run", teacher={"planner": "chat", "candidates": 2}, chat=chat)
    lines = plan_lines(config, config_path=CONFIG)
    assert any("3 of 4 clips available" in line for line in lines)
    (told,) = [line for line in lines if line.startswith("chat model")]
    # 12 questions: 48 likely calls of 2,500 and 200 tokens cost 0.12 + 0.096; 2 candidates of 8 turns at most.
    assert "about 48 calls, 120,000 prompt and 9,600 completion tokens, 0.22 USD; at most 192 calls" in told
    free = config_of(folder, tmp_path / "run", teacher={"planner": "chat"}, chat={"model": "m"})
    assert any("unpriced" in line for line in plan_lines(free, config_path=CONFIG))


def test_limit_takes_so_many_clips_of_each_split(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path / "run")
    limited = config.model_copy(update={"data": config.data.model_copy(update={"limit": 1})})
    assert measure_baselines(limited, CONFIG).annotated_clips == {"test": 1, "train": 1}


def test_baselines_need_no_clip_and_say_what_they_miss(folder: Path, tmp_path: Path) -> None:
    raw = {"dataset": "coin", "annotated": {"train": str(folder / "coin.json"), "num_choices": 3}}
    config = parse_config({"data": raw, "run": {"dir": str(tmp_path / "none")}}, source="test")
    found = measure_baselines(config, CONFIG)
    values = {(row.arm, row.kind, row.metric): (row.value, row.n) for row in found.rows}
    assert values["bigram_gold", "next_open", "accuracy"] == (1.0, 2)
    assert values["copy_last", "next_open", "accuracy"] == (0.0, 2)
    assert values["task_majority", "next_open", "recall_at_5"] == (1.0, 2)
    assert not any("predicted" in row.arm for row in found.rows)
    text = "\n".join(baseline_lines(config, CONFIG))
    assert "need the teacher's traces" in text and "n=2, 1 clip" in text


def test_predicted_history_comes_from_the_runs_own_traces(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path / "run")
    run, _ = run_stages(config, config_path=CONFIG, command=["test"], stages=("prepare",))
    run.traces.mkdir(exist_ok=True)
    seen = {"steps": [{"start_s": 0.0, "end_s": 0.4, "label": "pour", "score": 1.0}]}
    step = tool_step(1, "list_steps", {}, seen, span=TimeSpan(start_s=0, end_s=1))
    trace = Trace(
        question_id="test_0000-next_open-2", sample_index=0, teacher="rules", steps=(step,), status="ok",
        config_digest="0",
    )  # fmt: skip
    with publishing(run.traces / "part-0000.jsonl") as file:
        append_row(file, trace)
    rows = measure_baselines(config, CONFIG).rows
    found = {(r.arm, r.metric): (r.value, r.n) for r in rows if r.kind == "next_open"}
    assert found["bigram_predicted", "accuracy"] == (1.0, 1) and found["bigram_gold", "accuracy"] == (1.0, 2)


def test_a_missing_official_file_or_folder_is_told_before_any_work(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, tmp_path / "run")
    for update, told in (
        ({"root": None}, r"data\.root is needed"),
        ({"annotated": config.data.annotated.model_copy(update={"train": "nowhere.json"})}, r"data\.annotated\.train"),
        ({"annotated": config.data.annotated.model_copy(update={"train": None})}, r"data\.annotated\.train is needed"),
    ):
        wrong = config.model_copy(update={"data": config.data.model_copy(update=update)})
        with pytest.raises(SourceError, match=told):
            plan_lines(wrong, config_path=CONFIG)


def test_given_questions_meet_chance_and_the_answer_that_was_right_most_often(tmp_path: Path) -> None:
    header = "video,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    (tmp_path / "train.csv").write_text(header + "1,why,3,0,CW,a,b,c,happy,d\n2,why,0,0,CW,happy,x,y,z,w\n")
    (tmp_path / "val.csv").write_text(header + "3,why,4,0,CW,a,b,c,d,happy\n4,why,0,0,CW,sad,happy,c,d,e\n")
    files = {name: str(tmp_path / f"{name}.csv") for name in ("train", "val")}
    annotated = {"train": files["train"], "test": files["val"]}
    raw = {"data": {"dataset": "nextqa", "annotated": annotated}, "run": {"dir": str(tmp_path / "none")}}
    rows = {(r.arm, r.kind): (r.value, r.n) for r in measure_baselines(parse_config(raw, source="t"), CONFIG).rows}
    assert rows["chance", "CW"] == (0.2, 2) and rows["most_right", "CW"] == rows["most_right", "C"] == (0.5, 2)


def test_a_text_run_has_no_such_baselines() -> None:
    text = {"teacher": {"planner": "procedural"}, "student": {"base": "tiny-text"}}
    arms = {"arms": [{"name": "a", "order": "pre"}]}
    config = parse_config({"data": {"dataset": "toy_math"}, "train": arms, **text}, source="test")
    with pytest.raises(AotError, match="about clips"):
        measure_baselines(config, CONFIG)
