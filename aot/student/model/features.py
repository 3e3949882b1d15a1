"""Features of stored frames: made once by a frozen vision tower, and read at each step in place of pixels.

They lie in blocks [frames, tokens, width], in memory or in safetensors files. A file is named after the hash of its
bytes and says of which tower and of which frames it is, so that a damaged or foreign one is noticed and made again.
Nothing is known here of runs and trainers.
"""

import hashlib
import json
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from aot.files.run_folder import publish
from aot.student.model.lora import language_model_name
from aot.student.rows.frames import ChosenFrames, Tensors

log = logging.getLogger(__name__)

LOOKS_ALONE = frozenset(
    {"idefics3", "llava", "llava_next", "llava_next_video", "qwen2_5_vl", "qwen2_vl", "qwen3_vl", "smolvlm"}
)
"""Model types whose tower makes the same of a frame whatever frames are beside it; a test tries each of them."""
BLOCK_BYTES = 256 << 20
"""About how much goes into one file."""
FrameId = tuple[str, int]
"""Uri of a stored clip, and number of the frame in it."""
_NAME = re.compile(r"(?P<digest>[0-9a-f]{32})-[0-9a-f]{8}\.safetensors")
_SAYS_NOTHING = ("text_config", "_name_or_path", "transformers_version", "architectures", "dtype", "use_cache")
"""Keys of a model's configuration that change nothing of what its tower makes of a frame, or that are told apart."""


@dataclass(frozen=True)
class Block:
    """Features of some frames that have the same number of tokens."""

    frames: tuple[FrameId, ...]
    features_FTW: Any
    """A tensor, or what a file hands out of one when it is asked."""
    grids_F3: torch.Tensor | None = None
    """Patches in time, height and width of each frame, where the model counts positions from them."""

    @property
    def num_bytes(self) -> int:
        """Of features in memory."""
        return int(self.features_FTW.numel() * self.features_FTW.element_size())


class KeptFeatures:
    """What the tower makes of frames, read in place of their pixels."""

    made = True

    def __init__(self, look: Callable[[list[ChosenFrames]], Block]) -> None:
        """Takes what makes the features of frames that nobody expected."""
        self._look = look
        self._blocks: list[Block] = []
        self._places: dict[FrameId, tuple[int, int]] = {}

    def add(self, block: Block) -> None:
        """Keep these too; a frame that is there already stays as it is."""
        self._blocks.append(block)
        # Jobs that ran at the same time may both have made a frame; they made the same of it.
        for row, frame in enumerate(block.frames):
            self._places.setdefault(frame, (len(self._blocks) - 1, row))

    def __contains__(self, frame: object) -> bool:
        return frame in self._places

    def of(self, clips: Sequence[ChosenFrames]) -> Tensors:
        """`pixel_values` [tokens, width] of all frames of `clips`, one after the other, and their grids if any."""
        sizes_hw = {(clip.uri, index): clip.size_hw for clip in clips for index in clip.indices}
        missing = {frame: size_hw for frame, size_hw in sizes_hw.items() if frame not in self._places}
        for batch in batches(missing, num_frames=len(missing)):
            self.add(self._look(batch))
        places = [self._places[clip.uri, index] for clip in clips for index in clip.indices]
        if not places:
            return {}
        rows = [self._blocks[number].features_FTW[row : row + 1].flatten(0, -2) for number, row in places]
        grids = [self._blocks[number].grids_F3 for number, _ in places]
        given = [one[row : row + 1] for one, (_, row) in zip(grids, places, strict=True) if one is not None]
        return {"pixel_values": torch.cat(rows), **({"image_grid_thw": torch.cat(given)} if given else {})}

    def blank(self, size_hw: tuple[int, int]) -> Tensors:
        """Nothing: the tower has nothing to look at."""
        return {}


def why_not_kept(model: Any, *, trains_vision: bool) -> str:  # noqa: ANN401 - a PreTrainedModel
    """Why the features of a frame cannot be used again and again; empty where they can."""
    model_type = str(model.config.model_type)
    if trains_vision:
        return "the vision tower is trained, and sees each frame with other eyes at each step"
    if model_type not in LOOKS_ALONE:
        return f"model type {model_type} is not known to look at each frame by itself"
    drops = [key for key, value in _flat_settings(_tower_settings(model)) if "drop" in str(key) and value]
    return f"{drops[0]} of the vision tower makes other features at each step" if drops else ""


def tower_tensors(model: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401 - a PreTrainedModel
    """Weights and buffers of all that makes features of frames, by name: the model without its language model."""
    text = language_model_name(model) + "."
    # By identity, because an output layer whose weights are tied to the embedding shows under the name of either.
    layers = [part for part in (model.get_input_embeddings(), model.get_output_embeddings()) if part is not None]
    of_text = {id(tensor) for layer in layers for tensor in layer.parameters()}
    named = chain(model.named_parameters(), model.named_buffers())
    return {name: one for name, one in named if not name.startswith(text) and id(one) not in of_text}


@contextmanager
def whole_tower(model: Any) -> Iterator[None]:  # noqa: ANN401 - a PreTrainedModel
    """While this is open the tower's weights are whole in every process, also under ZeRO-3, which deals them out."""
    # Those that are whole already stay so behind a block inside of this one.
    parted = [one for one in tower_tensors(model).values() if _is_parted(one)]
    if not parted:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parted):
        yield


def _is_parted(tensor: Any) -> bool:  # noqa: ANN401 - a parameter that DeepSpeed may have put marks on
    return hasattr(tensor, "ds_id") and tensor.ds_status.name == "NOT_AVAILABLE"


