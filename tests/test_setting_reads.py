"""What aot/config/reading/readers.py says is held to the code: every attribute of a config section that is read,
found with the types that mypy infers, and from which stages the module that reads it can be reached.

Limits: a read through `getattr`, `model_dump` or a template is not seen (BY_OTHER_MEANS lists those); a module that
both doors import counts for both, and a value that is read may still change nothing. tests/pipeline/test_job.py and
test_text_job.py look at the same table from the other side: what two whole runs read while they ran."""

import dataclasses
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
from mypy import build
from mypy.modulefinder import BuildSource
from mypy.nodes import Expression
from mypy.options import Options
from mypy.traverser import NameAndMemberCollector
from mypy.types import Instance, Type, UnionType, get_proper_type
from setting_walk import DECIDES, RUNS, leaves, other_value, with_setting

from aot.config import HfSection, VideoRun, parse_config
from aot.config.chat import ServerSection
from aot.errors import ConfigError
from video_data.datasets.official import Wanted
from video_data.decode.budgets import Budgets

ROOT = Path(__file__).parents[1]
ROOMS = ("aot", "text_cot", "video_data")
LEAVES = tuple(leaves())
SHARED = (
    "aot.arms.train",
    "aot.files.shards",
    "aot.files.pieces",
    "aot.generate.run",
    *(f"aot.pipeline.{name}" for name in ("stages", "gates", "evaluate", "reuse")),
)
STAGES = {
    "video": ("aot.pipeline.prepare", "aot.teacher.agent", *SHARED),
    "text": ("text_cot.prepare", "text_cot.teacher.teachers", *SHARED),
}
"""Where the stages of each door begin."""
BOTH_DOORS = ("aot.pipeline", "aot.pipeline.doors")
BY_OTHER_MEANS = {
    **{f"frames.{field.name}": "video_data.decode.budgets.Budgets.of" for field in dataclasses.fields(Budgets)},
    **dict.fromkeys(
        ("frames.fps", "frames.max_stored_frames", "frames.max_side_px", "frames.time_limit_s"),
        "video_data.decode.budgets.Sampling.of",
    ),
    "data.book": "aot.config.data.ClipData.recipes",
    "filter.judge": "aot.config.chat_jobs",
    "serving.review": "aot.config.serving.ServingConfig.kinds_under_review",
    "serving.review_kinds": "as above",
    "train.epochs": "aot.config.run.AnyRun.steps_of",
    "teacher.tools.ask": "aot.teacher.tools.registry asks ToolsConfig.behind",
    "teacher.tools.caption": "as above",
    "teacher.tools.subtitles": "as above",
    **{
        f"data.annotated.{name}": "aot.pipeline.source makes a Wanted of them"
        for name in Wanted.__dataclass_fields__.keys() - {"train", "test"}
    },
    **{
        f"evaluate.server.{name}": "aot.config.chat.ServerSection.chat_of"
        for name in ServerSection.model_fields.keys() - {"max_concurrency", "probe_questions"}
    },
    "data.root": "aot.config.reading.loading makes the files of a text data set absolute with it",
    **{
        f"data.hf.columns.{name}": "text_cot.datasets.chats.pick_layout goes through them"
        for name in type(HfSection().columns).model_fields
    },
    **{
        f"{key}.{name}": "aot.pipeline.data.prefetch reads it, before any stage"
        for key in (
            "student.hub",
            "chat.hub",
            "vision_chat.hub",
            "judge_chat.hub",
            "teacher.hf.detector_hub",
            "teacher.hf.similarity_hub",
        )
        for name in ("name", "revision")
    },
}
BACKENDS = {
    "openai": ("aot.chat.server.openai", "aot.chat.server.keys"),
    "local": ("aot.student.answer.engine",),
    "scripted": ("aot.chat.scripted",),
}
"""Modules that serve one kind of chat model."""
MAY_READ = {("text", "student.num_frames")}
"""Read beside the table: noted in the contract of a text student, which is shown no frame."""


