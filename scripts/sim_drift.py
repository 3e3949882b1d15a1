"""Simulated deployments under `aot watch`: false alarms over many looks, and how soon a loss of 5 points is found.

    python -m venv drift_env && drift_env/bin/pip install numpy scipy evidently "pandas<3" pydantic pyyaml
    PYTHONPATH=. OMP_NUM_THREADS=1 drift_env/bin/python scripts/sim_drift.py

The bets are those of aot.drift and aot.serving.cascade.watch, for all deployments at once, and
tests/drift/test_bets.py compares both. Beside them stand tests of each batch: Kolmogorov-Smirnov and chi-square
(scipy), the exact binomial test, and evidently where it is installed.

A deployment: accuracy 85% at export, and confidences that mean what they say (beta, mean 0.85). A look brings 20
requests, one label of the traffic, and one pass over the 60 canaries, each twice more if it came out wrong.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from aot.drift.bets import FRACTIONS, LOSS_RATES, STAYS_WRONG, TOLERANCE, level_of
from aot.drift.look import REASKS
from aot.drift.watching import ALARM_RATE, REFERENCE, SHARES
from aot.serving.cascade.watch import MOST_RUNS, POWERS, STRIDE

CANARIES, REQUESTS, BATCH = 60, 20, 20
ACCURACY, LOSS = 0.85, 0.05
SHAPE = 1.7, 0.3
"""Of the beta distribution of confidences, whose mean is the accuracy."""
QUANTILES = 17


class ManyBets:
    """The gamblers of aot.serving.cascade.watch in many streams at once; rows are streams."""

    def __init__(self, streams: int, ways: int) -> None:
        self.number = 0
        self.logs_DRW = np.zeros((streams, MOST_RUNS + 1, ways))
        self.started_DR = np.zeros((streams, MOST_RUNS + 1), int)
        self.log_share_DR = np.full((streams, MOST_RUNS + 1), -np.inf)
        self.used = 0

    def step(self, gains_DW: np.ndarray) -> np.ndarray:
        """The log of the wealth of each stream after one more item."""
        self.go(gains_DW)
        return self.wealth()

    def skip(self, gains_W: np.ndarray, items: int) -> None:
        """So many items in a row that are the same in every stream."""
        while items:
            # Up to the next item at which a gambler begins, which is one of its own.
            here = min(items, max(1, STRIDE - (self.number - 1) % STRIDE - 1) if self.number else 1)
            self.go(np.broadcast_to(gains_W * 1.0, (len(self.logs_DRW), len(gains_W))), items=here)
            items -= here

    def go(self, gains_DW: np.ndarray, *, items: int = 1) -> None:
        """One item without the sum, where nobody wants to know it; or several of which only the first begins a run."""
        self.number += 1
        begins = (self.number - 1) % STRIDE == 0
        if begins:
            nth = (self.number - 1) // STRIDE + 1
            self.logs_DRW[:, self.used] = 0.0
            self.started_DR[:, self.used] = self.number
            self.log_share_DR[:, self.used] = -math.log(nth * (nth + 1)) - math.log(self.logs_DRW.shape[2])
            self.used += 1
        self.logs_DRW[:, : self.used] += items * gains_DW[:, None, :]
        self.number += items - 1
        if self.used > MOST_RUNS:
            old = self.number - self.started_DR >= 4 * STRIDE
            self._drop(np.where(old, self._money(), np.inf).argmin(axis=1))

    def wealth(self) -> np.ndarray:
        """The log of all money of each stream."""
        money_DR = self._money()
        top = money_DR.max(axis=1)
        return np.asarray(top + np.log(np.exp(money_DR - top[:, None]).sum(axis=1)))

    def _money(self) -> np.ndarray:
        """The log of the money of each gambler."""
        logs = self.logs_DRW[:, : self.used]
        top = logs.max(axis=2)
        return np.asarray(top + np.log(np.exp(logs - top[..., None]).sum(axis=2)) + self.log_share_DR[:, : self.used])

    def _drop(self, poorest: np.ndarray) -> None:
        rows = np.arange(len(poorest))
        last = self.used - 1
        for values in (self.logs_DRW, self.started_DR, self.log_share_DR):
            values[rows, poorest] = values[rows, last]
        self.used = last


class ManyLost:
    """`lost_after` in many streams: bets on every ask, and bets on canaries that turned wrong."""

    def __init__(self, streams: int) -> None:
        self.bets = ManyBets(streams, len(LOSS_RATES))
        self.flips = np.zeros(streams, int)
        self.settled = np.zeros(streams)
        self.open: list[dict[int, float]] = [{} for _ in range(streams)]
        self.rate_D = np.zeros(streams)
        self.last_D = np.zeros(streams)
        self.holders: set[int] = set()
        """Streams with a canary that was wrong when it was last asked."""
        self._gains = {
            wrong: np.array([math.log(q / TOLERANCE if wrong else (1 - q) / (1 - TOLERANCE)) for q in LOSS_RATES])
            for wrong in (False, True)
        }

    def step(self, wrong_D: np.ndarray, canary: int) -> np.ndarray:
        """The log of the wealth after one more ask of the same canary everywhere."""
        self.bets.go(np.where(wrong_D[:, None], self._gains[True], self._gains[False]))
        held = [d for d in self.holders if canary in self.open[d]]
        if not held and not wrong_D.any():  # then nobody gets richer
            return self.last_D
        self.rate_D = self.bets.wealth()
        for d in {*held, *map(int, np.flatnonzero(wrong_D))}:
            self.confirm(d, canary, is_wrong=bool(wrong_D[d]))
        self.last_D = self.wealth()
        return self.last_D

    def wealth(self) -> np.ndarray:
        """Half of the money is bet on every ask, half on canaries that turned wrong."""
        confirming = self.settled + 1 / (self.flips + 1) + np.array([sum(one.values()) for one in self.open])
        return np.asarray(np.log((np.exp(np.minimum(self.rate_D, 600)) + confirming) / 2))

    def confirm(self, d: int, canary: int, *, is_wrong: bool) -> None:
        """Settle the bets of one stream on one canary after an ask, or open them."""
        money = self.open[d].pop(canary, None)
        if money is None:
            self.flips[d] += 1
            self.open[d][canary] = 1 / (self.flips[d] * (self.flips[d] + 1))
        elif is_wrong:
            self.open[d][canary] = money * STAYS_WRONG / TOLERANCE
        else:
            self.settled[d] += money * (1 - STAYS_WRONG) / (1 - TOLERANCE)
        (self.holders.add if self.open[d] else self.holders.discard)(d)


def threshold(test: str) -> float:
    """The log of the wealth at which a test alarms."""
    return -math.log(level_of(test, SHARES, alarm_rate=ALARM_RATE))


def first_passing(wealth_TD: np.ndarray, test: str) -> np.ndarray:
    """When each stream alarmed, from 1; 0 where it never did."""
    over = wealth_TD >= threshold(test)
    return np.where(over.any(axis=0), over.argmax(axis=0) + 1, 0)


def canary_passes(
    rng: np.random.Generator, streams: int, passes: int, *, flicker: float, lost: float, before: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The look of the alarm after the change (0: none), and false alarms before it.

    Args:
        rng: of the draws.
        streams: deployments.
        passes: looks after the change.
        flicker: probability of one wrong answer of an unchanged student to a canary that it knew.
        lost: share of all questions that were right and are wrong after the change, for good.
        before: quiet looks before it.
    """
    right_DC = rng.random((streams, CANARIES)) < ACCURACY
    gone_DC = right_DC & (rng.random((streams, CANARIES)) < lost / ACCURACY)
    many, limit = ManyLost(streams), threshold("canaries_lost")
    found, false = np.zeros(streams, int), np.zeros(streams, bool)
    for look in range(before + passes):
        is_after = look >= before
        wrong_DC = right_DC & (rng.random((streams, CANARIES)) < flicker) | (gone_DC if is_after else False)
        for canary in range(CANARIES):
            # One that the export got wrong counts as one more right answer here, which only loses money.
            passed = many.step(wrong_DC[:, canary], canary) >= limit
            false, found = _passed(passed, false, found, look - before + 1)
        for _ in range(REASKS):  # alone
            for canary in map(int, np.flatnonzero(wrong_DC.any(axis=0))):
                for d in np.flatnonzero(wrong_DC[:, canary]):
                    wrong_DC[d, canary] = (gone_DC[d, canary] and is_after) or rng.random() < flicker
                    many.confirm(int(d), canary, is_wrong=bool(wrong_DC[d, canary]))
            false, found = _passed(many.wealth() >= limit, false, found, look - before + 1)
    return found, false


