"""What arms learn from kept rationales about clips: in which order, damaged or not, and that it is what is written."""

from pathlib import Path

import pytest

from aot.arms.lessons import Material, arm_lessons, read_material
from aot.arms.own_chains import shortest, verified_chains
from aot.config import RunConfig, parse_config
from aot.faults.damage import deleted, shuffled, wrong_content
from aot.files.run_folder import RunFolder, publish_rows
from aot.rationales.notation import parse_rationale
from aot.records import Finding, Lesson, MediaRef, Prediction, Question, Step, ToolCall, Trace, Verdict

STEPS = ("wash tomato", "chop tomato", "mix egg", "fry egg")


def question(index: int, answer: str = "pour egg") -> Question:
    return Question(
        id=f"q{index}", dataset="k", split="train", kind="next_open", text="What is the next step?", answer=answer,
        answer_type="text", media=MediaRef(uri="c.mp4", end_s=8.0), group="c",
    )  # fmt: skip


def trace(index: int, *, sample_index: int = 0, count: int = 3) -> Trace:
    labels = STEPS[:count]
    spans = [(2.0 * i, 2.0 * i + 1.5) for i in range(count)]
    seen = [Finding(kind="event", label=one, spans_s=(span,)) for one, span in zip(labels, spans, strict=True)]
    gather = " ".join(f"{one} {a}s-{b}s [1]." for one, (a, b) in zip(labels, spans, strict=True))
    lines = (
        "Identify: the next step is asked.",
        f"Gather: {gather}",
        f"Combine: pour egg comes after {labels[-1]} [1].",
    )
    return Trace(
        question_id=f"q{index}", sample_index=sample_index, teacher="rules", answer="pour egg", status="ok",
        support=(1,),
        steps=(Step(index=1, call=ToolCall(tool="list_steps"), result={}, findings=tuple(seen)),),
        rationale="\n".join((*lines, "Answer: pour egg")), config_digest="0",
    )  # fmt: skip


def config(**arm: object) -> RunConfig:
    raw = {"data": {"dataset": "toy_kitchen"}, "train": {"arms": [{"name": "arm", **arm}]}}
    return parse_config(raw, source="test")


def material(count: int = 4) -> Material:
    questions = {f"q{i}": question(i) for i in range(count)}
    samples = {f"q{i}": {"full": trace(i)} for i in range(1, count)}  # nothing was kept of the first question
    chains = {i: one["full"] for i, one in samples.items()}
    return Material(questions, samples, chains, len(samples))  # type: ignore[arg-type]


def learned(**arm: object) -> list[Lesson]:
    settings = config(**arm)
    return arm_lessons(material(), settings.train.arms[0], seed=settings.seed)


def test_an_arm_of_both_orders_answers_every_question_and_explains_those_with_a_kept_chain() -> None:
    lessons = learned()
    assert [(one.question_id, one.mode) for one in lessons] == [
        ("q0", "direct"), ("q1", "direct"), ("q1", "reason"), ("q2", "direct"), ("q2", "reason"), ("q3", "direct"),
        ("q3", "reason"),
    ]  # fmt: skip
    assert all(one.with_frames for one in lessons)
    assert lessons[2].rationale == trace(1).rationale and lessons[0].label == "pour egg"


def test_without_rationales_only_answers_are_learned() -> None:
    assert {one.mode for one in learned(rationale_weight=0)} == {"direct"} and len(learned(rationale_weight=0)) == 4
    assert [one.question_id for one in learned(order="answers_only")] == ["q1", "q2", "q3"]


def test_post_answers_first_and_pre_last() -> None:
    (after, *_), (before, *_) = learned(order="post"), learned(order="pre")
    assert (after.mode, after.label) == ("explain", "Answer: pour egg\n")
    assert f"{after.rationale}\n{after.label}".strip() == before.rationale == trace(1).rationale


def test_a_share_of_the_chains_leaves_the_direct_replies_alone() -> None:
    lessons = learned(chain_share=0.34)
    assert sum(one.mode == "reason" for one in lessons) == 1 and sum(one.mode == "direct" for one in lessons) == 4


