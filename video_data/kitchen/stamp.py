"""Which kitchen the clips of a folder belong to: a stamp beside them, so that no clip is taken for another of its name.

Knows clips by name only; what a stamp is made from is the caller's business.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from aot.errors import VideoError
from video_data.disk import publish

STAMP_NAME = "kitchen.json"


@dataclass(frozen=True)
class KitchenStamp:
    """What all clips of a folder have in common."""

    seed: int
    stories: str
    """Digest of what clips of this seed show, and when; the same for any number of clips."""


_STAMP = TypeAdapter(KitchenStamp)


def claim_folder(root: Path, stamp: KitchenStamp, *, splits: Iterable[str]) -> None:
    """Put `stamp` into a folder that holds no drawn clips, or check that its clips have the same one.

    Raises:
        VideoError: `other_kitchen` where its clips have another stamp or none.
        OSError: the stamp cannot be written.
    """
    path = root / STAMP_NAME
    try:
        found = _STAMP.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        found = None
    if found == stamp:
        return
    if any(next(root.glob(f"{split}_*.mp4"), None) for split in splits):
        raise VideoError(
            "other_kitchen",
            f"the clips in {root} {_origin(found, stamp)}, so what they show is not what seed {stamp.seed} asks about; "
            "choose another folder, or delete these clips",
        )
    publish(path, (json.dumps(asdict(stamp)) + "\n").encode())


def _origin(found: KitchenStamp | None, stamp: KitchenStamp) -> str:
    if found is None:
        return f"have no stamp ({STAMP_NAME})"
    if found.seed != stamp.seed:
        return f"were drawn with seed {found.seed}"
    return "were drawn by another version of the kitchen"
