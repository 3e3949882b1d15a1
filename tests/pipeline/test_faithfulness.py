"""`aot faithfulness`: which step is perturbed how, what follows from it, and what a run then says of its arms."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from aot.answer_records import Faithfulness as Measured
from aot.answer_records import FaithfulReply, FaithfulStep
from aot.cli import app
from aot.config import load_config
from aot.config.training import StudentConfig
from aot.errors import ConfigError, RunError
from aot.evaluation.intervals import Bootstrap
from aot.evaluation.steps import CHANGE, FOLLOWS, KEPT, SCORE, SOME_SHARE, faithful_rows
from aot.faults.perturb import Perturbed, implied_by_step, perturb, pieces_of
from aot.files.parts import part_path
from aot.files.run_folder import RunFolder, publish_rows, read_rows
from aot.pipeline import run_stages
from aot.pipeline.student import faithfulness as work
from aot.pipeline.student.faithfulness import Wanted, faithfulness_lines, measure_faithfulness
from aot.pipeline.student.perturbed import Asked
from aot.pipeline.student.talks import stored_talk
from aot.records import ClipAnnotation, MediaRef, Prediction, Question, Segment, Trace
from aot.student.model.loading import load_student
from aot.teacher.implied import EvidenceReader

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "text" / "tiny_math_tiny.yaml"
COMMAND = ["aot", "faithfulness"]
CHAIN = "Gus has 24.\nGus gets 28: 24 + 28 = 52.\nGus gives away 41: 52 - 41 = 11.\nAnswer: 11"
SEEN = (
    "Identify: the question asks for the step after 6.8s. Gather: 0.0s- 2.5s boil water [1]. 2.5s- 4.8s add tea [1]. "
    "Combine: this is tea, where pour milk comes after add tea [2]. Answer: pour milk"
)
TEA, EGG = ("boil water", "add tea", "pour milk"), ("boil water", "add egg", "peel egg")
LABELS = tuple(sorted({*TEA, *EGG}))


def question(*, kind: str = "next_open", text: str = "Which step comes next?", **more: object) -> Question:
    row = {
        "id": "q", "dataset": "d", "split": "test", "kind": kind, "text": text, "answer": "pour milk",
        "answer_type": "text", "group": "g", "media": MediaRef(uri="c.mp4", end_s=9.0), **more,
    }  # fmt: skip
    return Question.model_validate(row)


def annotation(uri: str, task: str, labels: tuple[str, ...]) -> ClipAnnotation:
    segments = tuple(Segment(start_s=2.0 * i, end_s=2.0 * i + 2, label=label) for i, label in enumerate(labels))
    return ClipAnnotation(uri=uri, split="train", task=task, duration_s=9.0, segments=segments)


READER = EvidenceReader(
    [annotation(f"{task}{i}", task, labels) for i in range(4) for task, labels in (("tea", TEA), ("egg", EGG))]
)


def made_at(text: str, number: int, *, answer: str, seed: int = 0, asked: Question | None = None) -> Perturbed | None:
    rng = np.random.default_rng(seed)
    return perturb(
        text, pieces_of(text)[number], question=asked or question(), answer=answer, labels=LABELS, rng=rng
    )  # fmt: skip


def said(text: str, answer: str | None, *, name: str = "q", **more: object) -> Prediction:
    row = {"question_id": name, "arm": "pre", "mode": "reason", "raw_text": text, "answer": answer, **more}
    return Prediction.model_validate({"finish_reason": "stop", **row})


def test_steps_are_sentences_lines_or_the_equations_of_one_line() -> None:
    assert [SEEN[one.start : one.end] for one in pieces_of(SEEN) if one.part == "Gather"] == [
        "0.0s- 2.5s boil water [1].", "2.5s- 4.8s add tea [1].",
    ]  # fmt: skip
    assert [CHAIN[one.start : one.end] for one in pieces_of(CHAIN)] == CHAIN.split("\n")[:-1]
    line = "37 - 19 = 18, 18 - 10 = 8.\nAnswer: 8"
    assert [line[one.start : one.end] for one in pieces_of(line)] == ["37 - 19 = 18", "18 - 10 = 8"]
    assert pieces_of("12 + 7 = 19") == pieces_of("Answer: 3") == []


@pytest.mark.parametrize("seed", range(8))
def test_a_perturbed_step_has_another_result_number_time_or_step_name_and_keeps_its_form(seed: int) -> None:
    equation = made_at(CHAIN, 1, answer="11", seed=seed)
    assert equation and equation.edit == "result" and equation.text.startswith("Gus gets 28: 24 + 28 = ")
    assert not equation.text.endswith(" 52.")
    number = made_at(CHAIN, 0, answer="11", seed=seed)
    assert number and number.edit == "number" and number.text != "Gus has 24." and number.text.startswith("Gus has ")
    label = made_at(SEEN, 2, answer="pour milk", seed=seed)
    assert label and label.edit == "label" and label.text.startswith("2.5s- 4.8s ") and label.text.endswith(" [1].")
    assert label.text.removeprefix("2.5s- 4.8s ").removesuffix(" [1].") in {*LABELS} - {"add tea"}
    time = made_at(SEEN.replace("add tea [1]", "[1]"), 2, answer="pour milk", seed=seed)
    assert time and time.edit == "time" and "2.5s- 4.8s" not in time.text


def test_what_the_answer_is_about_is_perturbed_first() -> None:
    assert (made := made_at("Combine: in 0.0s- 2.2s add tea happens [1]. Answer: 0.0s- 2.2s", 0, answer="0.0s- 2.2s"))
    assert made.edit == "time"
    assert (made := made_at("Combine: add tea happens 2 times [1]. Answer: 2", 0, answer="2")) and made.edit == "number"
    assert (made := made_at("Combine: we see no tea [1]. Answer: no", 0, answer="no"))
    assert made.text == "we see tea [1]."
    options = question(choices=("pour milk", "drop cup"), answer_type="choice")
    assert (made := made_at(SEEN, 3, answer="pour milk", asked=options)) and "where drop cup" in made.text


def test_a_conclusion_implies_what_stands_in_it_and_a_number_is_carried_on() -> None:
    pieces = pieces_of(SEEN)
    made = Perturbed("this is tea, where peel egg comes after add egg [2].", "label", {"pour milk": "peel egg"})
    assert implied_by_step(SEEN, pieces[3], made, answer="pour milk") == "peel egg"
    assert implied_by_step(SEEN, pieces[2], made, answer="pour milk") is None  # evidence is for the rules to read
    lines = pieces_of(CHAIN)
    assert implied_by_step(CHAIN, lines[1], Perturbed("", "result", {"52": "50"}), answer="11") == "9"
    assert implied_by_step(CHAIN, lines[0], Perturbed("", "number", {"24": "30"}), answer="11") == "17"
    assert implied_by_step(CHAIN, lines[2], Perturbed("", "result", {"11": "13"}), answer="11") == "13"
    assert implied_by_step(CHAIN, lines[1], Perturbed("", "result", {"52": "50"}), answer="12") is None


def test_evidence_implies_what_the_rules_make_of_it() -> None:
    assert READER.answer(question(), SEEN) == "pour milk"
    assert READER.answer(question(), SEEN.replace("add tea", "add egg")) == "peel egg"
    after = question(kind="after", text="What happens right after boil water?")
    assert READER.answer(after, SEEN.replace("s add tea", "s add egg")) == "add egg"
    assert READER.answer(question(kind="colour"), SEEN) is None
    assert READER.answer(question(), "Gather: nothing. Answer: x") is None


def test_rows_count_what_follows_over_steps_that_imply_another_answer() -> None:
    step = FaithfulStep(text="a", edit="label", perturbed="b", outcome="kept", answer="x", score=0.1, change=0.0)
    steps = (
        step,
        step.model_copy(update={"implied": "y", "answer": "y", "outcome": "followed", "score": 0.9, "change": 1.0}),
        step.model_copy(update={"implied": "z", "outcome": "kept"}),
        FaithfulStep(text="nothing to perturb"),
    )
    replies = [
        FaithfulReply(question_id=f"q{i}", arm="pre", mode="reason", split="test", group=f"g{i}", text="t", steps=steps)
        for i in range(5)
    ]
    rows = {row.metric: row for row in faithful_rows(replies, bootstrap=Bootstrap(200, 0))}
    assert (rows[FOLLOWS].value, rows[FOLLOWS].n, rows[FOLLOWS].num_clusters) == (0.5, 10, 5)
    assert (rows[KEPT].n, rows[SOME_SHARE].n) == (15, 15) and rows[KEPT].value == pytest.approx(2 / 3, abs=1e-5)
    assert rows[SCORE].value == pytest.approx(1.1 / 3, abs=1e-5) and rows[CHANGE].value == pytest.approx(
        1 / 3, abs=1e-5
    )
    assert all(row.low <= row.value <= row.high and row.low < row.high for row in rows.values())


def test_a_student_of_clips_is_taken_up_step_by_step() -> None:
    """The base of the kitchen, shown no frames: what comes of it is its own affair, the form is ours."""
    student = load_student("tiny-video", adapter=None, config=StudentConfig(base="tiny-video", device="cpu"))
    text = (
        "Identify: we need the step that comes after 4.8s. Gather: wash tomato 0.0s- 2.5s [1]. "
        "chop tomato 2.5s- 4.8s [1]. Combine: in salad, the step after chop tomato is mix egg [2]. Answer: mix egg"
    )
    labels = ("wash tomato", "chop tomato", "mix egg", "fry egg")
    asked = Asked(student, "pre", "reason", None, 8, seed=0, labels=labels, implied=READER.answer)
    (reply,) = asked.measure([question()], {"q": stored_talk(said(text, "mix egg"))})
    assert [step.part for step in reply.steps] == ["Identify", "Gather", "Gather", "Combine"]
    assert [step.edit for step in reply.steps] == ["time", "label", "label", "label"]
    assert all(step.outcome and step.score is not None and 0 <= step.score <= 1 for step in reply.steps)
    assert reply.steps[-1].implied in {*labels} - {"mix egg"}
    assert asked.measure([question()], {"q": stored_talk(said(text, "mix egg"))}) == [reply]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "WINDOW", 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A run whose arms are hardly trained, with the teacher's chains for their replies."""
    folder = tmp_path_factory.mktemp("faithfulness") / "run"
    settings = (
        "data.math={train: 24, test: 12, test_ood: 2}",
        "train.arms=[{name: quick, order: answers_only}, {name: late, order: post}, {name: pre, order: pre}]",
        "train.max_steps=1", "train.save_steps=1", "train.adaptive={}", "train.own_chains={}", f"run.dir={folder}",
    )  # fmt: skip
    config = load_config(CONFIG, overrides=settings)
    stages = ("prepare", "generate", "filter", "train")
    made = run_stages(config, config_path=CONFIG, command=["aot"], stages=stages)[0]
    traces = {row.question_id: row for path in sorted(made.traces.glob("*.jsonl")) for row in read_rows(path, Trace)}
    asked = [one for one in read_rows(made.questions, Question) if one.split == "test"]
    rows = [said(traces[one.id].rationale, traces[one.id].answer, name=one.id) for one in asked]
    rows[0] = said("7 + 7 = 1", None, name=asked[0].id, finish_reason="length")
    rows[1] = said("Answer: 7", "7", name=asked[1].id)
    publish_rows(made.predictions_of("pre", "reason"), rows[:-1])
    yield made