def _passed(passed: np.ndarray, false: np.ndarray, found: np.ndarray, look: int) -> tuple[np.ndarray, np.ndarray]:
    """Streams that have alarmed before the change, and the look at which others did."""
    if look <= 0:
        return false | passed, found
    return false, np.where((found == 0) & passed, look, found)


def quiet_canaries(rng: np.random.Generator, streams: int, looks: int, *, flicker: float) -> np.ndarray:
    """Which streams ever raise the alarm of canaries while nothing changes."""
    rate, limit = ManyBets(streams, len(LOSS_RATES)), threshold("canaries_lost")
    asks = round(CANARIES * ACCURACY)
    gains = [np.array([math.log(q / TOLERANCE if wrong else (1 - q) / (1 - TOLERANCE)) for q in LOSS_RATES])
             for wrong in (False, True)]  # fmt: skip
    flips, settled, ever = np.zeros(streams, int), np.zeros(streams), np.zeros(streams, bool)
    for _ in range(looks):
        wrong_DA = rng.random((streams, asks)) < flicker
        highest, done = np.zeros(streams), 0
        for ask in np.flatnonzero(wrong_DA.any(axis=0)):  # without a wrong answer nobody gets richer
            rate.skip(gains[0], int(ask) - done)
            done = int(ask) + 1
            wrong = wrong_DA[:, ask]
            rate.go(np.where(wrong[:, None], gains[1], gains[0]))
            rate_D = rate.wealth()
            for d in np.flatnonzero(wrong):
                flips[d] += 1
                money = 1 / (flips[d] * (flips[d] + 1))
                again = rng.geometric(1 - flicker) - 1  # times in a row that it is wrong when asked again
                highest[d] = max(highest[d], money * (STAYS_WRONG / TOLERANCE) ** again)
                settled[d] += money * (STAYS_WRONG / TOLERANCE) ** again * (1 - STAYS_WRONG) / (1 - TOLERANCE)
            money_D = (np.exp(np.minimum(rate_D, 600)) + settled + highest + 1 / (flips + 1)) / 2
            ever |= np.log(money_D) >= limit
        rate.skip(gains[0], asks - done)
    return ever


