"""Does the cascade keep its promise? Many calibrations of one student on one pool of new labelled questions.

    python scripts/check_cascade.py --simulated
    python scripts/check_cascade.py runs/toy_kitchen runs/tiny_math [--count 2000] [--splits 200] [--work FOLDER]

For each run it draws a pool of new questions, as `aot calibrate` draws them, asks the student and the teacher of the
run once, which stands for the big model, and keeps both in the work folder. Then, for each of many random splits of the
pool: temperatures and thresholds from one half, what became of the other half.
A promise is broken where more than the target is lost among the answers of the other half that stay. The naive
threshold beside it is the loosest one whose share of lost answers on all calibration questions is within the target.
Last, streams with out-of-domain questions mixed in: how often the watch declares the promise void within 200 requests.
Exits with 1 if promises are broken, or false alarms are raised, significantly more often than in 5%.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aot.config import MODES_OF_ORDER, RunConfig, load_saved
from aot.evaluation.risk import (
    FIT_SHARE,
    Judged,
    Sample,
    choose_threshold,
    fit_temperatures,
    measure,
    must_escalate,
    sample_of,
    temperature_of,
)
from aot.evaluation.scoring import score
from aot.files.run_folder import RunFolder, publish_rows, read_rows
from aot.pipeline.doors import door_of
from aot.pipeline.evaluate import teacher_prediction
from aot.pipeline.student.calibrate import fresh_questions, training_words
from aot.records import ClipAnnotation, Prediction, PromptMode, Question
from aot.served_records import AskMode, KindTemperature, WatchState
from aot.serving.cascade.calibrate import answer_all, judge
from aot.serving.cascade.watch import features_of, next_state, watch_baseline
from aot.wilson import wilson

TARGETS = (0.01, 0.015, 0.022, 0.05, 0.1)
CONFIDENCE = 0.95
SHARES = (0.1, 0.25, 0.5, 1.0)
WITHIN = 200
OOD = {"toy_kitchen": ("test_ood",), "toy_math": ("ood_family", "ood_large", "ood_terms", "ood_names")}


@dataclass(frozen=True)
class Pool:
    """Questions with the student's answers and the big model's, one of each group."""

    questions: list[Question]
    items: list[Judged]
    big_right: np.ndarray
    """(n,)"""


def share(hits: int, n: int) -> str:
    """A share with its 95% interval."""
    low, high = wilson(hits=hits, n=n)
    return f"{100 * hits / max(1, n):.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def make_pool(
    run: RunFolder, config: RunConfig, *, arm: str, like: str, count: int, work: Path
) -> tuple[Pool, AskMode]:
    """A pool of new questions like those of a split, drawn and asked once; later calls read it."""
    out = RunFolder(work / like)
    mode = MODES_OF_ORDER[next(one.order for one in config.train.arms if one.name == arm)][0]
    if not out.done.exists():
        fresh = fresh_questions(out, run, config, count=count, like=like)
        assert fresh, "only synthetic data sets have a pool"
        closed = [one for one in fresh.questions if one.choices]
        questions = list({one.group: one for one in closed or fresh.questions}.values())
        _ask_both(run, out, config, questions, arm=arm, mode=mode)
        publish_rows(out.questions, questions)
        out.done.write_text("asked\n")
    questions = list(read_rows(out.questions, Question))
    asked: AskMode = "decide" if questions[0].choices else mode
    said = list(read_rows(out.predictions_of(arm, asked), Prediction))
    big = list(read_rows(out.predictions_of("teacher", "none"), Prediction))
    items = [judge(q, p, b) for q, p, b in zip(questions, said, big, strict=True)]
    big_right = np.array([score(b, q).correct for q, b in zip(questions, big, strict=True)])
    return Pool(questions, items, big_right), asked


def _ask_both(
    run: RunFolder, out: RunFolder, config: RunConfig, questions: list[Question], *, arm: str, mode: PromptMode
) -> None:
    from aot.student.model.loading import load_student
    from aot.student.rows.frames import FramePixels

    publish_rows(out.annotations, (row for row in read_rows(run.annotations, ClipAnnotation) if row.split == "train"))
    teacher = door_of(config).teachers().open_teacher(out, config, writer="check")
    traces = [teacher.answer(question, 0) for question in questions]
    teacher.close()
    publish_rows(out.predictions_of("teacher", "none"), map(teacher_prediction, traces, questions))
    student = load_student(config.student.base, adapter=run.arm(arm), config=config.student)
    pixels = None
    if questions[0].media:
        from video_data.store.shards import FrameStore

        pixels = FramePixels(
            FrameStore(out.frames), student.processor, model_type=student.model_type, max_bytes=256 << 20
        )
    said = answer_all(student, questions, pixels=pixels, mode=mode, arm=arm, batch_size=config.evaluate.batch_size)
    for name, rows in said.items():
        publish_rows(out.predictions_of(arm, name), (made for _, made in rows))


def naive_threshold(sample: Sample, target: float) -> float | None:
    """The loosest threshold with at most the target lost among what stays, as seen, without any bound."""
    order = np.argsort(-sample.confidence, kind="stable")
    confidence, lost = sample.confidence[order], sample.lost[order]
    within = np.cumsum(lost) / np.arange(1, len(lost) + 1) <= target
    ends = np.append(confidence[1:] < confidence[:-1], True)  # a threshold keeps all of equal confidence
    places = np.flatnonzero(within & ends & (confidence >= 0))
    return float(confidence[places[-1]]) if len(places) else None


@dataclass
class Tally:
    """What became of one target over the splits."""

    broken: int = 0
    pool_broken: int = 0
    """By the risk in the whole pool, of which the calibration is a random part: without the noise of the other half."""
    naive_broken: int = 0
    none: int = 0
    local: float = 0.0
    naive_local: float = 0.0
    student: float = 0.0
    cascade: float = 0.0
    big: float = 0.0
    naive_cascade: float = 0.0


def check_splits(pool: Pool, *, mode: AskMode, splits: int, calibration: int) -> int:
    """Print what became of each target; returns how many of all promises were broken beyond chance (0 or 1)."""
    n, total = len(pool.items), 0
    right = np.array([item.right for item in pool.items])
    for loss in ("wrong", "disagrees"):
        tallies = [Tally() for _ in TARGETS]
        for seed in range(splits):
            order = np.random.default_rng([seed, n]).permutation(n)
            fit, test, later = np.split(order, [int(FIT_SHARE * calibration), calibration])
            temperatures = fit_temperatures([pool.items[i] for i in fit], mode=mode)
            every = sample_of(pool.items, temperatures, loss=loss)
            parts = [
                Sample(every.confidence[part], every.lost[part]) for part in (fit, test, later, order[:calibration])
            ]
            for target, tally in zip(TARGETS, tallies, strict=True):
                row = choose_threshold(*parts[:2], target=target, confidence=CONFIDENCE, mode=mode, loss=loss)
                _count(tally, row.threshold, parts[2], target, right[later], pool.big_right[later], naive=False)
                kept, lost = every.at(np.inf if row.threshold is None else row.threshold)
                tally.pool_broken += lost > target * kept
                naive = naive_threshold(parts[3], target)
                _count(tally, naive, parts[2], target, right[later], pool.big_right[later], naive=True)
        broken = sum(tally.broken for tally in tallies)
        naive_broken = sum(tally.naive_broken for tally in tallies)
        pairs = splits * len(TARGETS)
        in_pool = share(sum(tally.pool_broken for tally in tallies), pairs)
        print(f"  loss {loss}: broken in {share(broken, pairs)} of {splits} splits x {len(TARGETS)} targets, by risk "
              f"in the whole pool {in_pool}; naive {share(naive_broken, pairs)}")  # fmt: skip
        for target, tally in zip(TARGETS, tallies, strict=True):
            _tell(target, tally, splits)
        total += wilson(hits=broken, n=pairs)[0] > 1 - CONFIDENCE
    return total


def _count(
    tally: Tally,
    threshold: float | None,
    later: Sample,
    target: float,
    right: np.ndarray,
    big: np.ndarray,
    *,
    naive: bool,
) -> None:
    stays = later.confidence >= (np.inf if threshold is None else threshold)
    broken = bool(stays.any() and later.lost[stays].mean() > target)
    cascade = float(np.where(stays, right, big).mean())
    if naive:
        tally.naive_broken += broken
        tally.naive_local += float(stays.mean())
        tally.naive_cascade += cascade
        return
    tally.broken += broken
    tally.none += threshold is None
    tally.local += float(stays.mean())
    tally.cascade += cascade
    tally.student += float(right.mean())
    tally.big += float(big.mean())


def _tell(target: float, t: Tally, splits: int) -> None:
    accuracy, big = t.cascade / splits, t.big / splits
    print(
        f"    target {100 * target:4.1f}%: broken {share(t.broken, splits)}, in the pool {t.pool_broken}, "
        f"naive {share(t.naive_broken, splits)}; "
        f"no threshold in {t.none}; local {100 * t.local / splits:.1f}% (naive {100 * t.naive_local / splits:.1f}%), "
        f"accuracy {100 * accuracy:.2f}% = {accuracy / big:.4f} of the big model's "
        f"(naive {t.naive_cascade / t.big:.4f}); at least "
        f"{100 * must_escalate(1 - t.student / splits, target):.1f}% must be escalated"
    )


def check_watch(
    run: RunFolder, pool: Pool, foreign: dict[str, Pool], *, mode: AskMode, runs: int, calibration: int
) -> int:
    """Print how often the promise is declared void; returns 1 where false alarms are too many."""
    words = frozenset(training_words(run))
    void: defaultdict[tuple[str, float], list[int]] = defaultdict(list)
    alarms = []
    for seed in range(runs):
        rng = np.random.default_rng([seed, 1])
        order = rng.permutation(len(pool.items))
        fit, test, later = np.split(order, [int(FIT_SHARE * calibration), calibration])
        temperatures = fit_temperatures([pool.items[i] for i in fit], mode=mode)
        near = _measured(pool, temperatures, words)
        base = watch_baseline([near[i] for i in fit], [near[i] for i in test], words=(), mode=mode)
        alarms.append(_void_at([near[i] for i in later], base, seed))
        for name, other in foreign.items():
            far = _measured(other, temperatures, words)
            for part in SHARES:
                picks = rng.random(WITHIN) < part
                stream = [
                    far[rng.integers(len(far))] if strange else near[later[k % len(later)]]
                    for k, strange in enumerate(picks)
                ]
                void[name, part].append(_void_at(stream, base, seed))
    false = sum(at > 0 for at in alarms)
    length = len(pool.items) - calibration
    print(f"  watch, in domain: {share(false, runs)} false alarms in {length} requests, {runs} runs")
    for (name, part), ats in void.items():
        caught = [at for at in ats if at]
        median = f", after {int(np.median(caught))} (median)" if caught else ""
        how_often = f"void within {WITHIN} in {share(len(caught), runs)} of {runs} runs{median}"
        print(f"  watch, {100 * part:.0f}% of {name}: {how_often}")
    return int(wilson(hits=false, n=runs)[0] > 0.05)


def _measured(pool: Pool, temperatures: Sequence[KindTemperature], words: frozenset[str]) -> list[dict[str, float]]:
    rows = []
    for question, item in zip(pool.questions, pool.items, strict=True):
        confidence = item.confidence(temperature_of(item.kind, temperatures)) if item.logs else None
        rows.append(features_of(question.text, choices=question.choices, confidence=confidence, words=words))
    return rows


def _void_at(stream: Sequence[dict[str, float]], base: object, seed: int) -> int:
    """The number of the request at which the promise ended; 0: it held."""
    state = WatchState()
    for measures in stream:
        state = next_state(state, base, measures, alarm_rate=0.05, seed=seed)  # type: ignore[arg-type]
        if state.void_at:
            return state.void_at
    return 0


def check_run(root: Path, *, arm: str | None, count: int, splits: int, work: Path) -> int:
    """All checks of one run; returns how many failed."""
    run = RunFolder(root)
    config = load_saved(run.config)
    arm = arm or next(one.name for one in config.train.arms if one.rationale_weight > 0)
    work = work / root.resolve().name / arm
    pool, mode = make_pool(run, config, arm=arm, like="test", count=count, work=work)
    n = len(pool.items)
    calibration = n // 2
    right = sum(item.right for item in pool.items)
    print(f"{root.name}, {arm}, {mode}: pool of n={n}; student {share(right, n)} right, big model (the teacher) "
          f"{share(int(pool.big_right.sum()), n)}")  # fmt: skip
    half = measure(pool.items[calibration:], fit_temperatures(pool.items[:calibration], mode=mode), mode=mode)
    print(f"  calibration on half, n={half.n}: error {half.ece_before:.3f} before, {half.ece_after:.3f} after; Brier "
          f"{half.brier_before:.3f} before, {half.brier_after:.3f} after")  # fmt: skip
    failed = check_splits(pool, mode=mode, splits=splits, calibration=calibration)
    foreign = {
        like: make_pool(run, config, arm=arm, like=like, count=max(50, count // 5), work=work)[0]
        for like in OOD[config.data.dataset]
    }
    for name, other in foreign.items():
        print(f"  {name}: student {share(sum(item.right for item in other.items), len(other.items))} right, "
              f"big model {share(int(other.big_right.sum()), len(other.items))}, n={len(other.items)}")  # fmt: skip
    return failed + check_watch(run, pool, foreign, mode=mode, runs=splits, calibration=calibration)


def check_simulated(splits: int) -> int:
    """Coverage where the true risk of each threshold is computed from the distribution; returns how many failed."""
    everything = _simulated(np.random.default_rng(0), 1_000_000)
    order = np.argsort(-everything.confidence)
    confidence = everything.confidence[order]
    risk = np.cumsum(everything.lost[order]) / np.arange(1, len(order) + 1)
    failed = 0
    print(f"simulated: confidence ~ Beta(6, 0.7), right with that probability; {splits} calibrations (seeds 0 to "
          f"{splits - 1}) for each row; risk by a million draws")  # fmt: skip
    for n, target in [(200, 0.1), *((n, target) for n in (500, 1000, 2000) for target in (0.05, 0.1))]:
        hits = dict.fromkeys(("broken", "naive", "none"), 0)
        local = []
        for seed in range(splits):
            sample = _simulated(np.random.default_rng([seed, n]), n)
            cut = int(FIT_SHARE * n)
            fit, test = (Sample(sample.confidence[part], sample.lost[part]) for part in (slice(cut), slice(cut, n)))
            row = choose_threshold(fit, test, target=target, confidence=CONFIDENCE, mode="decide", loss="wrong")
            for name, threshold in (("broken", row.threshold), ("naive", naive_threshold(sample, target))):
                place = int(np.searchsorted(-confidence, -threshold, side="right")) if threshold is not None else 0
                hits[name] += bool(place and risk[place - 1] > target)
                if name == "broken":
                    local.append(place / len(risk))
            hits["none"] += row.threshold is None
        ideal = (np.flatnonzero(risk <= target)[-1] + 1) / len(risk)
        print(f"  n={n:4}, target {100 * target:3.0f}%: broken {share(hits['broken'], splits)}, naive "
              f"{share(hits['naive'], splits)}; no threshold in {hits['none']}; local {100 * np.mean(local):.1f}%, "
              f"at best {100 * ideal:.1f}%")  # fmt: skip
        failed += wilson(hits=hits["broken"], n=splits)[0] > 1 - CONFIDENCE
    return failed


def _simulated(rng: np.random.Generator, n: int) -> Sample:
    sure = rng.beta(6, 0.7, size=n)
    return Sample(sure, rng.random(n) >= sure)


def checks(args: argparse.Namespace, work: Path) -> Iterator[int]:
    """How many checks failed, part by part."""
    if args.simulated:
        yield check_simulated(args.splits)
    for root in args.runs:
        yield check_run(root, arm=args.arm, count=args.count, splits=args.splits, work=work)


def main() -> None:
    """Parse, check, exit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="finished run folders of the embedded data sets")
    parser.add_argument("--arm", help="the first that learns rationales, if not given")
    parser.add_argument("--count", type=int, default=2000, help="questions of the pool")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--work", type=Path, help="keeps the pools; a new folder in the temporary one if not given")
    parser.add_argument("--simulated", action="store_true", help="check the bound on simulated data too")
    args = parser.parse_args()
    work = args.work or Path(tempfile.mkdtemp(prefix="check_cascade_"))
    sys.exit(1 if sum(checks(args, work)) else 0)


if __name__ == "__main__":
    main()
