"""The text student of build_tiny_students.py: a Llama of about 1.9 million parameters that knows single steps.

It learns to answer one-step problems, to work one equation out, and to repeat lines that chains are made of, among them
short chains that stand in one line. It never sees a problem of two steps, nor a chain that answers anything: putting
steps together is what distillation has to teach. asked.npy tells which questions it was asked, so that no evaluation
asks them again.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator, default_rng
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from aot.config import ToyMathConfig
from aot.records import THOUGHT_MODES
from aot.student.rows.prompts import MODE_LINES, MODE_SUFFIX
from text_cot.datasets.toy_math import (
    NAMES,
    NEW_NAMES,
    NEW_THINGS,
    THINGS,
    Problem,
    draw_problem,
    draw_toy_math,
    text_key,
)
from text_cot.families import FAMILIES, Scope
from text_cot.families.totals import clock

WIDTH, LAYERS, HEADS, INNER = 192, 4, 6, 512
BATCH, PARTS = 96, 3
LEARNING_RATE, WARM_UP = 1e-3, 100
SPACE = "▁"
MARKS = ".,:;?!+-=><*/()$%'\"#_[]{}\\"
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<user>{{ message['content'] }}"
    "{% else %}<assistant>{{ message['content'] }}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
WORK_OUT, REPEAT = "Work out", "Repeat"
ALL_NAMES, ALL_THINGS = (*NAMES, *NEW_NAMES), (*THINGS, *NEW_THINGS)
SMALL = Scope(names=ALL_NAMES, things=ALL_THINGS, low=0, high=99, most=199)
LARGE = Scope(names=ALL_NAMES, things=ALL_THINGS, low=0, high=500, most=999)
CARD = """# tiny-text

A Llama of {parameters:,} parameters, made by `scripts/build_tiny_students.py --student text` (seed {seed}, {steps}
steps) from problems that the same code draws; Apache-2.0. It answers problems of one step, works one equation out, and
repeats lines that chains of thought are made of. It was never asked a problem of two steps, nor shown a chain as an
answer, and it knows nothing of the real world. It saw all names, things, families and sizes of number that the splits
of the embedded problems use; `asked.npy` holds a key of every question it was asked, and no evaluation split asks one
of these. It is there so that the whole system can be tried on a laptop; it is not a model to use.

Exact answers on {n} new problems for each number of steps, asked to answer directly: {scores}.
"""


def _vocabulary_texts(seed: int, count: int) -> Iterator[str]:
    """Questions and chains of all splits, so that the tokenizer knows every word."""
    for question in draw_toy_math(ToyMathConfig(train=count, test=1, test_ood=count // 2), seed=seed):
        yield question.text
        family = FAMILIES[question.kind]
        state = family.state_type.model_validate(question.state)
        for phrasing in (0, 1):
            yield "\n".join([*family.solve(state, "fine", phrasing), *family.solve(state, "coarse", phrasing)])


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each word, mark and digit, each with and without a space before it; text comes back as it was."""
    prompts = [*MODE_SUFFIX.values(), *(MODE_LINES[mode] for mode in THOUGHT_MODES), WORK_OUT, REPEAT, "Answer"]
    texts = [*_vocabulary_texts(seed=0, count=2000), *prompts, *ALL_NAMES, *ALL_THINGS]
    words = sorted({word for text in texts for word in re.findall(r"[A-Za-z]+", text)})
    pieces = [*words, *MARKS, *"0123456789"]
    vocab = ["<pad>", "<unk>", "<user>", "<assistant>", "<end>", "\n", SPACE, *pieces, *(SPACE + p for p in pieces)]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocab)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    pattern = Regex(rf"{SPACE}?\d|{SPACE}?[A-Za-z]+|{SPACE}?[^\w\s{SPACE}]|\n|{SPACE}")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>"], model_max_length=1024, padding_side="left",
        clean_up_tokenization_spaces=False, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained text student."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=1024,
            tie_word_embeddings=True, bos_token_id=None, pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip


def lesson(rng: Generator) -> tuple[str, str]:
    """A prompt and its reply: a problem of one step, an equation to work out, or lines to repeat."""
    draw = rng.random()
    if draw < 0.4:
        problem = draw_problem(rng, str(rng.choice(list(FAMILIES))), steps=1, scope=_scope(rng))
        return f"{problem.text} {MODE_SUFFIX['direct']}", problem.family.answer(problem.state)
    if draw < 0.75:
        left, result = _fact(rng)
        return f"{WORK_OUT}: {left}", f"{left} = {result}."
    lines = "\n".join(_line(rng) for _ in range(int(rng.integers(1, 4))))
    return f"{REPEAT}: {lines}", lines


def asked_texts(*, steps: int, seed: int) -> Iterator[str]:
    """Every question that `teach` asks, without what says how to answer."""
    ending = f" {MODE_SUFFIX['direct']}"
    for step in range(steps):
        rng = default_rng([seed, 3, step])
        for _ in range(BATCH):
            prompt, _ = lesson(rng)
            if prompt.endswith(ending):
                yield prompt.removesuffix(ending)


def _scope(rng: Generator) -> Scope:
    return SMALL if rng.random() < 0.8 else LARGE


