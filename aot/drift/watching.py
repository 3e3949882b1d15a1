"""The watch itself: rows and answers to canaries in, alarms out; its state is a record that the next process takes.

Each test has a share of the alarm rate and alarms once. What a test looks at, what a row is, and what to do after an
alarm stand in aot.drift.bets, aot.drift.log and aot.drift.advice.
"""

import hashlib
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence

from aot import seeds
from aot.drift.bets import (
    TOLERANCE,
    began,
    level_of,
    lost_after,
    lost_wealth,
    mean_after,
    placed,
    predicted_value,
)
from aot.drift.log import SIGNS, SeenRow
from aot.drift.records import CanaryMemory, MeanState, SignState, WatchFile
from aot.drift.timeline import Timeline
from aot.errors import RunError
from aot.evaluation.risk import upper_bound
from aot.files.jsonl import RefusedRow
from aot.served_records import Alarm, Canary, StudentContract, WatchFeature
from aot.serving.cascade.watch import log_wealth, question_sha256, rank_gains, ranked, watch_baseline

ALARM_RATE = 0.05
REFERENCE = 400
"""So many first values of a sign are its reference, where the contract has none."""
SHARES: dict[str, float] = {
    "canaries_lost": 3.0, "accuracy": 1.0, "labelled": 2.0, **{name: 6.0 / len(SIGNS) for name in SIGNS},
}  # fmt: skip
"""Of the alarm rate: half for what has labels, half for what has none."""
_MOST_RECENT = 2_000
"""Ids that are remembered, so that a row that stands twice counts once."""
_MOST_DIGESTS = 20
_BACK_S, _AHEAD_S = 60.0, 3600.0
"""A row may be so much older than the one before it, or newer than now; more is a jump of the clock."""


def fresh_state(contract: StudentContract, *, alarm_rate: float = ALARM_RATE) -> WatchFile:
    """The state before the first look."""
    return WatchFile(contract_digest=contract.digest(), alarm_rate=alarm_rate)


def promised_accuracy(contract: StudentContract, canaries: Sequence[Canary]) -> tuple[float, str] | None:
    """The least accuracy that calibration, or else the canaries at export, leave open, and where it comes from.

    It is the lower end of an exact one-sided 95% interval: a watch that took the estimate itself would alarm at chance.
    """
    rows = [row for row in (contract.calibration.thresholds if contract.calibration else ()) if row.loss == "wrong"]
    if rows:
        row = max(rows, key=lambda one: one.n)
        return 1 - upper_bound(round(row.base_risk * row.n), row.n, confidence=0.95), f"calibration, n={row.n}"
    if canaries:
        wrong = sum(not one.right for one in canaries)
        return 1 - upper_bound(wrong, len(canaries), confidence=0.95), f"canaries at export, n={len(canaries)}"
    return None


