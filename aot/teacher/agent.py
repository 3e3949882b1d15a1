"""The teacher of clips: an agent with tools, opened once in each process from the run folder and the config."""

from contextlib import closing
from dataclasses import replace
from typing import Any

import cv2

from aot.config import TeacherConfig, VideoRun
from aot.faults.plant import Edits
from aot.faults.video_edits import Target, video_edits
from aot.files.run_folder import RunFolder, read_rows
from aot.records import ClipAnnotation, Question, Trace
from aot.teacher.bench import Parts
from aot.teacher.chat_planner import ChatPlanner
from aot.teacher.clip_shelf import ClipShelf, open_shelf
from aot.teacher.exam import examine
from aot.teacher.executor import run_candidate
from aot.teacher.look_once import ask_once, name_frames
from aot.teacher.parts import Models, make_parts, open_models, pixel_parts
from aot.teacher.rewrite import TemplateWriter
from aot.teacher.tools.vlm.view import Vision

__all__ = ["FEW_QUESTIONS", "figures", "open_teacher", "samples_of", "tries_of"]
FEW_QUESTIONS = 24
"""So many are solved in one process: starting workers would take longer."""


def samples_of(teacher: TeacherConfig) -> int:
    """One row for each question."""
    return 1


def tries_of(teacher: TeacherConfig) -> int:
    """Plans at a training question, until one verifies."""
    return teacher.candidates


def open_teacher(run: RunFolder, config: VideoRun, *, writer: str) -> "AgentTeacher":
    """The agent of `config` on the stored clips of `run`.

    Raises:
        DecodeError: the frame store is damaged.
        ConfigError: the appearance card cannot be read, or a chat model cannot be asked.
    """
    if config.teacher.workers > 1:
        cv2.setNumThreads(1)  # Pictures are small, and the other cores have workers of their own.
    models = open_models(config, run, writer=writer)
    return AgentTeacher(open_shelf(run), make_parts(run, config, writer=writer, models=models), models)


def figures(run: RunFolder, config: VideoRun) -> dict[str, Any]:
    """How right the pixel tools are on annotated clips."""
    parts = pixel_parts(run, config, writer="exam")
    with closing(parts.cache):
        return {"tool_accuracy": examine(read_rows(run.annotations, ClipAnnotation), open_shelf(run), parts)}


class AgentTeacher:
    """Answers questions about clips; several threads may share one."""

    def __init__(self, shelf: ClipShelf, parts: Parts, models: Models) -> None:
        """The agent over the clips of a shelf; `models` are those in its parts."""
        self._shelf, self._parts, self._models = shelf, parts, models
        self._plain = replace(parts, writer=TemplateWriter(parts.seed))
        self.name = parts.teacher_name
        self.give_up = models.close

    @property
    def edits(self) -> Edits[Target]:
        """Faults that a confused agent makes, with the step labels that it may mix up."""
        return video_edits(self._parts.known_labels)

    def solve(self, question: Question, sample: int) -> Trace:
        """The trace of one plan; raises SourceError, DecodeError or ToolError where the clip cannot be seen."""
        return run_candidate(question, self._shelf.view(question.media), self._parts, candidate=sample)

    def answer(self, question: Question, sample: int) -> Trace:
        """The same plan without a chat model's prose."""
        return run_candidate(question, self._shelf.view(question.media), self._plain, candidate=sample)

    def look_once(self, question: Question, *, num_frames: int) -> Trace | None:
        """A plain chain from one look; None where a chat model came to another answer (see look_once.py)."""
        view, digest = self._shelf.view(question.media), self._parts.config_digest
        vision = self._models.vision
        if vision is None and self._models.chat is not None and isinstance(self._parts.planner, ChatPlanner):
            vision = Vision(self._models.chat)
        if vision is None:
            assert self._parts.looker is not None, "the teacher of clips has pixel tools"
            return name_frames(question, view, self._parts.looker, num_frames=num_frames, config_digest=digest)
        return ask_once(question, view, vision, num_frames=num_frames, config_digest=digest)

    def close(self) -> None:
        """Close the files of the caches and the connections of the models."""
        self._parts.cache.close()
        self._models.close()
