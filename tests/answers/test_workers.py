"""Hostile answers cost a second at most, start nothing, and take no other answer with them."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from answer_kit import ask, timed, verdict, work_s, worker_pids

from aot.answers import Grade, grade, stop_workers
from aot.answers.workers import ask_worker
from aot.records import AnswerType, ScorerItem

SLOW = "(x+y+z+a+b+c)^{60}"
LIMIT_S = 1.5
"""A second for the answer, and half a one for a machine that others use too."""
HOSTILE = {
    "power tower": "9^{9^{9^{9}}}", "tower in brackets": "(((9^9)^9)^9)^9", "factorial": "99999999!",
    "factorials": "((100!)!)!", "5,000 digits": "9" * 5000, "brackets": "(" * 3000 + "1" + ")" * 3000,
    "open brackets": "(" * 9000, "fractions": "\\frac{" * 800 + "1" + "}{2}" * 800, "terms": "+".join(["x"] * 4000),
    "powers": "+".join(f"x^{i}" for i in range(120)), "boxes": "\\boxed{1}" * 1000, "nan": "nan", "inf": "1e999999999",
    "code": "__import__('os').system('touch HERE/started')", "attributes": "().__class__.__mro__[1].__subclasses__()",
    "spaces": "1" + " " * 9000 + "1", "commas": "1," * 4900, "words": "one and " * 1200, "units": "5 cm " * 1900,
    "dots": "." * 9000, "signs": "-" * 9000, "nulls": "\0" * 5000, "expansion": "(x+1)^{1000}",
}  # fmt: skip

GOLDS: dict[AnswerType, str] = {
    "integer": "5", "decimal": "0.5", "fraction": "1/2", "number": "5", "percent": "5%", "money": "$5",
    "quantity": "5 cm", "collection": "{1, 2}", "letter": "A", "date": "2024-01-05", "clock": "12:30",
    "duration": "3 days", "text": "fry onion", "yes_no": "yes", "span": "1s-2s",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    assert verdict("1+x", "x+1", "expression") == "right"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_expression_is_never_right_and_takes_a_second_at_most(name: str, tmp_path: Path) -> None:
    answer = HOSTILE[name].replace("HERE", str(tmp_path))
    graded, took_s = timed(lambda: grade(answer, ask("x+1", "expression")))
    assert graded.verdict != "right"
    assert took_s < LIMIT_S
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer_type", GOLDS)
def test_hostile_answers_of_every_other_type_take_no_time(answer_type: AnswerType) -> None:
    question = ask(GOLDS[answer_type], answer_type)
    verdicts: set[str] = set()
    limit_s = 0.1 * len(HOSTILE)
    took_s = work_s(lambda: verdicts.update(grade(one, question).verdict for one in HOSTILE.values()), enough_s=limit_s)
    assert "right" not in verdicts and took_s <= limit_s


def test_the_deadline_holds_from_another_thread() -> None:
    told: list[tuple[Grade, float]] = []
    thread = threading.Thread(target=lambda: told.append(timed(lambda: grade(SLOW, ask("x+1", "expression")))))
    thread.start()
    thread.join(10)
    (graded, took_s) = told[0]
    assert (graded.verdict, graded.reason) == ("cannot_tell", "deadline")
    assert took_s < LIMIT_S


def test_after_a_deadline_the_next_answer_is_graded_at_once_by_the_same_keeper() -> None:
    before = worker_pids()
    assert grade(SLOW, ask("x+1", "expression")).reason == "deadline"
    graded, took_s = timed(lambda: grade("2+x", ask("x+2", "expression")))
    assert graded.verdict == "right"
    assert took_s < LIMIT_S
    assert worker_pids() == before


def test_a_worker_that_was_killed_is_replaced() -> None:
    os.kill(worker_pids()[0], 9)
    for _ in range(2):  # the first may meet the closed socket
        graded = grade("3+x", ask("x+3", "expression"))
    assert graded.verdict == "right"


def test_an_interrupted_question_does_not_answer_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("aot.answers.workers._Worker._line", interrupted)
        with pytest.raises(KeyboardInterrupt):
            grade("5+x", ask("x+5", "expression"))
    verdicts = [verdict(f"{number}+x", "x+5", "expression") for number in (6, 7, 5)]
    assert "right" not in verdicts[:2]
    assert verdicts[2] == "right"


def test_several_threads_share_the_worker() -> None:
    verdicts: dict[int, str] = {}

    def work(number: int) -> None:
        verdicts[number] = verdict(f"{number}+x", f"x+{number - number % 2}", "expression")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert verdicts == {number: "wrong" if number % 2 else "right" for number in range(8)}


def test_plain_answers_start_no_worker_and_import_no_algebra() -> None:
    code = (
        "import sys; from answer_kit import verdict, worker_pids\n"
        "assert verdict('36.0', '36', 'integer') == verdict('0.5', '1/2', 'expression') == 'right'\n"
        "assert worker_pids() == [] and not {'sympy', 'math_verify', 'reasoning_gym', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent, env=_with_project())


def test_a_worker_ends_with_its_parent() -> None:
    code = (
        "import os; from answer_kit import verdict, worker_pids\n"
        "verdict('1+x', 'x+1', 'expression'); print(worker_pids()[0], flush=True); os.kill(os.getpid(), 9)"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent, env=_with_project()
    )
    keeper = int(child.stdout)
    until_s = time.monotonic() + 10
    while _runs(keeper) and time.monotonic() < until_s:
        os.sched_yield()
    assert not _runs(keeper)


def test_an_unknown_task_is_no_verdict() -> None:
    item = ScorerItem(task="no_such_task", entry={"question": "", "answer": "1", "metadata": {}})
    assert grade("1", ask("1", "scored", item)).reason == "unknown_task"


def test_scorers_that_evaluate_text_start_nothing(tmp_path: Path) -> None:
    entry = {"question": "", "answer": "x", "metadata": {"polynomial_expr": "x", "variables": ["x"]}}
    for code in (f"open('{tmp_path}/made', 'w')", f"print(1, file=open('{tmp_path}/made', 'w'))"):
        request = {"task": "polynomial_multiplication", "entry": entry, "answer": code}
        assert ask_worker("scores", request).value < 1
    assert list(tmp_path.iterdir()) == []
    stop_workers()
    assert worker_pids() == []


def _with_project() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
