"""An export is used alone and answers as the arm in its run; one that does not is never left under its name."""

import json
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from export_kit import in_this_process, proof_questions, trained_text_run, trained_video_run
from safetensors.torch import load_file, save_file

from aot import load_student
from aot.config import load_saved
from aot.errors import CheckpointError, GuardStop, RunError
from aot.files.run_folder import RunFolder
from aot.records import Prediction
from aot.served_records import StudentContract
from aot.serving.contract import publish_contract, read_contract
from aot.serving.export import arm, probe, quantise
from aot.serving.export.arm import ExportOptions, cast, export_arm, prove
from aot.serving.export.folder import export_adapter
from aot.serving.export.probe import answers, likeness, probe_modes
from aot.student.model import loading
from aot.student.model.base import stored_dtype


@pytest.fixture(scope="module")
def video_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained_video_run(tmp_path_factory.mktemp("video"))


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained_text_run(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def video(video_run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudentContract]:
    """The arm `distilled`, exported and proved by a process of its own."""
    out = tmp_path_factory.mktemp("exports") / "kitchen"
    return out, export_arm(video_run, "distilled", out)


def arm_student(run: RunFolder, arm: str | None, *, merge: bool = False) -> loading.Student:
    section = load_saved(run.config).student
    return loading.load_student(section.base, adapter=run.arm(arm) if arm else None, config=section, merge=merge)


def said(run: RunFolder, student: loading.Student, modes: Any = ("direct", "reason")) -> list[Prediction]:
    questions = proof_questions(run)
    frames = run.frames if run.frames.exists() else None
    return answers(student, questions, modes=probe_modes(modes, questions), frames=frames, batch_size=4)


def test_a_fresh_process_answers_as_the_arm_and_not_as_its_base(
    video_run: RunFolder, video: tuple[Path, StudentContract]
) -> None:
    proof = video[1].proof
    assert proof is not None and (proof.questions, proof.replies, proof.decided) == (8, 16, 4)
    assert proof.same_replies == 16 and proof.largest_gap <= 1e-3 and proof.cast_same_replies is None
    arm, base = (said(video_run, arm_student(video_run, name)) for name in ("distilled", None))
    assert not likeness(base, arm).is_proof, "six steps of training must show, or the proof proves nothing"


def test_the_contract_says_what_the_student_takes_and_is_made_of(
    video_run: RunFolder, video: tuple[Path, StudentContract]
) -> None:
    contract = read_contract(video[0])
    assert contract == video[1] and (contract.name, contract.arm) == ("kitchen-distilled", "distilled")
    assert contract.labels == ("boil egg", "chop egg", "fry onion", "mix rice", "wash rice")
    assert contract.kinds == ("next_choice", "next_open") and contract.modes == ("direct", "reason")
    assert contract.frames is not None and contract.frames.num_frames == 3
    assert len(contract.adapter_digest) == 16 and contract.licences["student"] == "unknown"
    assert [(row.mode, row.n) for row in contract.latency] == [("direct", 8), ("reason", 8), ("decide", 4)]
    assert all(0 < row.p50_s <= row.p95_s <= row.p99_s for row in contract.latency)
    card = (video[0] / "README.md").read_text()
    assert "16 of 16 greedy replies" in card and "at most" not in card and "no more than 3 frames" in card


def test_no_file_of_an_export_names_a_path_of_this_machine(video: tuple[Path, StudentContract]) -> None:
    texts = [path for path in video[0].iterdir() if path.suffix != ".safetensors" and path.name != "README.md"]
    named = {path.name for path in texts if str(video[0].parent) in path.read_text()}
    assert not named
    json.loads((video[0] / "generation_config.json").read_text())["eos_token_id"]


def test_plain_transformers_writes_the_same_text(video_run: RunFolder, video: tuple[Path, StudentContract]) -> None:
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from aot.student.rows.frames import choose_indices
    from aot.student.rows.prompts import question_message
    from video_data.store.shards import FrameStore

    model, processor = AutoModelForImageTextToText.from_pretrained(video[0]), AutoProcessor.from_pretrained(video[0])
    question, store = proof_questions(video_run)[0], FrameStore(video_run.frames)
    chosen = choose_indices(store, question.media, num_frames=3)
    pictures = [Image.fromarray(frame) for frame in store.frames(chosen.uri, chosen.indices)]
    content: list[dict[str, Any]] = []
    for time_s, picture in zip(chosen.times_s, pictures, strict=True):
        content += [{"type": "text", "text": f"t={time_s:.1f}s"}, {"type": "image", "image": picture}]
    content.append({"type": "text", "text": question_message(question, [], "reason").text})
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True, return_dict=True,
        return_tensors="pt",
    )  # fmt: skip
    ids = model.generate(**inputs, max_new_tokens=40)[0, inputs["input_ids"].shape[1] :]
    ours = next(p for p in said(video_run, arm_student(video_run, "distilled")) if p.mode == "reason")
    assert processor.decode(ids, skip_special_tokens=True).split() == ours.raw_text.split()


