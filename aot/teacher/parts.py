"""Makes everything a teacher of clips has besides the clip (bench.py), from the config and the run folder.

Parts are made once for each process and may be used by many threads at once. The chat models behind them are opened
apart from them (`open_models`), because a process opens them once and closes them itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from aot.chat.client import ChatModel
from aot.chat.factory import check_chat
from aot.config import ClipTeacher, VideoRun, chat_for, teacher_chats
from aot.files.parts import KeyedRows
from aot.files.run_folder import RunFolder, read_rows
from aot.records import ClipAnnotation
from aot.run_records import RecipeCard
from aot.student.answer import open_model
from aot.teacher.bench import Budget, Parts
from aot.teacher.chat_planner import ChatPlanner
from aot.teacher.rewrite import ChatWriter, TemplateWriter
from aot.teacher.rules import RulesPlanner
from aot.teacher.tools.base import CachedResult
from aot.teacher.tools.book import RecipeBook
from aot.teacher.tools.pixels.appearance import load_appearance
from aot.teacher.tools.pixels.matcher import Looker
from aot.teacher.tools.procedure import ProcedureModel
from aot.teacher.tools.registry import TOOLS, make_tools
from aot.teacher.tools.vlm.view import Vision

TRAIN = "train"


@dataclass(frozen=True)
class Models:
    """The chat models of one process; its threads share them, and whoever opened them closes them."""

    chat: ChatModel | None = None
    """Plans, and rewrites rationales."""
    vision: Vision | None = None
    """Stands behind tools that show it frames."""

    def close(self) -> None:
        """Close each model once."""
        if self.chat is not None:
            self.chat.close()
        if self.vision is not None and self.vision.model is not self.chat:
            self.vision.model.close()


def open_models(config: VideoRun, run: RunFolder | None, *, writer: str) -> Models:
    """The chat models that the config needs; empty for a teacher that needs none.

    Raises:
        ConfigError: a model cannot be asked at all.
    """
    thinks, looks = teacher_chats(config)
    chat = open_model(thinks, run=run, writer=writer) if thinks else None
    if looks:
        return Models(chat, Vision(open_model(looks, run=run, writer=f"{writer}-vision"), looks.max_tokens))
    sees = bool(config.teacher.tools.behind("chat"))
    return Models(chat, Vision(chat, thinks.max_tokens) if chat and thinks and sees else None)


def check_models(config: VideoRun) -> None:
    """Look whether the chat models can be asked; asks nothing, and loads none.

    Raises:
        ConfigError: one cannot, such as for want of a key.
    """
    for section in teacher_chats(config):
        if section:
            check_chat(section)


def make_parts(run: RunFolder, config: VideoRun, *, writer: str, models: Models) -> Parts:
    """The teacher of one process.

    Raises:
        ConfigError: the appearance card cannot be read, or a tool lacks what it needs.
    """
    clips_root = Path(config.data.root) if config.data.root else run.clips
    book = open_book(run)
    tools = make_tools(config.teacher, vision=models.vision, clips_root=clips_root, book=book)
    return with_models(replace(pixel_parts(run, config, writer=writer), tools=tools), config, models)


def open_book(run: RunFolder) -> RecipeBook | None:
    """The recipe book that prepare left in a run folder; None where the run has none."""
    return RecipeBook(tuple(read_rows(run.book, RecipeCard))) if run.book.exists() else None


def with_models(parts: Parts, config: VideoRun, models: Models) -> Parts:
    """`parts` with the planner and the writer of the config, over the tools that it has."""
    teacher, vision = config.teacher, chat_for(config, "looks")
    parts = replace(
        parts,
        prices=config.chat.prices if config.chat else None,
        vision_prices=vision.prices if vision else None,
    )
    if config.chat is None or models.chat is None:
        return parts
    if teacher.planner == "chat":
        parts = replace(parts, planner=ChatPlanner(models.chat, config.chat, parts.tools, config.seed))
    if teacher.rationale == "chat":
        parts = replace(parts, writer=ChatWriter(models.chat, config.chat, seed=config.seed))
    return parts


def pixel_parts(run: RunFolder, config: VideoRun, *, writer: str) -> Parts:
    """The rules and the tools that need no model, whatever the config chooses: what the exam examines.

    Raises:
        ConfigError: the appearance card cannot be read.
    """
    parts = plain_parts(
        config.teacher,
        appearance=config.teacher.appearance,
        annotations=read_rows(run.annotations, ClipAnnotation),
        cache=KeyedRows(run.tool_cache, CachedResult, writer=writer),
    )
    writer_of_rationales = TemplateWriter(config.seed)
    return replace(parts, seed=config.seed, config_digest=config.digest(), writer=writer_of_rationales)


def plain_parts(
    teacher: ClipTeacher,
    *,
    appearance: str | Path | None,
    annotations: Iterable[ClipAnnotation],
    cache: KeyedRows[CachedResult],
) -> Parts:
    """The same for no run; raises ConfigError when the appearance card cannot be read."""
    procedure = ProcedureModel.from_annotations(annotations)
    return Parts(
        planner=RulesPlanner(),
        tools=TOOLS,
        looker=Looker(load_appearance(appearance)),
        procedure=procedure if procedure.clips else None,
        cache=cache,
        budget=Budget(teacher.max_calls, teacher.time_limit_s, teacher.max_turns),
        seed=0,
        config_digest="",
    )
