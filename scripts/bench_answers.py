"""Pairs of answers graded per second, as ratios against math-verify called directly on the same pairs.

    python scripts/bench_answers.py [--pairs 20000] [--expressions 200]

One core. Plain numbers are graded in this process; expressions go through the worker process, whose start is not
counted, as math-verify's import is not. The baseline is `verify(parse(gold), parse(answer))` in a child of its own,
over the same expressions and the first 500 of the same plain pairs. Required: over 50,000 plain pairs a second of
processor time.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable

from aot.answers import grade, stop_workers
from aot.records import AnswerType, Question

REQUIRED_PER_S = 50_000
BASELINE_PAIRS = 500
_BASELINE = """
import json, sys, time
from math_verify import parse, verify
rates = []
for pairs in json.load(sys.stdin):
    for gold, answer in pairs[:20]:
        verify(parse(f"${gold}$"), parse(f"${answer}$"))
    start_s = time.perf_counter()
    for gold, answer in pairs:
        verify(parse(f"${gold}$"), parse(f"${answer}$"))
    rates.append(len(pairs) / (time.perf_counter() - start_s))
print(json.dumps(rates))
"""


def main() -> int:
    """Print rates and ratios; 1 if plain numbers are too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--expressions", type=int, default=200)
    arguments = parser.parse_args()
    plain, algebra = number_pairs(arguments.pairs), expression_pairs(arguments.expressions)
    plain_per_s = rate(plain, "number", time.process_time)  # nothing waits for another process
    algebra_per_s = rate(algebra, "expression", time.perf_counter)
    stop_workers()
    base_plain_per_s, base_algebra_per_s = baseline(plain[:BASELINE_PAIRS], algebra)
    told = f"{plain_per_s:>12,.0f} pairs/s, {plain_per_s / base_plain_per_s:,.0f} times math-verify called directly"
    print(f"plain numbers {told} ({base_plain_per_s:,.0f})")
    told = (
        f"{algebra_per_s:>12,.0f} pairs/s, {algebra_per_s / base_algebra_per_s:.2f} times math-verify called directly"
    )
    print(f"expressions   {told} ({base_algebra_per_s:,.0f}): {1000 / algebra_per_s:.1f} ms a pair through the worker")
    return int(plain_per_s < REQUIRED_PER_S)


def number_pairs(count: int) -> list[tuple[str, str]]:
    """Integers, decimals and thousands; half of the answers are right."""
    drawn = random.Random(0)
    golds = [
        (f"{drawn.randrange(10**6):,}", f"{drawn.randrange(10**5)}", f"{drawn.random() * 100:.2f}")
        for _ in range(count)
    ]
    chosen = [drawn.choice(three) for three in golds]
    return [(gold, gold.replace(",", "") if drawn.random() < 0.5 else str(drawn.randrange(10**4))) for gold in chosen]


def expression_pairs(count: int) -> list[tuple[str, str]]:
    """Products against their expansions, half of them off by one."""
    drawn = random.Random(1)
    pairs = []
    for _ in range(count):
        a, b, off = drawn.randrange(1, 50), drawn.randrange(1, 50), drawn.randrange(2)
        pairs.append((f"(x+{a})(x+{b})", f"x^{{2}}+{a + b}x+{a * b + off}"))
    return pairs


def rate(pairs: list[tuple[str, str]], answer_type: AnswerType, clock: Callable[[], float]) -> float:
    """Pairs graded per second of `clock`, after twenty that are not counted."""
    questions = [
        Question(
            id=str(index), dataset="bench", split="test", kind="bench", text="?", answer=gold,
            answer_type=answer_type, group="bench",
        )
        for index, (gold, _) in enumerate(pairs)
    ]  # fmt: skip
    for question, (_, answer) in list(zip(questions, pairs, strict=True))[:20]:
        grade(answer, question)
    start_s = clock()
    for question, (_, answer) in zip(questions, pairs, strict=True):
        grade(answer, question)
    return len(pairs) / (clock() - start_s)


def baseline(*groups: list[tuple[str, str]]) -> list[float]:
    """Pairs per second of math-verify for each group of pairs."""
    child = subprocess.run(
        [sys.executable, "-c", _BASELINE], input=json.dumps(groups), capture_output=True, text=True, check=True
    )
    rates: list[float] = json.loads(child.stdout)
    return rates


if __name__ == "__main__":
    sys.exit(main())
