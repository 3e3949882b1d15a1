"""report.html: one file with everything inside it, read from the run folder only, as a list of sections.

No script, no network: a Content-Security-Policy forbids both, and every text passes the template engine's escaping.
"""

from dataclasses import replace
from typing import Any

from aot.config import RunConfig
from aot.display import clean
from aot.errors import ConfigError, install_command
from aot.files.run_folder import RunFolder, publish
from aot.reporting.load import RunData, load_run
from aot.reporting.markdown import code, markdown_text, yaml_value
from aot.reporting.pivot import TERMS
from aot.reporting.sections import (
    Section,
    accuracy,
    acting,
    cascade,
    chains,
    errors,
    faithfulness,
    funnel,
    making,
    opening,
    review,
)
from aot.reporting.sections.gallery import gallery_blocks, make_gallery
from aot.reporting.thumbs import ReadFrames, ThumbBook, no_frames

MAX_PICTURE_BYTES = 12 * 2**20
"""Pictures stop being embedded here, so that the page stays under 20 MB whatever the size of the gallery."""
GALLERY = Section("gallery", "Gallery", "Gallery", lambda data: [])
MISTAKES = Section(
    "mistakes", "Worst mistakes", "Worst mistakes", lambda data: [],
    applies=lambda data: bool(data.predictions), needs="answers of students",
)  # fmt: skip
SECTIONS: tuple[Section, ...] = (
    accuracy.HEADLINE,
    MISTAKES,
    making.USE,
    *accuracy.SECTIONS,
    acting.SECTION,
    cascade.SECTION,
    *chains.SECTIONS,
    faithfulness.SECTION,
    *funnel.SECTIONS,
    review.SECTION,
    making.TEACHER,
    *errors.SECTIONS,
    making.TRAINING,
    GALLERY,
    making.REFUSED,
    making.SETTINGS,
)
"""In reading order; a page has those that apply to its data."""


def write_report(run: RunFolder, config: RunConfig, *, frames: ReadFrames = no_frames) -> None:
    """Publish report.html for whatever the run folder holds; a missing part is named in the page.

    Args:
        run: The run folder.
        config: Its resolved config.
        frames: Reads frames of a clip; may raise KeyError for an unknown one.

    Raises:
        ConfigError: jinja2 or pillow is not installed.
        RunError: the report cannot be written.
    """
    data = load_run(run, config)
    book = ThumbBook(frames, MAX_PICTURE_BYTES)
    panels = make_gallery(data, book)
    heading = f"Gallery: {len(panels)} traces"
    pictured = {
        GALLERY.name: replace(GALLERY, heading=heading, content=lambda data: gallery_blocks(data, panels)),
        MISTAKES.name: replace(MISTAKES, content=lambda data: errors.mistake_blocks(data, book)),
    }
    shown = [pictured.get(section.name, section) for section in SECTIONS if section.applies(data)]
    left_out = [section for section in SECTIONS if section.needs and not section.applies(data)]
    page = render(
        "report.html.j2",
        title=f"{run.root.name} · run report",
        data=data,
        lead=_lead(data),
        outcome=opening.outcome(data),
        flows=opening.flow_drawings(data),
        minis=opening.mini_traces(panels),
        sections=[(section, section.blocks(data)) for section in shown],
        left_out="; ".join(f"{section.title} (needs {section.needs})" for section in left_out),
        seconds=making.stage_seconds(data.provenance),
        thumbs=book.thumbs,
    )
    publish(run.report, page)


def _lead(data: RunData) -> str:
    teacher = "looks at clips with tools" if data.has_frames else "works problems out step by step"
    student, dataset = data.config.student.base, data.config.data.dataset
    learns = "learns from the traces that remain" if data.learning.main else "learned from answers alone"
    return f"A teacher {teacher}, filters check its traces, and the student {student} {learns}. Data set: {dataset}."


def render(template: str, **values: Any) -> str:  # noqa: ANN401 - templates take whatever view they name
    """One of this package's templates: text is escaped for HTML, or for Markdown, and holds nothing that hides.

    Raises:
        ConfigError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ConfigError(f"the report needs jinja2; install it with: {install_command('report')}") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aot.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=markdown_text if template.endswith(".md.j2") else None,
    )
    environment.globals.update(code=code, yaml_value=yaml_value, terms=TERMS)
    return clean(environment.get_template(template).render(**values))
