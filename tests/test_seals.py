"""Files that were cut or altered after their stage published them are never read as if they were whole."""

import json
from pathlib import Path

import pytest

from aot import pipeline
from aot.config import RunConfig, load_config
from aot.errors import RunError
from aot.evaluation.groups import odd_rows
from aot.files.run_folder import RunFolder, publish_json, read_run_json, set_stage, stage_done, start_stage
from aot.files.seals import check_seals, publish_once, read_seals
from aot.pipeline import num_refused, run_stages
from aot.pipeline.commands.status import refusal_lines
from aot.records import Prediction, Refusal

CONFIG = Path(__file__).parents[1] / "configs" / "text" / "tiny_math_tiny.yaml"
SMALL = ("data.math={train: 12, test: 4, test_ood: 2}", "evaluate.splits=[test]")
FIRST = ("prepare", "generate", "filter")
SEALED = ("questions.jsonl", "traces/part-0.jsonl", "faults/part-0.jsonl", "teacher.json", "kept.jsonl",
          "verdicts.jsonl", "funnel.json")  # fmt: skip


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return load_config(CONFIG, overrides=(f"run.dir={tmp_path / 'run'}", *SMALL))


def do(config: RunConfig, *stages: str) -> RunFolder:
    return run_stages(config, config_path=CONFIG, command=["test"], stages=stages)[0]


def cut_a_line(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def cut_within_a_line(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def add_a_line(path: Path) -> None:
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[-1])


@pytest.mark.parametrize("damage", [cut_a_line, cut_within_a_line, flip_a_bit, empty, add_a_line])
def test_a_damaged_file_stops_the_next_stage_and_is_named(config: RunConfig, damage: object) -> None:
    run = do(config, *FIRST)
    assert set(SEALED) <= {name for stage in FIRST for name in read_seals(run, stage)}
    for name in SEALED:
        path = run.root / name
        whole = path.read_bytes()
        damage(path)  # type: ignore[operator]
        with pytest.raises(RunError, match=rf"{path.name} .*published .* lines.*delete this file") as told:
            do(config, "train")
        assert str(path) in str(told.value) and not run.arm("pre").exists()
        path.write_bytes(whole)
    check_seals(run, FIRST)


def test_a_damaged_file_of_a_finished_stage_is_not_believed(config: RunConfig) -> None:
    run = do(config, *FIRST)
    cut_a_line(run.kept)
    with pytest.raises(RunError, match=r"kept\.jsonl holds \d+ lines"):
        do(config, *FIRST)


@pytest.mark.parametrize("name", ["questions.jsonl", "kept.jsonl", "funnel.json", "traces/part-0.jsonl"])
def test_a_deleted_file_is_made_anew_and_is_the_same(config: RunConfig, name: str) -> None:
    run = do(config, *FIRST)
    whole = {path: path.read_bytes() for path in (run.questions, run.kept, run.verdicts)}
    (run.root / name).unlink()
    do(config, *FIRST)
    assert {path: path.read_bytes() for path in whole} == whole
    assert all(stage_done(run, stage) for stage in FIRST)


def test_one_deleted_part_of_several_is_noticed(config: RunConfig) -> None:
    run = do(config, "prepare", "generate")
    part = run.traces / "part-0.jsonl"
    rows = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join(rows[:5]))
    (run.traces / "part-1of2.jsonl").write_bytes(b"".join(rows[5:]))
    set_stage(run, "generate", "running", files={})
    do(config, "generate")
    (run.traces / "part-1of2.jsonl").unlink()
    assert not stage_done(run, "generate")
    do(config, "generate")
    assert stage_done(run, "generate") and part.read_bytes().count(b"\n") == len(rows)


