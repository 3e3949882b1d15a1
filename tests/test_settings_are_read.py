"""A setting that a run does not read is refused by name; what is said to be read is read. The settings are found by
looking at the sections; tests/test_setting_reads.py holds them to the code."""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from setting_walk import DECIDES, PRICED, RUNS, Raw, leaves, other_value, text, video, with_setting

from aot.config import dump_config, load_config, load_saved, parse_config, unread_keys
from aot.config.reading.readers import CONDITIONS, HOLDERS, holders_of
from aot.config.reading.strict_yaml import parse_yaml
from aot.errors import ConfigError

FIELDS = {key: field for key, _, field in leaves()}
OF_THINKERS = {
    f"{chat}.{key}" for chat in ("vision_chat", "judge_chat") for key in ("temperature", "top_p", "logprobs")
}
OF_THINKERS |= {"judge_chat.gpus"}
"""Read by no run: the three chat sections are of one class, who looks or judges is asked at temperature 0, and what
judging costs is not told for a thousand chains."""


def readers_of(key: str) -> list[str]:
    """Who reads a key, in words: those who have it, and those whom another setting makes read it."""
    parts = key.split(".")
    above = [".".join(parts[:number]) for number in range(1, len(parts) + 1)]
    return [CONDITIONS[one].words for one in above if one in CONDITIONS] + [holders_of(key)]


def refusal(raw: Raw) -> str:
    """What is wrong with a config; empty if nothing is."""
    try:
        parse_config(raw, source="run.yaml")
    except ConfigError as error:
        return str(error)
    return ""


def given_names(key: str) -> str:
    """The key as an error tells it."""
    return key.replace("train.arms.", "train.arms.0.")


def test_every_setting_has_its_runs_and_every_condition_is_about_a_setting() -> None:
    assert FIELDS.keys() <= HOLDERS.keys() and CONDITIONS.keys() <= HOLDERS.keys()


@pytest.mark.parametrize("run", RUNS)
def test_the_runs_of_this_walk_are_good_and_their_resolved_configs_say_the_same(run: str, tmp_path: Path) -> None:
    given, saved = tmp_path / "run.yaml", tmp_path / "config.yaml"
    given.write_text(json.dumps(RUNS[run]))  # JSON is YAML
    config = load_config(given)
    saved.write_text(dump_config(config))
    assert load_config(saved) == load_saved(saved) == config


