"""report.html: one file with everything inside it, read from the run folder only.

No script, no network: a Content-Security-Policy forbids both, and every text passes the template engine's escaping.
"""

import shlex
from typing import Any

from aot.config import RunConfig, dump_config
from aot.display import clean
from aot.errors import ConfigError
from aot.evaluation.baselines import NEXT_KINDS
from aot.files.run_folder import RunFolder, publish
from aot.reporting.chat_costs import HIDDEN, check_sentences, gpu_hours, settings_sentence, spend_rows
from aot.reporting.filters import fault_rows, funnel_bars, planted_sentence, reason_bars, rejected_examples
from aot.reporting.gallery import make_gallery
from aot.reporting.load import RunData, load_run
from aot.reporting.markdown import code, markdown_text, yaml_value
from aot.reporting.tables import (
    chance_level,
    gap_sentence,
    headline_kind,
    headline_rows,
    honest_sentences,
    kind_tables,
    paired_rows,
    quality_tables,
    roles,
    warning_sentences,
)
from aot.reporting.thumbs import ReadFrames, ThumbBook, TrueSize
from aot.reporting.training import (
    confusions,
    curve_charts,
    reliability,
    stats_view,
)

MAX_PICTURE_BYTES = 12 * 2**20
"""Pictures stop being embedded here, so that the page stays under 20 MB whatever the size of the gallery."""


def write_report(run: RunFolder, config: RunConfig, *, frames: ReadFrames, true_size: TrueSize) -> None:
    """Publish report.html for whatever the run folder holds; a missing part is named in the page.

    Args:
        run: The run folder.
        config: Its resolved config.
        frames: Clip and times in seconds to (true time, uint8 HWC RGB frame); may raise KeyError for an unknown clip.
        true_size: Clip to displayed width and height in pixels, in which boxes are given.

    Raises:
        ConfigError: jinja2 or pillow is not installed.
        RunError: the report cannot be written.
    """
    data = load_run(run)
    book = ThumbBook(frames, true_size, MAX_PICTURE_BYTES)
    page = render("report.html.j2", **_sections(data, config, book))
    publish(run.report, page)


def render(template: str, **values: Any) -> str:  # noqa: ANN401 - templates take whatever view they name
    """One of this package's templates: text is escaped for HTML, or for Markdown, and holds nothing that hides.

    Raises:
        ConfigError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ConfigError("the report needs jinja2; install it with: pip install 'aot-distill[report]'") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aot.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=markdown_text if template.endswith(".md.j2") else None,
    )
    environment.globals.update(code=code, yaml_value=yaml_value)
    return clean(environment.get_template(template).render(**values))


def _sections(data: RunData, config: RunConfig, book: ThumbBook) -> dict[str, Any]:
    role = roles(data.learning, config)
    panels = make_gallery(data, book, limit=config.report.gallery, arm=role.main or role.control, filters=config.filter)
    return {
        **making_sections(data, config),
        "counts": [("clips", _num_clips(data)), *question_counts(data)],
        "kind": headline_kind(data),
        "splits": config.evaluate.splits,
        "role": role,
        "headline": headline_rows(data, config),
        "sentences": honest_sentences(data, config),
        "gap": gap_sentence(data, config),
        "chance": {split: chance_level(list(data.questions.values()), split) for split in config.evaluate.splits},
        "kind_tables": kind_tables(data, config),
        "quality_tables": quality_tables(data, config),
        "paired": paired_rows(data, config),
        "confusions": confusions(data, config),
        "reliability": reliability(data, config),
        "panels": panels,
        "thumbs": book.thumbs,
    }


def making_sections(data: RunData, config: RunConfig) -> dict[str, Any]:
    """What reports of both doors show about how the run was made: counts, filters, teacher, training, settings."""
    facts = data.provenance
    commands = facts.get("commands") or ([facts["command"]] if "command" in facts else [])
    return {
        "run_name": data.run.root.name,
        "facts": facts,
        "config": config,
        "data": data,
        "shown": lambda arm: data.learning.shown(arm, config.train.arms),
        "learning": warning_sentences(data, config),
        "counts": question_counts(data),
        "totals": funnel_bars(data.funnel) if data.funnel else None,
        "reasons": reason_bars(data.funnel) if data.funnel and data.funnel.reasons else None,
        "faults": fault_rows(data.funnel.faults) if data.funnel and data.funnel.faults else [],
        "rejected": rejected_examples(data, config),
        "planted": planted_sentence(data),
        "finished": data.finished,
        "why_no": why_nothing(data, config),
        "teacher": stats_view({name: value for name, value in data.teacher.items() if name not in HIDDEN}),
        "spend": spend_rows(data.teacher),
        "gpu_hours": gpu_hours(data.teacher),
        "mended": settings_sentence(data.teacher),
        "checks": check_sentences(data.funnel),
        "judged": data.funnel.judge.kinds if data.funnel and data.funnel.judge else (),
        "curves": curve_charts(data, config),
        "settings": dump_config(config),
        "commands": [shlex.join(command) for command in commands],
        "seconds": stage_seconds(facts),
    }


def why_nothing(data: RunData, config: RunConfig) -> dict[str, str]:
    """Why a section of a finished evaluation is empty."""
    splits = ", ".join(config.evaluate.splits)
    asked = [question for question in data.questions.values() if question.split in config.evaluate.splits]
    known = any(question.kind in NEXT_KINDS for question in asked)
    options = any(question.choices for question in asked)
    return {
        "metrics": f"metrics.json holds no accuracy on {splits}",
        "confusion": f"no student answered the next-step questions of {splits}"
        if known
        else f"no question of {splits} asks for the next step",
        "probabilities": "the predictions hold no probabilities"
        if options
        else f"no question of {splits} has options, and only those get probabilities",
    }


def question_counts(data: RunData) -> list[tuple[str, int]]:
    """Questions of each split, and refused inputs."""
    splits = sorted({q.split for q in data.questions.values()})
    by_split = [(f"{split} questions", sum(q.split == split for q in data.questions.values())) for split in splits]
    return [*by_split, ("refused inputs", len(data.refusals))]


def stage_seconds(facts: dict[str, Any]) -> list[tuple[str, float]]:
    """Name and wall time of each finished stage."""
    stages = facts.get("stages", {})
    return [(name, float(s["seconds"])) for name, s in stages.items() if isinstance(s.get("seconds"), (int, float))]


def _num_clips(data: RunData) -> int:
    return len({q.media.uri for q in data.questions.values() if q.media})
