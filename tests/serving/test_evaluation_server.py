"""An evaluation that asks a server: proved alike first, refused where it serves another model, or is not there."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from export_kit import trained_text_run, trained_video_run
from serving_kit import export_student, running

from aot.config import RunConfig, load_saved, parse_config
from aot.errors import ConfigError, GuardStop
from aot.files.run_folder import RunFolder, read_rows
from aot.pipeline.evaluate import evaluate
from aot.records import Prediction
from aot.served_records import ServerProofs
from aot.serving.server.limits import Limits
from aot.serving.server.served import serve_export
from aot.student.model.loading import load_student


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of sums whose arm `all` was trained; nothing was evaluated yet."""
    return trained_text_run(tmp_path_factory.mktemp("evaluated"), order="pre", max_steps=12)


@pytest.fixture(scope="module")
def servers(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The base and the arm, each exported and behind a server of its own: name to address."""
    config, root = load_saved(run.config), tmp_path_factory.mktemp("exports")
    folders = {}
    for name, adapter in (("base", None), ("all", run.arm("all"))):
        student = load_student(config.student.base, adapter=adapter, config=config.student)
        folders[name] = export_student(student, config.student.base, root / name, name=name)
    with (
        running(serve_export(folders["base"], limits=Limits())) as base,
        running(serve_export(folders["all"], limits=Limits())) as arm,
    ):
        yield {"base": base, "all": arm}


def config_of(run: RunFolder, **evaluation: object) -> RunConfig:
    raw = load_saved(run.config).model_dump(mode="json", exclude_unset=True)
    splits = {"splits": ["test"], "bootstrap_samples": 100}
    return parse_config({**raw, "evaluate": {**splits, **evaluation}}, source="test")


def evaluated(run: RunFolder, out: Path, **evaluation: object) -> RunFolder:
    """A copy of the run, evaluated with these settings."""
    copy = RunFolder(Path(shutil.copytree(run.root, out)))
    evaluate(copy, config_of(run, **evaluation), lambda done, total: None)
    return copy


def test_a_server_gives_the_predictions_of_the_engine_here_and_they_name_it(
    run: RunFolder, servers: dict[str, str], tmp_path: Path
) -> None:
    here = evaluated(run, tmp_path / "here")
    there = evaluated(run, tmp_path / "there", engine="server", server={"base_urls": servers, "probe_questions": 4})
    for path in sorted(here.predictions.glob("*.jsonl")):
        ours, theirs = (list(read_rows(one.predictions / path.name, Prediction)) for one in (here, there))
        assert [row.question_id for row in ours] == [row.question_id for row in theirs]
        assert [(row.raw_text, row.answer) for row in ours] == [(row.raw_text, row.answer) for row in theirs]
        assert {row.engine for row in ours} == {""}
        if "teacher" not in path.name:
            arm = path.name.partition("-")[0]
            assert {row.engine for row in theirs} == {f"server:{arm}"}
            assert [row.completion_tokens for row in ours] == [row.completion_tokens for row in theirs]
    proofs = ServerProofs.model_validate_json(there.server_proofs("0").read_text()).proofs
    assert [(one.arm, one.model, one.same, one.replies) for one in proofs] == [
        ("base", "base", 8, 8), ("all", "all", 4, 4),
    ]  # fmt: skip


def test_frames_and_choices_are_shown_to_a_server_and_what_it_cannot_do_is_left_out_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = trained_video_run(tmp_path / "made")
    config = load_saved(run.config)
    one_arm = config.train.arms[1].model_dump(mode="json", exclude_unset=True)
    settings = {"splits": ["test"], "bootstrap_samples": 100}
    raw = {**config.model_dump(mode="json", exclude_unset=True), "train": {"arms": [one_arm]}}
    exports = {"base": None, "distilled": run.arm("distilled")}
    urls = {}
    with ExitStack() as stack:
        for name, adapter in exports.items():
            student = load_student(config.student.base, adapter=adapter, config=config.student)
            folder = export_student(student, config.student.base, tmp_path / name, name=name)
            urls[name] = stack.enter_context(running(serve_export(folder, limits=Limits())))
        there = RunFolder(Path(shutil.copytree(run.root, tmp_path / "there")))
        behind = {**settings, "engine": "server", "server": {"base_urls": urls, "probe_questions": 4}}
        evaluate(there, parse_config({**raw, "evaluate": behind}, source="t"), lambda done, total: None)
    assert "mode likelihood is left out of: base, distilled" in caplog.text
    evaluate(run, parse_config({**raw, "evaluate": settings}, source="t"), lambda done, total: None)
    names = {path.name for path in there.predictions.glob("*.jsonl") if path.name.startswith(("base-", "distilled"))}
    assert len(names) == 5
    for name in names:
        ours, theirs = (list(read_rows(one / name, Prediction)) for one in (run.predictions, there.predictions))
        assert [(row.raw_text.split(), row.answer) for row in ours] == [
            (row.raw_text.split(), row.answer) for row in theirs
        ]
        assert [row.prompt_tokens for row in ours] == [row.prompt_tokens for row in theirs]


def test_a_server_that_serves_the_base_under_the_name_of_an_arm_is_refused(
    run: RunFolder, servers: dict[str, str], tmp_path: Path
) -> None:
    swapped = {"base": servers["base"], "all": servers["base"]}
    names = {"all": "base"}
    with pytest.raises(ConfigError, match=r"model 'base' is not all as the engine here has it: \d of 6") as refused:
        evaluated(run, tmp_path / "run", engine="server", server={"base_urls": swapped, "models": names})
    assert refused.value.exit_code == 2 and "at least 95% must be; the first that differs is" in str(refused.value)
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert not list((tmp_path / "run" / "predictions").glob("*.jsonl"))


def test_a_server_that_is_not_there_is_told_before_anything_is_asked(run: RunFolder, tmp_path: Path) -> None:
    nobody = {"base_url": "http://127.0.0.1:9/v1", "max_attempts": 1, "deadline_s": 2}
    with pytest.raises((ConfigError, GuardStop), match=r"127\.0\.0\.1:9"):
        evaluated(run, tmp_path / "run", engine="server", server=nobody)
