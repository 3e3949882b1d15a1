"""Prose of a chat model: how it is read, and that hand-written lies are dropped while honest wording passes."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from aot.filtering.prose import as_notation, cited_on, clauses, is_connecting
from aot.filtering.words.spoken import read_times
from aot.rationales.notation import parse_rationale

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_prose", ROOT / "scripts" / "bench_prose.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_lies_of_the_golden_set_are_dropped(bench: ModuleType) -> None:
    rows = [*bench.judged("tune"), *bench.judged("held_out")]
    lies = [(case, problem) for case, problem in rows if case.kind != "honest"]
    assert len(rows) - len(lies) >= 400 and len(lies) >= 600
    assert sum(bool(problem) for _, problem in lies) >= 0.99 * len(lies)


@pytest.mark.parametrize(("half", "kept", "n"), [("tune", 395, 415), ("held_out", 42, 55)])
def test_honest_prose_is_kept_as_often_as_measured(bench: ModuleType, half: str, kept: int, n: int) -> None:
    honest = [problem for case, problem in bench.judged(half) if case.kind == "honest"]
    assert (sum(not problem for problem in honest), len(honest)) == (kept, n)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("Chopped the onion from 0.2s to 2.4s", "chop onion from 0.2s-2.4s"),
        ("between 0.2 s and 2.4 s he fries some onions", "0.2s-2.4s he fry onion"),
        ("starting at 0.2s and ending at 2.4s", "0.2s-2.4s"),
        ("The onion is being chopped (steps 1 and 2)", "The chop onion [1] [2]"),
        ("Onion frying, i.e. not a single break", "fry onion, that is no break"),
        ("a shoponion and chopsticks", "a shoponion and chopsticks"),
    ],
)
def test_times_and_inflected_labels_are_read_as_the_tools_write_them(said: str, read: str) -> None:
    assert as_notation(said, ["chop onion", "fry onion"]) == read


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("0:03 to 0:05", "3.2s-5.4s"),
        ("after about three seconds", "after 3.2s"),
        ("from three to five and a half seconds", "from 3.2s-5.4s"),
        ("until 5.4s, starting at 3.2s", "3.2s-5.4s"),
        ("it starts at 3.2 seconds and, for 2.2 seconds, goes on", "it starts at 3.2s and, for a while, goes on"),
        ("at 7 s", "at 7.0s"),
        ("it takes nine seconds", "it takes 9.0s"),
        ("at 3.9 seconds", "at 3.9s"),
    ],
)
def test_a_rough_time_is_the_one_that_a_step_gave_and_any_other_stays_what_it_is(told: str, read: str) -> None:
    assert read_times(told, [(3.2, 5.4)]) == read


def test_a_sentence_without_a_citation_rests_on_that_of_the_next_one_or_the_one_before() -> None:
    claims = parse_rationale("Gather: chop onion. fry onion [2]. 0.2s.\nCombine: so [3].\nAnswer: a").claims
    assert [claim.citations for claim in cited_on(claims)] == [(2,), (2,), (2,), (3,)]


def test_connecting_words_are_no_things_and_no_actions_of_a_kitchen() -> None:
    things = ("kettle", "knife", "bowl", "pan", "spoon", "onion", "egg", "cup", "dog", "phone")
    actions = ("chop", "fry", "boil", "wash", "peel", "pour", "slice", "stir")
    never = (*things, *actions)
    assert not any(is_connecting(word) for word in never)


def test_each_clause_rests_on_its_own_citations() -> None:
    assert clauses("a [1], b [2] [3].", (1, 2, 3))[:2] == [("a ", (1,)), (", b ", (2, 3))]
