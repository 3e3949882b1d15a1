"""How a stream keeps up with a camera while the model takes a second, and what append-only prompts save.

Three parts in one run, with the embedded video base or an export of yours:

1. A camera of 30 frames per second for ten minutes into a model that takes a second for each answer: how long `observe`
   takes, how old the newest frame of each answer is when it is ready (against its own inference and one frame), and how
   much the memory of the process grows.
2. An answer after 32 frames, and one after one more, beside encoding the clip again (baseline: `student.ask`).
3. How long a decision takes on a stream of ordinary speed.

    python scripts/bench_stream.py                       # ten minutes and a half
    python scripts/bench_stream.py --seconds 20          # a short try
"""

import argparse
import statistics
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from embedded_export import export_embedded

from aot.serving.stream.loop import StreamCounts, StudentStream
from aot.serving.stream.reader import StreamReader
from aot.serving.stream.ring import FrameRing, PickedFrames
from aot.serving.student import ServedStudent, load_student
from aot.student.answer.decoding import Prompt, read_prompts
from aot.student.rows.prompts import PROBE

QUESTION, CHOICES = "What is the next step?", ("wash rice", "chop onion", "fry egg", "boil noodles")
SIZE_HW = (480, 640)
WINDOW_S = 20.0
NUM_FRAMES = 32
PICK_S = 0.005
"""Between the moment at which frames are picked and that at which the model is taken."""
COMPARED = (
    "encoding the clip again (student.ask)", "the same on a stream that forgot", "frames already read",
    "frames already read, and a new one",
)  # fmt: skip


class SlowStudent(ServedStudent):
    """A student whose every turn takes so long, with the model at work all the time."""

    def __init__(self, student: ServedStudent, *, turn_s: float) -> None:
        super().__init__(student.student, student.contract)
        self._turn_s = turn_s
        self.turns: list[tuple[float, float]] = []

    @contextmanager
    def turn(self) -> Iterator[Any]:
        """The model, kept busy until the time is over."""
        with super().turn() as model:
            begun_s = time.monotonic()
            yield model
            prompt = Prompt(model.renderer.encode(PROBE, (), "direct", frame_size_hw=None).prompt_ids)
            while time.monotonic() - begun_s < self._turn_s:
                read_prompts(model, [prompt])
            self.turns.append((begun_s, time.monotonic()))


@dataclass
class Filmed:
    """What was seen while the camera ran."""

    observe_s: list[float] = field(default_factory=list)
    worked_s: list[float] = field(default_factory=list)
    """Of these the time on a processor: the rest is waiting for one, or for the interpreter."""
    ages_s: list[float] = field(default_factory=list)
    """Of the newest frame of each answer when it was ready."""
    over_s: list[float] = field(default_factory=list)
    """By so much more than its inference and one frame."""
    observed_s: list[float] = field(default_factory=list)
    """When `observe` had come back from each frame."""
    missed: int = 0
    """Answers whose inference began after a newer frame than theirs had been observed."""
    rss_mb: list[float] = field(default_factory=list)
    """Each second."""
    reasons: dict[str, int] = field(default_factory=dict)
    """How often a control loop of 10 Hz got an answer, or none, by reason."""


