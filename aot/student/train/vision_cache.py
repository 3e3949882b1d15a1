"""What the batches of a training show of frames: pixels, or features that the frozen tower made of each frame once.

Before the first step the processes share out the frames that the training comes to, look at each once, and hold what
came out in memory, or read it from the disk, where the next arm finds it too.
"""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, gather_object

from aot.student.model.features import (
    BLOCK_BYTES,
    Block,
    FrameId,
    KeptFeatures,
    batches,
    clip_id,
    joined,
    read_block,
    sound_blocks,
    tower_key,
    whole_tower,
    why_not_kept,
    write_block,
)
from aot.student.rows.frames import ChosenFrames, FramePixels
from aot.student.train.session import Session

log = logging.getLogger(__name__)
LOOKS_AGAIN = "the vision tower looks at the frames of each step"


@dataclass(frozen=True)
class Need:
    """Room for the features of some frames."""

    frames: int
    tokens: int
    """Of all of them."""
    width: int
    """Numbers of a token, on all levels that the model reads."""
    number_bytes: int

    @property
    def num_bytes(self) -> int:
        """Of all features."""
        return self.tokens * self.width * self.number_bytes

    def __str__(self) -> str:
        product = f"{self.tokens:,} tokens x {self.width} numbers x {self.number_bytes} bytes"
        return f"{self.frames:,} frames: {product} = {_mb(self.num_bytes)}"


def frame_inputs(session: Session) -> FramePixels | KeptFeatures:
    """What stands for frames in batches: features where train.vision_cache asks for them and they can be had."""
    train, student = session.train, session.student
    pixels = student.pixels(session.store, max_bytes=train.frame_cache_mb << 20)
    if train.vision_cache == "off":
        return pixels
    if why := why_not_kept(student.model, trains_vision=session.adapted.trains_vision):
        _say(session, f"train.vision_cache={train.vision_cache}: {why}; {LOOKS_AGAIN}")
        return pixels
    sizes_hw = frames_seen(session)
    need = needed(session, sizes_hw)
    place = f"on disk in {session.features}" if train.vision_cache == "disk" else "in memory"
    if need.num_bytes > train.vision_cache_mb << 20:
        most = f"train.vision_cache_mb={train.vision_cache_mb}; raise it if there is room"
        _say(session, f"features of {need} {place} are more than {most}; {LOOKS_AGAIN}")
        return pixels
    _say(session, f"features of {need} {place}")
    # Around all of it: processes look at unequal numbers of batches, and gathering waits for all of them.
    with whole_tower(student.model):
        return (
            _on_disk(session, sizes_hw, need=need.num_bytes)
            if train.vision_cache == "disk"
            else _in_memory(session, sizes_hw)
        )


def frames_seen(session: Session) -> dict[FrameId, tuple[int, int]]:
    """The frames that the training comes to, in the order of their clips, each with its height and width as stored."""
    # Those of looks at held-out lessons too: between steps, no process may be alone in calling a tower that is shared.
    clips = [example.frames for example in (*session.seen(), *session.held_out) if example.frames]
    frames = {(clip.uri, index): clip.size_hw for clip in clips for index in clip.indices}
    return dict(sorted(frames.items()))


def needed(session: Session, sizes_hw: dict[FrameId, tuple[int, int]]) -> Need:
    """What the features of these frames take."""
    student = session.student
    renderer, config = student.renderer, student.model.config
    tokens = sum(renderer.expansion(size_hw).count(renderer.image_token_id) for size_hw in sizes_hw.values())
    levels = 1 + len(getattr(config.vision_config, "deepstack_visual_indexes", None) or ())
    width = int(config.get_text_config().hidden_size) * levels
    return Need(len(sizes_hw), tokens, width, int(student.model.dtype.itemsize))


def _say(session: Session, words: str) -> None:
    if session.trainer_args.process_index == 0:
        log.info("%s: %s", session.arm.name, words)


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 20):,.1f} MB"


