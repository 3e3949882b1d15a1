"""report.html of a text run: orders of thought beside each other, in and out of distribution.

As the report of a video run it reads the run folder only, and is one file without scripts, in which every text passes
the template engine's escaping.
"""

from typing import Any

from aot.config import RunConfig
from aot.files.run_folder import RunFolder, publish
from aot.reporting.load import RunData, load_run
from aot.reporting.report import making_sections, render
from aot.reporting.tables import roles
from aot.reporting.text_panels import rounds_views, text_gallery, training_table
from aot.reporting.text_results import results_of
from aot.reporting.text_tables import (
    accuracy_chart,
    answer_grid,
    choice_grids,
    kind_grids,
    memorisation_grids,
    step_grids,
    structure_grid,
    text_paired_rows,
    text_sentences,
    transfer_grids,
)


def write_text_report(run: RunFolder, config: RunConfig) -> None:
    """Publish report.html for whatever the run folder holds; a missing part is named in the page.

    Raises:
        ConfigError: jinja2 is not installed.
        RunError: the report cannot be written.
    """
    data = load_run(run, door="text")
    publish(
        run.report, render("text_report.html.j2", **_result_sections(data, config), **making_sections(data, config))
    )


def _result_sections(data: RunData, config: RunConfig) -> dict[str, Any]:
    results = results_of(data, config)
    return {
        "role": roles(data.learning, config),
        "first": results.first,
        "answers": answer_grid(results),
        "sentences": text_sentences(results),
        "tokens": accuracy_chart(results),
        "transfer": transfer_grids(results),
        "kinds": kind_grids(results),
        "paired": text_paired_rows(results),
        "choices": choice_grids(results),
        "steps": step_grids(results),
        "memorised": [grid for split in results.splits for grid in memorisation_grids(results, split)],
        "structure": structure_grid(results),
        "rounds": rounds_views(data, config),
        "panels": text_gallery(data, config),
        "trained": training_table(data, config),
    }
