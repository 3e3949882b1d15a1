"""Speed and memory of all filters together over made-up traces, as ratios against parsing the same rows from JSON.

    python scripts/bench_filters.py [--traces 20000]

One process, one core. Memory is the growth of the peak resident set from N to 2N traces, each measured in its own
process: once for the filters that need nothing but the trace, once for the whole chain with its duplicate index.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from aot.config import FilterConfig
from aot.filtering.chain import judge_alone, run_filters
from aot.filtering.subject import Subject
from aot.records import Question, Trace
from video_data.kitchen.world import STEP_LABELS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fixtures.synthetic import synthetic_case


class Row(BaseModel):
    """One line of the file that is measured over."""

    question: Question
    trace: Trace


class OneQuestion(dict[str, Question]):
    """A look-up that holds the question of the row just read: memory then shows the filters, not the questions."""


def rows(path: Path, looked_up: OneQuestion, *, limit: int) -> Iterator[Trace]:
    """Traces of the file, parsed; `looked_up` always holds the question of the last one."""
    with path.open("rb") as file:
        for _, line in zip(range(limit), file, strict=False):
            row = Row.model_validate_json(line)
            looked_up.clear()
            looked_up[row.question.id] = row.question
            yield row.trace


def run(mode: str, path: Path, limit: int) -> float:
    """CPU seconds of one pass: `parse` only, `alone` with the filters that need no index, or the whole `chain`."""
    looked_up = OneQuestion()
    config = FilterConfig()
    start_s = time.process_time()
    traces = rows(path, looked_up, limit=limit)
    if mode == "parse":
        for _ in traces:
            pass
    elif mode == "alone":
        for trace in traces:
            judge_alone(Subject(trace, looked_up[trace.question_id], config))
    else:
        for _ in run_filters(traces, questions=looked_up, held_out=(), config=config):
            pass
    return time.process_time() - start_s


def measured(mode: str, path: Path, limit: int) -> tuple[float, float]:
    """(CPU seconds, peak resident MB) of one pass in a process of its own."""
    command = [sys.executable, __file__, "--mode", mode, "--rows", str(path), "--traces", str(limit)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, megabytes = done.stdout.split()
    return float(seconds), float(megabytes)


def main() -> None:
    """Print the figures; with --mode, be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=20_000)
    parser.add_argument("--mode", choices=("parse", "alone", "chain"), help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode:
        seconds = run(options.mode, options.rows, options.traces)
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for index in range(2 * options.traces):
                case = synthetic_case(index, seed=0, labels=STEP_LABELS)
                file.write(Row(question=case.question, trace=case.trace).model_dump_json() + "\n")
        report(path, options.traces)


def report(path: Path, traces: int) -> None:
    """Measure and print."""
    parse_s, parse_mb = measured("parse", path, traces)
    print(f"baseline, JSON parsing of the same rows: {traces / parse_s:,.0f} traces/s, peak {parse_mb:.0f} MB")
    for mode, what in (("alone", "filters without indices"), ("chain", "all filters")):
        seconds, peak_mb = measured(mode, path, traces)
        _, doubled_mb = measured(mode, path, 2 * traces)
        filters_s = seconds - parse_s
        print(
            f"{what}: {traces / filters_s:,.0f} traces/s, {filters_s / parse_s:.1f} x the time of the baseline; "
            f"peak {peak_mb:.0f} MB, {(doubled_mb - peak_mb) / traces * 1024:.2f} KB more for each further trace"
        )


if __name__ == "__main__":
    main()
