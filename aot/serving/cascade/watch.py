"""Declares a promise void once requests no longer look like the calibration questions, with few false alarms ever.

Each request is measured in a few ways that need no gold answer: how sure the student is, how long the question is, how
many of its words nobody taught. Each measure is ranked among all calibration questions and all requests before it:
the rank, ties broken at random, is a smoothed conformal p-value, and as long as requests are exchangeable with the
calibration questions these are independent and uniform whatever the distribution is (Vovk, Nouretdinov and Gammerman,
Testing exchangeability on-line, ICML 2003). A gambler bets on p-values near 0 or near 1; her wealth is a test
martingale, which ever reaches 1/a with probability a at most (Ville's inequality), however long the stream is.

As a stream may change late, a new gambler begins every STRIDE requests with a share of the first money that shrinks as
1/(j(j+1)), so that all shares sum to 1 (an e-detector, Shin, Ramdas and Rinaldo 2022, arXiv 2203.03532); the poorest
are let go, which only loses money. The alarm rate is divided by the number of measures.
"""

import bisect
import hashlib
import math
import re
import threading
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from aot import seeds
from aot.display import storable
from aot.served_records import AskMode, WatchBaseline, WatchFeature, WatchRun, WatchState

ALARM_RATE = 0.05
STRIDE = 25
MOST_RUNS = 16
POWERS = (0.2, 0.5, 0.8)
"""Bets of density e * p ** (e - 1): the smaller e, the more is put on p-values near 0; as many on those near 1."""
_LEVELS = (0.0, 0.005, 0.01, 0.02, 0.05, *(i / 10 for i in range(1, 10)), 0.95, 0.98, 0.99, 0.995, 1.0)
_WORD = re.compile(r"[^\W_]+|[^\w\s]")
_DIGIT = re.compile(r"[\d#]")


def words_of(texts: Iterable[str]) -> set[str]:
    """The words of texts in lower case, each digit, and `#`, as `0`: numbers are told apart by their length only."""
    return {word for text in texts for word in _words(text)}


def _words(text: str) -> list[str]:
    return _WORD.findall(_DIGIT.sub("0", text.lower()))


def question_sha256(question: str) -> str:
    """By which a question is known in a log without its text."""
    return hashlib.sha256(storable(question).encode()).hexdigest()


def features_of(
    question: str, *, choices: Sequence[str] = (), confidence: float | None, words: frozenset[str]
) -> dict[str, float]:
    """What a watch measures of one request.

    Args:
        question: its text.
        choices: if there are any.
        confidence: calibrated; None where the student has no answer.
        words: those of training (see words_of).
    """
    said = [word for text in (question, *choices) for word in _words(text)]
    return {
        "confidence": -1.0 if confidence is None else confidence,
        "length": float(len(said)),
        "unknown_words": float(sum(word not in words for word in said)),
    }


def watch_baseline(
    fit: Sequence[Mapping[str, float]], test: Sequence[Mapping[str, float]], *, words: Iterable[str], mode: AskMode
) -> WatchBaseline:
    """How the measures of calibration questions are spread.

    Args:
        fit: measures that lay the edges of the bins, and of no question in `test`.
        test: those that requests are ranked among, one of each group; exchangeable with requests to come.
        words: those of training, and of no question in `test` unless training has them too.
        mode: how the questions were answered.
    """
    features = []
    for name in test[0] if test else ():
        low_high = np.quantile([row[name] for row in fit], _LEVELS, method="higher")
        edges = sorted({float(np.nextafter(low_high[0], -np.inf)), *map(float, low_high)})
        counts = [0] * (len(edges) + 1)
        for row in test:
            counts[bisect.bisect_left(edges, row[name])] += 1
        features.append(WatchFeature(name=name, edges=tuple(edges), counts=tuple(counts)))
    return WatchBaseline(mode=mode, features=tuple(features), words=tuple(sorted(words)))


class ContractWatch:
    """Watches one stream of requests; safe to share between threads.

        watch = ContractWatch(calibration.watch("decide"))
        if watch.observe("What is next?", choices=choices, confidence=0.9).void_at is not None: ...

    Its `state` is a record; another process goes on with it.
    """

    def __init__(self, baseline: WatchBaseline, *, seed: int = 0, state: WatchState | None = None) -> None:
        """A watch that cries wolf with probability ALARM_RATE at most, over any number of requests."""
        self.baseline, self.seed = baseline, seed
        self.state = state or WatchState()
        self._words = frozenset(baseline.words)
        self._lock = threading.Lock()

    def observe(self, question: str, *, choices: Sequence[str] = (), confidence: float | None) -> WatchState:
        """The state after one more request; `void_at` says whether the promise has ended."""
        measures = features_of(question, choices=choices, confidence=confidence, words=self._words)
        with self._lock:
            self.state = next_state(self.state, self.baseline, measures, alarm_rate=ALARM_RATE, seed=self.seed)
            return self.state