@cache
def found() -> build.BuildResult:
    options = Options()
    options.export_types = options.preserve_asts = options.ignore_missing_imports = options.ignore_errors = True
    options.check_untyped_defs, options.follow_imports = True, "skip"
    options.incremental, options.cache_dir = False, "/dev/null"
    sources = [
        BuildSource(str(path), ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
    ]
    return build.build(sources, options)


@cache
def reads() -> dict[tuple[str, str], set[str]]:
    """Section and field to the modules outside aot.config that read it."""
    places: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for module, state in found().graph.items():
        if state.tree is None or not module.startswith(ROOMS) or module.startswith("aot.config"):
            continue
        collector = NameAndMemberCollector()
        state.tree.accept(collector)
        for one in collector.member_exprs:
            for section in sections_of(one.expr):
                places[section, one.name].add(module)
    return dict(places)


def readers_of(key: str) -> set[str]:
    """The modules that read a key of any section that has it, or of what such sections have in common."""
    kinds = {kind.__name__ for one, section, _ in LEAVES if one == key for kind in section.__mro__}
    return set().union(*(reads().get((kind, key.rpartition(".")[2]), set()) for kind in kinds))


def sections_of(expression: Expression) -> set[str]:
    """The config sections that an expression may be."""
    return names_of(found().types.get(expression))


def names_of(kind: Type | None) -> set[str]:
    """The config sections among the types that make up one."""
    proper = get_proper_type(kind) if kind is not None else None
    if isinstance(proper, UnionType):
        return set().union(*map(names_of, proper.items))
    is_section = isinstance(proper, Instance) and proper.type.fullname.startswith("aot.config.")
    return {proper.type.name} if is_section else set()


def reached(starts: tuple[str, ...]) -> set[str]:
    """The modules that these import, directly or not, at whatever moment; not by way of what lists both doors."""
    seen, waiting = set(starts), list(starts)
    while waiting:
        for other in found().graph[waiting.pop()].dependencies:
            if other in found().graph and other not in (*seen, *BOTH_DOORS):
                seen.add(other)
                waiting.append(other)
    return seen


@pytest.fixture(scope="module")
def accepted() -> dict[str, set[str]]:
    """Door to the keys that some run of it takes."""
    taken: defaultdict[str, set[str]] = defaultdict(set)
    for raw in RUNS.values():
        door = "video" if isinstance(parse_config(raw, source="run.yaml"), VideoRun) else "text"
        for key, _, field in LEAVES:
            if key in taken[door]:
                continue
            try:
                parse_config(raw if key in DECIDES else with_setting(raw, key, other_value(key, field)), source="t")
            except ConfigError:
                continue
            taken[door].add(key)
    return taken


@pytest.mark.parametrize("door", STAGES)
def test_every_key_that_a_door_takes_is_read_by_code_that_it_reaches(door: str, accepted: dict[str, set[str]]) -> None:
    modules = reached(STAGES[door])
    idle = [key for key in accepted[door] - BY_OTHER_MEANS.keys() if not modules & readers_of(key)]
    assert not idle, f"{door} runs take these keys and no code of theirs reads them: {idle}"


@pytest.mark.parametrize(("door", "other"), [("video", "text"), ("text", "video")])
def test_code_of_one_door_reads_no_key_that_this_door_refuses(
    door: str, other: str, accepted: dict[str, set[str]]
) -> None:
    own = reached(STAGES[door]) - reached(STAGES[other])
    assert len(own) > 10
    refused = {key for key, _, _ in LEAVES if key not in accepted[door] and (door, key) not in MAY_READ}
    read = [(key, sorted(own & readers_of(key))) for key in refused]
    shared_class = [key for key, _ in read if key.startswith(("vision_chat", "judge_chat")) or "_hub." in key]
    assert not [one for one in read if one[1] and one[0] not in shared_class]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_chat_model_takes_the_keys_that_its_own_code_reads(backend: str) -> None:
    section = {"model": "m", "backend": backend, **({"script": "-"} if backend == "scripted" else {})}
    raw = {"data": {"dataset": "toy_kitchen"}, "teacher": {"planner": "chat"}, "chat": section}
    for key, _, field in LEAVES:
        modules = readers_of(key)
        if key.startswith("chat.") and modules & set(BACKENDS[backend]):
            parse_config(with_setting(raw, key, other_value(key, field)), source="run.yaml")
        elif key.startswith("chat.") and modules and modules <= {one for own in BACKENDS.values() for one in own}:
            with pytest.raises(ConfigError, match=f"{key}.* read by"):
                parse_config(with_setting(raw, key, other_value(key, field)), source="run.yaml")


def test_what_is_read_by_other_means_is_not_read_plainly_too() -> None:
    # Some only estimate, some tell what a run did, and the others fetch before any run, or say that it was not done.
    beside = {"aot.pipeline.commands.plan", "aot.serving.export.arm", "aot.pipeline.data.prefetch"}
    beside |= {f"aot.pipeline.planning.{name}" for name in ("lines", "reckon", "shapes", "volume")}
    beside |= {"aot.student.hub", "aot.pipeline.commands.inputs"}
    beside |= {"aot.pipeline.publication.bom", "aot.pipeline.publication.papers"}
    plain = {key for key, _, _ in LEAVES if readers_of(key) - beside}
    assert (BY_OTHER_MEANS.keys() & plain) <= {"data.root"}, "take what is read plainly off the list"
