"""MODEL_CARD.md, filled from the run: what the student is, how it was made, how good it is, and its limits."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from aot.config import EMBEDDED_STUDENTS, RunConfig
from aot.display import counted
from aot.files.run_folder import RunFolder, publish
from aot.reporting.load import RunData, load_run
from aot.reporting.markdown import Ready, code, markdown_text
from aot.reporting.pivot import Pivot, percent, plain
from aot.reporting.report import render
from aot.reporting.sections.accuracy import (
    HEADS,
    accuracy_table,
    findings,
    headline_kind,
    quality_tables,
    savings,
    transfer_tables,
)
from aot.reporting.sections.making import settings_sentence, spend_rows
from aot.reporting.students import training_facts
from aot.student.model.licence import licence_of

DISCLOSURE = (
    "Answers of this model come from {what}. They can be wrong while sounding sure; any high-stakes use needs review "
    "by a person."
)
DISTILLED = "a distilled model that imitates an automatic teacher"
UNDISTILLED = "a model that was trained on answers only and saw no rationale of a teacher"
LIMITS = {
    "supported_claims": "A rationale reads well even where it is wrong: the share of gathered claims that the "
    "annotations support is {}.",
    "chains_with_wrong_step": "A chain reads well even where it is wrong: of the chains with an equation that can be "
    "read, the share with a wrong step is {}.",
    "ece": "Probabilities are no guarantee: their expected calibration error is {}.",
}
"""By metric: what its value says about the limits of the student."""


def write_card(run: RunFolder, config: RunConfig) -> None:
    """Publish MODEL_CARD.md from whatever the run folder holds.

    Raises:
        ConfigError: jinja2 is not installed.
        RunError: the card cannot be written.
    """
    publish(run.model_card, card_text(load_run(run, config)))


def card_text(data: RunData, *, licence: tuple[str, str] | None = None) -> str:
    """The model card of a run; `licence` is the student's name of one and a sentence, where its files name none.

    Raises:
        ConfigError: jinja2 is not installed.
    """
    run, config = data.run, data.config
    quality = [
        replace(table, title=f"Tokens and form of answers on {table.title}") for table in quality_tables(data)[:1]
    ]
    transfer = [replace(table, title=f"By split: {table.title}") for table in transfer_tables(data)[:1]]
    lead = data.learning.lead
    others = ", ".join(data.splits[1:])
    splits = Counter(question.split for question in data.questions.values())
    counts = ", ".join(counted(count, f"{split} question") for split, count in sorted(splits.items()))
    return render(
        "card.md.j2",
        data=data,
        config=config,
        facts=data.provenance,
        medium="video" if data.has_frames else "text",
        what=_what(data),
        lead=lead,
        arm=(data.learning.shown(lead), data.learning.what(lead)) if lead else None,
        hub=None if config.student.base in EMBEDDED_STUDENTS else config.student.hub,
        base=Path(config.student.base).name if Path(config.student.base).is_dir() else config.student.base,
        base_digest=training_facts(run, lead).get("base_digest") if lead else None,
        licence=licence or licence_of(config.student.base, config.data.dataset),
        disclosure=DISCLOSURE.format(what=DISTILLED if data.learning.main else UNDISTILLED)
        + reviewed_kinds(config.serving.kinds_under_review),
        counts=counts or "no questions yet",
        teacher=_teacher(data),
        cost=_cost(data),
        traces=f"{data.funnel.kept} of {data.funnel.traces} kept by the filters" if data.funnel else "not filtered yet",
        asked_about=HEADS[headline_kind(data)].partition(",")[0],
        accuracy=_of_the_model(data, accuracy_table(data)),
        findings=[*findings(data), *savings(data)],
        more=_of_the_model(data, [*quality, *transfer]),
        ood=f"the results on {others} show how it does elsewhere." if others else "nothing is known about other data.",
        limits=measured_limits(data),
    )


def reviewed_kinds(kinds: tuple[str, ...]) -> str:
    """That a server tells no answer to these kinds of questions before a person has looked; empty for none.

    >>> reviewed_kinds(("*",))
    ' Its server tells nobody an answer before a person has looked at it.'
    """
    if not kinds:
        return ""
    which = "" if "*" in kinds else f" to a question of kind {', '.join(kinds)}"
    return f" Its server tells nobody an answer{which} before a person has looked at it."


def _of_the_model(data: RunData, tables: list[Pivot]) -> list[Pivot]:
    """Tables with the arm that the card is about, and what it is held against: its base, the control, its teacher."""
    names = (data.learning.lead, data.learning.control, "base", "teacher")
    return [t.of_rows([place for place, row in enumerate(t.rows) if row.key[0] in names]) for t in tables]


def _what(data: RunData) -> str:
    about = "image-text model that answers questions about short clips" if data.has_frames else ""
    model = f"A small {about or 'language model that answers questions'}"
    if data.learning.main is None:
        return f"{model}. It was trained on answers only: no student of this run saw a rationale of the teacher."
    return f"{model}, at once or after a rationale. It learned from the traces of a teacher that passed the filters."


def _teacher(data: RunData) -> Ready:
    """The planner, and of chat models their names, prompts and what they cost."""
    name = data.teacher.get("planner") or data.config.teacher.planner
    prompts = ", ".join(f"{file} {digest}" for file, digest in (data.teacher.get("prompts") or {}).items())
    facts = [] if data.has_frames else [f"granularity {data.config.teacher.granularity}"]
    facts += [f"prompts {prompts}"] if prompts else []
    facts += [f"chat model {row['model']} ({row['cost']})" for row in spend_rows(data.teacher)]
    facts += filter(None, [settings_sentence(data.teacher)])
    words = "; ".join(facts)
    return Ready(f"{code(name)}{markdown_text(f' ({words})') if facts else ''}")


def _cost(data: RunData) -> str:
    """How long the training took and on what, as far as the run noted it; nothing here measures energy."""
    facts = training_facts(data.run, data.learning.lead) if data.learning.lead else {}
    hardware = data.provenance.get("hardware", {})
    seconds = data.provenance.get("stages", {}).get("train", {}).get("seconds")
    time = "time not noted"
    if isinstance(seconds, int | float):
        words = f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 3600:,.1f} hours"
        time = f"{words} for the students of {counted(len(data.learning.seen), 'arm')} together, in its last attempt"
    device = facts.get("gpu") or facts.get("device") or "an unknown device"
    if facts.get("device") == "cpu" and hardware.get("cores"):
        device = f"{counted(hardware['cores'], 'CPU core')} ({hardware.get('machine', 'unknown')})"
    several = f", {facts['processes']} processes" if facts.get("processes", 1) > 1 else ""
    return f"{time}, on {device}{several}; energy not measured"


def measured_limits(data: RunData) -> list[str]:
    """What was measured about the limits of the main arm."""
    limits = []
    if data.has_frames:
        limits.append(
            f"It looks at {data.config.student.num_frames} frames of a window and can miss what happens between them."
        )
    for metric, sentence in LIMITS.items():
        arm = data.learning.lead
        rows = (r for r in data.metrics if (r.arm, r.split, r.metric) == (arm, data.first, metric))
        if row := next(rows, None):
            number = plain(row) if metric == "ece" else percent(row)
            limits.append(sentence.format(f"{number} on {data.first} ({row.kind}, {row.mode})"))
    return limits
