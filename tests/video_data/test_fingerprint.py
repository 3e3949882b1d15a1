from pathlib import Path

import av
import numpy as np
import pytest

from video_data.decode.budgets import Budgets, Sampling
from video_data.decode.clip import read_frames
from video_data.decode.fingerprint import clip_fingerprint, near_duplicate_pairs
from video_data.store.prepare import decode_clips
from video_data.store.shards import FrameStore


def draw_scene(path: Path, *, seed: int, brightness: int = 0, crf: int = 20) -> Path:
    """A textured scene that moves, and changes from frame to frame."""
    rng = np.random.default_rng(seed)
    scene = rng.integers(20, 200, (18, 40, 3)).repeat(4, 0).repeat(4, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for index in range(16):
            view = (scene[:, 4 * index : 4 * index + 96] + brightness).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(view), format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_re_encoded_brighter_copy_is_found_and_others_are_not(tmp_path: Path) -> None:
    clips = [(f"a{i}", draw_scene(tmp_path / f"a{i}.mp4", seed=i)) for i in range(4)]
    clips.append(("b", draw_scene(tmp_path / "b.mp4", seed=2, brightness=20, crf=32)))
    decode_clips(
        clips,
        out=tmp_path / "frames",
        sampling=Sampling(4, 99, 96, time_limit_s=30.0, budgets=Budgets()),
        shard_clips=8,
        workers=1,
    )
    store = FrameStore(tmp_path / "frames")
    (pair,) = near_duplicate_pairs(store, ["a0", "a1", "a2", "a3"], ["b"], 0.1)
    assert (pair.uri_a, pair.uri_b) == ("a2", "b")
    assert near_duplicate_pairs(store, ["a0"], ["a0"], 0.1) == []
    far = near_duplicate_pairs(store, ["a0", "a1", "a3"], ["b"], 1.0)
    assert min(row.distance for row in far) > 0.3


def test_a_fingerprint_does_not_depend_on_the_size_of_the_frames(tmp_path: Path) -> None:
    path = draw_scene(tmp_path / "c.mp4", seed=5)
    one = clip_fingerprint(read_frames(path).frames_THWC)
    two = clip_fingerprint(read_frames(path, max_side_px=64).frames_THWC)
    assert np.unpackbits(one ^ two).mean() < 0.1


def test_a_clip_of_one_tiny_frame_has_a_fingerprint() -> None:
    assert clip_fingerprint(np.zeros((1, 3, 5, 3), np.uint8)).shape == (256,)
    with pytest.raises(ValueError, match="at least one frame"):
        clip_fingerprint(np.zeros((0, 3, 5, 3), np.uint8))
