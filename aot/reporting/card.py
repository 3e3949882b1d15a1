"""MODEL_CARD.md, filled from the run: what the student is, how it was made, how good it is, and where it ends."""

from collections import Counter

from aot.config import ArmConfig, RunConfig
from aot.display import counted
from aot.files.run_folder import RunFolder, publish
from aot.reporting.chat_costs import settings_sentence, spend_rows
from aot.reporting.licence import licence_of
from aot.reporting.load import SAW_NONE, RunData, load_run
from aot.reporting.markdown import Ready, code, markdown_text
from aot.reporting.numbers import percent, plain
from aot.reporting.report import render
from aot.reporting.tables import headline_rows, honest_sentences, roles, warning_sentences, what_arm
from aot.reporting.text_results import results_of
from aot.reporting.text_tables import answer_grid, text_sentences, transfer_grids

DISCLOSURE = (
    "Answers of this model come from {what}. They can be wrong while sounding sure; any high-stakes use needs review "
    "by a person."
)
DISTILLED = "a distilled model that imitates an automatic teacher"
UNDISTILLED = "a model that was trained on answers only and saw no rationale of a teacher"


def write_card(run: RunFolder, config: RunConfig) -> None:
    """Publish MODEL_CARD.md from whatever the run folder holds.

    Raises:
        ConfigError: jinja2 is not installed.
        RunError: the card cannot be written.
    """
    if config.door == "text":
        publish(run.model_card, _text_card(run, config))
        return
    data = load_run(run)
    role = roles(data.learning, config)
    main = role.main or role.control
    page = render(
        "card.md.j2",
        run_name=run.root.name,
        config=config,
        facts=data.provenance,
        role=role,
        arms=[(shown_arm(data, config, arm), what_arm(data, arm)) for arm in config.train.arms],
        learning=warning_sentences(data, config),
        licence=licence_of(config),
        disclosure=DISCLOSURE.format(what=DISTILLED if role.main else UNDISTILLED),
        counts=_counts(data),
        teacher=_teacher(data, config),
        traces=_traces(data),
        splits=config.evaluate.splits,
        headline=headline_rows(data, config),
        sentences=honest_sentences(data, config),
        ood=_out_of_distribution(config),
        supported=_measured(data, config, arm=main, metric="supported_claims"),
        ece=f"their expected calibration error is {_measured(data, config, arm=main, metric='ece')}",
    )
    publish(run.model_card, page)


def _text_card(run: RunFolder, config: RunConfig) -> str:
    data = load_run(run, door="text")
    results, role = results_of(data, config), roles(data.learning, config)
    return render(
        "text_card.md.j2",
        run_name=run.root.name,
        config=config,
        facts=data.provenance,
        role=role,
        arms=[(shown_arm(data, config, arm), arm, _saw(data, arm)) for arm in config.train.arms],
        learning=warning_sentences(data, config),
        licence=licence_of(config),
        disclosure=DISCLOSURE.format(what=DISTILLED if role.main else UNDISTILLED),
        counts=_counts(data),
        teacher=_teacher(data, config),
        traces=_traces(data),
        first=results.first,
        answers=answer_grid(results),
        transfer=transfer_grids(results),
        sentences=text_sentences(results),
        ood=_out_of_distribution(config),
        wrong_steps=_measured(data, config, arm=role.main, metric="chains_with_wrong_step"),
    )


def shown_arm(data: RunData, config: RunConfig, arm: ArmConfig) -> str:
    """The name of an arm for a reader."""
    return data.learning.shown(arm.name, config.train.arms)


def _saw(data: RunData, arm: ArmConfig) -> str:
    """What an arm of a text run learned from, by its record."""
    learned = data.learning.arms.get(arm.name)
    if not arm.learns_rationales:
        return "answers only"
    if learned is None or learned.rationales is None:
        return "no record of what it saw"
    return SAW_NONE if data.learning.saw_none(arm) else counted(learned.rationales, "rationale")


def _counts(data: RunData) -> str:
    splits = Counter(question.split for question in data.questions.values())
    return (
        ", ".join(counted(count, f"{split} question") for split, count in sorted(splits.items())) or "no questions yet"
    )


def _teacher(data: RunData, config: RunConfig) -> Ready:
    """The planner, and of chat models their names, prompts and what they cost."""
    name = data.teacher.get("planner") or config.teacher.planner
    prompts = ", ".join(f"{file} {digest}" for file, digest in (data.teacher.get("prompts") or {}).items())
    models = [f"chat model {row.model} ({row.cost})" for row in spend_rows(data.teacher)]
    models += [mended] if (mended := settings_sentence(data.teacher)) else []
    told = "; ".join(([f"prompts {prompts}"] if prompts else []) + models)
    return Ready(f"{code(name)}{markdown_text(f' ({told})') if told else ''}")


def _traces(data: RunData) -> str:
    if data.funnel is None:
        return "not filtered yet"
    return f"{data.funnel.kept} of {data.funnel.traces} kept by the filters"


def _out_of_distribution(config: RunConfig) -> str:
    others = ", ".join(config.evaluate.splits[1:])
    return f"the results on {others} tell how it does elsewhere." if others else "nothing is known about other data."


def _measured(data: RunData, config: RunConfig, *, arm: str | None, metric: str) -> str:
    split = config.evaluate.splits[0]
    for row in data.metrics:
        if (row.arm, row.split, row.metric) == (arm, split, metric):
            number = plain(row) if metric == "ece" else percent(row)
            return f"{number} on {split} ({row.kind}, {row.mode})"
    return "not measured"
