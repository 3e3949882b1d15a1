"""Is the watermark of `aot serve --watermark-key-env` in a text? And how often is it seen where it is not?

    python scripts/check_watermark.py EXPORT --key-env NAME --text reply.txt [--text other.txt]
    python scripts/check_watermark.py EXPORT --key-env NAME [--count 100] [--tokens 250] [--temperature 1.0]

The first prints for each text the mean of the mark's bits with its 95% interval, and the probability of such a mean
in text without the mark; exit code 1 where it is found in none. A text is read by the tokenizer of the student, so it
must be the reply as it was written. The second lets the student write texts of one length, as often with the mark as
without, and counts in how many of each it is found at each level; exit code 1 where texts without it are found
significantly more often than once in 100. A student of few words has few choices that can be marked.
"""

import argparse
import os
import sys
from pathlib import Path

import torch

from aot.serving.disclosure import read_watermark_secret
from aot.serving.student import ServedStudent, load_student
from aot.student.answer.decoding import Prompt, read_prompts, steps
from aot.student.answer.sampling import Pick, SampledAlone, each_alone
from aot.student.answer.watermark import Found, Watermark
from aot.wilson import wilson

LEVELS = (0.01, 1e-3, 1e-6)
OTHERS = 20
"""Secrets under which the same texts are looked at, so that few texts show rare false alarms."""


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path)
    parser.add_argument("--key-env", required=True, help="environment variable with the secret of the mark")
    parser.add_argument("--text", type=Path, action="append", help="a file to look at")
    parser.add_argument("--count", type=int, default=100, help="texts with the mark, and as many without")
    parser.add_argument("--tokens", type=int, default=250)
    parser.add_argument("--temperature", type=float, default=1.0)
    given = parser.parse_args()
    secret = read_watermark_secret(given.key_env)
    assert secret is not None
    mark = Watermark(secret.reveal())
    with load_student(given.export) as student:
        if given.text:
            return _looked_at(student, mark, given.text)
        others = [Watermark(f"{secret.reveal()}/{i}") for i in range(OTHERS)]
        return _studied(student, mark, others, count=given.count, tokens=given.tokens, temperature=given.temperature)


def _looked_at(student: ServedStudent, mark: Watermark, texts: list[Path]) -> int:
    found = []
    for path in texts:
        ids = student.loaded.renderer.tokenizer(path.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
        seen = mark.look(ids)
        found.append(seen is not None and seen.p_value < LEVELS[1])
        print(f"{path}: {words_of(seen)}")
    return 0 if any(found) else 1


def words_of(seen: Found | None) -> str:
    """What was seen, for people."""
    if seen is None:
        return "too short to tell"
    verdict = "marked" if seen.p_value < LEVELS[1] else "no mark was found"
    return (
        f"{verdict}: mean {seen.mean:.3f} [{seen.low:.3f}, {seen.high:.3f}] of {seen.bits:,} bits, 0.5 by chance; "
        f"p = {seen.p_value:.2g}"
    )


def _studied(
    student: ServedStudent,
    mark: Watermark,
    others: list[Watermark],
    *,
    count: int,
    tokens: int,
    temperature: float,
) -> int:
    marked, plain = (
        _texts(student, used, count=count, tokens=tokens, temperature=temperature) for used in (mark, None)
    )
    looks = {
        "with the mark": [mark.look(ids) for ids in marked],
        "without it": [mark.look(ids) for ids in plain],
        f"without it, {len(others)} other secrets": [one.look(ids) for ids in plain for one in others],
    }
    worst = 0.0
    for name, seen in looks.items():
        long = [one for one in seen if one is not None]
        means = torch.tensor([one.mean for one in long])
        half = 1.96 * float(means.std()) / len(long) ** 0.5
        print(f"{name}: {len(long)} looks, mean bit {float(means.mean()):.4f} +- {half:.4f}")
        for level in LEVELS:
            hits = sum(one.p_value < level for one in long)
            low, high = wilson(hits=hits, n=len(long))
            print(f"  found at {level:g}: {hits} of {len(long)} [{low:.3f}, {high:.3f}]")
            if name != "with the mark" and level == LEVELS[0]:
                worst = max(worst, low)
    return 1 if worst > LEVELS[0] else 0


def _texts(
    student: ServedStudent, mark: Watermark | None, *, count: int, tokens: int, temperature: float
) -> list[list[int]]:
    """What the student goes on to write, never ending by itself, so that all texts are of one length."""
    loaded = student.loaded
    ends = torch.tensor(sorted(loaded.end_ids), device=loaded.device)
    prompt = Prompt(tuple(loaded.renderer.tokenizer("What is next?", add_special_tokens=False)["input_ids"]), {})
    made = []
    for start in range(0, count, 25):
        numbers = range(start, min(start + 25, count))
        samplers = [
            SampledAlone(
                temperature=temperature, top_p=1.0, seed=i, sample_index=bool(mark), device=loaded.device,
                marker=mark.marker(loaded.device) if mark else None,
            )
            for i in numbers
        ]  # fmt: skip
        alone = each_alone(samplers)
        reading = read_prompts(loaded, [prompt] * len(numbers))
        *_, replies = steps(loaded, reading, max_tokens=[tokens] * len(numbers), pick=_endless(alone, ends))
        made += [list(one) for one in replies]
    return made


def _endless(pick: Pick, ends: torch.Tensor) -> Pick:
    return lambda logits_BV, replies: pick(logits_BV.index_fill(1, ends, -torch.inf), replies)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.exit(main())
