"""Loading a student: every missing or foreign file gives an error that names it."""

import json
import shutil
from pathlib import Path

import pytest
from student_kit import make_run, run_config, save_llava

from aot.errors import CheckpointError
from aot.student.model.loading import load_student
from aot.student.train.arm import train_arm
from aot.student.train.checkpoints import write_manifest


@pytest.fixture
def base(bases: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bases["idefics3"], tmp_path / "base"))


@pytest.mark.parametrize(
    ("name", "what"),
    [("tokenizer.json", "tokenizer"), ("config.json", "model configuration"), ("processor_config.json", "processor"),
     ("model.safetensors", "weights")],
)  # fmt: skip
def test_missing_file_is_named(name: str, what: str, base: Path) -> None:
    (base / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no {what}: .*{name}.* is missing"):
        load_student(str(base), config=run_config(base).student)


def test_pickled_weights_are_not_read(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled weights are not read"):
        load_student(str(base), config=run_config(base).student)


def test_truncated_weights_are_an_error_not_a_traceback(base: Path) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_student(str(base), config=run_config(base).student)


def test_folder_that_brings_code_is_refused(base: Path) -> None:
    path = base / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": {"AutoModel": "e.M"}, "model_type": "e"}))
    with pytest.raises(CheckpointError, match="never done"):
        load_student(str(base), config=run_config(base).student)


def test_unknown_base_names_the_embedded_one() -> None:
    with pytest.raises(CheckpointError, match="tiny-video"):
        load_student("no/such/folder", config=run_config(Path("x")).student)


def test_adapter_of_another_base_or_template_is_refused(bases: dict[str, Path], base: Path, tmp_path: Path) -> None:
    config = run_config(bases["idefics3"], max_steps=1)
    run = make_run(tmp_path / "run", config)
    train_arm(run, config, config.train.arms[1])
    adapter = run.arm("distilled")
    template = base / "chat_template.jinja"
    template.write_text(template.read_text().replace("Assistant:", "Answer:"))
    with pytest.raises(CheckpointError, match="learned prompts with template"):
        load_student(str(base), adapter=adapter, config=config.student)
    save_llava(tmp_path / "other")
    with pytest.raises(CheckpointError, match="not on these weights"):
        load_student(str(tmp_path / "other"), adapter=adapter, config=config.student)


def test_adapter_with_a_tensor_too_few_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    config = run_config(bases["idefics3"], max_steps=1)
    run = make_run(tmp_path / "run", config)
    train_arm(run, config, config.train.arms[1])
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in ("adapter_config.json", "contract.json"):
        shutil.copy(run.arm("distilled") / name, folder / name)
    state = load_file(run.arm("distilled") / "adapter_model.safetensors")
    state.pop(sorted(state)[0])
    save_file(state, folder / "adapter_model.safetensors")
    write_manifest(folder, step=1)
    with pytest.raises(CheckpointError, match="missing or unexpected"):
        load_student(str(bases["idefics3"]), adapter=folder, config=config.student)


def test_missing_arm_says_which_stage_to_run(bases: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="run the train stage first"):
        load_student(str(bases["idefics3"]), adapter=tmp_path / "none", config=run_config(bases["idefics3"]).student)
