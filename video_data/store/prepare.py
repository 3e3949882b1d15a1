"""Decodes every clip once and stores its sampled frames in shards; bad clips are set aside with a reason.

The shard is the unit of resume: shard number i always holds clips i*n to (i+1)*n of the list, so a killed and repeated
run gives the same bytes, and so do several processes that each make some of the shards. The index is published last, by
who makes all of them, which then are there. At most a few clips are in memory at a time.
"""

import hashlib
import json
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path

from aot.errors import VideoError
from aot.files.disk import whole_file
from aot.files.jsonl import RefusedRow
from video_data.decode.budgets import Sampling
from video_data.decode.facts import DecodedFrames
from video_data.decode.sandbox import DecoderPool, check_time_limit
from video_data.disk import disk_errors
from video_data.store import shards

Progress = Callable[[int, int], None]
"""Called with the number of clips done and the number of all clips."""
Clip = tuple[str, Path]
"""A clip's uri and file."""
_Outcome = DecodedFrames | VideoError


def decode_clips(
    clips: Sequence[Clip],
    *,
    out: Path,
    sampling: Sampling,
    shard_clips: int,
    workers: int,
    progress: Progress | None = None,
    only: Callable[[int], bool] | None = None,
) -> list[RefusedRow]:
    """Clips that could not be stored, with reasons; all others are in the frame store at `out` afterwards.

    Args:
        clips: uri and file of each clip; the order decides which shard a clip is in.
        out: folder of the frame store; what an earlier call with the same settings finished is kept.
        sampling: what is stored of each clip; one that timed out or crashed is tried once more, alone.
        shard_clips: clips for each shard.
        workers: decoding processes.
        progress: told the number of clips done, and of all.
        only: by number, which shards to make, while others make the others; then there is no index.

    Raises:
        ValueError: two clips share a uri, a uri cannot be written as UTF-8, or a setting is not above 0.
        VideoError: `disk_full` or `unwritable`; finished shards stay, and the same call goes on from them. Also
            `no_decoder`: the installation is to blame, and no clip.
    """
    _check_uris([uri for uri, _ in clips])
    _check_settings(sampling, shard_clips=shard_clips, workers=workers)
    facts = {**asdict(sampling), "out": None, "format": 2}  # raise it when the bytes of a shard change
    settings = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    every = shard_groups(clips, shard_clips=shard_clips)
    groups = {number: group for number, group in enumerate(every) if only is None or only(number)}
    with disk_errors(out, kept="finished shards"):
        out.mkdir(parents=True, exist_ok=True)
        shards.sweep(out, num_shards=len(every), only=only)
    notes = {i: note for i, group in groups.items() if (note := shards.kept_note(out, i, group, settings=settings))}
    missing = [number for number in groups if number not in notes]
    done, total = sum(len(groups[number]) for number in notes), sum(map(len, groups.values()))

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, total)

    count(0)
    if missing:
        with disk_errors(out, kept="finished shards"):
            (out / shards.INDEX_NAME).unlink(missing_ok=True)  # or readers would take the old index for the new shards
        wanted = [clip for number in missing for clip in groups[number]]
        # The pool is left first: killing its children sets free the threads that wait for them.
        with ThreadPoolExecutor(workers) as threads, DecoderPool(workers=workers) as pool:
            sample = partial(_sampled, sampling=sampling, pool=pool)
            outcomes = _outcomes(wanted, sample=sample, threads=threads, ahead=workers + 1)  # bounds the memory
            write = partial(_write_shard, out, outcomes=outcomes, settings=settings, count=count)
            notes |= {number: write(number, groups[number]) for number in missing}
    in_order = [notes[number] for number in groups]
    # An index tells readers that all is there, which one of several processes cannot know.
    if only is None:
        with disk_errors(out, kept="finished shards"), whole_file(out / shards.INDEX_NAME) as file:
            file.writelines(shards.clip_line(clip).encode() for note in in_order for clip in note.clips)
    return [row for note in in_order for row in note.refused]


