"""The synthetic kitchen as a data set: real video files with questions and the drawn truth.

Splits: `train`, `test` (the same recipes, new clips) and `test_ood` (recipes never cooked in the other two). A clip
belongs to one split only. Making it again writes nothing that is already there; a folder holds clips of one seed only.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Container, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from aot import seeds
from aot.errors import VideoError
from aot.files.children import die_with_parent, starting_children
from aot.files.disk import first_file, whole_file
from video_data.datasets.rows import AnnotationRow, BoxRow, VideoData
from video_data.disk import disk_errors
from video_data.kitchen.open_book import Place, cards_of_new_dishes, open_book, recipe_cards
from video_data.kitchen.stories import Performance, make_new_dishes, make_performances, make_questions
from video_data.kitchen.world import RECIPES

SPLITS = ("train", "test", "test_ood")
NEW_DISHES = "new_dishes"
FPS = 8.0
STAMP_NAME = "kitchen.json"


@dataclass(frozen=True)
class KitchenStamp:
    """What all clips of a folder have in common, so that no clip is taken for another of its name."""

    seed: int
    stories: str
    """Digest of what clips of this seed show, and when; the same for any number of clips."""


_STAMP = TypeAdapter(KitchenStamp)


def plan_toy_kitchen(
    root: Path, *, seed: int, counts: dict[str, int], open_book_count: int = 0, card: Place = "book"
) -> VideoData:
    """Questions, truth, clip paths and recipe cards of the synthetic kitchen; draws nothing yet.

    Args:
        root: folder of the clips.
        seed: another seed makes another kitchen.
        counts: number of clips of each split.
        open_book_count: open-book questions about each clip.
        card: where the card of such a question stands.
    """
    performances = _performances(seed, counts)
    with_cards = open_book(performances, seed=seed, count=open_book_count, place=card)
    by_clip = {p.uri: make_questions(p, seed=seed) for p in performances}
    of_dishes = [
        row for p in performances if p.is_new_dish for row in cards_of_new_dishes(p, by_clip[p.uri], seed=seed)
    ]
    return VideoData(
        questions=(*(question for rows in by_clip.values() for question in rows), *with_cards.questions),
        annotations=tuple(
            AnnotationRow(p.uri, p.split, p.recipe.name, p.duration_s, p.segments, _true_boxes(p, seed=seed))
            for p in performances
        ),
        clips=tuple((p.uri, root / p.uri) for p in performances),
        cards=(*recipe_cards(), *of_dishes, *with_cards.cards),
    )


def draw_toy_kitchen(
    root: Path,
    *,
    seed: int,
    counts: dict[str, int],
    workers: int,
    progress: Callable[[int, int], None] | None = None,
    only: Container[str] | None = None,
) -> None:
    """Write the clips that are not there yet, in `workers` processes; with the same seed, counts may grow.

    With `only`, the clips of these uris, while other processes may draw others.

    Raises:
        VideoError: `other_kitchen` where the folder holds clips of another seed or of other stories (nothing is drawn);
            `disk_full`, `unwritable`, or `crashed` where a drawing process was killed; clips that were drawn
            stay, and the same call goes on from them.
    """
    with disk_errors(root, kept="drawn clips"):
        root.mkdir(parents=True, exist_ok=True)
        _claim(root, kitchen_stamp(seed))
    performances = [p for p in _performances(seed, counts) if only is None or p.uri in only]
    missing = [p for p in performances if not (root / p.uri).exists()]
    done = len(performances) - len(missing)
    with closing(_draw_all(missing, root=root, seed=seed, workers=workers)) as drawn:
        for count in drawn:
            done += count
            if progress:
                progress(done, len(performances))


def _performances(seed: int, counts: dict[str, int]) -> list[Performance]:
    of_splits = [p for split in SPLITS for p in make_performances(seed=seed, split=split, count=counts[split])]
    return of_splits + make_new_dishes(seed=seed, count=counts.get(NEW_DISHES, 0))


def kitchen_stamp(seed: int) -> KitchenStamp:
    """What tells the clips of this seed from others of the same names.

    Clip i depends on the seed and its name only, so a few clips stand for all: as many of each split as there are
    recipes, which cooks every recipe at least once.
    """
    digest = hashlib.sha256()
    for performance in _performances(seed, dict.fromkeys(SPLITS, len(RECIPES))):
        segments = [(s.label, round(1000 * s.start_s), round(1000 * s.end_s)) for s in performance.segments]
        shown_ms = [round(1000 * time_s) for time_s in frame_times_s(performance, seed=seed)]
        # Whole milliseconds, as the clips store them: floats need not print alike everywhere.
        digest.update(json.dumps([performance.uri, segments, shown_ms]).encode())
    return KitchenStamp(seed, digest.hexdigest())


def _claim(root: Path, stamp: KitchenStamp) -> None:
    """Put `stamp` into a folder that holds no drawn clips, or check that its clips have the same one."""
    path = root / STAMP_NAME
    there = _stamp_of(path)
    if there == stamp:
        return
    if any(next(root.glob(f"{split}_*.mp4"), None) for split in SPLITS):
        origin = "were drawn by another version of the kitchen"
        if there is None:
            origin = f"have no stamp ({STAMP_NAME})"
        elif there.seed != stamp.seed:
            origin = f"were drawn with seed {there.seed}"
        raise VideoError(
            "other_kitchen",
            f"the clips in {root} {origin}, so what they show is not what seed {stamp.seed} asks about; "
            "choose another folder, or delete these clips",
        )
    written = (json.dumps(asdict(stamp)) + "\n").encode()
    if there is None and first_file(path, written):
        return
    if _stamp_of(path) != stamp:  # else another process that draws clips of this folder was first
        with whole_file(path) as file:
            file.write(written)


def _stamp_of(path: Path) -> KitchenStamp | None:
    try:
        return _STAMP.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def frame_times_s(performance: Performance, *, seed: int) -> list[float]:
    """When the clip shows a frame: even at 8 frames a second, or, in one clip of five, uneven."""
    rng = seeds.rng(seed, "frames", performance.uri)
    times_s = np.arange(0.0, performance.duration_s - 0.03, 1 / FPS)
    if rng.random() < 0.2:
        keep = rng.random(len(times_s)) > 0.25
        keep[[0, -1]] = True  # the clip lasts as long as its story
        times_s = times_s[keep]
    return [float(t) for t in times_s]


def _draw_all(
    performances: Sequence[Performance], *, root: Path, seed: int, workers: int
) -> Generator[int, None, None]:
    """Draw clips in worker processes; yields how many more are there."""
    chunks = [performances[i : i + 2] for i in range(0, len(performances), 2)]  # Ctrl-C waits for those begun
    if not chunks:
        return
    # The fork server has nothing of the parent in memory, and ends with the last worker.
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=context, initializer=die_with_parent) as pool:
        try:
            with starting_children():
                drawn = [pool.submit(_draw_chunk, chunk, root, seed) for chunk in chunks]
            for one in as_completed(drawn):
                yield one.result()
        except BrokenProcessPool:
            killed = f"a process that draws clips into {root} was killed"
            raise VideoError("crashed", f"{killed}; run the same command again: drawn clips are kept") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _draw_chunk(performances: Sequence[Performance], root: Path, seed: int) -> int:
    """Draw some clips, in a process of its own; how many."""
    # Imported here, in the drawing process: the parent only plans and needs neither OpenCV nor PyAV.
    from video_data.kitchen.pictures import write_clip

    for p in performances:
        times_s = frame_times_s(p, seed=seed)
        write_clip(root / p.uri, segments=p.segments, frame_times_s=times_s, rng=seeds.rng(seed, "pixels", p.uri))
    return len(performances)


def _true_boxes(performance: Performance, *, seed: int) -> tuple[BoxRow, ...]:
    """The ingredient's resting box in the middle of each segment; frames jitter by about a pixel."""
    from video_data.kitchen.pictures import draw_style, resting_box

    style = draw_style(seeds.rng(seed, "pixels", performance.uri))
    rows = []
    for segment in performance.segments:
        ingredient = segment.label.partition(" ")[2]
        middle_s = (segment.start_s + segment.end_s) / 2
        rows.append(BoxRow(round(middle_s, 2), ingredient, resting_box(ingredient, style)))
    return tuple(rows)
