"""Anybody's predictions, graded: the forms they come in, what is counted and told, the numbers of official scripts."""

import csv
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from aot.config import RunConfig, parse_config
from aot.errors import AotError, SourceError
from aot.pipeline.commands.score import score_file, score_lines
from aot.records import MediaRef, Prediction, Question
from aot.run_records import Scores

NEXTQA = Path(__file__).resolve().parents[3] / "shared" / "data" / "annotations" / "nextqa_sample.csv"
HEADER = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
ROWS = (
    "11,1,2,3,why,0,0,CW,hug,Hug,sit,run,cry",  # two options that only the index tells apart
    "11,1,2,3,what,1,1,TN,hug,Hug,sit,run,cry",
    "11,1,2,3,what,4,2,TP,one,two,three,four,five",
    "12,1,2,3,where,2,0,DL,park,pool,room,hall,yard",
)
RIGHT = {"11_0": 0, "11_1": 1, "11_2": 4, "12_0": 2}


def nextqa(folder: Path, *rows: str) -> RunConfig:
    (folder / "val.csv").write_text("\n".join((HEADER, *(rows or ROWS))) + "\n")
    return of("nextqa", folder / "val.csv")


def of(dataset: str, test: Path) -> RunConfig:
    return parse_config({"data": {"dataset": dataset, "annotated": {"test": str(test)}}}, source="test")


def accuracies(found: Scores) -> dict[str, tuple[float, int]]:
    return {row.kind: (round(100 * row.value, 2), row.n) for row in found.rows if row.metric == "accuracy"}


def graded(folder: Path, content: object, *, name: str = "p.json") -> Scores:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return score_file(path, config=nextqa(folder))


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


TEXTS = {"11_0": "A", "11_1": "(B)", "11_2": "five", "12_0": "C. room"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.json", {key: {"prediction": place, "answer": place} for key, place in RIGHT.items()}),
        ("p.json", RIGHT),
        ("p.json", {key: str(place) for key, place in RIGHT.items()}),
        ("p.json", {key: float(place) for key, place in RIGHT.items()}),
        ("p.json", {key.replace("_", "-"): place for key, place in RIGHT.items()}),
        ("p.json", {"predictions": RIGHT}),
        ("p.json", {"results": [{"id": key, "pred": place} for key, place in RIGHT.items()]}),
        ("p.json", TEXTS),
        ("p.json", {key: f"Because of that.\nAnswer: {text}" for key, text in TEXTS.items()}),
        ("p.json", [{"question_id": key, "answer": text} for key, text in TEXTS.items()]),
        ("p.json", lines([{"id": key, "output": text} for key, text in TEXTS.items()])),
        ("p.jsonl", lines([{"video": int(k[:2]), "qid": int(k[3:]), "prediction": p} for k, p in RIGHT.items()])),
        ("p.csv", "Video,QID,Prediction,Answer\n11,0,0,0\n11,1,1,1\n11,2,4,4\n12,0,2,2\n"),
        ("p.csv", "id,prediction\n11_0,A\n11_1,B\n11_2,five\n12_0,C\n"),
        ("p.csv", "id,pred\n11_0,0.0\n11_1,1.0\n11_2,4.0\n12_0,2.0\n"),
    ],
)
def test_predictions_are_read_in_the_forms_people_have(tmp_path: Path, name: str, content: object) -> None:
    found = graded(tmp_path, content, name=name)
    assert accuracies(found)["all"] == (100.0, 4) and (found.problems, found.exit_code) == ({}, 0)


def test_the_wrong_one_of_two_options_with_the_same_text_is_wrong(tmp_path: Path) -> None:
    found = accuracies(graded(tmp_path, {**RIGHT, "11_0": 1, "11_1": 0}))
    assert found["all"] == (50.0, 4) and found["CW"] == (0.0, 1)


def test_nextqas_own_groups_are_reported(tmp_path: Path) -> None:
    found = accuracies(graded(tmp_path, {**RIGHT, "11_2": 0}))
    assert (found["C"], found["T"], found["TN+TP"], found["D"]) == ((100, 1), (50, 2), (50, 2), (100, 1))


