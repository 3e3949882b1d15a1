"""The house rules: what is not yet as it should be may not get worse; scripts/house.py says where it counts what."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import house

EVERY = house.figures()


@pytest.mark.parametrize("name", sorted(name for name, figure in EVERY.items() if not figure.may_grow))
def test_no_figure_is_over_its_limit(name: str) -> None:
    figure, limit = EVERY[name], house.limits()[name]
    assert not figure.worse_than(limit), f"{figure.value} instead of {limit}: " + "; ".join(figure.places[-5:])


def test_limits_are_those_of_the_figures() -> None:
    assert set(house.limits()) == {name for name, figure in EVERY.items() if not figure.may_grow}


def test_a_figure_over_its_limit_is_worse_whichever_way_it_counts() -> None:
    assert house.Figure(81, 80).worse_than(80)
    assert not house.Figure(80, 80).worse_than(80)
    assert house.Figure(0.44, 0.45, at_least=True).worse_than(0.45)


def test_door_questions_are_counted_where_an_attribute_or_a_name_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def f(config):\n    return config.door == 'text' and is_text\n"
    monkeypatch.setattr(house, "trees", lambda: {"aot/x.py": house.ast.parse(code)})
    assert sorted(house._door_questions()) == ["aot/x.py:2 door", "aot/x.py:2 is_text"]


def test_a_record_counts_where_another_room_imports_it_and_not_where_its_own_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = {
        "aot/a/x.py": "class Shared(Record):\n    ...\nclass Kept(Record):\n    ...\n",
        "aot/a/y.py": "from aot.a.x import Kept, Shared\n",
        "aot/b/z.py": "from aot.a.x import Shared\nfrom aot.c import Kept\n",
    }
    monkeypatch.setattr(house, "trees", lambda: {path: house.ast.parse(text) for path, text in texts.items()})
    assert list(house._records()) == ["aot/a/x.py:1 Shared"]