def _in_memory(session: Session, sizes_hw: dict[FrameId, tuple[int, int]]) -> KeptFeatures:
    """Features of all frames, held by each process."""
    processes, started_s, look = session.plan.processes, time.monotonic(), _looker(session)
    kept, todo = KeptFeatures(look), _batches(session, sizes_hw)
    for first in range(0, len(todo), processes):
        number = first + session.trainer_args.process_index
        # Exchanged batch by batch, because what is exchanged passes through the memory of the GPU whole.
        made = [look(batch) for batch in todo[number : number + 1]]
        for block in gather_object(made) if processes > 1 else made:
            kept.add(block)
    _say(session, f"looked at {len(sizes_hw):,} frames in {time.monotonic() - started_s:.1f} s")
    return kept


def _on_disk(session: Session, sizes_hw: dict[FrameId, tuple[int, int]], *, need: int) -> KeptFeatures | FramePixels:
    """Features of all frames, read from files that are there already or are made now."""
    processes, started_s, look = session.plan.processes, time.monotonic(), _looker(session)
    rank, autocast = session.trainer_args.process_index, bool(session.trainer_args.bf16)
    key = tower_key(session.student.model, session.student.processor.image_processor, autocast=autocast)
    folder = session.features / key
    assert session.store
    clip = session.store.clip
    id_of = cache(lambda uri: clip_id(clip(uri)))
    kept = KeptFeatures(look)
    # One process says what is there, because another may see a file later, or read for an hour to check them all.
    there = _said_by_first(session, lambda: sound_blocks(folder, key=key))
    for name in there:
        kept.add(read_block(folder / name, id_of=id_of))
    missing = {frame: size_hw for frame, size_hw in sizes_hw.items() if frame not in kept}
    room = _said_by_first(session, lambda: _free_bytes(session.features))
    share = need * len(missing) // max(1, len(sizes_hw))
    if share > room:
        log.warning(
            "%s: %s of features are missing, and the disk of %s has room for %s; %s",
            session.arm.name, _mb(share), session.features, _mb(room), LOOKS_AGAIN,
        )  # fmt: skip
        return session.student.pixels(session.store, max_bytes=session.train.frame_cache_mb << 20)
    made = joined(map(look, _batches(session, missing)[rank::processes]), num_bytes=BLOCK_BYTES)
    names = [write_block(folder, block, key=key, id_of=id_of) for block in made]
    for name in gather_object(names) if processes > 1 else names:
        kept.add(read_block(folder / name, id_of=id_of))
    took_s, there_already = time.monotonic() - started_s, len(sizes_hw) - len(missing)
    _say(session, f"looked at {len(missing):,} frames, {there_already:,} were there already, {took_s:.1f} s")
    return kept


def _said_by_first(session: Session, say: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it says
    said = [say() if session.trainer_args.process_index == 0 else None]
    return (broadcast_object_list(said) if session.plan.processes > 1 else said)[0]


def _free_bytes(folder: Path) -> int:
    there = next(one for one in (folder, *folder.parents) if one.is_dir())
    return shutil.disk_usage(there).free


def _batches(session: Session, sizes_hw: dict[FrameId, tuple[int, int]]) -> list[list[ChosenFrames]]:
    """As many frames at once as a micro-batch of training has at most, which is known to fit."""
    return batches(sizes_hw, num_frames=session.plan.per_device * session.config.student.num_frames)


def _looker(session: Session) -> Callable[[list[ChosenFrames]], Block]:
    """What makes the features of some frames, in the numbers that a training step would have."""
    pixels, vision = session.student.pixels(session.store, max_bytes=0), session.vision
    model, device = session.student.model, session.student.device
    bf16 = bool(session.trainer_args.bf16)
    assert vision

    def look(clips: list[ChosenFrames]) -> Block:
        frames = tuple((clip.uri, index) for clip in clips for index in clip.indices)
        shown = {key: value.to(device) for key, value in pixels.of(clips).items()}
        # As the Trainer has it in a step, or the features would not be those of a step.
        with whole_tower(model), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            features = vision.look(shown, count=len(frames))
        grids = shown.get("image_grid_thw")
        return Block(frames, features.cpu(), None if grids is None else grids.cpu())

    return look
