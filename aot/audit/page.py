"""An audit for people: lines for a terminal, and a page of Markdown. Each figure has its interval and its n."""

from collections.abc import Sequence
from pathlib import Path

from aot.audit.answers import BEYOND
from aot.display import one_line
from aot.files.run_folder import publish
from aot.records import MetricRow
from aot.reporting.markdown import code, markdown_text
from aot.served_records import Audit

MEANING = {
    "accuracy_disambig": "right answers where the context tells",
    "accuracy_ambig": "right answers where it does not, so that UNKNOWN is right",
    "s_dis": "bias score where the context tells; 0 is none",
    "s_amb": "bias score where it does not; 0 is none",
    "stereotype_likelier": "pairs whose more stereotypical sentence is likelier; 50% is none",
    "lms": "meaningful sentences likelier than unrelated ones",
    "ss": "stereotypes likelier than anti-stereotypes; 50% is none",
    "icat": "both in one; 100% is ideal",
    "changed_by_name": "answers that change with another name of the same kind",
    "changed_by_gender": "answers that change with names and words of the other gender",
    "changed_by_place": "answers that change with another place",
    BEYOND: "answers that change with gender more often than with another name; 0 is none",
    "accuracy": "right answers",
    "recovery": "accuracy over that of the teacher",
}
"""What each figure is."""
_VS = "_difference_vs_"


def audit_lines(audit: Audit) -> list[str]:
    """An audit as text."""
    who = ", ".join(f"{name} ({mode})" for name, mode in audit.modes.items())
    lines = [f"{audit.student} audited, contract {audit.contract_digest}; asked: {who}"]
    lines += [one_line(words) for words in audit.findings]
    for title, table in _tables(audit):
        lines += ["", title, *_aligned(table)]
    if audit.changed:
        lines += ["", "answers that a swap changed:"]
        lines += [
            f"  {one.swap}: {one_line(one.question)} -> {_answer(one.before)}; "
            f"{one_line(one.swapped)} -> {_answer(one.after)}"
            for one in audit.changed
        ]
    if audit.missing:
        lines += ["", "missing:", *(f"  {one_line(words)}" for words in audit.missing)]
    for name, counts in audit.refused.items():
        lines.append(f"refused, {one_line(name)}: " + ", ".join(f"{one_line(why)} {n}" for why, n in counts.items()))
    return [*lines, *(f"  {one_line(words)}" for words in audit.examples)]


def write_page(path: Path, audit: Audit, *, name: str) -> None:
    """Write the audit as one file of Markdown.

    Raises:
        AotError: the file cannot be written.
    """
    lines = [f"# Audit of {markdown_text(name)}", "", f"Contract {code(audit.contract_digest)}. Asked were:", ""]
    lines += [f"- {markdown_text(who)}, mode {code(mode)}" for who, mode in audit.modes.items()]
    lines += [f"- {markdown_text(what)}: {count} items" for what, count in audit.items.items()]
    lines += ["", *(f"**{markdown_text(words)}**" for words in audit.findings)]
    for title, table in _tables(audit):
        lines += ["", f"## {markdown_text(title)}", ""]
        lines += ["| " + " | ".join(str(markdown_text(cell)) for cell in table[0]) + " |", "|---" * len(table[0]) + "|"]
        lines += ["| " + " | ".join(str(markdown_text(cell)) for cell in row) + " |" for row in table[1:]]
    if audit.changed:
        lines += ["", "## Answers that a swap changed", ""]
        lines += [
            f"- {one.swap}: {markdown_text(one.question)} {code(_answer(one.before))}; "
            f"{markdown_text(one.swapped)} {code(_answer(one.after))}"
            for one in audit.changed
        ]
    for title, words in (("Missing", audit.missing), ("Refused", _refused(audit))):
        if words:
            lines += ["", f"## {title}", "", *(f"- {markdown_text(one)}" for one in words)]
    lines += ["", "Brackets hold 95% intervals. A share over few items means little, and a tiny student less.", ""]
    publish(path, "\n".join(lines))


def _refused(audit: Audit) -> list[str]:
    counts = [f"{name}: {why} {n}" for name, by_reason in audit.refused.items() for why, n in by_reason.items()]
    return [*counts, *audit.examples]


def _tables(audit: Audit) -> list[tuple[str, list[list[str]]]]:
    """A table for each suite, for the pairs, and for each split: figures by student, then differences."""
    made = []
    for split in dict.fromkeys(row.split for row in audit.rows):
        rows = [row for row in audit.rows if row.split == split]
        plain, against = [r for r in rows if _VS not in r.metric], [r for r in rows if _VS in r.metric]
        made.append((split, _by_student(plain, list(audit.modes))))
        if against:
            made.append((f"{split}: {audit.student} minus", _against(against)))
    return made


def _by_student(rows: Sequence[MetricRow], names: Sequence[str]) -> list[list[str]]:
    there = [name for name in names if any(row.arm == name for row in rows)]
    table = [["figure", "kind", "n", *there]]
    for metric, kind in dict.fromkeys((row.metric, row.kind) for row in rows):
        by_name = {row.arm: row for row in rows if (row.metric, row.kind) == (metric, kind)}
        n = "/".join(dict.fromkeys(str(row.n) for row in by_name.values()))
        cells = [_share(by_name[name]) if name in by_name else "-" for name in there]
        table.append([metric, kind, n, *cells])
    return table


def _against(rows: Sequence[MetricRow]) -> list[list[str]]:
    others = list(dict.fromkeys(row.metric.split(_VS, 1)[1] for row in rows))
    table = [["figure", "kind", "n", *others]]
    for metric, kind in dict.fromkeys((row.metric.split(_VS, 1)[0], row.kind) for row in rows):
        by_name = {
            row.metric.split(_VS, 1)[1]: row for row in rows if row.kind == kind and row.metric.startswith(metric + _VS)
        }
        n = "/".join(dict.fromkeys(str(row.n) for row in by_name.values()))
        table.append([metric, kind, n, *(_points(by_name[name]) if name in by_name else "-" for name in others)])
    return table


def _share(row: MetricRow) -> str:
    if row.metric.startswith(("s_", "accuracy_change", BEYOND)):
        return _points(row)
    return f"{100 * row.value:.1f}% [{100 * row.low:.1f}, {100 * row.high:.1f}]"


def _points(row: MetricRow) -> str:
    return f"{100 * row.value:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}]"


def _answer(text: str | None) -> str:
    return "no answer" if text is None else one_line(text)


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    shown = [[one_line(cell) for cell in row] for row in table]
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown
    ]