@pytest.mark.skipif(not NEXTQA.is_file(), reason=f"no sample of NExT-QA in {NEXTQA}")
def test_nextqa_numbers_are_those_of_its_official_script(tmp_path: Path) -> None:
    with NEXTQA.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    draw = random.Random(0)
    golds = {f"{row['video']}_{row['qid']}": int(row["answer"]) for row in rows}
    said = {key: (draw.choice([gold, draw.randrange(5)]), gold) for key, gold in golds.items()}
    path = tmp_path / "HGA-val.json"
    path.write_text(json.dumps({key: {"prediction": pred, "answer": gold} for key, (pred, gold) in said.items()}))
    right, n = Counter[str](), Counter[str]()
    for row in rows:  # as eval_mc.py counts: TP is counted as TN, groups by the first letter, all rows
        kind = "TN" if row["type"] == "TP" else row["type"]
        pred, gold = said[f"{row['video']}_{row['qid']}"]
        for name in ("TN+TP" if kind == "TN" else kind, kind[0], "all"):
            right[name] += pred == gold
            n[name] += 1
    found = accuracies(score_file(path, config=of("nextqa", NEXTQA)))
    assert {name: found[name] for name in n} == {name: (round(100 * right[name] / n[name], 2), n[name]) for name in n}
    assert n["all"] == 300


def test_missing_doubled_and_unknown_rows_are_counted_and_told_and_missing_ones_are_wrong(tmp_path: Path) -> None:
    rows = [
        {"id": "11_0", "prediction": 0}, {"id": "11_0", "prediction": 3}, {"id": "11_1", "prediction": 1},
        {"id": "99_9", "prediction": 1}, {"id": "12_0"}, {"prediction": 2}, 7,
    ]  # fmt: skip
    found = graded(tmp_path, rows)
    expected = {"doubled": 1, "missing": 2, "no_id": 1, "no_prediction": 2, "unknown": 1}
    assert (found.problems, found.exit_code, found.predictions) == (expected, 3, 7)
    assert accuracies(found)["all"] == (50.0, 4) and accuracies(found)["D"] == (0.0, 1)
    told = "\n".join(score_lines(found))
    assert "doubled 1, missing 2" in told and "no question has the id '99_9'" in told and "'11-2', '12-0'" in told


def test_an_id_that_stands_twice_in_an_object_is_doubled(tmp_path: Path) -> None:
    found = graded(tmp_path, '{"11_0": 0, "11_0": 3, "11_1": 1, "11_2": 4, "12_0": 2}')
    assert found.problems == {"doubled": 1} and accuracies(found)["all"] == (100.0, 4)


