"""Files that hold nesting without end, numbers beyond all arithmetic or something else: one sentence, no traceback."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aot.chat.scripted import ScriptedChat
from aot.config import parse_config
from aot.errors import AotError
from aot.files.jsonl import parse_json
from aot.files.run_folder import RunFolder, read_rows, read_run_json
from aot.files.seals import check_seals
from aot.files.traces import read_traces, solved_samples
from aot.pipeline.commands.clips import read_annotations
from aot.pipeline.commands.status import status_lines
from aot.records import Trace
from aot.reporting.load import load_run
from aot.student.model.adapter import is_done
from aot.student.model.contract import read_contract
from aot.student.train.checkpoints import read_manifest
from aot.teacher.tools.pixels.appearance import load_appearance

CONFIG = parse_config({"data": {"dataset": "toy_kitchen"}}, source="test")
DEEP = "[" * 200_000
HOSTILE = {
    "deep list": DEEP,
    "deep object": '{"a":' * 200_000,
    "deep inside": '{"stages": ' + DEEP,
    "deep and closed": DEEP + "]" * 200_000,
    "many digits": '{"stages": {"prepare": {"state": "done", "done": ' + "9" * 5000 + "}}}",
    "infinity": '{"stages": {"prepare": {"state": "done", "updated_s": 1e999}}}',
    "NaN": '{"stages": {"prepare": {"state": "done", "updated_s": NaN}}}',
    "number beyond floats": '{"stages": {"prepare": {"state": "running", "updated_s": ' + "9" * 400 + "}}}",
    "text for a number": '{"stages": {"prepare": {"state": "done", "refused": "many"}}}',
    "list for a state": '{"stages": {"prepare": {"state": []}}}',
    "no object": "[]",
    "no JSON": "\x00",
    "empty": "",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_run_json_is_one_sentence(name: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.run_json.write_text(HOSTILE[name])
    looks: list[Callable[[], object]] = [
        lambda: read_run_json(run), lambda: status_lines(tmp_path), lambda: check_seals(run, ("prepare",))
    ]  # fmt: skip
    for look in looks:
        with pytest.raises(AotError, match=r"holds no readable run\.json") as error:
            look()
        assert error.value.exit_code == 2 and len(str(error.value)) < 400 + len(str(tmp_path))


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    return path


READERS: dict[str, Callable[[Path, str], object]] = {
    "metrics.json": lambda folder, text: load_run(RunFolder(write(folder, "metrics.json", text).parent), CONFIG),
    "funnel.json": lambda folder, text: load_run(RunFolder(write(folder, "funnel.json", text).parent), CONFIG),
    "teacher.json": lambda folder, text: load_run(RunFolder(write(folder, "teacher.json", text).parent), CONFIG),
    "curve": lambda folder, text: load_run(
        RunFolder(write(folder, "student/a/metrics.jsonl", text).parents[2]), CONFIG
    ),
    "DONE": lambda folder, text: is_done(write(folder, "DONE", text).parent, config_digest="x"),
    "manifest": lambda folder, text: read_manifest(write(folder, "manifest.json", text).parent),
    "contract": lambda folder, text: read_contract(write(folder, "manifest.json", text).parent),
    "script": lambda folder, text: ScriptedChat(write(folder, "script.jsonl", text), model="m"),
    "appearance": lambda folder, text: load_appearance(write(folder, "card.json", text)),
    "annotations": lambda folder, text: list(read_annotations(write(folder, "rows.jsonl", text))),
    "rows": lambda folder, text: list(read_rows(write(folder, "rows.jsonl", text), Trace)),
    "traces": lambda folder, text: solved_samples(RunFolder(write(folder, "traces/part-0.jsonl", text).parents[1])),
}


@pytest.mark.parametrize("name", ["deep list", "deep object", "deep and closed", "many digits", "infinity", "NaN"])
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_tells_hostile_json_in_a_sentence(reader: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(AotError) as error:
        READERS[reader](tmp_path, HOSTILE[name])
    assert "\n" not in str(error.value) and len(str(error.value)) < 700 + len(str(tmp_path))


def test_a_trace_that_is_none_is_told_with_its_place(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    row = {"id": "q", "dataset": "d", "split": "train", "kind": "k", "text": "2 + 3?", "answer": "5",
           "answer_type": "integer", "group": "q"}  # fmt: skip
    write(tmp_path, "questions.jsonl", json.dumps(row))
    write(tmp_path, "traces/part-0.jsonl", json.dumps({"question_id": "q", "sample_index": 0, "steps": 3}))
    with pytest.raises(AotError, match=r"part-0\.jsonl, byte 0: .*delete that line"):
        list(read_traces(run))


@pytest.mark.parametrize("text", ["1e999", "-1e999", "NaN", "[Infinity]", "9" * 301, DEEP, '{"a":' * 99_999, "{", ""])
def test_strict_json_refuses_what_nothing_can_be_computed_with(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        parse_json(text)


@pytest.mark.parametrize("value", [0, -3, 10**30, 1.5, "x", None, True, [1, {"a": "\u202e"}]])
def test_strict_json_reads_what_this_project_writes(value: object) -> None:
    assert parse_json(json.dumps(value)) == value == parse_json(json.dumps(value).encode())
