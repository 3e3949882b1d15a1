import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aot.config import (
    RESERVED_ARMS,
    RunConfig,
    TextRun,
    VideoRun,
    differing_keys,
    dump_config,
    load_config,
    parse_config,
)
from aot.errors import ConfigError
from aot.evaluation.baselines import BASELINES
from aot.pipeline.commands.plan import plan_lines

MINIMAL = "data: {dataset: toy_kitchen}\n"
TEXT = (
    "data: {dataset: toy_math}\nteacher: {planner: procedural}\nstudent: {base: tiny-text}\n"
    "train: {arms: [{name: a, order: pre}]}\n"
)
SHIPPED = sorted(
    path for path in (Path(__file__).parents[1] / "configs").glob("*/*.yaml") if path.parent.name != "serving"
)


def write(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text)
    return path


def known_keys(config: RunConfig) -> list[tuple[str, ...]]:
    keys: list[tuple[str, ...]] = []

    def walk(node: dict, prefix: tuple[str, ...]) -> None:
        for key, value in node.items():
            keys.append((*prefix, key))
            if isinstance(value, dict):
                walk(value, (*prefix, key))

    walk(config.model_dump(mode="json"), ())
    return keys


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path: Path) -> None:
    assert isinstance(load_config(path), {"video": VideoRun, "text": TextRun}[path.parent.name])


SAMPLES = Path(__file__).parents[2] / "shared" / "data"
NEEDS = {
    "real_clips": ("clips", "data.root"), "chat_clips": ("clips", "data.root"),
    "chat_clips_server": ("clips", "data.root"), "chat_math": ("annotations/gsm8k_train.jsonl", "data.files.train"),
}  # fmt: skip
"""Shipped configs about data that are not: where a sample of them may lie, and the key that says so."""

ELSEWHERE = ("coin", "crosstask", "gsm8k_", "math_", "nextqa", "smollm2_", "youcook2")
"""Beginnings of the names of shipped configs about published data sets or models, whose files are nowhere here."""


@pytest.mark.parametrize(
    "path", [path for path in SHIPPED if not path.stem.startswith(ELSEWHERE)], ids=lambda path: path.stem
)
def test_every_shipped_config_can_be_planned_where_its_data_are(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x" * 20)
    given = [f"run.dir={tmp_path / 'run'}"]
    if path.stem in NEEDS:
        name, key = NEEDS[path.stem]
        if not (SAMPLES / name).exists():
            pytest.skip(f"there is no {SAMPLES / name}")
        given += [f"{key}={SAMPLES / name}"] + ["data.files.test=null"] * (key == "data.files.train")
    lines = plan_lines(load_config(path, overrides=tuple(given)), config_path=path)
    assert lines[-1] == "nothing was started" and not (tmp_path / "run").exists()


def test_every_misspelt_key_is_refused_with_the_right_suggestion() -> None:
    base = parse_config({"data": {"dataset": "toy_kitchen"}}, source="test")
    for key in known_keys(base):
        raw: dict = {"data": {"dataset": "toy_kitchen"}}
        node = raw
        for name in key[:-1]:
            node = node.setdefault(name, {})
        node[key[-1] + "x"] = 1
        with pytest.raises(ConfigError, match=f"did you mean {'[.]'.join(key)}[?]"):
            parse_config(raw, source="test")


def each_key_misspelt(node: Any) -> Iterator[tuple[str, Any]]:
    """Every key of some YAML, and that YAML with the key's second letter left out."""
    for place, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if place == "leave_out":  # its keys are tags of the data
            continue
        if isinstance(node, dict):
            yield place, {key[:1] + key[2:] if key == place else key: value for key, value in node.items()}
        for key, changed in each_key_misspelt(child):
            yield (
                key,
                {**node, place: changed} if isinstance(node, dict) else node[:place] + [changed, *node[place + 1 :]],
            )


@pytest.mark.parametrize("name", ["video/toy_kitchen.yaml", "text/tiny_math.yaml"])
def test_each_key_of_a_sample_config_misspelt_in_turn_ends_with_exit_code_2_and_a_suggestion(name: str) -> None:
    sample = yaml.safe_load((Path(__file__).parents[1] / "configs" / name).read_text())
    misspelt = list(each_key_misspelt(sample))
    assert len(misspelt) >= 30
    for key, raw in misspelt:
        with pytest.raises(ConfigError) as refused:
            parse_config(raw, source=name)
        assert refused.value.exit_code == 2
        assert re.search(rf"did you mean ([\w.\[\]]+[.])?{key}[?]", str(refused.value)), (key, refused.value)


def test_override_changes_a_nested_value(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL), overrides=("train.max_steps=7", "train.lora.rank=4"))
    assert (config.train.max_steps, config.train.lora.rank) == (7, 4)


@pytest.mark.parametrize("override", ["train.max_steps", "=3", "seed.x=1", "train.max_steps=[", "train.max_steps=many"])
def test_malformed_override_is_told(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError):
        load_config(write(tmp_path, MINIMAL), overrides=("seed=0", override))


