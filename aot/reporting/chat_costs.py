"""What the chat models of a run cost, and what the checks on them found, in words: for report, card and summary."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aot.filtering.funnel import Funnel, Share
from aot.reporting.numbers import short

SPEND = {"spend": "plans and writes", "vision_spend": "looks"}
"""Entries of teacher.json, and what the chat model does whose cost they hold."""
HIDDEN = (*SPEND, "gpu_hours_per_thousand_chains", "failures", "chat_settings")
"""Entries of teacher.json that the report shows here, or in `failed_traces`, and nowhere else."""


@dataclass(frozen=True)
class SpendRow:
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
    rows = []
    for name, does in SPEND.items():
        spent = teacher.get(name)
        if isinstance(spent, dict) and spent.get("calls"):
            rows.append(_row(spent, does))
    return rows


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
    told = [f"{group.get('rows')} rows with {one or 'others'}" for group, one in zip(groups, values, strict=True)]
    return f"chat settings were changed on the way: {'; '.join(told)}"


def check_sentences(funnel: Funnel | None) -> list[str]:
    """What the shuffled options and the judge told; nothing where neither was asked."""
    if funnel is None:
        return []
    told = []
    if (shuffle := funnel.shuffle) is not None:
        told.append(
            f"options in another order: {shuffle.changed} of {shuffle.checked} checked answers changed; "
            f"of as many random answers {short(shuffle.lucky)} would have stayed"
        )
    if (judge := funnel.judge) is not None:
        quality = ""
        if judge.precision is not None and judge.recall is not None:
            quality = f"; planted defects: precision {_share(judge.precision)}, recall {_share(judge.recall)}"
        told.append(
            f"judge: {judge.dropped} of {judge.judged} traces dropped, {judge.failed} without a usable verdict{quality}"
        )
    return told


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


def _share(share: Share) -> str:
    if share.value is None:
        return "nothing to divide by"
    return f"{100 * share.value:.1f}% [{100 * share.low:.1f}, {100 * share.high:.1f}] n={share.n}"