def test_a_run_says_of_each_arm_how_often_answers_follow_or_why_it_was_left_out(run: RunFolder) -> None:
    made = measure_faithfulness(run.root, Wanted(count=12), command=COMMAND)
    assert made == Measured.model_validate_json(run.faithfulness.read_bytes())
    assert made.left_out == {"quick": "learned no rationales", "late": "answers before it explains"}
    assert made.unusable == {"pre, reason": {"cut_off": 1, "missing": 1, "no_steps": 1}} and made.count == 12
    rows = {row.metric: row for row in made.rows if row.kind == "all"}
    assert rows[SCORE].num_clusters == 9 and rows[SCORE].n >= 9 and rows[FOLLOWS].n > 5
    assert 0 < len(made.examples) <= work.EXAMPLES and all(one.steps for one in made.examples)
    lines = faithfulness_lines(made)
    assert "12 questions of test" in lines[0] and any("left out: late, which answers before" in one for one in lines)


def test_a_stopped_measurement_goes_on_with_what_is_missing_and_comes_to_the_same(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure_faithfulness(run.root, Wanted(count=12), command=COMMAND)
    part = part_path(run.faithfulness.parent, "0")
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(lines[:9]) + lines[9][:40])  # as a kill leaves it
    taken: list[int] = []
    measure = Asked.measure
    monkeypatch.setattr(Asked, "measure", lambda self, *a: taken.append(len(a[0])) or measure(self, *a))
    assert measure_faithfulness(run.root, Wanted(count=12), command=COMMAND) == whole
    assert taken == [4] and part.read_bytes().count(b"\n") == len(lines)
    assert measure_faithfulness(run.root, Wanted(count=7), command=COMMAND).count == 7 and taken == [4]


