"""What a judge would write at each place of a reply that a student wrote, whose ids it is shown as they are.

The judge is a model in this process, or one behind a server of completions that tells the log-probabilities of a
prompt, and reads the evidence before the question, which the student did not; or it is the teacher's chain itself.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from math import exp
from typing import Any

import numpy as np
import torch

from aot.answer_records import JudgedRollout, Rollout
from aot.chat.client import map_threads
from aot.chat.server.keys import read_key
from aot.config import ChatConfig, OnPolicyConfig
from aot.display import counted
from aot.errors import ChatError, CheckpointError, SourceError
from aot.records import Question
from aot.student.answer.decoding import on_device
from aot.student.model.loading import Student
from aot.student.rows.collate import Collator, logits_needed
from aot.student.rows.examples import Example, encode_row
from aot.student.rows.frames import FramePixels, shown_frames
from aot.student.rows.packing import IGNORED, EncodedRow, Likely
from aot.student.rows.replies import with_evidence
from aot.student.rows.tokens import Renderer

logger = logging.getLogger(__name__)
DIGITS = 4
"""Of stored log-probabilities behind the point."""
LEAST_LOGPROB = -7.0
"""Tokens of less than a thousandth, about, are not kept one by one."""
_STEP_END = re.compile(r"\n|[.;!?]\s*$")


def judge_rollouts(
    rollouts: Sequence[Rollout],
    *,
    questions: Mapping[str, Question],
    evidence: Mapping[str, str],
    chains: Mapping[str, Sequence[str]],
    judge: Student,
    pixels: FramePixels | None,
    section: OnPolicyConfig,
    size: int,
) -> Iterator[JudgedRollout]:
    """The replies with what the judge thinks of them, in their order; those too long for it are left out, and counted.

    Args:
        rollouts: replies of a student.
        questions: question id to question.
        evidence: question id to what a model that judges is shown besides.
        chains: question id to the wordings of its chain, which a judge that is no model follows.
        judge: who judges; where that is a model behind a server, or none, a student with the tokenizer.
        pixels: the stored frames as the judge's processor makes them; None where nothing has frames.
        section: how many tokens are kept of each place, how steps are weighted, and which server is asked.
        size: replies read at once.

    Raises:
        ChatError: the server gave no log-probabilities.
    """
    texts = judge.renderer.tokenizer.batch_decode([[i] for i in range(len(judge.renderer.tokenizer))])
    if section.judge == "chain":
        views = _followed(judge.renderer, rollouts, chains, texts)
    else:
        examples = [
            _example(judge, questions[row.question_id], evidence[row.question_id], row, pixels) for row in rollouts
        ]
        views = (
            _asked_of_server(section, examples)
            if section.judge == "server"
            else _read_here(judge, examples, pixels=pixels, top=section.top, size=size)
        )
    ends = frozenset(i for i, text in enumerate(texts) if _STEP_END.search(text))  # of a sentence or a line
    for number, row in enumerate(rollouts):
        if places := views.get(number):
            yield JudgedRollout(
                **row.model_dump(),
                likely=tuple(place.ids for place in places),
                likely_logprobs=tuple(place.logprobs for place in places),
                weights=step_weights(row, places, ends=ends, doubt=section.doubt),
            )
    if left_out := len(rollouts) - len(views):
        logger.warning("%s left out: behind the evidence too long for the judge", counted(left_out, "reply"))


def require_same_tokens(judge: Student, student: Student) -> None:
    """Look whether a judge reads the student's ids as what they are.

    Raises:
        CheckpointError: its tokenizer is another one.
    """
    if judge.renderer.tokenizer.get_vocab() != student.renderer.tokenizer.get_vocab():
        raise CheckpointError(
            f"train.on_policy.judge_model {judge.config.base} has another tokenizer than the student, so its "
            "probabilities are not of the student's tokens; take a judge of the same family"
        )


def step_weights(row: Rollout, places: Sequence[Likely], *, ends: frozenset[int], doubt: float) -> tuple[float, ...]:
    """Of each token exp(-doubt * d), with d the divergence of its step, in nats a token and at least 0.

    A place of which the judge thinks nothing has no weight.

    That divergence is estimated on the student's own tokens. A step on which the two differ much tells that the judge
    reads what it would never have come to, so its word counts less there (arXiv 2605.07725, which has another form).
    `ends` are the ids that end a step.
    """
    weights: list[float] = []
    gaps: list[float] = []
    for position, (token, logprob, place) in enumerate(zip(row.ids, row.logprobs, places, strict=True), start=1):
        agrees = place.ids[:1] == (token,)
        gaps.append(logprob - (place.logprobs[0] if agrees else LEAST_LOGPROB) if place.ids else 0.0)
        if token in ends or position == len(row.ids):
            divergence = max(0.0, sum(gaps) / len(gaps))
            weights += [round(exp(-doubt * divergence), DIGITS)] * len(gaps)
            gaps = []
    return tuple(weight if place.ids else 0.0 for weight, place in zip(weights, places, strict=True))


def _example(
    judge: Student, question: Question, evidence: str, row: Rollout, pixels: FramePixels | None
) -> Example | None:
    """A reply behind the prompt that the judge reads; None where that is too long, or cannot be shown."""
    try:
        store = pixels.store if pixels else None
        frames = shown_frames(store, question, shown=row.with_frames, num_frames=judge.config.num_frames)
        prompt = encode_row(judge.renderer, with_evidence(question, evidence), frames, mode=row.mode).prompt_ids
    except SourceError:
        return None
    encoded = EncodedRow(prompt, row.ids)
    return Example(question.id, (encoded,), frames) if encoded.num_tokens <= judge.most_tokens else None


@torch.inference_mode()
def _read_here(
    judge: Student, examples: Sequence[Example | None], *, pixels: FramePixels | None, top: int, size: int
) -> dict[int, tuple[Likely, ...]]:
    """By number of the example what `judge` would write at each place of its reply."""
    # Never packed: rows come back in the order in which they were put in.
    collate = Collator(judge.renderer, judge.pad_id, packed=False, pixels=pixels)
    there = {number: example for number, example in enumerate(examples) if example}
    # With frames and without apart, like lengths together: a batch is as wide as its longest row.
    order = sorted(there, key=lambda i: (there[i].frames is None, there[i].rows[0].num_tokens))
    views: dict[int, tuple[Likely, ...]] = {}
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        batch = collate([there[i] for i in numbers])
        views.update(zip(numbers, _read(judge, batch, top=top), strict=True))
    return views


def _read(judge: Student, batch: dict[str, Any], *, top: int) -> list[tuple[Likely, ...]]:
    """The likeliest tokens at the supervised places of each row of a batch."""
    labels = batch["labels"]
    ours = ("question_ids", "num_supervised", "clip_plan", "labels", "is_rationale")
    inputs = on_device(judge, {key: value for key, value in batch.items() if key not in ours})
    keep = logits_needed(labels)
    logits = judge.model(**inputs, use_cache=False, logits_to_keep=keep).logits[:, -keep:-1]
    labels = labels[:, 1 - keep :].to(logits.device)
    rows, columns = torch.nonzero(labels != IGNORED, as_tuple=True)
    logprobs, chosen = torch.log_softmax(logits[rows, columns].float(), dim=-1), labels[rows, columns]
    best = logprobs.topk(min(top, logprobs.shape[1]))
    picked = logprobs.gather(1, chosen[:, None])[:, 0].tolist()
    made: list[list[Likely]] = [[] for _ in range(len(labels))]
    values = zip(rows.tolist(), chosen.tolist(), picked, best.indices.tolist(), best.values.tolist(), strict=True)
    for row, token, logprob, ids, others in values:
        made[row].append(likely(token, {**dict(zip(ids, others, strict=True)), token: logprob}))
    return [tuple(places) for places in made]


def likely(token: int, logprobs: Mapping[int, float]) -> Likely:
    """What is kept of a place: the reply's token first, then the others from the likeliest on.

    >>> likely(7, {3: -1.0, 7: -0.5, 9: -20.0})
    Likely(ids=(7, 3), logprobs=(-0.5, -1.0))
    """
    others = [one for one, value in logprobs.items() if one != token and value > LEAST_LOGPROB]
    ids = (token, *sorted(others, key=lambda one: (-logprobs[one], one)))
    return Likely(ids, tuple(round(logprobs[one], DIGITS) for one in ids))


def _followed(
    renderer: Renderer, rollouts: Sequence[Rollout], chains: Mapping[str, Sequence[str]], texts: Sequence[str]
) -> dict[int, tuple[Likely, ...]]:
    """The same from the chain itself: the wording that is nearest to the reply, and where each place is in it.

    `texts` are those of all tokens, by id.
    """
    numbers = frozenset(i for i, text in enumerate(texts) if any(map(str.isdigit, text)))
    views: dict[int, tuple[Likely, ...]] = {}
    for number, row in enumerate(rollouts):
        # What a student may say in other words is no slip: else the judge would teach which wording was picked.
        wordings = [renderer.completion_ids(text) for text in chains[row.question_id]]
        tables = [edit_table(row.ids, wording, numbers=numbers) for wording in wordings]
        nearest = min(range(len(wordings)), key=lambda k: tables[k][-1, -1])
        expected = due_tokens(row.ids, wordings[nearest], tables[nearest], numbers=numbers)
        views[number] = tuple(Likely() if due is None else Likely((due,), (0.0,)) for due in expected)
    return views


def edit_table(reply: Sequence[int], chain: Sequence[int], *, numbers: frozenset[int]) -> np.ndarray:
    """[reply + 1, chain + 1]: how many edits make the beginning of `chain` of the beginning of `reply`.

    To put one token in the place of another is one edit, or two where only one of them is among `numbers`.
    """
    wording, count = np.asarray(chain), np.arange(len(chain) + 1)
    of_number = np.isin(wording, list(numbers))
    rows = [count]
    for token in reply:
        before = rows[-1]
        changed = before[:-1] + np.where(wording == token, 0, 1 + (of_number != (token in numbers)))
        after = np.concatenate([before[:1] + 1, np.minimum(changed, before[1:] + 1)])
        rows.append(np.minimum.accumulate(after - count) + count)  # tokens of the chain that the reply leaves out
    return np.stack(rows)


def due_tokens(
    reply: Sequence[int], chain: Sequence[int], table: np.ndarray, *, numbers: frozenset[int]
) -> tuple[int | None, ...]:
    """At each place of the reply the token of the chain that comes next there; None behind what has no place in it.

    Where the reply leaves a part of the chain out, the first token of that part is due, and after that what follows
    the reply's own way.

    >>> reply, chain = [1, 2, 9, 4], [1, 2, 3, 4, 5]
    >>> due_tokens(reply, chain, edit_table(reply, chain, numbers=frozenset()), numbers=frozenset())
    (1, 2, 3, 4)
    """
    due: list[int | None] = [None] * len(reply)
    at, column, fits = len(reply), len(chain), [True] * (len(reply) + 1)
    while at:  # from the end back, by way of the fewest edits
        token, here = reply[at - 1], table[at, column]
        same = column and chain[column - 1] == token
        change = 1 + bool(column and (chain[column - 1] in numbers) != (token in numbers))
        if column and here == table[at - 1, column - 1] + (0 if same else change):
            at, column = at - 1, column - 1
            due[at] = chain[column]
        elif column and here == table[at, column - 1] + 1:
            column -= 1  # left out here, so it was due where the reply went on
            if at < len(reply) and due[at] is not None:
                due[at] = chain[column]
        else:
            at -= 1
            due[at] = chain[column] if column < len(chain) else None
            fits[at + 1] = False
    return tuple(one if fits[place] else None for place, one in enumerate(due))


def _asked_of_server(section: OnPolicyConfig, examples: Sequence[Example | None]) -> dict[int, tuple[Likely, ...]]:
    """The same from a model behind a server."""
    assert section.judge_model
    chat = ChatConfig(model=section.judge_model, base_url=section.judge_url, api_key_env=section.judge_key_env)
    scorer = PromptScorer(chat, top=section.top)
    there = [(number, example.rows[0]) for number, example in enumerate(examples) if example]
    try:
        return dict(map_threads(lambda one: (one[0], scorer.score(one[1])), there, threads=chat.max_concurrency))
    finally:
        scorer.close()


class PromptScorer:
    """A server of completions that is asked for the log-probabilities of a prompt, as vLLM tells them."""

    def __init__(self, section: ChatConfig, *, top: int) -> None:
        """Asks nothing yet; `top` likeliest tokens will be asked for at each place.

        Raises:
            ConfigError: there is no key for a server elsewhere.
        """
        from openai import OpenAI  # its package is optional, and no other judge needs it

        self._key, self._model, self._top = read_key(section), section.model, top
        self._client = OpenAI(
            base_url=section.base_url, api_key=self._key.reveal(), max_retries=section.max_attempts,
            timeout=section.attempt_timeout_s,
        )  # fmt: skip

    def score(self, row: EncodedRow) -> tuple[Likely, ...]:
        """What the server's model would write at each place of the reply in `row`.

        Raises:
            ChatError: the server gave no reply, or none with log-probabilities of the prompt.
        """
        import openai

        prompt = [*row.prompt_ids, *row.completion_ids]
        try:
            made = self._client.completions.create(
                model=self._model, prompt=prompt, max_tokens=1, temperature=0.0,
                extra_body={"prompt_logprobs": self._top},
            )  # fmt: skip
        except openai.OpenAIError as error:
            said = self._key.excerpt(str(error))
            raise ChatError(f"the judge at train.on_policy.judge_url failed: {said}", reason="server_error") from None
        choice: Any = made.choices[0] if made.choices else None
        # vLLM tells them with the choice, older releases beside it.
        places = getattr(choice, "prompt_logprobs", None) or getattr(made, "prompt_logprobs", None)
        if not isinstance(places, list) or len(places) != len(prompt):
            raise ChatError(
                "the judge at train.on_policy.judge_url tells no prompt_logprobs, one for each token of a prompt; vLLM "
                "does, started with --max-logprobs of at least train.on_policy.top",
                reason="malformed",
            )
        behind = zip(row.completion_ids, places[len(row.prompt_ids) :], strict=True)
        return tuple(_place(token, place) for token, place in behind)

    def close(self) -> None:
        """Close connections."""
        self._client.close()


def _place(token: int, place: Any) -> Likely:  # noqa: ANN401 - JSON of a stranger
    """One entry of prompt_logprobs: each token id, written as text, to its log-probability and more."""
    try:
        return likely(token, {int(key): float(entry["logprob"]) for key, entry in place.items()})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ChatError(
            f"the judge at train.on_policy.judge_url told no log-probability of token {token}", reason="malformed"
        ) from error
