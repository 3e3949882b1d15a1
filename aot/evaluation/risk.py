"""From how sure a student is to how often it errs: temperatures, reliability, and a threshold with a promise.

A promise is about answers that stay with the student: P(lost | confidence >= threshold) <= target, with probability
`confidence` over the calibration questions. It rests on Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052)
with split fixed-sequence testing: one part of the questions proposes a sequence of thresholds, from the one that is
easiest to prove down to looser ones; on the other part each is tested by the exact binomial tail (Clopper and Pearson
1934) until the first that fails. The first false hypothesis of a sequence laid down beforehand is rejected with
probability 1 - confidence at most, whatever comes after it, so nothing is divided by the number of thresholds.

What it takes: questions of different groups are exchangeable with those to come, and groups are independent. Several
questions of one group are not, so one is taken of each. Knows no model: arrays in, records out.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from aot import seeds
from aot.evaluation.calibration import NUM_BINS, bins_of, calibration_error
from aot.served_records import (
    GENERAL,
    AskMode,
    CascadeThreshold,
    KindTemperature,
    ModeCalibration,
    ReliabilityRow,
    ServedCalibration,
    temperature_of,
)

FIT_SHARE = 0.25
"""Of the groups: those that fit temperatures and propose thresholds; the others test them."""
GRID = 50
"""Thresholds proposed at most: a longer sequence fails by chance earlier, a shorter one takes larger strides."""
NO_CONFIDENCE = -1.0
"""Of a question without an answer: it never stays."""
_GENERAL_SD, _KIND_SD = 1.0, 0.3
"""Priors of log temperature: the general one around 0, that of a kind around the general one."""
_SMALLEST = 1e-12
_EXACT_UP_TO = 5_000


@dataclass(frozen=True)
class Judged:
    """One calibration question as the student answered it."""

    kind: str
    group: str
    logs: tuple[float, ...]
    """Log-probabilities of the choices; or one, of the whole written reply; empty where there is no answer."""
    gold: int | None
    """Place of the right choice; None for a written reply."""
    right: bool
    disagrees: bool | None = None
    """Whether the big model answers otherwise; None where it was not asked."""
    question_id: str = ""

    def confidence(self, temperature: float) -> float:
        """Probability of the answer at a temperature; NO_CONFIDENCE without an answer."""
        if not self.logs:
            return NO_CONFIDENCE
        if self.gold is None:
            return math.exp(self.logs[0] / temperature)
        scaled = np.array(self.logs) / temperature
        return float(1 / np.exp(scaled - scaled.max()).sum())

    def is_lost(self, loss: Literal["wrong", "disagrees"]) -> bool:
        """Whether keeping this answer costs anything."""
        return not self.right if loss == "wrong" else bool(self.disagrees)


def tempered(probs: Sequence[float], temperature: float) -> tuple[float, ...]:
    """softmax(log p / temperature); the likeliest choice stays the likeliest, in rounding too (Guo et al. 2017)."""
    given = np.asarray(probs, dtype=np.float64)
    logs = np.log(np.maximum(given, 1e-300)) / temperature
    scaled = np.exp(logs - logs.max())
    scaled /= scaled.sum()
    best = int(given.argmax())
    if int(scaled.argmax()) != best:
        scaled[best] = np.nextafter(scaled.max(), 1.0)
    return tuple(scaled.tolist())


def reply_confidence(logprobs: Sequence[float], *, temperature: float = 1.0) -> float:
    """Probability of a whole written reply to the power 1 / temperature, from its tokens' log-probabilities.

    One wrong step spoils a reply, so its tokens are multiplied and no mean is taken.
    """
    return math.exp(min(0.0, math.fsum(logprobs)) / temperature)


def calibrated_reply(
    logprobs: Sequence[float], calibration: ServedCalibration, *, kind: str, mode: AskMode
) -> float | None:
    """The confidence of a written reply as thresholds are about it; None where its tokens or its mode have none."""
    if not logprobs or not any(row.mode == mode for row in calibration.temperatures):
        return None
    return reply_confidence(logprobs, temperature=calibration.temperature(kind, mode))


def one_of_each_group(items: Iterable[Judged], *, seed: int) -> list[Judged]:
    """One question of each group, at random; the others depend on it."""
    groups: dict[str, list[Judged]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    return [rows[seeds.hashed(seed, group, "one of each group") % len(rows)] for group, rows in groups.items()]


def split_groups(items: Iterable[Judged], *, seed: int) -> tuple[list[Judged], list[Judged]]:
    """The questions that fit and propose, and those that test; whole groups go to one side."""
    fit: list[Judged] = []
    test: list[Judged] = []
    for item in items:
        (fit if seeds.share(seed, "calibration", item.group) < FIT_SHARE else test).append(item)
    return fit, test


def fit_temperatures(items: Sequence[Judged], *, mode: AskMode) -> tuple[KindTemperature, ...]:
    """The general temperature, then one for each kind, by log loss; that of a kind with few questions is near it.

    A maximum a posteriori fit: log temperature has a normal prior, which keeps it finite where every answer is right.
    """
    answered = [item for item in items if item.logs]
    general = _fit(answered, around=0.0, sd=_GENERAL_SD)
    rows = [KindTemperature(kind=GENERAL, temperature=math.exp(general), n=len(answered), mode=mode)]
    for kind in sorted({item.kind for item in answered}):
        members = [item for item in answered if item.kind == kind]
        near = _fit(members, around=general, sd=_KIND_SD)
        rows.append(KindTemperature(kind=kind, temperature=math.exp(near), n=len(members), mode=mode))
    return tuple(rows)


def _fit(items: Sequence[Judged], *, around: float, sd: float) -> float:
    """The log temperature of least log loss: of the right choice, or of a reply being right or wrong."""
    closed = [item for item in items if item.gold is not None]
    widest = max((len(item.logs) for item in closed), default=1)
    logs_nK = np.array([[*item.logs, *[-np.inf] * (widest - len(item.logs))] for item in closed]).reshape(-1, widest)
    gold_n = np.array([logs[item.gold] for logs, item in zip(logs_nK, closed, strict=True)])
    replies = [item for item in items if item.gold is None]
    sums = np.array([item.logs[0] for item in replies])
    right = np.array([item.right for item in replies], dtype=bool)

    def cost(log_t: float) -> float:
        t = math.exp(log_t)
        chosen = np.logaddexp.reduce(logs_nK / t, axis=1) - gold_n / t
        p = np.exp(sums / t)
        written = -np.log(np.maximum(_SMALLEST, np.where(right, p, 1 - p)))
        return float(chosen.sum() + written.sum()) + (log_t - around) ** 2 / (2 * sd**2)

    # Log loss is convex in 1/temperature, but with the prior nothing is: hence a grid before the search.
    grid = np.linspace(math.log(0.05), math.log(20), 25)
    best = int(np.argmin([cost(float(x)) for x in grid]))
    return _least(cost, float(grid[max(0, best - 1)]), float(grid[min(len(grid) - 1, best + 1)]))


def _least(cost: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one valley between two places is least, by golden sections."""
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(30):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if cost(left) < cost(right) else (left, high)
    return (low + high) / 2


