"""What the chat models of a run cost, and what the checks on them found, in words: for report, card and summary."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from aot.reporting.numbers import percent, short
from aot.reporting.pivot import Pivot, word_table
from aot.run_records import Funnel

SPEND = {"spend": "plans and writes", "vision_spend": "looks"}
"""Entries of teacher.json, and what the chat model does whose cost they hold."""
HIDDEN = (*SPEND, "gpu_hours_per_thousand_chains", "failures", "chat_settings")
"""Entries of teacher.json that the report shows here, or in `failed_traces`, and nowhere else."""

_ODD = (("unusable_calls", "of them without a usable reply"), ("calls_without_usage", "without a count of tokens"))


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
    rows = []
    for spent, does in ((teacher.get(name) or {}, does) for name, does in SPEND.items()):
        if not spent.get("calls"):
            continue
        cost, hours = spent.get("cost"), spent.get("gpu_hours")
        odd = [f", {spent[key]} {what}" for key, what in _ODD if spent.get(key)]
        row = SpendRow(
            model=str(spent.get("model", "")),
            does=does,
            calls="".join([str(spent["calls"]), *odd]),
            prompt=_tokens(spent, "prompt_tokens", "cached_prompt_tokens", "cached"),
            completion=_tokens(spent, "completion_tokens", "reasoning_tokens", "thinking"),
            cost=f"{short(cost)} {spent.get('currency', '')}, {spent.get('price_date', '')}",
            gpu_hours="" if hours is None else short(hours),
        )
        rows.append(row._replace(cost="unpriced") if cost is None else row)
    return rows


def _tokens(spent: Mapping[str, Any], name: str, part: str, what: str) -> str:
    usage = spent.get("usage") or {}
    return f"{usage.get(name, 0)}" + (f" ({usage[part]} {what})" if usage.get(part) else "")


def spend_table(teacher: Mapping[str, Any]) -> list[Pivot]:
    """What each chat model cost."""
    rows = [row._replace(gpu_hours=row.gpu_hours or "unknown") for row in spend_rows(teacher)]
    columns = ("model", "", "calls", "prompt tokens", "completion tokens", "cost", "GPU-hours")
    return word_table("What the chat models cost", columns, rows)


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
            precision, recall = (percent(share) for share in (judge.precision, judge.recall))
            quality = f"; planted defects: precision {precision}, recall {recall}"
        sentences.append(
            f"judge: {judge.dropped} of {judge.judged} traces dropped, {judge.failed} without a usable verdict{quality}"
        )
    return sentences