def test_a_damaged_arm_learns_the_same_questions_from_other_text() -> None:
    clean = learned(order="pre")
    for kind in ("shuffled", "deleted", "wrong_content"):
        damaged = learned(order="pre", chains=kind)
        assert [one.question_id for one in damaged] == [one.question_id for one in clean]
        assert all(a.rationale != b.rationale for a, b in zip(clean, damaged, strict=True))


def test_shuffled_evidence_is_the_same_in_another_order() -> None:
    made = shuffled(trace(1, count=4), seed=3)
    assert made is not None and made.answer == "pour egg"
    before, after = parse_rationale(trace(1, count=4).rationale), parse_rationale(made.rationale)
    assert after.headings == before.headings and after.answer == before.answer
    assert [c.sentence for c in after.claims] != [c.sentence for c in before.claims]
    assert sorted(c.sentence for c in after.claims) == sorted(c.sentence for c in before.claims)


def test_deleted_evidence_leaves_half_of_the_sentences_and_the_answer() -> None:
    made = deleted(trace(1, count=4), seed=3)
    assert made is not None and parse_rationale(made.rationale).answer == "pour egg"
    evidence = [claim for claim in parse_rationale(made.rationale).claims if claim.part != "Identify"]
    assert len(evidence) == 3  # of four steps and one conclusion, two are gone


def test_wrong_content_keeps_form_and_citations_and_nothing_else() -> None:
    made = wrong_content(trace(1, count=4), seed=3)
    assert made is not None and made.answer == "pour egg"
    before, after = parse_rationale(trace(1, count=4).rationale), parse_rationale(made.rationale)
    assert after.headings == before.headings and after.answer != "pour egg"
    for old, new in zip(before.claims[1:], after.claims[1:], strict=True):
        assert new.citations == old.citations and new.text != old.text
        assert len(new.spans_s) == len(old.spans_s) and not set(new.spans_s) & set(old.spans_s)


@pytest.mark.parametrize(("count", "damage"), [(0, shuffled), (0, deleted), (0, wrong_content)])
def test_what_cannot_be_damaged_is_told_by_none(count: int, damage: object) -> None:
    bare = trace(1).model_copy(update={"rationale": "Answer: pour egg", "steps": ()})
    assert damage(bare, seed=1) is None  # type: ignore[operator]


def test_damage_depends_on_seed_and_question_only() -> None:
    for damage in (shuffled, deleted, wrong_content):
        made = [damage(trace(i, count=4), seed=5) for i in (1, 2, 1)]
        assert made[0] == made[2]
        assert len({one.rationale for seed in range(6) if (one := damage(trace(1, count=4), seed=seed))}) > 1


def test_of_several_kept_rationales_the_first_is_the_full_one_and_leaks_are_left_out(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    publish_rows(run.questions, [question(i) for i in range(3)])
    publish_rows(run.kept, [trace(0, sample_index=2, count=1), trace(0, sample_index=0, count=4), trace(1), trace(2)])
    publish_rows(run.verdicts, [
        Verdict(question_id="q1", sample_index=0, filter="leakage", keep=False, reason="x"),
        Verdict(question_id="q2", sample_index=0, filter="prose", keep=False, reason="x"),
    ])  # fmt: skip
    read = read_material(run, config())
    assert list(read.questions) == list(read.samples) == ["q0", "q2"]
    assert (read.samples["q0"]["full"].sample_index, read.samples["q0"]["short"].sample_index) == (0, 2)


def test_an_own_rationale_is_checked_against_what_the_tools_of_the_teacher_saw() -> None:
    asked, evidence, filters = question(1), trace(1), config().filter

    def said(text: str) -> Prediction:
        return Prediction(question_id="q1", arm="a", mode="reason", raw_text=text, answer=None, finish_reason="stop")

    true, invented = evidence.rationale, evidence.rationale.replace("chop tomato", "boil rice")
    wrong = evidence.rationale.replace("Answer: pour egg", "Answer: fry egg")
    found = shortest(
        verified_chains([said(invented), said(wrong), said(true)], asked, filters, config_digest="x", evidence=evidence)
    )
    assert found is not None and (found.sample_index, found.teacher, found.rationale) == (2, "self", true)
    assert (
        shortest(verified_chains([said(invented), said(wrong)], asked, filters, config_digest="x", evidence=evidence))
        is None
    )