def tower_key(model: Any, image_processor: Any, *, autocast: bool) -> str:  # noqa: ANN401
    """Thirty-two hex digits over all that features depend on besides the frame; its weights must be whole."""
    settings = {
        "model": _tower_settings(model),
        "processor": image_processor.to_dict(),
        "autocast": autocast,
        "device": str(model.device.type),
        # A release may make other features of the same weights.
        "transformers": transformers.__version__,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(tower_tensors(model).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _tower_settings(model: Any) -> dict[str, Any]:  # noqa: ANN401
    return {key: value for key, value in model.config.to_dict().items() if key not in _SAYS_NOTHING}


def _flat_settings(settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat_settings(value)
        else:
            yield key, value


def clip_id(clip: Any) -> str:  # noqa: ANN401 - a StoredClip
    """Sixteen hex digits that change whenever anything of the stored frames of a clip does."""
    facts = (clip.sha256, clip.stored_width, clip.stored_height, clip.times_s, clip.frames_crc32)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def batches(sizes_hw: dict[FrameId, tuple[int, int]], *, num_frames: int) -> list[list[ChosenFrames]]:
    """The frames in batches of at most `num_frames`, all of one size in pixels, in their order."""
    # A processor pads frames of several sizes to the largest, and then a frame is not seen by itself.
    by_size: dict[tuple[int, int], list[FrameId]] = {}
    for frame, size_hw in sizes_hw.items():
        by_size.setdefault(size_hw, []).append(frame)
    return [
        [
            ChosenFrames(uri, tuple(index for _, index in group), (), size_hw)
            for uri, group in groupby(frames[start : start + num_frames], key=lambda frame: frame[0])
        ]
        for size_hw, frames in by_size.items()
        for start in range(0, len(frames), max(1, num_frames))
    ]


def joined(blocks: Iterable[Block], *, num_bytes: int) -> Iterator[Block]:
    """The same features in fewer blocks, of about so many bytes each."""
    waiting: list[Block] = []
    for block in blocks:
        if waiting and waiting[0].features_FTW.shape[1:] != block.features_FTW.shape[1:]:
            yield _one(waiting)
            waiting = []
        waiting.append(block)
        if sum(one.num_bytes for one in waiting) >= num_bytes:
            yield _one(waiting)
            waiting = []
    if waiting:
        yield _one(waiting)


def _one(blocks: Sequence[Block]) -> Block:
    grids = [block.grids_F3 for block in blocks if block.grids_F3 is not None]
    frames = tuple(frame for block in blocks for frame in block.frames)
    features = torch.cat([block.features_FTW for block in blocks])
    return Block(frames, features, torch.cat(grids) if grids else None)


# Blocks on disk


def write_block(folder: Path, block: Block, *, key: str, id_of: Callable[[str], str]) -> str:
    """Publish a block in a file of its own, and give the name of that file.

    Args:
        folder: of the features of one tower.
        block: in memory.
        key: of the tower.
        id_of: uri of a clip to `clip_id` of what is stored of it.

    Raises:
        GuardStop: the disk is full.
        RunError: the folder is not writable.
    """
    clips = [(uri, id_of(uri), [i for _, i in group]) for uri, group in groupby(block.frames, lambda frame: frame[0])]
    tensors = {"features": block.features_FTW, **({} if block.grids_F3 is None else {"grids": block.grids_F3})}
    data = save(tensors, {"key": key, "clips": json.dumps(clips)})
    # Two jobs may make the same block at the same time, and no file has two writers.
    name = f"{hashlib.sha256(data).hexdigest()[:32]}-{secrets.token_hex(4)}.safetensors"
    publish(folder / name, data)
    return name


def sound_blocks(folder: Path, *, key: str) -> tuple[str, ...]:
    """Names of the files in `folder` that are as they were written, and of this tower; damaged ones are removed."""
    return tuple(path.name for path in sorted(folder.glob("*.safetensors")) if _is_sound(path, key=key))


def _is_sound(path: Path, *, key: str) -> bool:
    match = _NAME.fullmatch(path.name)
    try:
        # All of a file once, before the first step; a checksum at each reading would cost every step.
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
        if match and match["digest"] != digest:
            log.warning("%s is damaged; its features are made again", path)
            path.unlink()
        elif match and _opened(path).metadata().get("key") == key and _listed(_opened(path)):
            return True
        else:
            log.warning("%s holds no features of this tower and is left alone", path)
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        log.warning("%s cannot be read (%s) and is left alone", path, error)
    return False


def _listed(file: Any) -> list[tuple[str, str, list[int]]]:  # noqa: ANN401
    """Uri, `clip_id` and frames of each clip in a file, or a ValueError where that is no list of its features."""
    clips = [(str(uri), str(kept_id), list(indices)) for uri, kept_id, indices in json.loads(file.metadata()["clips"])]
    count, there = sum(len(indices) for _, _, indices in clips), file.get_slice("features").get_shape()[0]
    if count != there:
        raise ValueError(f"it lists {count} frames and holds features of {there}")
    return clips


def read_block(path: Path, *, id_of: Callable[[str], str]) -> Block:
    """The block in a sound file, of whose clips only those count that are stored as they were then."""
    file = _opened(path)
    frames: list[FrameId] = []
    for uri, kept_id, indices in _listed(file):
        # The name of nothing holds the place of a frame that is stored no more.
        name = uri if _id_or_none(id_of, uri) == kept_id else ""
        frames += [(name, index) for index in indices]
    grids = file.get_tensor("grids") if "grids" in file.keys() else None  # noqa: SIM118 - no dict
    return Block(tuple(frames), file.get_slice("features"), grids)


def _id_or_none(id_of: Callable[[str], str], uri: str) -> str | None:
    with suppress(KeyError):
        return id_of(uri)
    return None


def _opened(path: Path) -> Any:  # noqa: ANN401 - the library has no public types
    return safe_open(path, "pt")
