"""The child side of workers.py: a keeper that is warm, and one worker at a time that it forks to compute.

The worker reads one question a line and tells one reply a line. It limits its memory and processor time, refuses to
start programs, open connections and write files, and ends when its parent's end of the socket closes. It is run as a
script and imports nothing of ours.
"""

import ast
import io
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

MEMORY_BYTES = 3 << 30
CPU_S = 3
"""Processor seconds that one question may take when nobody is left to stop it."""
_MISSING_EXIT = 3
_FORBIDDEN = (
    "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.kill",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate",
    "os.putenv", "shutil.", "socket.", "ctypes.", "pty.", "webbrowser.", "urllib.", "ftplib.", "smtplib.", "http.",
)  # fmt: skip
_WARM_UP = (
    ("x^2+1", "1+x^2"), ("(x+1)^2", "x^2+2x+1"), (r"\frac{x}{2}", "x/2"), (r"\frac{\sqrt{2}}{2}", r"\sqrt{2}"),
    ("2x", r"x \cdot 2"), ("x=5", "y=5"), (r"x \ge 3", "x > 3"), ("5!", "120"), ("|x|", "|y|"), (r"\log 8", r"\ln 2"),
    (r"\sin^2 x+\cos^2 x", "1"), (r"e^{2x}", "e^{x}"), (r"2\pi", "6.28"), ("4+3i", "4-3i"), ("f(x)", "f(y)"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"), ("x_1+x_2", "x_2-x_1"),
    (r"F_n=\sum_{k=0}^{n-1} a_k b_k", r"F_n=\sum_{k=0}^{n-1} b_k a_k"), (r"\sum_{k=1}^{n} k", r"\frac{n(n+1)}{2}"),
    (r"\sum_{k=0}^{n-1} F_{k} F_{n-k-1}", r"\sum_{k=0}^{n-2} F_{n-k-2} F_{k}"), (r"[0, 1) \cup (2, \infty)", "(1, 2]"),
    (r"10^{\frac{-5+\sqrt{13}}{6}}", r"\frac{\sqrt{\sqrt{11}+2}}{15+2\sqrt{33}}"), (r"\{1, -2\}", r"(1, \sqrt[3]{x})"),
    ("y=-\\frac{1}{2}x+3", "2x+4y-3=0"), (r"\begin{pmatrix}\frac{1}{3\sqrt{x}}\\-\sin(x)\end{pmatrix}", "x_{n-1}"),
    (r"\binom{4}{2}", "6"), (r"\tan \theta", r"\frac{1}{\cot \theta}"),
)  # fmt: skip


def main() -> None:
    """Import, warm up, then keep one worker running until the parent goes."""
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever a library prints must not reach the replies
    solve = {"expressions": _expressions, "scores": _scores}[sys.argv[1]]()
    if solve is None:
        replies.write(b'{"missing": true}\n')
        sys.exit(_MISSING_EXIT)
    for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_AS, MEMORY_BYTES)):
        resource.setrlimit(limit, (value, value))
    worker = 0
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(worker, signal.SIGKILL) if worker else None)
    while True:
        worker = os.fork()
        if worker == 0:
            signal.signal(signal.SIGUSR1, signal.SIG_DFL)
            _serve(solve, replies)
            os._exit(0)
        _, status = os.waitpid(worker, 0)
        worker = 0
        if os.WIFEXITED(status):  # the parent has closed its end
            return


def _serve(solve: Callable[[dict[str, Any]], float | str], replies: io.FileIO) -> None:
    sys.addaudithook(_refuse)
    requests = os.fdopen(os.dup(0), "rb", buffering=1 << 16)
    replies.write(b'{"ready": true}\n')
    for line in requests:
        request = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        _allow_cpu(int(used.ru_utime + used.ru_stime) + CPU_S)
        try:
            result = solve(request)
        except Exception as error:  # noqa: BLE001 -- whatever a library throws at model text becomes a counted row
            result = "out_of_memory" if isinstance(error, MemoryError) else "not_understood"
        reply = {"reason": result} if isinstance(result, str) else {"value": result}
        replies.write(json.dumps({"id": request["id"], **reply}).encode() + b"\n")


def _allow_cpu(seconds: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, hard))


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook that lets a worker compute and import, and nothing else."""
    if event == "open":
        mode, flags = arguments[1], arguments[2]
        writes = (
            flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else mode not in (None, "r", "rb")
        )
        if writes:
            raise PermissionError("a worker writes no files")
    elif event.startswith(_FORBIDDEN):
        raise PermissionError(f"a worker may not {event}")


def _expressions() -> Callable[[dict[str, Any]], float | str] | None:
    try:
        from latex2sympy2_extended import NormalizationConfig
        from math_verify import parse, verify
        from math_verify.parser import LatexExtractionConfig
    except ImportError:
        return None
    import logging

    logging.disable(logging.CRITICAL)
    as_written = NormalizationConfig(units=False, malformed_operators=True, nits=True)  # 6 cm is not 6 m
    only_boxed = [LatexExtractionConfig(boxed_match_priority=0, normalization_config=as_written)]

    def read(latex: str) -> Any:  # noqa: ANN401 -- a sympy object
        parsed = parse(
            f"$\\boxed{{{latex}}}$", extraction_config=only_boxed, fallback_mode="no_fallback",
            extraction_mode="first_match", parsing_timeout=None, raise_on_error=True,
        )  # fmt: skip
        return parsed[0] if parsed and not isinstance(parsed[0], str) else None

    def same(gold: Any, answer: Any, digits: int) -> bool:  # noqa: ANN401
        return bool(
            verify(gold, answer, float_rounding=digits, numeric_precision=40, strict=True, timeout_seconds=None)
        )

    def solve(request: dict[str, Any]) -> float | str:
        golds, answers = [read(text) for text in request["golds"]], [read(text) for text in request["answers"]]
        if None in golds:
            return "gold_not_understood"
        if None in answers:
            return "not_understood"
        digits = request.get("digits", 30)
        if request["ordered"]:
            return float(all(same(gold, answer, digits) for gold, answer in zip(golds, answers, strict=True)))
        for gold in golds:
            place = next((i for i, answer in enumerate(answers) if same(gold, answer, digits)), None)
            if place is None:
                return 0.0
            del answers[place]
        return 1.0

    for gold, answer in _WARM_UP:
        solve({"golds": [gold], "answers": [answer], "ordered": True})
    return solve


def _scores() -> Callable[[dict[str, Any]], float | str] | None:
    try:
        import reasoning_gym
    except ImportError:
        return None
    for name, module in list(sys.modules.items()):
        if name.startswith(("reasoning_gym.algorithmic.", "reasoning_gym.games.n_queens")):
            vars(module)["eval"] = ast.literal_eval  # these read lists that a model wrote
    scorers: dict[str, Callable[..., float]] = {}

    def solve(request: dict[str, Any]) -> float | str:
        task = request["task"]
        if task not in scorers:
            try:
                scorers[task] = reasoning_gym.get_score_answer_fn(task)
            except ValueError:
                return "unknown_task"
        return float(scorers[task](request["answer"], request["entry"]))

    return solve


if __name__ == "__main__":
    main()
