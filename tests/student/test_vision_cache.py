"""Features of frames that are made once: the numbers of a training do not change, and wrong features are never read."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architectures import TINY_TOWERS, frames_of
from safetensors.torch import save
from student_kit import (
    assert_same_gradients,
    first_gradient,
    make_run,
    read_lines,
    run_config,
    write_store,
)

from aot.config import RunConfig
from aot.files.run_folder import RunFolder
from aot.student.model.features import (
    LOOKS_ALONE,
    Block,
    KeptFeatures,
    batches,
    joined,
    read_block,
    sound_blocks,
    tower_key,
    why_not_kept,
    write_block,
)
from aot.student.model.vision import SharedVision
from aot.student.rows.collate import ClipPlan
from aot.student.rows.frames import ChosenFrames
from aot.student.train.arm import make_trainer, train_arm
from aot.student.train.guards import StopFlag
from aot.student.train.session import Session, open_session
from aot.student.train.vision_cache import LOOKS_AGAIN, frame_inputs, frames_seen, needed

FAMILIES = ("idefics3", "llava")
SHORT = {"max_steps": 3, "save_steps": 3}


@pytest.mark.parametrize("model_type", sorted(LOOKS_ALONE))
def test_a_tower_of_these_types_sees_each_frame_by_itself_and_the_model_reads_what_it_made(model_type: str) -> None:
    torch.manual_seed(0)
    model = TINY_TOWERS[model_type]().train()
    vision, frames = SharedVision(model), frames_of(model_type, 4)
    together = vision.look(frames(0, 4), count=4)
    alone = torch.cat([vision.look(frames(i, i + 1), count=1) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    assert (alone[0] - alone[1]).abs().max() > 1e-3
    # Two rows about the first clip of two frames, one about the second.
    tokens, grids = alone.shape[1], frames(0, 4).get("image_grid_thw")
    row = [9, *[model.config.image_token_id] * tokens, 10, *[model.config.image_token_id] * tokens, 11]
    ids = torch.tensor([row, row, row])
    text: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if grids is not None:
        text["image_grid_thw"] = torch.cat([grids[:2], grids[:2], grids[2:]])
        text["mm_token_type_ids"] = (ids == model.config.image_token_id).long()
    vision.plan = ClipPlan((2 * tokens, 2 * tokens), (0, 0, 1), grids)
    seen = model(**{**frames(0, 4), **text}).logits
    vision.plan = replace(vision.plan, made=True)
    read = model(pixel_values=alone.flatten(0, 1), **text).logits
    torch.testing.assert_close(read, seen, rtol=1e-4, atol=1e-5)


def session_of(run: RunFolder, config: RunConfig, *, arm: int = 1) -> Session:
    return open_session(run, config, config.train.arms[arm])


@pytest.fixture(scope="module", params=FAMILIES)
def usual(request: pytest.FixtureRequest, bases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A base, and the losses of its first steps where the tower looks at the frames of each step."""
    root = tmp_path_factory.mktemp("usual") / "run"
    config = run_config(bases[request.param], **SHORT, vision_cache="off")
    run = make_run(root, config)
    train_arm(run, config, config.train.arms[1])
    return bases[request.param], read_lines(run.arm("distilled") / "metrics.jsonl")


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_the_losses_are_those_of_a_tower_that_looks_at_every_step(
    where: str, usual: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, wanted = usual
    looks: list[int] = []
    look = SharedVision.look
    monkeypatch.setattr(SharedVision, "look", lambda self, shown, *, count: looks.append(count) or look(
        self, shown, count=count))  # fmt: skip
    config = run_config(base, **SHORT, vision_cache=where)
    run = make_run(tmp_path / "run", config)
    session = session_of(run, config)
    train_arm(run, config, config.train.arms[1])
    rows = read_lines(run.arm("distilled") / "metrics.jsonl")
    for row, other in zip(rows, wanted, strict=True):
        for key in ("loss", "label_loss", "rationale_loss", "grad_norm"):
            assert row[key] == pytest.approx(other[key], abs=1e-4)
    assert sum(looks) == len(frames_seen(session))
    frame_inputs(session_of(run, config, arm=0))
    assert sum(looks) == len(frames_seen(session)) * (1 if where == "disk" else 2)


def blind(example: Any, image_id: int) -> Any:
    """The same lesson without its frames."""
    rows = tuple(replace(row, prompt_ids=tuple(i for i in row.prompt_ids if i != image_id)) for row in example.rows)
    return replace(example, frames=None, rows=rows)


def half_blind(session: Session) -> Session:
    """Every other example of a session without its frames."""
    image_id = session.student.renderer.image_token_id
    examples = tuple(blind(e, image_id) if i % 2 else e for i, e in enumerate(session.data.examples))
    return replace(session, data=replace(session.data, examples=examples))


def trainer_of(session: Session) -> Any:
    return make_trainer(session, stop=StopFlag(), on_step=lambda row: None)


def test_the_dummy_frame_of_batches_without_frames_changes_no_gradient(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = []
    for name, where in (("dummy", "off"), ("none", "off"), ("features", "memory")):
        config = run_config(bases["idefics3"], questions_per_device=1, vision_cache=where)
        trainer = trainer_of(half_blind(session_of(make_run(tmp_path / name, config), config)))
        if name == "none":
            trainer.data_collator = replace(trainer.data_collator, dummy_size_hw=None)
        rows = []
        collator = trainer.data_collator
        trainer.data_collator = lambda examples: rows.append(batch := collator(examples)) or batch  # noqa: B023
        gradients.append(first_gradient(trainer, monkeypatch))
        dummies = [batch for batch in rows if (batch["labels"] == -100).all(1).any()]
        assert bool(dummies) == (name == "dummy") and len(rows) > 2
    assert_same_gradients(gradients[0], gradients[1])
    assert_same_gradients(gradients[0], gradients[2])


def test_the_dummy_frame_is_one_of_few_tokens(bases: dict[str, Path], tmp_path: Path) -> None:
    config = run_config(bases["idefics3"], vision_cache="off")
    session = session_of(make_run(tmp_path / "run", config), config)
    assert trainer_of(session).data_collator.dummy_size_hw == (24, 32)
    renderer = session.student.renderer
    renderer._expansions[24, 32] = (renderer.image_token_id,) * 99
    assert trainer_of(session).data_collator.dummy_size_hw == (56, 56)


@pytest.fixture
def on_disk(bases: dict[str, Path], tmp_path: Path) -> tuple[RunFolder, RunConfig]:
    """A run whose features lie on disk."""
    config = run_config(bases["idefics3"], **SHORT, vision_cache="disk")
    run = make_run(tmp_path / "run", config)
    frame_inputs(session_of(run, config))
    return run, config


def made_again(run: RunFolder, config: RunConfig, monkeypatch: pytest.MonkeyPatch, *, change: Any = None) -> int:
    """How many frames are looked at for the features of a session; what is read is what its tower makes now."""
    session = session_of(run, config)
    if change:
        change(session)
    looks: list[int] = []
    look = SharedVision.look
    with monkeypatch.context() as patch:
        patch.setattr(SharedVision, "look", lambda self, shown, *, count: looks.append(count) or look(
            self, shown, count=count))  # fmt: skip
        inputs = frame_inputs(session)
    clips = [example.frames for example in session.seen() if example.frames]
    pixels = frame_inputs(replace(session, train=session.train.model_copy(update={"vision_cache": "off"})))
    assert inputs.made and session.vision
    count = sum(len(clip.indices) for clip in clips)
    now = session.vision.look(pixels.of(clips), count=count).flatten(0, 1)
    torch.testing.assert_close(inputs.of(clips)["pixel_values"], now, rtol=1e-5, atol=1e-6)
    return sum(looks)


def test_blocks_come_back_from_disk_with_frames_of_two_sizes_and_their_grids(tmp_path: Path) -> None:
    sizes_hw = {("a", 0): (24, 32), ("b", 0): (48, 32), ("a", 1): (24, 32), ("a", 4): (24, 32)}
    cut_up = [[(clip.uri, clip.indices) for clip in batch] for batch in batches(sizes_hw, num_frames=2)]
    assert cut_up == [[("a", (0, 1))], [("a", (4,))], [("b", (0,))]]

    def block(*frames: tuple[str, int], tokens: int) -> Block:
        rows = [torch.full((tokens, 2), 10.0 * ord(uri) + index) for uri, index in frames]
        return Block(frames, torch.stack(rows), torch.tensor([[1, 2, tokens]] * len(frames)))

    small, more, large = block(("a", 0), ("a", 1), tokens=2), block(("a", 4), tokens=2), block(("b", 0), tokens=4)
    whole = list(joined([small, more, large], num_bytes=1000))
    assert [one.frames for one in whole] == [(("a", 0), ("a", 1), ("a", 4)), (("b", 0),)]
    assert [len(one.frames) for one in joined([small, more, large], num_bytes=1)] == [2, 1, 1]
    names = [write_block(tmp_path, one, key="k", id_of=str.upper) for one in whole]
    assert set(sound_blocks(tmp_path, key="k")) == set(names) and sound_blocks(tmp_path, key="other") == ()
    kept = KeptFeatures(lambda clips: block(*((clip.uri, i) for clip in clips for i in clip.indices), tokens=2))
    for name in names:
        kept.add(read_block(tmp_path / name, id_of=lambda uri: "A" if uri == "a" else "of what is stored now"))
    assert ("a", 4) in kept and ("b", 0) not in kept
    clips = [ChosenFrames("a", (4, 0), (), (24, 32)), ChosenFrames("c", (1,), (), (24, 32))]
    shown = kept.of(clips)  # the last one is looked at now
    assert shown["pixel_values"][:, 0].tolist() == [974.0, 974.0, 970.0, 970.0, 991.0, 991.0]
    assert shown["image_grid_thw"].tolist() == [[1, 2, 2]] * 3
    assert kept.of([]) == {} and ("c", 1) in kept


def files_of(run: RunFolder) -> list[Path]:
    return sorted(run.vision_features.rglob("*.safetensors"))


def test_features_on_disk_are_read_again_and_need_the_bytes_that_were_said(
    on_disk: tuple[RunFolder, RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = on_disk
    session = session_of(run, config)
    need = needed(session, frames_seen(session))
    (file,) = files_of(run)
    assert need.num_bytes <= file.stat().st_size <= need.num_bytes + 2000
    assert str(need) == f"{need.frames} frames: {4 * need.frames} tokens x 32 numbers x 4 bytes = 0.0 MB"
    assert made_again(run, config, monkeypatch) == 0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": cut, "one bit": flip, "empty": lambda path: path.write_bytes(b""), "gone": Path.unlink,
    "header": lambda path: path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:]),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_of_features_is_noticed_and_made_again(
    damage: str, on_disk: tuple[RunFolder, RunConfig], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    run, config = on_disk
    (file,) = files_of(run)
    DAMAGE[damage](file)
    with caplog.at_level(logging.WARNING):
        assert made_again(run, config, monkeypatch) > 0
    assert damage == "gone" or "is damaged; its features are made again" in caplog.text
    assert made_again(run, config, monkeypatch) == 0


@pytest.mark.parametrize("clips", ["[]", "{", "[1]", '[["c0.mp4", "0", [0, 1]]]', None])
def test_a_file_whose_list_of_frames_is_none_is_not_read(
    clips: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = save({"features": torch.ones(1, 2, 3)}, {"key": "k", **({} if clips is None else {"clips": clips})})
    (tmp_path / f"{hashlib.sha256(data).hexdigest()[:32]}-00000000.safetensors").write_bytes(data)
    assert sound_blocks(tmp_path, key="k") == ()
    assert "is left alone" in caplog.text


def test_a_file_that_is_not_ours_is_left_alone_and_not_read(
    on_disk: tuple[RunFolder, RunConfig], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run, config = on_disk
    (file,) = files_of(run)
    foreign = file.with_name("weights.safetensors")
    file.rename(foreign)
    # What another tower made, under a name that fits its bytes.
    other = file.parent.with_name("0" * 32)
    other.mkdir()
    with caplog.at_level(logging.WARNING):
        assert made_again(run, config, monkeypatch) > 0
    assert "holds no features of this tower and is left alone" in caplog.text and foreign.exists()
    (new,) = set(files_of(run)) - {foreign}
    moved = new.rename(other / new.name)
    key = tower_key_of(run, config)
    monkeypatch.setattr("aot.student.train.vision_cache.tower_key", lambda *_, **__: "0" * 32)
    assert made_again(run, config, monkeypatch) > 0
    assert moved.exists() and key != "0" * 32


def tower_key_of(run: RunFolder, config: RunConfig) -> str:
    student = session_of(run, config).student
    return tower_key(student.model, student.processor.image_processor, autocast=False)


def test_a_tower_with_other_weights_never_reads_old_features(
    on_disk: tuple[RunFolder, RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = on_disk

    def alter(session: Session) -> None:
        with torch.no_grad():
            next(session.student.model.model.connector.parameters()).add_(0.5)

    assert made_again(run, config, monkeypatch, change=alter) > 0
    assert made_again(run, config, monkeypatch) == 0


def test_adapters_of_the_language_model_are_not_part_of_the_tower_and_its_processor_is(
    on_disk: tuple[RunFolder, RunConfig],
) -> None:
    session = session_of(*on_disk)
    model, processor = session.student.model, session.student.processor.image_processor
    key = tower_key(model, processor, autocast=False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    assert tower_key(model, processor, autocast=False) == key
    assert tower_key(model, processor, autocast=True) != key
    processor.image_mean = [0.4, 0.4, 0.4]
    assert tower_key(model, processor, autocast=False) != key


def test_features_of_clips_that_are_stored_anew_are_made_anew(
    on_disk: tuple[RunFolder, RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = on_disk
    rng = np.random.default_rng(1)
    clips = {f"c{i}.mp4": rng.integers(0, 256, (8, 24, 32, 3), dtype=np.uint8) for i in range(4)}
    run.frames.rename(run.frames.with_name("old"))
    write_store(run.frames, clips)
    assert made_again(run, config, monkeypatch) > 0


def test_more_features_than_the_budget_are_not_kept_and_a_sentence_says_so(
    bases: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = run_config(bases["idefics3"], **SHORT, vision_cache="memory", vision_cache_mb=0)
    session = session_of(make_run(tmp_path / "run", config), config)
    with caplog.at_level(logging.INFO):
        assert not frame_inputs(session).made
    assert "MB in memory are more than train.vision_cache_mb=0; raise it if there is room" in caplog.text
    assert LOOKS_AGAIN in caplog.text


def test_features_that_the_disk_has_no_room_for_are_not_kept(
    bases: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config(bases["idefics3"], **SHORT, vision_cache="disk")
    session = session_of(make_run(tmp_path / "run", config), config)
    monkeypatch.setattr("aot.student.train.vision_cache._free_bytes", lambda folder: 10)
    assert not frame_inputs(session).made
    assert f"has room for 0.0 MB; {LOOKS_AGAIN}" in caplog.text


def test_frames_of_lessons_that_are_held_out_are_looked_at_before_the_first_step(
    bases: dict[str, Path], tmp_path: Path
) -> None:
    config = run_config(bases["idefics3"], **SHORT, early_stop={"share": 0.3})
    session = session_of(make_run(tmp_path / "run", config), config)
    inputs = trainer_of(session).data_collator.pixels
    held_out = [example.frames for example in session.held_out if example.frames]
    assert held_out and all((clip.uri, index) in inputs for clip in held_out for index in clip.indices)


def test_what_is_not_known_to_see_each_frame_by_itself_is_not_kept(bases: dict[str, Path], tmp_path: Path) -> None:
    config = run_config(bases["idefics3"], **SHORT)
    model = session_of(make_run(tmp_path / "run", config), config).student.model
    assert why_not_kept(model, trains_vision=False) == ""
    assert "is trained" in why_not_kept(model, trains_vision=True)
    model.config.vision_config.attention_dropout = 0.1
    assert "attention_dropout of the vision tower" in why_not_kept(model, trains_vision=False)
    model.config.model_type = "mllama"
    assert "model type mllama is not known" in why_not_kept(model, trains_vision=False)


def test_the_docs_name_the_types_whose_features_are_kept() -> None:
    text = " ".join((Path(__file__).parents[2] / "docs" / "students.md").read_text().split())
    listed = text.partition("(tried in `tests/student/test_vision_cache.py`): ")[2].partition(".")[0]
    assert set(listed.split(", ")) == LOOKS_ALONE