def test_prompt_ids_are_those_of_trainer_and_evaluator_in_the_served_student(
    video_run: RunFolder, video: tuple[Path, StudentContract], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aot.records import MediaRef
    from aot.student.answer.batches import prompt_items
    from video_data.store.shards import FrameStore

    question, store = proof_questions(video_run)[0], FrameStore(video_run.frames)
    evaluator = arm_student(video_run, "distilled", merge=True)
    (item,) = prompt_items(evaluator, [question], store=store, mode="reason", with_frames=True)
    assert item.frames is not None
    trainer = evaluator.renderer.encode(
        question, item.frames.times_s, "reason", frame_size_hw=item.frames.size_hw, completion="Answer: x"
    )
    given: list[list[int]] = []
    with load_student(video[0], device="cpu") as served:
        forward = served.student.model.forward
        _ = served.student.habits

        def spy(*, input_ids: torch.Tensor, **inputs: Any) -> Any:
            given.append(input_ids[0].tolist())
            return forward(input_ids=input_ids, **inputs)

        monkeypatch.setattr(served.student.model, "forward", spy)
        media = question.media or MediaRef(uri="none")
        whole, stop_s = store.clip(media.uri), media.end_s or 0.0
        seen = [i for i, time_s in enumerate(whole.times_s) if time_s <= stop_s]
        served.ask(
            question.text, choices=question.choices, frames=list(store.frames(media.uri, item.frames.indices)),
            times_s=item.frames.times_s, mode="reason",
        )  # fmt: skip
    assert seen and given[0] == list(item.row.prompt_ids) == list(trainer.prompt_ids)


@pytest.mark.parametrize("damage", ["weights", "template", "processor"])
def test_a_damaged_export_fails_its_proof_even_where_the_manifest_fits(
    damage: str, video_run: RunFolder, video: tuple[Path, StudentContract], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(video[0], tmp_path / "copy"))
    if damage == "weights":
        state = load_file(folder / "model.safetensors")
        name = next(name for name in state if "down_proj" in name)
        save_file({**state, name: -state[name]}, folder / "model.safetensors", metadata={"format": "pt"})
    elif damage == "template":
        template = folder / "chat_template.jinja"
        template.write_text(template.read_text().replace("Assistant:", "User:"))
    else:
        (folder / "processor_config.json").unlink()
    publish_contract(folder, video[1])
    before = said(video_run, arm_student(video_run, "distilled"))
    with pytest.raises(CheckpointError) as error:
        fresh = in_this_process(folder, proof_questions(video_run), frames=video_run.frames, device="cpu")
        prove(before, before, fresh, bounded=False)
    words = {"weights": "answers otherwise", "template": "template", "processor": "no processor"}
    assert words[damage] in str(error.value)


def test_where_the_proof_fails_nothing_is_left(
    text_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(folder: Path, questions: Any, *, frames: Path | None, device: str) -> list[Prediction]:
        state = load_file(folder / "model.safetensors")
        save_file({k: torch.zeros_like(v) for k, v in state.items()}, folder / "model.safetensors")
        publish_contract(folder, read_contract(folder, check_files=False))
        return in_this_process(
            Path(shutil.copytree(folder, tmp_path / "read")), questions, frames=frames, device=device
        )

    monkeypatch.setattr(arm, "fresh_answers", damaged)
    (tmp_path / "out").mkdir()
    with pytest.raises(CheckpointError, match="no export was made: a fresh process answers otherwise"):
        export_arm(text_run, "all", tmp_path / "out" / "sums")
    assert not list((tmp_path / "out").iterdir())


def test_a_process_that_cannot_load_the_export_says_why_in_one_line(
    text_run: RunFolder, video: tuple[Path, StudentContract], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(video[0], tmp_path / "copy"))
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"a fresh process cannot use the export: .* was altered"):
        probe.fresh_answers(folder, proof_questions(text_run), frames=None, device="cpu")


@pytest.fixture
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_no_half_export(text_run: RunFolder, tmp_path: Path, full_disk: None) -> None:
    with pytest.raises(GuardStop, match="no_space: the disk is full"):
        export_arm(text_run, "all", tmp_path / "sums")
    assert not list(tmp_path.iterdir())


def test_a_signal_leaves_no_half_export_and_what_a_kill_left_is_cleared(
    text_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / ".sums.4194305.part"  # beyond the highest number of a process
    stale.mkdir()

    def interrupted(*arguments: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(arm, "fresh_answers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_arm(text_run, "all", tmp_path / "sums")
    assert not list(tmp_path.iterdir())


def test_what_lies_at_the_place_is_named_and_kept(
    text_run: RunFolder, video: tuple[Path, StudentContract], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="holds kitchen-distilled, another export"):
        export_arm(text_run, "all", video[0])
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="is no folder"):
        export_arm(text_run, "all", tmp_path / "file")
    with pytest.raises(RunError, match="is not empty"):
        export_arm(text_run, "all", tmp_path)


def test_a_cast_rounds_weights_once_and_nothing_that_the_model_computes(text_run: RunFolder) -> None:
    model = arm_student(text_run, "all", merge=True).model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rotations = {name: value.clone() for name, value in model.named_buffers() if name not in before}
    cast(model, torch.bfloat16)
    assert rotations and all(torch.equal(value, rotations[name]) for name, value in model.named_buffers())
    assert all(torch.equal(value, before[name].bfloat16()) for name, value in model.state_dict().items())


def test_a_cast_that_changes_answers_is_refused_with_a_way_out(text_run: RunFolder) -> None:
    arm, base = (said(text_run, arm_student(text_run, name), ("adaptive",)) for name in ("all", None))
    with pytest.raises(CheckpointError, match=r"half precision answer otherwise.*--dtype float32"):
        prove(arm, base, base, bounded=True)


def test_the_stored_type_of_a_base_is_read_from_its_weights(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3), "b": torch.zeros(9, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    assert stored_dtype(str(tmp_path)) == "bfloat16"


def test_the_adapter_alone_is_one_that_peft_reads(text_run: RunFolder, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    count = export_adapter(text_run.arm("all"), tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(load_saved(text_run.config).student.base)
    peft = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    ours = arm_student(text_run, "all").model(input_ids=ids).logits
    assert count == 2 * 14 and torch.allclose(peft(input_ids=ids).logits, ours, atol=1e-5)


def test_a_student_that_was_fine_tuned_as_a_whole_is_exported_and_has_no_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arm, "fresh_answers", in_this_process)
    run = trained_text_run(tmp_path, tuning="full", learning_rate=0.01)
    contract = export_arm(run, "all", tmp_path / "out" / "sums")
    assert contract.proof is not None and contract.proof.same_replies == 6
    with pytest.raises(RunError, match="was fine-tuned as a whole and has no adapter"):
        export_adapter(run.arm("all"), tmp_path / "adapter")


def test_the_untrained_base_is_exported_too_and_half_precision_is_compared_with_floats(
    text_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arm, "fresh_answers", in_this_process)
    monkeypatch.chdir(tmp_path)
    contract = export_arm(text_run, "base", Path(), ExportOptions(dtype="float16", name="plain"))
    assert (contract.dtype, contract.adapter_digest, contract.name) == ("float16", "", "plain")
    assert contract.proof is not None and contract.proof.cast_same_answers == 12
    assert [row.variant for row in contract.variants] == ["float32", "float16"]
    assert "It was not trained." in contract.limits
    assert {value.dtype for value in load_file(tmp_path / "model.safetensors").values()} == {torch.float16}


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_a_quantised_export_loads_in_a_fresh_process_and_says_what_it_costs(
    bits: Any, text_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchao")
    if bits == "int4":  # one process of its own is enough
        monkeypatch.setattr(arm, "fresh_answers", in_this_process)
    out = tmp_path / "out" / "sums"
    contract = export_arm(text_run, "all", out, ExportOptions(quantise=bits))
    assert [row.variant for row in contract.variants] == ["float32", bits] and contract.quantised == bits
    assert contract.variants[1].size_bytes < contract.variants[0].size_bytes and contract.variants[1].accuracy.n == 6
    assert not [path for path in out.iterdir() if path.suffix in (".bin", ".pt", ".pickle")]
    with load_student(out, device="cpu") as served:
        weight = served.student.model.model.layers[0].mlp.down_proj.weight
        assert (
            type(weight).__module__.startswith("torchao") and served.ask("What is 1 + 2 + 2?").usage.completion_tokens
        )


def test_layers_whose_width_no_group_divides_keep_their_weights_and_are_named(
    text_run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("torchao")
    monkeypatch.setattr(quantise, "GROUP", 64)  # the student is 32 wide, and 64 between its two layers of a block
    monkeypatch.setattr(arm, "fresh_answers", in_this_process)
    export_arm(text_run, "all", tmp_path / "out", ExportOptions(quantise="int4", probes=2))
    (line,) = [one.getMessage() for one in caplog.records if "stay as they are" in one.getMessage()]
    assert line.startswith("12 layers") and "q_proj" in line
    with load_student(tmp_path / "out", device="cpu") as served:
        block = served.student.model.model.layers[0]
        assert not type(block.self_attn.q_proj.weight).__module__.startswith("torchao")
        assert type(block.mlp.down_proj.weight).__module__.startswith("torchao")


def test_a_vision_tower_is_quantised_only_where_that_is_asked_for(video: tuple[Path, StudentContract]) -> None:
    pytest.importorskip("torchao")
    from aot.serving.export.quantise import quantised

    make = {"bits": "int8", "dtype": torch.float32, "with_images": True, "device": torch.device("cpu")}
    plain, whole = (quantised(video[0], vision=vision, **make) for vision in (False, True))
    assert plain.layers and all("text_model" in name for name in plain.layers)
    assert any("vision_model" in name for name in whole.layers) and set(plain.layers) < set(whole.layers)
    small = plain.model.model.vision_model.encoder.layers[0].mlp.fc1.weight
    assert not type(small).__module__.startswith("torchao")
