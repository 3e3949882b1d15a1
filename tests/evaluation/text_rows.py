"""Questions and predictions of a small text run, for tests of its metrics."""

from collections.abc import Sequence

from aot.config import parse_arm
from aot.evaluation.metrics import compute_metrics
from aot.records import MetricRow, Prediction, Question

ARMS = tuple(parse_arm({"name": name, "order": name}) for name in ("answers_only", "pre", "post", "adaptive"))
MODES = {"base": "direct", "answers_only": "direct", "pre": "reason", "post": "explain", "adaptive": "adaptive",
         "teacher": "none"}  # fmt: skip


def question(number: int, *, split: str = "test", kind: str = "sum", steps: int = 3, text: str = "") -> Question:
    return Question(
        id=f"{split}{number}-{kind}", dataset="toy_math", split=split, kind=kind, answer=str(number),
        text=text or f"What is {number} + 0?", answer_type="integer", group=f"{split}{number}-{kind}",
        tags={"category": "arithmetic", "steps": steps},
    )  # fmt: skip


def said(to: Question, answer: str | None, *, arm: str, mode: str = "", **more: object) -> Prediction:
    row = {"question_id": to.id, "arm": arm, "mode": mode or MODES[arm], "answer": answer, "raw_text": answer or "mmh"}
    return Prediction.model_validate({**row, **more})


def right(to: Question, *, arm: str, **more: object) -> Prediction:
    return said(to, to.answer, arm=arm, **more)  # type: ignore[arg-type]


def wrong(to: Question, *, arm: str, **more: object) -> Prediction:
    return said(to, "-1", arm=arm, **more)  # type: ignore[arg-type]


def metrics(
    questions: Sequence[Question], predictions: Sequence[Prediction], **more: object
) -> dict[tuple[str, ...], MetricRow]:
    """Arm, mode, split, kind and metric to row."""
    splits = tuple(dict.fromkeys(q.split for q in questions))
    options = {
        "training": (),
        "learned": {},
        "arms": ARMS,
        "splits": splits,
        "bootstrap_samples": 200,
        "seed": 0,
        **more,
    }
    rows = compute_metrics(questions=questions, predictions=predictions, **options)  # type: ignore[arg-type]
    keys = [(r.arm, r.mode, r.split, r.kind, r.metric) for r in rows]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, rows, strict=True))
