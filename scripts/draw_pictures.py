"""Draws docs/pictures/trace.svg and flow.svg, the pictures of the README, from a finished run about clips.

    python -m aot run configs/video/toy_kitchen_tiny.yaml
    python scripts/draw_pictures.py runs/toy_kitchen_tiny

The trace is a kept one, with the frames that its tools saw, and a claim for which another one was dropped. The numbers
of the flow are those of the run. Each picture has a background of its own and follows a dark theme.
"""

import base64
import io
import sys
import textwrap
from collections.abc import Iterator
from html import escape
from pathlib import Path

from aot.config import load_saved
from aot.files.run_folder import RunFolder, read_rows
from aot.rationales.notation import CITATION
from aot.records import Finding, Question, Trace, Verdict
from aot.run_records import Funnel
from video_data.decode.sandbox import shared_pool

OUT = Path(__file__).parents[1] / "docs/pictures"
WIDTH = 960
STYLE = """
text{font-family:system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;font-size:14px;fill:#1f2937}
.soft{fill:#5b6675;font-size:12.5px}.head{font-weight:600;font-size:15px}.code{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:12.5px}
.card{fill:#ffffff;stroke:#cbd5e1}.box{fill:#f1f5f9;stroke:#cbd5e1}.line{stroke:#94a3b8;stroke-width:1.6;fill:none}.tip{fill:#94a3b8}
.c1{fill:#1d4ed8}.c2{fill:#b45309}.c3{fill:#7c3aed}.good{fill:#15803d}.bad{fill:#b91c1c}.cites{fill:#fff;font-size:12px;font-weight:600}
@media(prefers-color-scheme:dark){text{fill:#e5e7eb}.soft{fill:#9aa5b4}.card{fill:#0f172a;stroke:#334155}.box{fill:#1e293b;stroke:#475569}
.line{stroke:#64748b}.tip{fill:#64748b}.good{fill:#4ade80}.bad{fill:#f87171}.c1{fill:#3b82f6}.c2{fill:#d97706}.c3{fill:#8b5cf6}.cites{fill:#fff}}
"""  # noqa: E501 - a line for each kind of mark
FRAME_WIDTH, FRAME_HEIGHT, MOST_FRAMES = 168, 126, 5


def words(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    """A line of text."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str = "box") -> str:
    """A rectangle with round corners."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" class="{kind}"/>'


def chip(x: float, y: float, number: str) -> str:
    """The number of a tool call in its colour, with its left upper corner at (x, y)."""
    kind = f"c{min(int(number), 3)}"
    return f'<rect x="{x:g}" y="{y:g}" width="22" height="18" rx="5" class="{kind}"/>' + words(
        x + 11, y + 13.5, number, "cites", "middle"
    )


def arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    """An arrow to the right or down, along the axes."""
    turn = 0 if to_y == y else 90
    head = f'<path d="M-8,-5 L0,0 L-8,5 Z" transform="translate({to_x:g} {to_y:g}) rotate({turn})" class="tip"/>'
    return f'<path d="M{x:g},{y:g} L{to_x:g},{to_y:g}" class="line"/>' + head


def picture(name: str, title: str, height: float, marks: list[str]) -> None:
    """Writes one picture; its title is what readers without eyes for it hear."""
    body = "".join(marks)
    card = f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1:g}" rx="12" class="card"/>'
    OUT.mkdir(exist_ok=True)
    (OUT / name).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}" '
        f'role="img"><title>{escape(title)}</title><style>{STYLE.strip()}</style>{card}{body}</svg>\n',
        encoding="utf-8",
    )


