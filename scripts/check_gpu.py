"""Measures training and prediction of a random-weight Qwen2.5-VL-7B with adapters on one GPU, in at most eight minutes.

    bash scripts/check_gpu.sh [--out FOLDER] [--work FOLDER] [--budget-s 480] [--only PART ...] [--peak TFLOPS] [--cpu]

One H100 or H200 (40 GiB of free GPU memory are enough), 24 GiB of disk, nothing downloaded. Parts, in this order:
`ours` (this project's trainer: one step's time, peak memory, MFU, of which at least 45% is the goal), `plain` (the
Trainer of transformers on the same rows), `trl` (its SFTTrainer), `resume` (TERM in mid-training, started again: the
same losses), `tower`, `flash`, `compile` (the same loss where the vision tower looks at the frames of each step, with
flash-attention, with torch.compile), `asked` (tokens a second of predictions) and `vllm` (the same there).
A part whose package is not installed, or for which no time is left, is skipped with a word. Writes check_gpu.json and
check_gpu.md to --out.

MFU is the operations that a step needs over those that the GPU could do in its time. Counted are the matrix products:
2 for each weight and row forward, 2 more backward for the gradient of its input, 2 more for that of a trained weight (a
frozen one needs none), and 6 T^2 width for each layer and row of T tokens of attention. Not counted are products that
are done once more because of gradient checkpointing, padding, and attention inside the vision tower.

--cpu does the same steps with a small random model, whose figures say nothing about a GPU. Exit codes: 0 all that ran
is as it should be, 1 something is not, 2 there is no GPU, or what the check needs is missing.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARTS_SCRIPT = Path(__file__).with_name("gpu_parts.py")
NO_MEMORY = 17
GOAL_MFU = 0.45
LEAST_MEMORY_GIB, LEAST_DISK_GIB, ROOMY_GIB = 40.0, 24.0, 120.0
SAME_LOSS = {"cpu": 1e-5, "gpu": 5e-3}
"""How far losses of one step may lie apart, as a share: on a GPU sums in bfloat16 come in another order each time."""
LEAST_S = 10.0


@dataclass(frozen=True)
class Part:
    """One thing to measure, in a process of its own."""

    name: str
    does: str
    """Part of gpu_parts.py."""
    limit_s: float
    settings: dict[str, Any] = field(default_factory=dict)
    package: str = ""
    """Without which it is skipped."""
    trains: bool = True
    """Whether it may be tried with smaller batches where memory is not enough."""


PARTS = (
    Part("ours", "ours", 90),
    Part("plain", "plain", 80),
    Part("trl", "trl", 90, package="trl"),
    Part("resume", "resume", 130),
    Part("tower", "ours", 70, {"train.vision_cache": "off"}),
    Part("flash", "ours", 60, {"student.attention": "flash_attention_2"}, "flash-attn"),
    Part("compile", "ours", 100, {"train.compile": True}),
    Part("asked", "asked", 60, trains=False),
    Part("vllm", "vllm", 150, package="vllm", trains=False),
)


class Bench:
    """Runs parts within a budget of seconds, and keeps what came of each."""

    def __init__(self, folder: Path, *, shape: str, budget_s: float) -> None:
        self.results: dict[str, dict[str, Any]] = {}
        self._folder, self._shape = folder, shape
        self._ends_s = time.monotonic() + budget_s
        self._smaller: list[dict[str, Any]] = [{}]

    def cut(self, choices: list[dict[str, Any]]) -> None:
        """How the batch of a step may be cut, the largest pieces first; those that do not fit are left behind."""
        self._smaller = choices

    def do(self, part: Part) -> dict[str, Any]:
        """What a part measured, or why it did not; `state` is done, skipped or failed."""
        choices = self._smaller if part.trains else [{}]
        result: dict[str, Any] = {}
        for settings in choices:
            result = self._once(part, {**settings, **part.settings})
            result["settings"] = {**settings, **part.settings}
            if result.get("why") != "out of GPU memory":
                break
        if part.name == "ours" and result["state"] == "done":
            self._smaller = choices[choices.index(settings) :]
        self.results[part.name] = result
        print(f"{part.name:8} {result['state']:8} {result['took_s']:6.1f} s  {result.get('why', '')}", flush=True)
        return result

    def skip(self, part: Part, why: str) -> None:
        """Note that a part is not done, and why."""
        self.results[part.name] = {"state": "skipped", "why": why, "took_s": 0.0}
        print(f"{part.name:8} skipped           {why}", flush=True)

    def _once(self, part: Part, settings: dict[str, Any]) -> dict[str, Any]:
        limit_s = min(part.limit_s, self._ends_s - time.monotonic())
        if limit_s < min(LEAST_S, part.limit_s):
            return {"state": "skipped", "why": "no time left of the budget", "took_s": 0.0}
        began_s = time.monotonic()
        code, out, err = _run(
            [sys.executable, str(PARTS_SCRIPT), part.does, str(self._folder), self._shape, json.dumps(settings)],
            limit_s=limit_s,
        )
        took: dict[str, Any] = {"took_s": round(time.monotonic() - began_s, 1)}
        if code is None:
            return {"state": "skipped", "why": f"over its limit of {limit_s:.0f} s", **took}
        if code == NO_MEMORY:
            return {"state": "failed", "why": "out of GPU memory", **took}
        if code != 0:
            words = " ".join(err.strip().splitlines()[-1:])[:300]
            return {"state": "failed", "why": words or f"exit code {code}", "log": err[-4000:], **took}
        line = next(line for line in reversed(out.splitlines()) if line.startswith("{"))  # others may print, too
        return {"state": "done", **took, **json.loads(line)}


def _run(command: list[str], *, limit_s: float) -> tuple[int | None, str, str]:
    """Exit code, output and errors of a command; no code where it took too long, and was killed with all it started."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    environment = {
        **os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
        # One of several: trainers would spread a batch over all that they see.
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0],
    }  # fmt: skip
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment, start_new_session=True)
        code: int | None
        try:
            code = process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return code, texts[0], texts[1]