def walk() -> dict[str, dict[str, str]]:
    """Key to run to why the key is refused there; empty where it is read."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for key in FIELDS.keys() - DECIDES:
        for name, raw in RUNS.items():
            found[key][name] = refusal(with_setting(raw, key, other_value(key, FIELDS[key])))
    return found


@pytest.fixture(scope="module")
def walked() -> dict[str, dict[str, str]]:
    return walk()


def test_every_key_is_read_by_each_run_or_refused_by_name_with_its_reader(walked: dict[str, dict[str, str]]) -> None:
    for key, runs in walked.items():
        words = readers_of(key)
        for run, told in runs.items():
            named = given_names(key) in told and any(f"read by {word} only" in told for word in words)
            assert not told or named, f"{key} in the run {run!r}: {told}"


def test_every_key_is_read_by_some_run_and_only_those_for_every_run_by_all(walked: dict[str, dict[str, str]]) -> None:
    for key, runs in walked.items():
        assert all(runs.values()) == (key in OF_THINKERS), f"{key}: {next(iter(runs.values()))}"
        assert any(runs.values()) == (readers_of(key) != ["video runs, and text runs"]), f"{key}: {runs}"


def test_a_default_that_is_written_out_is_refused_like_any_other_value(walked: dict[str, dict[str, str]]) -> None:
    for key, runs in walked.items():
        if FIELDS[key].is_required():
            continue
        for run in ("kitchen", "maths"):
            raw = with_setting(RUNS[run], key, FIELDS[key].get_default(call_default_factory=True, validated_data={}))
            assert bool(refusal(raw)) == bool(runs[run]), f"{key} in the run {run!r}"


VIDEO_ARM = video(train={"arms": [{"name": "a", "rationale_weight": 0}, {"name": "b"}]})
UNREAD_BY_VIDEO: dict[str, Any] = {
    "train.arms.chains": "shuffled", "train.arms.chain_share": 0.5, "train.pack_tokens": 0,
    "train.adaptive.folds": 3, "train.own_chains.rounds": 1, "teacher.order": "post", "teacher.granularity": "fine",
    "teacher.prompts": "bare", "teacher.structured": "off", "student.think_tags": "none", "filter.strict_flow": "on",
    "data.math.train": 5, "data.gym.tasks": ["chain_sum"], "data.files.train": "x", "data.questions": "x",
    "data.annotated.gap_s": 2.0,
}  # fmt: skip
UNREAD_BY_TEXT: dict[str, Any] = {
    "teacher.ray_address": "x", "teacher.shuffle_checks": 2, "teacher.max_calls": 3,
    "teacher.time_limit_s": 9.0, "teacher.rationale": "chat", "frames.fps": 1.0, "frames.workers": 4,
    "student.num_frames": 4, "teacher.tools.ask": "chat", "teacher.hf.detector": "x", "teacher.appearance": "x",
    "teacher.candidates": 4, "train.frame_cache_mb": 1, "data.toy.train_clips": 5, "data.root": "x",
    "filter.time_tolerance_s": 1.0, "vision_chat.model": "m",
}  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "key", "value"),
    [(VIDEO_ARM, *one) for one in UNREAD_BY_VIDEO.items()] + [(text(), *one) for one in UNREAD_BY_TEXT.items()],
    ids=[*UNREAD_BY_VIDEO, *UNREAD_BY_TEXT],
)
def test_a_control_that_would_control_nothing_is_refused(raw: Raw, key: str, value: object) -> None:
    told = refusal(with_setting(raw, key, value))
    assert f"run.yaml: {given_names(key)} is read by " in told and "not by this run; take it out" in told


ARM_KINDS: dict[str, dict[str, Any]] = {
    "both": {}, "answers_only": {"order": "answers_only"}, "pre": {"order": "pre"}, "post": {"order": "post"},
    "adaptive": {"order": "adaptive"}, "self": {"order": "pre", "chains": "self", "chain_share": 0.5},
    "self_both": {"chains": "self"}, "shuffled": {"order": "pre", "chains": "shuffled"},
    "deleted": {"order": "post", "chains": "deleted"}, "wrong_content": {"chains": "wrong_content"},
    "share": {"chain_share": 0.5}, "on_policy": {"order": "pre", "chains": "on_policy"},
    "on_policy_both": {"chains": "on_policy"}, "full": {"order": "pre", "tuning": "full"},
}  # fmt: skip
REFUSED_BY_TEXT = ("both", "self_both", "on_policy_both", "wrong_content", "share")
"""Those of order both, which asks each question in two ways."""
REFUSED_ANYWHERE: dict[str, tuple[dict[str, Any], str]] = {
    "damage without rationales": (
        {"rationale_weight": 0, "chains": "shuffled"},
        "chains is read by arms that learn",
    ),
    "share without rationales": (
        {"rationale_weight": 0, "chain_share": 0.5},
        "chain_share is read by arms that",
    ),
    "damaged answers": (
        {"order": "answers_only", "chains": "deleted"},
        "chains is read by arms with order: both, pre or post",
    ),
    "own chains after the answer": ({"order": "post", "chains": "self"}, "chains `self` go with order pre or both"),
    "on policy after the answer": (
        {"order": "post", "chains": "on_policy"},
        "chains `on_policy` go with order pre or both",
    ),
    "damaged ways": (
        {"order": "adaptive", "chains": "shuffled"},
        "chains is read by arms with order: both, pre or post",
    ),
    "helper": ({"name": "a/fold0"}, "must have no /"),
}


@pytest.mark.parametrize("door", [video, text])
@pytest.mark.parametrize("kind", ARM_KINDS)
def test_every_kind_of_arm_is_taken_or_refused_by_name_behind_both_doors(kind: str, door: Any) -> None:
    told = refusal(door(train={"arms": [{"name": "arm", **ARM_KINDS[kind]}]}))
    if door is text and kind in REFUSED_BY_TEXT:
        assert "order of arm arm is 'both'" in told and "takes answers_only, pre, post, adaptive or tool_use" in told
    else:
        assert told == ""


@pytest.mark.parametrize("door", [video, text])
@pytest.mark.parametrize("kind", REFUSED_ANYWHERE)
def test_an_arm_that_contradicts_itself_is_refused_behind_both_doors(kind: str, door: Any) -> None:
    arm, words = REFUSED_ANYWHERE[kind]
    order = {} if door is video or "order" in arm else {"order": "pre"}
    told = refusal(door(train={"arms": [{"name": "arm", **order, **arm}]}))
    assert (words if door is video or "order" in arm or kind == "helper" else "arm") in told and told


def test_keys_with_the_same_reader_are_told_in_one_sentence_and_a_long_list_is_cut() -> None:
    frames = {key.partition(".")[2]: other_value(key, FIELDS[key]) for key in FIELDS if key.startswith("frames.")}
    told = refusal(text(frames=frames))
    assert told.count("read by video runs only") == 1 and "and 4 more are" in told


def test_a_text_run_reads_workers_and_ray_and_with_a_chat_teacher_orders_of_options() -> None:
    assert not refusal(text(teacher={"planner": "procedural", "workers": 4}))
    ray = {"engine": "ray", "ray_address": "10.0.0.1:6379", "gpus_per_worker": 0.5, "workers": 8}
    assert not refusal(text(teacher={"planner": "procedural", **ray}))
    chat = {"model": "m", "base_url": "http://127.0.0.1:1/v1"}
    assert not refusal(text(teacher={"planner": "chat", "shuffle_checks": 2}, data={"dataset": "toy_math"}, chat=chat))
    assert "teacher.workers" in refusal(text(teacher={"planner": "chat", "workers": 4}, chat=chat))


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (video(teacher={"planner": "given"}), "must be 'rules' or 'chat', got 'given', which is for text runs"),
        (text(planner="oracle"), "teacher.planner: must be 'procedural', 'given' or 'chat', got 'oracle'"),
        (
            video(train={"arms": [{"name": "a", "order": "last"}]}),
            "train.arms.0.order: must be 'both', 'pre', 'post', ",
        ),
        (video("elsewhere", frames={"fps": 0}), "data.dataset: must be 'toy_kitchen', 'plain', 'nextqa', "),
        ({"data": {}}, "data.dataset: is needed"),
        ({"data": 5}, "data: must be a section of `key: value` lines, got 5"),
        (video(train={"arms": [5]}), "train.arms.0: must be a section of `key: value` lines, got 5"),
    ],
)
def test_a_kind_that_there_is_not_is_told_with_those_that_there_are(raw: Raw, told: str) -> None:
    assert told in refusal(raw)


def test_a_key_of_another_kind_is_told_from_a_misspelt_one_and_from_a_bad_value() -> None:
    told = refusal(
        video("plain", data={"dataset": "plain", "limit": 0, "toy": {"train_clips": 3, "trian": 1}, "rot": 1})
    )
    assert "data.limit: must be at least 1, got 0" in told
    assert "data.toy.train_clips is read by data.dataset: toy_kitchen only, not by this run; take it out" in told
    assert "unknown key data.rot; did you mean data.root?" in told and "unknown key data.toy.trian" in told


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"dta": {"dataset": "plain"}}, ("data: is needed", "did you mean data?")),
        ({"data": {"datset": "plain"}}, ("data.dataset: is needed", "did you mean data.dataset?")),
        ({"data": {"dataset": "toy_kichen", "rot": "x"}, "xyz": 3}, ("did you mean toy_kitchen?", "data.root?", "xyz")),
        ({"data": {"dataset": "gym"}, "teacher": {"plannr": "given"}, "xyz": 3}, ("teacher.planner?", "xyz")),
        (video(teacher={"planner": "rule", "max_turnz": 3}), ("did you mean rules?", "teacher.max_turns?")),
        (video(train={"arms": [{"name": "a", "order": "pree", "chian": 1}]}), ("did you mean pre?", "arms.chains?")),
        ({"data": {"dataset": True}}, ("got true",)),
    ],
)
def test_a_section_of_no_kind_hides_no_other_mistake(raw: Raw, told: tuple[str, ...]) -> None:
    assert all(one in refusal(raw) for one in told), refusal(raw)


@pytest.mark.parametrize(
    ("dataset", "planner"), [("toy_math", "procedural"), ("text_jsonl", "given"), ("gym", "given")]
)
def test_a_text_run_needs_no_more_than_its_data_set(dataset: str, planner: str) -> None:
    config = parse_config({"data": {"dataset": dataset}}, source="run.yaml")
    assert (config.teacher.planner, config.student.base, config.evaluate.splits) == (planner, "tiny-text", ("test",))
    assert [arm.order for arm in config.train.arms] == ["answers_only", "pre"]
    given = parse_config({"data": {"dataset": dataset}, "train": {"max_steps": 3}, "student": {}}, source="run.yaml")
    assert given == config.model_copy(update={"train": config.train.model_copy(update={"max_steps": 3})})


def test_settings_that_do_not_fit_together_are_told_with_those_that_are_wrong_alone() -> None:
    told = refusal(text("text_jsonl", "procedural", train={"arms": [{"name": "b"}], "max_steps": "x"}, xyz=1,
                        student={"base": "tiny-video", "max_tokns": 3}, filter={"judge": True}))  # fmt: skip
    for one in ("max_tokns", "max_steps: must be", "key xyz", "teacher.planner is 'procedural'", "is 'tiny-video'",
                "order of arm b is 'both'", "filter.judge: true needs a section `chat`"):  # fmt: skip
        assert told.count(one) == 1, one


def test_an_empty_section_of_another_kind_gives_no_setting() -> None:
    assert refusal(text(frames={}, vision_chat=None)) == ""
    assert "toy.train_clips" in refusal(video(data={"dataset": "plain", "toy": {"train_clips": 3}}))
    assert refusal(video(data={"dataset": "plain", "toy": {}})) == ""


def test_a_cost_limit_needs_a_server_that_counts() -> None:
    scripted = {**PRICED, "backend": "scripted", "script": "-", "max_cost": 1}
    told = refusal(video(teacher={"planner": "chat"}, chat=scripted))
    assert "chat.max_cost is read by a chat model with backend: openai only" in told


MAY_BE_ABSENT = ("chat", "vision_chat", "judge_chat", "train.early_stop")
"""Sections that are None where nobody gives them."""


@pytest.mark.parametrize("run", ["kitchen", "maths"])
def test_a_run_folder_that_lists_every_key_can_still_be_opened(run: str, tmp_path: Path) -> None:
    config = parse_config(RUNS[run], source="run.yaml")
    saved = tmp_path / "config.yaml"
    every = RUNS[run]
    for key, field in FIELDS.items():
        if not key.startswith((*MAY_BE_ABSENT, "train.arms", "teacher.faults", "evaluate.splits", *DECIDES)):
            default = field.get_default(call_default_factory=True, validated_data={"base": config.student.base})
            every = with_setting(every, key, default) if "hub" not in key else every
    saved.write_text(json.dumps({**every, "vision_chat": None}))
    assert load_saved(saved) == config
    with pytest.raises(ConfigError, match=r"data\.gym\.train.* read by data\.dataset: gym only"):
        load_config(saved)


def test_the_resolved_config_holds_what_the_run_reads_and_nothing_else() -> None:
    config = parse_config(RUNS["maths"], source="run.yaml")
    shown = dump_config(config)
    assert not unread_keys(config)
    assert "granularity" in shown and "frames" not in shown and "max_calls" not in shown and "own_chains" not in shown


BLOCKS = [
    pytest.param(block, id=f"{path.stem}-{number}")
    for path in sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", path.read_text(), flags=re.DOTALL))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_config_in_the_docs_makes_a_run_of_some_kind(block: str) -> None:
    part = parse_yaml(block, source="docs")
    told = [refusal(merged(raw, part)) for raw in RUNS.values()]
    assert "" in told, min(told, key=len)


def merged(raw: Raw, part: Raw) -> Raw:
    """`raw` with what `part` says."""
    both = {key: merged(raw[key], value) if isinstance(value, dict) and raw.get(key) else value
            for key, value in part.items()}  # fmt: skip
    return {**raw, **both}
