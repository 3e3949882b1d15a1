"""What the chat models of a run cost, and what the checks on them found, in words: for report, card and summary."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from aot.reporting.numbers import short
from aot.reporting.pivot import Pivot, word_table
from aot.run_records import Funnel

SPEND = {"spend": "plans and writes", "vision_spend": "looks"}
"""Entries of teacher.json, and what the chat model does whose cost they hold."""
HIDDEN = (*SPEND, "gpu_hours_per_thousand_chains", "failures", "chat_settings")
"""Entries of teacher.json that the report shows here, or in `failed_traces`, and nowhere else."""


class SpendRow(NamedTuple):
    """What one chat model cost."""

    model: str
    does: str
    calls: str
    prompt: str
    completion: str
    cost: str
    gpu_hours: str


def spend_rows(teacher: Mapping[str, Any]) -> list[SpendRow]:
    """One row for each chat model whose calls were noted; a script and a local model note none."""
    spends = [(teacher.get(name), does) for name, does in SPEND.items()]
    return [_row(spent, does) for spent, does in spends if isinstance(spent, dict) and spent.get("calls")]


def spend_table(teacher: Mapping[str, Any]) -> list[Pivot]:
    """What each chat model cost."""
    rows = [row._replace(gpu_hours=row.gpu_hours or "unknown") for row in spend_rows(teacher)]
    columns = ("model", "", "calls", "prompt tokens", "completion tokens", "cost", "GPU-hours")
    return [word_table("What the chat models cost", columns, rows)] if rows else []


def gpu_hours(teacher: Mapping[str, Any]) -> str:
    """GPU-hours for a thousand chains in words; empty where they are not known."""
    hours = teacher.get("gpu_hours_per_thousand_chains")
    return "" if hours is None else f"{short(hours)} GPU-hours for a thousand chains"


def settings_sentence(teacher: Mapping[str, Any]) -> str:
    """How many rows were made under which chat settings, where these were mended on the way; else nothing."""
    groups = [group for group in teacher.get("chat_settings") or () if isinstance(group, dict)]
    if len(groups) < 2:
        return ""
    held = [group.get("settings") or {} for group in groups]
    names = sorted({name for one in held for name in one})
    changed = [name for name in names if any(one.get(name) != held[0].get(name) for one in held)]
    values = [", ".join(f"{name}={one[name]}" for name in changed if name in one) for one in held]
    rows = [f"{group.get('rows')} rows with {one or 'others'}" for group, one in zip(groups, values, strict=True)]
    return f"chat settings were changed on the way: {'; '.join(rows)}"


def logprobs_sentence(teacher: Mapping[str, Any], *, wanted: bool) -> str:
    """How many turns of the teacher's model came with log-probabilities, where these were `wanted` or any came."""
    turns, those_with = teacher.get("model_turns"), teacher.get("model_turns_with_logprobs")
    if not turns or not (wanted or those_with):
        return ""
    lacking = "; the server left out what chat.logprobs asked for" if wanted and those_with != turns else ""
    return f"log-probabilities: {those_with} of {turns} turns of the teacher's model have them{lacking}"


def check_sentences(funnel: Funnel | None) -> list[str]:
    """What the shuffled options and the judge told; nothing where neither was asked."""
    if funnel is None:
        return []
    sentences = []
    if (shuffle := funnel.shuffle) is not None:
        sentences.append(
            f"options in another order: {shuffle.changed} of {shuffle.checked} checked answers changed; "
            f"of as many random answers {short(shuffle.lucky)} would have stayed"
        )
    if (judge := funnel.judge) is not None:
        quality = ""
        if judge.precision is not None and judge.recall is not None:
            precision, recall = (share_of(s.value, s.low, s.high, s.n) for s in (judge.precision, judge.recall))
            quality = f"; planted defects: precision {precision}, recall {recall}"
        sentences.append(
            f"judge: {judge.dropped} of {judge.judged} traces dropped, {judge.failed} without a usable verdict{quality}"
        )
    return sentences


def _row(spent: Mapping[str, Any], does: str) -> SpendRow:
    usage = spent.get("usage") or {}
    calls = str(spent["calls"])
    if spent.get("unusable_calls"):
        calls += f", {spent['unusable_calls']} of them without a usable reply"
    if spent.get("calls_without_usage"):
        calls += f", {spent['calls_without_usage']} without a count of tokens"
    cost = spent.get("cost")
    priced = "unpriced" if cost is None else f"{short(cost)} {spent.get('currency', '')}, {spent.get('price_date', '')}"
    return SpendRow(
        model=str(spent.get("model", "")),
        does=does,
        calls=calls,
        prompt=_tokens(usage, "prompt_tokens", "cached_prompt_tokens", "cached"),
        completion=_tokens(usage, "completion_tokens", "reasoning_tokens", "thinking"),
        cost=priced,
        gpu_hours="" if spent.get("gpu_hours") is None else short(spent["gpu_hours"]),
    )


def _tokens(usage: Mapping[str, Any], name: str, part: str, what: str) -> str:
    inside = f" ({usage[part]} {what})" if usage.get(part) else ""
    return f"{usage.get(name, 0)}{inside}"


def share_of(value: float | None, low: float, high: float, n: int) -> str:
    """A share with its interval and n."""
    if value is None:
        return "nothing to divide by"
    return f"{100 * value:.1f}% [{100 * low:.1f}, {100 * high:.1f}] n={n}"
