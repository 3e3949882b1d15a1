"""Prose of a chat model: how it is read, and that hand-written lies are dropped while honest wording passes."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from aot.filtering.prose import as_notation, clauses, is_connecting

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_prose", ROOT / "scripts" / "bench_prose.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_planted_lie_of_the_golden_set_is_dropped(bench: ModuleType) -> None:
    rows = [*bench.judged("tune"), *bench.judged("held_out")]
    lies = [(case, problem) for case, problem in rows if case.kind != "honest"]
    assert len(rows) >= 60 and len({case.kind for case, _ in lies}) == 10
    assert [case.name for case, problem in lies if not problem] == []


@pytest.mark.parametrize(("half", "kept", "n"), [("tune", 33, 36), ("held_out", 4, 10)])
def test_honest_prose_is_kept_as_often_as_measured(bench: ModuleType, half: str, kept: int, n: int) -> None:
    honest = [problem for case, problem in bench.judged(half) if case.kind == "honest"]
    assert (sum(not problem for problem in honest), len(honest)) == (kept, n)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("Chopped the onion from 0.2s to 2.4s", "chop onion from 0.2s-2.4s"),
        ("between 0.2 s and 2.4 s he fries some onions", "0.2s-2.4s he fry onion"),
        ("starting at 0.2s and ending at 2.4s", "0.2s-2.4s"),
        ("a shoponion and chopsticks", "a shoponion and chopsticks"),
    ],
)
def test_times_and_inflected_labels_are_read_as_the_tools_write_them(said: str, read: str) -> None:
    assert as_notation(said, ["chop onion", "fry onion"]) == read


def test_connecting_words_are_no_things_and_no_actions_of_a_kitchen() -> None:
    things = ("kettle", "knife", "bowl", "pan", "spoon", "onion", "egg", "cup", "dog", "phone")
    actions = ("chop", "fry", "boil", "wash", "peel", "pour", "slice", "stir")
    never = (*things, *actions)
    assert not any(is_connecting(word) for word in never)


def test_each_clause_rests_on_its_own_citations() -> None:
    assert clauses("a [1], b [2] [3].", (1, 2, 3))[:2] == [("a ", (1,)), (", b ", (2, 3))]