def shard_groups(clips: Sequence[Clip], *, shard_clips: int) -> list[Sequence[Clip]]:
    """The clips of each shard, by its number."""
    return [clips[start : start + shard_clips] for start in range(0, len(clips), shard_clips)]


def _outcomes(
    clips: Sequence[Clip], *, sample: Callable[[Path], _Outcome], threads: ThreadPoolExecutor, ahead: int
) -> Iterator[_Outcome]:
    """What became of each clip, in order; at most `ahead` clips are decoded before they are asked for."""
    waiting = iter(clips)
    running: deque[tuple[Path, Future[_Outcome]]] = deque()

    def start(count: int) -> None:
        running.extend((path, threads.submit(sample, path)) for _, path in islice(waiting, count))

    start(ahead)
    while running:
        path, future = running.popleft()
        outcome = future.result()
        if isinstance(outcome, VideoError) and outcome.reason in shards.PASSING_REASONS:
            wait([later for _, later in running])  # the machine may have been too busy: try once more with it alone
            outcome = sample(path)
        start(1)
        yield outcome


def _sampled(path: Path, *, sampling: Sampling, pool: DecoderPool) -> _Outcome:
    """The frames of one clip, or why there are none; one clip never stops the others."""
    try:
        return pool.sample_clip(path, sampling)
    except VideoError as error:
        return error
    except ValueError as error:  # the settings were checked, so it is about this clip
        return VideoError("unreadable", f"this clip cannot be sampled ({error}); rename it or encode it again")


def _write_shard(
    out: Path,
    number: int,
    group: Sequence[Clip],
    *,
    outcomes: Iterator[_Outcome],
    settings: str,
    count: Callable[[int], None],
) -> shards.ShardNote:
    """Stream one shard to disk, a clip at a time, and publish it, then its note."""
    path = shards.shard_path(out, number)
    room = shards.header_room(uri for uri, _ in group)
    sources = tuple(shards.source_of(uri, file) for uri, file in group)
    stored: list[shards.StoredClip] = []
    refused: list[RefusedRow] = []
    with disk_errors(out, kept="finished shards"):
        with whole_file(path) as file:
            file.write(bytes(8 + room))
            for uri, _ in group:
                outcome = next(outcomes)
                if isinstance(outcome, VideoError) and outcome.reason == "no_decoder":
                    raise outcome
                if isinstance(outcome, VideoError):
                    refused.append(RefusedRow(item=uri, reason=outcome.reason, detail=outcome.message))
                else:
                    stored.append(_stored(uri, outcome, shard=path.name))
                    file.write(outcome.frames_THWC.reshape(-1).data)
                count(1)
            file.seek(0)
            file.write(shards.shard_header({clip.uri: shards.clip_shape(clip) for clip in stored}, room=room))
        note = shards.ShardNote(settings, sources, tuple(stored), tuple(refused))
        shards.write_note(out, number, note)
    return note


def _stored(uri: str, frames: DecodedFrames, *, shard: str) -> shards.StoredClip:
    _, height, width, _ = frames.frames_THWC.shape
    return shards.StoredClip(
        uri=uri, sha256=frames.sha256, duration_s=frames.duration_s, true_width=frames.true_width,
        true_height=frames.true_height, stored_width=width, stored_height=height, times_s=frames.times_s,
        backend=frames.backend, verdict=frames.verdict, note=frames.note, shard=shard, frames_crc32=frames.frames_crc32,
        spans_s=frames.spans_s,
    )  # fmt: skip


def _check_settings(sampling: Sampling, *, shard_clips: int, workers: int) -> None:
    check_time_limit(sampling.time_limit_s)
    numbers = {name: getattr(sampling, name) for name in ("fps", "max_stored_frames", "max_side_px")}
    for name, value in {**numbers, "shard_clips": shard_clips, "workers": workers}.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a number above 0, got {value}; change it in the config")


def _check_uris(uris: Sequence[str]) -> None:
    for uri, count in Counter(uris).items():
        if count > 1:
            raise ValueError(f"two clips share the uri {uri!r}; each clip needs its own")
        try:
            uri.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the uri {uri!r} cannot be written as UTF-8; rename the file") from None
