"""What the checks of the chat teacher share: runs on synthetic maths, a server that solves them, and what is left.

As a program it is that server: `python scripts/chat_runs.py --train 200` prints its address and serves until killed.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aot.config import MathData, RunConfig, parse_config
from aot.files.run_folder import RunFolder, read_rows
from aot.records import Question, Trace
from text_cot.datasets.toy_math import draw_toy_math
from text_cot.families import FAMILIES, Granularity

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "chat"))
from fault_server import FaultServer

Body = dict[str, Any]


def chat_settings(url: str, *, folder: Path, train: int, **chat: Any) -> Body:  # noqa: ANN401 - settings of any type
    """The config of a run on `train` synthetic problems of each split whose teacher asks the server at `url`."""
    return {
        "run": {"dir": str(folder)},
        "data": {"dataset": "toy_math", "math": {"train": train, "test": 1, "test_ood": 1}},
        "teacher": {"planner": "chat", "candidates": 1, "structured": "off"},
        "chat": {"model": "m", "base_url": url, "max_concurrency": 10, "max_tokens": 64, "deadline_s": 60, **chat},
        "student": {"base": "tiny-text"},
        "train": {"arms": [{"name": "pre", "order": "pre"}]},
        "evaluate": {"splits": ["test"]},
    }


def chat_config(url: str, *, folder: Path, train: int, **chat: Any) -> RunConfig:  # noqa: ANN401
    """The same, checked."""
    return parse_config(chat_settings(url, folder=folder, train=train, **chat), source="check")


def problems_of(config: RunConfig) -> list[Question]:
    """The maths problems that such a run asks."""
    assert isinstance(config.data, MathData)
    return draw_toy_math(config.data.math, seed=config.seed)


def solver(questions: list[Question]) -> Callable[[Body], str]:
    """What a server says that knows every problem, found by the text inside the data fence."""
    replies = {question.text: chain_of(question) for question in questions}
    return lambda body: replies[asked_in(body["messages"][-1]["content"])]


def chain_of(question: Question, *, granularity: Granularity = "coarse") -> str:
    """A right chain with its answer line."""
    family = FAMILIES[question.kind]
    state = family.state_type.model_validate(question.state)
    return "\n".join([*family.solve(state, granularity, 0), f"Answer: {family.answer(state)}"])


def asked_in(content: Any) -> str:  # noqa: ANN401 - a string or a list of parts
    """The question inside the data fence of a prompt."""
    text = content if isinstance(content, str) else "\n".join(part["text"] for part in content)
    return text.partition('<data name="question">\n')[2].rpartition("\n</data>")[0]


def written_rows(run: RunFolder) -> list[Trace]:
    """Every trace row, doubled ones included."""
    return [trace for part in sorted(run.traces.glob("*.jsonl")) for trace in read_rows(part, Trace)]


def doubled(rows: list[Trace]) -> int:
    """How many rows stand for a question and sample that another row stands for too."""
    return sum(count - 1 for count in Counter((row.question_id, row.sample_index) for row in rows).values())


@contextmanager
def server_process(*, train: int, latency_s: float, log: Path) -> Iterator[str]:
    """Address of a solving server in a process of its own, which notes the digest of each call's prompt in `log`."""
    command = [sys.executable, __file__, "--train", str(train), "--latency", str(latency_s), "--log", str(log)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield child.stdout.readline().strip()
    finally:
        child.kill()
        child.wait()


def main() -> None:
    """Serve until killed; prints the address first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=200)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, default=None)
    options = parser.parse_args()
    config = chat_config("http://127.0.0.1:9/v1", folder=Path(), train=options.train)
    solve = solver(problems_of(config))
    log = options.log.open("a") if options.log else None

    def answer(body: Body) -> str:
        if log:
            log.write(json.dumps(asked_in(body["messages"][-1]["content"])) + "\n")
            log.flush()
        return solve(body)

    with FaultServer(answer, latency_s=options.latency, port=options.port) as server:
        print(server.url, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