@pytest.mark.parametrize("text", ["", "[1, 2]", "data: {dataset: [", "data: {dataset: elsewhere}\n", "\x00"])
def test_unreadable_config_is_a_config_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load_config(write(tmp_path, text))


def test_missing_config_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_resolved_config_round_trips(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL), overrides=("teacher.faults={rate: 0.2}",))
    assert load_config(write(tmp_path, dump_config(config))) == config


@pytest.mark.parametrize(
    ("base", "caps"), [("tiny-text", (24, 160)), ("models/smollm", (128, 1024)), ("org/name", (128, 1024))]
)
def test_caps_on_replies_follow_the_base(tmp_path: Path, base: str, caps: tuple[int, int]) -> None:
    path = write(tmp_path, TEXT)
    student = load_config(path, overrides=(f"student.base={base}",)).student
    assert (student.max_answer_tokens, student.max_rationale_tokens) == caps
    given = load_config(path, overrides=(f"student.base={base}", "student.max_answer_tokens=7")).student
    assert (given.max_answer_tokens, given.max_rationale_tokens) == (7, caps[1])


def test_the_embedded_video_base_keeps_its_caps(tmp_path: Path) -> None:
    student = load_config(write(tmp_path, MINIMAL)).student
    assert (student.max_answer_tokens, student.max_rationale_tokens) == (24, 160)


def test_only_result_changing_settings_differ(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    old = load_config(path)
    new = load_config(path, overrides=("teacher.workers=9", "train.max_steps=3"))
    assert differing_keys(old, new) == {"train.max_steps": (240, 3)}
    assert old.digest() != new.digest()


def test_the_word_off_is_understood_without_quotes(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path, MINIMAL), overrides=("teacher.tools.recognise_action=off", "teacher.tools.find_moments=no")
    )
    assert (config.teacher.tools.recognise_action, config.teacher.tools.find_moments) == ("off", "off")
    text = load_config(write(tmp_path, TEXT), overrides=("filter.strict_flow=on",))
    assert text.filter.strict_flow == "on"
    with pytest.raises(ConfigError, match=r"teacher\.tools\.ask"):
        load_config(write(tmp_path, MINIMAL), overrides=("teacher.tools.ask=on",))


def test_two_arms_of_one_name_are_refused(tmp_path: Path) -> None:
    arms = "train: {arms: [{name: a, rationale_weight: 0}, {name: a, rationale_weight: 1}]}\n"
    with pytest.raises(ConfigError, match="different names"):
        load_config(write(tmp_path, MINIMAL + arms))


@pytest.mark.parametrize("given", [("seed=1", "seed=1"), ("train.max_steps=2", "train={max_steps: 3}"),
                                   ("train={max_steps: 3}", "train.max_steps=2"),
                                   ("train={}", "seed=0", "train.max_steps=2", "train={}")])  # fmt: skip
def test_a_key_given_twice_on_the_command_line_is_refused(tmp_path: Path, given: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"(seed|train|train\.max_steps \(once in train\)) is given twice"):
        load_config(write(tmp_path, MINIMAL), overrides=given)
    load_config(write(tmp_path, MINIMAL), overrides=("train.max_steps=2", "train.save_steps=2", "seed=1"))
    load_config(write(tmp_path, MINIMAL), overrides=("train={max_steps: 2, lora: {rank: 2}}", "train.lora.alpha=4"))


def test_a_dotted_key_in_a_file_is_told_how_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"write `max_steps:` indented under `train:`"):
        load_config(write(tmp_path, MINIMAL + "train.max_steps: 3\n"))


def test_no_baseline_name_is_free_for_an_arm() -> None:
    assert set(BASELINES) | {"base", "teacher"} == set(RESERVED_ARMS)


@pytest.mark.parametrize("name", [*RESERVED_ARMS, "distilled_no_frames", ".", "..", ".hidden", "a/b", ""])
def test_an_arm_name_that_would_collide_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.arms"):
        load_config(write(tmp_path, MINIMAL), overrides=(f"train.arms=[{{name: '{name}', rationale_weight: 1}}]",))