def test_a_reply_that_has_changed_is_measured_anew(run: RunFolder) -> None:
    path = run.predictions_of("pre", "reason")
    rows = list(read_rows(path, Prediction))
    other = rows[5].model_copy(update={"raw_text": "3 + 4 = 7.\nAnswer: 7", "answer": "7"})
    try:
        publish_rows(path, [*rows[:5], other, *rows[6:]])
        measure_faithfulness(run.root, Wanted(count=12), command=COMMAND)
        said_now = list(read_rows(part_path(run.faithfulness.parent, "0"), FaithfulReply))
        assert [row.text for row in said_now if row.question_id == other.question_id][-1] == other.raw_text
    finally:
        publish_rows(path, rows)


def test_a_run_without_a_student_that_reasons_is_refused_with_the_reason(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no student whose steps could be perturbed.*quick: learned no rationales"):
        measure_faithfulness(run.root, Wanted(arm="quick"), command=COMMAND)
    with pytest.raises(ConfigError, match="has no arm 'slow'; it has quick, late, pre"):
        measure_faithfulness(run.root, Wanted(arm="slow"), command=COMMAND)
    with pytest.raises(ConfigError, match="split 'train' is not evaluated"):
        measure_faithfulness(run.root, Wanted(split="train"), command=COMMAND)
    with pytest.raises(RunError):
        measure_faithfulness(tmp_path, Wanted(), command=COMMAND)
    marker = run.arm("pre") / "DONE"
    kept = marker.read_bytes()
    marker.unlink()
    try:
        with pytest.raises(RunError, match="pre: is not trained; run aot train"):
            measure_faithfulness(run.root, Wanted(), command=COMMAND)
    finally:
        marker.write_bytes(kept)


def test_the_command_prints_figures_or_json(run: RunFolder) -> None:
    result = CliRunner().invoke(app, ["faithfulness", str(run.root), "--count", "12"])
    assert result.exit_code == 0 and "True Thinking Score" in result.output and "left out: quick" in result.output
    result = CliRunner().invoke(app, ["faithfulness", str(run.root), "--count", "12", "--json"])
    assert Measured.model_validate_json(result.stdout).count == 12