def mean_stream(
    rng: np.random.Generator, streams: int, labels: int, *, accuracy: float, is_silent: bool, with_confidence: bool
) -> np.ndarray:
    """The label at which each stream is found below ACCURACY, from 1; 0: never.

    Args:
        rng: of the draws.
        streams: deployments.
        labels: of each.
        accuracy: now.
        is_silent: whether confidences stay as they were, and mean less.
        with_confidence: whether REQUESTS answers without a label join each one that has one.
    """
    most = 2.0 if with_confidence else 1.0
    bets, wealth = ManyBets(streams, len(FRACTIONS)), np.zeros((labels, streams))
    a = SHAPE[0] if is_silent else SHAPE[1] * accuracy / (1 - accuracy)
    for label in range(labels):
        confidence = rng.beta(a, SHAPE[1], streams)
        right = rng.random(streams) < confidence - (ACCURACY - accuracy if is_silent else 0.0)
        value = right.astype(float)
        if with_confidence:
            value = rng.beta(a, SHAPE[1], (streams, REQUESTS)).mean(axis=1) + value - confidence
        gains = np.log1p(np.array(FRACTIONS)[None] / (most - ACCURACY) * (ACCURACY - value[:, None]))
        wealth[label] = bets.step(gains)
    return first_passing(wealth, "labelled")


def sign_stream(
    rng: np.random.Generator,
    streams: int,
    requests: int,
    *,
    accuracy: float,
    before: int,
    reference: int = REFERENCE // 2,
) -> tuple[np.ndarray, np.ndarray]:
    """The request after the change at which confidence alarms (0: never), and false alarms before it."""
    edges = np.quantile(rng.beta(*SHAPE, 100_000), np.linspace(0, 1, QUANTILES + 1)[1:-1])
    base_DB = rng.multinomial(reference, np.full(QUANTILES, 1 / QUANTILES), streams).astype(float)
    seen_DB, rows = np.zeros_like(base_DB), np.arange(streams)
    bets, limit, bound = ManyBets(streams, 2 * len(POWERS)), threshold("confidence"), np.zeros(streams)
    powers = np.array(POWERS)
    found, false = np.zeros(streams, int), np.zeros(streams, bool)
    for request in range(before + requests):
        now = ACCURACY if request < before else accuracy
        place = np.searchsorted(edges, rng.beta(SHAPE[1] * now / (1 - now), SHAPE[1], streams))
        seen_DB[rows, place] += 1
        both = base_DB + seen_DB
        p = (np.cumsum(both, axis=1)[rows, place] - both[rows, place] * rng.random(streams)) / both.sum(axis=1)
        sides = np.log(np.maximum(np.stack([p, 1 - p], axis=1), 1e-12))
        gains = (np.log(powers) + (powers - 1) * sides[..., None]).reshape(streams, -1)
        bets.go(gains)
        # The sum of all money grows no faster than the best bet, so that it is summed only where it may matter.
        bound = bound + np.maximum(0.0, gains.max(axis=1))
        if request % STRIDE == 0 or bound.max() >= limit:
            bound = bets.wealth()
            false, found = _passed(bound >= limit, false, found, request - before + 1)
            bound = np.where(false | (found > 0), -np.inf, bound)  # they have alarmed
    return found, false