class Watch:
    """One stream of served answers under watch: `see` rows, `ask` canaries, then take the `state`."""

    def __init__(
        self,
        contract: StudentContract,
        canaries: Sequence[Canary],
        state: WatchFile,
        *,
        now_s: float,
        grade: Callable[[Canary, str], bool],
        promised: float | None = None,
    ) -> None:
        """A watch that goes on from a state.

        Args:
            contract: of the export that is served.
            canaries: labelled questions with their answers at export.
            state: of the last look.
            now_s: the time of this one.
            grade: whether an answer to a canary is right.
            promised: the least accuracy that is promised; None takes what calibration or canaries say.

        Raises:
            RunError: the state is of another export.
        """
        if state.contract_digest != contract.digest():
            raise RunError(
                f"the state of this watch belongs to the export {state.contract_digest}, and this one is "
                f"{contract.digest()}; a new student begins a new watch: move the state file away or name another one "
                "with --state"
            )
        self.contract, self.now_s, self._grade = contract, now_s, grade
        self._before = state
        self.canaries = {one.question.id: one for one in canaries}
        self._by_hash = {question_sha256(one.question.text): one for one in canaries if one.question.media is None}
        expected = promised_accuracy(contract, canaries)
        self.promised = promised if promised is not None else expected[0] if expected else None
        self.promised_by = "--promise" if promised is not None else expected[1] if expected else ""
        self._odd, self._examples = Counter(state.odd), dict(state.examples)
        self._digests = Counter(state.digests)
        self._recent, self._recent_set = deque(state.recent), set(state.recent)
        self._last_s, self._read, self._used = state.last_s, state.read, state.used
        self._signs = {name: state.signs.get(name, SignState()) for name in SIGNS}
        self._memory = dict(state.canaries)
        self._lost, self._accuracy, self._labelled = state.lost, state.accuracy, state.labelled
        self._unlabelled = (state.unlabelled_n, state.unlabelled_sum)
        self._timeline = Timeline(state.period_s, state.periods)
        self.alarms = list(state.alarms)
        self._levels = {name: level_of(name, SHARES, alarm_rate=state.alarm_rate) for name in SHARES}

    def see(self, row: SeenRow | RefusedRow) -> None:
        """Take one more row of a log."""
        self._read += 1
        if isinstance(row, RefusedRow):
            self._note(row.reason, f"{row.item}: {row.detail}")
            return
        if row.id and self._is_twice(row.id):
            self._note("duplicate_id", row.place)
            return
        time_s = self._time_of(row)
        if row.digest:
            if row.digest in self._digests or len(self._digests) < _MOST_DIGESTS:
                self._digests[row.digest] += 1
            if row.digest != self.contract.digest():
                self._note("other_version", f"{row.place}: contract {row.digest[:16]}")
                return
        else:
            self._note("no_version", row.place)
        self._used += 1
        canary = self.canaries.get(row.question_id or row.id) or self._by_hash.get(row.question_sha256)
        if canary is not None:
            self._see_canary(canary, row, time_s)
            return
        if not row.signs:
            self._note("no_signs", row.place)
        self._timeline.add(time_s, row.signs)
        for name, value in row.signs.items():
            self._sign(name, value, row.mode, time_s)
        self._label(row, time_s)

    def ask(self, canary_id: str, *, is_right: bool, time_s: float | None) -> None:
        """Take one more answer to a canary."""
        canary = self.canaries[canary_id]
        memory = self._memory.get(canary_id, CanaryMemory())
        if not memory.asks and self.promised is not None:  # asked again it tells nothing new of the mean
            self._accuracy = mean_after(self._accuracy, float(is_right), promised=self.promised, time_s=time_s)
            self._check("accuracy", log_wealth(self._accuracy.bets.runs), began(self._accuracy.bets), time_s)
        if canary.right:
            self._lost = lost_after(self._lost, canary_id, is_wrong=not is_right, time_s=time_s, tolerance=TOLERANCE)
        since_s = None if is_right else (memory.since_s if memory.is_wrong else time_s)
        self._memory[canary_id] = CanaryMemory(
            asks=memory.asks + 1, wrong=memory.wrong + (not is_right), is_wrong=not is_right,
            right_s=time_s if is_right else memory.right_s, since_s=since_s,
        )  # fmt: skip
        if canary.right:
            self._timeline.add(time_s, {"canaries_lost": float(not is_right)}, is_traffic=False)
            self._check("canaries_lost", lost_wealth(self._lost), self._lost_since(), time_s)

    def now_wrong(self) -> list[Canary]:
        """Canaries that were wrong when they were last asked."""
        return [one for name, one in self.canaries.items() if (m := self._memory.get(name)) and m.is_wrong]

    def state(self) -> WatchFile:
        """What the next look goes on with."""
        self._timeline.mark({name: wealth for name, wealth in self.wealth().items() if math.isfinite(wealth)})
        return self._before.model_copy(
            update={
                "looks": self._before.looks + 1, "read": self._read, "used": self._used,
                "recent": tuple(self._recent), "last_s": self._last_s, "odd": dict(sorted(self._odd.items())),
                "examples": self._examples, "digests": dict(self._digests), "signs": self._signs,
                "unlabelled_n": self._unlabelled[0], "unlabelled_sum": self._unlabelled[1],
                "canaries": {name: one for name, one in self._memory.items() if name in self.canaries},
                "lost": self._lost, "accuracy": self._accuracy, "labelled": self._labelled,
                "period_s": self._timeline.period_s, "periods": self._timeline.periods(), "alarms": tuple(self.alarms),
            }
        )  # fmt: skip

    def wealth(self) -> dict[str, float]:
        """The log of the wealth of every test that has seen something."""
        wealth = {name: log_wealth(sign.bets.runs) for name, sign in self._signs.items() if sign.bets.n}
        if self._lost.bets.n:
            wealth["canaries_lost"] = lost_wealth(self._lost)
        means: dict[str, MeanState] = {"accuracy": self._accuracy, "labelled": self._labelled}
        return wealth | {name: log_wealth(one.bets.runs) for name, one in means.items() if one.bets.n}

    def _note(self, reason: str, example: str) -> None:
        self._odd[reason] += 1
        self._examples.setdefault(reason, example[:200])

    def _is_twice(self, id_: str) -> bool:
        short = hashlib.sha256(id_.encode("utf-8", "replace")).hexdigest()[:10]
        if short in self._recent_set:
            return True
        self._recent.append(short)
        self._recent_set.add(short)
        if len(self._recent) > _MOST_RECENT:
            self._recent_set.discard(self._recent.popleft())
        return False

    def _time_of(self, row: SeenRow) -> float | None:
        """When a row was written, as far as its clock can be believed; else the time of the row before it."""
        if row.time_s is None:
            self._note("no_time", row.place)
            return self._last_s
        if row.time_s > self.now_s + _AHEAD_S:
            self._note("clock_jump", f"{row.place}: {row.time_s - self.now_s:.0f} s after now")
            return self._last_s
        if self._last_s is not None and row.time_s < self._last_s - _BACK_S:
            self._note("clock_jump", f"{row.place}: {self._last_s - row.time_s:.0f} s before the row above it")
        self._last_s = row.time_s
        return row.time_s

    def _see_canary(self, canary: Canary, row: SeenRow, time_s: float | None) -> None:
        if row.is_escalated:
            self._note("canary_escalated", row.place)
        elif row.answer is None and not row.is_abstained:
            self._note("canary_without_text", f"{row.place}: record texts, or ask canaries with --ask")
        else:
            right = row.answer is not None and not row.is_abstained and self._grade(canary, row.answer)
            self.ask(canary.question.id, is_right=right, time_s=time_s)

    def _label(self, row: SeenRow, time_s: float | None) -> None:
        if row.is_escalated:
            return
        count, total = self._unlabelled
        if row.right is None:
            if row.confidence is not None:
                self._unlabelled = (count + 1, total + row.confidence)
            return
        self._unlabelled = (0, 0.0)
        if self.promised is None:
            self._note("label_without_promise", f"{row.place}: say with --promise which accuracy is expected")
            return
        mean = total / count if count else None
        value = predicted_value(right=row.right, confidence=row.confidence, mean_confidence=mean)
        self._labelled = mean_after(self._labelled, value, promised=self.promised, most=2.0, time_s=time_s)
        self._check("labelled", log_wealth(self._labelled.bets.runs), began(self._labelled.bets), time_s)

    def _sign(self, name: str, value: float, mode: str, time_s: float | None) -> None:
        sign = self._signs[name]
        mode = self.contract.modes[0] if mode == "written" else mode
        reference = sign.references.get(mode) or self._promised_reference(name, mode)
        if reference is None:
            first = (*sign.first.get(mode, ()), value)
            update: dict[str, object] = {"first": {**sign.first, mode: first}}
            if len(first) >= REFERENCE:
                rows = [{name: one} for one in first]
                # Every other one lays the edges, so that both halves are of the same time.
                made = watch_baseline(rows[::2], rows[1::2], words=(), mode="decide").features[0]
                left = {other: values for other, values in sign.first.items() if other != mode}
                update = {"first": left, "references": {**sign.references, mode: made}}
            self._signs[name] = sign.model_copy(update=update)
            return
        seen = sign.counts.get(mode) or (0,) * len(reference.counts)
        tie = seeds.share(self.contract.config_digest, name, mode, sign.bets.n)
        now, p = ranked(reference, seen, value, tie=tie)
        bets = placed(sign.bets, rank_gains(p), time_s=time_s)
        self._signs[name] = sign.model_copy(
            update={
                "references": {**sign.references, mode: reference}, "counts": {**sign.counts, mode: now}, "bets": bets,
            }
        )  # fmt: skip
        self._check(name, log_wealth(bets.runs), began(bets), time_s)

    def _promised_reference(self, name: str, mode: str) -> WatchFeature | None:
        """How the sign was spread over the calibration questions; None where the contract does not say."""
        watches = self.contract.calibration.watches if self.contract.calibration else ()
        features = [feature for one in watches if one.mode == mode for feature in one.features]
        return next((feature for feature in features if feature.name == name and any(feature.counts)), None)

    def _lost_since(self) -> float | None:
        times = [m.since_s for one in self._lost.suspicions if (m := self._memory.get(one.canary)) and m.since_s]
        return min(times, default=None)

    def _check(self, test: str, log: float, since_s: float | None, time_s: float | None) -> None:
        """Raise the alarm of a test when its wealth says so; once."""
        level = self._levels[test]
        if log < -math.log(level) or any(one.test == test for one in self.alarms):
            return
        promise = self.contract.calibration is not None and any(
            row.threshold is not None for row in self.contract.calibration.thresholds
        )
        self.alarms.append(
            Alarm(
                test=test, what=self._words(test, since_s), e_value=math.exp(min(log, 600.0)), level=level,
                since_s=since_s, found_s=time_s, row=self._read, voids_promise=promise,
            )
        )  # fmt: skip

    def _words(self, test: str, since_s: float | None) -> str:
        if test == "canaries_lost":
            right = [one for one in self.canaries.values() if one.right]
            lost = len([one for one in self.now_wrong() if one.right])
            return f"{lost} of {len(right)} canaries that were right at export are wrong now"
        if test in ("accuracy", "labelled"):
            state = self._accuracy if test == "accuracy" else self._labelled
            of = "canaries, each at its first ask" if test == "accuracy" else "labelled answers of the traffic"
            mean = state.total / max(1, state.bets.n)
            return (
                f"accuracy is below the promised {self.promised:.1%} ({self.promised_by}): {mean:.1%} of "
                f"{state.bets.n} {of}"
            )
        means = self._timeline.means(test, since_s)
        moved = f"went from {means[0]:.3g} to {means[1]:.3g}" if means else "changed"
        return f"{SIGNS[test]} {moved} (means before and after)" if means else f"{SIGNS[test]} {moved}"
