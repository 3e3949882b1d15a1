"""The text student of build_tiny_students.py: a Llama of about 1.9 million parameters that knows single steps.

It learns to answer one-step problems, to work one equation out, and to repeat lines that chains are made of, among them
short chains that stand in one line. Then, while it goes on with these, it learns to write a call of the calculator for
an expression that it is told, and to say what a result holds; the words of calls stand behind all others, so that no
id of an earlier word changes. It never sees a problem of two steps, nor a chain that answers anything, nor a problem
for which a call would be of use: putting steps together is what distillation has to teach. asked.npy tells which
questions it was asked, so that no evaluation asks them again.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator, default_rng
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from aot.config import ToyMathConfig
from aot.rationales.calls import CALCULATOR_NAME, CalculatorArguments, calculate
from aot.records import THOUGHT_MODES
from aot.student.rows.prompts import (
    CLOSED,
    MODE_LINES,
    MODE_SUFFIX,
    OPENED,
    RESULT_CLOSED,
    RESULT_OPENED,
    call_text,
)
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
CALL_STEPS, CALL_LEARNING_RATE, OLD_ROWS = 300, 5e-4, 64
"""Of the second part, in which so many rows of each batch are lessons of the first."""
SPACE = "▁"
MARKS = ".,:;?!+-=><*/()$%'\"#_[]{}\\"
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<user>{{ message['content'] }}"
    "{% else %}<assistant>{{ message['content'] }}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
WORK_OUT, REPEAT, USE_TOOLS = "Work out", "Repeat", "Use the tools"
CALL_WORDS = ("Use", "tools", "name", "calculator", "arguments", "expression", "value", "about", "error")
CALL_MARKS = (
    OPENED, CLOSED, RESULT_OPENED, RESULT_CLOSED, '":▁{"', '":▁"', '",▁"', '"}}', '"}', '{"',
)  # fmt: skip
"""Tags, and what stands between the words of a call or a result; the longer before those that they begin with."""
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

After these lessons it was taught {call_steps} steps more, in which it also writes a call of the calculator for an
expression that it is told, and says what a result holds.

Exact answers on {n} new problems for each number of steps, asked to answer directly: {scores}.
Exact calls for {n} told expressions: {calls:.1%}.
"""


def _vocabulary_texts(seed: int, count: int) -> Iterator[str]:
    """Questions and chains of all splits, so that the tokenizer knows every word."""
    for question in draw_toy_math(ToyMathConfig(train=count, test=1, test_ood=count // 2), seed=seed):
        yield question.text
        family = FAMILIES[question.kind]
        state = family.state_type.model_validate(question.state)
        for phrasing in (0, 1):
            yield "\n".join([*family.solve(state, "fine", phrasing), *family.solve(state, "coarse", phrasing)])


def build_tokenizer(*more_words: str) -> PreTrainedTokenizerFast:
    """One token for each word, mark and digit, each with and without a space before it; text comes back as it was."""
    suffixes = [text for mode, text in MODE_SUFFIX.items() if mode != "tools"]
    prompts = [*suffixes, *(MODE_LINES[mode] for mode in THOUGHT_MODES), WORK_OUT, REPEAT, "Answer"]
    texts = [*_vocabulary_texts(seed=0, count=2000), *prompts, *ALL_NAMES, *ALL_THINGS]
    words = sorted({word for text in texts for word in re.findall(r"[A-Za-z]+", text)})
    pieces = [*words, *MARKS, *"0123456789"]
    vocab = ["<pad>", "<unk>", "<user>", "<assistant>", "<end>", "\n", SPACE, *pieces, *(SPACE + p for p in pieces)]
    new_words = [word for word in CALL_WORDS if word not in words]
    vocab += [*CALL_MARKS, *new_words, *(SPACE + word for word in new_words), *more_words]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocab)}, unk_token="<unk>"))
    # A tag takes no blank before it: a lone blank is a token that the model never learned to write.
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(f" {OPENED}", OPENED), normalizers.Replace(" ", SPACE)]
    )
    marks = "|".join(map(re.escape, CALL_MARKS))
    pattern = Regex(rf"{marks}|{SPACE}?\d|{SPACE}?[A-Za-z]+|{SPACE}?[^\w\s{SPACE}]|\n|{SPACE}")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<end>",
        additional_special_tokens=["<user>", "<assistant>"], model_max_length=1024, padding_side="left",
        clean_up_tokenization_spaces=False, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def num_call_words(tokenizer: PreTrainedTokenizerFast) -> int:
    """How many words at the end of the vocabulary the second part brings."""
    return len(tokenizer) - tokenizer.get_vocab()[CALL_MARKS[0]]