@pytest.mark.parametrize(
    "setting",
    ["frames.fps=.inf", "frames.fps=.nan", "frames.fps=0", "frames.max_pixels=0", "frames.max_duration_s=-1"]
    + ["filter.time_tolerance_s=.nan", "filter.time_tolerance_s=-0.1", "filter.max_words=0", "evaluate.splits=[]"],
)
def test_a_number_without_sense_is_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=setting.partition("=")[0]):
        load_config(write(tmp_path, MINIMAL), overrides=(setting,))


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone whose config names paths of the clone, and another folder to work in."""
    clone, away = tmp_path / "clone", tmp_path / "away"
    for folder in (clone / "configs", clone / "clips", clone / "student", away / "clips"):
        folder.mkdir(parents=True)
    (clone / "looks.json").touch()
    (clone / "clips" / "questions.jsonl").touch()
    data = "data: {dataset: plain, root: clips}\n"
    write(clone / "configs", data + "student: {base: student}\nteacher: {appearance: looks.json}\n")
    monkeypatch.chdir(away)
    return away


def test_a_path_in_a_config_is_found_from_any_folder(away: Path) -> None:
    clone = away.parent / "clone"
    (away / "clips").rmdir()
    config = load_config(Path("../clone/configs/run.yaml"))
    assert (config.data.root, config.student.base) == (str(clone / "clips"), str(clone / "student"))
    assert config.teacher.appearance == str(clone / "looks.json")
    assert config.data.questions == str(clone / "clips" / "questions.jsonl")


def test_folders_of_models_behind_tools_are_found_from_any_folder_and_other_names_are_left_alone(away: Path) -> None:
    text = (
        "data: {dataset: plain, root: clips}\nchat: {backend: local, model: student}\n"
        "teacher:\n  planner: chat\n  tools: {detect_objects: hf, find_moments: hf}\n"
        "  hf: {detector: student, similarity: owner/name}\n"
    )
    config = load_config(write(away.parent / "clone" / "configs", text))
    found = str(away.parent / "clone" / "student")
    assert (config.teacher.hf.detector, config.teacher.hf.similarity) == (found, "owner/name")
    assert config.chat is not None
    assert config.chat.model == found


def test_the_working_folder_goes_before_the_folder_of_the_config(away: Path) -> None:
    assert load_config(away.parent / "clone" / "configs" / "run.yaml").data.root == str(away / "clips")


def test_a_path_on_the_command_line_is_taken_from_the_working_folder_only(away: Path) -> None:
    (away / "clips").rmdir()
    config = load_config(away.parent / "clone" / "configs" / "run.yaml", overrides=("data.root=clips",))
    assert config.data.root == str(away / "clips")


def test_official_files_are_found_like_any_path_and_beside_the_clips_first(away: Path) -> None:
    path, clone = away.parent / "clone" / "configs" / "run.yaml", away.parent / "clone"
    path.write_text("data: {dataset: coin, annotated: {train: looks.json}}\n")
    assert load_config(path).data.annotated.train == str(clone / "looks.json")
    (away / "looks.json").touch()
    given = "data.annotated.train=looks.json"
    assert load_config(path, overrides=(given,)).data.annotated.train == str(away / "looks.json")
    (clone / "clips" / "looks.json").touch()
    (away / "clips").rmdir()
    assert load_config(
        path, overrides=("data={root: ../clone/clips, dataset: coin}", given)
    ).data.annotated.train == str(clone / "clips" / "looks.json")


def test_a_path_that_begins_with_a_dot_is_taken_from_the_folder_of_its_config_only(away: Path) -> None:
    path = write(away.parent / "clone" / "configs", "data: {dataset: plain, root: ./clips}\n")
    assert load_config(path).data.root == str(path.parent / "clips")
    assert load_config(path, overrides=("data.root=./clips",)).data.root == str(away / "clips")


def test_the_configs_of_the_package_are_there_by_their_names_in_any_folder(away: Path) -> None:
    name = Path("configs/text/tiny_math_tiny.yaml")
    shipped = load_config(name)
    assert shipped == load_config(Path(__file__).parents[1] / name)
    (away / name.parent).mkdir(parents=True)
    (away / name).write_text(MINIMAL)
    assert isinstance(load_config(name), VideoRun)
    with pytest.raises(ConfigError, match="cannot read the config"):
        load_config(Path("configs/../configs/text/tiny_math.yaml"))


def test_names_of_students_and_saved_configs_are_left_alone(away: Path) -> None:
    (away / "tiny-video").mkdir()
    config = load_config(away.parent / "clone" / "configs" / "run.yaml", overrides=("student.base=tiny-video",))
    assert config.student.base == "tiny-video"
    (away / "questions.jsonl").touch()
    assert load_config(write(away, dump_config(config))) == config


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"train": {"arms": [{"name": "a"}]}}, "order of arm a is 'both'"),
        ({"teacher": {"planner": "given"}}, "procedural \\(for toy_math\\)"),
        ({"student": {"base": "tiny-video"}}, "student.base is 'tiny-video'"),
        ({"train": {"arms": [{"name": "a", "order": "post", "chains": "self"}]}}, "go with order pre"),
        (
            {"train": {"arms": [{"name": "a", "order": "adaptive", "chain_share": 0.5}]}},
            "chain_share is read by arms",
        ),
        ({"train": {"arms": [{"name": "a", "order": "pre", "rationale_weight": 0}]}}, "nothing of order pre"),
    ],
)
def test_settings_that_make_no_text_run_are_refused(settings: dict, told: str) -> None:
    text = {
        "data": {"dataset": "toy_math"},
        "teacher": {"planner": "procedural"},
        "student": {"base": "tiny-text"},
        "train": {"arms": [{"name": "a", "order": "pre"}]},
    }
    with pytest.raises(ConfigError, match=told):
        parse_config({**text, **settings}, source="test")
