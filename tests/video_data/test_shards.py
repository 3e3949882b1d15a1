import resource
import zlib
from pathlib import Path

import numpy as np
import pytest

from aot.errors import VideoError
from video_data.store.shards import FrameStore, StoredClip, clip_line, clip_shape, header_room, open_shard, shard_header

SHARD = "shard-00000.safetensors"


def small_store(folder: Path, *, num_clips: int) -> FrameStore:
    """A store of one shard with clips of one 2x2 frame each; every pixel of clip i is i."""
    clips = []
    for i in range(num_clips):
        crc = zlib.crc32(np.full((2, 2, 3), i, np.uint8))
        clips.append(StoredClip(f"c{i}", "0" * 64, 1.0, 2, 2, 2, 2, (0.0,), "pyav", "complete", "", SHARD, (crc,)))
    header = shard_header({clip.uri: clip_shape(clip) for clip in clips}, room=header_room(c.uri for c in clips))
    pixels = np.repeat(np.arange(num_clips, dtype=np.uint8), 12).tobytes()
    (folder / SHARD).write_bytes(header + pixels)
    (folder / "index.jsonl").write_text("".join(clip_line(clip) for clip in clips))
    return FrameStore(folder)


def test_a_store_of_many_clips_opens_one_file_for_each_shard(tmp_path: Path) -> None:
    store = small_store(tmp_path, num_clips=200)
    num_before = len(list(Path("/proc/self/fd").iterdir()))
    assert [int(store.frames(f"c{i}").max()) for i in range(200)] == list(range(200))
    assert len(list(Path("/proc/self/fd").iterdir())) <= num_before + 1


def test_a_shard_that_cannot_be_opened_is_told_and_not_called_damaged(tmp_path: Path) -> None:
    small_store(tmp_path, num_clips=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(VideoError, match="open files") as caught:
            open_shard(tmp_path / SHARD)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.reason == "unreadable"