def build_model(tokenizer: PreTrainedTokenizerFast, *, vocab_size: int) -> LlamaForCausalLM:
    """The untrained text student, that knows the first `vocab_size` words of the tokenizer."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size, hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS,
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


def call_lesson(rng: Generator) -> tuple[str, str]:
    """A call to write for an expression that is told, or a result to say; never a problem."""
    left, _ = _fact(rng)
    arguments = CalculatorArguments(expression=left)
    if rng.random() < 0.6:
        return f"{USE_TOOLS}: {left}", call_text(CALCULATOR_NAME, arguments.model_dump())
    result = calculate(arguments)
    return f"{RESULT_OPENED}{json.dumps(result.model_dump())}{RESULT_CLOSED}", result.value


def asked_texts(*, steps: int, seed: int) -> Iterator[str]:
    """Every question that `teach` asks, without what says how to answer."""
    ending = f" {MODE_SUFFIX['direct']}"
    for step in range(steps):
        for prompt, _ in lessons_of(step, seed=seed):
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


def lessons_of(step: int, *, seed: int) -> list[tuple[str, str]]:
    """The lessons of a step of the first part."""
    rng = default_rng([seed, 3, step])
    return [lesson(rng) for _ in range(BATCH)]


def lessons_with_calls(step: int, *, seed: int) -> list[tuple[str, str]]:
    """The lessons of a step of the second part; the older ones ask what was asked before."""
    rng = default_rng([seed, 4, step])
    old = lessons_of(step, seed=seed)[:OLD_ROWS]
    return old + [call_lesson(rng) for _ in range(BATCH - OLD_ROWS)]


def teach(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, lessons: Callable[[int], list[tuple[str, str]]], *,
    steps: int, learning_rate: float,
) -> None:  # fmt: skip
    """Train every weight on the lessons of each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, max(0.02, 1 - step / steps))
    )
    started_s = time.monotonic()
    for step in range(steps):
        rows = sorted((_encode(tokenizer, *one) for one in lessons(step)), key=lambda row: len(row[0]) + len(row[1]))
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


def padded(rows: Sequence[tuple[list[int], list[int]]], *, pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of prompts with their replies, padded on the right, and labels of the replies alone: both N,L."""
    width = max(len(asked) + len(told) for asked, told in rows)
    ids = torch.full((len(rows), width), pad_id)
    labels = torch.full((len(rows), width), -100)
    for i, (asked, told) in enumerate(rows):
        ids[i, : len(asked) + len(told)] = torch.tensor(asked + told)
        labels[i, len(asked) : len(asked) + len(told)] = torch.tensor(told)
    return ids, labels


def _summed_loss(
    model: LlamaForCausalLM, rows: list[tuple[list[int], list[int]]], tokenizer: PreTrainedTokenizerFast
) -> torch.Tensor:
    """Cross-entropy summed over the reply tokens; logits are made for those only."""
    ids, labels = padded(rows, pad_id=tokenizer.pad_token_id)
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


def call_score(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, count: int) -> float:
    """Share of told expressions whose call is written exactly."""
    rng = default_rng([99, 4])
    lefts = [_fact(rng)[0] for _ in range(count)]
    rows = [(f"{USE_TOOLS}: {left}", call_text(CALCULATOR_NAME, {"expression": left})) for left in lefts]
    return exact_share(model, tokenizer, rows)


@torch.inference_mode()
def exact_share(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rows: Sequence[tuple[str, str]]) -> float:
    """Share of prompts that get exactly their reply, blanks around it apart."""
    right = 0
    for start in range(0, len(rows), 50):
        prompts = [f"<user>{prompt}<assistant>" for prompt, _ in rows[start : start + 50]]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
        output = model.generate(**inputs, max_new_tokens=48, do_sample=False)  # type: ignore[misc]
        said = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        right += sum(one.strip() == reply.strip() for one, (_, reply) in zip(said, rows[start:], strict=False))
    return right / len(rows)


def build_text_student(out: Path, *, steps: int, seed: int, earlier: Path | None = None) -> None:
    """Build, teach and save the text student with its card; with `earlier`, from one that had the first part."""
    tokenizer = build_tokenizer()
    old_words = len(tokenizer) - num_call_words(tokenizer)
    if earlier:
        model = LlamaForCausalLM.from_pretrained(earlier, dtype=torch.float32)
    else:
        model = build_model(tokenizer, vocab_size=old_words)
        teach(model, tokenizer, partial(lessons_of, seed=seed), steps=steps, learning_rate=LEARNING_RATE)
    model.resize_token_embeddings(len(tokenizer))
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters, {len(tokenizer)} tokens", flush=True)
    model.train()
    teach(model, tokenizer, partial(lessons_with_calls, seed=seed), steps=CALL_STEPS, learning_rate=CALL_LEARNING_RATE)
    model.eval()
    asked = {text_key(text) for text in asked_texts(steps=steps, seed=seed)}
    scores = {k: direct_score(model, tokenizer, asked=asked, problem_steps=k, count=300) for k in (1, 2, 3)}
    calls = call_score(model, tokenizer, count=300)
    print(f"exact direct answers by steps: {scores}; exact calls: {calls}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    model.bfloat16().save_pretrained(out)
    tokenizer.save_pretrained(out)
    np.save(out / "asked.npy", np.array(sorted(asked), dtype=np.uint64))
    told = ", ".join(f"{score:.1%} with {k} step{'s' * (k > 1)}" for k, score in scores.items())
    card = CARD.format(
        parameters=parameters, seed=seed, steps=steps, call_steps=CALL_STEPS, n=300, scores=told, calls=calls
    )
    (out / "README.md").write_text(card, encoding="utf-8")
