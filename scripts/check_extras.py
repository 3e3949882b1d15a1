"""Installs each light extra alone in a clean environment and uses it: does what an extra declares suffice for its room?

    python scripts/check_extras.py                    # core and every light extra; and whether train resolves
    python scripts/check_extras.py video --newest     # newest versions instead of those in constraints.txt
    python scripts/check_extras.py video --newest --python 3.12 3.13       # with these, too, where they are installed

In each environment every module of ours must import, or lack a package that another extra brings; then one tiny thing
is done with it. Needs the package registry and two minutes. Ends with 1 if anything failed.
"""

import argparse
import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("aot", "text_cot", "video_data")
AT_ONCE = 2
RESOLVED_ONLY = ("train",)
"""Gigabytes: only looked whether there are versions that fit each other."""


def use_core(work: Path) -> None:
    """Questions, chains and kept chains of a tiny text run."""
    _aot("--help")
    for stage in ("prepare", "generate", "filter"):
        _aot(stage, str(ROOT / "configs" / "text" / "tiny_math_tiny.yaml"), f"run.dir={work / 'run'}")
    assert (work / "run" / "kept.jsonl").stat().st_size > 1000, "no chain was kept"


def use_video(work: Path) -> None:
    """Facts of a clip that PyAV wrote, and the first stages of a tiny video run."""
    import av
    import numpy as np

    with av.open(str(work / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(16):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * index, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    facts = json.loads(_aot("probe", str(work / "clip.mp4")))
    assert facts["verdict"] == "complete", facts
    clips = "data.toy={train_clips: 2, test_clips: 1, test_ood_clips: 1}"
    few = (clips, "filter.min_kept=1", f"run.dir={work / 'run'}")
    for stage in ("prepare", "generate", "filter"):
        _aot(stage, str(ROOT / "configs" / "video" / "toy_kitchen_tiny.yaml"), *few)


def use_teacher(work: Path) -> None:
    """One reply of a server on this machine, through the real client."""
    from aot.chat.factory import open_chat
    from aot.chat.messages import ChatRequest, message
    from aot.config import ChatConfig

    server = HTTPServer(("127.0.0.1", 0), _Says)
    Thread(target=server.serve_forever, daemon=True).start()
    chat = open_chat(ChatConfig(model="m", base_url=f"http://127.0.0.1:{server.server_port}/v1"), run=None, writer="x")
    assert chat.reply(ChatRequest(messages=(message("user", "Hello?"),))).text == "Hello."
    chat.close()
    server.shutdown()


def use_text(work: Path) -> None:
    """Answers compared as expressions, and problems of the gym."""
    config = work / "gym.yaml"
    config.write_text(
        "data: {dataset: gym, gym: {tasks: [chain_sum], train: 3, test: 2}}\nteacher: {planner: given}\n"
        "student: {base: tiny-text}\ntrain: {arms: [{name: a, order: pre}]}\nevaluate: {splits: [test]}\n"
    )
    _aot("prepare", str(config), f"run.dir={work / 'run'}")
    from aot.answers import is_right
    from aot.records import Question

    half = Question(
        id="q", dataset="d", split="train", kind="k", text="?", answer="x^2-1", answer_type="expression", group="q"
    )
    assert is_right("(x-1)(x+1)", half), "two ways to write an expression are not the same"
    importlib.import_module("pyarrow.parquet")


def use_report(work: Path) -> None:
    """A report of a run that has come as far as the core goes."""
    use_core(work)
    from aot.config import load_saved
    from aot.files.run_folder import RunFolder
    from aot.pipeline.stages import report

    run = RunFolder(work / "run")
    report(run, load_saved(run.config), lambda done, total: None)
    assert "<html" in run.report.read_text(encoding="utf-8")
    importlib.import_module("PIL.Image")


def use_serving(work: Path) -> None:
    """One reply over HTTP of whoever replies behind the server, which needs no model of ours in this process."""
    from urllib.request import Request, urlopen

    from aot.chat.messages import ChatReply, ChatRequest
    from aot.serving.server.listening import open_port, server_of
    from aot.serving.server.served import Served

    class Chat:
        name = "somebody"

        def reply(self, request: ChatRequest) -> ChatReply:
            return ChatReply(text="Hello.")

        def close(self) -> None:
            pass

    listener, server = open_port("127.0.0.1", 0, key=None), server_of(Served(chat=Chat()))
    thread = Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/chat/completions"
    asked = json.dumps({"model": "somebody", "messages": [{"role": "user", "content": "Hello?"}]}).encode()
    try:
        with urlopen(Request(url, asked, {"Content-Type": "application/json"}), timeout=60) as reply:
            assert json.load(reply)["choices"][0]["message"]["content"] == "Hello."
    finally:
        server.should_exit = True
        thread.join()


def use_review(work: Path) -> None:
    """Agreement of two reviewers."""
    from aot.review.agreement import agreement_of
    from aot.review.standing import standings_of
    from aot.review_records import AskedQuestion, ReviewRow

    rows = [
        ReviewRow(
            subject="trace", item=item, digest="d", reviewer=name, time_s=1.0, answer="",
            verdict="approved" if item == "a" else "rejected", question=AskedQuestion(text="?"),
        )
        for item in "abc" for name in ("one", "two")
    ]  # fmt: skip
    made = agreement_of(standings_of(rows))
    assert made.alpha == 1.0, made


USES: dict[str, Callable[[Path], None]] = {
    "core": use_core, "video": use_video, "teacher": use_teacher, "text": use_text, "report": use_report,
    "serving": use_serving, "review": use_review,
}  # fmt: skip
"""Extra to what is done with it; `core` is no extra at all."""


class _Says(BaseHTTPRequestHandler):
    """A chat server that says one thing."""

    def do_POST(self) -> None:
        """Answer any request."""
        reply = {"role": "assistant", "content": "Hello."}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        body = json.dumps({"choices": [{"message": reply, "finish_reason": "stop"}], "usage": usage}).encode()
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


def _aot(*arguments: str) -> str:
    """What the command line prints; raises where it ends with another code than 0."""
    done = subprocess.run([sys.executable, "-m", "aot", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"aot {' '.join(arguments[:2])} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def import_problems(extra: str) -> Iterator[str]:
    """Modules of ours that lack something which this extra, or the core, should have brought."""
    from aot.errors import EXTRA_OF_PACKAGE

    for package in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if module.name.endswith("__main__"):
                continue
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                lacking = (error.name or "").partition(".")[0]
                brought_by = EXTRA_OF_PACKAGE.get(lacking)
                if brought_by in (None, extra):
                    yield f"{module.name} needs {lacking}, which {brought_by or 'nothing'} declares"
            except Exception as error:  # noqa: BLE001 - whatever a package does when it is imported
                yield f"{module.name} does not import: {type(error).__name__}: {error}"


def inside(extra: str) -> None:
    """In the environment of an extra: raises where something is wrong with it."""
    problems = list(import_problems(extra))
    if problems:
        raise RuntimeError("; ".join(problems))
    with tempfile.TemporaryDirectory() as work:
        USES[extra](Path(work))


def build_wheel(folder: Path) -> Path:
    """A wheel of this project, made from a copy, so that nothing is left in the clone."""
    source = folder / "source"
    source.mkdir()
    for name in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, source)
    _pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(source))
    return next(folder.glob("aot_distill-*.whl"))


def check(extra: str, wheel: Path, folder: Path, *, python: str, newest: bool) -> str:
    """What is wrong with an extra alone in an environment of its own; empty when nothing is."""
    wanted = f"{wheel}[{extra}]" if extra != "core" else str(wheel)
    limits = [] if newest else ["--constraint", str(ROOT / "constraints.txt")]
    # The pip that runs this may be too old for a newer Python, which then brings its own.
    is_other = python != sys.executable
    try:
        if extra in RESOLVED_ONLY:
            _pip("install", "--dry-run", "--ignore-installed", *limits, wanted, python=python, is_own=is_other)
            return ""
        without = [] if is_other else ["--without-pip"]
        subprocess.run([python, "-m", "venv", *without, str(folder)], check=True, capture_output=True)
        own = str(folder / "bin" / "python")
        _pip(
            "install", "--no-compile", *limits, wanted, python=own, is_own=is_other
        )  # but what is used, and when it is
        command = [own, "-P", str(Path(__file__).resolve()), "--inside", extra]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except subprocess.CalledProcessError as error:
        return (error.stderr.decode() if isinstance(error.stderr, bytes) else error.stderr or str(error))[-2000:]
    return done.stderr[-3000:] if done.returncode else ""


def _pip(*arguments: str, python: str | None = None, is_own: bool = False) -> None:
    """Run pip, for another environment if `python` is given, and with its own pip; raises CalledProcessError."""
    by, where = (python, []) if python and is_own else (sys.executable, ["--python", python] if python else [])
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [by, "-m", "pip", *where, *arguments[:1], *quiet, *arguments[1:]],
        check=True, capture_output=True, text=True,
    )  # fmt: skip


def find_python(name: str) -> str | None:
    """An interpreter by its path or its version, on the PATH or among those of pyenv; None if there is none here."""
    held = sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{name}.*/bin/python"))
    for command in (name, f"python{name}", *map(str, reversed(held))):
        try:
            subprocess.run([command, "--version"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return command
    return None


def main() -> int:
    """Check the extras that were named; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="all that are light, and train, if none is named")
    parser.add_argument("--newest", action="store_true", help="without constraints.txt")
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters, or versions such as 3.12")
    parser.add_argument("--inside", choices=USES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        inside(given.inside)
        return 0
    os.environ.pop("PYTHONPATH", None)  # pip would take what lies there for installed
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each process would compile its packages again
    failed = False
    for name in given.python:
        if (python := find_python(name)) is None:
            print(f"Python {name}: not installed here, so nothing was tried with it")
        else:
            failed |= check_all(given.extras or [*USES, *RESOLVED_ONLY], python=python, newest=given.newest)
    return int(failed)


def check_all(extras: Sequence[str], *, python: str, newest: bool) -> bool:
    """Whether an extra failed under an interpreter; prints a line for each."""
    version = subprocess.run([python, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    print(f"{version}: each light extra is installed alone, without torch; {', '.join(RESOLVED_ONLY)} only resolved")
    failed = False
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(AT_ONCE) as pool:
        wheel = build_wheel(Path(name))

        def one(extra: str) -> tuple[str, str, float]:
            began_s = time.monotonic()
            problem = check(extra, wheel, Path(name) / extra, python=python, newest=newest)
            return extra, problem, time.monotonic() - began_s

        for extra, problem, seconds in pool.map(one, extras):
            failed |= bool(problem)
            print(f"{extra:8} {'FAILED' if problem else 'ok':6} {seconds:5.0f} s  {problem}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