def _fact(rng: Generator) -> tuple[str, str]:
    """The left side of an equation and its result."""
    if rng.random() < 0.2:
        start, more = 5 * int(rng.integers(72, 265)), 5 * int(rng.integers(1, 12))
        return f"{clock(start)} + {more} minutes", clock(start + more)
    scope = _scope(rng)
    total, part = sorted((int(rng.integers(scope.most + 1)), int(rng.integers(scope.high + 1))), reverse=True)
    if rng.random() < 0.5:
        return f"{total} - {part}", str(total - part)
    part = min(part, scope.most - total)
    first, second = (total, part) if rng.random() < 0.7 else (part, total)
    return f"{first} + {second}", str(first + second)


def _line(rng: Generator) -> str:
    """One line of a chain, a clause of a question, an answer line or a mode line, each of another problem."""
    name = str(rng.choice(list(FAMILIES)))
    family = FAMILIES[name]
    problem = draw_problem(rng, name, steps=1 + int(rng.integers(4)), scope=_scope(rng))
    draw = rng.random()
    if draw < 0.6:
        chain = family.solve(problem.state, "fine" if rng.random() < 0.8 else "coarse", int(rng.integers(2)))
        return chain[int(rng.integers(len(chain)))]
    if draw < 0.75:
        return f"Answer: {family.answer(problem.state)}"
    if draw < 0.85:
        return MODE_LINES[THOUGHT_MODES[int(rng.integers(3))]]
    clauses = problem.text.split(". ")
    return clauses[int(rng.integers(len(clauses)))]


def teach(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, steps: int, seed: int) -> None:
    """Train every weight on lessons; batch i is a pure function of (seed, i)."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, max(0.02, 1 - step / steps))
    )
    started_s = time.monotonic()
    for step in range(steps):
        rng = default_rng([seed, 3, step])
        rows = sorted(
            (_encode(tokenizer, *lesson(rng)) for _ in range(BATCH)), key=lambda row: len(row[0]) + len(row[1])
        )
        supervised = sum(len(reply) for _, reply in rows)
        optimizer.zero_grad()
        total = 0.0
        for part in range(PARTS):
            loss = (
                _summed_loss(model, rows[part * BATCH // PARTS : (part + 1) * BATCH // PARTS], tokenizer) / supervised
            )
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"text {step}/{steps} loss {total:.4f} {time.monotonic() - started_s:.0f} s", flush=True)


def _encode(tokenizer: PreTrainedTokenizerFast, prompt: str, reply: str) -> tuple[list[int], list[int]]:
    asked = tokenizer(f"<user>{prompt}<assistant>")["input_ids"]
    return asked, [*tokenizer(reply)["input_ids"], tokenizer.eos_token_id]


def _summed_loss(
    model: LlamaForCausalLM, rows: list[tuple[list[int], list[int]]], tokenizer: PreTrainedTokenizerFast
) -> torch.Tensor:
    """Cross-entropy summed over the reply tokens; logits are made for those only."""
    width = max(len(asked) + len(told) for asked, told in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), -100)
    for i, (asked, told) in enumerate(rows):
        ids[i, : len(asked) + len(told)] = torch.tensor(asked + told)
        labels[i, len(asked) : len(asked) + len(told)] = torch.tensor(told)
    wanted = labels[:, 1:]
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]  # padding is on the right: causal masking suffices
    logits = model.lm_head(hidden[wanted != -100])
    return torch.nn.functional.cross_entropy(logits, wanted[wanted != -100], reduction="sum")


@torch.inference_mode()
def direct_score(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    *,
    asked: set[np.uint64],
    problem_steps: int,
    count: int,
) -> float:
    """Share of problems of so many steps, none of them asked before, that are answered exactly and directly."""
    rng = default_rng([99, problem_steps])
    names = list(FAMILIES)
    right = 0
    for start in range(0, count, 50):
        problems: list[Problem] = []
        while len(problems) < 50:
            problem = draw_problem(rng, names[(start + len(problems)) % len(names)], steps=problem_steps)
            problems += [] if text_key(problem.text) in asked else [problem]
        prompts = [f"<user>{problem.text} {MODE_SUFFIX['direct']}<assistant>" for problem in problems]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
        output = model.generate(**inputs, max_new_tokens=8, do_sample=False)  # type: ignore[misc]
        told = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        right += sum(text == p.family.answer(p.state) for text, p in zip(told, problems, strict=True))
    return right / count


def build_text_student(out: Path, *, steps: int, seed: int) -> None:
    """Build, teach and save the text student with its card."""
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {len(tokenizer)} tokens", flush=True)
    model.train()
    teach(model, tokenizer, steps=steps, seed=seed)
    model.eval()
    asked = {text_key(text) for text in asked_texts(steps=steps, seed=seed)}
    scores = {k: direct_score(model, tokenizer, asked=asked, problem_steps=k, count=300) for k in (1, 2, 3)}
    print(f"exact direct answers by steps: {scores}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)
    np.save(out / "asked.npy", np.array(sorted(asked), dtype=np.uint64))
    told = ", ".join(f"{score:.1%} with {k} step{'s' * (k > 1)}" for k, score in scores.items())
    card = CARD.format(parameters=parameters, seed=seed, steps=steps, n=300, scores=told)
    (out / "README.md").write_text(card, encoding="utf-8")
