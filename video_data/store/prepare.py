"""Decodes every clip once and stores its sampled frames in shards; bad clips are set aside with a reason.

The shard is the unit of resume: shard number i always holds clips i*n to (i+1)*n of the list, so a killed and repeated
run gives the same bytes. The index is published last. At most a few clips are in memory at a time.
"""

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from aot.errors import VideoError
from aot.files.disk import whole_file
from aot.files.jsonl import RefusedRow
from video_data.decode.budgets import Budgets
from video_data.decode.facts import DecodedFrames
from video_data.decode.sandbox import DecoderPool, check_time_limit
from video_data.disk import disk_errors
from video_data.store.shard_notes import PASSING_REASONS, ShardNote, kept_note, shard_path, source_of, sweep, write_note
from video_data.store.shards import INDEX_NAME, StoredClip, clip_line, clip_shape, header_room, shard_header

Progress = Callable[[int, int], None]
"""Called with the number of clips done and the number of all clips."""
Clip = tuple[str, Path]
"""A clip's uri and file."""
_Outcome = DecodedFrames | VideoError


@dataclass(frozen=True)
class _Job:
    """What every clip of a call has in common."""

    out: Path
    fps: float
    max_stored_frames: int
    max_side_px: int
    time_limit_s: float
    budgets: Budgets
    stream: int | None

    def settings(self) -> str:
        """Digest of all but the folder."""
        facts = {**asdict(self), "out": None, "format": 2}  # raise it when the bytes of a shard change
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def decode_clips(
    clips: Sequence[Clip],
    *,
    out: Path,
    fps: float,
    max_stored_frames: int,
    max_side_px: int,
    shard_clips: int,
    workers: int,
    time_limit_s: float,
    budgets: Budgets,
    stream: int | None = None,
    progress: Progress | None = None,
) -> list[RefusedRow]:
    """Clips that could not be stored, with reasons; all others are in the frame store at `out` afterwards.

    Args:
        clips: uri and file of each clip; the order decides which shard a clip is in.
        out: folder of the frame store; what an earlier call with the same settings finished is kept.
        fps: frames stored for each second: those nearest to 0, 1/fps, 2/fps, ...
        max_stored_frames: a clip that would give more is sampled evenly instead.
        max_side_px: stored frames are scaled down to this longest side.
        shard_clips: clips for each shard.
        workers: decoding processes.
        time_limit_s: for each attempt at a small clip (see sandbox.py); one that timed out or crashed is tried once
            more, alone.
        budgets: limits checked before decoding.
        stream: index in the container of the video stream to read; None takes the best of each clip.
        progress: told the number of clips done, and of all.

    Raises:
        ValueError: two clips share a uri, a uri cannot be written as UTF-8, or a setting is not above 0.
        VideoError: `disk_full` or `unwritable`; finished shards stay, and the same call goes on from them. Also
            `no_decoder`: the installation is to blame, and no clip.
    """
    _check_uris([uri for uri, _ in clips])
    job = _Job(Path(out), fps, max_stored_frames, max_side_px, time_limit_s, budgets, stream)
    _check_settings(job, shard_clips=shard_clips, workers=workers)
    groups = [clips[start : start + shard_clips] for start in range(0, len(clips), shard_clips)]
    with disk_errors(job.out, kept="finished shards"):
        job.out.mkdir(parents=True, exist_ok=True)
        sweep(job.out, num_shards=len(groups))
    notes = {
        i: note for i, group in enumerate(groups) if (note := kept_note(job.out, i, group, settings=job.settings()))
    }
    missing = [number for number in range(len(groups)) if number not in notes]
    done = sum(len(groups[number]) for number in notes)

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, len(clips))

    count(0)
    if missing:
        with disk_errors(job.out, kept="finished shards"):
            (job.out / INDEX_NAME).unlink(missing_ok=True)  # or readers would take the old index for the new shards
        wanted = [clip for number in missing for clip in groups[number]]
        # The pool is left first: killing its children sets free the threads that wait for them.
        with ThreadPoolExecutor(workers) as threads, DecoderPool(workers=workers) as pool:
            outcomes = _outcomes(wanted, job=job, pool=pool, threads=threads, ahead=workers + 1)  # bounds the memory
            for number in missing:
                notes[number] = _write_shard(job, number, groups[number], outcomes=outcomes, count=count)
    with disk_errors(job.out, kept="finished shards"), whole_file(job.out / INDEX_NAME) as file:
        file.writelines(clip_line(clip).encode() for number in range(len(groups)) for clip in notes[number].clips)
    return [row for number in range(len(groups)) for row in notes[number].refused]


