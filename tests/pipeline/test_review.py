"""What people say in `aot review` changes the next filter, the next advice and the report, as docs/review.md says."""

import json
import logging
from pathlib import Path

import pytest

from aot.config import load_config
from aot.files.run_folder import RunFolder, read_rows, read_run_json, set_stage
from aot.filtering.chain import FunnelCounter, Judged
from aot.pipeline import run_stages
from aot.pipeline.student.retrain import Sources, advise
from aot.pipeline.student.review import Wanted, choose
from aot.records import Question, Trace, Verdict
from aot.reporting.load import load_run
from aot.reporting.sections.review import SECTION
from aot.review.overruling import People
from aot.review.rows import ReviewBook, asked_question, trace_digest, trace_item
from aot.review_records import AskedQuestion, ReviewRow, Said
from aot.run_records import Funnel, PlantedFault

CONFIG = Path(__file__).parents[2] / "configs" / "text" / "tiny_math_tiny.yaml"


def filtered(root: Path, *more: str) -> RunFolder:
    """A small run of maths problems after its filter stage, or after another one with what people said since."""
    settings = ("data.math={train: 24, test: 4, test_ood: 2}", "filter.min_kept=1", f"run.dir={root}", *more)
    config = load_config(CONFIG, overrides=settings)
    stages = ("filter",) if (root / "funnel.json").exists() else ("prepare", "generate", "filter")
    return run_stages(config, config_path=CONFIG, command=["aot"], stages=stages)[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return filtered(tmp_path_factory.mktemp("review") / "run")


@pytest.fixture
def run(made: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy, so that each test says something else."""
    import shutil

    shutil.copytree(made.root, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def say(run: RunFolder, item: str, verdict: Said, *, by: str = "ann", digest: str = "", correction: str = "") -> None:
    shown = {one.id: one for one in choose(run.root, Wanted(most=10_000)).items}[item]
    book = ReviewBook(run)
    book.note(ReviewRow(
        subject="trace", item=item, digest=digest or shown.digest, reviewer=by, time_s=0, verdict=verdict,
        correction=correction, answer=shown.answer, question=shown.question,
    ))  # fmt: skip
    book.close()


def served(run: RunFolder, item: str, verdict: Said, *, text: str, answer: str, correction: str = "") -> None:
    book = ReviewBook(run)
    book.note(ReviewRow(
        subject="served", item=item, digest=item, reviewer="ann", time_s=0, verdict=verdict, correction=correction,
        answer=answer, question=AskedQuestion(text=text, kind="sum"),
    ))  # fmt: skip
    book.close()


def keys(path: Path) -> set[str]:
    return {trace_item(one.question_id, one.sample_index) for one in read_rows(path, Trace)}


def dropped_by(run: RunFolder, names: set[str]) -> str:
    """A trace that only these filters drop."""
    against: dict[str, set[str]] = {}
    for row in read_rows(run.verdicts, Verdict):
        if not row.keep:
            against.setdefault(trace_item(row.question_id, row.sample_index), set()).add(row.filter)
    return next(item for item, filters in against.items() if filters <= names)


def test_a_rejected_trace_is_dropped_by_the_next_filter_and_an_approved_one_kept(run: RunFolder) -> None:
    good, bad = min(keys(run.kept)), dropped_by(run, {"steps", "flow"})
    before = Funnel.model_validate_json(run.funnel.read_text())
    say(run, good, "rejected")
    say(run, bad, "approved")
    say(run, max(keys(run.kept)), "rejected", digest="old")
    filtered(run.root)
    after = Funnel.model_validate_json(run.funnel.read_text())
    assert good in keys(run.dropped) and bad in keys(run.kept) and before.kept == after.kept
    assert next(one for one in after.reasons if one.filter == "person").reason == "rejected_by_person"
    assert after.review is not None and before.review is None
    assert (after.review.approved, after.review.rejected, after.review.overruled, after.review.stale) == (1, 1, 1, 1)
    overruled = [row for row in read_rows(run.verdicts, Verdict) if row.reason == "overruled_by_person"]
    assert overruled and all(row.keep and row.detail for row in overruled)
    assert after.faults == before.faults  # filters are measured by what they said, and not by what people made of it


def approved(*against: str) -> tuple[People, Judged]:
    """A trace that these filters drop and a person approved."""
    question = Question(
        id="q", dataset="d", split="train", kind="sum", text="3 + 4?", answer="7", answer_type="integer", group="g"
    )
    trace = Trace(question_id="q", sample_index=0, teacher="t", answer="7", status="ok", config_digest="c")
    row = ReviewRow(subject="trace", item="q#0", reviewer="ann", time_s=1, digest=trace_digest(question, trace),
                    verdict="approved", answer="7", question=asked_question(question))  # fmt: skip
    people = People([row], digest_of=lambda one: trace_digest(question, one))
    said = tuple(Verdict(question_id="q", sample_index=0, filter=name, keep=False, reason="bad") for name in against)
    return people, Judged(trace, people.settle(trace, said))


@pytest.mark.parametrize("name", ["status", "answer_correct", "cut_off", "structure", "length", "leakage"])
def test_an_approval_does_not_keep_what_a_person_cannot_mend_or_see(name: str) -> None:
    assert not approved(name, "flow")[1].keep and approved("steps", "flow")[1].keep


def test_a_correction_drops_the_trace_and_the_strictest_of_two_reviewers_counts(run: RunFolder) -> None:
    first, second = sorted(keys(run.kept))[:2]
    say(run, first, "corrected", correction="999")
    say(run, second, "approved")
    say(run, second, "rejected", by="bo")
    filtered(run.root)
    reasons = {row.reason for row in read_rows(run.verdicts, Verdict) if row.filter == "person"}
    review = Funnel.model_validate_json(run.funnel.read_text()).review
    assert {first, second} <= keys(run.dropped) and reasons == {"corrected_by_person", "rejected_by_person"}
    assert review is not None and review.disagreements == 1


def test_filter_does_nothing_again_without_a_new_verdict_and_without_any_nothing_differs(run: RunFolder) -> None:
    before = run.verdicts.read_bytes()
    say(run, min(keys(run.kept)), "rejected")
    filtered(run.root)
    noted = read_run_json(run)["stages"]["filter"]
    filtered(run.root)
    assert read_run_json(run)["stages"]["filter"]["started_s"] == noted["started_s"]
    (part,) = run.reviews.iterdir()
    part.unlink()
    filtered(run.root)
    assert run.verdicts.read_bytes() == before and "review" not in json.loads(run.funnel.read_text())


def test_after_a_training_the_run_stays_and_says_where_to_filter_again(
    run: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = min(keys(run.kept))
    say(run, good, "rejected")
    set_stage(run, "train", "running")
    with caplog.at_level(logging.WARNING):
        filtered(run.root)
    assert good in keys(run.kept) and "run.reuse=" in caplog.text
    new = filtered(tmp_path / "new", f"run.reuse={run.root}")
    assert good in keys(new.dropped)


def test_rejected_and_corrected_ones_are_advised_with_the_answer_that_counts(run: RunFolder, tmp_path: Path) -> None:
    first, second, third = sorted(keys(run.kept))[:3]
    say(run, first, "rejected")
    say(run, second, "corrected", correction="999")
    say(run, third, "approved")
    served(run, "a", "corrected", text="What is 24 + 13?", answer="36", correction="37")
    served(run, "b", "rejected", text="What is 2 + 1?", answer="4")
    served(run, "c", "approved", text="What is 2 + 2?", answer="4")
    advice, _ = advise(run.root, Sources(), tmp_path / "new.jsonl")
    questions = {one.id: one for one in read_rows(run.questions, Question)}
    golds = {row["id"]: row["answer"] for row in advice.labelled}
    assert golds == {first.rpartition("#")[0]: questions[first.rpartition("#")[0]].answer,
                     second.rpartition("#")[0]: "999", "served/a": "37"}  # fmt: skip
    assert [row["id"] for row in advice.unlabelled] == ["served/b"]
    assert advice.reasons["a person corrected the trace"] == advice.reasons["a person rejected the answer"] == 1


def test_the_report_says_what_people_said_and_only_where_somebody_did(run: RunFolder) -> None:
    config = load_config(CONFIG, overrides=(f"run.dir={run.root}",))
    assert not SECTION.applies(load_run(run, config))
    say(run, min(keys(run.kept)), "rejected")
    filtered(run.root)
    data = load_run(run, config)
    text = " ".join(block.text for block in SECTION.blocks(data))
    assert SECTION.applies(data) and "Krippendorff" in text and "dropped 1 trace and kept 0" in text


def test_a_planted_defect_that_a_person_approved_still_counts_as_caught() -> None:
    people, judged = approved("evidence")
    fault = PlantedFault.model_validate({"question_id": "q", "sample_index": 0, "fault": "invented_step"})
    counter = FunnelCounter(planted=[fault], overruled=people.overruled)
    counter.add(judged)
    funnel = counter.funnel()
    assert judged.keep and funnel.kept == 1 and funnel.faults is not None and funnel.faults.caught == 1
