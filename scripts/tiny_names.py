"""The text student that knows numbers by name: tiny-text after a third part of lessons.

It learns to write a call of the calculator that takes names, to say the name of a result, to repeat lines that hold
names, and to find the word before a name. It is not taught when a call is of use, nor which name comes next. It is a
student of its own because what it unlearns on the way shows in direct answers.
"""

import json
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator, default_rng
from tiny_text import (
    ALL_NAMES,
    ALL_THINGS,
    BATCH,
    REPEAT,
    USE_TOOLS,
    build_tokenizer,
    direct_score,
    exact_share,
    lessons_with_calls,
    teach,
)
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from aot.arms.by_name import MOST_NAME
from aot.rationales.named import NAMED_CALCULATOR_NAME, NamedResult
from aot.student.rows.prompts import RESULT_CLOSED, RESULT_OPENED, call_text
from text_cot.families.totals import GAINS, LEGS, LOSSES, MINUTES, clock

WORDS = ("named",)
GOES, LEARNING_RATE, NEW_ROWS = (800, 600), 1e-3, 64
"""Steps of each go, in which so many rows of each batch are new lessons."""
NAMED_FAMILIES = {
    "sum": ("plus {n}", "minus {n}", "+ {n}", "- {n}", "Then plus {n}", "Then minus {n}", "Add {n}", "Take away {n}"),
    "story": ("{name} {verb} {n} {thing}.", "{name} has {n} {thing}.", "{name} {verb} {n}", "At first {n}."),
    "unknown": ("plus {n}", "minus {n}", "is {n}", "Undo plus {n}", "Undo minus {n}", "We end with {n}."),
    "clock": ("A {leg} takes {n} minutes.", "The {leg} takes {n} minutes", "Add {n} minutes"),
}
CARD = """# tiny-names

The student tiny-text after {steps} steps more, made by `scripts/build_tiny_students.py --student names` (seed {seed});
Apache-2.0. Besides what tiny-text can it writes calls of the calculator that takes names for numbers, says the name of
a result, and finds the word before a name. Like tiny-text it was never asked a problem of two steps, nor a problem for
which a call would be of use, and it is no model to use.

Exact answers on 300 new problems for each number of steps, asked to answer directly: {scores}.
Exact replies to {n} new prompts: {replies}.
"""


def name_lesson(rng: Generator) -> tuple[str, str]:
    """A call to write for an expression of names, the name of a result to say, or the word before a name to find."""
    draw = rng.random()
    if draw < 0.15:
        expression = _of_names(rng)
        return f"{USE_TOOLS}: {expression}", call_text(NAMED_CALCULATOR_NAME, {"expression": expression})
    if draw < 0.25:
        name = f"[{rng.integers(1, MOST_NAME + 1)}]"
        value = clock(int(rng.integers(360, 1320))) if rng.random() < 0.2 else str(_long(rng))
        result = NamedResult(value=value, name=name)
        return f"{RESULT_OPENED}{json.dumps(result.model_dump())}{RESULT_CLOSED}", name
    if draw < 0.4:
        line = f"{_of_names(rng)} = "
        line = f"{_clause(rng, str(rng.choice(list(NAMED_FAMILIES))))}: {line}" if rng.random() < 0.5 else line
        return f"{REPEAT}: {line}", line
    first, family = int(rng.integers(1, 5)), str(rng.choice(list(NAMED_FAMILIES)))
    names = range(first, first + int(rng.integers(2, MOST_NAME - first + 2)))
    clauses = {number: _clause(rng, family, f"#{number}={_amount(rng, family)}") for number in names}
    wanted = int(rng.choice(list(clauses)))
    before = clauses[wanted].partition("#")[0].split()[-1]
    return f"{REPEAT} #{wanted}: {' '.join(clauses.values())}", f"{before} #{wanted}"


def _of_names(rng: Generator) -> str:
    """Two names, of which the first may be a result, to be added or subtracted; minutes to a time."""
    first = f"[{rng.integers(1, MOST_NAME + 1)}]" if rng.random() < 0.6 else f"#{rng.integers(1, MOST_NAME + 1)}"
    ending = " minutes" if rng.random() < 0.2 else ""
    return f"{first} {rng.choice(['+', '-'])} #{rng.integers(1, MOST_NAME + 1)}{ending}"


def _long(rng: Generator) -> int:
    """A number of one to five digits, each length as likely."""
    return int(rng.integers(10 ** int(rng.integers(1, 6))))


def _amount(rng: Generator, family: str) -> int:
    return int(rng.choice(MINUTES)) if family == "clock" else _long(rng)


def _clause(rng: Generator, family: str, amount: str = "") -> str:
    """A clause about an amount, as questions of a family have them, or chains."""
    amount = amount or f"#{rng.integers(1, MOST_NAME + 1)}"
    name, thing = str(rng.choice(ALL_NAMES)), str(rng.choice(ALL_THINGS))
    return NAMED_FAMILIES[family][int(rng.integers(len(NAMED_FAMILIES[family])))].format(
        n=amount, name=name, thing=thing, verb=rng.choice([*GAINS, *LOSSES]), leg=rng.choice(LEGS)
    )


def lessons_with_names(step: int, *, seed: int) -> list[tuple[str, str]]:
    """The lessons of a step: older ones of both parts of tiny-text, and new ones."""
    rng = default_rng([seed, 5, step])
    old, half = lessons_with_calls(step, seed=seed), (BATCH - NEW_ROWS) // 2
    return [*old[:half], *old[-half:], *(name_lesson(rng) for _ in range(NEW_ROWS))]


def reply_scores(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, count: int) -> dict[str, float]:
    """Share of exact replies to new lessons, by what is asked."""
    rng = default_rng([99, 5])
    rows: dict[str, list[tuple[str, str]]] = {}
    kinds = {
        f"{USE_TOOLS}:": "calls",
        RESULT_OPENED: "names of results",
        f"{REPEAT}:": "lines",
        "": "words before names",
    }
    for prompt, reply in (name_lesson(rng) for _ in range(count)):
        kind = next(kind for start, kind in kinds.items() if prompt.startswith(start))
        rows.setdefault(kind, []).append((prompt, reply))
    return {kind: exact_share(model, tokenizer, of_kind) for kind, of_kind in rows.items()}


def build_names_student(out: Path, *, steps: int, seed: int, earlier: Path | None = None) -> None:
    """Teach and save the student with its card; `steps` are those of tiny-text, in `earlier` or the package."""
    base = earlier or Path(__file__).parents[1] / "aot" / "student" / "tiny" / "text"
    tokenizer = build_tokenizer(*WORDS)
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer))
    model.train()
    done = 0
    for go in GOES:
        before = done
        teach(
            model, tokenizer, lambda step, before=before: lessons_with_names(before + step, seed=seed),  # type: ignore[misc]
            steps=go, learning_rate=LEARNING_RATE,
        )  # fmt: skip
        done += go
    model.eval()
    asked = set(np.load(base / "asked.npy", allow_pickle=False))
    scores = {k: direct_score(model, tokenizer, asked=asked, problem_steps=k, count=300) for k in (1, 2, 3)}
    replies = reply_scores(model, tokenizer, count=600)
    print(f"exact direct answers by steps: {scores}; exact replies: {replies}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)
    card = CARD.format(
        seed=seed, steps=done, n=600,
        scores=", ".join(f"{score:.1%} with {k} step{'s' * (k > 1)}" for k, score in scores.items()),
        replies=", ".join(f"{kind} {share:.1%}" for kind, share in replies.items()),
    )  # fmt: skip
    (out / "README.md").write_text(card, encoding="utf-8")