def frame_uri(clip: Path, time_s: float) -> str:
    """The frame of a clip at a moment, as a data URI."""
    from PIL import Image

    made = io.BytesIO()
    (frame,) = shared_pool().read_frames(clip, times_s=[time_s]).frames_THWC
    Image.fromarray(frame).save(made, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(made.getvalue()).decode()


def sentence(x: float, y: float, text: str) -> tuple[list[str], float]:
    """A sentence in lines, its citations as chips behind it, and where the next one begins."""
    numbers = list(dict.fromkeys(CITATION.findall(text)))
    lines = textwrap.wrap(" ".join(CITATION.sub("", text).replace(" .", ".").split()), 66)
    marks = [words(x, y + 19 * at, line) for at, line in enumerate(lines)]
    marks += [chip(WIDTH - 30 - 26 * len(numbers) + 26 * at, y - 14, number) for at, number in enumerate(numbers)]
    return marks, y + 19 * len(lines) + 5


def sentences_in(rationale: str) -> Iterator[tuple[str, str]]:
    """Part and sentence, one after the other."""
    for line in rationale.splitlines():
        part, _, text = line.partition(": ")
        for number, one in enumerate(text.replace("]. ", "].\n").split("\n")):
            yield part if number == 0 else "", one


def seen_steps(trace: Trace) -> tuple[Finding, ...]:
    """The steps that the first call found in the clip."""
    return tuple(one for one in trace.steps[0].findings if one.kind == "event" and one.spans_s)


def pick(run: RunFolder, questions: dict[str, Question]) -> tuple[Trace, Question]:
    """The first kept trace about a next step among options, with as many frames as fit and two calls."""
    for trace in read_rows(run.kept, Trace):
        question = questions[trace.question_id]
        calls = [step.call.tool for step in trace.steps if step.call]
        if question.choices and 3 <= len(seen_steps(trace)) <= MOST_FRAMES and calls == ["list_steps", "propose_next"]:
            return trace, question
    raise SystemExit(f"{run.root} kept no trace about a next step among options; take a larger run")


def dropped_sentence(run: RunFolder) -> tuple[str, str]:
    """A sentence that no tool call bears out, and the reason for which its trace was dropped."""
    wrong = [one for one in read_rows(run.verdicts, Verdict) if one.reason == "time_not_found"]
    for trace in read_rows(run.dropped, Trace):
        for verdict in (one for one in wrong if one.question_id == trace.question_id):
            cited = [text for _, text in sentences_in(trace.rationale) if CITATION.search(text)]
            bad = [text for text in cited if verdict.detail in text]
            if bad:
                return CITATION.sub("", bad[0]).replace(" .", "").strip(), verdict.reason.replace("_", " ")
    raise SystemExit(f"{run.root} dropped no trace for a time that was not found; take a larger run")


def draw_trace(run: RunFolder, questions: dict[str, Question]) -> None:
    """Frames, tool calls and the sentences that rest on them."""
    trace, question = pick(run, questions)
    assert question.media is not None
    marks = [
        words(24, 34, question.text, "head"),
        words(24, 56, "Options: " + ", ".join(question.choices), "soft"),
        words(WIDTH - 24, 34, f"Clip: 0.0 s to {question.media.end_s:.1f} s", "soft", "end"),
    ]
    for number, one in enumerate(seen_steps(trace)):
        (start_s, end_s), x = one.spans_s[0], 24 + number * (FRAME_WIDTH + 18)
        uri = frame_uri(run.clips / question.media.uri, (start_s + end_s) / 2)
        marks.append(
            f'<image x="{x}" y="72" width="{FRAME_WIDTH}" height="{FRAME_HEIGHT}" href="{uri}" '
            f'preserveAspectRatio="xMidYMid slice"/>'
        )
        marks += [words(x, 216, f"{start_s:.1f}–{end_s:.1f} s", "soft"), words(x, 234, one.label)]
    top = 262
    marks += [words(40, top + 26, "Tool calls of the teacher", "head")]
    marks += [words(414, top + 26, "What the student learns", "head")]
    y = top + 52.0
    proposal = trace.steps[1]
    best = next(one for one in proposal.findings if one.kind == "option")
    task = next((one.label for one in proposal.findings if one.kind == "task"), "")
    shown = (
        (f"list_steps(0.0 s, {question.media.end_s:.1f} s)", f"{len(seen_steps(trace))} steps, times as above"),
        ("propose_next(these steps)", f"{task}; {best.label} {100 * best.score:.0f}%"),
    )
    for number, (code, result) in enumerate(shown, start=1):
        marks += [chip(40, y - 14, str(number)), words(70, y, code, "code"), words(70, y + 20, "→ " + result, "soft")]
        y += 52
    left, y = y, top + 52.0
    for part, text in sentences_in(trace.rationale):
        made, below = sentence(508, y, text)
        marks += [words(414, y, part, "soft"), *made]
        y = below
    text, reason = dropped_sentence(run)
    verdicts = (
        ("✓", "good", "Kept: the answer is right, and every claim cites a call that found it."),
        ("✗", "bad", f"Dropped, from another trace: “{text}” ({reason})."),
    )
    left += 8
    for mark, kind, verdict in verdicts:
        lines = textwrap.wrap(verdict, 42)
        marks += [words(44, left, mark, kind), *(words(70, left + 19 * at, line) for at, line in enumerate(lines))]
        left += 19 * len(lines) + 8
    bottom = max(left, y) + 4
    marks.insert(0, box(24, top, 356, bottom - top) + box(398, top, WIDTH - 422, bottom - top))
    title = f"A trace: {question.text} {trace.rationale}"
    picture("trace.svg", " ".join(title.split()), bottom + 24, marks)


def draw_flow(run: RunFolder, questions: dict[str, Question]) -> None:
    """From questions to a report and a student at work, with the counts of the run."""
    funnel = Funnel.model_validate_json(run.funnel.read_text(encoding="utf-8"))
    arms = [arm.name for arm in load_saved(run.config).train.arms]
    asked = sum(question.split == "train" for question in questions.values())
    stages = (
        ("Questions", ("clips, or text", "problems"), f"{asked} to train on"),
        ("Teacher", ("calls typed tools, or", "solves step by step"), f"{funnel.traces} traces"),
        ("Filters", ("answer right, evidence", "for every claim"), f"{funnel.kept} kept, {funnel.dropped} dropped"),
        ("Students", ("same questions, same", "steps, reasons or not"), f"{len(arms)} trained"),
        ("One grader", ("students, teacher and", "baselines alike"), "n and 95% interval"),
    )
    width, gap, top = 164, 23, 24
    marks = []
    for number, (title, about, count) in enumerate(stages):
        x = 24 + number * (width + gap)
        marks += [box(x, top, width, 122), words(x + 14, top + 28, title, "head")]
        marks += [words(x + 14, top + 52 + 18 * at, line, "soft") for at, line in enumerate(about)]
        marks += [words(x + 14, top + 104, count)]
        marks += [arrow(x + width + 3, top + 61, x + width + gap - 3, top + 61)] if number < len(stages) - 1 else []
    ends = (
        (1, "dropped traces, with reasons", 2),
        (2, "aot export: predict, serve, robot", 3),
        (3, "report.html, MODEL_CARD.md", 4),
    )
    for _, label, column in ends:
        x = 24 + column * (width + gap)
        marks += [arrow(x + width / 2, top + 125, x + width / 2, top + 158)]
        lines = textwrap.wrap(label, 22)
        marks += [words(x + width / 2, top + 178 + 18 * at, line, "soft", "middle") for at, line in enumerate(lines)]
    marks += [
        words(24, top + 178, "Counts: the tiny run", "soft"),
        words(24, top + 196, "of the synthetic kitchen", "soft"),
    ]
    flow = "Questions, teacher, filters, students, one grader; then a report, and an exported student."
    picture("flow.svg", flow, top + 222, marks)


def main() -> None:
    """Draw both pictures of the run folder that is named."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python scripts/draw_pictures.py RUN")
    run = RunFolder(Path(sys.argv[1]))
    questions = {question.id: question for question in read_rows(run.questions, Question)}
    draw_trace(run, questions)
    draw_flow(run, questions)


if __name__ == "__main__":
    main()