def test_a_bad_byte_loses_its_row(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(b"id,prediction\n11_0,A\n11_1,caf\xe9\n11_2,E\n12_0,C\n")
    found = score_file(tmp_path / "p.csv", config=nextqa(tmp_path))
    assert found.problems == {"missing": 1, "not_utf8": 1} and accuracies(found)["all"] == (75.0, 4)


@pytest.mark.parametrize(
    "row", ['"11_1": "\\ud800"', '"\\ud800": 1', '"11_1": {"prediction": "\\udc80"}', '"11_1": {"\\ud800": 1}']
)
def test_half_a_character_loses_its_row(tmp_path: Path, row: str) -> None:
    found = graded(tmp_path, '{"11_0": "A", "11_2": "E", "12_0": "C", ' + row + "}")
    assert found.problems == {"missing": 1, "not_utf8": 1}


@pytest.mark.parametrize(
    "value", [[], {}, [1, 2, 3], {"a": 1}, True, -1, 1e308, 10**400, "x" * 20_000, "\x1b[2J", float("nan")]
)
def test_odd_predictions_are_wrong_and_stop_nobody(tmp_path: Path, value: object) -> None:
    found = graded(tmp_path, {**{key: "ABCDE"[place] for key, place in RIGHT.items()}, "11_1": value})
    assert accuracies(found)["all"] == (75.0, 4) and "\x1b" not in "".join(score_lines(found))


def test_what_says_nothing_is_no_answer_and_places_must_count_from_0(tmp_path: Path) -> None:
    found = graded(tmp_path, {"11_0": 1, "11_1": 2, "11_2": 5, "12_0": None})
    rates = {row.metric: row.value for row in found.rows if row.kind == "all"}
    assert (rates["accuracy"], rates["unparsable_rate"]) == (0.0, 0.5)
    assert any("count from 1" in note for note in found.notes)


@pytest.mark.parametrize(
    ("reason", "right"),
    [
        ({"finish_reason": "length"}, 75.0), ({"finish_reason": "MAX_TOKENS"}, 75.0),
        ({"stop_reason": "max_tokens"}, 75.0), ({"stop_reason": "model_length"}, 75.0),
        ({"finish_reason": "stop"}, 100.0), ({"finish_reason": "eos_token"}, 100.0), ({"finish_reason": None}, 100.0),
        ({"finish_reason": ["length"]}, 100.0), ({}, 100.0),
    ],
)  # fmt: skip
def test_a_reply_that_its_server_cut_off_is_no_answer(tmp_path: Path, reason: dict[str, object], right: float) -> None:
    rows = [{"id": key, "output": text} for key, text in TEXTS.items()]
    found = graded(tmp_path, lines([{**rows[0], **reason}, *rows[1:]]), name="p.jsonl")
    assert accuracies(found)["all"] == (right, 4)


def test_another_right_answer_in_the_file_is_told(tmp_path: Path) -> None:
    found = graded(tmp_path, {key: {"prediction": place, "answer": 3} for key, place in RIGHT.items()})
    assert any("another right answer than in the annotations: 4 rows" in note for note in found.notes)
    assert found.exit_code == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"99_9": 1}, "those of the questions '11-0'"),
        ("{broken", "not JSON"),
        ("3", "holds no predictions"),
        ([], "holds no row"),
        ([{"text": "A"}], "no_id"),
    ],
)
def test_a_file_without_any_prediction_is_told(tmp_path: Path, content: object, told: str) -> None:
    with pytest.raises(AotError, match=told):
        graded(tmp_path, content)


def test_a_column_of_predictions_that_is_named_twice_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="names the column 'answer' twice"):
        graded(tmp_path, "id,answer,answer\n11_0,A,B\n", name="p.csv")
    with pytest.raises(SourceError, match="differ only in case"):
        graded(tmp_path, "id,answer,Answer\n11_0,A,B\n", name="p.csv")


def test_a_missing_file_and_a_missing_source_of_questions_are_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no file .*nowhere\.json"):
        score_file(tmp_path / "nowhere.json", config=nextqa(tmp_path))
    with pytest.raises(SourceError, match="either --config CONFIG or --questions FILE"):
        score_file(tmp_path / "nowhere.json")


def asked(number: int, *, split: str = "test", **more: object) -> Question:
    row = {
        "id": f"q{number}", "dataset": "d", "split": split, "kind": "when", "text": "?", "answer": "1.0s-3.0s",
        "answer_type": "span", "media": MediaRef(uri=f"c{number}.mp4"), "group": f"c{number}", **more,
    }  # fmt: skip
    return Question.model_validate(row)


def write(path: Path, *rows: Question | Prediction) -> Path:
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return path


def test_a_runs_own_questions_and_predictions_can_be_graded_again(tmp_path: Path) -> None:
    questions = write(tmp_path / "questions.jsonl", asked(1), asked(2), asked(3, split="train"))
    said = [
        Prediction(question_id=f"q{n}", arm="base", mode=mode, raw_text="x", answer=answer)
        for n, mode, answer in ((1, "direct", "1.0s-3.0s"), (2, "direct", "8.0s-9.0s"), (1, "reason", "1.0s-2.9s"))
    ]
    found = score_file(write(tmp_path / "p.jsonl", *said), questions=questions)
    rows = {(row.mode, row.metric): row.value for row in found.rows if row.kind == "all"}
    assert (rows["direct", "accuracy"], rows["reason", "accuracy"]) == (0.5, 0.5)
    assert found.questions == {"test": 2} and found.problems == {"missing": 1}


