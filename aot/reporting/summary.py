"""A finished run in about a dozen lines for the terminal."""

from collections.abc import Iterator, Sequence

from aot.config import RunConfig, load_saved
from aot.files.run_folder import RunFolder
from aot.reporting.chat_costs import check_sentences, settings_sentence, spend_rows
from aot.reporting.load import RunData, load_run
from aot.reporting.numbers import cut_share, percent, plain, short, title
from aot.reporting.tables import headline_kind, headline_rows, honest_sentences, warning_sentences
from aot.reporting.text_results import Results, results_of
from aot.reporting.text_tables import text_sentences

MAX_ARM_LINES = 10
MAX_TEXT_LINES = 14


def summary_lines(run: RunFolder) -> list[str]:
    """Teacher's yield, filter funnel, accuracies, what the comparison says, and where the report lies."""
    config = load_saved(run.config)
    data = load_run(run, door=config.door)
    shown = (config.evaluate.splits[0], "train") if config.door == "text" else None
    lines = [*_teacher(data, splits=shown), *_funnel(data)]
    lines += _text_answers(results_of(data, config)) if config.door == "text" else _video_answers(data, config)
    lines += warning_sentences(data, config)
    return [*lines, f"report: {run.report if run.report.exists() else 'not written yet'}"]


def _video_answers(data: RunData, config: RunConfig) -> Iterator[str]:
    rows = [row for row in headline_rows(data, config) if row.mode != "likelihood"]
    if rows:
        what = "next-step accuracy" if headline_kind(data) == "next" else "accuracy"
        yield f"{what} [95% interval] on {', '.join(config.evaluate.splits)}:"
    for row in rows[:MAX_ARM_LINES]:
        mode = {"reason": " (reasoning first)"}.get(row.mode, "")
        numbers = "   ".join(cell.text if cell else "-" for cell in row.cells)
        yield f"  {row.arm + mode:<32} {numbers}"
    yield from (sentence.text for sentence in honest_sentences(data, config)[:1])


def _text_answers(results: Results) -> Iterator[str]:
    """Accuracy, tokens and cut replies of each student on the first split, and what the orders of thought differ in."""
    if results.students:
        yield f"accuracy [95% interval] and mean tokens of a reply on {results.first}:"
    for student in results.students[:MAX_TEXT_LINES]:
        accuracy = results.find(student, results.first, "accuracy")
        tokens = results.find(student, results.first, "tokens_mean")
        cut = cut_share(results.find(student, results.first, "truncated_rate"))
        if accuracy:
            told = f"   {plain(tokens).partition(' n=')[0]} tokens" if tokens else ""
            yield f"  {results.name(student):<32} {percent(accuracy)}{told}{cut}"
    if len(results.students) > MAX_TEXT_LINES:
        yield f"  and {len(results.students) - MAX_TEXT_LINES} more in the report"
    yield from (sentence.text for sentence in text_sentences(results))


def _teacher(data: RunData, *, splits: Sequence[str] | None) -> list[str]:
    teacher = data.teacher
    lines: list[str] = []
    for row in teacher.get("yields", ()):
        if row.get("kind") == "all" and (splits is None or row.get("split") in splits):
            figures = {name: row[name] for name in ("pass_at_1", "pass_at_k") if row.get(name) is not None}
            words = ", ".join(f"{title(name)} {100 * share['value']:.1f}%" for name, share in figures.items())
            lines.append(f"teacher on {row.get('split')}: {words} (n={row.get('n')})")
    lines += [
        f"chat model {row.model}: {row.calls} calls, {row.prompt} prompt and {row.completion} completion tokens, "
        f"{row.cost}"
        for row in spend_rows(teacher)
    ]
    lines += [mended] if (mended := settings_sentence(teacher)) else []
    seconds = teacher.get("seconds_per_verified_trace")
    return [*lines, f"teacher cost: {short(seconds)} s per verified trace"] if seconds else lines


def _funnel(data: RunData) -> list[str]:
    funnel = data.funnel
    if funnel is None:
        return []
    faults = funnel.faults
    caught = ""
    if faults and faults.precision is not None and faults.recall is not None:
        caught = f"; planted defects: precision {faults.precision:.3f}, recall {faults.recall:.3f} (n={faults.planted})"
    return [f"filters: {funnel.kept} of {funnel.traces} traces kept{caught}", *check_sentences(funnel)]
