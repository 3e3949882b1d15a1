"""Prepared runs of both doors, and the generate stage on them."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aot.config import RunConfig, parse_config
from aot.files.run_folder import RunFolder, publish_rows, read_rows
from aot.files.traces import read_faults, read_traces
from aot.generate.run import generate
from aot.generate.solve import TeacherRoom
from aot.records import Question, Trace
from aot.teacher import agent
from text_cot.datasets.toy_math import draw_toy_math
from text_cot.teacher import teachers

sys.path.insert(0, str(Path(__file__).parents[1] / "teacher"))
from teacher_scenes import config_of, make_run

FAULTS = {"rate": 0.5}
Made = tuple[list[Trace], list[str]]
"""Timeless traces and planted faults."""


@dataclass(frozen=True)
class Door:
    """What a test needs of one door."""

    name: str
    room: TeacherRoom
    prepare: Callable[[Path], RunFolder]
    config: Callable[..., RunConfig]
    samples: int

    def run(self, run: RunFolder, config: RunConfig) -> Made:
        generate(run, config, lambda done, total: None, self.room)
        return [trace.timeless() for trace in read_traces(run)], [row.model_dump_json() for row in read_faults(run)]

    def rows(self, run: RunFolder) -> list[tuple[str, int]]:
        """The rows there should be, in order; of the agent's samples any one will do."""
        return [(q.id, k) for q in read_rows(run.questions, Question) for k in range(self.samples)]


def text_config(**teacher: Any) -> RunConfig:
    return parse_config(
        {
            "data": {"dataset": "toy_math", "math": {"train": 30, "test": 6, "test_ood": 2}},
            "teacher": {"planner": "procedural", **teacher},
            "student": {"base": "tiny-text"},
            "train": {"arms": [{"name": "pre", "order": "pre"}]},
        },
        source="test",
    )


def _text_run(root: Path) -> RunFolder:
    run = RunFolder(root)
    publish_rows(run.questions, draw_toy_math(text_config().data.math, seed=0))
    publish_rows(run.annotations, ())
    return run


DOORS = {
    "video": Door("video", agent, lambda root: make_run(root, train=5, test=2), config_of, 1),
    "text": Door("text", teachers, _text_run, text_config, 2),
}


def written(run: RunFolder) -> list[tuple[str, int]]:
    """Question and sample of every line of the trace parts."""
    lines = [line for part in run.traces.glob("part-*") for line in part.read_bytes().splitlines()]
    return [(row["question_id"], row["sample_index"]) for row in map(json.loads, lines)]
