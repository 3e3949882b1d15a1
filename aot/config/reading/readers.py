"""Who reads each setting. A key that is given and that the run would not read is an error naming its readers.

Most of it the types say: a section has the keys of its own kind of run, data set, teacher or arm, and no others.
`CONDITIONS` holds what they cannot say, because it hangs on another setting; a key without a row there is read by every
run that has it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

from aot.config.base import Kinds, Section, sections_in
from aot.config.chat import ChatConfig
from aot.config.data import BY_DATASET, EgoplanData
from aot.config.run import RunConfig, TextRun, VideoRun, chat_jobs
from aot.config.teaching import BY_PLANNER
from aot.config.training import BY_ORDER, EMBEDDED_STUDENTS

CHATS = ("chat", "vision_chat", "judge_chat")
Kind = type[VideoRun] | type[TextRun]
RUNS: dict[Kind, str] = {VideoRun: "video runs", TextRun: "text runs"}
KINDS: dict[str, Kinds] = {"data": BY_DATASET, "teacher": BY_PLANNER, "train.arms": BY_ORDER}
_WORDS = {
    "data": "data.dataset: {kinds}",
    "teacher": "{run} with teacher.planner: {kinds}",
    "train.arms": "arms with order: {kinds}",
}
"""Sections of several kinds, and who reads a key that only `kinds` of them have."""


HOLDERS: dict[str, dict[Kind, list[str]]] = {}
"""Every key and section to the runs that have it, and to the kinds of a section of KINDS that do."""


def _note_keys(section: type[Section], run: Kind, kinds: tuple[str, ...] = (), prefix: str = "") -> None:
    for name, field in section.model_fields.items():
        key = prefix + name
        HOLDERS.setdefault(key, {}).setdefault(run, []).extend(kinds)
        for inner in sections_in(field.annotation):
            _note_keys(inner, run, KINDS[key].names(inner) if key in KINDS else kinds, f"{key}.")


for _run in RUNS:
    _note_keys(_run, _run)


def holders_of(key: str) -> str:
    """In words, the runs that have a key."""
    parts: list[str] = []
    for run, kinds in HOLDERS[key].items():
        section = next((one for one in KINDS if key.startswith(f"{one}.")), "")
        whole = not section or set(kinds) == set(HOLDERS[f"{section}.{KINDS[section].by}"][run])
        listed = " or ".join(filter(None, (", ".join(kinds[:-1]), *kinds[-1:])))
        parts.append(RUNS[run] if whole else _WORDS[section].format(run=RUNS[run], kinds=listed))
    return ", and ".join(dict.fromkeys(parts))


@dataclass(frozen=True)
class Reader:
    """Those who read a setting, in words and as a question about a run and the section that holds the setting."""

    words: str
    reads: Callable[[Any, Any], bool]


def _any_arm(**wanted: str) -> Callable[[RunConfig, Any], bool]:
    return lambda run, _: any(all(getattr(arm, k) == v for k, v in wanted.items()) for arm in run.train.arms)


def _backend(*names: str) -> Reader:
    return Reader(f"a chat model with backend: {' or '.join(names)}", lambda run, chat: chat.backend in names)


def _chats(run: RunConfig) -> list[ChatConfig]:
    """The sections of chat models that a run gives."""
    return [section for name in CHATS if (section := getattr(run, name, None))]


def _has_job(*jobs: str) -> Callable[[RunConfig, ChatConfig], bool]:
    """Whether a section of a chat model is there for one of these jobs in a run."""
    return lambda run, chat: any(job in jobs and section is chat for job, (_, section) in chat_jobs(run).items())


VIDEO = Reader("video runs", lambda run, _: isinstance(run, VideoRun))
TEXT = Reader("text runs", lambda run, _: isinstance(run, TextRun))
ADAPTIVE = Reader("runs with an arm of order: adaptive", _any_arm(order="adaptive"))
_CONDITIONS: dict[str, Reader] = {
    "data.files.test_share data.annotated.test_share": Reader(
        "runs whose data set is given without a test file", lambda run, files: files.test is None),
    "data.hf.test_share": Reader(
        "runs whose data set is given without a test split or file", lambda run, hf: not (hf.test or hf.test_file)),
    "data.annotated.num_choices": Reader(
        "data.dataset: egoplan, and step data sets with next_choice among data.annotated.kinds",
        lambda run, files: isinstance(run.data, EgoplanData) or "next_choice" in files.kinds),
    "data.toy.card": Reader("runs with data.toy.open_book: 1 or more", lambda run, toy: toy.open_book > 0),
    "teacher.workers": Reader(
        "runs with teacher.engine: ray, or whose teacher asks no chat model",
        lambda run, teacher: teacher.engine == "ray" or chat_jobs(run).keys() <= {"judges"}),
    "teacher.unanswered": Reader(
        "runs that ask a chat model with backend: openai or local",
        lambda run, _: any(chat and chat.backend != "scripted" for _, chat in chat_jobs(run).values())),
    "teacher.ray_address teacher.gpus_per_worker": Reader(
        "runs with teacher.engine: ray", lambda run, teacher: teacher.engine == "ray"),
    "teacher.granularity": Reader(
        "text runs with teacher.planner: chat, or procedural or given and an arm that is not adaptive",
        lambda run, teacher: teacher.planner == "chat" or any(arm.order != "adaptive" for arm in run.train.arms)),
    "teacher.structured": Reader(
        "text runs with teacher.planner: chat and chat.backend: openai or scripted",
        lambda run, _: run.chat is not None and run.chat.backend != "local"),
    "teacher.hf": Reader(
        "video runs with hf behind a tool of teacher.tools", lambda run, _: bool(run.teacher.tools.behind("hf"))),
    "teacher.hf.detector teacher.hf.detector_hub": Reader(
        "teacher.tools.detect_objects: hf", lambda run, _: run.teacher.tools.detect_objects == "hf"),
    "teacher.hf.similarity teacher.hf.similarity_hub": Reader(
        "teacher.tools.find_moments: hf", lambda run, _: run.teacher.tools.find_moments == "hf"),
    "CHAT": Reader(
        "runs whose planner, rationale, looking tools or judge ask this chat model",
        _has_job("thinks", "looks", "judges")),
    "CHAT.temperature CHAT.top_p CHAT.logprobs": Reader(
        "a chat model that plans or writes (looking and judging are asked at temperature 0)", _has_job("thinks")),
    "CHAT.base_url CHAT.omit CHAT.extra_body": _backend("openai", "scripted"),
    "CHAT.raise_tokens CHAT.max_prompt_tokens CHAT.deadline_s": _backend("openai", "local"),
    "CHAT.api_key_env CHAT.attempt_timeout_s CHAT.max_attempts CHAT.max_reply_mb CHAT.hedge_after_s CHAT.max_cost "
    "CHAT.stream": _backend("openai"),
    "CHAT.gpus": Reader(
        "a chat model with backend: openai that plans, writes or looks",
        lambda run, chat: chat.backend == "openai" and _has_job("thinks", "looks")(run, chat)),
    "CHAT.script": _backend("scripted"),
    "CHAT.hub": Reader(
        "a chat model with backend: local",
        lambda run, hub: any(chat.backend == "local" for chat in _chats(run) if chat.hub is hub)),
    "student.hub": Reader("runs whose student.base is the folder of a model",
                          lambda run, hub: run.student.base not in EMBEDDED_STUDENTS),
    "run.node_rank run.rendezvous": Reader("runs with train.nodes: 2 or more", lambda run, _: run.train.nodes > 1),
    "student.num_frames student.frame_view filter.time_tolerance_s": VIDEO,
    "train.frame_cache_mb train.vision_cache train.vision_cache_mb train.arms.names": VIDEO,
    "student.think_tags train.pack_tokens filter.strict_flow filter.flow_constants filter.leak_jaccard": TEXT,
    "evaluate.server": Reader("runs with evaluate.engine: server", lambda run, _: run.evaluate.engine == "server"),
    "evaluate.procs": Reader("runs with evaluate.engine: local", lambda run, _: run.evaluate.engine == "local"),
    "student.effort train.adaptive evaluate.every_way": ADAPTIVE,
    "serving.review_kinds": Reader(
        "runs with serving.review: required", lambda run, serving: serving.review == "required"),
    "train.weights.call": Reader("runs with an arm of order: tool_use", _any_arm(order="tool_use")),
    "train.max_steps": Reader(
        "runs without train.epochs and with an arm without max_steps of its own",
        lambda run, train: train.epochs is None and any(arm.max_steps is None for arm in run.train.arms)),
    "train.epochs": Reader(
        "runs with an arm without max_steps of its own, and no such arm of order: adaptive",
        lambda run, _: {arm.order == "adaptive" for arm in run.train.arms if arm.max_steps is None} == {False}),
    "train.zero_stage": Reader("runs with train.sharding: zero", lambda run, train: train.sharding == "zero"),
    "train.compile": Reader(
        "runs with train.zero_stage: 0, 1 or 2",
        lambda run, train: train.sharding == "fsdp2" or train.zero_stage < 3),
    "train.offload": Reader(
        "runs with train.zero_stage: 3", lambda run, train: train.sharding == "zero" and train.zero_stage == 3),
    "train.learning_rate": Reader(
        "runs with an arm without learning_rate of its own",
        lambda run, _: any(arm.learning_rate is None for arm in run.train.arms)),
    "train.lora": Reader("runs with an arm of tuning: lora", _any_arm(tuning="lora")),
    "train.own_chains": Reader("runs with an arm of chains: self", _any_arm(chains="self")),
    "train.on_policy": Reader("runs with an arm of chains: on_policy", _any_arm(chains="on_policy")),
    "train.on_policy.judge_steps": Reader(
        "runs with train.on_policy.judge: taught", lambda run, section: section.judge == "taught"),
    "train.on_policy.judge_model": Reader(
        "runs with train.on_policy.judge: model or server",
        lambda run, section: section.judge in ("model", "server")),
    "train.on_policy.judge_url train.on_policy.judge_key_env": Reader(
        "runs with train.on_policy.judge: server", lambda run, section: section.judge == "server"),
    "train.arms.granularity": Reader(
        "text runs with an arm that learns kept chains in one order, of a teacher that writes coarse and fine ones",
        lambda run, arm: isinstance(run, TextRun) and arm.order in ("pre", "post", "tool_use")
        and arm.chains != "self" and (run.teacher.planner != "given" or run.teacher.granularity == "mixed")),
    "train.arms.chains train.arms.chain_share": Reader(
        "arms that learn from chains (order: both with rationale_weight: 0 does not)",
        lambda run, arm: arm.needs_chains),
    "train.arms.repeated_calls": Reader(
        "arms with named_calculator among their tools",
        lambda run, arm: "named_calculator" in arm.tools),
    "train.arms.parts": Reader(
        "arms that learn rationales in order: both or pre",
        lambda run, arm: arm.learns_rationales and arm.order != "post"),
    "train.arms.choice": Reader(
        "arms of chains: kept or self that learn rationales",
        lambda run, arm: arm.learns_rationales and arm.chains in ("kept", "self")),
    "train.arms.key_weight": Reader("arms that learn rationales", lambda run, arm: arm.learns_rationales),
    "train.arms.negative_weight": Reader(
        "arms of chains: self that learn rationales", lambda run, arm: arm.learns_rationales and arm.chains == "self"),
}  # fmt: skip
"""Keys and sections to their reader, who is asked with the section that holds the key, or is it."""
CONDITIONS = {
    key.replace("CHAT", chat): reader for chat in CHATS for keys, reader in _CONDITIONS.items() for key in keys.split()
}
"""Key or section to its reader; that of a section must be there for the keys in it too."""


@dataclass(frozen=True)
class _Leaf:
    """One value of a config."""

    path: tuple[Any, ...]
    """Fields, and the number of an arm, such as ("train", "arms", 0, "seed")."""
    is_given: bool
    lacks: Reader | None
    """Who would read it, and is not there."""


def _leaves(run: RunConfig, section: Section, above: _Leaf, prefix: str = "") -> Iterator[_Leaf]:
    """Every value of `section`, which stands at `above`."""
    for name, field in type(section).model_fields.items():
        value, key = getattr(section, name), prefix + name
        inner = value if isinstance(value, tuple) and sections_in(field.annotation) else None
        for number, one in enumerate(inner or [value]):
            path = (*above.path, name) if inner is None else (*above.path, name, number)
            reader = CONDITIONS.get(key)
            is_read = reader is None or reader.reads(run, one if isinstance(one, Section) else section)
            leaf = _Leaf(path, above.is_given and name in section.model_fields_set,
                         above.lacks or (None if is_read else reader))  # fmt: skip
            if isinstance(one, Section):
                yield from _leaves(run, one, leaf, f"{key}.")
            elif one is not None or not sections_in(field.annotation):
                yield leaf


def unread_keys(config: RunConfig) -> dict[str, str]:
    """The keys that were given and that the run does not read, each with those who would, in words."""
    leaves = _leaves(config, config, _Leaf((), True, None))
    return {".".join(map(str, leaf.path)): leaf.lacks.words for leaf in leaves if leaf.is_given and leaf.lacks}


def read_settings(config: RunConfig) -> dict[str, Any]:
    """The settings that the run reads, given or not, as plain values in sections."""
    plain = config.model_dump(mode="json")
    settings: dict[str, Any] = {}
    for leaf in _leaves(config, config, _Leaf((), True, None)):
        if leaf.lacks is None:
            section = reduce(lambda inner, part: inner.setdefault(part, {}), leaf.path[:-1], settings)
            section[leaf.path[-1]] = reduce(lambda inner, part: inner[part], leaf.path, plain)
    settings["train"]["arms"] = [*settings["train"]["arms"].values()]
    return settings


def unread_sentences(readers: dict[str, str]) -> list[str]:
    """What is wrong with keys that a run does not read, a sentence for each of their readers in words."""
    keys: dict[str, list[str]] = {}
    for key, words in readers.items():
        keys.setdefault(words, []).append(key)
    return [_sentence(names, words) for words, names in keys.items()]


def _sentence(names: list[str], words: str) -> str:
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    verb, them = ("is", "it") if len(names) == 1 else ("are", "them")
    return f"{listed} {verb} read by {words} only, not by this run; take {them} out"
