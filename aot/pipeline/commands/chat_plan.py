"""What a run would ask of chat models, for `--dry-run`: calls, tokens and cost, as an estimate and as an upper bound.

The tokens of a call are rough means for prompts of this project; the actual use stands in the run folder afterwards.
"""

from dataclasses import dataclass

from aot.config import RunConfig
from aot.config.chat import ChatConfig
from aot.display import counted

TURNS = 4
"""Turns of a chat planner until it answers, if it answers at its first try."""
PLAN_TOKENS, TEXT_TOKENS, REWRITE_TOKENS, JUDGE_TOKENS = (2500, 200), (700, 350), (1200, 250), (1500, 150)
"""Prompt and completion tokens of one call; thinking models need more."""


@dataclass(frozen=True)
class _Share:
    """Calls of one purpose."""

    what: str
    section: ChatConfig | None
    likely: int
    at_most: int
    tokens: tuple[int, int]


def chat_lines(config: RunConfig, *, questions: int, training: int) -> list[str]:
    """A line for each purpose that a chat model is asked for; empty where none is.

    Args:
        config: of the run.
        questions: how many questions are given to the teacher.
        training: how many of them are for training, and judged.
    """
    return [_line(share) for share in _shares(config, questions, training) if share.section is not None]


def _shares(config: RunConfig, questions: int, training: int) -> list[_Share]:
    teacher, shares = config.teacher, []
    tries = teacher.candidates * questions
    if teacher.planner == "chat" and config.door == "text":
        at_most = tries * (1 + teacher.shuffle_checks)  # where the questions have options
        shares.append(_Share("chains", config.chat, tries, at_most, TEXT_TOKENS))
    elif teacher.planner == "chat":
        checks = 1 + teacher.shuffle_checks
        likely = questions * min(TURNS, teacher.max_turns) * checks
        at_most = (tries + questions * teacher.shuffle_checks) * teacher.max_turns
        shares.append(_Share("plans", config.chat, likely, at_most, PLAN_TOKENS))
    if teacher.rationale == "chat" and config.door == "video":
        shares.append(_Share("rationales", config.chat, questions, tries, REWRITE_TOKENS))
    if config.filter.judge:
        shares.append(_Share("judgements", config.judge_chat or config.chat, training, training, JUDGE_TOKENS))
    return shares


def _line(share: _Share) -> str:
    from aot.chat.spend import estimate

    assert share.section is not None, "only asked where there is a model"
    prompt, completion = share.tokens[0], min(share.tokens[1], share.section.max_tokens)
    prices = share.section.prices
    told = []
    for calls in dict.fromkeys((share.likely, share.at_most)):
        cost = estimate(calls=calls, prompt_tokens=prompt, completion_tokens=completion, prices=prices)
        money = "unpriced" if cost is None or prices is None else f"{cost:.2f} {prices.currency}"
        tokens = f"{calls * prompt:,} prompt and {calls * completion:,} completion tokens"
        told.append(f"{counted(calls, 'call')}, {tokens}, {money}")
    dated = f" (prices of {prices.date})" if prices else ""
    return f"chat model {share.section.model}, {share.what}: about {'; at most '.join(told)}{dated}"
