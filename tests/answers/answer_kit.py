"""What the tests of answers share: a question with a gold answer, and how long a call took."""

import time
from collections.abc import Callable

from aot.answers import Grade, grade, workers
from aot.records import AnswerType, Question, ScorerItem


def ask(answer: str, answer_type: AnswerType, scorer: ScorerItem | None = None) -> Question:
    return Question(
        id="q", dataset="d", split="test", kind="k", text="?", answer=answer, answer_type=answer_type, group="g",
        scorer=scorer,
    )  # fmt: skip


def timed(call: Callable[[], Grade]) -> tuple[Grade, float]:
    start_s = time.monotonic()
    return call(), time.monotonic() - start_s


def verdict(answer: str, gold: str, answer_type: AnswerType) -> str:
    return grade(answer, ask(gold, answer_type)).verdict


def worker_pids() -> list[int]:
    processes = [worker.process for worker in workers._WORKERS.values()]
    return [process.pid for process in processes if process and process.poll() is None]
