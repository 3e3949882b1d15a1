"""Bets on labelled answers: canaries that were right and are wrong now, and means that fell below a promise.

Pure functions from state to state; who was asked what, and when, stands in aot.drift.watching. A gambler's wealth is
kept as a log.
"""

import math
from collections.abc import Mapping, Sequence

from aot.drift.records import Bets, LostState, MeanState, Suspicion
from aot.serving.cascade.watch import bets_after, log_sum, log_wealth, richest

TOLERANCE = 0.001
"""Of answers by an unchanged student to canaries that it knew, so many may be wrong all the same: batches, kernels."""
STAYS_WRONG = 0.9
"""What is bet on a canary that was wrong when it was last asked: that it is wrong again."""
LOSS_RATES = (0.02, 0.05, 0.2)
"""What is bet on all other asks: shares of lost answers."""
FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Bets on a mean below the promise, of the most that can be lost in one step."""
MOST_SUSPICIONS = 64


def placed(bets: Bets, gains: Sequence[float], *, time_s: float | None) -> Bets:
    """The bets after one more item, and when those gamblers began that are left."""
    number = bets.n + 1
    runs = bets_after(bets.runs, gains, number=number)
    starts = bets.starts
    if runs[-1].started == number:  # one has begun
        times = starts if time_s is None else {**starts, number: time_s}
        starts = {run.started: times[run.started] for run in runs if run.started in times}
    return Bets.model_construct(n=number, runs=runs, starts=starts)


def began(bets: Bets) -> float | None:
    """When the richest gambler began, which is about when things changed; None where the items have no times."""
    run = richest(bets.runs)
    return bets.starts.get(run.started) if run else None


def lost_after(
    state: LostState, canary: str, *, is_wrong: bool, time_s: float | None = None, tolerance: float = TOLERANCE
) -> LostState:
    """The state after one more ask of a canary that was right at export.

    While the student is what was exported, an answer is wrong with probability `tolerance` at most, whatever came
    before. Half of the money is bet on every ask, with new gamblers from time to time, for canaries that are asked
    once. The other half waits: the k-th canary that turns wrong gets 1/(k(k+1)) of it, all of which is bet on that
    canary being wrong again, until it is right. So waiting costs nothing, and a change after years is found as soon as
    one on the first day, unless canaries have often flickered.
    """
    open_before = {one.canary: one for one in state.suspicions}
    bet = STAYS_WRONG / tolerance if is_wrong else (1 - STAYS_WRONG) / (1 - tolerance)
    settled = state.settled
    suspicions = []
    for one in state.suspicions:
        if one.canary != canary:
            suspicions.append(one)
        elif is_wrong:
            suspicions.append(one.model_copy(update={"log": one.log + math.log(bet), "wrong": one.wrong + 1}))
        else:  # it keeps what is left of its money
            settled = _added(settled, one.log + math.log(bet))
    flips = state.flips
    if is_wrong and canary not in open_before:
        flips += 1
        if len(suspicions) < MOST_SUSPICIONS:
            suspicions.append(Suspicion(canary=canary, log=-math.log(flips * (flips + 1)), wrong=1))
    gains = [math.log(rate / tolerance if is_wrong else (1 - rate) / (1 - tolerance)) for rate in LOSS_RATES]
    return LostState(
        flips=flips, wrong=state.wrong + is_wrong, settled=settled, suspicions=tuple(suspicions),
        bets=placed(state.bets, gains, time_s=time_s),
    )  # fmt: skip


def lost_wealth(state: LostState) -> float:
    """The log of the money of all who bet on canaries, which began with 1."""
    logs = [one.log for one in state.suspicions] + ([] if state.settled is None else [state.settled])
    # What the next flips would get waits, and is money too: 1 - the sum of 1/(k(k+1)) is 1/(flips + 1).
    waiting = -math.log(state.flips + 1)
    return log_sum([log_sum([*logs, waiting]), log_wealth(state.bets.runs)]) - math.log(2)


def mean_after(
    state: MeanState, value: float, *, promised: float, most: float = 1.0, time_s: float | None = None
) -> MeanState:
    """The state after one more number whose mean is `promised` or more while all is well.

    Args:
        state: before it.
        value: at most `most`; of a right answer 1, of a wrong one 0.
        promised: the least mean.
        most: the bound that makes every bet affordable.
        time_s: when it came.
    """
    # Money after a bet b is 1 + b (promised - value), at least 1 - fraction (arXiv 2010.09686, section 4).
    gains = [math.log1p(fraction / (most - promised) * (promised - value)) for fraction in FRACTIONS]
    return MeanState(total=state.total + value, bets=placed(state.bets, gains, time_s=time_s))


def predicted_value(*, right: bool, confidence: float | None, mean_confidence: float | None) -> float:
    """What one labelled answer of the traffic says of all of it, between -1 and 2, with accuracy as its mean.

    The mean of confidences of answers without a label stands for them, and the labelled one corrects it (arXiv
    2301.09633): where confidence tells right from wrong, this varies less than the label alone.
    """
    if confidence is None or mean_confidence is None:
        return float(right)
    return mean_confidence + float(right) - confidence


def level_of(test: str, shares: Mapping[str, float], *, alarm_rate: float) -> float:
    """The probability with which one test may ever alarm while all is well; over all tests they add up to the rate."""
    return alarm_rate * shares[test] / sum(shares.values())


def _added(settled: float | None, log: float) -> float:
    return log if settled is None else log_sum([settled, log])
