"""Every setting, found by looking at the sections; runs of all kinds; and another value for any setting."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from aot.config import RunConfig, Section

Raw = dict[str, Any]
SCRIPTED = {"model": "m", "backend": "scripted", "script": "-"}
PRICED = {"model": "m", "prices": {"date": "2026-01-31", "prompt": 1, "completion": 2}}
HUB = {"name": "a/b", "revision": "main"}
NO_FILE = {"test_share": 0.3}


def text(dataset: str = "toy_math", planner: str = "procedural", *arms: Raw, **more: Any) -> Raw:
    given = [{"name": "a", "order": "pre"}, *arms]
    train = {"arms": given, **more.pop("train", {})}
    teacher = {"planner": planner, **more.pop("teacher", {})}
    return {"data": {"dataset": dataset}, "teacher": teacher, "student": {"base": "tiny-text"}, "train": train, **more}


def video(dataset: str = "toy_kitchen", **more: Any) -> Raw:
    return {"data": {"dataset": dataset}, **more}


LOOKS = {"tools": {"recognise_action": "chat"}}
RUNS: dict[str, Raw] = {
    "kitchen": video(),
    "kitchen in ZeRO-3": video(train={"zero_stage": 3, "early_stop": {}}),
    "kitchen in FSDP2": video(train={"sharding": "fsdp2"}),
    "kitchen in epochs": video(train={"epochs": 2, "arms": [{"name": "a"}, {"name": "b"}]}),
    "plain": video("plain"),
    **{name: video(name) for name in ("youcook2", "coin", "crosstask", "epic100", "nextqa", "star", "egoplan")},
    "video on ray": video(teacher={"engine": "ray"}),
    "video with hf tools": video(teacher={"tools": {"detect_objects": "hf", "find_moments": "hf"}}),
    "video planned by a server": video(teacher={"planner": "chat"}, chat=PRICED),
    "video planned by a script": video(teacher={"planner": "chat"}, chat=SCRIPTED),
    "video told by a local model": video(teacher={"rationale": "chat"}, chat={"model": "m", "backend": "local"}),
    "video with two that look": video(teacher={**LOOKS, "planner": "chat"}, chat=SCRIPTED, vision_chat=PRICED),
    "video looked at by a script": video(teacher=LOOKS, vision_chat=SCRIPTED),
    "video looked at by a local model": video(teacher=LOOKS, vision_chat={"model": "m", "backend": "local"}),
    "video asked behind a server": video(evaluate={"engine": "server"}),
    "video judged by a server": video(filter={"judge": True}, judge_chat=PRICED),
    "video about cards": video(data={"dataset": "toy_kitchen", "toy": {"open_book": 1}}),
    "video, calls tools": video(train={"arms": [{"name": "a", "order": "tool_use", "tools": ["look_up_recipe"]}]}),
    "maths": text(),
    "maths on two machines": text(train={"nodes": 2}),
    "maths, no shared steps": text(train={"arms": [{"name": "a", "order": "pre", "max_steps": 2, "learning_rate": 1}]}),
    "maths, full only": text(train={"arms": [{"name": "a", "order": "post", "tuning": "full"}]}),
    "maths, answers only": text(train={"arms": [{"name": "a", "order": "answers_only"}]}),
    "maths, adaptive only": text(train={"arms": [{"name": "a", "order": "adaptive"}]}),
    "maths, calls tools": text(train={"arms": [{"name": "a", "order": "tool_use", "tools": ["named_calculator"]}]}),
    "maths, own chains": text("toy_math", "procedural", {"name": "b", "order": "pre", "chains": "self"}),
    "maths, on policy": text("toy_math", "procedural", {"name": "b", "order": "pre", "chains": "on_policy"}),
    "maths, judged by a server on policy": text(
        "toy_math",
        "procedural",
        {"name": "b", "order": "pre", "chains": "on_policy"},
        train={"on_policy": {"judge": "server", "judge_model": "m"}},
    ),
    "maths, own chains only": text(train={"arms": [{"name": "a", "order": "pre", "chains": "self"}]}),
    "maths by a server": text("toy_math", "chat", chat=PRICED),
    "maths by a local model": text("toy_math", "chat", chat={"model": "m", "backend": "local"}),
    "maths by a script": text("toy_math", "chat", chat=SCRIPTED),
    "maths judged by a script": text(filter={"judge": True}, judge_chat=SCRIPTED),
    "maths judged by a local model": text(filter={"judge": True}, judge_chat={"model": "m", "backend": "local"}),
    "gym": text("gym", "given"),
    **{name: text(name, "given") for name in ("gsm8k", "math", "cot_collection", "text_jsonl", "hf")},
    "maths reviewed by people": text(serving={"review": "required"}),
    "maths on a base of its own": text(student={"base": "models/m"}),
}
"""At least one run for every reader in aot/config/reading/readers.py."""
DECIDES = {
    "data.dataset", "teacher.planner", "student.base", "train.arms.order", "train.arms.name", "train.sharding",
    "evaluate.engine",
}  # fmt: skip
"""What makes a run the kind of run it is; another value would make another run, or none."""
VALUES: dict[str, Any] = {
    "run.shard": "0/2", "run.rendezvous": "node1:29500", "prices.date": "2026-01-30",
    "train.arms.chains": "shuffled", "train.arms.tools": ["calculator"], "filter.judge": False,
    "teacher.rationale": "template", "data.annotated.kinds": ["next_choice"], "evaluate.splits": ["test"],
    "train.trackers": ["tensorboard"], "omit": ["seed"], "extra_body": {"top_k": 3},
    "train.arms.leave_out": {"kind": "sum"},
    **{f"{hub}.name": "a/b" for hub in ("hub", "detector_hub", "similarity_hub")},
    "evaluate.server.models": {"base": "m"},
    "evaluate.server.base_urls": {"base": "http://127.0.0.1:1/v1"},
}  # fmt: skip
"""Settings whose other value must have a form of its own, or would make another run."""


def leaves(*models: type[Section], key: str = "") -> Iterator[tuple[str, type[Section], FieldInfo]]:
    """Key, section and field of every setting; once for each kind of run and section that has it."""
    for model in models or get_args(RunConfig):
        for name, field in model.model_fields.items():
            named = f"{key}.{name}".lstrip(".")
            if inner := sections_in(field.annotation):
                yield from leaves(*inner, key=named)
            else:
                yield named, model, field


def sections_in(annotation: Any) -> list[type[Section]]:
    """The sections that an annotation is about, such as those of arms in `tuple[ArmConfig, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in sections_in(part)]


def with_setting(raw: Raw, key: str, value: Any) -> Raw:
    """A copy of `raw` in which `key` is given, if it was not already; of an arm, that of the first one."""
    raw = deepcopy(raw)
    *parents, last = key.split(".")
    node: Any = raw
    for name in parents:
        made = {"model": "m"} if name.endswith("chat") else {"date": "2026-01-31"} if name == "prices" else {}
        made = HUB if name.endswith("hub") else made
        node = node.setdefault(name, deepcopy(made) if name != "arms" else [{"name": "a"}])
        node = node[0] if name == "arms" else node
    node.setdefault(last, value)
    if last == "max_cost":
        node.setdefault("prices", PRICED["prices"])
    return raw


def other_value(key: str, field: FieldInfo) -> Any:
    """A valid value that is not the default, unless `VALUES` says otherwise."""
    for known, value in VALUES.items():
        if f".{key}".endswith(f".{known}"):
            return value
    default, kinds = field.default, list(plain_kinds(field.annotation))
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if isinstance(default, tuple):
        return [1.5] if float in kinds else ["x"]
    if words:
        return "off" if "off" in words else next(word for word in words if word != default)
    if bool in kinds:
        return not default
    if int in kinds:
        return default + 1 if isinstance(default, int) else 2
    if float in kinds:
        return default / 2 if isinstance(default, float) and default else 0.5
    return "x"


def plain_kinds(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of."""
    inner = get_args(annotation)
    if get_origin(annotation) in (None, Literal):
        yield annotation
    for one in inner[:1] if get_origin(annotation) is Annotated else () if get_origin(annotation) is Literal else inner:
        yield from plain_kinds(one)
