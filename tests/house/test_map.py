"""The map of CONTRIBUTING.md, docs/vocabulary.md and the tree say the same."""

import re
from pathlib import Path

import pytest

from aot import config, records, run_records

ROOT = Path(__file__).parents[2]
MAP = (ROOT / "CONTRIBUTING.md").read_text().partition("## The map")[2]
WORDS = re.findall(
    r"^\| ([a-z ]+) \| `(\w+)` \| `([\w/]+)` \| (\S.*) \|$", (ROOT / "docs/vocabulary.md").read_text(), re.M
)
TRUNK = ("Question", "Trace", "Verdict", "Lesson", "Prediction", "Score", "MetricRow")


@pytest.mark.parametrize("package", ["aot", "video_data", "text_cot"])
def test_every_room_stands_on_the_map(package: str) -> None:
    rooms = [p.name for p in (ROOT / package).iterdir() if (p / "__init__.py").exists()]
    missing = [room for room in rooms if f"{room}/" not in MAP]
    assert rooms and not missing


def test_every_module_at_the_top_stands_on_the_map() -> None:
    modules = {p.name for p in (ROOT / "aot").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert not {name for name in modules if name not in MAP}


def test_everything_on_the_map_is_there() -> None:
    rooms = re.findall(r"^  (\w+)/ ", MAP, re.M)
    gone = [room for room in rooms if not (ROOT / "aot" / room).is_dir()]
    gone += [name for name in re.findall(r"\b(\w+\.py)\b", MAP) if not any(ROOT.glob(f"*/{name}"))]
    assert len(rooms) > 10 and not gone


def test_vocabulary_names_records_and_rooms_that_exist() -> None:
    assert len(WORDS) >= 12
    for word, record, room, _ in WORDS:
        assert any(hasattr(module, record) for module in (records, run_records, config)), word
        assert (ROOT / room).is_dir(), word


def test_vocabulary_walks_the_trunk_in_its_order() -> None:
    assert tuple(record for _, record, _, _ in WORDS)[: len(TRUNK)] == TRUNK
    assert " → ".join(TRUNK) in " ".join(MAP.replace("`", "").split())