def batch_tests(
    rng: np.random.Generator, streams: int, looks: int, *, accuracy: float, levels: Sequence[float]
) -> dict[tuple[str, float], np.ndarray]:
    """The look at which a test of each batch alone first says that something changed (0: never), by test and level.

    The reference of the first two is the true distribution, which is better than any sample of it.
    """
    from scipy import stats

    fewest = {level: max((k for k in range(CANARIES) if stats.binom.cdf(k, CANARIES, ACCURACY) <= level), default=-1)
              for level in levels}  # fmt: skip
    grid = (np.arange(BATCH) + 1) / BATCH
    over = {(name, level): np.zeros((looks, streams), bool)
            for name in ("ks", "chi_square", "binomial") for level in levels}  # fmt: skip
    bounds = {level: (stats.kstwo.isf(level, BATCH), stats.chi2.isf(level, 4)) for level in levels}
    for look in range(looks):
        u = np.sort(stats.beta.cdf(_confidences(rng, (streams, BATCH), accuracy), *SHAPE), axis=1)
        ks = np.maximum(grid - u, u - grid + 1 / BATCH).max(axis=1)
        counts = np.stack([((u >= i / 5) & (u < (i + 1) / 5)).sum(axis=1) for i in range(5)], axis=1)
        chi = ((counts - BATCH / 5) ** 2 / (BATCH / 5)).sum(axis=1)
        right = rng.binomial(CANARIES, accuracy, streams)
        for level in levels:
            over["ks", level][look] = ks >= bounds[level][0]
            over["chi_square", level][look] = chi >= bounds[level][1]
            over["binomial", level][look] = right <= fewest[level]
    return {key: np.where(rows.any(axis=0), rows.argmax(axis=0) + 1, 0) for key, rows in over.items()}


def _confidences(rng: np.random.Generator, shape: tuple[int, int], accuracy: float) -> np.ndarray:
    return rng.beta(SHAPE[1] * accuracy / (1 - accuracy), SHAPE[1], shape)


def evidently_batches(rng: np.random.Generator, batches: int, *, accuracy: float) -> str:
    """How many batches evidently's default test calls drifted; why not, where it is not installed."""
    try:
        import pandas as pd
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift
    except ImportError as error:
        return f"it cannot be imported ({error})"
    shape = DataDefinition(numerical_columns=["confidence"])

    def table(values: np.ndarray) -> Dataset:
        return Dataset.from_pandas(pd.DataFrame({"confidence": values}), data_definition=shape)

    reference, drifted = table(rng.beta(*SHAPE, REFERENCE)), 0
    for _ in range(batches):
        made = Report([ValueDrift(column="confidence")]).run(
            table(_confidences(rng, (1, BATCH), accuracy)[0]), reference
        )
        drifted += made.dict()["metrics"][0]["value"] < 0.05
    return f"{drifted} of {batches} batches"


def share(hits: np.ndarray) -> str:
    """A share with Wilson's 95% interval."""
    from aot.wilson import wilson

    low, high = wilson(hits=float(hits.sum()), n=len(hits))
    return f"{100 * hits.mean():.1f}% [{100 * low:.1f}, {100 * high:.1f}]"


def soon(found: np.ndarray, within: Sequence[int]) -> str:
    """Shares that were found within so many, and the median of those that were found."""
    parts = [f"within {limit}: {share((found > 0) & (found <= limit))}" for limit in within]
    reached = found[found > 0]
    return "; ".join(parts) + (f"; median {int(np.median(reached))}" if len(reached) else "; never")


def _rng(seed: int, *names: object) -> np.random.Generator:
    return np.random.default_rng([seed, *" ".join(map(str, names)).encode()])