def next_state(
    state: WatchState, baseline: WatchBaseline, measures: Mapping[str, float], *, alarm_rate: float, seed: int
) -> WatchState:
    """The state after one more request with these measures; once void it stays void."""
    number = state.observed + 1
    if state.void_at is not None or not baseline.features:
        return state.model_copy(update={"observed": number})
    counts = state.counts or tuple((0,) * len(feature.counts) for feature in baseline.features)
    runs = state.runs or ((),) * len(baseline.features)
    new_counts, new_runs, void_by = [], [], ""
    for feature, seen, going in zip(baseline.features, counts, runs, strict=True):
        now, p = ranked(feature, seen, measures[feature.name], tie=seeds.share(seed, feature.name, number))
        bets = bets_after(going, rank_gains(p), number=number)
        if log_wealth(bets) >= math.log(len(baseline.features) / alarm_rate):
            void_by = void_by or feature.name
        new_counts.append(now)
        new_runs.append(bets)
    return WatchState(
        observed=number, counts=tuple(new_counts), runs=tuple(new_runs),
        void_at=number if void_by else None, void_by=void_by,
    )  # fmt: skip


def ranked(feature: WatchFeature, seen: Sequence[int], value: float, *, tie: float) -> tuple[tuple[int, ...], float]:
    """How many values of the stream lie in each bin with this one, and the rank of this one among all so far.

    The rank is the share of all that lie lower, and of its equals, itself among them, as many as `tie` says.
    """
    place = bisect.bisect_left(feature.edges, value)
    now = (*seen[:place], seen[place] + 1, *seen[place + 1 :])
    total = sum(feature.counts) + sum(now)
    lower = sum(feature.counts[:place]) + sum(now[:place])
    return now, (lower + tie * (feature.counts[place] + now[place])) / total


def rank_gains(p: float) -> list[float]:
    """The logs of what each way to bet on ranks near 0, and on ranks near 1, makes of its money."""
    sides = [math.log(max(x, 1e-12)) for x in (p, 1 - p)]
    return [math.log(e) + (e - 1) * side for side in sides for e in POWERS]


def bets_after(runs: Sequence[WatchRun], gains: Sequence[float], *, number: int) -> tuple[WatchRun, ...]:
    """Every gambler after item `number`, the one among them who begins here; the richest MOST_RUNS of them.

    Args:
        runs: those before it.
        gains: the log of what each way to bet makes of its money here; none may be expected to grow while all is well.
        number: of the item, from 1.
    """
    if (number - 1) % STRIDE == 0:
        runs = (*runs, WatchRun(started=number, logs=(0.0,) * len(gains)))
    after = [  # not validated: it is done for each gambler at each item
        WatchRun.model_construct(started=run.started, logs=tuple(a + b for a, b in zip(run.logs, gains, strict=True)))
        for run in runs
    ]
    if len(after) > MOST_RUNS:
        # Never one that has just begun: it has had no time to earn.
        old = [run for run in after if number - run.started >= 4 * STRIDE] or after
        after.remove(min(old, key=_log_share))
    return tuple(after)


def log_wealth(runs: Sequence[WatchRun]) -> float:
    """The log of all gamblers' money together, which is expected to stay at 1 at most while all is well."""
    return log_sum([_log_share(run) for run in runs]) if runs else 0.0


def richest(runs: Sequence[WatchRun]) -> WatchRun | None:
    """The gambler with most money, who began about where things changed; None before the first item."""
    return max(runs, key=_log_share, default=None)


def _log_share(run: WatchRun) -> float:
    """Log of the money of one gambler, who put equal parts on each way to bet."""
    nth = (run.started - 1) // STRIDE + 1
    return log_sum(run.logs) - math.log(len(run.logs)) - math.log(nth * (nth + 1))


def log_sum(logs: Sequence[float]) -> float:
    """The log of the sum of numbers given by their logs."""
    top = max(logs)
    return top + math.log(sum(math.exp(one - top) for one in logs))
