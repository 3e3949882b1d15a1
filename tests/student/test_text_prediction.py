"""Text students answer in four modes: each stops where it should, chooses with probabilities, and draws again alike."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from text_kit import THINKING_TEMPLATE, save_text_base, steps_of, sums, text_config, text_run
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from aot.evaluation.scoring import score
from aot.evaluation.spending import chosen_way
from aot.records import THOUGHT_MODES, Prediction
from aot.served_records import StudentContract
from aot.serving.student import Ask, ServedStudent
from aot.student.answer.decoding import LineMarks, Prompt, line_marks, write_replies
from aot.student.answer.predict import predict, predict_batches, sample
from aot.student.model.loading import Student, load_student
from aot.student.train.arm import train_arm


@pytest.fixture(scope="module", params=["plain", "thinking"])
def student(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Student:
    """A student that overfits twelve sums in every mode."""
    root = tmp_path_factory.mktemp(request.param)
    more = {"template": THINKING_TEMPLATE} if request.param == "thinking" else {}
    base = save_text_base(root / "base", **more)
    config = text_config(base, arm={"tuning": "full"}, max_steps=150, save_steps=150, questions_per_step=30,
                         questions_per_device=30, pack_tokens=256, learning_rate=0.01)  # fmt: skip
    run = text_run(root / "run", config)
    train_arm(run, config, config.train.arms[0])
    return load_student(str(base), adapter=run.arm("all"), config=config.student)


def ask(student: Student, mode: Any, *, batch_size: int = 5, **more: Any) -> list[Prediction]:
    return list(predict(student, sums(), arm="x", mode=mode, batch_size=batch_size, **more))


def cap(student: Student, **tokens: int) -> Student:
    """The same student with other caps on its replies."""
    return replace(student, config=student.config.model_copy(update=tokens))


def test_each_mode_gives_the_reply_of_its_lessons(student: Student) -> None:
    questions = sums()
    made = {mode: ask(student, mode) for mode in ("direct", "reason", "explain")}
    assert all([p.question_id for p in rows] == [q.id for q in questions] for rows in made.values())
    right = {
        mode: sum(p.answer == q.answer for p, q in zip(rows, questions, strict=True)) for mode, rows in made.items()
    }
    assert min(right.values()) >= 8, right
    wanted = [f"{steps_of(q)}\nAnswer: {q.answer}" for q in questions]
    assert sum(p.raw_text == text for p, text in zip(made["reason"], wanted, strict=True)) >= 8


def test_explain_stops_after_the_first_line(student: Student) -> None:
    made = ask(student, "explain")
    assert all("\n" not in p.raw_text for p in made)
    assert sum(p.completion_tokens == len(f"Answer: {p.answer}\n") - len("nswer") for p in made) >= 8
    assert line_marks(student.renderer.tokenizer).newline
    assert not LineMarks(frozenset({1}), frozenset({1, 2})).ends_line([2, 1])
    assert LineMarks(frozenset({1}), frozenset({1, 2})).ends_line([2, 3, 1])


def test_a_served_student_gives_rationale_answer_and_how_likely_it_wrote_that(student: Student) -> None:
    contract = StudentContract(
        name="x", arm="all", base="", base_digest="", config_digest="", model_type=student.model_type, dtype="float32",
        template_hash="", kinds=("sum",), modes=("direct", "reason", "explain", "adaptive"), max_tokens=100,
        max_answer_tokens=12, max_rationale_tokens=60,
    )  # fmt: skip
    served, questions = ServedStudent(student, contract), sums()
    for mode in contract.modes:
        answers = served.ask_many([Ask(q.text, mode=mode) for q in questions])
        right = [(a, q) for a, q in zip(answers, questions, strict=True) if a.answer == q.answer]
        assert len(right) >= 8 and all(0 < (a.confidence or 0) <= 1 for a, _ in right), mode
        steps = sum(steps_of(q) in a.rationale and "Answer" not in a.rationale for a, q in right)
        assert steps == 0 if mode == "direct" else steps >= 8, mode
        assert mode != "direct" or not any(a.rationale for a in answers)
    whole = served.ask_many([Ask(q.text, mode="explain") for q in questions])
    short = served.ask_many([Ask(q.text, mode="explain", with_rationale=False) for q in questions])
    assert [a.answer for a in short] == [a.answer for a in whole]
    assert [a.confidence for a in short] == pytest.approx([a.confidence for a in whole], abs=1e-4)
    assert not any(a.rationale for a in short)
    assert all(a.usage.completion_tokens < b.usage.completion_tokens for a, b in zip(short, whole, strict=True))


def test_adaptive_tells_its_choice_with_probabilities(student: Student) -> None:
    made = ask(student, "adaptive")
    assert all(sum(p.thought_probs) == pytest.approx(1) for p in made)
    # Only full steps were taught as a choice.
    assert all(p.thought == "full" == THOUGHT_MODES[p.thought_probs.index(max(p.thought_probs))] for p in made)
    assert all(p.raw_text.startswith("All steps.\n") for p in made)


def test_the_shortest_way_that_is_likely_to_be_enough_is_taken() -> None:
    assert [chosen_way((0.5, 0.45, 0.05), effort) for effort in (0.0, 0.4, 0.9, 0.99)] == [0, 0, 1, 2]


def test_a_given_thought_is_taken_and_counted(student: Student) -> None:
    made = ask(student, "adaptive", thought="direct")
    assert all(p.thought == "direct" and p.raw_text.startswith("At once.\nAnswer: ") for p in made)
    right = sum(p.answer == q.answer for p, q in zip(made, sums(), strict=True))
    assert right >= 8
    assert all(p.completion_tokens > len(("At", " ", "once", ".", "\n", "Answer", ":", " ")) for p in made)


def test_a_reply_cut_in_the_middle_of_its_number_has_no_answer(student: Student) -> None:
    whole = next(p for p in ask(student, "reason") if len(p.answer or "") == 2 and p.finish_reason == "stop")
    (question,) = (q for q in sums() if q.id == whole.question_id)
    for missing, finish_reason in ((0, "stop"), (1, "length"), (2, "length"), (5, "length")):
        capped = cap(student, max_rationale_tokens=whole.completion_tokens - missing)
        (made,) = predict(capped, [question], arm="x", mode="reason", batch_size=1)
        assert (made.answer, made.finish_reason) == (whole.answer if finish_reason == "stop" else None, finish_reason)
        assert score(made, question).state == ("scored" if finish_reason == "stop" else "no_answer")
    assert made.raw_text and whole.raw_text.startswith(made.raw_text), "what it said is kept"


@pytest.mark.parametrize("mode", ["direct", "explain", "adaptive"])
def test_a_cut_reply_is_no_answer_in_any_mode(student: Student, mode: str) -> None:
    capped = cap(student, max_answer_tokens=1, max_rationale_tokens=1)
    cut, whole = ask(capped, mode), ask(student, mode)
    assert {(p.answer, p.finish_reason) for p in cut} == {(None, "length")}
    assert sum(p.finish_reason == "stop" and p.answer is not None for p in whole) >= 8


def test_drawn_replies_tell_how_they_ended(student: Student) -> None:
    capped = cap(student, max_rationale_tokens=3)
    made = list(sample(capped, sums(2), mode="reason", samples=2, temperature=0.5, seed=0, batch_size=4))
    assert {(p.answer, p.finish_reason) for row in made for p in row} == {(None, "length")}


def test_batches_do_not_change_replies(student: Student) -> None:
    for mode in ("reason", "adaptive"):
        alone = [p.raw_text for p in ask(student, mode, batch_size=1)]
        assert [p.raw_text for p in ask(student, mode, batch_size=12)] == alone


def test_greedy_replies_are_those_of_generate(student: Student) -> None:
    prompts = [student.renderer.encode(q, (), "reason", frame_size_hw=None).prompt_ids for q in sums(4)]
    ours = write_replies(student, [Prompt(ids) for ids in prompts], max_tokens=40)
    for prompt, reply in zip(prompts, ours, strict=True):
        output = student.model.generate(
            torch.tensor([prompt]), max_new_tokens=40, do_sample=False, eos_token_id=list(student.renderer.end_ids)
        )
        assert output[0, len(prompt) :].tolist() == reply


def test_samples_are_the_same_for_the_same_call_and_differ_among_themselves(student: Student) -> None:
    def drawn(seed: int) -> list[list[str]]:
        rows = sample(student, sums(), mode="reason", samples=3, temperature=3.0, seed=seed, batch_size=6)
        return [[p.raw_text for p in row] for row in rows]

    first = drawn(1)
    assert len(first) == 12 and all(len(row) == 3 for row in first)
    assert drawn(1) == first
    assert drawn(2) != first
    assert any(len(set(row)) > 1 for row in first)


@pytest.mark.parametrize("kind", [LlamaConfig, GPT2Config])
def test_a_reply_ends_where_the_context_of_the_model_does(student: Student, kind: Any) -> None:
    size = len(student.renderer.tokenizer)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 40}
    config = kind(**small, vocab_size=size, eos_token_id=None, bos_token_id=None)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    model.get_output_embeddings().weight.data[list(student.renderer.end_ids)] = 0  # so that nothing ends by itself
    endless = replace(student, model=model)
    prompts = [Prompt(tuple(range(5, 5 + count))) for count in (30, 10, 12, 38)]
    replies = write_replies(endless, prompts, max_tokens=25)
    assert [len(reply) for reply in replies] == [11, 25, 25, 3]
    assert replies == [write_replies(endless, [prompt], max_tokens=25)[0] for prompt in prompts]


def test_a_question_that_cannot_be_asked_is_a_row_with_an_error(student: Student) -> None:
    bad = sums()[0].model_copy(update={"text": "What is <end>?"})
    made = list(predict(student, [bad, *sums(2)], arm="x", mode="direct", batch_size=4))
    assert "<end>" in made[0].error and made[0].answer is None
    assert not made[1].error
    drawn = list(sample(student, [bad], mode="reason", samples=2, temperature=1.0, seed=0, batch_size=4))
    assert [p.error != "" for row in drawn for p in row] == [True]


def test_choices_are_scored_without_frames(student: Student) -> None:
    question = sums()[2].model_copy(update={"choices": ("7", "8"), "answer": "7", "answer_type": "choice"})
    made = list(predict(student, [question], arm="x", mode="likelihood", batch_size=2))
    assert sum(made[0].choice_probs) == pytest.approx(1)
    assert made[0].answer in ("7", "8")


def test_batches_that_two_processes_share_out_give_the_predictions_of_one_to_the_last_digit(student: Student) -> None:
    questions = [sums()[0].model_copy(update={"id": "bad", "text": "What is <end>?"}), *sums()]
    closed = {"choices": ("7", "8", "3"), "answer": "7", "answer_type": "choice"}
    questions = [one.model_copy(update=closed) for one in questions]
    for mode in ("direct", "explain", "adaptive", "likelihood"):
        together = list(predict(student, questions, arm="x", mode=mode, batch_size=3))
        shares: list[Prediction] = []
        for share in (0, 1):
            of_it = predict_batches(student, questions, arm="x", mode=mode, batch_size=3,
                                    wanted=lambda number, ids, share=share: number % 2 == share)  # fmt: skip
            shares += [row for batch in of_it for row in batch]
        by_id = {row.question_id: row.model_copy(update={"latency_s": 0.0}) for row in shares}
        assert len(shares) == len(by_id) == len(questions)
        assert [by_id[q.id] for q in questions] == [row.model_copy(update={"latency_s": 0.0}) for row in together]
