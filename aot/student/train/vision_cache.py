"""What the batches of a training show of frames: pixels, or features that the frozen tower made of each frame once.

Before the first step the processes share out the frames that the training comes to, look at each once, and hold what
came out in memory, or read it from the disk, where the next arm finds it too.
"""

import logging
import shutil
import time
from collections.abc import Callable
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


def frame_inputs(session: Session) -> FramePixels | KeptFeatures:
    """What stands for frames in batches: features where train.vision_cache asks for them and they can be had."""
    train, student = session.train, session.student
    pixels = _pixels(session, max_bytes=train.frame_cache_mb << 20)
    if train.vision_cache == "off":
        return pixels
    if why := why_not_kept(student.model, trains_vision=session.adapted.trains_vision):
        log.info("%s: train.vision_cache=%s: %s; %s", session.arm.name, train.vision_cache, why, LOOKS_AGAIN)
        return pixels
    sizes_hw = frames_seen(session)
    need = needed_bytes(session, sizes_hw)
    place = f"on disk in {session.features}" if train.vision_cache == "disk" else "in memory"
    words = f"features of {len(sizes_hw):,} frames need {_mb(need)} {place}"
    if need > train.vision_cache_mb << 20:
        log.info(
            "%s: %s, more than train.vision_cache_mb=%d; raise it if there is room; %s",
            session.arm.name, words, train.vision_cache_mb, LOOKS_AGAIN,
        )  # fmt: skip
        return pixels
    log.info("%s: %s", session.arm.name, words)
    with whole_tower(student.model):
        return _on_disk(session, sizes_hw, need=need) if train.vision_cache == "disk" else _in_memory(session, sizes_hw)


def frames_seen(session: Session) -> dict[FrameId, tuple[int, int]]:
    """The frames that the training comes to, in the order of their clips, each with its height and width as stored."""
    clips = [example.frames for example in session.seen() if example.frames]
    frames = {(clip.uri, index): clip.size_hw for clip in clips for index in clip.indices}
    return dict(sorted(frames.items()))


def needed_bytes(session: Session, sizes_hw: dict[FrameId, tuple[int, int]]) -> int:
    """Of the features of these frames: tokens of each x width x bytes of a number, for each level that is read."""
    student = session.student
    renderer, config = student.renderer, student.model.config
    tokens = sum(renderer.expansion(size_hw).count(renderer.image_token_id) for size_hw in sizes_hw.values())
    levels = 1 + len(getattr(config.vision_config, "deepstack_visual_indexes", None) or ())
    return tokens * int(config.get_text_config().hidden_size) * levels * int(student.model.dtype.itemsize)


def _pixels(session: Session, *, max_bytes: int) -> FramePixels:
    student = session.student
    return FramePixels(session.store, student.processor, model_type=student.model_type, max_bytes=max_bytes)


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / (1 << 20):,.1f} MB"


def _in_memory(session: Session, sizes_hw: dict[FrameId, tuple[int, int]]) -> KeptFeatures:
    """Features of all frames, held by each process."""
    processes, started_s, look = session.plan.processes, time.monotonic(), _looker(session)
    kept, todo = KeptFeatures(look), _batches(session, sizes_hw)
    for first in range(0, len(todo), processes):
        number = first + session.trainer_args.process_index
        made = [look(batch) for batch in todo[number : number + 1]]
        for block in gather_object(made) if processes > 1 else made:
            kept.add(block)
    log.info("%s: looked at %d frames in %.1f s", session.arm.name, len(sizes_hw), time.monotonic() - started_s)
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
        return _pixels(session, max_bytes=session.train.frame_cache_mb << 20)
    made = joined(map(look, _batches(session, missing)[rank::processes]), num_bytes=BLOCK_BYTES)
    names = [write_block(folder, block, key=key, id_of=id_of) for block in made]
    for name in gather_object(names) if processes > 1 else names:
        kept.add(read_block(folder / name, id_of=id_of))
    if rank == 0:
        took_s = time.monotonic() - started_s
        log.info("%s: looked at %d frames, %d were there, %.1f s", session.arm.name, len(missing),
                 len(sizes_hw) - len(missing), took_s)  # fmt: skip
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
    pixels, vision = _pixels(session, max_bytes=0), session.vision
    model, device = session.student.model, session.student.device
    bf16 = bool(session.trainer_args.bf16)
    assert vision

    def look(clips: list[ChosenFrames]) -> Block:
        frames = tuple((clip.uri, index) for clip in clips for index in clip.indices)
        shown = {key: value.to(device) for key, value in pixels.of(clips).items()}
        with whole_tower(model), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            features = vision.look(shown, count=len(frames))
        grids = shown.get("image_grid_thw")
        return Block(frames, features.cpu(), None if grids is None else grids.cpu())

    return look
