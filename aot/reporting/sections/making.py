"""How the run was made: what the teacher yielded and cost, how training went, refused inputs, and settings."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aot.config import ChatConfig, dump_config
from aot.reporting.charts import Drawing, line_chart
from aot.reporting.load import RunData
from aot.reporting.pivot import Pivot, short, title, word_table
from aot.reporting.sections import Block, Section, absent, charts, note, open_tables, tables, words
from aot.reporting.students import training_facts

SHOWN_REFUSALS = 200
MAX_POINTS = 400
"""A longer curve is drawn from every n-th of its points."""
_CURVES = {
    "loss": "Loss",
    "label_loss": "Loss on answers",
    "rationale_loss": "Loss on rationales",
    "grad_norm": "Gradient norm",
}
_TRAINED = {
    "trainable_parameters": "trainable parameters",
    "trainable_share": "share of all",
    "questions": "questions",
    "lessons": "lessons",
    "rationales_seen": "rationales seen",
    "max_steps": "steps",
    "packing": "rows",
}

SPEND = {"spend": "plans and writes", "vision_spend": "looks"}
"""Entries of teacher.json, and what the chat model does whose cost they hold."""
HIDDEN = (*SPEND, "gpu_hours_per_thousand_chains", "failures", "chat_settings")
"""Entries of teacher.json that the report shows here, or in `failed_traces`, and nowhere else."""
_ODD = (("unusable_calls", "of them without a usable reply"), ("calls_without_usage", "without a count of tokens"))


def stats_blocks(values: Mapping[str, Any]) -> list[Block]:
    """Scalars of a statistics file as figures; nested mappings and lists of mappings as tables."""
    figures: list[tuple[str, str]] = []
    nested: list[Pivot] = []
    for name, value in values.items():
        if isinstance(value, dict) and value and all(isinstance(item, dict) for item in value.values()):
            nested += _stat_table(_heading(name), [{"": key, **item} for key, item in value.items()])
        elif isinstance(value, dict) and value:
            nested += word_table(_heading(name), ("", "count"), [(key, short(item)) for key, item in value.items()])
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            nested += _stat_table(_heading(name), value)
        elif not isinstance(value, (dict, list)):
            figures.append((title(name), short(value)))
    return [Block("figures", items=figures), *open_tables(nested)]


def _heading(name: str) -> str:
    text = title(name)
    return text[:1].upper() + text[1:]


def _stat_table(name: str, rows: Sequence[Mapping[str, Any]]) -> list[Pivot]:
    flat = [_flat(row) for row in rows]
    columns = dict.fromkeys(key for row in flat for key in row)
    return word_table(name, [title(key) for key in columns], [[row.get(key, "") for key in columns] for row in flat])


def _flat(row: Mapping[str, Any], start: str = "") -> dict[str, str]:
    """Column to words; what is nested gets columns of its own, shares are written with their intervals."""
    flat: dict[str, str] = {}
    for name, value in row.items():
        key = f"{start}{name}"
        if isinstance(value, Mapping) and value.keys() == {"value", "low", "high"}:
            scale, unit, places = (1, "", 2) if str(row.get("metric", "")).endswith("iou") else (100, "%", 1)
            number, low, high = (f"{scale * value[part]:.{places}f}" for part in ("value", "low", "high"))
            flat[key] = f"{number}{unit} [{low}, {high}]"
        elif isinstance(value, Mapping):
            flat |= _flat(value, f"{key}_")
        else:
            flat[key] = short(value)
    return flat


def curve_charts(data: RunData) -> list[Drawing]:
    """One chart for each logged quantity, one line for each arm of the config."""
    drawings = []
    shown = {arm.name: data.learning.shown(arm.name) for arm in data.arms}
    for key, name in _CURVES.items():
        series = {shown[arm]: _line(rows, key) for arm, rows in data.curves.items() if arm in shown}
        series = {arm: line for arm, line in series.items() if line and any(y for _, y in line)}
        fills = {shown[arm]: data.learning.colors[arm] for arm in shown}
        drawings += [line_chart(series, colors=fills, name=name, x_name="step")] if series else []
    return drawings


def _line(rows: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    line = [(float(r["step"]), float(r[key])) for r in rows if "step" in r and isinstance(r.get(key), (int, float))]
    stride = max(1, -(-len(line) // MAX_POINTS))
    return line[::stride] if not line or (len(line) - 1) % stride == 0 else [*line[::stride], line[-1]]


def training_table(data: RunData) -> list[Pivot]:
    """What each arm was trained on, and how much of the model changed; nothing before training."""
    rows = []
    for arm in data.arms:
        facts = training_facts(data.run, arm.name)
        if facts:
            figures = [f"{x:,}" if isinstance(x := facts.get(key), int) else short(x) for key in _TRAINED]
            rows.append((data.learning.shown(arm.name), arm.tuning, *figures))
    columns = ("arm", "tuning", *_TRAINED.values())
    return word_table("What each arm learned from", columns, rows)


def stage_seconds(facts: Mapping[str, Any]) -> str:
    """Names and wall times of finished stages, in words."""
    stages = {name: stage.get("seconds") for name, stage in facts.get("stages", {}).items()}
    times = [f"{name} {seconds:.0f} s" for name, seconds in stages.items() if isinstance(seconds, (int, float))]
    return f"Time: {', '.join(times)}." if times else ""


def _teacher(data: RunData) -> list[Block]:
    if not data.teacher:
        return [absent(data, "no statistics of the teacher yet", "generate")]
    changed, hours = settings_sentence(data.teacher), data.teacher.get("gpu_hours_per_thousand_chains")
    return [
        *stats_blocks({name: value for name, value in data.teacher.items() if name not in HIDDEN}),
        *tables(_stat_table("What the chat models cost", spend_rows(data.teacher))),
        *note("" if hours is None else f"{short(hours)} GPU-hours per thousand chains."),
        *note(f"{changed}." if changed else ""),
    ]


def _training(data: RunData) -> list[Block]:
    curves = charts(curve_charts(data))
    none = absent(data, "no training log yet", "train", "the arms left no training log")
    return [*tables(training_table(data)), *(curves or [none])]


def _refused(data: RunData) -> list[Block]:
    if not data.refusals:
        return [words(f"None: every {'clip and every ' if data.has_frames else ''}question could be used.")]
    rows = [(row.item, row.boundary, row.reason, row.detail) for row in data.refusals[:SHOWN_REFUSALS]]
    more = len(data.refusals) - SHOWN_REFUSALS
    table = word_table("", ("item", "where", "reason", "detail"), rows)
    return [*tables(table), *note(f"{more:,} more are listed in refusals.jsonl." if more > 0 else "")]


def _settings(data: RunData) -> list[Block]:
    facts = data.provenance
    commands = facts.get("commands") or ([facts["command"]] if "command" in facts else [])
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    given = [words("Commands given so far, in order:"), Block("pre", "\n".join(map(shlex.join, commands)))]
    return [
        *(given if commands else []),
        words(
            "The same config and seed give the same kept traces, metrics and adapters."
            + (f" Versions: {versions}." if versions else "")
        ),
        Block("pre", dump_config(data.config)),
    ]


def _use(data: RunData) -> list[Block]:
    """Commands for the student that a run trained, with its own paths and one of its own questions."""
    run, arm = data.run, data.learning.lead
    if arm is None or arm not in data.learning.seen:
        return [absent(data, "no student was trained yet", "train", "no record of a trained student is left")]
    folder, export, name = (shlex.quote(text) for text in (str(run.root), f"exports/{run.root.name}", arm))
    question = min(data.evaluated, key=lambda one: (len(one.text), one.id), default=None)
    text = question.text if question else "a question"
    clips = Path(getattr(data.config.data, "root", None) or run.clips)
    clip = str(clips / question.media.uri) if question and question.media else ""
    about = [f"--clip {shlex.quote(clip)}"] if clip else []
    about += [f"--choice {shlex.quote(choice)}" for choice in (question.choices if question else ())]
    one = " ".join([*about, shlex.quote(text)])
    many = f"--in {shlex.quote(str(run.questions))}{f' --root {shlex.quote(str(clips))}' if data.has_frames else ''}"
    python = f"from aot import load_student\n\nstudent = load_student({f'exports/{run.root.name}'!r})\n"
    python += f"print(student.ask({text!r}{f', clip={clip!r}' if clip else ''}).answer)"
    return [
        words(f"Export {data.learning.shown(arm)} as a folder that works alone; then ask it one question, or many:"),
        Block("pre", f"aot export {folder} {name} {export}\naot predict {export} {one}\n"
              f"aot predict {export} {many} --out answers.jsonl"),
        words("Serve it over HTTP, in the way of OpenAI's API; or ask it in Python:"),
        Block("pre", f"aot serve {export}"),
        Block("pre", python),
        words("Compare it with its base, question by question; or take the kept traces, with a data card, elsewhere:"),
        Block("pre", f"aot compare {folder} {folder} --arm {name} --arm-b base\naot data export {folder} --to traces"),
    ]  # fmt: skip


def spend_rows(teacher: Mapping[str, Any]) -> list[dict[str, str]]:
    """Column to words for each chat model whose calls were noted; a script and a local model note none."""
    rows = []
    for spent, does in ((teacher.get(name) or {}, does) for name, does in SPEND.items()):
        if not spent.get("calls"):
            continue
        cost, hours = spent.get("cost"), spent.get("gpu_hours")
        dated = f"{short(cost)} {spent.get('currency', '')}, {spent.get('price_date', '')}"
        odd = "".join(f", {spent[key]} {what}" for key, what in _ODD if spent.get(key))
        row = {
            "model": str(spent.get("model", "")),
            "": does,
            "calls": f"{spent['calls']}{odd}",
            "prompt tokens": _tokens(spent, "prompt_tokens", "cached_prompt_tokens", "cached"),
            "completion tokens": _tokens(spent, "completion_tokens", "reasoning_tokens", "thinking"),
            "cost": "unpriced" if cost is None else dated,
            "GPU-hours": "unknown" if hours is None else short(hours),
        }
        rows.append(row)
    return rows


def _tokens(spent: Mapping[str, Any], name: str, part: str, what: str) -> str:
    usage = spent.get("usage") or {}
    return f"{usage.get(name, 0)}" + (f" ({usage[part]} {what})" if usage.get(part) else "")


def settings_sentence(teacher: Mapping[str, Any]) -> str:
    """How many rows were made under which chat settings, where these changed during the run; else nothing."""
    groups = teacher.get("chat_settings") or ()
    stated = [group.get("settings") or {} for group in groups]
    names = sorted({name for one in stated for name in one})
    # Rows of an earlier version know nothing of a setting that came since: it was what it is by itself.
    held = [one and {name: one.get(name, _default_of(name)) for name in names} for one in stated]
    changed = [name for name in names if len({str(one[name]) for one in held if one}) > 1]
    rows: Counter[str] = Counter()
    for group, one in zip(groups, held, strict=True):
        rows[", ".join(f"{name}={one[name]}" for name in changed) if one else ""] += group.get("rows") or 0
    if len(rows) < 2:
        return ""
    listed = "; ".join(f"{count} rows with {one or 'others'}" for one, count in rows.items())
    return f"chat settings changed during the run: {listed}"


def _default_of(name: str) -> object:
    field = ChatConfig.model_fields.get(name.rpartition(".")[2])
    return field.default if field else None


def logprobs_sentence(teacher: Mapping[str, Any], *, wanted: bool) -> str:
    """How many turns of the teacher's model came with log-probabilities, where these were `wanted` or any came."""
    turns, those_with = teacher.get("model_turns"), teacher.get("model_turns_with_logprobs")
    if not turns or not (wanted or those_with):
        return ""
    lacking = "; the server left out what chat.logprobs asked for" if wanted and those_with != turns else ""
    return f"log-probabilities: {those_with} of {turns} turns of the teacher's model have them{lacking}"


USE = Section("use", "Use the student", "How to use the student", _use)
TEACHER = Section("teacher", "Teacher", "Teacher", _teacher)
TRAINING = Section("training", "Training", "Training", _training)
REFUSED = Section("refused", "Refused inputs", "Refused inputs", _refused)
SETTINGS = Section("settings", "Settings", "Settings, and how to repeat this run", _settings)
