"""The tools in the hands of a student that acts: those of its run's teacher, or fewer for a control."""

from aot.acting.carried import TEXT_BUDGET
from aot.config import TextRun, VideoRun
from aot.files.run_folder import RunFolder
from aot.pipeline.doors import Tools
from aot.teacher.bench import Bench, switched_off
from aot.teacher.tools.calculator import CALCULATORS


def video_bench(config: VideoRun, run: RunFolder, tools: Tools, writer: str) -> Bench:
    """The tools that a teacher of clips has, over the stored clips.

    Raises:
        ConfigError: a tool lacks what it needs.
        DecodeError: the frame store is damaged.
    """
    from aot.teacher.clip_shelf import open_shelf  # here, because text needs none of the video packages
    from aot.teacher.parts import Models, make_parts, open_book, open_models
    from aot.teacher.tools.look_up_recipe import recipe_tool

    models = open_models(config, run, writer=writer) if config.teacher.tools.behind("chat") else Models()
    parts = make_parts(run, config, writer=writer, models=models)
    offered = dict(parts.tools)
    if tools == "shuffled_book" and (book := open_book(run)):
        shuffled = recipe_tool(book.shuffled(config.seed))
        offered[shuffled.name] = shuffled
    return Bench(
        tools=switched_off(offered) if tools == "none" else offered,
        budget=parts.budget,
        looker=parts.looker,
        procedure=parts.procedure,
        cache=parts.cache,
        config_digest=parts.config_digest,
        vision_prices=parts.vision_prices,
        open_clip=open_shelf(run).view,
        closes=(models.close,),
    )


def text_bench(config: TextRun, tools: Tools) -> Bench:
    """The tools that worked on the chains of a run of text."""
    offered = switched_off(CALCULATORS) if tools == "none" else CALCULATORS
    return Bench(tools=offered, budget=TEXT_BUDGET, config_digest=config.digest())
