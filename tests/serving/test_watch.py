"""A watch stays quiet on requests like the calibration questions, and ends the promise soon on others."""

import json

import numpy as np
import pytest

from aot.served_records import WatchBaseline, WatchState
from aot.serving.cascade.watch import ContractWatch, features_of, next_state, watch_baseline, words_of

WORDS = frozenset(words_of(["What is the next step ?", "stir rice cut onion wash", "12 and 345"]))


def measures(rng: np.random.Generator, *, strange: bool) -> dict[str, float]:
    """Of one request: strange ones have words that nobody taught, and leave the student less sure."""
    return {
        "confidence": float(rng.beta(3, 2) if strange else rng.beta(6, 0.7)),
        "length": float(rng.integers(5, 20)),
        "unknown_words": float(strange),
    }


def baseline(rng: np.random.Generator) -> WatchBaseline:
    fit, test = ([measures(rng, strange=False) for _ in range(n)] for n in (150, 450))
    return watch_baseline(fit, test, words=WORDS, mode="decide")


def void_at(seed: int, *, share: float, requests: int, quiet: int = 0) -> int | None:
    rng = np.random.default_rng([seed, 3])
    base, state = baseline(rng), WatchState()
    for number in range(quiet + requests):
        strange = number >= quiet and rng.random() < share
        state = next_state(state, base, measures(rng, strange=strange), alarm_rate=0.05, seed=seed)
        if state.void_at:
            return state.void_at
    return None


def test_in_domain_the_alarm_is_rarely_raised_however_long_it_goes_on() -> None:
    alarms = sum(void_at(seed, share=0, requests=400) is not None for seed in range(30))
    assert alarms <= 3  # of a binomial with n=30 and p=0.05, 3 or fewer come in 94 of 100 cases; the seeds are fixed


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_out_of_domain_questions_end_the_promise_within_200_requests(share: float) -> None:
    ended = [void_at(seed, share=share, requests=200) for seed in range(40)]
    assert sum(at is not None for at in ended) >= 39


def test_a_change_late_in_the_stream_is_noticed_too() -> None:
    ended = [void_at(seed, share=0.5, requests=200, quiet=300) for seed in range(10)]
    assert all(at is not None and at > 300 for at in ended)


def test_ranks_are_uniform_even_where_all_values_are_equal() -> None:
    base = watch_baseline([{"x": 0.0}] * 10, [{"x": 0.0}] * 10, words=(), mode="decide")
    state = WatchState()
    for _ in range(300):
        state = next_state(state, base, {"x": 0.0}, alarm_rate=0.05, seed=1)
    assert state.void_at is None and state.observed == 300


def test_a_watch_goes_on_in_another_process_from_its_state() -> None:
    rng = np.random.default_rng(0)
    base = WatchBaseline.model_validate_json(baseline(rng).model_dump_json())
    whole, first = ContractWatch(base), ContractWatch(base)
    stream = [("What is the next step?", 0.4 + i / 100) for i in range(40)]
    for question, confidence in stream[:20]:
        whole.observe(question, confidence=confidence)
        first.observe(question, confidence=confidence)
    second = ContractWatch(base, state=WatchState.model_validate_json(first.state.model_dump_json()))
    for question, confidence in stream[20:]:
        whole.observe(question, confidence=confidence)
        second.observe(question, confidence=confidence)
    assert second.state == whole.state
    assert len(json.dumps(second.state.model_dump())) < 20_000


def test_once_void_it_stays_void() -> None:
    watch = ContractWatch(baseline(np.random.default_rng(0)))
    for i in range(200):
        watch.observe(f"Quelle est la prochaine recette {'x' * i}", confidence=0.2)
    ended = watch.state.void_at
    assert ended is not None and watch.state.void_by
    assert watch.observe("What is the next step?", confidence=0.9).void_at == ended


def test_numbers_are_told_apart_by_their_length_only() -> None:
    asked = "What is 98 and 7654?"
    assert features_of(asked, confidence=None, words=WORDS) == {
        "confidence": -1.0, "length": 6.0, "unknown_words": 1.0,
    }  # fmt: skip


def test_a_state_does_not_grow_with_the_stream() -> None:
    base = baseline(np.random.default_rng(2))
    rng, state = np.random.default_rng(5), WatchState()
    sizes = []
    for number in range(1200):
        state = next_state(state, base, measures(rng, strange=False), alarm_rate=1e-9, seed=2)
        if number in (600, 1199):
            sizes.append([len(runs) for runs in state.runs])
    assert sizes[0] == sizes[1] and max(sizes[0]) <= 16
