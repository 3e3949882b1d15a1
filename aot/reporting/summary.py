"""A finished run in about a dozen lines for the terminal."""

from aot.config import load_config
from aot.reporting.load import RunData, load_run
from aot.reporting.numbers import percent, short, title
from aot.reporting.tables import headline_kind, headline_rows, honest_sentences
from aot.runs import RunFolder

MAX_ARM_LINES = 10


def summary_lines(run: RunFolder) -> list[str]:
    """Teacher's yield, filter funnel, accuracies, what the comparison says, and where the report lies."""
    data, config = load_run(run), load_config(run.config)
    lines = [*_teacher(data), *_funnel(data)]
    rows = [row for row in headline_rows(data, config) if row.mode != "likelihood"]
    if rows:
        what = "next-step accuracy" if headline_kind(data) == "next" else "accuracy"
        lines.append(f"{what} [95% interval] on {', '.join(config.evaluate.splits)}:")
    for row in rows[:MAX_ARM_LINES]:
        mode = {"reason": " (reasoning first)"}.get(row.mode, "")
        numbers = "   ".join(percent(cell.row) if cell else "-" for cell in row.cells)
        lines.append(f"  {row.arm + mode:<32} {numbers}")
    lines += [sentence.text for sentence in honest_sentences(data, config)[:1]]
    lines.append(f"report: {run.report if run.report.exists() else 'not written yet'}")
    return lines


def _teacher(data: RunData) -> list[str]:
    teacher = data.teacher
    lines = []
    for row in teacher.get("yields", ()):
        if row.get("kind") == "all":
            figures = {name: row[name] for name in ("pass_at_1", "pass_at_k") if row.get(name) is not None}
            words = ", ".join(f"{title(name)} {100 * share['value']:.1f}%" for name, share in figures.items())
            lines.append(f"teacher on {row.get('split')}: {words} (n={row.get('n')})")
    seconds = teacher.get("seconds_per_kept_trace")
    return [*lines, f"teacher: {short(seconds)} s for each kept trace"] if seconds else lines


def _funnel(data: RunData) -> list[str]:
    funnel = data.funnel
    if funnel is None:
        return []
    faults = funnel.faults
    caught = ""
    if faults and faults.precision is not None and faults.recall is not None:
        caught = f"; planted defects: precision {faults.precision:.3f}, recall {faults.recall:.3f} (n={faults.planted})"
    return [f"filters: {funnel.kept} of {funnel.traces} traces kept{caught}"]
