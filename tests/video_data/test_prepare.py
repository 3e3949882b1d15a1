import hashlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clipmaker import draw_audio, draw_blink, draw_clip, grey_index
from processes import descendants
from safetensors import safe_open

from aot.errors import VideoError
from aot.files.jsonl import RefusedRow
from video_data.decode.budgets import Budgets, Sampling
from video_data.store.prepare import Progress, decode_clips
from video_data.store.shards import FrameStore

ClipList = list[tuple[str, Path]]


def run(
    clips: ClipList,
    out: Path,
    *,
    progress: Progress | None = None,
    fps: float = 4.0,
    workers: int = 2,
    time_limit_s: float = 30.0,
) -> list[RefusedRow]:
    return decode_clips(
        clips,
        out=out,
        sampling=Sampling(fps, 512, 80, time_limit_s=time_limit_s, budgets=Budgets()),
        shard_clips=2,
        workers=workers,
        progress=progress,
    )


def published(out: Path) -> dict[str, str]:
    """Digest of every file in a store."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipList:
    """Five good clips with three bad ones among them."""
    folder = tmp_path_factory.mktemp("clips")
    good = [draw_clip(folder / f"good{i}.mp4", num_frames=16 + i, fps=8) for i in range(5)]
    text = folder / "text.mp4"
    text.write_text("no video")
    sound = draw_audio(folder / "sound.mp4")
    paths = [good[0], text, good[1], good[2], folder / "absent.mp4", sound, good[3], good[4]]
    return [(f"clips/{path.name}", path) for path in paths]


@pytest.fixture(scope="module")
def store(clips: ClipList, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "frames"
    run(clips, out)
    return out


def test_bad_clips_are_told_with_reasons_and_stop_no_other(clips: ClipList, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    refused = run(clips, tmp_path / "frames", progress=lambda done, total: steps.append((done, total)))
    reasons = {row.item: row.reason for row in refused}
    assert reasons == {
        "clips/text.mp4": "not_a_video",
        "clips/absent.mp4": "missing",
        "clips/sound.mp4": "no_video_stream",
    }
    assert FrameStore(tmp_path / "frames").uris() == [uri for uri, _ in clips if uri not in reasons]
    assert steps == [(done, 8) for done in range(9)]
    assert run(clips, tmp_path / "frames") == refused


def test_a_clip_that_cannot_be_asked_for_stops_no_other(clips: ClipList, tmp_path: Path) -> None:
    blink = draw_blink(tmp_path / "blink.mp4")
    (row,) = run([("blink", blink), ("odd", tmp_path / "\ud800.mp4"), clips[0]], tmp_path / "frames")
    assert (row.item, row.reason) == ("odd", "unreadable")
    assert FrameStore(tmp_path / "frames").uris() == ["blink", clips[0][0]]


def test_a_clip_that_timed_out_is_tried_once_more(clips: ClipList, tmp_path: Path) -> None:
    good = [clip for clip in clips if "good" in clip[0]]

    def stop_decoder(done: int, total: int) -> None:
        if done == 1:  # at most three clips are decoded by now, so one of the others meets a stopped decoder
            (child,) = descendants(os.getpid()) - before
            os.kill(child, signal.SIGSTOP)

    before = descendants(os.getpid())
    assert run(good, tmp_path / "frames", progress=stop_decoder, workers=1, time_limit_s=3.0) == []
    assert len(FrameStore(tmp_path / "frames").uris()) == 5


@pytest.mark.parametrize("reason", ["timeout", "crashed"])
def test_a_refusal_that_may_pass_is_tried_again_by_the_next_call(
    store: Path, clips: ClipList, tmp_path: Path, reason: str
) -> None:
    out = tmp_path / "frames"
    shutil.copytree(store, out)
    note = out / "shard-00000.json"
    note.write_text(note.read_text().replace("not_a_video", reason))
    assert reason not in {row.reason for row in run(clips, out)}
    assert published(out) == published(store)


def test_a_wrong_setting_is_an_error_and_no_refusal_of_every_clip(clips: ClipList, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fps must be a number above 0, got -1"):
        run(clips, tmp_path / "frames", fps=-1.0)


def test_stored_frames_have_true_times_and_sizes(store: Path) -> None:
    frames = FrameStore(store)
    clip = frames.clip("clips/good4.mp4")
    assert clip.times_s == pytest.approx([i / 4 for i in range(10)])
    assert (clip.true_width, clip.true_height, clip.stored_width, clip.stored_height) == (96, 72, 80, 60)
    assert [grey_index(frame) for frame in frames.frames("clips/good4.mp4", [3, 0])] == [6, 0]
    assert clip.verdict == "complete"


def test_the_digest_of_the_video_file_is_kept(store: Path, clips: ClipList) -> None:
    uri, path = clips[0]
    assert FrameStore(store).clip(uri).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_partial_clip_is_kept_and_says_so(shared_clips: Path, tmp_path: Path) -> None:
    run([("c", shared_clips / "corrupted.mp4")], tmp_path / "frames")
    clip = FrameStore(tmp_path / "frames").clip("c")
    assert clip.verdict == "partial"
    assert "28 of 50" in clip.note
    assert max(clip.times_s) <= 2.8


def test_shards_are_safetensors_that_the_library_reads(store: Path) -> None:
    frames = FrameStore(store)
    seen = []
    for path in sorted(store.glob("*.safetensors")):
        with safe_open(path, "numpy") as shard:
            for uri in shard.keys():  # noqa: SIM118 - not a dict
                assert np.array_equal(shard.get_tensor(uri), frames.frames(uri))
                seen.append(uri)
    assert sorted(seen) == sorted(frames.uris())


def test_a_rerun_and_a_fresh_run_give_the_same_bytes(store: Path, clips: ClipList, tmp_path: Path) -> None:
    before, times = published(store), {path.name: path.stat().st_mtime_ns for path in store.glob("shard*")}
    run(clips, store)
    assert published(store) == before
    assert {path.name: path.stat().st_mtime_ns for path in store.glob("shard*")} == times
    run(clips, tmp_path / "fresh")
    assert published(tmp_path / "fresh") == before


def test_a_killed_run_goes_on_to_the_same_bytes(store: Path, clips: ClipList, tmp_path: Path) -> None:
    out = tmp_path / "frames"
    for after in (1, 4, 7):
        script = (
            "import os, signal, sys; from pathlib import Path\n"
            "sys.path.insert(0, sys.argv[1]); from test_prepare import run\n"
            f"kill = lambda done, total: done >= {after} and os.kill(os.getpid(), signal.SIGKILL)\n"
            "clips = [(u, Path(p)) for u, p in zip(sys.argv[3::2], sys.argv[4::2])]\n"
            "run(clips, Path(sys.argv[2]), progress=kill)"
        )
        names = [str(part) for pair in clips for part in pair]
        done = subprocess.run([sys.executable, "-c", script, str(Path(__file__).parent), str(out), *names], check=False)
        assert done.returncode == -signal.SIGKILL
        assert not (out / "index.jsonl").exists()
    run(clips, out)
    assert published(out) == published(store)


def _altered(path: Path, kind: str) -> None:
    data = bytearray(path.read_bytes())
    if kind == "bit":
        data[-5] ^= 1
    elif kind == "cut":
        del data[-100:]
    elif kind == "longer":
        data += b"more"
    elif kind == "header":
        data[10] ^= 255
    path.write_bytes(data)
    if kind == "gone":
        path.unlink()


@pytest.mark.parametrize("kind", ["bit", "cut", "longer", "header", "gone"])
def test_an_altered_shard_is_noticed_and_made_again(store: Path, clips: ClipList, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "frames"
    shutil.copytree(store, out)
    _altered(out / "shard-00000.safetensors", kind)
    with pytest.raises(VideoError, match=r"shard-00000.*prepare") as caught:
        FrameStore(out).frames("clips/good0.mp4")
    assert caught.value.reason == "store_damaged"
    run(clips, out)
    assert published(out) == published(store)


def test_a_broken_index_is_a_clear_error(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "frames"
    shutil.copytree(store, out)
    index = out / "index.jsonl"
    for text in (index.read_text()[:-20], index.read_text().replace('"uri"', '"url"', 1), "[]\n"):
        index.write_text(text)
        with pytest.raises(VideoError, match="damaged"):
            FrameStore(out)
    index.unlink()
    with pytest.raises(VideoError, match="prepare"):
        FrameStore(out)


def test_other_settings_or_a_changed_clip_make_the_shard_again(clips: ClipList, tmp_path: Path) -> None:
    own = tmp_path / "own.mp4"
    shutil.copyfile(clips[0][1], own)
    out = tmp_path / "frames"
    run([("own", own)], out)
    assert len(FrameStore(out).clip("own").times_s) == 8
    run([("own", own)], out, fps=2.0)
    assert len(FrameStore(out).clip("own").times_s) == 4
    shutil.copyfile(clips[-1][1], own)
    run([("own", own)], out, fps=2.0)
    assert len(FrameStore(out).clip("own").times_s) == 5


def test_a_shorter_list_leaves_no_stale_shards(store: Path, clips: ClipList, tmp_path: Path) -> None:
    out = tmp_path / "frames"
    shutil.copytree(store, out)
    for left in (".shard-00003.safetensors.tmp", ".shard-00003.json.4711.tmp"):
        (out / left).write_text("half")
    run(clips[:2], out)
    assert sorted(published(out)) == ["index.jsonl", "shard-00000.json", "shard-00000.safetensors"]


def test_a_full_disk_is_told_and_the_same_call_goes_on(store: Path, clips: ClipList, tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1]); from test_prepare import run\n"
        "from aot.errors import VideoError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))\n"
        "try: run([tuple((u, Path(p))) for u, p in zip(sys.argv[3::2], sys.argv[4::2])], Path(sys.argv[2]))\n"
        "except VideoError as error: print(error.reason)"
    )
    out = tmp_path / "frames"
    names = [str(part) for pair in clips for part in pair]
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent), str(out), *names],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "disk_full"
    assert not list(out.glob(".*"))
    run(clips, out)
    assert published(out) == published(store)


def test_an_unwritable_folder_is_told(clips: ClipList, tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # below a regular file nobody may write, not even root
    with pytest.raises(VideoError, match="choose another folder") as caught:
        run(clips, tmp_path / "file" / "frames")
    assert caught.value.reason == "unwritable"


def test_a_file_in_place_of_the_folder_is_told(clips: ClipList, tmp_path: Path) -> None:
    (tmp_path / "frames").write_text("in the way")
    with pytest.raises(VideoError) as caught:
        run(clips, tmp_path / "frames")
    assert caught.value.reason == "unwritable"


def test_two_clips_of_one_name_are_an_error(clips: ClipList, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="share the uri"):
        run([clips[0], clips[0]], tmp_path / "frames")


def test_a_store_can_be_sent_to_another_process(store: Path) -> None:
    frames = FrameStore(store)
    frames.frames("clips/good0.mp4")
    copy = pickle.loads(pickle.dumps(frames))
    assert np.array_equal(copy.frames("clips/good0.mp4"), frames.frames("clips/good0.mp4"))


def test_an_unknown_clip_or_frame_is_told(store: Path) -> None:
    frames = FrameStore(store)
    with pytest.raises(KeyError, match="refused by prepare"):
        frames.clip("clips/other.mp4")
    with pytest.raises(IndexError, match=r"0\.\.7"):
        frames.frames("clips/good0.mp4", [8])