def test_a_folder_of_before_seals_is_taken_as_it_is_and_said_so(
    config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    run = do(config, *FIRST)
    data = read_run_json(run)
    for entry in data["stages"].values():
        del entry["files"]
    publish_json(run.run_json, data)
    caplog.set_level("INFO")
    do(config, *FIRST)
    assert [r.message for r in caplog.records if "seals" in r.message] == [
        "prepare, generate, filter: published before files had seals, so they are taken as they are"
    ]


def test_a_run_that_takes_over_stages_takes_their_seals_and_no_damaged_file(config: RunConfig, tmp_path: Path) -> None:
    first = do(config, *FIRST)
    other = config.model_copy(
        update={"run": config.run.model_copy(update={"dir": str(tmp_path / "b"), "reuse": str(first.root)})}
    )
    second = do(other, "prepare")
    assert read_seals(second, "filter") == read_seals(first, "filter")
    cut_a_line(first.questions)
    third = other.model_copy(update={"run": other.run.model_copy(update={"dir": str(tmp_path / "c")})})
    with pytest.raises(RunError, match=r"questions\.jsonl holds"):
        do(third, "prepare")


def test_what_an_interrupted_attempt_published_is_checked_before_it_is_used_again(config: RunConfig) -> None:
    run = do(config, "prepare")
    path = run.arm("pre") / "lessons.jsonl"
    rows = [Refusal(item=str(i), boundary="b", reason="r") for i in range(3)]
    publish_once(path, lambda: rows)
    publish_once(path, lambda: pytest.fail("it is there already"))
    start_stage(run, "train")
    assert read_seals(run, "train")["student/pre/lessons.jsonl"].lines == 3
    cut_a_line(path)
    with pytest.raises(RunError, match=r"lessons\.jsonl holds 2 lines"):
        check_seals(run, ("train",))
    path.unlink()
    assert read_seals(run, "train") == {}
    publish_once(path, lambda: rows[:2])
    check_seals(run, ("train",))


def test_a_broken_seal_beside_a_file_is_told_by_its_name(config: RunConfig) -> None:
    run = do(config, "prepare")
    publish_once(run.arm("pre") / "lessons.jsonl", lambda: [Refusal(item="a", boundary="b", reason="r")])
    (run.arm("pre") / "lessons.seal").write_text("{")
    with pytest.raises(RunError, match=r"lessons\.seal is no seal of lessons\.jsonl"):
        check_seals(run, ("train",))


def test_a_broken_note_of_seals_is_told(config: RunConfig) -> None:
    run = do(config, "prepare")
    set_stage(run, "prepare", "done", files={"questions.jsonl": {"lines": "many"}})
    with pytest.raises(RunError, match=r"run\.json"):
        check_seals(run, ("prepare",))


def answer(question_id: str, arm: str = "pre") -> Prediction:
    return Prediction(question_id=question_id, arm=arm, mode="reason", raw_text="1", answer="1")


def test_missing_doubled_and_unknown_predictions_are_counted() -> None:
    asked = {("pre", "reason"): {"a", "b", "c"}}
    whole = [answer(one) for one in "abc"]
    assert odd_rows(whole, due=asked) == {}
    assert odd_rows([*whole[:2], answer("a"), answer("x")], due=asked) == {"missing": 1, "doubled": 1, "unknown": 1}
    assert odd_rows([answer("a", arm="copy_last")], due=asked) == {"missing": 3}


def test_odd_predictions_end_with_exit_code_3_and_are_told(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    run = do(config, *FIRST)
    odd = {"predictions": 9, "missing": 4, "unknown": 1}
    monkeypatch.setattr(
        pipeline, "stage_function", lambda stage, config, source=None: lambda run, config, progress: odd
    )
    monkeypatch.setattr(pipeline, "_require_earlier", lambda run, stage: None)
    assert run_stages(config, config_path=CONFIG, command=["test"], stages=("evaluate",))[1] == 3
    assert num_refused(run) == 5
    assert any("4 missing (count as wrong); 1 unknown (do not count)" in line for line in refusal_lines(run))


def test_seals_count_lines_and_bytes(config: RunConfig) -> None:
    run = do(config, "prepare")
    seal = json.loads(run.run_json.read_text())["stages"]["prepare"]["files"]["questions.jsonl"]
    assert (seal["lines"], seal["bytes"]) == (run.questions.read_bytes().count(b"\n"), run.questions.stat().st_size)