def main() -> int:
    """Measure, write both files, print the table; returns the exit code."""
    options = _options()
    work = Path(tempfile.mkdtemp(prefix="aot-gpu-", dir=options.work))
    try:
        bench = Bench(work, shape="small" if options.cpu else "real", budget_s=options.budget_s)
        machine = bench.do(Part("look", "look", 60, trains=False))
        if problem := _problem(machine, work, on_cpu=options.cpu):
            print(f"check_gpu: {problem}", file=sys.stderr)
            return 2
        if options.cpu:
            print("CPU mode: a small random model; none of what follows is a figure of a GPU")
        built = bench.do(Part("build", "build", 120, trains=False))
        if built["state"] != "done":
            print(f"check_gpu: the model could not be built: {built['why']}", file=sys.stderr)
            return 1
        bench.cut(_cuts(machine, on_cpu=options.cpu))
        for part in PARTS:
            if options.only and part.name not in options.only:
                continue
            if part.package and not machine["versions"].get(part.package):
                bench.skip(part, f"{part.package} is not installed")
            elif part.does == "vllm" and options.cpu:
                bench.skip(part, "it needs a GPU")
            else:
                bench.do(part)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _write(bench.results, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder for both files")
    parser.add_argument("--work", type=Path, help="folder for 20 GiB of scratch, which are deleted; TMPDIR without it")
    parser.add_argument("--budget-s", type=float, default=480.0, help="seconds for everything")
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS], metavar="PART")
    parser.add_argument("--peak", type=float, help="dense bfloat16 TFLOP/s of a GPU that is not in the list")
    parser.add_argument("--cpu", action="store_true", help="the same steps with a small model, on the CPU")
    return parser.parse_args()


