"""What verbs print with `--json`: each has a schema that says what its fields mean, and prints what fits it."""

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import typer

from aot.cli import app
from aot.errors import AotError
from aot.pipeline.printed import PRINTED, schema_of

ROOT = Path(__file__).parents[1]
TEXT = "configs/text/tiny_math_tiny.yaml"


def commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def test_every_verb_that_prints_facts_as_json_has_a_schema() -> None:
    prints = [
        name
        for name, command in commands(typer.main.get_command(app))
        if any("--json" in option.opts for option in command.params)
    ]
    assert set(prints) == set(PRINTED)


@pytest.mark.parametrize("verb", PRINTED)
def test_a_schema_is_one_and_says_what_each_part_is(verb: str) -> None:
    schema = schema_of(verb)
    jsonschema_rs.meta.validate(schema)
    parts = list(schema.get("$defs", {}).values()) + ([schema] if "properties" in schema else [])
    for part in (part for part in parts if "properties" in part):
        assert part["description"], part["title"]
    assert any("description" in one for part in parts for one in part.get("properties", {}).values())


def printed(*words: str) -> Any:
    with redirect_stdout(io.StringIO()) as told:
        try:
            app([*words, "--json"], standalone_mode=False)
        except (typer.Exit, AotError) as ended:
            assert ended.exit_code in (2, 3)
    return json.loads(told.getvalue())


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of text that is filtered and not trained."""
    folder = tmp_path_factory.mktemp("printed") / "run"
    for stage in ("prepare", "generate", "filter"):
        app([stage, str(ROOT / TEXT), f"run.dir={folder}", "data.math={train: 24, test: 8, test_ood: 2}"],
            standalone_mode=False)  # fmt: skip
    return str(folder)


@pytest.mark.parametrize(
    "line",
    [
        "status RUN",
        "jobs RUN/config.yaml",
        "plan RUN/config.yaml",
        "plan configs/video/coin_qwen3vl_8b.yaml --device h100",
        "plan RUN/config.yaml student.base=nowhere",
        "run RUN/config.yaml --dry-run run.dir=RUN/none",
        "run RUN/config.yaml --dry-run student.base=nowhere run.dir=RUN/none",
        "doctor",
        "prefetch RUN/config.yaml --dry-run",
        "score RUN/answers.jsonl --questions RUN/questions.jsonl",
    ],
)
def test_what_a_verb_prints_fits_its_schema(line: str, text_run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    Path(text_run, "answers.jsonl").write_text('{"question_id": "toy_math/train/000000", "answer": "7"}\n')
    words = line.replace("RUN", text_run).split()
    jsonschema_rs.validate(schema_of(words[0]), told := printed(*words))
    assert told
