"""The contract of an export: its schema, its versions, its files, and what changes its digest."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from aot.errors import CheckpointError
from aot.served_records import CONTRACT_VERSION
from aot.serving.contract import contract_schema, publish_contract, read_contract

SCHEMA = Path(__file__).parents[2] / "docs" / "student_contract.schema.json"


@pytest.fixture
def folder(text_export: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(text_export, tmp_path / "export"))


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "contract.json"
    row = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in row.items() if value is not ...}))


def test_the_published_schema_is_that_of_the_record() -> None:
    assert SCHEMA.read_text() == contract_schema(), "python -m aot.serving.contract > docs/student_contract.schema.json"


def test_contracts_of_exports_fit_the_published_schema(text_export: Path, video_export: Path) -> None:
    validator = pytest.importorskip("jsonschema_rs").validator_for(json.loads(SCHEMA.read_text()))
    for export in (text_export, video_export):
        row = json.loads((export / "contract.json").read_text())
        validator.validate(row)
        assert not validator.is_valid({**row, "max_tokens": "many"})
        validator.validate({**row, **NESTED, "version": "1.9", "later": 1})


def test_an_unknown_major_version_is_refused(folder: Path) -> None:
    for version in ("2.0", "0.9", "10.0", "", None):
        rewrite(folder, version=version)
        with pytest.raises(CheckpointError, match=r"has contract version .*1\.x can be read here"):
            read_contract(folder)


def test_newer_and_older_minor_versions_are_read(folder: Path) -> None:
    rewrite(folder, version="1.9", new_in_1_9={"anything": 1}, latency=..., proof=..., variants=..., labels=...)
    contract = read_contract(folder)
    assert (contract.version, contract.labels, contract.proof) == ("1.9", (), None)


NESTED: dict[str, Any] = {
    "frames": {"num_frames": 8, "stored_fps": 3.0, "max_side_px": 480, "later": 1},
    "latency": [{"mode": "direct", "p50_s": 1, "p95_s": 1, "p99_s": 1, "n": 1, "machine": "m", "later": {"a": [1]}}],
    "proof": {"questions": 1, "replies": 1, "same_replies": 1, "decided": 0, "largest_gap": 0.0,
              "largest_token_gap": 0.0, "later": None},
    "calibration": {
        "temperatures": [{"kind": "*", "temperature": 2.0, "n": 9, "later": 1}], "source": "s", "questions_digest": "d",
        "n": 9, "ece_before": 0, "ece_after": 0, "brier_before": 0, "brier_after": 0, "later": "x",
        "watches": [{"mode": "decide", "words": [], "features": [
            {"name": "length", "edges": [], "counts": [1], "later": 1}, {"name": "w", "edges": [], "counts": [2]}]}],
    },
}  # fmt: skip


def with_new_fields(folder: Path, version: str) -> None:
    """Give a contract fields that nobody knows yet, in every kind of record that it holds."""
    files = [{**one, "later": True} for one in json.loads((folder / "contract.json").read_text())["files"]]
    rewrite(folder, version=version, files=files, later=1, **NESTED)


def test_a_newer_minor_version_may_say_more_in_every_record(folder: Path) -> None:
    with_new_fields(folder, "1.9")
    contract = read_contract(folder)
    assert contract.version == "1.9" and contract.frames and contract.frames.num_frames == 8
    assert contract.calibration and contract.calibration.temperature("sum") == 2.0
    assert [one.counts for one in contract.calibration.watches[0].features] == [(1,), (2,)]
    written = publish_contract(folder, contract)
    assert read_contract(folder) == written and written.version == CONTRACT_VERSION  # as much as it says now


@pytest.mark.parametrize("place", ["later", "frames", "latency", "proof", "calibration"])
def test_an_unknown_field_of_a_version_that_is_known_is_refused(place: str, folder: Path) -> None:
    rewrite(folder, version=CONTRACT_VERSION, **{place: NESTED.get(place, 1)})
    with pytest.raises(CheckpointError, match=r"Extra inputs are not permitted at \(.*'later'"):
        read_contract(folder)


def test_a_newer_version_must_still_be_right_in_what_is_known(folder: Path) -> None:
    with_new_fields(folder, "1.9")
    rewrite(folder, max_tokens="many")
    with pytest.raises(CheckpointError, match="max_tokens"):
        read_contract(folder)


def test_a_missing_an_altered_and_a_stray_file_are_refused_by_name(folder: Path) -> None:
    (folder / "modeling.py").write_text("raise SystemExit")
    with pytest.raises(CheckpointError, match=r"modeling.py does not belong to the export"):
        read_contract(folder)
    (folder / "modeling.py").unlink()
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    with pytest.raises(CheckpointError, match=r"chat_template.jinja was altered after the export"):
        read_contract(folder)
    template.unlink()
    with pytest.raises(CheckpointError, match=r"chat_template.jinja is missing"):
        read_contract(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / "model.safetensors"
    weights.rename(tmp_path / "elsewhere.safetensors")
    weights.symlink_to(tmp_path / "elsewhere.safetensors")  # with the right content, today
    with pytest.raises(CheckpointError, match=r"model.safetensors is a link out of the export"):
        read_contract(folder)
    weights.unlink()
    (tmp_path / "elsewhere.safetensors").rename(weights)
    (folder / "more").symlink_to(tmp_path)
    with pytest.raises(CheckpointError, match="more is a link out of the export"):
        read_contract(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": "1.0", "files": []}', "[" * 100_000])
def test_a_damaged_contract_is_told_in_one_line(text: str, folder: Path) -> None:
    (folder / "contract.json").write_text(text)
    with pytest.raises(CheckpointError) as error:
        read_contract(folder)
    assert "contract.json" in str(error.value) or "is an arm of a run" in str(error.value)


@pytest.mark.parametrize(
    "change",
    [{"labels": ("a", "b")}, {"template_hash": "0" * 16}, {"max_rationale_tokens": 1}, {"max_answer_tokens": 1},
     {"max_tokens": 99}, {"quantised": "int8"}, {"thought_confidence": 0.9}, {"modes": ("reason",)}, {"files": ()}],
)  # fmt: skip
def test_what_shapes_an_answer_changes_the_digest(change: dict[str, Any], text_export: Path) -> None:
    contract = read_contract(text_export)
    assert contract.model_copy(update=change).digest() != contract.digest()


def test_what_shapes_no_answer_leaves_the_digest_as_it_is(text_export: Path) -> None:
    contract = read_contract(text_export)
    change = {"name": "x", "latency": (), "licences": {"base": "mit"}, "limits": ("Small.",)}
    assert contract.model_copy(update=change).digest() == contract.digest()


def test_a_contract_of_another_template_is_refused_when_the_student_is_loaded(folder: Path) -> None:
    from aot import load_student

    contract = read_contract(folder)
    publish_contract(folder, contract.model_copy(update={"template_hash": "0" * 16}))
    with pytest.raises(CheckpointError, match="promises prompts of template 0000000000000000"):
        load_student(folder)
