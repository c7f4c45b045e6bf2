"""Results of DuckDB by columns, as they lie in memory, instead of row by row as Python values.

The only module that imports nanoarrow, which reads what DuckDB hands over in Arrow's form
(https://arrow.apache.org/docs/format/Columnar.html) without the 100 MB of pyarrow.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

# Arrow's number for the buffer of values, and for those of texts: where they begin, and they.
_VALUES, _OFFSETS, _TEXT = 1, 1, 2
# What nanoarrow puts before DuckDB's own words.
_PREFIX = re.compile(r"^ArrowArrayStream::\S+ failed \(\d+\): ")


class Column:
    """A column of one batch. Its memory belongs to DuckDB and goes with it: copy what is kept."""

    __slots__ = ("_view",)

    def __init__(self, view: Any) -> None:  # noqa: ANN401  # nanoarrow is not annotated
        self._view = view

    def numbers(self) -> memoryview[int]:
        """Return the bytes of a column of numbers without NULLs, in the machine's order."""
        values: memoryview[int] = memoryview(self._view.buffer(_VALUES))
        return values[self._view.offset :][: self._view.length].cast("B")

    def offsets(self) -> memoryview[int]:
        """Return where each row of a column of text begins in its memory, and the last one ends."""
        offsets: memoryview[int] = memoryview(self._view.buffer(_OFFSETS))
        return offsets[self._view.offset :][: self._view.length + 1]

    def text(self) -> bytes:
        """Return the texts of all rows in UTF-8, one after the other; nothing for a NULL."""
        offsets = self.offsets()
        return bytes(memoryview(self._view.buffer(_TEXT))[offsets[0] : offsets[-1]])


def stream_columns(connection: duckdb.DuckDBPyConnection, sql: str) -> Iterator[list[Column]]:
    """Yield the result of `sql` in batches, each as a list of columns.

    Numbers are as wide as the SQL makes them. Raises duckdb.Error, also for what fails on
    the way, which nanoarrow tells as an error of its own.
    """
    import duckdb
    import nanoarrow  # not above: most of those who import this room compile nothing

    batches = iter(nanoarrow.c_array_stream(connection.sql(sql)))
    while True:
        try:
            batch = next(batches, None)
        except RuntimeError as exc:
            raise duckdb.Error(_PREFIX.sub("", str(exc))) from exc
        if batch is None:
            return
        yield [Column(column.view()) for column in batch.children]
