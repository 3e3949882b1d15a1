"""`aot predict`: one question, or a file of them; kept through any end, and graded by `aot score`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aot.answer_records import AnswerRow
from aot.errors import RunError, SourceError
from aot.files.run_folder import read_rows
from aot.pipeline.commands.score import score_file
from aot.pipeline.student.predict import answer_lines, predict_file, predict_one, summary_lines
from aot.records import MediaRef, Question
from aot.serving.student import Ask

ROOT = Path(__file__).parents[2]
SUMS = [
    Question(
        id=f"{a}+{b}", dataset="sums", split="test", kind="sum", text=f"What is {a} + {b}?", answer=str(a + b),
        answer_type="integer", group=f"{a}+{b}",
    )
    for a in range(2, 7) for b in range(3, 7)
]  # fmt: skip


def written(path: Path, rows: list[str]) -> Path:
    path.write_text("".join(row + "\n" for row in rows))
    return path


def answers(path: Path) -> dict[str, AnswerRow]:
    rows = list(read_rows(path, AnswerRow))
    assert len({row.question_id for row in rows}) == len(rows)
    return {row.question_id: row for row in rows}


def test_the_questions_of_a_text_run_are_answered_and_graded(text_export: Path, tmp_path: Path) -> None:
    questions = written(tmp_path / "questions.jsonl", [one.model_dump_json() for one in SUMS])
    summary = predict_file(text_export, questions, tmp_path / "out.jsonl")
    assert (summary.questions, summary.answered, summary.exit_code) == (20, 20, 0)
    assert list(answers(tmp_path / "out.jsonl")) == [one.id for one in SUMS]
    scores = score_file(tmp_path / "out.jsonl", questions=questions)
    accuracy = next(row for row in scores.rows if row.metric == "accuracy" and row.kind == "all")
    assert (accuracy.arm, accuracy.n) == ("tiny-text", 20) and accuracy.value >= 0.9 and not scores.problems


def test_questions_about_drawn_clips_are_answered_and_graded(
    video_export: Path, kitchen_clips: Path, tmp_path: Path
) -> None:
    from aot.pipeline.prepare import usable_questions
    from video_data.kitchen.dataset import plan_toy_kitchen

    plan = plan_toy_kitchen(kitchen_clips, seed=0, counts={"train": 1, "test": 1, "test_ood": 0})
    drawn, _ = usable_questions(plan.questions, dataset="toy_kitchen")
    rows = [one for one in drawn if one.split == "test"][:6]
    assert {bool(one.choices) for one in rows} == {True, False}, "both are asked, each in its way"
    questions = written(tmp_path / "questions.jsonl", [one.model_dump_json() for one in rows])
    summary = predict_file(video_export, questions, tmp_path / "out.jsonl", root=kitchen_clips)
    assert summary.answered == len(rows) and not summary.refused
    made = answers(tmp_path / "out.jsonl")
    assert {row.mode for row in made.values()} == {"decide", "direct"}
    for question in rows:
        assert question.media
        times_s = made[question.id].frame_times_s
        assert times_s and question.media.start_s <= times_s[0] and times_s[-1] <= (question.media.end_s or 1e9)
    scores = score_file(tmp_path / "out.jsonl", questions=questions)
    assert {row.n for row in scores.rows if row.kind == "all"} == {len(rows)} and not scores.problems


def test_plain_rows_of_both_doors_are_answered_and_graded(
    video_export: Path, text_export: Path, kitchen_clips: Path, tmp_path: Path
) -> None:
    clip = next(kitchen_clips.glob("test_*.mp4"))
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    row = {"id": "1", "video": "a.mp4", "question": "What is the next step?", "answer": "chop onion", "end_s": 4.0}
    row |= {"kind": "next_choice", "choices": ["chop onion", "wash rice"]}
    asked = written(tmp_path / "video.jsonl", [json.dumps(row)])
    assert predict_file(video_export, asked, tmp_path / "v.jsonl").exit_code == 0
    assert score_file(tmp_path / "v.jsonl", questions=asked).exit_code == 0
    sums = [{"id": one.id, "question": one.text, "answer": int(one.answer), "kind": "sum"} for one in SUMS]
    asked = written(tmp_path / "text.jsonl", [json.dumps(one) for one in sums])
    assert predict_file(text_export, asked, tmp_path / "t.jsonl").exit_code == 0
    scores = score_file(tmp_path / "t.jsonl", questions=asked)
    assert scores.exit_code == 0 and next(row.value for row in scores.rows if row.metric == "accuracy") >= 0.9


def test_bad_rows_are_counted_with_their_reasons_and_the_others_are_answered(
    video_export: Path, kitchen_clips: Path, tmp_path: Path
) -> None:
    clip = next(kitchen_clips.glob("test_*.mp4")).name
    good = {"id": "good", "question": "What is the next step?", "choices": ["wash rice", "chop onion"], "clip": clip}
    rows = {
        "no clip": {**good, "id": "no clip", "clip": "nowhere.mp4"},
        "outside": {**good, "id": "outside", "clip": "../a.mp4"},
        "absolute": {**good, "id": "absolute", "clip": str(kitchen_clips / clip)},
        "field": {**good, "id": "field", "chioces": []},
        "one choice": {**good, "id": "one choice", "choices": ["wash rice"]},
        "mode": {**good, "id": "mode", "mode": "shout"},
        "window": {**good, "id": "window", "start_s": 900.0},
    }
    lines = ["{broken", json.dumps({"question": "What?"}), json.dumps(good), json.dumps(good)]
    asked = written(tmp_path / "q.jsonl", [*lines, *map(json.dumps, rows.values()), json.dumps({**good, "id": "last"})])
    out = tmp_path / "a.jsonl"
    summary = predict_file(video_export, asked, out, root=kitchen_clips)
    assert summary.exit_code == 3 and summary.abstained == {"failed": 7} and summary.questions == 12
    refused = {"broken_json": 1, "missing_field": 1, "duplicate_id": 1, "clip_missing": 1, "path_outside": 2}
    assert summary.refused == {**refused, "unknown_field": 1, "bad_value": 1}
    made = answers(out)
    assert list(made) == ["good", *rows, "last"] and made["good"].answer and made["last"].answer
    assert "did you mean 'choices'" in made["field"].detail and "window_outside" in made["window"].detail
    told = "\n".join(summary_lines(summary, out))
    assert "q.jsonl:1: broken_json" in told and "path_outside 2" in told


def test_questions_that_are_a_folder_or_nowhere_are_told_as_that(text_export: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a folder; name a file in it"):
        predict_file(text_export, tmp_path, tmp_path / "a.jsonl")
    with pytest.raises(SourceError, match=r"there is no file .*nofile; check its path$"):
        predict_file(text_export, tmp_path / "nofile", tmp_path / "a.jsonl")


def test_the_same_command_goes_on_behind_a_half_written_line_and_then_does_nothing(
    text_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = written(tmp_path / "q.jsonl", [one.model_dump_json() for one in SUMS])
    out = tmp_path / "a.jsonl"
    predict_file(text_export, questions, out)
    whole = answers(out)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:7]) + lines[7][:40])
    summary = predict_file(text_export, questions, out)
    assert (summary.kept, summary.answered) == (7, 13)
    again = answers(out)
    assert {id_: row.answer for id_, row in again.items()} == {id_: row.answer for id_, row in whole.items()}
    before = out.read_bytes()
    monkeypatch.setattr("aot.pipeline.student.predict.load_student", None)  # nothing is loaded where nothing is asked
    summary = predict_file(text_export, questions, out)
    assert (summary.kept, summary.answered, summary.exit_code) == (20, 0, 0) and out.read_bytes() == before


def test_answers_of_others_are_never_written_over(text_export: Path, video_export: Path, tmp_path: Path) -> None:
    questions = written(tmp_path / "q.jsonl", [one.model_dump_json() for one in SUMS[:2]])
    out = tmp_path / "a.jsonl"
    predict_file(text_export, questions, out)
    with pytest.raises(RunError, match="another student"):
        predict_file(video_export, questions, out)
    with pytest.raises(RunError, match="another question of the id"):
        predict_file(text_export, questions, out, mode="reason")
    for words in ("my notes, without a line end", '{"id": 1}\n'):
        notes = tmp_path / "notes.txt"
        notes.write_text(words)
        with pytest.raises(RunError, match="holds no answers of aot predict; give another file"):
            predict_file(text_export, questions, notes)
        assert notes.read_text() == words
    with pytest.raises(SourceError, match="no question with an id"):
        predict_file(text_export, written(tmp_path / "empty.jsonl", ["{}"]), tmp_path / "b.jsonl")


def test_one_answer_is_told_with_its_choices_or_with_why_there_is_none(text_export: Path) -> None:
    lines = answer_lines(predict_one(text_export, Ask("What is 3 + 4?", choices=("8", "7"))))
    assert lines[0].startswith("7 (") and lines[2].endswith("%  7") and "prefill" in lines[-1]
    assert answer_lines(predict_one(text_export, Ask("What?", clip="a.mp4")))[0].startswith("no answer (failed): ")


def test_the_command_that_a_signal_ends_says_how_to_go_on(text_export: Path, tmp_path: Path) -> None:
    many = [one.model_copy(update={"id": f"{one.id}/{i}"}) for i in range(25) for one in SUMS]
    questions = written(tmp_path / "q.jsonl", [one.model_dump_json() for one in many])
    out = tmp_path / "a.jsonl"
    command = [sys.executable, "-m", "aot", "predict", str(text_export), "--in", str(questions), "--out", str(out)]
    environment = {**os.environ, "COLUMNS": "200"}
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment)
    while process.poll() is None and not (out.exists() and out.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    made = len(answers(out))
    if made < len(many):
        assert process.returncode == 4 and "the same command goes on from there" in errors
    summary = predict_file(text_export, questions, out)
    assert summary.kept == made and list(answers(out)) == [one.id for one in many]


def test_a_question_of_a_run_whose_clips_lie_beside_it_needs_no_root(
    video_export: Path, kitchen_clips: Path, tmp_path: Path
) -> None:
    (tmp_path / "clips").symlink_to(kitchen_clips, target_is_directory=True)
    clip = MediaRef(uri=next(kitchen_clips.glob("test_*.mp4")).name, end_s=5.0)
    question = Question(
        id="q", dataset="kitchen", split="test", kind="next_open", text="What is the next step?", answer="chop onion",
        answer_type="text", media=clip, group="g",
    )  # fmt: skip
    questions = written(tmp_path / "questions.jsonl", [question.model_dump_json()])
    assert predict_file(video_export, questions, tmp_path / "a.jsonl").abstained.get("failed", 0) == 0
