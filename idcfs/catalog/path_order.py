"""The series of an index in the order of their paths: what a layout is written from."""

from __future__ import annotations

from array import array
from binascii import unhexlify
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING

from idcfs.catalog.columns import stream_columns
from idcfs.catalog.engine import quote
from idcfs.catalog.layout_file import ABSENT
from idcfs.catalog.series_sql import INSTANCES, SIZE, VALID_UUID
from idcfs.catalog.template import names_sql
from idcfs.errors import IndexFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from idcfs.catalog.columns import Column
    from idcfs.catalog.template import Template

_U32_MAX = ABSENT - 1


@dataclass(slots=True)
class Names:
    """The names of the directories of one level, in path order, each with a NUL behind it."""

    texts: list[bytes] = field(default_factory=list)
    """Pieces of the one text that the names make."""
    offsets: array[int] = field(default_factory=lambda: array("I", [0]))
    """Where each name begins in that text, and where the last one ends."""

    def append(self, column: Column, kept: bytes) -> None:
        """Append a batch's names: one for each byte of `kept` that is not 0, and NULLs else."""
        text, offsets = column.text(), column.offsets()
        if self.offsets[-1] + len(text) > _U32_MAX:
            raise IndexFileError("the index's names are too long for a layout (4 GiB a level)")
        self.texts.append(text)
        ends = offsets[1:] if all(kept) else compress(offsets[1:], kept)
        self.offsets.extend(map((self.offsets[-1] - offsets[0]).__add__, ends))


@dataclass(slots=True)
class SortedSeries:
    """A value for each series, in path order, and the names of the directories."""

    names: list[Names]
    """By level, from the one below the root."""
    levels: bytearray = field(default_factory=bytearray)
    """The first level at which a series' path is another than that of the series before; one
    past the last where the two are equal."""
    uuids: bytearray = field(default_factory=bytearray)
    """16 bytes each."""
    buckets: bytearray = field(default_factory=bytearray)
    """Positions in the list of buckets."""
    instances: array[int] = field(default_factory=lambda: array("I"))
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    rows: array[int] = field(default_factory=lambda: array("I"))
    """Rows of the index."""

    def append(self, columns: Sequence[Column]) -> None:
        """Append a batch of `_sorted_sql`. All is copied whole: no Python value a series."""
        level, uuid, bucket, instances, size, row, *names = columns
        levels = bytes(level.numbers())
        self.levels += levels
        self.uuids += unhexlify(uuid.text().translate(None, b"-"))
        self.buckets += bucket.numbers()
        self.instances.frombytes(instances.numbers())
        self.sizes.frombytes(size.numbers())
        self.rows.frombytes(row.numbers())
        for at, (column, known) in enumerate(zip(names, self.names, strict=True), 1):
            known.append(column, levels.translate(bytes(level <= at for level in range(256))))


def sort_series(
    connection: duckdb.DuckDBPyConnection, template: Template, buckets: Sequence[str]
) -> SortedSeries:
    """Return the series of the view `chosen_series`, but for those whose UUID or bucket is none.

    Takes as much memory as the layout's file has bytes, 140 MB for the whole index. Raises
    duckdb.Error, and IndexFileError for names that are too long together.
    """
    found = SortedSeries([Names() for _ in range(template.depth)])
    for batch in stream_columns(connection, _sorted_sql(template, buckets)):
        found.append(batch)
    return found


def _sorted_sql(template: Template, buckets: Sequence[str]) -> str:
    """Return the query for the columns of `SortedSeries`, then the names of each level.

    A name is NULL but where its directory begins. The widths are those of the layout's arrays.
    """
    depths = range(1, template.depth + 1)
    order = "".join(f"c{at}, " for at in depths)
    # A window without an order of its own sees rows as its subquery has them, which DuckDB
    # guarantees: https://duckdb.org/docs/stable/sql/dialect/order_preservation
    differs = "".join(f"WHEN c{at} IS DISTINCT FROM lag(c{at}) OVER () THEN {at} " for at in depths)
    level = f"CASE {differs} ELSE {template.depth + 1} END" if differs else "1"
    kept = "".join(f", CASE WHEN level <= {at} THEN c{at} || chr(0) END" for at in depths)
    known = "[" + ", ".join(map(quote, buckets)) + "]::VARCHAR[]"
    chosen = f"""
        SELECT *, list_position({known}, aws_bucket) - 1 AS bucket,
            {INSTANCES} AS instances, {SIZE} AS size
        FROM chosen_series
        WHERE {VALID_UUID} AND list_contains({known}, aws_bucket)"""
    extra = ("crdc_series_uuid", "bucket", "instances", "size", "idcfs_row")
    return f"""
        SELECT CAST(level AS UTINYINT), crdc_series_uuid, CAST(bucket AS UTINYINT),
            CAST(instances AS UINTEGER), CAST(size AS UBIGINT), CAST(idcfs_row AS UINTEGER){kept}
        FROM (SELECT *, {level} AS level FROM (
            SELECT * FROM ({names_sql(template, chosen, extra)}) ORDER BY {order} idcfs_row))
    """
