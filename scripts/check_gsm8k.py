"""Checks the answer checker on the gold answers of a GSM8K file: found, parsed, right for their own row only.

    python scripts/check_gsm8k.py ../shared/data/annotations/gsm8k_train.jsonl

Each gold answer is compared with itself, with the next row's and with 20 others drawn by seed, 1.6e5 pairs in all on
the 7,473 training problems, in seconds on one core. Then the share of chains with a calculator note (`<<48/2=24>>`)
that does not hold is told. Expected: every row found, parsed and right; no other number right; exit status 0.
"""

import argparse
import json
import random
import re
import sys
import time
from pathlib import Path

from aot.answers import find_answer, grade
from aot.rationales.arithmetic import check_text
from aot.records import Question

OTHERS = 20
SEED = 0
_NOTE = re.compile(r"<<[^<>\n]*>>")


def main() -> int:
    """Print what was found; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="JSON lines with question and answer")
    chains = [json.loads(line)["answer"] for line in parser.parse_args().file.read_text("utf-8").splitlines()]
    found = [find_answer(chain) for chain in chains]
    golds = [answer.answer for answer in found if answer.slot == "hashes" and answer.answer]
    print(f"rows {len(chains)}, gold found after ####: {len(golds)}")
    start_s = time.process_time()
    own_wrong, other_right, pairs = compare_all(golds)
    took_s = time.process_time() - start_s
    print(f"pairs {pairs} in {took_s:.1f} s of processor time: {pairs / took_s:,.0f} a second")
    print(f"own answer not right: {own_wrong}; another number right, or an equal one not: {other_right}")
    tell_notes(chains)
    return int(len(golds) < len(chains) or own_wrong > 0 or other_right > 0)


def compare_all(golds: list[str]) -> tuple[int, int, int]:
    """How many own answers were not right, how many others were graded amiss, and how many pairs there were.

    Raises:
        SourceError: a gold answer is no number.
    """
    own_wrong = other_amiss = pairs = 0
    for index, gold in enumerate(golds):
        question = as_question(index, gold)
        own_wrong += grade(gold, question).verdict != "right"
        drawn = random.Random(f"{SEED} {index}")
        others = [golds[(index + 1) % len(golds)], *(drawn.choice(golds) for _ in range(OTHERS))]
        for other in others:
            expected = "right" if int(other.replace(",", "")) == int(gold.replace(",", "")) else "wrong"
            other_amiss += grade(other, question).verdict != expected
        pairs += 1 + len(others)
    return own_wrong, other_amiss, pairs


def as_question(index: int, gold: str) -> Question:
    """A question with this gold answer."""
    return Question(
        id=str(index), dataset="gsm8k", split="train", kind="word_problem", text="?", answer=gold,
        answer_type="integer", group=str(index),
    )  # fmt: skip


def tell_notes(chains: list[str]) -> None:
    """Print how many chains have a calculator note that does not hold, or that cannot be read."""
    checks = [check_text("\n".join(_NOTE.findall(chain))) for chain in chains]
    for name, count in (
        ("a note that does not hold", sum(check.wrong > 0 for check in checks)),
        ("a note that cannot be read", sum(check.unreadable > 0 for check in checks)),
        ("no note", sum(check.equations == 0 for check in checks)),
    ):
        print(f"chains with {name}: {count} of {len(chains)} = {count / len(chains):.2%}")
    print(f"notes {sum(check.equations for check in checks)}, of them wrong {sum(check.wrong for check in checks)}")


if __name__ == "__main__":
    sys.exit(main())
