"""Series and their directories, streamed from DuckDB without a compiled layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.catalog.layout_file import ABSENT
from idcfs.catalog.selection import create_row_table
from idcfs.catalog.series_sql import INSTANCES, SIZE, VALID_BUCKET, VALID_UUID
from idcfs.catalog.template import names_sql
from idcfs.model import Series, SeriesUUID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from idcfs.catalog.engine import Connect
    from idcfs.catalog.template import Template

_BATCH_ROWS = 8192


def stream_series_paths(
    connect: Connect, rows: Iterable[int] | None, template: Template
) -> Iterator[tuple[Series, str]]:
    """Yield each series with its directory, in path order; a batch in memory at a time."""
    with connect() as connection:
        chosen = "series"
        if rows is not None:
            source = create_row_table(connection, "selected", rows)
            chosen = f"{source} WHERE idcfs_row IN (SELECT r FROM selected)"
        source = (
            f"SELECT *, {INSTANCES} AS instances, {SIZE} AS size FROM (SELECT * FROM {chosen}) "
            f"WHERE {VALID_UUID} AND {VALID_BUCKET}"
        )
        extra = ("crdc_series_uuid", "aws_bucket", "idcfs_row", "instances", "size")
        names = "".join(f"c{level}, " for level in range(1, template.depth + 1))
        connection.execute(
            f"CREATE TEMP TABLE placed AS SELECT {names}{', '.join(extra)} "
            f"FROM ({names_sql(template, source, extra)}) ORDER BY {names}idcfs_row"
        )
        path = f"concat_ws('/', {names.rstrip(', ')})" if names else "''"
        result = connection.execute(
            f"SELECT crdc_series_uuid, aws_bucket, idcfs_row, instances, size, {path} FROM placed"
        )
        while batch := result.fetchmany(_BATCH_ROWS):
            for uuid, bucket, row, count, size, directory in batch:
                instances = None if count == ABSENT else count
                yield Series(SeriesUUID(uuid), bucket, row, instances, size), directory
