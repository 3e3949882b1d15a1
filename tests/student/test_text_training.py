"""Text students: packed rows change nothing but time, full fine-tuning resumes exactly, no video package is needed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lives import Fault, Lives
from student_kit import assert_same_gradients, first_gradient, read_lines
from text_kit import SIZES, lessons_of, save_text_base, sums, text_config, text_run, text_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from aot.config import RunConfig
from aot.errors import CheckpointError, GuardStop, SourceError
from aot.files.run_folder import RunFolder
from aot.pipeline.commands.plan import students_mb
from aot.records import Lesson
from aot.student.model.loading import load_student
from aot.student.model.lora import add_lora, leave_inputs
from aot.student.rows.collate import Collator
from aot.student.rows.examples import Example, make_examples
from aot.student.rows.packing import PACKABLE, TEXT_PACKABLE, EncodedRow, packed_rows
from aot.student.rows.tokens import Renderer
from aot.student.train.arm import make_trainer, train_arm
from aot.student.train.guards import StopFlag
from aot.student.train.session import open_session
from aot.student.train.trainer import TwoTermTrainer

BLOCKED = ("cv2", "decord", "av", "torchvision", "PIL")
SCRIPT = """
import sys
from pathlib import Path
for name in sys.argv[2].split():
    sys.modules[name] = None