def main() -> None:
    """Run all parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", nargs="?", type=Path, help="folder of an exported video student; default: embedded")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, help="instead of minutes, for a short try")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--turn-s", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        student = load_student(args.export or export_embedded("tiny-video", Path(folder) / "video"))
    seconds = args.seconds if args.seconds is not None else 60 * args.minutes
    film(student, seconds=seconds, fps=args.fps, turn_s=args.turn_s)
    compare(student, rounds=args.rounds)
    decide(student, rounds=10 * args.rounds)


def film(student: ServedStudent, *, seconds: float, fps: float, turn_s: float) -> None:
    """Part 1."""
    slow, seen = SlowStudent(student, turn_s=turn_s), Filmed()
    with StudentStream(slow, question=QUESTION, choices=CHOICES, stale_s=3 * turn_s, window_s=WINDOW_S) as stream:
        stream.warm_up()
        slow.turns.clear()
        over = threading.Event()
        watching = threading.Thread(target=_watch, args=(stream, slow, seen, over, 1 / fps))
        watching.start()
        frames = [np.random.default_rng(i).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8) for i in range(16)]
        started_s = time.monotonic()
        for number in range(round(seconds * fps)):
            time.sleep(max(0.0, started_s + number / fps - time.monotonic()))
            begun_s, worked_s = time.perf_counter(), time.thread_time()
            stream.observe(frames[number % len(frames)])
            seen.observe_s.append(time.perf_counter() - begun_s)
            seen.worked_s.append(time.thread_time() - worked_s)
            seen.observed_s.append(time.monotonic())
        over.set()
        watching.join()
        counts = stream.counts
    _print_film(seen, counts, seconds=seconds, fps=fps)


def _watch(stream: StudentStream, slow: SlowStudent, seen: Filmed, over: threading.Event, frame_s: float) -> None:
    """Ask ten times a second, as a control loop would."""
    last: tuple[float, ...] = ()
    rounds = 0
    while not over.wait(0.1):
        answer = stream.answer()
        reason = answer.abstained or "answered"
        seen.reasons[reason] = seen.reasons.get(reason, 0) + 1
        if answer.frame_times_s and answer.frame_times_s != last:
            last, (begun_s, ended_s) = answer.frame_times_s, slow.turns[-1]
            seen.ages_s.append(ended_s - last[-1])
            seen.over_s.append(begun_s - last[-1] - frame_s)
            known = seen.observed_s[: bisect_left(seen.observed_s, begun_s - PICK_S)]
            seen.missed += len(known) > bisect_left(seen.observed_s, last[-1]) + 1
        if rounds % 10 == 0:
            seen.rss_mb.append(_rss_mb())
        rounds += 1


def _print_film(seen: Filmed, counts: StreamCounts, *, seconds: float, fps: float) -> None:
    p50, p99 = (1e3 * float(one) for one in np.percentile(seen.observe_s, [50, 99]))
    print(f"1. {seconds:.0f} s at {fps:g} frames per second, {SIZE_HW[1]}x{SIZE_HW[0]}; frames {counts.frames}")
    print(f"   observe: p50 {p50:.2f} ms, p99 {p99:.2f} ms, most {1e3 * max(seen.observe_s):.1f} ms "
          f"(n={len(seen.observe_s)}; goal p99 under 5 ms: ratio {p99 / 5:.2f}); of which at work p99 "
          f"{1e3 * float(np.percentile(seen.worked_s, 99)):.2f} ms")  # fmt: skip
    if seen.ages_s:
        late, most_ms = sum(one > 0 for one in seen.over_s), 1e3 * max(seen.over_s)
        print(f"   newest frame of an answer when it was ready: p50 {statistics.median(seen.ages_s):.3f} s, most "
              f"{max(seen.ages_s):.3f} s (n={len(seen.ages_s)}); older than its inference and one frame: {late}, the "
              f"oldest by {most_ms:+.1f} ms; begun although a newer one was there: {seen.missed}")  # fmt: skip
    tenth = max(1, len(seen.rss_mb) // 10)
    early, later = (
        statistics.median(seen.rss_mb[tenth : 2 * tenth] or seen.rss_mb),
        statistics.median(seen.rss_mb[-tenth:]),
    )
    print(f"   memory of the process: {early:.1f} MB in the second tenth of the time, {later:.1f} MB in the last: "
          f"{later - early:+.1f} MB; frames held {counts.held_frames}")  # fmt: skip
    print(f"   control loop: {seen.reasons}; vision {counts.frames_seen} frames, prompts read anew {counts.restarts}")


def compare(student: ServedStudent, *, rounds: int) -> None:
    """Part 2."""
    rule = student.contract.frames
    assert rule is not None
    rule = rule.model_copy(update={"num_frames": NUM_FRAMES + 1})
    config = student.student.config.model_copy(update={"num_frames": NUM_FRAMES + 1})
    model = replace(student.student, config=config)
    long = ServedStudent(model, student.contract.model_copy(update={"frames": rule}))
    frames = [np.random.default_rng(i).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8) for i in range(NUM_FRAMES + 1)]
    times_s = [i / rule.stored_fps for i in range(NUM_FRAMES + 1)]
    reader = StreamReader(long, question=QUESTION, choices=CHOICES, kind="", mode=None, max_features=64)
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in COMPARED}
    for _ in range(rounds):
        ring = FrameRing(rule, window_s=None, near_duplicate=0.0)
        for frame, time_s in zip(frames[:NUM_FRAMES], times_s, strict=False):
            ring.offer(frame, time_s, now_s=times_s[-1])
        reader.forget()
        for name in COMPARED[1:3]:
            took[name].append(_timed(lambda: reader.answer(_shown(ring))))  # noqa: B023 - called at once
        ring.offer(frames[-1], times_s[-1], now_s=times_s[-1])
        took[COMPARED[3]].append(_timed(lambda: reader.answer(_shown(ring))))  # noqa: B023
        took[COMPARED[0]].append(
            _timed(lambda: long.ask(QUESTION, frames=frames[:NUM_FRAMES], times_s=times_s[:-1], choices=CHOICES))
        )
    medians = {name: np.median(np.array(row), axis=0) for name, row in took.items()}
    base = medians[COMPARED[0]]
    print(f"2. an answer after {NUM_FRAMES} frames (medians of n={rounds}; append-only: {reader.appends})")
    for name, row in medians.items():
        wall, worked = base / row
        print(f"   {name:40} {1e3 * row[0]:8.2f} ms {wall:6.1f} times as fast; at work {1e3 * row[1]:8.2f} ms, "
              f"{worked:6.1f} times less")  # fmt: skip


def decide(student: ServedStudent, *, rounds: int) -> None:
    """Part 3."""
    rule = student.contract.frames
    assert rule is not None
    reader = StreamReader(student, question=QUESTION, choices=CHOICES, kind="", mode=None, max_features=64)
    ring = FrameRing(rule, window_s=WINDOW_S, near_duplicate=0.0)
    took, cached = [], []
    rng = np.random.default_rng(0)
    for number in range(rounds):
        ring.offer(rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8), number / 10, now_s=1e9)
        shown = _shown(ring)
        begun_s = time.perf_counter()
        answer = reader.answer(shown)
        took.append(time.perf_counter() - begun_s)
        cached.append(answer.usage.cached_prompt_tokens / answer.usage.prompt_tokens)
    p50, p95, p99 = np.percentile(took, [50, 95, 99]) * 1e3
    print(f"3. a decision with a new frame, {rule.num_frames} shown, {len(CHOICES)} choices: p50 {p50:.1f} ms, p95 "
          f"{p95:.1f} ms, p99 {p99:.1f} ms (n={rounds}); {100 * statistics.mean(cached):.0f}% of prompt tokens are not "
          "read again")  # fmt: skip


def _timed(act: Callable[[], object]) -> tuple[float, float]:
    """Seconds that something took, and those of them on a processor."""
    begun_s, worked_s = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - begun_s, time.process_time() - worked_s


def _shown(ring: FrameRing) -> PickedFrames:
    shown = ring.shown()
    assert shown is not None
    return shown


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
