"""200 questions to a server that fails in seven ways: what became of each, and how many calls it took.

    python scripts/check_chat_faults.py [--questions 200] [--share 0.1]

Four kinds of fault pass (429, 500, cut-off JSON, a reply without choices: once for each prompt they hit), three stay
(400, content filter, length). Each hits about `share` of the questions. Exits with 0 only if every answerable question
has exactly one trace, every other one a refusal with the right reason, no trace is empty, and no call was superfluous.
"""

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from chat_runs import chat_config, doubled, problems_of, solver, written_rows  # first, because it finds the next one
from fault_server import FaultServer, spread_faults

from aot.pipeline import run_stages
from aot.records import Trace

PASSING = ("429 once", "500 once", "truncated_json once", "no_choices once")
REASONS = {"400 always": "bad_request", "filter always": "content_filter", "length always": "truncated"}
"""Faults that stay, and what a question that meets one must be told as."""
CALLS = {"length always": 2}
"""A reply that was cut off is asked for once more with a larger cap."""


@dataclass
class Outcome:
    """What became of all questions."""

    questions: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    """Questions by the fault that they met, `none` among them."""
    right: int = 0
    """Questions that could be answered and have one trace with the gold answer."""
    refused: Counter[str] = field(default_factory=Counter)
    """Refused questions by reason."""
    wrong: list[str] = field(default_factory=list)
    """What should not have happened, one line each."""
    calls: int = 0
    allowed_calls: int = 0
    exit_code: int = 0


def check_faults(folder: Path, *, questions: int, share: float) -> Outcome:
    """Run prepare and generate against the misbehaving server and look at every row."""
    config = chat_config("http://127.0.0.1:9/v1", folder=folder, train=questions)
    asked = problems_of(config)
    plan = spread_faults((*PASSING, *REASONS), share=share)
    with FaultServer(solver(asked), faults=plan) as server:
        config = chat_config(server.url, folder=folder, train=questions)
        run, code = run_stages(
            config, config_path=Path("check.yaml"), command=["check"], stages=("prepare", "generate")
        )
        rows, calls = written_rows(run), dict(server.calls)
    by_id = {row.question_id: row for row in rows}
    outcome = Outcome(questions=len(asked), calls=sum(calls.values()), exit_code=code)
    outcome.wrong += [f"{doubled(rows)} rows are doubled"] if doubled(rows) else []
    prompts = {prompt.partition('<data name="question">\n')[2].rpartition("\n</data>")[0]: prompt for prompt in calls}
    for question in asked:
        fault = plan(prompts[question.text]) if question.text in prompts else "never asked"
        _judge(outcome, fault, by_id.get(question.id), gold=question.answer)
    if outcome.calls > outcome.allowed_calls:
        outcome.wrong.append(f"{outcome.calls} calls, {outcome.allowed_calls} allowed")
    return outcome


def _judge(outcome: Outcome, fault: str | None, row: Trace | None, *, gold: str) -> None:
    """Count one question and its row."""
    outcome.faults[fault or "none"] += 1
    outcome.allowed_calls += CALLS.get(fault or "", 2 if fault in PASSING else 1)
    if row is None:
        outcome.wrong.append("a question has no row")
    elif fault in REASONS:
        reason = row.error.reason if row.error else "none"
        outcome.refused[reason] += 1
        if row.status != "failed" or row.rationale or reason != REASONS[fault]:
            outcome.wrong.append(f"{row.question_id} met {fault} and is {row.status} ({reason})")
    elif row.status == "ok" and row.rationale and row.steps and row.answer == gold:
        outcome.right += 1
    else:
        outcome.wrong.append(f"{row.question_id} met {fault} and is {row.status}: {row.error}")


def main() -> None:
    """Check and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=192, help="of the train split; eight more are asked of others")
    parser.add_argument("--share", type=float, default=0.1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aot-faults-") as folder:
        outcome = check_faults(Path(folder) / "run", questions=options.questions, share=options.share)
    print(f"questions: {outcome.questions}; exit code {outcome.exit_code}")
    print("met:     " + ", ".join(f"{fault} {count}" for fault, count in sorted(outcome.faults.items())))
    print(f"traces:  {outcome.right} with the right answer, one each")
    print("refused: " + ", ".join(f"{reason} {count}" for reason, count in sorted(outcome.refused.items())))
    print(f"calls:   {outcome.calls} (allowed {outcome.allowed_calls})")
    print("\n".join(outcome.wrong) or "wrong:   nothing")
    sys.exit(1 if outcome.wrong else 0)


if __name__ == "__main__":
    main()
