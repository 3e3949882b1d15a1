"""A small data set as LeRobot writes one: two files, three episodes, one camera, a pandas table of tasks."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CAMERA = "observation.images.front"
FPS = 10
LENGTHS = (20, 15, 12)
STEPS = (
    "pick up the cup",
    "pour the water",
    "put down the cup",
    "wipe the table",
    "open the drawer",
    "close the drawer",
)


def times_of(length: int) -> np.ndarray:
    return (np.arange(length) / FPS).astype(np.float32)


def frames_table(episodes: dict[int, int]) -> pa.Table:
    """Rows of some episodes, by index and length, with columns that a writer must leave alone."""
    rng = np.random.default_rng(7)
    number = np.concatenate([np.full(n, index) for index, n in episodes.items()])
    count = len(number)
    states = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=count * 6).astype(np.float32)), 6)
    return pa.table(
        {
            "observation.state": states,
            "timestamp": np.concatenate([times_of(n) for n in episodes.values()]),
            "frame_index": np.concatenate([np.arange(n) for n in episodes.values()]),
            "episode_index": number,
            "index": np.arange(count),
            "task_index": number % 2,
            "note": pa.array(["", None, "naïve 🤖"] * count)[:count],
        }
    ).replace_schema_metadata({b"huggingface": b"{}", b"theirs": b"kept"})


def write_data_set(root: Path, *, videos: bool = True) -> Path:
    """A data set under `root` without language columns; video files are empty, for nobody decodes them."""
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    lengths = dict(enumerate(LENGTHS))
    for file, indices in ((0, (0, 1)), (1, (2,))):
        table = frames_table({i: lengths[i] for i in indices})
        pq.write_table(table, root / f"data/chunk-000/file-{file:03d}.parquet", compression="zstd")
    tasks = pa.table({"task_index": [0, 1], "__index_level_0__": ["serve a drink", "tidy up"]})
    pq.write_table(tasks, root / "meta/tasks.parquet")
    start_s, rows = 0.0, []
    for index, length in lengths.items():
        place = {"chunk_index": 0, "file_index": 0, "from_timestamp": start_s, "to_timestamp": start_s + length / FPS}
        start_s += length / FPS
        rows.append({"episode_index": index, "length": length} | {f"videos/{CAMERA}/{k}": v for k, v in place.items()})
    pq.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    features = {CAMERA: {"dtype": "video", "shape": [96, 96, 3], "names": None}}
    info = {"codebase_version": "v3.0", "fps": FPS, "total_episodes": 3, "features": features, "robot_type": "so101"}
    (root / "meta/info.json").write_text(json.dumps(info))
    if videos:
        (root / f"videos/{CAMERA}/chunk-000").mkdir(parents=True)
        (root / f"videos/{CAMERA}/chunk-000/file-000.mp4").touch()
    return root
