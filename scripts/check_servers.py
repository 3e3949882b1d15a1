"""200 questions to servers that do things their own way: what became of them, and how many calls it took.

    python scripts/check_servers.py [--questions 200] [--only temp_fixed gzip]

The servers are those of tests/chat/quirk_server.py. Where one wants a setting, the run must stop after a few requests
with exit code 4 and say which; the same folder then goes on with it. Exits with 0 only if every question has one right
trace, no row was final that could pass, calls stayed within 1.1 of the questions (none counted twice), and prepare was
done once.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chat_runs import chat_settings, doubled, problems_of, solver, written_rows  # first, because it finds the next ones
from fault_server import FaultServer
from quirk_server import QUIRKS, Quirk

from aot.config import parse_config
from aot.errors import GuardStop
from aot.files.run_folder import RunFolder, read_run_json
from aot.pipeline import run_stages

MOST_CALLS = 1.1


@dataclass
class Outcome:
    """What became of the questions of one server."""

    questions: int = 0
    right: int = 0
    calls: int = 0
    calls_before_stop: int = 0
    stop: str = ""
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    """What should not have happened, one line each."""


def check_server(quirk: Quirk, folder: Path, *, questions: int) -> Outcome:
    """Ask all questions, with the settings that are wanted once the stop has named them."""
    settings = chat_settings("", folder=folder, train=questions - 8)
    settings["teacher"]["structured"] = quirk.structured
    asked = problems_of(parse_config(settings, source="t"))
    outcome = Outcome(questions=len(asked))
    began_s = time.monotonic()
    with FaultServer(solver(asked), quirk=quirk.make()) as server:
        settings["chat"]["base_url"] = server.url
        if quirk.says:
            try:
                _run(settings)
                outcome.wrong.append("the run did not stop")
            except GuardStop as stop:
                outcome.stop = str(stop)
            outcome.calls_before_stop = server.calls.total()
            if written_rows(RunFolder(folder)):
                outcome.wrong.append("rows were written before the setting was mended")
            prepared_s = read_run_json(RunFolder(folder))["stages"]["prepare"]["updated_s"]
        settings["chat"] |= quirk.mend
        _run(settings)
        outcome.calls = server.calls.total()
    run, rows = RunFolder(folder), written_rows(RunFolder(folder))
    if quirk.says and read_run_json(run)["stages"]["prepare"]["updated_s"] != prepared_s:
        outcome.wrong.append("prepare was done again")
    gold = {question.id: question.answer for question in asked}
    outcome.right = sum(row.status == "ok" and row.answer == gold[row.question_id] for row in rows)
    outcome.seconds = time.monotonic() - began_s
    outcome.wrong += [f"{row.question_id}: {row.status}: {row.error}" for row in rows if row.status != "ok"][:3]
    if outcome.right != len(asked) or doubled(rows):
        outcome.wrong.append(f"{outcome.right} right rows and {doubled(rows)} doubled ones for {len(asked)} questions")
    if outcome.calls > MOST_CALLS * len(asked):
        outcome.wrong.append(f"{outcome.calls} calls for {len(asked)} questions")
    return outcome


def _run(settings: dict[str, Any]) -> None:
    config = parse_config(settings, source="check")
    run_stages(config, config_path=Path("check.yaml"), command=["check"], stages=("prepare", "generate"))


def main() -> None:
    """Check and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200, help="eight of them are of the other splits")
    parser.add_argument("--only", nargs="+", default=list(QUIRKS), choices=list(QUIRKS), metavar="QUIRK")
    options = parser.parse_args()
    print(f"{'server':26}{'right':>12}{'calls':>7}{'a question':>12}{'before stop':>13}{'seconds':>9}  wrong")
    bad = 0
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="aot-servers-") as folder:
            found = check_server(QUIRKS[name], Path(folder) / "run", questions=options.questions)
        bad += bool(found.wrong)
        right, share = f"{found.right}/{found.questions}", found.calls / found.questions
        figures = f"{right:>12}{found.calls:>7}{share:>12.3f}{found.calls_before_stop or '':>13}{found.seconds:>9.1f}"
        print(f"{name:26}{figures}  {'; '.join(found.wrong) or 'nothing'}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