@pytest.mark.parametrize("value", [[1.0, 3.0], "1.0s-3.0s", "It happens late.\nAnswer: 1.0s-3.0s"])
def test_answers_of_other_types_are_read_as_a_student_would_say_them(tmp_path: Path, value: object) -> None:
    questions = write(tmp_path / "questions.jsonl", asked(1), asked(2, kind="count", answer="2", answer_type="integer"))
    (tmp_path / "p.json").write_text(json.dumps({"q1": value, "q2": 2}))
    assert accuracies(score_file(tmp_path / "p.json", questions=questions))["all"] == (100.0, 2)


def test_own_questions_need_no_clip(tmp_path: Path) -> None:
    row = {"id": "a", "video": "nowhere.mp4", "question": "How many?", "answer": "two", "kind": "count"}
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n" + json.dumps({**row, "id": "b", "answer": "some"}) + "\n")
    (tmp_path / "p.json").write_text('{"a": 2}')
    data = {"dataset": "plain", "root": str(tmp_path), "questions": "q.jsonl"}
    config = parse_config({"data": data}, source="test")
    for found in (
        score_file(tmp_path / "p.json", config=config),
        score_file(tmp_path / "p.json", questions=tmp_path / "q.jsonl"),
    ):
        assert accuracies(found)["all"] == (100.0, 1) and (found.refused, found.exit_code) == ({"bad_answer": 1}, 3)


def test_text_is_scored_too(tmp_path: Path) -> None:
    splits = {1: "test", 2: "test", 3: "train"}
    rows = [{"question": f"{n} plus 1?", "answer": str(n + 1), "id": f"t{n}", "split": splits[n]} for n in splits]
    (tmp_path / "t.jsonl").write_text(lines(rows))
    (tmp_path / "p.json").write_text(json.dumps({"t1": 2, "t2": "2 + 1 = 3\nAnswer: 3", "t3": 1}))
    raw = {"data": {"dataset": "text_jsonl", "files": {"train": str(tmp_path / "t.jsonl")}}}
    raw |= {"teacher": {"planner": "given"}, "student": {"base": "tiny-text"}}
    config = parse_config({**raw, "train": {"arms": [{"name": "a", "order": "pre"}]}}, source="test")
    found = score_file(tmp_path / "p.json", config=config)
    assert accuracies(found)["all"] == (100.0, 2)
    assert any("1 prediction about questions of other splits: not scored" in note for note in found.notes)


def test_star_has_the_mean_of_its_kinds_and_egoplan_the_numbers_of_its_samples(tmp_path: Path) -> None:
    def star(kind: str, number: int) -> dict[str, object]:
        choices = [{"choice_id": n, "choice": text} for n, text in enumerate(("The cup.", "The bag."))]
        return {
            "question_id": f"{kind}_T1_{number}", "question": "Which?", "answer": "The cup.", "video_id": "6H78U",
            "start": 1.0, "end": 2.0, "choices": choices,
        }  # fmt: skip

    (tmp_path / "s.json").write_text(json.dumps([star("Sequence", 1), star("Sequence", 2), star("Prediction", 1)]))
    (tmp_path / "p.json").write_text('{"Sequence_T1_1": 0, "Sequence_T1_2": 1, "Prediction_T1_1": 0}')
    found = score_file(tmp_path / "p.json", config=of("star", tmp_path / "s.json"))
    assert [round(row.value, 3) for row in found.rows if row.metric == "mean_of_kinds"] == [0.75]
    row = {"sample_id": 7, "video_id": "P01_01", "question": "?", "golden_choice_idx": "B", "answer": "b b"}
    row |= {f"choice_{letter}": f"{letter} {letter}" for letter in "abcd"} | {"current_observation_frame": 600}
    (tmp_path / "e.json").write_text(json.dumps([row]))
    (tmp_path / "p.jsonl").write_text('{"sample_id": 7, "pred": "B"}\n')
    found = score_file(tmp_path / "p.jsonl", config=of("egoplan", tmp_path / "e.json"))
    assert accuracies(found)["all"] == (100.0, 1)