def quiet_rows(n: int, looks: int, seed: int) -> Iterator[tuple[str, str]]:
    """Nothing changes."""
    yield f"Nothing changes, {looks:,} looks: share of deployments with any alarm", ""
    for flicker in (0.0, TOLERANCE):
        yield (
            f"canaries, {flicker:g} flicker",
            share(quiet_canaries(_rng(seed, "quiet", flicker), n, looks, flicker=flicker)),
        )
    for joined in (False, True):
        ever = mean_stream(
            _rng(seed, "mean", joined), n, looks, accuracy=ACCURACY, is_silent=False, with_confidence=joined
        )
        yield f"labels {'with confidences' if joined else 'alone'}, one a look", share(ever > 0)
    ever = sign_stream(_rng(seed, "sign"), n, 0, accuracy=ACCURACY, before=REQUESTS * looks)[1]
    yield f"confidence of {REQUESTS} requests a look", share(ever)
    found = batch_tests(_rng(seed, "batch"), n, looks, accuracy=ACCURACY, levels=list(_levels(looks)))
    yield from ((f"{test}, {_levels(looks)[level]}", share(look > 0)) for (test, level), look in found.items())
    yield (
        "evidently's default test of a batch, batches",
        evidently_batches(_rng(seed, "evidently"), 200, accuracy=ACCURACY),
    )


def lost_rows(n: int, looks: int, seed: int) -> Iterator[tuple[str, str]]:
    """Something else answers."""
    yield "5 points are lost because something else answers: looks until the alarm, at 60 canaries each", ""
    for flicker, before in ((0.0, 0), (0.0, 1000), (0.0001, 1000)):
        found_early, false = canary_passes(
            _rng(seed, "lost", flicker, before), n, 5, flicker=flicker, lost=LOSS, before=before
        )
        yield f"canaries, {flicker:g} flicker, {before} quiet looks before", soon(found_early, (1, 2, 5))
        yield "  alarms in the quiet looks", share(false)
    churn = canary_passes(_rng(seed, "churn"), n, 5, flicker=0.0, lost=0.08)[0]
    yield "canaries, 8 points lost and 3 gained", soon(churn, (1, 2, 5))
    found = batch_tests(_rng(seed, "batch labels"), n, 300, accuracy=ACCURACY - LOSS, levels=list(_levels(looks)))
    for level, name in _levels(looks).items():
        yield f"binomial test of 60 new labels, {name}", soon(found["binomial", level], (1, 2, 5, 300))


def traffic_rows(n: int, looks: int, seed: int) -> Iterator[tuple[str, str]]:
    """The traffic changes."""
    yield "The traffic takes 5 points of accuracy: labels until the alarm", ""
    for is_silent in (True, False):
        for joined in (False, True):
            generator = _rng(seed, "loss", is_silent, joined)
            at = mean_stream(generator, n, 4000, accuracy=ACCURACY - LOSS, is_silent=is_silent, with_confidence=joined)
            words = f"confidence {'stays' if is_silent else 'falls too'}, labels {'with' if joined else 'without'} it"
            yield words, soon(at, (60, 500, 1000, 4000))
    yield "The same, confidence falls too: requests without a label until the alarm", ""
    for reference, before in ((REFERENCE // 2, 0), (750, 0), (REFERENCE // 2, 20_000)):
        generator = _rng(seed, "sign moves", reference, before)
        at = sign_stream(generator, n, 6000, accuracy=ACCURACY - LOSS, before=before, reference=reference)[0]
        yield f"confidence, {reference} in the reference, {before:,} quiet requests", soon(at, (60, 600, 1200, 6000))
    found = batch_tests(_rng(seed, "batch moves"), n, 300, accuracy=ACCURACY - LOSS, levels=list(_levels(looks)))
    for (test, level), look in found.items():
        if test != "binomial":
            yield f"{test}, {_levels(looks)[level]}", soon(look * BATCH, (60, 600, 1200, 6000))
    yield (
        "evidently's default test of a batch, batches",
        evidently_batches(_rng(seed, "ev"), 200, accuracy=ACCURACY - LOSS),
    )


SECTIONS = {"quiet": quiet_rows, "lost": lost_rows, "traffic": traffic_rows}


def _levels(looks: int) -> dict[float, str]:
    return {0.05: "each batch at 5%", 0.05 / looks: f"each batch at 5% / {looks:,}"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line for each row of the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--deployments", type=int, default=200)
    parser.add_argument("--looks", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--section", choices=SECTIONS, help="only this one")
    options = parser.parse_args(arguments)
    began_s = time.process_time()
    for name in [options.section] if options.section else SECTIONS:
        for words, numbers in SECTIONS[name](options.deployments, options.looks, options.seed):
            line = f"{words}: {numbers}" if numbers else f"\n{words}"
            print(f"{line}   ({time.process_time() - began_s:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
