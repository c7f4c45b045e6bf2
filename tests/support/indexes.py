"""Indexes made of rows of the real one, for mounts that go on from one to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

from idcfs.catalog.index import Index

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from idcfs.demo.series import ReplicaSeries


def write_index(
    path: Path,
    series: Iterable[ReplicaSeries],
    *,
    backwards: bool = False,
    revised: Mapping[str, str] | None = None,
) -> None:
    """Write an index of these series alone, in one go, as whoever replaces a file does.

    With `backwards` its rows stand in the other order. `revised` gives series other UUIDs.
    """
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE chosen (uuid VARCHAR, shown VARCHAR)")
        for each in series:
            shown = (revised or {}).get(each.uuid, each.uuid)
            connection.execute("INSERT INTO chosen VALUES (?, ?)", [each.uuid, shown])
        aside = path.with_suffix(".new")
        connection.execute(f"""
            COPY (
                SELECT i.* REPLACE (c.shown AS crdc_series_uuid)
                FROM '{Index.open().path}' i JOIN chosen c ON i.crdc_series_uuid = c.uuid
                ORDER BY i.SeriesInstanceUID {"DESC" if backwards else "ASC"}
            ) TO '{aside}' (FORMAT parquet)
        """)
    aside.replace(path)