from aot.config import load_config
from aot.files.run_folder import RunFolder
from aot.student.model.loading import load_student
from aot.student.answer.predict import predict
from aot.student.train.arm import train_arm
run = RunFolder(Path(sys.argv[1]))
config = load_config(run.config)
arm = config.train.arms[0]
train_arm(run, config, arm)
load_student(config.student.base, adapter=run.arm(arm.name), config=config.student)
loaded = [name for name in ("video_data.store.shards", "cv2", "decord", "av", "torchvision") if sys.modules.get(name)]
assert not loaded, loaded
"""
FULL = {"tuning": "full", "learning_rate": 0.003}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_base(tmp_path_factory.mktemp("text") / "base")


def trainer_of(root: Path, config: RunConfig) -> TwoTermTrainer:
    session = open_session(text_run(root, config), config, config.train.arms[0])
    return make_trainer(session, stop=StopFlag(), on_step=lambda row: None)


def digests(run: RunFolder) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.arm("all").iterdir()) if path.is_file() and path.name != "training.json"
    }  # fmt: skip


def facts(run: RunFolder) -> dict[str, Any]:
    return dict(json.loads((run.arm("all") / "training.json").read_text()))


def test_packed_rows_give_the_gradient_of_padded_ones(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = first_gradient(trainer_of(tmp_path / "a", text_config(base)), monkeypatch)
    padded = first_gradient(trainer_of(tmp_path / "b", text_config(base, pack_tokens=0)), monkeypatch)
    cut = first_gradient(trainer_of(tmp_path / "c", text_config(base, questions_per_device=3)), monkeypatch)
    assert_same_gradients(packed, padded)
    assert_same_gradients(packed, cut)


@pytest.mark.parametrize("model_type", sorted(TEXT_PACKABLE - PACKABLE))
def test_every_packable_model_type_gives_the_logits_of_padded_rows(model_type: str) -> None:
    tokenizer = text_tokenizer()
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        model_type, **SIZES, vocab_size=len(tokenizer), pad_token_id=0, bos_token_id=1, eos_token_id=4
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    renderer = Renderer(tokenizer)
    lessons = [lesson for question in sums(3) for lesson in lessons_of(question)]
    examples = make_examples(lessons, questions={q.id: q for q in sums(3)}, renderer=renderer, max_tokens=200).examples
    losses = []
    for pack_tokens in (150, 0):
        batch = Collator(renderer, 0, pack_tokens > 0, pack_tokens)(examples)
        own = {key: batch[key] for key in ("input_ids", "attention_mask", "position_ids") if key in batch}
        with torch.no_grad():
            log_probs = model(**own).logits[:, :-1].log_softmax(-1)
        targets = batch["labels"][:, 1:]
        picked = log_probs.gather(-1, targets.clamp(min=0)[..., None])[..., 0][targets != -100]
        losses.append(torch.sort(picked).values)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ["pre", "post", "adaptive"])
def test_an_arm_whose_chains_are_answers_alone_is_not_trained(base: Path, tmp_path: Path, order: str) -> None:
    config = text_config(base, arm={"order": order})
    said = [(q.id, f"Answer: {q.answer}") for q in sums()]
    lessons = {
        "pre": [Lesson(question_id=name, mode="reason", rationale=text) for name, text in said],
        "post": [Lesson(question_id=name, mode="explain", label=f"{text}\n") for name, text in said],
        "adaptive": [Lesson(question_id=name, mode="adaptive", forced="At once.\n", rationale=t) for name, t in said],
    }[order]
    run = text_run(tmp_path / "run", config, lessons=lessons)
    with pytest.raises(GuardStop, match="arm all is to learn rationales, but none of its 12 examples has one"):
        train_arm(run, config, config.train.arms[0])
    assert not (run.arm("all") / "training.json").exists()


def test_a_packed_neighbour_changes_nothing_for_the_others(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    renderer = Renderer(text_tokenizer())
    first, second = EncodedRow((5, 6, 7, 8), (9, 4)), EncodedRow((5, 9, 10), (11, 12))
    other = EncodedRow((13, 14, 15), (16, 17))
    logits = []
    for neighbour in (second, other):
        batch = Collator(renderer, 0, packed=True, pack_tokens=32)([Example("q", (row,)) for row in (first, neighbour)])
        assert batch["input_ids"].shape == (1, 11)
        own = {key: batch[key] for key in ("input_ids", "attention_mask", "position_ids")}
        with torch.no_grad():
            logits.append(model(**own).logits[0])
    assert torch.equal(logits[0][:6], logits[1][:6])
    assert not torch.allclose(logits[0][6:], logits[1][6:])


def test_adapters_that_take_their_inputs_as_they_are_change_no_number_under_autocast(base: Path) -> None:
    ids = torch.arange(5, 21).reshape(2, 8)
    made = []
    for as_they_are in (False, True):
        config = text_config(base)
        torch.manual_seed(0)
        section = config.student.model_copy(update={"dtype": "bfloat16"})
        model = add_lora(load_student(str(base), config=section).model, config.train.lora).model
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0, 0.1)
        if as_they_are:
            leave_inputs(model)
            layer = model.get_submodule("base_model.model.model.layers.0.mlp.down_proj")
            given = torch.ones(2, dtype=torch.bfloat16)
            assert layer._cast_input_dtype(given, torch.float32) is given
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids).logits
        logits.float().square().mean().backward()
        made.append([logits, *(p.grad for _, p in sorted(model.named_parameters()) if p.requires_grad)])
    assert len(made[0]) == 1 + 2 * 2 * 7
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


def test_lessons_are_packed_whole() -> None:
    rows = [EncodedRow((1,) * size, (2,)) for size in (3, 9, 5, 6)]
    packs = packed_rows(rows, pack_tokens=16)
    assert [len(pack.ids) for pack in packs] == [16, 11]
    assert packs[0].positions == (*range(10), *range(6))
    assert packed_rows(rows, pack_tokens=16) == packs


@pytest.mark.parametrize(
    ("sizes", "packed"),
    [
        ((40, 30, 20, 10), [50, 50]),  # beside the longest, and no wider than that needs
        ((40, 8, 8, 8), [64]),  # one pack of 64 positions, and not two of 40
        ((40, 39, 38), [40, 39, 38]),  # a wider one would be half empty
        ((40,), [40]),
        ((16, 9, 9, 5), [21, 18]),  # none is longer than a pack, but they fill more than half of one each
    ],
)
def test_where_lessons_are_long_fewest_positions_are_padded(sizes: tuple[int, ...], packed: list[int]) -> None:
    rows = [EncodedRow((1,) * (size - 1), (2,)) for size in sizes]
    packs = packed_rows(rows, pack_tokens=16)
    assert sorted((len(pack.ids) for pack in packs), reverse=True) == packed
    assert sorted(pack.segments.count(i) for pack in packs for i in set(pack.segments)) == sorted(sizes)


def test_text_arm_learns_and_says_how_it_was_packed(base: Path, tmp_path: Path) -> None:
    config = text_config(base, arm={"max_steps": 30, "learning_rate": 0.02}, save_steps=30)
    run = text_run(tmp_path / "run", config)
    train_arm(run, config, config.train.arms[0])
    rows = read_lines(run.arm("all") / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert rows[-1]["rationale_loss"] < 0.7 * rows[0]["rationale_loss"]
    told = facts(run)
    assert (told["packing"], told["lessons"], told["questions"], told["max_steps"]) == ("packed", 60, 12, 30)
    assert sum(told["length_histogram"].values()) == 60
    load_student(str(base), adapter=run.arm("all"), config=config.student)


@pytest.mark.parametrize(
    ("warmup", "rates"), [(0, [1, 0.75, 0.5, 0.25]), (2, [0.5, 1, 1, 0.5]), (8, [0.125, 0.25, 0.375, 0.5])]
)
def test_the_first_step_learns_at_a_rate_above_zero(
    warmup: int, rates: list[float], base: Path, tmp_path: Path
) -> None:
    config = text_config(base, max_steps=4, save_steps=4, warmup_steps=warmup, learning_rate=0.02)
    run = text_run(tmp_path / "run", config)
    train_arm(run, config, config.train.arms[0])
    rows = read_lines(run.arm("all") / "metrics.jsonl")
    assert [row["lr"] for row in rows] == pytest.approx([0.02 * rate for rate in rates])


def test_unknown_model_types_and_zero_pack_tokens_are_padded_and_say_why(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    padded = text_config(base, pack_tokens=0)
    run = text_run(tmp_path / "a", padded)
    open_session(run, padded, padded.train.arms[0])
    assert facts(run)["packing"] == "padded (train.pack_tokens is 0)"
    monkeypatch.setattr("aot.student.train.session.TEXT_PACKABLE", frozenset())
    config = text_config(base)
    run = text_run(tmp_path / "b", config)
    open_session(run, config, config.train.arms[0])
    assert facts(run)["packing"].startswith("padded (model type llama")


def test_missing_and_useless_lessons_are_errors_that_say_so(base: Path, tmp_path: Path) -> None:
    config = text_config(base)
    run = text_run(tmp_path / "run", config, lessons=[])
    with pytest.raises(SourceError, match="none of the 0 lessons"):
        open_session(run, config, config.train.arms[0])
    (run.arm("all") / "lessons.jsonl").unlink()
    with pytest.raises(SourceError, match="run the earlier stages first"):
        open_session(run, config, config.train.arms[0])


@pytest.mark.parametrize("arm", [{}, FULL], ids=["lora", "full"])
def test_kill_9_and_rerun_end_with_the_same_bytes(
    arm: dict[str, Any], base: Path, lives: Lives, tmp_path: Path
) -> None:
    config = text_config(base, arm=arm)
    runs = [text_run(tmp_path / name, config) for name in ("whole", "killed")]
    train_arm(runs[0], config, config.train.arms[0])
    killed = lives.live(runs[1].root, "all", faults=(Fault(4, "SIGKILL"),))
    assert killed.codes == (-signal.SIGKILL,), killed.log
    train_arm(runs[1], config, config.train.arms[0])
    assert digests(runs[1]) == digests(runs[0])


def test_full_fine_tuning_trains_every_weight_and_loads_under_the_same_contract(base: Path, tmp_path: Path) -> None:
    config = text_config(base, arm=FULL)
    run = text_run(tmp_path / "run", config)
    train_arm(run, config, config.train.arms[0])
    assert facts(run)["trainable_share"] == 1.0
    before = load_student(str(base), config=config.student).model.state_dict()
    after = load_student(str(base), adapter=run.arm("all"), config=config.student).model.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    weights = run.arm("all") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_student(str(base), adapter=run.arm("all"), config=config.student)


@pytest.mark.parametrize("tuning", ["lora", "full"])
@pytest.mark.parametrize("save_steps", [2, 4])
def test_the_planned_disk_is_what_training_takes(tuning: str, save_steps: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = text_tokenizer()
    wide = {"hidden_size": 192, "intermediate_size": 512, "tie_word_embeddings": tuning == "full"}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**{**SIZES, **wide}, vocab_size=len(tokenizer)))
    model.save_pretrained(tmp_path / "base", max_shard_size="1MB")
    tokenizer.save_pretrained(tmp_path / "base")
    arm = {"order": "pre", **(FULL if tuning == "full" else {})}
    lora = {} if tuning == "full" else {"lora": {"rank": 64, "alpha": 8}}
    config = text_config(tmp_path / "base", arm=arm, max_steps=6, save_steps=save_steps, **lora)
    run = text_run(tmp_path / "run", config)
    train_arm(run, config, config.train.arms[0])
    taken = sum(path.stat().st_size for path in run.arm("all").rglob("*") if path.is_file())
    checkpoint = sum(p.stat().st_size for p in run.arm("all").glob("checkpoints/checkpoint-6/*"))
    extra = checkpoint if save_steps == 2 else 0  # the third is whole before the first goes
    assert taken > 1e6 and students_mb(config) == pytest.approx((taken + extra) / 1e6, rel=0.1)


def test_text_student_needs_no_video_package(base: Path, tmp_path: Path) -> None:
    config = text_config(base, max_steps=2)
    run = text_run(tmp_path / "run", config)
    arguments = [sys.executable, "-c", SCRIPT, str(run.root), " ".join(BLOCKED)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_text_base_without_processor_files_is_enough_and_images_need_them(base: Path, tmp_path: Path) -> None:
    assert not any(base.glob("*processor*"))
    student = load_student(str(base), config=text_config(base).student)
    assert not student.renderer.takes_images
    from student_kit import make_run, run_config

    video = run_config(base)
    with pytest.raises(CheckpointError, match="takes no images"):
        train_arm(make_run(tmp_path / "video", video), video, video.train.arms[0])


@pytest.mark.slow
def test_two_processes_follow_one_process(base: Path, tmp_path: Path) -> None:
    configs = [text_config(base, questions_per_device=2, procs=procs) for procs in (1, 2)]
    rows = []
    for procs, config in enumerate(configs, start=1):
        arm = config.train.arms[0].model_copy(update={"name": "all/fold0"})
        run = text_run(tmp_path / str(procs), config)
        run.arm(arm.name).mkdir()
        (run.arm(arm.name) / "lessons.jsonl").write_bytes((run.arm("all") / "lessons.jsonl").read_bytes())
        train_arm(run, config, arm)
        rows.append(read_lines(run.arm(arm.name) / "metrics.jsonl"))
    assert os.environ.get("WORLD_SIZE") is None
    for one, two in zip(*rows, strict=True):
        assert two["label_tokens"] == one["label_tokens"]
        assert two["loss"] == pytest.approx(one["loss"], rel=2e-3)
