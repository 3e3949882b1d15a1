"""lm-evaluation-harness as an outside judge of a served student, on a local task, beside our own grader.

    python scripts/check_harness.py EXPORT RUN [--count 100] [--split test] [--keep FOLDER]

makes an environment of its own for the harness (from the package registry), writes a task and questions of the run as
local files, serves the export with `aot serve`, lets the harness ask it over the OpenAI-compatible chat API, and grades
the same questions here. Exits with 1 where the two accuracies differ by more than two questions in a hundred, and says
which answers they judge differently. Nothing is fetched from a model or data hub.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aot.answers import stop_workers
from aot.evaluation.scoring import score
from aot.files.run_folder import RunFolder, read_rows
from aot.records import Prediction, PromptMode, Question
from aot.seeds import in_random_order
from aot.serving.contract import read_contract
from aot.serving.student import Ask, load_student
from aot.student.rows.prompts import asked_text
from aot.wilson import wilson

HARNESS = "lm-eval[api]>=0.4.9,<0.5"
TASK = "aot_questions"
MOST_APART = 0.02
YAML = """task: aot_questions
dataset_path: json
dataset_kwargs: {{data_files: {{test: {questions}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: {most}}}
filter_list:
  - name: answer
    filter: [{{function: regex, regex_pattern: "{pattern}"}}, {{function: take_first}}]
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
ANSWER_LINE, FIRST_LINE = r"Answer: *([^\\n]+)", r"^ *([^\\n]+)"
"""Of a student that reasons first, and of one that answers at once."""


def environment(folder: Path) -> Path:
    """The harness in an environment of its own; returns its program."""
    program = folder / "bin" / "lm_eval"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", HARNESS], check=True)
    return program


def chosen(run: Path, *, split: str, count: int) -> list[Question]:
    """Questions of one split that show no clip, in an order by hash."""
    there = {one.id: one for one in read_rows(RunFolder(run).questions, Question)}
    ids = in_random_order((name for name, one in there.items() if one.split == split and not one.media), seed=0)
    if not ids:
        raise SystemExit(
            f"{run} has no question of split {split!r} without a clip; the chat API of the harness sends text"
        )
    return [there[name] for name in ids[:count]]


def write_task(folder: Path, questions: Sequence[Question], mode: PromptMode, *, most: int) -> None:
    """The files of a local task: its YAML, and one question a line."""
    rows = [{"id": one.id, "prompt": asked_text(one, mode), "answer": one.right_answer} for one in questions]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    pattern = FIRST_LINE if mode in ("direct", "explain") else ANSWER_LINE
    task = YAML.format(questions=json.dumps(str(path)), most=most, pattern=pattern)
    (folder / f"{TASK}.yaml").write_text(task, encoding="utf-8")


def served(export: Path, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """The export behind a free port, when it is ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "aot", "serve", str(export), "--port", str(port)], stdout=file, stderr=file
        )
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit(f"aot serve ended with {server.returncode}; see {log}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310 - our own address
                return server, url
        except OSError:
            time.sleep(0.5)
    server.terminate()
    raise SystemExit(f"aot serve was not ready in time; see {log}")


def judged(program: Path, folder: Path, *, url: str, model: str) -> dict[str, dict[str, Any]]:
    """What the harness says of each question, by id."""
    arguments = f"model={model},base_url={url}/v1/chat/completions,num_concurrent=1,max_retries=2,timeout=600"
    command = [
        str(program), "--model", "local-chat-completions", "--model_args", arguments, "--tasks", TASK,
        "--include_path", str(folder), "--apply_chat_template", "--output_path", str(folder / "out"), "--log_samples",
    ]  # fmt: skip
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder / "home"),
        "OPENAI_API_KEY": "-",
    }
    done = subprocess.run(command, env={**os.environ, **offline}, capture_output=True, text=True)
    print(done.stdout, flush=True)
    if done.returncode:
        raise SystemExit(f"lm_eval ended with {done.returncode}:\n{done.stderr[-3000:]}")
    (samples,) = (folder / "out").rglob(f"samples_{TASK}_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    return {row["doc"]["id"]: row for row in rows}


def ours(export: Path, questions: Sequence[Question], mode: PromptMode) -> dict[str, tuple[str, bool]]:
    """What the student answers here, and whether our grader says that it is right, by id."""
    with load_student(export) as student:
        answers = student.ask_many([Ask(one.text, choices=one.shown_choices, mode=mode) for one in questions])
    graded = {}
    for one, answer in zip(questions, answers, strict=True):
        said = None if answer.abstained else answer.answer
        row = Prediction(question_id=one.id, arm="export", mode=mode, raw_text=answer.raw_text, answer=said)
        graded[one.id] = said or "", score(row, one).correct
    stop_workers()
    return graded


def compare(theirs: dict[str, dict[str, Any]], mine: dict[str, tuple[str, bool]]) -> int:
    """Print both accuracies, and the questions that are judged differently; 1 where they are too far apart."""
    n = len(mine)
    right = {"lm-evaluation-harness": sum(row["exact_match"] for row in theirs.values())}
    right["aot"] = sum(is_right for _, is_right in mine.values())
    for name, hits in right.items():
        low, high = wilson(hits=hits, n=n)
        print(f"{name:22} {hits / n:6.1%} [{low:.1%}, {high:.1%}] n={n}")
    for name, (said, is_right) in mine.items():
        if bool(theirs[name]["exact_match"]) != is_right:
            print(f"  differs: {name}: harness read {theirs[name]['filtered_resps']}, aot read {said!r}, gold "
                  f"{theirs[name]['target']!r}")  # fmt: skip
    return int(abs(right["aot"] - right["lm-evaluation-harness"]) > MOST_APART * n)


def main() -> int:
    """Run the check."""
    parser = argparse.ArgumentParser(description="lm-evaluation-harness against aot serve, beside our own grader.")
    parser.add_argument("export", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--split", default="test")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for environment and task; else a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        folder = (options.keep or Path(passing)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        contract = read_contract(options.export)
        mode = contract.modes[0]
        questions = chosen(options.run, split=options.split, count=options.count)
        program = environment(folder / "env")
        write_task(folder, questions, mode, most=contract.max_rationale_tokens)
        server, url = served(options.export, folder / "server.log")
        try:
            theirs = judged(program, folder, url=url, model=contract.name)
        finally:
            server.terminate()
            server.wait()
        return compare(theirs, ours(options.export, questions, mode))


if __name__ == "__main__":
    sys.exit(main())
