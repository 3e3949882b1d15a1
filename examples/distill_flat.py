"""The whole pipeline on one screen: from Question to MetricRow without a run folder and without workers.

    python examples/distill_flat.py [--questions 1500] [--steps 150]     # about two minutes of one CPU core

A procedure solves maths problems step by step, filters drop what is wrong, LoRA teaches the chains to the embedded
student, and one grader scores it before and after. `aot run` does the same, can be killed at any moment, and goes on.
"""

import argparse

import torch

from aot.arms.lessons import ordered_lessons
from aot.config import parse_config
from aot.evaluation.metrics import compute_metrics
from aot.evaluation.scoring import score
from aot.filtering.chain import run_filters
from aot.student.answer.predict import predict
from aot.student.model.loading import load_student
from aot.student.model.lora import add_lora
from aot.student.rows.collate import Collator
from aot.student.rows.examples import Schedule, make_examples
from aot.student.train.loss import two_term_loss
from text_cot.prepare import usable_source
from text_cot.teacher.procedural import solve


def main() -> None:
    """Distil, and print accuracy on the test split before and after, each with its 95% interval and n."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args()
    config = parse_config(
        {
            "data": {"dataset": "toy_math", "math": {"train": options.questions, "test": 60, "test_ood": 1}},
            "teacher": {"planner": "procedural"},
            "student": {"base": "tiny-text", "max_tokens": 512, "max_answer_tokens": 12, "max_rationale_tokens": 96},
            "train": {"max_steps": options.steps, "learning_rate": 3e-3, "arms": [{"name": "pre", "order": "pre"}]},
            "evaluate": {"splits": ["test"]},
        },
        source="distill_flat.py",
    )
    (arm,) = config.train.arms
    torch.manual_seed(config.seed)

    asked = usable_source(config.data, seed=config.seed, splits=config.evaluate.splits).questions
    questions = {question.id: question for question in asked if question.split == "train"}
    test = [question for question in asked if question.split == "test"]

    traces = [solve(q, granularity="fine", seed=config.seed, config_digest="flat") for q in questions.values()]
    judged = list(run_filters(traces, questions=questions, held_out=test, config=config.filter))
    kept = {one.trace.question_id: one.trace for one in judged if one.keep}
    print(f"traces {len(traces)}, verdicts {sum(len(one.verdicts) for one in judged)}, kept {len(kept)}")
    lessons = ordered_lessons(questions, kept, arm)

    student = load_student(config.student.base, config=config.student)
    answered = list(predict(student, test, arm="base", mode="reason", batch_size=64))
    _distil(student, make_examples(lessons, questions=questions, renderer=student.renderer, max_tokens=512), config)
    answered += predict(student, test, arm=arm.name, mode="reason", batch_size=64)

    last = score(answered[-1], test[-1])
    print(f"one score: {test[-1].text!r}: {answered[-1].answer} ({last.state}, correct: {last.correct})")
    rows = compute_metrics(
        questions=test, predictions=answered, arms=[arm], splits=["test"], bootstrap_samples=200, seed=config.seed
    )
    for row in rows:
        if (row.metric, row.kind) == ("accuracy", "all"):
            print(f"{row.arm}: {row.value:.1%} [{row.low:.1%}, {row.high:.1%}], n={row.n}")


def _distil(student, data, config) -> None:  # noqa: ANN001 - read them above
    """Plain steps of AdamW on the two-term loss: one batch of lessons at a time, adapters only."""
    add_lora(student.model, config.train.lora)
    trained = [weight for weight in student.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.train.learning_rate)
    collate = Collator(student.renderer, student.pad_id, packed=False)
    size = config.train.questions_per_step
    schedule = Schedule(data.examples, seed=config.seed, length=config.train.max_steps * size)
    for number in range(1, config.train.max_steps + 1):
        inputs = collate([schedule[i] for i in range((number - 1) * size, number * size)])
        logits_BTV = student.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        loss = two_term_loss(
            logits_BTV,
            inputs["labels"],
            is_rationale_BT=inputs["is_rationale"],
            num_supervised=inputs["num_supervised"],
            rationale_weight=1.0,
        ).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if number % 10 == 0:
            print(f"step {number}: loss {loss.item():.3f} nats a token")


if __name__ == "__main__":
    main()
