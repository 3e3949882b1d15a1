"""Writes the configs of real students and the table of hardware, memory and hours, from what `aot plan` says of them.

    python scripts/write_plans.py          # configs/{video,text}/<data>_<student>.yaml, table of docs/cluster.md
    python scripts/write_plans.py --check  # exit code 1 where one of them is not as it would be written

A config of a real student is a head of comments and one `include`: what it says stands in configs/parts/. Nothing is
measured here: every figure is planned.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from aot.config import RunConfig, load_config
from aot.pipeline.commands.plan import chain_calls, frames_mb
from aot.pipeline.planning.lines import thousand_chains_hours
from aot.pipeline.planning.reckon import Planned, reckon

ROOT = Path(__file__).resolve().parents[1]
VIDEO_DATA = {"youcook2": "YouCook2", "coin": "COIN", "crosstask": "CrossTask"}
TEXT_DATA = {"gsm8k": "GSM8K", "math": "MATH"}
ANNOTATIONS = {
    "youcook2": "youcookii_annotations_trainval.json", "coin": "COIN.json", "crosstask": "crosstask_release",
}  # fmt: skip
VIDEO_STUDENTS = ("qwen25vl_7b", "qwen3vl_8b", "smolvlm2_2b", "llavanextvideo_7b")
TEXT_STUDENTS = ("qwen3_0_6b", "qwen2_5_7b", "mistral_7b", "tinyllama_1_1b")
TABLE_BEGINS, TABLE_ENDS = "<!-- planned: begin -->", "<!-- planned: end -->"
COLUMNS = (
    "config", "parameters", "trained", "visual tokens", "GPUs", "GB in training", "GB in evaluation", "training, h",
    "evaluation, h", "GPU-hours", "1,000 chains, GPU-hours",
)  # fmt: skip


def config_paths() -> dict[Path, str]:
    """Every config of a real student, by its place in the repository, with the line that includes its parts."""
    texts: dict[Path, str] = {}
    for data in VIDEO_DATA:
        for student in VIDEO_STUDENTS:
            parts = f"include: [{data}.yaml, ../parts/teachers/qwen3vl_32b.yaml, ../parts/students/{student}.yaml]\n"
            texts[Path(f"configs/video/{data}_{student}.yaml")] = parts
    for data in TEXT_DATA:
        for student in TEXT_STUDENTS:
            names = f"data/{data} teachers/qwen3_32b students/{student}".split()
            listed = ", ".join(f"../parts/{name}.yaml" for name in names)
            texts[Path(f"configs/text/{data}_{student}.yaml")] = f"include: [{listed}]\n"
    return texts


def planned_of(path: Path, include: str) -> tuple[Planned, RunConfig]:
    """A config that may not be written yet, and its plan."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=ROOT / path.parent) as file:
        file.write(include)
        file.flush()
        config = load_config(Path(file.name))
    planned = reckon(config)
    assert planned
    return planned, config


def head(path: Path, planned: Planned, chains_h: float | None, student: str, teacher: str, *, frames_gb: float) -> str:
    """The comments with which a config begins."""
    data = path.stem.partition("_")[0]
    what = f"Next steps of {VIDEO_DATA[data]}" if data in VIDEO_DATA else f"The problems of {TEXT_DATA[data]}"
    script = "distill_video.sh" if data in VIDEO_DATA else "distill_text.sh"
    given = f"data.annotated.train={ANNOTATIONS[data]} data.root=FOLDER" if data in VIDEO_DATA else "data.root=FOLDER"
    largest = max(arm.memory.total for arm in planned.arms) / 1e9
    gpu, count = planned.device.name, planned.processes
    disk = f" Disk: {frames_gb:,.0f} GB of frames." if frames_gb else ""
    chains = "unknown" if chains_h is None else f"{chains_h:.1f}"
    return (
        f"# {what} for {student}, taught by {teacher} behind a server of your own (parts/teachers/).\n"
        f"#   aot prefetch {path}        (where there is a network: the student's files, at their revision)\n"
        f"#   aot plan {path}            (these figures, and what they assume)\n"
        f"#   sbatch scripts/{script} --config {path} {given}\n"
        f"# Hardware: {count} x {gpu} to train, {largest:.0f} GB of each; one to evaluate, "
        f"{planned.answering.total / 1e9:.0f} GB; the teacher's server besides, two of them.{disk}\n"
        f"# Time: training {planned.training_s / 3600:.1f} h, evaluation {planned.answering_s / 3600:.1f} h, "
        f"1,000 chains {chains} GPU-hours. Planned, not measured: no such GPU was at hand.\n"
        f"# Expected: not known; compare with the arm that learns answers only, and with `aot baselines`.\n"
    )


def table_row(path: Path, planned: Planned, chains_h: float | None) -> str:
    """A line of the table in docs/cluster.md."""
    arm = max(planned.arms, key=lambda one: one.memory.total)
    frame, count = planned.frame, planned.num_frames
    visual = f"{frame.tokens * count:,} ({count} frames)" if frame else "-"
    cells = (
        f"`{path.parent.name}/{path.name}`", f"{planned.shape.parameters / 1e9:.2f}B", f"{arm.trainable / 1e6:.0f}M",
        visual,
        f"{planned.processes} x {planned.device.name}", f"{arm.memory.total / 1e9:.0f}",
        f"{planned.answering.total / 1e9:.0f}", f"{planned.training_s / 3600:.1f}", f"{planned.answering_s / 3600:.1f}",
        f"{planned.gpu_hours:.0f}", "unknown" if chains_h is None else f"{chains_h:.1f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def written() -> dict[Path, str]:
    """Every file as it should be, by its place in the repository."""
    texts: dict[Path, str] = {}
    rows: list[str] = []
    for path, include in config_paths().items():
        planned, config = planned_of(path, include)
        assert config.student.hub and config.chat
        student, teacher = (name.split("/")[1] for name in (config.student.hub.name, config.chat.model))
        chains_h = thousand_chains_hours(planned, config, chain_calls(config))
        frames_gb = frames_mb(config, planned.volume) / 1000
        texts[path] = head(path, planned, chains_h, student, teacher, frames_gb=frames_gb) + include
        rows.append(table_row(path, planned, chains_h))
    page = Path("docs/cluster.md")
    before, _, rest = (ROOT / page).read_text().partition(TABLE_BEGINS)
    table = "\n".join([f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS), *rows])
    texts[page] = f"{before}{TABLE_BEGINS}\n{table}\n{TABLE_ENDS}{rest.partition(TABLE_ENDS)[2]}"
    return texts


def main() -> int:
    """Write or compare; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    texts = written()
    stale = [path for path, text in texts.items() if not (ROOT / path).exists() or (ROOT / path).read_text() != text]
    for path in stale:
        if check:
            print(f"{path} is not as this script would write it; run python scripts/write_plans.py")
        else:
            (ROOT / path).write_text(texts[path])
            print(f"wrote {path}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