def _problem(machine: dict[str, Any], work: Path, *, on_cpu: bool) -> str:
    """Why nothing can be measured here, with what to do; empty if it can."""
    if machine["state"] != "done":
        return f"its environment does not work ({machine['why']}); install the extras video and train"
    if on_cpu:
        return ""
    if not machine["gpu"]:
        return (
            f"torch {machine['versions']['torch']} sees no GPU; run this on a machine with one and a torch built for "
            "it, or with --cpu for the same steps on a small model"
        )
    if not machine["versions"]["torchvision"]:
        return "torchvision is not installed, which Qwen2.5-VL's processor needs; install the one that fits your torch"
    if machine["free_gib"] < LEAST_MEMORY_GIB:
        return (
            f"{machine['gpu']} has {machine['free_gib']:.0f} GiB of free memory, and {LEAST_MEMORY_GIB:.0f} are "
            "needed; end what else runs there, or take a larger one"
        )
    free_gib = shutil.disk_usage(work).free / 2**30
    if free_gib < LEAST_DISK_GIB:
        return f"{work.parent} has {free_gib:.0f} GiB free, and {LEAST_DISK_GIB:.0f} are needed; use --work FOLDER"
    return ""


def _cuts(machine: dict[str, Any], *, on_cpu: bool) -> list[dict[str, Any]]:
    """How the questions of a step are cut into batches, by the memory there is; then smaller, then recomputing."""
    if on_cpu:
        return [{}]
    each = 2 if machine["free_gib"] >= ROOMY_GIB else 1
    pieces = [{"train.questions_per_device": count} for count in range(each, 0, -1)]
    return [*pieces, {"train.questions_per_device": 1, "train.gradient_checkpointing": True}]


