"""`aot calibrate` on a small trained run: new questions, an honest confidence, and a promise or what it would take."""

import json
from pathlib import Path

import pytest

from aot import load_student
from aot.answer_records import AnswerRow
from aot.cli import app
from aot.config import load_config
from aot.errors import ConfigError, RunError, SourceError
from aot.files.run_folder import RunFolder, read_rows
from aot.pipeline import run_stages
from aot.pipeline.student.calibrate import Wanted, calibrate_run, calibration_lines
from aot.pipeline.student.export import arm_of
from aot.records import Prediction, Question
from aot.review.rows import ReviewBook
from aot.review_records import AskedQuestion, ReviewRow
from aot.served_records import ServedCalibration, StudentContract
from aot.serving.cascade.calibrate import calibrate, judge
from aot.serving.contract import publish_contract, read_contract

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "text" / "tiny_math_tiny.yaml"
COMMAND = ["aot", "calibrate"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of maths problems with one arm that answers at once, hardly trained."""
    folder = tmp_path_factory.mktemp("calibrate") / "run"
    settings = (
        "data.math={train: 24, test: 8, test_ood: 2}", "train.arms=[{name: quick, order: answers_only}]",
        "train.max_steps=2", "train.save_steps=2", "train.adaptive={}", "train.own_chains={}", f"run.dir={folder}",
    )  # fmt: skip
    config = load_config(CONFIG, overrides=settings)
    return run_stages(config, config_path=CONFIG, command=["aot"], stages=("prepare", "generate", "filter", "train"))[0]


def question(i: int, *, answer: str = "7", kind: str = "sum") -> Question:
    return Question(
        id=f"q{i}", dataset="d", split="calibration", kind=kind, text=f"What is 3 + 4 ({i})?", answer=answer,
        answer_type="integer", group=f"g{i}",
    )  # fmt: skip


def prediction(i: int, answer: str | None, **more: object) -> Prediction:
    fields = {"question_id": f"q{i}", "arm": "a", "mode": "direct", "raw_text": answer or "", "answer": answer}
    return Prediction.model_validate({**fields, "finish_reason": "stop", **more})


def test_a_trained_arm_is_calibrated_on_new_questions_and_its_export_told(
    trained: RunFolder, text_export: Path, tmp_path: Path
) -> None:
    export = tmp_path / "export"
    export.mkdir()
    for path in text_export.iterdir():
        (export / path.name).write_bytes(path.read_bytes())
    publish_contract(export, read_contract(export).model_copy(update={"arm": "quick"}))
    wanted = Wanted(targets=(0.05, 0.2), count=60)
    made = calibrate_run(trained.root, None, wanted, export=export, command=COMMAND)
    stored = ServedCalibration.model_validate_json(trained.calibration.read_bytes())
    told: StudentContract = read_contract(export)
    assert stored == made == told.calibration and made.n == 60
    new = list(read_rows(trained.calibrating.questions, Question))
    run_texts = {one.text for one in read_rows(trained.questions, Question)}
    assert {one.split for one in new} == {"calibration"} and run_texts.isdisjoint(one.text for one in new)
    assert [row.target for row in made.thresholds] == [0.05, 0.2] and made.watch("direct") is not None
    row = made.threshold("direct", target=0.05)
    assert row and row.threshold is None and row.n < 60
    said = read_rows(trained.calibrating.predictions_of("quick", "direct"), Prediction)
    with load_student(export) as student:  # what is served is what was calibrated
        for one, before in zip(new[:8], said, strict=False):
            served = student.ask(one.text, kind=one.kind, mode="direct")
            confidence = judge(one, before).confidence(made.temperature(one.kind, "direct"))
            assert served.answer == before.answer
            if confidence >= 0:  # an answer that is no number has none in a calibration
                assert served.confidence == pytest.approx(confidence, abs=1e-5)
    lines = calibration_lines(made)
    assert sum("nothing can be promised from n=" in line and "must be escalated" in line for line in lines) == 2


def test_an_export_of_another_arm_is_refused_before_any_work(trained: RunFolder, text_export: Path) -> None:
    with pytest.raises(RunError, match="is an export of the arm 'base', not of 'quick'"):
        calibrate_run(trained.root, "quick", Wanted(), export=text_export, command=COMMAND)
    with pytest.raises(ConfigError, match="has no arm 'slow'; it has quick, base"):
        calibrate_run(trained.root, "slow", Wanted(), command=COMMAND)
    with pytest.raises(RunError, match="name one that was"):
        calibrate_run(trained.root, "base", Wanted(), command=COMMAND)


def test_without_an_arm_the_one_is_taken_that_an_export_would_take(
    trained: RunFolder, text_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aot.pipeline.student import calibrate as work

    chosen = arm_of(trained.root, None)
    asked: list[str | None] = []
    monkeypatch.setattr(work, "arm_of", lambda root, name: asked.append(name) or arm_of(root, name))
    with pytest.raises(RunError, match=f"not of '{chosen}'"):
        calibrate_run(trained.root, None, Wanted(), export=text_export, command=COMMAND)
    assert asked == [None]


def test_too_few_questions_are_refused_with_the_number_that_it_takes(trained: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "few.jsonl"
    path.write_text("".join(question(i).model_dump_json() + "\n" for i in range(5)))
    with pytest.raises(SourceError, match=r"5 questions \(questions of few.jsonl\), at least 20 are needed.*about 79"):
        calibrate_run(trained.root, "quick", Wanted(questions=path), command=COMMAND)


def test_rows_that_cannot_be_used_are_counted_by_their_reasons(trained: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    row = '{"id": "a", "question": "What is 3 + 4?", "answer": ""}'
    path.write_text(f"{row}\n{{broken\n{row}\n")
    wanted = Wanted(questions=path)
    with pytest.raises(SourceError, match=r"none of the 3 rows can be used: empty 2, broken_json 1; first bad.jsonl:1"):
        calibrate_run(trained.root, "quick", wanted, command=COMMAND)
    path.write_text("{broken\n[]\n")
    with pytest.raises(SourceError, match=r"no usable question among 2 rows .*broken_json 2.*bad.jsonl:1"):
        calibrate_run(trained.root, "quick", wanted, command=COMMAND)
    good = "".join(question(i).model_dump_json() + "\n" for i in range(5))
    path.write_text(good + "{broken\n")
    with pytest.raises(SourceError, match=r"has 5 questions .*broken_json 1.*give a file of more questions"):
        calibrate_run(trained.root, "quick", wanted, command=COMMAND)


def test_too_few_drawn_questions_are_mended_by_drawing_more(trained: RunFolder) -> None:
    with pytest.raises(SourceError, match=r"has 5 questions .* are needed.*about 79; raise --count"):
        calibrate_run(trained.root, "quick", Wanted(count=5), command=COMMAND)


@pytest.mark.parametrize(("option", "example"), [("--confidence", "such as 0.95"), ("--target", "such as 0.05")])
def test_a_number_out_of_range_is_told_with_an_example_of_its_option(option: str, example: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} 1 must lie between 0 and 1, {example}"):
        app(["calibrate", "RUN", option, "1"], standalone_mode=False)


def test_questions_that_the_run_has_too_are_left_out(trained: RunFolder, tmp_path: Path) -> None:
    path = tmp_path / "same.jsonl"
    path.write_bytes(trained.questions.read_bytes())
    with pytest.raises(SourceError, match="calibration has 0 questions"):
        calibrate_run(trained.root, "quick", Wanted(questions=path), command=COMMAND)


def test_a_split_too_small_for_the_target_says_so_in_a_sentence() -> None:
    rows = [(question(i), prediction(i, "7", token_ids=(1,), token_logprobs=(-0.001 * i,))) for i in range(40)]
    made = calibrate({"direct": rows}, words=(), targets=(0.05,), confidence=0.95, seed=0, source="these")
    (row,) = made.thresholds
    assert row.threshold is None and row.errors == 0 and row.missing > 30
    assert f"at least {row.missing} more calibration questions are needed" in calibration_lines(made)[-1]


def test_only_answers_with_a_probability_can_stay() -> None:
    right = judge(question(0), prediction(0, "7", token_ids=(1, 2), token_logprobs=(-0.2, -0.1)))
    assert right.right and right.confidence(1.0) == pytest.approx(0.7408, abs=1e-4)
    cut = judge(question(0), prediction(0, "7", token_ids=(1,), token_logprobs=(-0.1,), finish_reason="length"))
    silent = judge(question(0), prediction(0, None))
    assert cut.confidence(1.0) == silent.confidence(1.0) == -1


def test_the_big_model_is_agreed_with_by_value_and_never_where_it_is_silent() -> None:
    said = prediction(0, "7", token_ids=(1,), token_logprobs=(-0.1,))
    assert judge(question(0, answer="8"), said, prediction(0, "7.0")).disagrees is False
    assert judge(question(0), said, prediction(0, "8")).disagrees is True
    assert judge(question(0), said, prediction(0, None)).disagrees is True
    assert judge(question(0), said).disagrees is None
    assert judge(question(0), said, prediction(0, "about a dozen")).disagrees is True  # which is no integer


def test_thresholds_for_disagreement_come_with_the_answers_of_the_big_model() -> None:
    rows = [(question(i), prediction(i, "7", token_ids=(1,), token_logprobs=(-0.001 * i - 0.01,))) for i in range(400)]
    big = {f"q{i}": prediction(i, "7" if i % 50 else "8") for i in range(400)}
    made = calibrate({"direct": rows}, words=(), targets=(0.1,), confidence=0.95, seed=0, source="drawn here", big=big)
    wrong, other = made.thresholds
    assert (wrong.loss, wrong.errors) == ("wrong", 0) and wrong.threshold is not None
    assert other.loss == "disagrees" and other.errors > 0 and other.upper <= 0.1
    assert made.threshold("direct", target=0.1, loss="disagrees") == other
    assert json.loads(made.model_dump_json())["n"] == 400


def test_a_file_of_the_big_models_answers_gives_thresholds_for_disagreement(
    trained: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked, big = tmp_path / "asked.jsonl", tmp_path / "big.jsonl"
    asked.write_text("".join(question(i).model_dump_json() + "\n" for i in range(40)))
    wanted = Wanted(targets=(0.2,), questions=asked, against=big)
    big.write_text("".join(json.dumps({"id": f"q{i}", "prediction": "7"}) + "\n" for i in range(38)))
    by_file = calibrate_run(trained.root, "quick", wanted, command=COMMAND)
    assert [row.loss for row in by_file.thresholds] == ["wrong", "disagrees"]
    assert by_file.thresholds[1].n <= by_file.thresholds[0].n
    assert "has no answer to 2 questions" in caplog.text
    served = [AnswerRow(question_id=f"q{i}", question_digest="", mode="direct", answer="7") for i in range(40)]
    big.write_text("".join(row.model_dump_json() + "\n" for row in served))
    by_student = calibrate_run(trained.root, "quick", wanted, command=COMMAND)
    kept = [row.id for row in read_rows(trained.calibrating.questions, Question)]
    big.write_text("".join(json.dumps({"id": name, "prediction": "7"}) + "\n" for name in kept))
    by_folder = calibrate_run(trained.root, "quick", wanted, command=COMMAND)
    assert by_student.thresholds == by_folder.thresholds
    wrong, disagrees = by_student.thresholds  # every gold answer is 7, so both mean the same here
    assert (wrong.n, wrong.base_risk) == (disagrees.n, disagrees.base_risk)


def test_answers_to_other_questions_are_refused_before_the_student_is_asked(
    trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aot.pipeline.student import calibrate as work

    asked, big = tmp_path / "asked.jsonl", tmp_path / "big.jsonl"
    asked.write_text("".join(question(i).model_dump_json() + "\n" for i in range(40)))
    big.write_text('{"id": "elsewhere", "prediction": "7"}\n')
    monkeypatch.setattr(work, "answer_all", lambda *_, **__: pytest.fail("the student was asked"))
    with pytest.raises(SourceError, match=r"no prediction in .*big\.jsonl is about a question of d: its ids are 'else"):
        calibrate_run(trained.root, "quick", Wanted(questions=asked, against=big), command=COMMAND)


def test_answers_that_people_labelled_are_calibrated_on_and_can_be_left_out(trained: RunFolder) -> None:
    book = ReviewBook(trained)
    for i in range(12):
        asked = AskedQuestion(text=f"Ann has {20 + i} eggs and gives 7 away. How many are left?", kind="sum")
        right = i % 3 > 0
        book.note(ReviewRow(
            subject="served", item=f"r{i}", digest="d", reviewer="ann", time_s=0, answer=f"So 13. Answer: {13 + i}",
            verdict="approved" if right else "corrected", correction="" if right else str(90 + i), question=asked,
        ))  # fmt: skip
    book.close()
    without = calibrate_run(trained.root, None, Wanted(targets=(0.2,), count=24, reviewed=False), command=COMMAND)
    made = calibrate_run(trained.root, None, Wanted(targets=(0.2,), count=24), command=COMMAND)
    assert made.n == without.n + 12 and "and 12 questions that people labelled in aot review" in made.source
    golds = {one.id: one.answer for one in read_rows(trained.calibrating.questions, Question)}
    assert golds["calibration/reviewed/r1"] == "14" and golds["calibration/reviewed/r3"] == "93"
