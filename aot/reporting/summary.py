"""A finished run in about a dozen lines for the terminal."""

from collections.abc import Iterator
from itertools import islice

from aot.config import load_saved
from aot.evaluation.groups import ALL, NEXT, OPEN_BOOK
from aot.files.run_folder import RunFolder
from aot.reporting.load import RunData, load_run
from aot.reporting.pivot import percent, plain, short, title
from aot.reporting.sections.accuracy import accuracy_table, findings, headline_kinds, savings, study_tables
from aot.reporting.sections.cascade import cascade_sentences
from aot.reporting.sections.funnel import check_sentences
from aot.reporting.sections.making import logprobs_sentence, settings_sentence, spend_rows, stage_seconds
from aot.reporting.students import MODES

MAX_STUDENTS = 12
MAX_FINDINGS = 2
MAX_SPLITS = 2
WHAT = {OPEN_BOOK: "open-book accuracy", NEXT: "next-step accuracy"}


def summary_lines(run: RunFolder) -> list[str]:
    """Teacher's yield, filter funnel, accuracies, what the comparison says, and where the report lies."""
    data = load_run(run, load_saved(run.config))
    cascade = [f"cascade, {text}" for text, _ in cascade_sentences(data)]
    lines = [*_teacher(data), *_funnel(data), *_answers(data), *_study(data), *cascade, *data.warnings()]
    return [*lines, f"report: {run.report if run.report.exists() else 'not written yet'}"]


def _answers(data: RunData) -> Iterator[str]:
    """Accuracy of each student on the first splits, its tokens, and what the comparisons of the main arm say."""
    splits = data.splits[:MAX_SPLITS]
    pairs = [(kind, table) for kind in headline_kinds(data) for table in accuracy_table(data, kind)]
    for kind, table in pairs:
        what = WHAT.get(kind, "accuracy")
        yield f"{what} [95% interval] on {', '.join(splits)}, and mean tokens of a reply on {data.first}:"
        lines = [(row, cells) for row, cells in zip(table.rows, table.cells, strict=True) if row.key[1] != "likelihood"]
        for row, cells in lines[:MAX_STUDENTS]:
            tokens = data.find(row.key, data.first, "tokens_mean", kind)
            cost = f"   {plain(tokens).partition(' n=')[0]} tokens" if tokens else ""
            numbers = "   ".join(cell.whole if cell else "-" for cell in cells[: len(splits)])
            yield f"  {row.label:<32} {numbers}{cost}"
        if len(table.rows) > MAX_STUDENTS:
            yield f"  and {len(table.rows) - len(lines[:MAX_STUDENTS])} more in the report"
    yield from _decided(data)
    yield from (text for text, _ in (*islice(findings(data), MAX_FINDINGS), *savings(data)))


def _study(data: RunData) -> Iterator[str]:
    """Of a study what arms reach with all their seeds, their paired differences, and how long each stage took."""
    tables = study_tables(data)[:MAX_SPLITS]
    for table in tables:
        yield f"{table.title}, mean over seeds [95% interval over questions]:"
        for row, cells in zip(table.rows, table.cells, strict=True):
            named = zip(table.columns, cells, strict=True)
            yield f"  {row.label}: " + "; ".join(f"{one.label} {cell.whole}" for one, cell in named if cell)
    if tables:
        yield stage_seconds(data.provenance)


def _decided(data: RunData) -> Iterator[str]:
    """How often the main arm is right where it decides between choices, and where it writes its answer to the same."""
    main, split = data.learning.main, data.first
    if main is None:
        return
    decided = data.find((main, "likelihood"), split, "accuracy", "next_choice", ALL)
    if decided is None:
        return
    ways = (data.find((main, mode), split, "accuracy", decided.kind) for mode in ("direct", "reason", "adaptive"))
    written = [f"{percent(row)} {MODES[row.mode]}" for row in ways if row and row.n == decided.n]
    beside = f"; written: {', '.join(written)}" if written else ""
    yield f"closed choices on {split}, decided by {data.learning.shown(main)}: {percent(decided)}{beside}"


def _teacher(data: RunData) -> Iterator[str]:
    teacher, shown = data.teacher, (*data.splits[:MAX_SPLITS], "train")
    for row in teacher.get("yields", ()):
        if row.get("kind") == "all" and row.get("split") in shown:
            figures = {name: row[name] for name in ("pass_at_1", "pass_at_k") if row.get(name) is not None}
            words = ", ".join(f"{title(name)} {100 * share['value']:.1f}%" for name, share in figures.items())
            yield f"teacher on {row.get('split')}: {words} (n={row.get('n')})"
    for spent in spend_rows(teacher):
        tokens = f"{spent['prompt tokens']} prompt and {spent['completion tokens']} completion tokens"
        yield f"chat model {spent['model']}: {spent['calls']} calls, {tokens}, {spent['cost']}"
    wanted = data.config.chat is not None and data.config.chat.logprobs
    yield from filter(None, [settings_sentence(teacher), logprobs_sentence(teacher, wanted=wanted)])
    if seconds := teacher.get("seconds_per_verified_trace"):
        yield f"teacher cost: {short(seconds)} s per verified trace"


def _funnel(data: RunData) -> list[str]:
    funnel = data.funnel
    if funnel is None:
        return []
    faults, caught = funnel.faults, ""
    if faults and faults.precision is not None and faults.recall is not None:
        caught = f"; planted defects: precision {faults.precision:.3f}, recall {faults.recall:.3f} (n={faults.planted})"
    return [f"filters: {funnel.kept} of {funnel.traces} traces kept{caught}", *check_sentences(funnel)]
