"""Part files: who writes where, and what readers take from them."""

import json
import os
import subprocess
import sys
from pathlib import Path

from pydantic import BaseModel

from aot.files.parts import KeyedRows, Part, parts_of, placed_lines

ROOT = str(Path(__file__).parents[1])


class Row(BaseModel):
    key: str
    n: int


def rows(folder: Path, writer: str) -> KeyedRows[Row]:
    return KeyedRows(folder, Row, writer=writer)


def key(n: int) -> str:
    return f"{n:032x}"


def test_two_writers_of_one_name_in_one_process_have_a_file_each(tmp_path: Path) -> None:
    first, second = Part(tmp_path, "0"), Part(tmp_path, "0")
    first.append(Row(key="a", n=1))
    second.append(Row(key="b", n=2))
    assert [path.name for path in parts_of(tmp_path)] == ["part-0-m2.jsonl", "part-0.jsonl"]
    first.close()
    again = Part(tmp_path, "0")
    assert again.path == first.path
    assert again.append(Row(key="c", n=3)) == len(Row(key="a", n=1).model_dump_json()) + 1
    again.close()
    second.close()


def test_a_row_is_read_from_the_parts_of_all_writers(tmp_path: Path) -> None:
    one = rows(tmp_path, "0")
    one.put(key(1), Row(key=key(1), n=1))
    other = rows(tmp_path, "1")
    other.put(key(2), Row(key=key(2), n=2))
    assert [other.get(key(n)) for n in (1, 2, 3)] == [Row(key=key(1), n=1), Row(key=key(2), n=2), None]
    assert one.get(key(2)) is None  # written after this one had looked
    one.close()
    other.close()


WRITER = """
import fcntl, sys
from pathlib import Path
fcntl.flock = fcntl.lockf = lambda *asked: None  # as on a file system whose locks do nothing
from aot.files.parts import KeyedRows
from aot.files.run_folder import publish
from pydantic import BaseModel
class Row(BaseModel):
    key: str
    text: str
folder, writer = Path(sys.argv[1]), sys.argv[2]
rows = KeyedRows(folder / "rows", Row, writer=writer)
for number in range(50):
    key = f"{50 * int(writer) + number:032x}"
    rows.put(key, Row(key=key, text=writer * 500))
    publish(folder / f"{writer}.json", '{"writer": "' + f"{number % 10}" * 5000 + '"}')
rows.close()
"""


def test_four_writers_lose_and_mix_no_row_where_every_lock_succeeds(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(n)], env={**os.environ, "PYTHONPATH": ROOT})
        for n in range(4)
    ]
    while any(writer.poll() is None for writer in writers):
        for published in tmp_path.glob("[0-9].json"):  # whole at any moment
            assert len(set(json.loads(published.read_text())["writer"])) == 1
    assert [writer.returncode for writer in writers] == [0] * 4
    lines = [line for part in parts_of(tmp_path / "rows") for line in part.read_text().splitlines()]
    assert all(set(json.loads(line)["text"]) == {str(int(json.loads(line)["key"], 16) // 50)} for line in lines)
    assert len(lines) == len({json.loads(line)["key"] for line in lines}) == 4 * 50
    assert {path.name for path in tmp_path.iterdir()} == {"rows", *(f"{n}.json" for n in range(4))}, (
        "nothing half-written is left"
    )


def test_half_a_line_and_a_line_of_something_else_are_no_rows(tmp_path: Path) -> None:
    good = Row(key=key(1), n=1).model_dump_json().encode()
    (tmp_path / "part-9.jsonl").write_bytes(
        good + b'\n{"n":2,"key":"x"}\n{"key":"' + key(3).encode() + b'","n":"no"}\n' + good.replace(b"1", b"4")
    )
    stored = rows(tmp_path, "0")
    assert stored.get(key(1)) == Row(key=key(1), n=1)
    assert stored.get(key(3)) is None
    assert stored.get(key(4)) is None
    stored.close()


def test_lines_are_placed_by_bytes_and_can_be_read_on_from_a_place(tmp_path: Path) -> None:
    path = tmp_path / "part-0.jsonl"
    path.write_bytes("ä\nb\nhalf".encode())
    assert list(placed_lines(path)) == [(0, "ä\n".encode()), (3, b"b\n")]
    assert list(placed_lines(path, start=3)) == [(3, b"b\n")]
