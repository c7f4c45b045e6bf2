"""How a layout is compiled: by columns, and without the garbage collector."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import duckdb
import nanoarrow
import pytest

from idcfs.catalog.columns import Column, stream_columns
from idcfs.catalog.compile import compile_layout
from idcfs.catalog.layouts import open_layout
from idcfs.errors import IndexFileError
from tests.unit.catalog.conftest import WriteIndex, damage_pages

if TYPE_CHECKING:
    from pathlib import Path


def texts_of(column: Column) -> list[bytes]:
    text, offsets = column.text(), column.offsets()
    return [text[start - offsets[0] : end - offsets[0]] for start, end in pairwise(offsets)]


def test_columns_are_the_rows_that_duckdb_gives() -> None:
    sql = """
        SELECT CAST(range * 3 AS UINTEGER) AS number,
            CASE WHEN range % 7 > 0 THEN 'é' || range END AS text FROM range(300_000)
    """
    numbers, texts, batches = list[int](), list[bytes](), 0
    with duckdb.connect() as connection:
        for number, text in stream_columns(connection, sql):
            numbers += memoryview(number.numbers()).cast("I")
            texts += texts_of(text)
            batches += 1
        rows = connection.execute(sql).fetchall()
    assert batches > 1
    assert list(zip(numbers, texts, strict=True)) == [
        (number, (text or "").encode()) for number, text in rows
    ]


@pytest.mark.parametrize("part", [slice(0, 4), slice(1, 3), slice(4, 4), slice(3, 4)])
def test_a_column_may_begin_within_its_memory(part: slice) -> None:
    numbers, texts = [1, 2, 3, 4], ["a", "", "bc", "d"]
    column = Column(nanoarrow.c_array(numbers, nanoarrow.uint32())[part].view())
    assert list(column.numbers().cast("I")) == numbers[part]
    column = Column(nanoarrow.c_array(texts, nanoarrow.string())[part].view())
    assert texts_of(column) == [text.encode() for text in texts[part]]


def test_damage_that_shows_while_series_are_sorted_is_told(
    write_index: WriteIndex, tmp_path: Path
) -> None:
    index = write_index([{"SeriesInstanceUID": f"1.2.{number}"} for number in range(100)])
    damage_pages(index.path)
    with (tmp_path / "layout").open("wb") as file, pytest.raises(IndexFileError) as caught:
        compile_layout(index, "%SeriesInstanceUID", None, "test", file.fileno())
    assert str(caught.value).startswith(f"cannot use the index {index.path}: ")
    assert "ArrowArrayStream" not in str(caught.value)


def test_what_fails_on_the_way_is_duckdbs_error() -> None:
    sql = "SELECT CASE WHEN range = 250_000 THEN error('odd') ELSE 1 END FROM range(300_000)"
    with duckdb.connect() as connection, pytest.raises(duckdb.Error, match=r"^[^:]+: odd$"):
        for _ in stream_columns(connection, sql):
            pass


def test_the_compiler_runs_without_the_garbage_collector(
    write_index: WriteIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    (tmp_path / "sitecustomize.py").write_text(  # Python imports it at its start
        "import atexit, gc, pathlib\n"
        f"atexit.register(lambda: pathlib.Path({str(told)!r}).write_text(str(gc.isenabled())))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    layout = open_layout(write_index([{}]), "%collection_id", tmp_path / "layouts")
    layout.close()
    assert told.read_text() == "False"