def _outcomes(
    clips: Sequence[Clip], *, job: _Job, pool: DecoderPool, threads: ThreadPoolExecutor, ahead: int
) -> Iterator[_Outcome]:
    """What became of each clip, in order; at most `ahead` clips are decoded before they are asked for."""
    waiting = iter(clips)
    running: deque[tuple[Path, Future[_Outcome]]] = deque()

    def start(count: int) -> None:
        running.extend((path, threads.submit(_sampled, path, job=job, pool=pool)) for _, path in islice(waiting, count))

    start(ahead)
    while running:
        path, future = running.popleft()
        outcome = future.result()
        if isinstance(outcome, VideoError) and outcome.reason in PASSING_REASONS:
            wait([later for _, later in running])  # the machine may have been too busy: try once more with it alone
            outcome = _sampled(path, job=job, pool=pool)
        start(1)
        yield outcome


def _sampled(path: Path, *, job: _Job, pool: DecoderPool) -> _Outcome:
    """The frames of one clip, or why there are none; one clip never stops the others."""
    try:
        return pool.sample_clip(
            path,
            fps=job.fps,
            max_frames=job.max_stored_frames,
            max_side_px=job.max_side_px,
            budgets=job.budgets,
            time_limit_s=job.time_limit_s,
            stream=job.stream,
        )
    except VideoError as error:
        return error
    except ValueError as error:  # the settings were checked, so it is about this clip
        return VideoError("unreadable", f"this clip cannot be sampled ({error}); rename it or encode it again")


def _write_shard(
    job: _Job, number: int, group: Sequence[Clip], *, outcomes: Iterator[_Outcome], count: Callable[[int], None]
) -> ShardNote:
    """Stream one shard to disk, a clip at a time, and publish it, then its note."""
    path = shard_path(job.out, number)
    room = header_room(uri for uri, _ in group)
    sources = tuple(source_of(uri, file) for uri, file in group)
    stored: list[StoredClip] = []
    refused: list[RefusedRow] = []
    with disk_errors(job.out, kept="finished shards"):
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
            file.write(shard_header({clip.uri: clip_shape(clip) for clip in stored}, room=room))
        note = ShardNote(job.settings(), sources, tuple(stored), tuple(refused))
        write_note(job.out, number, note)
    return note


def _stored(uri: str, frames: DecodedFrames, *, shard: str) -> StoredClip:
    _, height, width, _ = frames.frames_THWC.shape
    return StoredClip(
        uri=uri, sha256=frames.sha256, duration_s=frames.duration_s, true_width=frames.true_width,
        true_height=frames.true_height, stored_width=width, stored_height=height, times_s=frames.times_s,
        backend=frames.backend, verdict=frames.verdict, note=frames.note, shard=shard, frames_crc32=frames.frames_crc32,
        spans_s=frames.spans_s,
    )  # fmt: skip


def _check_settings(job: _Job, *, shard_clips: int, workers: int) -> None:
    check_time_limit(job.time_limit_s)
    numbers = {name: getattr(job, name) for name in ("fps", "max_stored_frames", "max_side_px")}
    for name, value in {**numbers, "shard_clips": shard_clips, "workers": workers}.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a number above 0, got {value}; change it in the config")


def _check_uris(uris: Sequence[str]) -> None:
    seen: set[str] = set()
    for uri in uris:
        if uri in seen:
            raise ValueError(f"two clips share the uri {uri!r}; each clip needs its own")
        seen.add(uri)
        try:
            uri.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the uri {uri!r} cannot be written as UTF-8; rename the file") from None
