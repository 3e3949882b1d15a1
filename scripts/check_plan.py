"""Planned against taken: parameters, memory and seconds of the tiny jobs, and of a random real model on a GPU.

    python scripts/check_plan.py                    # both tiny jobs on this CPU, shortened; on a GPU a real shape too
    python scripts/check_plan.py --steps 40 --text  # more steps, the text job only
    python scripts/check_plan.py --random Qwen/Qwen3-0.6B --layers 2    # a random model of this shape, on what is there

Parameters must agree exactly, memory and seconds within 15%: exit code 1 where one does not. Seconds hold for an idle
machine alone; beside them stand those that the cores worked, which a busy one changes less. What is run are the jobs of
configs/, each arm in a process of its own, whose largest resident memory is taken.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from aot.config import RunConfig, load_config
from aot.pipeline.planning.costs import DEVICES, Device
from aot.pipeline.planning.reckon import Planned, reckon

ROOT = Path(__file__).resolve().parents[1]
CLOSE = 0.15
JOBS = {
    "video": ("configs/video/toy_kitchen.yaml", "data.toy.train_clips=96", "data.toy.test_clips=40",
              "data.toy.test_ood_clips=40"),
    "text": ("configs/text/tiny_math.yaml", "data.math.train=1200", "data.math.test=400", "data.math.test_ood=50"),
}  # fmt: skip
"""A config and how it is shortened: fewer questions, of the same lengths."""
ON_GPU = "Qwen/Qwen3-0.6B"


@dataclass(frozen=True)
class Taken:
    """What one process took."""

    parameters: int
    trainable: int
    step_s: float
    """Median, of the steps after the first three."""
    step_cpu_s: float
    """That all cores together worked, for one step."""
    peak_bytes: int


def measure_arm(run: Path, arm: str) -> None:
    """Train an arm whose lessons are written, and print what that took; called in a process of its own."""
    import resource

    import torch

    from aot.config import load_saved
    from aot.files.run_folder import TRAINING, RunFolder
    from aot.student.train.arm import train_arm

    config = load_saved(run / "config.yaml")
    stamps = [(time.perf_counter(), time.process_time())]
    wanted = next(one for one in config.train.arms if one.name == arm)
    folder = RunFolder(run)
    train_arm(folder, config, wanted, progress=lambda *_: stamps.append((time.perf_counter(), time.process_time())))
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(stamps[3:])]
    facts = json.loads((folder.arm(arm) / TRAINING).read_text())
    on_gpu = torch.cuda.is_available()
    peak = torch.cuda.max_memory_reserved() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(json.dumps([
        facts["parameters"] - (facts["trainable_parameters"] if wanted.tuning == "lora" else 0),
        facts["trainable_parameters"], statistics.median(wall for wall, _ in steps),
        statistics.median(cpu for _, cpu in steps), peak,
    ]))  # fmt: skip


def aot(*arguments: str) -> tuple[float, int]:
    """Seconds and largest resident bytes of a command of aot.

    Raises:
        SystemExit: it failed.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen([sys.executable, "-m", "aot", *arguments], cwd=ROOT, stdout=said, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        said.seek(0)
        if os.waitstatus_to_exitcode(status):
            sys.exit(f"aot {' '.join(arguments)} failed:\n{said.read()[-2000:]}")
    return time.perf_counter() - start, usage.ru_maxrss << 10


def taken(run: Path, arm: str) -> Taken:
    """What training an arm takes, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", str(run), arm], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return Taken(*json.loads(done.stdout.splitlines()[-1]))


def random_base(name: str, folder: Path, *, layers: int | None) -> None:
    """Write a random model with the shape of a published one, and the embedded tokenizer of text beside it."""
    from importlib import resources

    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from aot.pipeline.planning.shapes import published

    settings = {**published()[name]["config"], **({"num_hidden_layers": layers} if layers else {})}
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(resources.files("aot.student") / "tiny/text")).save_pretrained(folder)


def here(config: RunConfig) -> Device:
    """The device that this machine has: of a GPU the row of the table that fits best, with its own memory."""
    import torch

    if not torch.cuda.is_available() or config.student.device == "cpu":
        return DEVICES["cpu"]
    facts = torch.cuda.get_device_properties(0)
    names = [name for name in DEVICES if name.split("-")[0] in facts.name.lower().replace(" ", "")]
    row = DEVICES[names[-1] if names else "a100-80gb"]
    return replace(row, memory_gb=facts.total_memory / 1e9)


def compared(what: str, planned: float, measured: float, *, unit: str, exact: bool = False) -> bool:
    """Print a line; whether the two agree."""
    ratio = measured / planned if planned else float("inf")
    fits = planned == measured if exact else abs(ratio - 1) <= CLOSE
    print(f"  {what:34s} planned {planned:>14,.4g} {unit:5s} taken {measured:>14,.4g}  ratio {ratio:5.2f}  "
          f"{'ok' if fits else 'NOT within 15%'}")  # fmt: skip
    return fits


def check(config_path: str, overrides: list[str], *, steps: int, evaluates: bool) -> bool:
    """Run a job and compare; whether all of it agrees."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        settings = [*overrides, f"train.max_steps={steps}", f"train.save_steps={steps}", f"run.dir={run}"]
        config = load_config(ROOT / config_path, overrides=tuple(settings))
        planned = reckon(config, device=here(config))
        assert planned
        print(f"{config_path} {' '.join(overrides)}: {steps} steps, {planned.device.name}")
        for stage in ("prepare", "generate", "filter"):
            aot(stage, config_path, *settings)
        fits = [
            _compare_arm(run, planned, config_path, settings, arm.name) for arm in planned.arms if arm.steps == steps
        ]
        if evaluates:
            aot("train", config_path, *settings)
            seconds, peak = aot("evaluate", config_path, *settings)
            fits.append(compared("evaluation, memory", planned.answering.total, peak, unit="B"))
            compared("evaluation, seconds (students of few steps)", planned.answering_s, seconds, unit="s")
    return all(fits)


def _compare_arm(run: Path, planned: Planned, config_path: str, settings: list[str], name: str) -> bool:
    arm = next(one for one in planned.arms if one.name == name)
    aot("train", config_path, *settings, "--job", f"{name}:lessons")
    took = taken(run, name)
    print(f"  (a step of {name} was {took.step_cpu_s:.3f} s of work for all cores together)")
    return all([
        compared(f"{name}, parameters", planned.shape.parameters, took.parameters, unit="", exact=True),
        compared(f"{name}, trained", arm.trainable, took.trainable, unit="", exact=True),
        compared(f"{name}, memory in training", arm.memory.total, took.peak_bytes, unit="B"),
        compared(f"{name}, a step", arm.step_s, took.step_s, unit="s"),
    ])  # fmt: skip


def main() -> int:
    """Compare what was asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs=2, metavar=("RUN", "ARM"), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--video", action="store_true", help="the video job only")
    parser.add_argument("--text", action="store_true", help="the text job only")
    parser.add_argument("--no-evaluate", action="store_true")
    parser.add_argument("--random", metavar="NAME", help="a random model of this published shape, by the text job")
    parser.add_argument("--layers", type=int, help="of it; all where not given")
    given = parser.parse_args()
    if given.measure:
        measure_arm(Path(given.measure[0]), given.measure[1])
        return 0
    import torch

    fits, random = [], given.random or (ON_GPU if torch.cuda.is_available() else None)
    wanted = [] if given.random else [name for name in JOBS if getattr(given, name) or not (given.video or given.text)]
    for name in wanted:
        path, *overrides = JOBS[name]
        overrides += ["student.device=cpu"]
        fits.append(check(path, overrides, steps=given.steps, evaluates=not given.no_evaluate))
    if random:
        with tempfile.TemporaryDirectory() as folder:
            random_base(random, Path(folder), layers=given.layers)
            path, *overrides = JOBS["text"]
            overrides += [f"student.base={folder}", "student.dtype=bfloat16", "train.pack_tokens=1024"]
            fits.append(check(path, overrides, steps=given.steps, evaluates=False))
    return int(not all(fits))


if __name__ == "__main__":
    sys.exit(main())
