"""Configs that somebody wrote in order to break something, or by accident: one sentence and exit code 2, at once."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from setting_walk import leaves, plain_kinds

from aot.chat.scripted import ScriptedChat
from aot.config import load_config, parse_config
from aot.config.reading.strict_yaml import MAX_BYTES, MAX_DEPTH, parse_yaml
from aot.errors import ConfigError
from aot.pipeline.commands.plan import plan_lines
from aot.teacher.tools.pixels.appearance import load_appearance

CONFIGS = Path(__file__).parents[1] / "configs"
MINIMAL = "data: {dataset: toy_kitchen}\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
TEXTS: dict[str, tuple[str | bytes, str]] = {
    "alias bomb as a number": (f"{BOMB}seed: *a9\n", "more than 10,000 values"),
    "alias bomb as a list": (f"{BOMB}train: {{arms: *a9}}\n", "more than 10,000 values"),
    "anchor that holds itself": ("seed: &a [*a]\n", "the anchor 'a' holds itself"),
    "python object": ("seed: !!python/object/apply:os.system [id]\n", "the tag"),
    "tag int": ("seed: !!int abc\n", "the tag"),
    "tag float": ("frames: {fps: !!float abc}\n", "the tag"),
    "tag timestamp": ("run: {dir: !!timestamp abc}\n", "the tag"),
    "tag binary": ("run: {dir: !!binary abc}\n", "the tag"),
    "tag set": ("evaluate: {splits: !!set {a, b}}\n", "the tag"),
    "unknown tag": ("seed: !x 1\n", "the tag '!x'"),
    "5,000 digits": (f"seed: {'9' * 5000}\n", "a number of 5,000 characters"),
    "5,000 hexadecimal digits": (f"seed: 0x{'f' * 5000}\n", "a number of 5,002 characters"),
    "5,000 lists in each other": (f"seed: {'[' * 5000}{']' * 5000}\n", f"more than {MAX_DEPTH} deep"),
    "5,000 sections in each other": ("{a: " * 5000, f"more than {MAX_DEPTH} deep"),
    "NUL": (b"run: {dir: a\0b}\n", "U+0000 at position"),
    "NUL in quotes": ('run: {dir: "a\\0b"}\n', "a control character (U+0000)"),
    "escape sequence": ('run: {dir: "\\e]0;x"}\n', "a control character (U+001B)"),
    "half a character": ('run: {dir: "\\ud800"}\n', "half a character"),
    "key that is a number": ("1: 2\n", "a key must be a word"),
    "key that is a switch": ("on: 2\n", "a key must be a word"),
    "key that is a list": ("[a, b]: 2\n", "a key must be a word"),
    "merge key": ("a: &a {fps: 2}\nframes:\n  <<: *a\n", "merge keys"),
    "two documents": ("seed: 1\n---\nseed: 2\n", "found another document"),
    "tab": ("frames:\n\tfps: 1\n", "cannot start any token"),
    "UTF-16": ("seed: 1\n".encode("utf-16"), "it is not UTF-8"),
    "nothing": ("", "got nothing"),
    "a list": ("[1, 2]\n", r"got [1, 2]"),
    "too large": (f"# {'x' * MAX_BYTES}\n", "larger than 100,000 bytes"),
    "key twice": ("seed: 1\nframes: {fps: 1}\nseed: 2\n", "the key 'seed' is given twice, in lines 1 and 3"),
    "key twice further in": ("frames:\n  fps: 1\n  fps: 2\n", "the key 'fps' is given twice, in lines 2 and 3"),
    "section twice": ("train: {max_steps: 1}\ntrain: {procs: 1}\n", "the key 'train' is given twice, in lines 1 and 2"),
    "negative seed": (f"{MINIMAL}seed: -1\n", "seed: must be at least 0, got -1"),
    "endless number": (f"{MINIMAL}frames: {{fps: .inf}}\n", "frames.fps: must be a finite number"),
    "no number": (f"{MINIMAL}frames: {{fps: .nan}}\n", "frames.fps: must be a finite number"),
    "trillion clips": ("data: {dataset: toy_kitchen, toy: {train_clips: 1000000000000}}\n", "must be at most 1000000"),
    "long arm name": (f"{MINIMAL}train: {{arms: [{{name: {'a' * 300}}}]}}\n", "must have at most 100 characters"),
    "long folder name": (f"{MINIMAL}run: {{dir: runs/{'a' * 300}}}\n", "its longest name 300 bytes"),
    "pattern that is open": (f"{MINIMAL}train: {{lora: {{target_pattern: 'q_(proj'}}}}\n", "this is none (missing )"),
    "pattern of a shell": (f"{MINIMAL}train: {{lora: {{target_pattern: '*.q_proj'}}}}\n", "this is none (nothing"),
    "pattern that counts far": (f"{MINIMAL}train: {{lora: {{target_pattern: 'a{{99999999999}}'}}}}\n", "is too large"),
    "pattern of tomorrow": (f"{MINIMAL}train: {{lora: {{target_pattern: '[[a]'}}}}\n", "this is none (Possible"),
    "pattern that is too deep": (
        f"{MINIMAL}train: {{lora: {{target_pattern: '{'(' * 2400}{')' * 2400}'}}}}\n",
        "must be a regular expression",
    ),
    "no such day": (
        f"{MINIMAL}chat: {{model: m, prices: {{date: '2026-02-30', prompt: 1}}}}\n",
        "must be a day of the calendar",
    ),
    "long base name": (f"{MINIMAL}student: {{base: {'a' * 300}}}\n", "its longest name 300 bytes"),
    "thousand bad arms": (f"{MINIMAL}train: {{arms: [{', '.join(['{}'] * 1000)}]}}\n", "and 990 more"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_config_is_one_short_sentence(tmp_path: Path, name: str) -> None:
    text, told = TEXTS[name]
    path = tmp_path / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert told in str(caught.value) and len(str(caught.value)) < 1000 and "\n" not in str(caught.value)
    assert "Pydantic" not in str(caught.value)  # nor of keys that are right


OVERRIDES = {
    "seed=!!python/object:os.system x": "the tag",
    f"seed={'9' * 5000}": "a number of 5,000 characters",
    f"train.arms={'[' * 5000}": f"more than {MAX_DEPTH} deep",
    'run.dir="a\\0b"': "a control character",
    "run.dir=\udcff": "U+DCFF at position",
    "seed=true": "seed: must be a number, got true",
    "train.learning_rate=on": "train.learning_rate: must be a number, got true",
    "train.zero_stage=off": "train.zero_stage: must be a number, got false",
    "seed=010": "010 begins with 0",
    "train.max_steps=-08": "-08 begins with 0",
    "train.arms=[]": "at least one entry",
    "seed=-1": "seed: must be at least 0",
    "seed=1e400": "seed: must be a whole number",
    "frames={fps: 1, fps: 2}": "the key 'fps' is given twice, in lines 1 and 1",
    "train.arms=&a [*a]": "holds itself",
    "a\x1bb=1": "is not of the form",
    f"{'x' * 9000}=1": "unknown key",
    f"run.dir={'a' * 300}": "its longest name 300 bytes",
    "data.toy.train_clips=1000000000000": "must be at most 1000000",
    "train.max_steps=many": "train.max_steps: must be a whole number, got 'many'",
    "frames.fps=[1]": "frames.fps: must be a number, got [1]",
    "filter.judge=perhaps": "filter.judge: must be true or false, got 'perhaps'",
    "teacher.engine=slurm": "teacher.engine: must be 'processes' or 'ray', got 'slurm'",
    "frames=5": "frames: must be a section of `key: value` lines, got 5",
    "run.shard=3/2": "must be i/N with i from 0 to N-1",
    "frames.time_limit_s=1.0e+300": "must be at most 1,000,000,000",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("override", OVERRIDES, ids=lambda text: ascii(text[:30]))
def test_a_hostile_override_is_one_short_sentence(tmp_path: Path, override: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(MINIMAL)
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides=(override,))
    told = str(caught.value)
    assert OVERRIDES[override] in told and len(told) < 1000 and "\n" not in told and "\x1b" not in told


def test_a_date_is_text_and_a_time_is_no_number_of_minutes() -> None:
    assert parse_yaml("{a: 2024-13-45, b: 1:30, c: =}", source="t") == {"a": "2024-13-45", "b": "1:30", "c": "="}


def test_an_anchor_that_stays_small_is_read_and_shares_nothing() -> None:
    read = parse_yaml("a: &a {b: [1]}\nc: *a\n", source="t")
    read["a"]["b"].append(2)
    assert read == {"a": {"b": [1, 2]}, "c": {"b": [1]}}


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["run", "dry run"])
def test_the_command_line_ends_with_exit_code_2_and_one_line(tmp_path: Path, more: tuple[str, ...]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"{BOMB}seed: *a9\n")
    command = [sys.executable, "-m", "aot", "run", str(path), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == [path]


def test_every_number_has_a_lower_bound_and_no_count_may_be_endless() -> None:
    free = {"filter.flow_constants"}
    for key, section, field in leaves():
        kinds = set(plain_kinds(field.annotation))
        if not kinds & {int, float} or key in free:
            continue
        for beyond in (-1e31 if float in kinds else -(10**31), 1e31 if float in kinds else 10**31):
            name = key.rpartition(".")[2]
            with pytest.raises(ValidationError, match=r"must be at most|less than|greater than"):
                section.__pydantic_validator__.validate_assignment(section.model_construct(), name, beyond)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"match": ' + "[" * 200_000, "nested too deeply"),
        ('{"match": "a", "match": "b", "replies": []}', "'match' stands twice"),
        ('{"match": "a", "replies": [], "sample": NaN}', "NaN"),
        ('{"match": "a", "replies": [{"text": 5}]}', "no line of a chat script"),
        (f'{{"match": "a", "sample": {"9" * 5000}, "replies": []}}', "too many digits"),
        ("[1]", "one JSON object"),
    ],
    ids=["deep", "key twice", "NaN", "wrong type", "5,000 digits", "list"],
)
def test_a_hostile_chat_script_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "script.jsonl"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError, match=r"script\.jsonl:1") as caught:
        ScriptedChat(path, model="m")
    assert told in str(caught.value) and len(str(caught.value)) < 500


CARD: dict[str, Any] = {"name": "c", "objects": {"egg": {"rgb": [1, 2, 3]}}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 200_000, "nested too deeply"),
        (json.dumps(CARD).replace('"name": "c"', '"name": "c", "name": "d"'), "'name' stands twice"),
        (json.dumps(CARD).replace("[1, 2, 3]", "[1, 2, NaN]"), "NaN"),
        (json.dumps(CARD).replace("[1, 2, 3]", "[1, 2, 300]"), "objects.egg.rgb.2"),
        (json.dumps({**CARD, "name": "x" * 500_000, "objects": 5}), "objects"),
        ("", "it must be one JSON object"),
    ],
    ids=["deep", "key twice", "NaN", "no colour", "long", "empty"],
)
def test_a_hostile_appearance_card_is_one_short_sentence(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_appearance(path)
    assert told in str(caught.value) and len(str(caught.value)) < 600


def test_a_good_config_is_left_alone() -> None:
    assert parse_config({"data": {"dataset": "toy_kitchen"}}, source="t").seed == 0


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("config", "key", "lines"),
    [
        ("video/toy_kitchen_tiny", "data.toy.train_clips", ("train: 1,000,000 clips, about 5,000,000 questions",)),
        ("text/tiny_math_tiny", "data.math.train", ("train: 1,000,000 questions", "test: 24 questions")),
    ],
)
def test_a_dry_run_of_a_million_counts_by_arithmetic(config: str, key: str, lines: tuple[str, ...]) -> None:
    path = CONFIGS / f"{config}.yaml"
    told = plan_lines(load_config(path, overrides=(f"{key}=1000000",)), config_path=path)
    assert set(lines) <= set(told)


def test_a_dry_run_of_few_counts_exactly_what_it_would_make() -> None:
    path = CONFIGS / "video/toy_kitchen_tiny.yaml"
    assert "train: 32 clips, 160 questions" in plan_lines(load_config(path), config_path=path)