def _write(results: dict[str, dict[str, Any]], options: argparse.Namespace) -> int:
    machine = results["look"]
    peak = (options.peak or 0.0) * 1e12 or float(machine.get("peak_per_s", 0.0))
    rows, wrong = _table(results, peak=peak, on_cpu=options.cpu)
    options.out.mkdir(parents=True, exist_ok=True)
    text = _markdown(results, rows, peak=peak, on_cpu=options.cpu)
    report = {"command": sys.argv, "cpu_mode": options.cpu, "peak_per_s": peak, "wrong": wrong, "parts": results}
    (options.out / "check_gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    (options.out / "check_gpu.md").write_text(text)
    print(f"\n{text}\nwritten to {options.out / 'check_gpu.md'}")
    for sentence in wrong:
        print(f"check_gpu: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


def _table(
    results: dict[str, dict[str, Any]], *, peak: float, on_cpu: bool
) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Rows of what, figure and beside what; and a sentence for everything that is not as it should be."""
    wrong = [f"{name} failed: {r['why']}" for name, r in results.items() if r["state"] == "failed"]
    rows: list[tuple[str, str, str]] = []
    ours = results.get("ours", {})
    for name, words in (("ours", "one step, ours"), ("plain", "one step, transformers' Trainer"),
                        ("trl", "one step, TRL's SFTTrainer"), ("tower", "one step, ours, the tower looks each time"),
                        ("flash", "one step, ours with flash-attention"),
                        ("compile", "one step, ours with torch.compile")):  # fmt: skip
        rows.append((words, *_step(results, name)))
        if name == "ours" and ours.get("state") == "done":
            rows.append(_mfu(results, peak=peak))
    for name in ("tower", "flash", "compile"):
        if results.get(name, {}).get("state") == "done" and ours.get("state") == "done":
            rows.append(_same_losses(f"loss of the first step, {name}", ours, results[name], wrong, on_cpu, steps=1))
    if results.get("resume", {}).get("state") == "done" and ours.get("state") == "done":
        stopped = results["resume"]["stopped_at"]
        what = f"losses after TERM at step {stopped} and a second start"
        rows.append(_same_losses(what, ours, results["resume"], wrong, on_cpu, steps=len(ours["losses"])))
        if results["resume"]["tokens"] != ours["tokens"]:
            wrong.append("the resumed training learned from other tokens than the undisturbed one")
    else:
        rows.append(("TERM and a second start", *_absent(results, "resume")))
    rows += _predictions(results)
    return rows, wrong


def _absent(results: dict[str, dict[str, Any]], name: str) -> tuple[str, str]:
    result = results.get(name)
    return (
        ("not measured", f"{result['state']}: {result['why']}") if result and "why" in result else ("not asked for", "")
    )


def _step(results: dict[str, dict[str, Any]], name: str) -> tuple[str, str]:
    result, ours = results.get(name, {}), results.get("ours", {})
    if result.get("state") != "done":
        return _absent(results, name)
    figure = (
        f"{result['step_s']:.3f} s [{result['fastest_s']:.3f}, {result['slowest_s']:.3f}], n={result['n']}; "
        f"{result['tokens_per_s']:,.0f} tokens/s"
    )
    figure += f"; {result['memory_gib']:.1f} GiB" if result["memory_gib"] else ""
    cut = ", ".join(f"{key.partition('.')[2]}={value}" for key, value in result["settings"].items())
    ratio = (
        f"ours is {result['step_s'] / ours['step_s']:.2f} times as fast"
        if ours.get("step_s") and name != "ours"
        else ""
    )
    return figure, "; ".join(filter(None, (ratio, cut)))


def _mfu(results: dict[str, dict[str, Any]], *, peak: float) -> tuple[str, str, str]:
    ours, machine = results["ours"], results["look"]
    done = f"{ours['operations'] / 1e12:.3g} TFLOP a step over {ours['step_s']:.3f} s"
    if not peak:
        return "MFU", "no figure", f"{done}; no peak of this device is listed, give it with --peak"
    share = ours["operations"] / ours["step_s"] / peak
    against = f"{done} over {peak / 1e12:.0f} TFLOP/s by the data sheet"
    if machine.get("matmul_per_s"):
        against += f"; {ours['operations'] / ours['step_s'] / machine['matmul_per_s']:.1%} of a product of 8192 x 8192"
    reached = "reached" if share >= GOAL_MFU else "missed"
    return "MFU", f"{share:.1%} (goal {GOAL_MFU:.0%}: {reached})", against


def _same_losses(
    what: str, one: dict[str, Any], other: dict[str, Any], wrong: list[str], on_cpu: bool, *, steps: int
) -> tuple[str, str, str]:
    """A row on how far the first losses of two trainings lie apart; adds a sentence to `wrong` where it is too far."""
    pairs = list(zip(one["losses"], other["losses"], strict=False))[:steps]
    apart = max((abs(a - b) / abs(a) for a, b in pairs), default=float("inf"))
    limit = SAME_LOSS["cpu" if on_cpu else "gpu"]
    if len(pairs) < steps or not apart <= limit:
        wrong.append(f"{what}: {len(pairs)} of {steps} steps, {apart:.1e} apart, and {limit:.0e} is the limit")
    moved = f"over {steps} steps the loss went from {one['losses'][0]:.4f} to {one['losses'][steps - 1]:.4f}"
    return what, f"{apart:.1e} apart (limit {limit:.0e})", moved if steps > 1 else f"{one['losses'][0]:.4f}"


def _predictions(results: dict[str, dict[str, Any]]) -> list[tuple[str, str, str]]:
    rows, ours = [], results.get("asked", {})
    for name, words in (("asked", "predictions, ours"), ("vllm", "predictions, vLLM")):
        result = results.get(name, {})
        if result.get("state") != "done":
            rows.append((words, *_absent(results, name)))
            continue
        ratio = (
            f"{result['tokens_per_s'] / ours['tokens_per_s']:.2f} times ours"
            if name == "vllm" and ours.get("tokens_per_s")
            else ""
        )
        rows.append((words, f"{result['tokens_per_s']:,.0f} tokens/s, n={result['n']} questions", ratio))
    return rows


def _markdown(
    results: dict[str, dict[str, Any]], rows: Sequence[tuple[str, str, str]], *, peak: float, on_cpu: bool
) -> str:
    machine, built = results["look"], results["build"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    head = "**CPU mode: a small model, none of these is a figure of a GPU.** " if on_cpu else ""
    where = machine["gpu"] or f"CPU, {machine['threads']} threads"
    ours = results.get("ours", {})
    lines = [
        f"{head}{where}; {machine['family']} with {built['parameters'] / 1e9:.3g}e9 random parameters"
        + (f", {ours['trainable'] / 1e6:.3g}e6 of them in adapters; rows of at most {ours['row_tokens']:,} tokens, "
           f"{ours['step_tokens']:,} tokens a step" if ours.get("state") == "done" else "") + f"; {versions}.",
        "", "| what | figure | beside |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in rows), "",
    ]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
