"""What holds for every file of a run: whole or not at all, and no finished row is lost to a half-written one."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aot.files.run_folder import append_row, open_append, publish, publishing, read_rows, whole_lines
from aot.records import Refusal

ROWS = st.lists(st.text(max_size=40).map(lambda text: Refusal(item=text, boundary="source", reason="r")), max_size=12)


class Interrupted(Exception):
    """What stops a writer in the middle."""


@given(st.binary(max_size=400), st.lists(st.binary(max_size=100), max_size=5))
def test_a_writer_that_is_stopped_leaves_the_old_file(old: bytes, pieces: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "metrics.json"
        publish(path, old)
        with pytest.raises(Interrupted), publishing(path) as file:
            for piece in pieces:
                file.write(piece)
            raise Interrupted
        assert path.read_bytes() == old and [one.name for one in Path(name).iterdir()] == ["metrics.json"]


@given(ROWS, ROWS, st.data())
def test_a_half_written_row_is_cut_off_and_every_whole_one_stays(
    first: list[Refusal], second: list[Refusal], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "part-0.jsonl"
        for rows in (first, second):
            with open_append(path) as file:
                for row in rows:
                    append_row(file, row)
        whole = path.read_bytes()
        kept = data.draw(st.integers(0, len(whole)), label="bytes that reached the disk")
        path.write_bytes(whole[:kept])
        lines = whole[:kept].count(b"\n")
        assert list(read_rows(path, Refusal)) == [*first, *second][:lines]
        with open_append(path) as file:
            append_row(file, Refusal(item="next", boundary="source", reason="r"))
        assert len(list(whole_lines(path))) == lines + 1
        assert [row.item for row in read_rows(path, Refusal)][-1] == "next"
