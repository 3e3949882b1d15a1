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


def work_s(call: Callable[[], object], *, enough_s: float = 0.0) -> float:
    """Processor seconds of the fastest of three calls, or of the first within `enough_s`.

    Others on a busy core, and what the process does besides, make a single call many times slower.
    """
    fastest_s = float("inf")
    for _ in range(3):
        start_s = time.process_time()
        call()
        fastest_s = min(fastest_s, time.process_time() - start_s)
        if fastest_s <= enough_s:
            break
    return fastest_s


def verdict(answer: str, gold: str, answer_type: AnswerType) -> str:
    return grade(answer, ask(gold, answer_type)).verdict


def worker_pids() -> list[int]:
    processes = [worker.process for worker in workers._WORKERS.values()]
    return [process.pid for process in processes if process and process.poll() is None]
