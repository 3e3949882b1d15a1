"""A text teacher behind `transformers serve`: the real program, on this machine, with a tiny student as the model.

    python scripts/serve_text_teacher.py [--questions 40] [--steps 200] [--out runs/served]

Needs the packages fastapi and uvicorn (pip install -e '.[all,serving]'). The embedded text student never saw a
chain, so it is first distilled for some steps (a run of its own, done once) and stored whole; then `transformers serve`
is started on a free port, `aot prepare` and `aot generate` ask it new synthetic problems through the chat teacher with
the bare prompt it was trained on, and the server is stopped. Prints n, pass@1 with its interval, and tokens a second;
they say that the parts fit together, and nothing about real models.
"""

import argparse
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from aot.config import StudentConfig

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 180.0


def aot(stage: str, config: Path) -> None:
    """Run one verb; exit code 3 means that some questions got no chain."""
    code = subprocess.run([sys.executable, "-m", "aot", stage, str(config)], check=False).returncode
    if code not in (0, 3):
        raise SystemExit(f"aot {stage} {config} ended with exit code {code}")


def write_config(path: Path, settings: dict[str, Any]) -> Path:
    """A config file with these settings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


def distilled(out: Path, *, steps: int) -> Path:
    """The folder of a whole model: the embedded text student after so many steps on the procedural teacher's chains."""
    folder = out / f"student-{steps}"
    if (folder / "tokenizer_config.json").exists():
        return folder
    settings = yaml.safe_load((ROOT / "configs" / "text" / "tiny_math.yaml").read_text())
    settings["run"] = {"dir": str(out / f"run-{steps}")}
    settings["data"]["math"] = {"train": 4000, "test": 40, "test_ood": 1}
    settings["train"] |= {"max_steps": steps, "save_steps": steps, "arms": [{"name": "pre", "order": "pre"}]}
    settings["evaluate"] = {"splits": ["test"]}
    config = write_config(out / f"distil-{steps}.yaml", settings)
    for stage in ("prepare", "generate", "filter", "train"):
        aot(stage, config)
    from aot.student.model.loading import load_student

    student = load_student("tiny-text", adapter=out / f"run-{steps}" / "student" / "pre", config=StudentConfig())
    student.model.save_pretrained(folder)
    student.processor.save_pretrained(folder)
    return folder


@contextmanager
def served(model: Path, *, log: Path) -> Iterator[str]:
    """Base URL of `transformers serve` with `model`, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [str(program), "serve", str(model), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_until_it_answers(f"http://127.0.0.1:{port}/health", child, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            child.terminate()
            child.wait(30)


def wait_until_it_answers(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the server answers; end the program if it never does."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until and child.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - an address of this machine
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"transformers serve did not start; see {log}")


def ask(url: str, model: Path, out: Path, *, questions: int) -> dict[str, Any]:
    """Prepare and generate with the served model as the teacher; what teacher.json says."""
    run = out / time.strftime("asked-%Y%m%d-%H%M%S")
    settings = {
        "seed": 1,  # other problems than those it learned from
        "run": {"dir": str(run)},
        "data": {"dataset": "toy_math", "math": {"train": questions, "test": 1, "test_ood": 1}},
        "teacher": {"planner": "chat", "candidates": 1, "prompts": "bare", "structured": "off"},
        "chat": {
            "model": str(model), "base_url": url, "temperature": 0.0, "max_tokens": 192, "max_concurrency": 4,
        },
        "student": {"base": "tiny-text"},
        "train": {"arms": [{"name": "pre", "order": "pre"}]},
        "evaluate": {"splits": ["test"]},
    }  # fmt: skip
    config = write_config(out / "asked.yaml", settings)
    for stage in ("prepare", "generate"):
        aot(stage, config)
    told: dict[str, Any] = json.loads((run / "teacher.json").read_text())
    return told


def main() -> None:
    """Distil, serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--model", type=Path, default=None, help="folder of another model; nothing is distilled then")
    parser.add_argument("--out", type=Path, default=Path("runs/served"))
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    model = (options.model or distilled(out, steps=options.steps)).resolve()
    with served(model, log=out / "serve.log") as url:
        print(f"transformers serve answers at {url}", flush=True)
        told = ask(url, model, out, questions=options.questions)
    row = next(row for row in told["yields"] if (row["split"], row["kind"]) == ("train", "all"))
    share, spend = row["pass_at_1"], told["spend"]
    print(f"traces by status: {told['status']}; calls {spend['calls']}")
    print(f"pass@1 {share['value']:.1%} [{share['low']:.1%}, {share['high']:.1%}], n = {row['n']}")
    print(f"{spend['usage']['completion_tokens'] / spend['busy_s']:.0f} tokens/s over {spend['busy_s']:.1f} s")


if __name__ == "__main__":
    main()
