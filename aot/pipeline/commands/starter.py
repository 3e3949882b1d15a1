"""`aot init`: a folder to begin with, whose config runs as it is; and the configs that come with the package.

What is copied lies in configs/init/, one folder for each kind; only the sample of synthetic clips is made here.
Nothing is ever overwritten.
"""

import json
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aot.config import RunConfig, VideoRun, load_config, shipped_configs
from aot.errors import ConfigError, RunError
from aot.files.run_folder import write_error
from video_data.datasets.rows import AnnotationRow, QuestionRow

KINDS = {
    "video": "own clips and questions, a rule planner with an appearance card, an embedded student",
    "text": "own problems with and without worked solutions, an embedded student",
    "chat": "own problems solved by a chat model, whose replies come from a file at first",
    "real": "own clips, a vision-language model behind a server, SmolVLM2 as the student; runs once these are there",
}
TEMPLATE, CLIPS = "config.yaml", "clips"
SAMPLE = {"train": 8, "test": 4, "test_ood": 0}
"""Synthetic clips of a folder for video."""


def listed_configs() -> list[str]:
    """The kinds of folder, and every config that comes with the package, each with what it is for."""
    lines = [f"aot init {kind} DIR: {what}" for kind, what in KINDS.items()]
    root = shipped_configs()
    paths = [path for folder in ("video", "text") for path in sorted((root / folder).glob("*.yaml"))]
    width = max(len(path.relative_to(root.parent).as_posix()) for path in paths)
    for path in paths:
        first = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        lines.append(f"{path.relative_to(root.parent).as_posix():<{width}}  {first}")
    return [*lines, "aot run takes these names as they stand here, also where no repository is"]


def start_folder(kind: str, folder: Path) -> list[str]:
    """Make `folder`, with a config of its name in it, and data to begin with; returns what to do next.

    Raises:
        ConfigError: there is no such kind.
        RunError: a file would be overwritten, or cannot be written.
    """
    if kind not in KINDS:
        raise ConfigError(f"there is no kind {kind[:60]!r}; give one of {', '.join(KINDS)}, or --list")
    source, config = shipped_configs() / "init" / kind, folder / f"{folder.resolve().name or kind}.yaml"
    files = dict(_files(source, config))
    template = load_config(source / TEMPLATE)
    clips = folder / CLIPS if isinstance(template, VideoRun) else None
    names = [*files, *([folder / Path(name).name for name in _data_files(template)] if clips else ())]
    if there := [path for path in (*names, *([clips] if clips else ())) if path.exists()]:
        raise RunError(f"{there[0]} is there already, and nothing is overwritten; delete it or give another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
        if clips:
            _make_clips(clips, load_config(config))
    except OSError as error:
        raise write_error(folder, error) from error
    return list(_next_lines(kind, config))


def _files(source: Path, config: Path) -> Iterator[tuple[Path, str]]:
    """The files of a kind by where they go, those that its config includes among them."""
    text = (source / TEMPLATE).read_text(encoding="utf-8").replace("CONFIG", shlex.quote(str(config)))
    for name in _included(text):
        yield config.parent / Path(name).name, (source / name).read_text(encoding="utf-8")
        text = text.replace(name, Path(name).name)
    yield config, text
    for path in sorted(source.iterdir()):
        if path.name != TEMPLATE:
            yield config.parent / path.name, path.read_text(encoding="utf-8")


def _included(text: str) -> list[str]:
    line = next((line for line in text.splitlines() if line.startswith("include:")), "")
    return [name.strip() for name in line.partition("[")[2].rpartition("]")[0].split(",") if name.strip()]


def _data_files(config: RunConfig) -> list[str]:
    """The files of questions, annotations and looks that a run about own clips names."""
    names = (getattr(config.data, "questions", None), getattr(config.data, "annotations", None))
    return [name for name in (*names, getattr(config.teacher, "appearance", None)) if name]


def _make_clips(clips: Path, config: RunConfig) -> None:
    """Draw a few clips of the synthetic kitchen, with questions and annotations in the form of the plain data set."""
    from aot.teacher.tools.pixels.appearance import kitchen_appearance
    from video_data.kitchen.dataset import STAMP_NAME, draw_toy_kitchen, plan_toy_kitchen

    draw_toy_kitchen(clips, seed=0, counts=SAMPLE, workers=1)
    (clips / STAMP_NAME).unlink(missing_ok=True)  # it guards folders in which more is drawn later
    planned = plan_toy_kitchen(clips, seed=0, counts=SAMPLE)
    questions, annotations, *card = map(Path, _data_files(config))
    _write_lines(questions, map(_question, planned.questions))
    _write_lines(annotations, map(_annotation, planned.annotations))
    for path in card:
        looks = kitchen_appearance().model_dump(mode="json", exclude_defaults=True)
        path.write_text(json.dumps(looks, indent=1) + "\n", encoding="utf-8")


def _question(row: QuestionRow) -> dict[str, Any]:
    choices = {"choices": list(row.choices)} if row.choices else {}
    return {
        "id": row.id, "video": f"{CLIPS}/{row.uri}", "start_s": row.start_s, "end_s": row.end_s, "question": row.text,
        **choices, "answer": row.answer, "kind": row.kind, "group": row.group, "split": row.split,
    }  # fmt: skip


def _annotation(row: AnnotationRow) -> dict[str, Any]:
    return {
        "video": f"{CLIPS}/{row.uri}", "task": row.task, "duration_s": row.duration_s, "split": row.split,
        "segments": [asdict(one) for one in row.segments],
    }  # fmt: skip


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _next_lines(kind: str, config: Path) -> Iterator[str]:
    yield f"made {config} and what it needs to begin with; read it, and put your own data in place of the sample"
    yield "next:"
    name = shlex.quote(str(config))
    if kind == "real":
        yield f"  aot plan {name}"
    yield f"  aot run {name} --dry-run"
    yield f"  aot run {name}"
