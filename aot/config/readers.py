"""Who reads each setting: one table. A key that is given and that the run would not read is an error naming its reader.

`WHO_READS` has a row for each section: readers, each with the keys that it reads. The first reader of a row goes for
the whole section. A new key is added here too, with a reader that is true of just those runs in which it can matter.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

from aot.config.base import Section
from aot.config.chat import ChatConfig
from aot.config.data import ANNOTATED_DATASETS
from aot.config.run import RunConfig

CHATS = ("chat", "vision_chat", "judge_chat")


@dataclass(frozen=True)
class Reader:
    """Those who read a setting, in words and as a question about a run and the section that holds the setting."""

    words: str
    reads: Callable[[RunConfig, Any], bool]


def _data(*names: str) -> Reader:
    return Reader(f"data.dataset: {', '.join(names)}", lambda run, _: run.data.dataset in names)


def _backend(*names: str) -> Reader:
    return Reader(f"a chat model with backend: {' or '.join(names)}", lambda run, chat: chat.backend in names)


def _door(door: str, planner: str = "") -> Callable[[RunConfig, Any], bool]:
    return lambda run, _: run.door == door and planner in ("", run.teacher.planner)


def _any_arm(**wanted: str) -> Callable[[RunConfig, Any], bool]:
    return lambda run, _: any(all(getattr(arm, k) == v for k, v in wanted.items()) for arm in run.train.arms)


def _jobs(run: RunConfig, chat: ChatConfig) -> set[str]:
    """What a chat model is there for in a run: `thinks`, `looks` and `judges`."""
    teacher, is_video = run.teacher, run.door == "video"
    jobs = {
        "thinks": (teacher.planner == "chat" or (is_video and teacher.rationale == "chat")) and run.chat,
        "looks": is_video and teacher.tools.behind("chat") and (run.vision_chat or run.chat),
        "judges": run.filter.judge and (run.judge_chat or run.chat),
    }
    return {job for job, section in jobs.items() if section is chat}


def _by_chat(run: RunConfig) -> bool:
    """Whether the teacher waits for a chat model, so that it works in threads."""
    return any({"thinks", "looks"} & _jobs(run, chat) for chat in (run.chat, run.vision_chat) if chat)


EVERY = Reader("every run", lambda run, _: True)
VIDEO = Reader("video runs", _door("video"))
TEXT = Reader("text runs", _door("text"))
ROOT = Reader("data sets that lie in files", lambda run, _: run.data.dataset not in ("toy_math", "gym"))
NO_TEST_FILE = Reader("runs whose data set is given without a test file", lambda run, files: files.test is None)
STEPS = _data("youcook2", "coin", "crosstask", "epic100")  # whose steps are known, so that next steps can be asked
OPTIONS = Reader(
    "data.dataset: egoplan, and step data sets with next_choice among data.annotated.kinds",
    lambda run, section: (
        run.data.dataset == "egoplan" or (STEPS.reads(run, section) and "next_choice" in section.kinds)
    ),
)
VIDEO_CHAT = Reader("video runs with teacher.planner: chat", _door("video", "chat"))
TEXT_CHAT = Reader("text runs with teacher.planner: chat", _door("text", "chat"))
CANDIDATES = Reader("video runs, and text runs with teacher.planner: chat",
                    lambda run, _: run.door == "video" or run.teacher.planner == "chat")  # fmt: skip
GRANULARITY = Reader(
    "text runs with teacher.planner: chat, or procedural and an arm that is not adaptive",
    lambda run, _: run.door == "text" and (
        run.teacher.planner == "chat"
        or (run.teacher.planner == "procedural" and any(arm.order != "adaptive" for arm in run.train.arms))
    ),
)  # fmt: skip
STRUCTURED = Reader(
    "text runs with teacher.planner: chat and chat.backend: openai or scripted",
    lambda run, _: TEXT_CHAT.reads(run, _) and run.chat is not None and run.chat.backend != "local",
)
WORKERS = Reader("runs with teacher.engine: ray, or whose teacher asks no chat model",
                 lambda run, _: run.teacher.engine == "ray" or not _by_chat(run))  # fmt: skip
UNSCRIPTED = Reader("runs that ask a chat model with backend: openai or local",
                    lambda run, _: any(_jobs(run, chat) and chat.backend != "scripted"
                                       for chat in (run.chat, run.vision_chat, run.judge_chat) if chat))  # fmt: skip
RAY = Reader("runs with teacher.engine: ray", lambda run, _: run.teacher.engine == "ray")
HF = Reader("video runs with hf behind a tool of teacher.tools",
            lambda run, _: run.door == "video" and bool(run.teacher.tools.behind("hf")))  # fmt: skip
DETECTOR = Reader("teacher.tools.detect_objects: hf", lambda run, _: run.teacher.tools.detect_objects == "hf")
SIMILARITY = Reader("teacher.tools.find_moments: hf", lambda run, _: run.teacher.tools.find_moments == "hf")
ASKED = Reader("runs whose planner, rationale, looking tools or judge ask this chat model",
               lambda run, chat: bool(_jobs(run, chat)))  # fmt: skip
THINKS = Reader("a chat model that plans or writes (looking and judging are asked at temperature 0)",
                lambda run, chat: "thinks" in _jobs(run, chat))  # fmt: skip
SERVER_GPUS = Reader("a chat model with backend: openai that plans, writes or looks",
                     lambda run, chat: chat.backend == "openai" and _jobs(run, chat) != {"judges"})  # fmt: skip
LORA = Reader("runs with an arm of tuning: lora", _any_arm(tuning="lora"))
SHARED_STEPS = Reader("runs with an arm without max_steps of its own",
                      lambda run, _: any(arm.max_steps is None for arm in run.train.arms))  # fmt: skip
SHARED_RATE = Reader("runs with an arm without learning_rate of its own",
                     lambda run, _: any(arm.learning_rate is None for arm in run.train.arms))  # fmt: skip
OWN_CHAINS = Reader("runs with an arm of chains: self", _any_arm(chains="self"))
ADAPTIVE = Reader("runs with an arm of order: adaptive", _any_arm(order="adaptive"))
CHAIN_ARM = Reader("arms that learn rationales, with order: both, pre or post",
                   lambda run, arm: arm.order in ("both", "pre", "post") and arm.needs_chains)  # fmt: skip
SHARE_ARM = Reader("arms with order: answers_only, pre or post, or both and a rationale_weight above 0",
                   lambda run, arm: arm.order != "adaptive" and arm.needs_chains)  # fmt: skip
RATIONALE_ARM = Reader("arms that learn rationales, which order: answers_only does not",
                       lambda run, arm: arm.order != "answers_only")  # fmt: skip

_CHAT = {
    ASKED: "backend model record max_tokens max_concurrency "
    "prices.date prices.currency prices.prompt prices.cached_prompt prices.completion",
    THINKS: "temperature top_p logprobs",
    _backend("openai", "scripted"): "base_url omit extra_body",
    _backend("openai", "local"): "raise_tokens max_prompt_tokens deadline_s",
    _backend("openai"): "api_key_env attempt_timeout_s max_attempts max_reply_mb hedge_after_s max_cost stream",
    SERVER_GPUS: "gpus",
    _backend("scripted"): "script",
}
WHO_READS: dict[str, dict[Reader, str]] = {
    "": {EVERY: "seed"},
    "run": {EVERY: "dir reuse shard"},
    "data": {EVERY: "dataset limit", ROOT: "root", _data("plain"): "questions annotations", VIDEO: "stream"},
    "data.toy": {_data("toy_kitchen"): "train_clips test_clips test_ood_clips"},
    "data.math": {_data("toy_math"): "train test test_ood"},
    "data.gym": {_data("gym"): "tasks unseen_tasks train test"},
    "data.files": {_data("gsm8k", "math", "cot_collection", "text_jsonl"): "train test", NO_TEST_FILE: "test_share"},
    "data.annotated": {
        _data(*ANNOTATED_DATASETS): "train test",
        NO_TEST_FILE: "test_share",
        STEPS: "kinds min_history per_clip window_s",
        OPTIONS: "num_choices",
        _data("epic100"): "gap_s",
    },
    "frames": {
        VIDEO: "fps max_stored_frames max_side_px shard_clips workers time_limit_s max_file_mb max_pixels max_frames "
        "max_duration_s max_streams max_gigapixels"
    },
    "teacher": {
        EVERY: "planner engine max_failed_share",
        VIDEO: "rationale max_turns max_calls time_limit_s appearance",
        CANDIDATES: "candidates shuffle_checks",
        WORKERS: "workers",
        UNSCRIPTED: "unanswered",
        RAY: "ray_address gpus_per_worker",
        GRANULARITY: "granularity",
        TEXT_CHAT: "order prompts",
        STRUCTURED: "structured",
    },
    "teacher.tools": {
        VIDEO: "detect_objects find_moments recognise_action pixel_tools",
        VIDEO_CHAT: "ask caption subtitles",
    },
    "teacher.hf": {HF: "device batch_frames max_frames", DETECTOR: "detector", SIMILARITY: "similarity"},
    "teacher.faults": {EVERY: "rate"},
    **dict.fromkeys(CHATS, _CHAT),
    "filter": {
        EVERY: "min_words max_words min_ngram_novelty min_word_ratio near_duplicate_jaccard judge min_kept",
        VIDEO: "time_tolerance_s",
        TEXT: "strict_flow flow_constants leak_jaccard",
    },
    "student": {
        EVERY: "base max_tokens max_answer_tokens max_rationale_tokens dtype device",
        VIDEO: "num_frames",
        TEXT: "think_tags",
        ADAPTIVE: "thought_confidence",
    },
    "train": {
        EVERY: "questions_per_step questions_per_device warmup_steps weight_decay max_grad_norm "
        "gradient_checkpointing save_steps keep_checkpoints procs zero_stage",
        SHARED_STEPS: "max_steps",
        SHARED_RATE: "learning_rate",
        VIDEO: "frame_cache_mb",
        TEXT: "pack_tokens",
    },
    "train.arms": {
        EVERY: "name order tuning learning_rate max_steps seed",
        CHAIN_ARM: "chains",
        SHARE_ARM: "chain_share",
        RATIONALE_ARM: "rationale_weight",
    },
    "train.lora": {LORA: "rank alpha dropout target_pattern"},
    "train.own_chains": {OWN_CHAINS: "rounds samples temperature"},
    "train.adaptive": {ADAPTIVE: "folds fold_steps labelled"},
    "evaluate": {EVERY: "splits batch_size bootstrap_samples"},
    "report": {EVERY: "gallery rejected_per_reason"},
}
"""Section to its readers, and the keys that each of them reads; an arm of `train.arms` is a section too."""
READERS = {
    f"{section}.{key}".lstrip("."): (next(iter(row)), reader)
    for section, row in WHO_READS.items()
    for reader, keys in row.items()
    for key in keys.split()
}
"""Key to the reader of its section and its own reader; both must be there for its value to matter."""


def unread_keys(config: RunConfig) -> dict[str, Reader]:
    """The keys that were given and that the run does not read, each with the reader that it lacks."""
    missing = {leaf.name: _missing_reader(config, leaf) for leaf in _leaves(config, given=True)}
    return {name: reader for name, reader in missing.items() if reader is not None}


def unread_sentences(config: RunConfig) -> list[str]:
    """What is wrong with the keys of `unread_keys`, a sentence for each reader."""
    by_reader: dict[str, list[str]] = {}
    for name, reader in unread_keys(config).items():
        by_reader.setdefault(reader.words, []).append(name)
    return [_sentence(names, words) for words, names in by_reader.items()]


def read_settings(config: RunConfig) -> dict[str, Any]:
    """The settings that the run reads, given or not, as plain values in sections."""
    plain = config.model_dump(mode="json")
    settings: dict[str, Any] = {}
    for leaf in _leaves(config):
        if _missing_reader(config, leaf) is None:
            section = reduce(lambda inner, part: inner.setdefault(part, {}), leaf.path[:-1], settings)
            section[leaf.path[-1]] = reduce(lambda inner, part: inner[part], leaf.path, plain)
    settings["train"]["arms"] = [*settings["train"]["arms"].values()]
    return settings


@dataclass(frozen=True)
class _Leaf:
    """One value of a config."""

    path: tuple[Any, ...]
    """Fields, and the number of an arm, such as ("train", "arms", 0, "seed")."""
    key: str
    """In READERS, such as train.arms.seed."""
    owner: Section
    """The section of WHO_READS that it stands in."""

    @property
    def name(self) -> str:
        """The key as it is told."""
        return ".".join(map(str, self.path))


def _leaves(
    section: Section, path: tuple[Any, ...] = (), key: str = "", owner: Section | None = None, *, given: bool = False
) -> Iterator[_Leaf]:
    """Every value of `section`, or those that were given."""
    owner = section if key in WHO_READS or owner is None else owner
    for field in type(section).model_fields:
        if given and field not in section.model_fields_set:
            continue
        value, inner = getattr(section, field), f"{key}.{field}".lstrip(".")
        if inner in READERS:
            yield _Leaf((*path, field), inner, owner)
        elif isinstance(value, Section):
            yield from _leaves(value, (*path, field), inner, owner, given=given)
        elif isinstance(value, tuple):
            for number, one in enumerate(value):
                yield from _leaves(one, (*path, field, number), inner, owner, given=given)
        elif value is not None:
            raise LookupError(f"{inner} has no row in WHO_READS; say there who reads it")


def _missing_reader(run: RunConfig, leaf: _Leaf) -> Reader | None:
    return next((reader for reader in READERS[leaf.key] if not reader.reads(run, leaf.owner)), None)


def _sentence(names: list[str], words: str) -> str:
    listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    verb, them = ("is", "it") if len(names) == 1 else ("are", "them")
    return f"{listed} {verb} read by {words} only, not by this run; take {them} out"