def measure(items: Sequence[Judged], temperatures: Sequence[KindTemperature], *, mode: AskMode) -> ModeCalibration:
    """Calibration error, Brier score and reliability before and after, over the questions with an answer."""
    answered = [item for item in items if item.logs]
    right = np.array([item.right for item in answered], dtype=float)
    before = np.array([item.confidence(1.0) for item in answered])
    after = np.array([item.confidence(temperature_of(item.kind, temperatures)) for item in answered])
    return ModeCalibration(
        mode=mode, n=len(answered),
        ece_before=calibration_error(before, right), ece_after=calibration_error(after, right),
        brier_before=brier(before, right), brier_after=brier(after, right),
        bins_before=tuple(reliability(before, right)), bins_after=tuple(reliability(after, right)),
    )  # fmt: skip


def reliability(confidence: np.ndarray, right: np.ndarray) -> list[ReliabilityRow]:
    """The non-empty tenths of confidence (n,), each with its share of right answers."""
    index = bins_of(confidence)
    inside = [index == i for i in range(NUM_BINS)]
    return [
        ReliabilityRow(n=int(one.sum()), confidence=float(confidence[one].mean()), right=float(right[one].mean()))
        for one in inside
        if one.any()
    ]


def brier(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean squared distance of confidence from right (1) and wrong (0) answers (Brier 1950); 0 without any."""
    return float(np.mean((confidence - right) ** 2)) if len(right) else 0.0


def binomial_tail(errors: int, n: int, p: float) -> float:
    """P(X <= errors) of X ~ Binomial(n, p).

    >>> round(binomial_tail(1, 3, 0.5), 6)
    0.5
    """
    if errors >= n or p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    k = np.arange(errors)
    steps = np.log(n - k) - np.log(k + 1) + math.log(p) - math.log1p(-p)
    logs = n * math.log1p(-p) + np.concatenate([[0.0], np.cumsum(steps)])
    return float(min(1.0, np.exp(logs - logs.max()).sum() * math.exp(logs.max())))


def upper_bound(errors: int, n: int, *, confidence: float) -> float:
    """One-sided upper bound on a share of which `errors` of `n` were seen (Clopper and Pearson 1934); 1 for n = 0.

    >>> round(upper_bound(0, 59, confidence=0.95), 4)
    0.0495
    """
    if errors >= n:
        return 1.0
    low, high = errors / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_tail(errors, n, middle) > 1 - confidence else (low, middle)
    return high


def questions_needed(*, target: float, confidence: float, error_rate: float = 0.0) -> int | None:
    """How many answers must stay before the bound can reach the target at this rate of errors; None: never.

    Without errors it is ln(1 - confidence) / ln(1 - target), rounded up; large numbers are by the normal approximation.

    >>> questions_needed(target=0.05, confidence=0.95), questions_needed(target=0.01, confidence=0.95)
    (59, 299)
    """
    if error_rate >= target:
        return None
    first = math.ceil(math.log(1 - confidence) / math.log(1 - target))
    if error_rate == 0:
        return first

    def reaches(n: int) -> bool:
        return upper_bound(math.ceil(error_rate * n), n, confidence=confidence) <= target

    z = NormalDist().inv_cdf(confidence)
    near = math.ceil(target * (1 - target) * (z / (target - error_rate)) ** 2)
    if near > _EXACT_UP_TO:
        return near
    high = first
    while not reaches(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def must_escalate(base_risk: float, target: float) -> float:
    """Least share that must be escalated for a target, by any method without further assumptions (arXiv 2606.29054).

    Even if every escalated question were one that the student gets wrong: (base_risk - target) / (1 - target).

    >>> round(must_escalate(0.1, 0.05), 4), must_escalate(0.02, 0.05)
    (0.0526, 0.0)
    """
    return max(0.0, (base_risk - target) / (1 - target))


@dataclass(frozen=True)
class Sample:
    """Confidence and loss of questions of different groups, both (n,)."""

    confidence: np.ndarray
    lost: np.ndarray

    def at(self, threshold: float) -> tuple[int, int]:
        """How many stay at a threshold, and how many of them are lost."""
        stays = self.confidence >= threshold
        return int(stays.sum()), int(self.lost[stays].sum())


def sample_of(
    items: Sequence[Judged], temperatures: Sequence[KindTemperature], *, loss: Literal["wrong", "disagrees"]
) -> Sample:
    """Calibrated confidence and loss of each item."""
    confidence = [item.confidence(temperature_of(item.kind, temperatures)) for item in items]
    return Sample(np.array(confidence), np.array([item.is_lost(loss) for item in items], dtype=bool))


def choose_threshold(
    fit: Sample, test: Sample, *, target: float, confidence: float, mode: AskMode, loss: Literal["wrong", "disagrees"]
) -> CascadeThreshold:
    """The loosest threshold that `test` proves, of those that `fit` proposes; its row says why where there is none.

    Args:
        fit: questions that fitted the temperatures; it may be looked at in any way.
        test: others, of which nothing was used before.
        target: most that may be lost among answers that stay, over 0 and below 1.
        confidence: of the promise.
        mode: how the student answered.
        loss: what is lost.
    """
    n = len(test.lost)
    proposed = _proposed(fit, n, target=target)
    proved: float | None = None
    for threshold in proposed:
        kept, errors = test.at(threshold)
        if binomial_tail(errors, kept, target) > 1 - confidence:
            break
        proved = threshold
    shown = proved if proved is not None else proposed[0] if proposed else math.inf
    kept, errors = test.at(shown)
    lost = test.lost | (test.confidence < 0)
    base_risk = float(lost.mean()) if n else 1.0
    return CascadeThreshold(
        mode=mode, loss=loss, target=target, confidence=confidence, threshold=proved, n=n, kept=kept, errors=errors,
        upper=upper_bound(errors, kept, confidence=confidence), base_risk=base_risk,
        must_escalate=must_escalate(base_risk, target),
        missing=0 if proved is not None else _missing(test, shown, target=target, confidence=confidence),
    )  # fmt: skip


def _proposed(fit: Sample, n: int, *, target: float) -> list[float]:
    """Thresholds in the order of the tests: the one easiest to prove on `n` questions, then looser and looser ones."""
    answered = fit.confidence[fit.confidence >= 0]
    if not len(answered) or not n:
        return []
    levels = np.unique(np.quantile(answered, np.linspace(0, 1, GRID), method="higher"))[::-1]
    # A prediction of the p-value on the other part, with half an error too many, as a rate of 0 is never sure.
    ease = []
    for threshold in levels:
        kept, errors = fit.at(float(threshold))
        stays = round(n * kept / len(fit.lost))
        rate = (errors + 0.5) / (kept + 1)
        ease.append(binomial_tail(round(rate * stays), stays, target))
    return [float(one) for one in levels[int(np.argmin(ease)) :]]


def _missing(test: Sample, threshold: float, *, target: float, confidence: float) -> int:
    """How many more calibration questions it takes at least, those that fit among them; 0 where none would help."""
    n = len(test.lost)
    kept, errors = test.at(threshold)
    needed = questions_needed(target=target, confidence=confidence, error_rate=errors / kept if kept else 0.0)
    if needed is None:
        return 0
    more = math.ceil(needed * n / kept) - n if kept else needed - n
    return max(1, math.ceil(more / (1 - FIT_SHARE)))
