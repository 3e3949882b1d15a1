"""Small drawn scenes for the tests of the teacher: frames, views and whole run folders."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from aot.config import RunConfig, parse_config
from aot.files.run_folder import RunFolder, publish_rows
from aot.pipeline.prepare import usable_questions
from aot.records import ClipAnnotation, MediaRef, Question
from aot.teacher.tools import ToolContext
from aot.teacher.tools.clipview import ClipView, clip_view
from aot.teacher.tools.pixels.appearance import kitchen_appearance
from aot.teacher.tools.pixels.matcher import Looker
from aot.teacher.tools.procedure import ProcedureModel
from video_data.decode.budgets import Budgets, Sampling
from video_data.kitchen.dataset import draw_toy_kitchen, plan_toy_kitchen
from video_data.kitchen.pictures import draw_step_frame, draw_style
from video_data.store.prepare import decode_clips

STEP_S = 2.0
FPS = 3.0
CARD = kitchen_appearance()


def drawn_view(*steps: str, seed: int = 1, scale: int = 1) -> ClipView:
    """A clip of `steps`, 2 s each at 3 fps; `scale` says how much larger the true frame is than the stored one."""
    rng = np.random.default_rng(seed)
    style = draw_style(rng)
    times_s = tuple((i + 0.5) / FPS for i in range(int(len(steps) * STEP_S * FPS)))
    frames = [draw_step_frame(steps[int(t // STEP_S)], phase=(t % STEP_S) / 0.9, style=style, rng=rng) for t in times_s]
    return view_of(np.stack(frames), times_s, name=f"{seed}:{'+'.join(steps)}", scale=scale)


def view_of(frames_THWC: np.ndarray, times_s: tuple[float, ...], *, name: str = "x", scale: int = 1) -> ClipView:
    """A view of all of these frames."""
    height, width = frames_THWC.shape[1:3]
    return clip_view(
        uri=f"{name}.mp4", sha256=name, frames_THWC=frames_THWC, times_s=times_s, duration_s=times_s[-1] + 0.5 / FPS,
        start_s=0.0, end_s=None, true_width=width * scale, true_height=height * scale,
    )  # fmt: skip


def context_of(view: ClipView, procedure: ProcedureModel | None = None) -> ToolContext:
    return ToolContext(view, Looker(CARD), procedure)


def question(kind: str, text: str, *, answer: str = "", choices: tuple[str, ...] = (), split: str = "test") -> Question:
    types = {"count": "integer", "when": "span", "present": "yes_no", "next_choice": "choice"}
    return Question.model_validate(
        {
            "id": f"q-{kind}", "dataset": "drawn", "split": split, "kind": kind, "text": text, "choices": choices,
            "answer": answer or (choices[0] if choices else ""), "answer_type": types.get(kind, "text"),
            "media": MediaRef(uri="x.mp4"), "group": "g",
        }
    )  # fmt: skip


def annotation(uri: str, task: str, *labels: str, split: str = "train") -> ClipAnnotation:
    segments = [{"start_s": 2.0 * i, "end_s": 2.0 * i + 2, "label": label} for i, label in enumerate(labels)]
    return ClipAnnotation.model_validate(
        {"uri": uri, "split": split, "task": task, "duration_s": 2.0 * len(labels), "segments": segments}
    )


def make_run(root: Path, *, train: int = 4, test: int = 2) -> RunFolder:
    """A run folder in which prepare is done, on freshly drawn clips."""
    run = RunFolder(root)
    counts = {"train": train, "test": test, "test_ood": 0}
    kitchen = plan_toy_kitchen(run.clips, seed=3, counts=counts)
    draw_toy_kitchen(run.clips, seed=3, counts=counts, workers=1)
    sampling = Sampling(FPS, 512, 480, time_limit_s=30.0, budgets=Budgets())
    refused = decode_clips(kitchen.clips, out=run.frames, sampling=sampling, shard_clips=64, workers=1)
    assert not refused
    publish_rows(run.annotations, (ClipAnnotation.model_validate(asdict(row)) for row in kitchen.annotations))
    publish_rows(run.questions, usable_questions(kitchen.questions, dataset="toy_kitchen")[0])
    return run


def config_of(**teacher: Any) -> RunConfig:
    return parse_config({"data": {"dataset": "toy_kitchen"}, "teacher": teacher}, source="test")
