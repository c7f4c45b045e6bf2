"""What a release of IDC added, revised and removed, from the versions that the index tells.

Each row of the index says in which release its series took its present form, and each row of
`prior_versions_index` in which releases an earlier form was there. So one installed index knows
what every release held, and two of them can be compared without the older one's files.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.catalog.engine import connect, quote
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import duckdb

    from idcfs.catalog.index import Index

FIRST_RELEASE = 2
"""The first one that `prior_versions_index` knows of."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to some series of a collection between two releases."""

    kind: str
    """`added`, `revised` (known before in another form) or `removed`."""
    collection_id: str
    series_count: int
    size_bytes: int
    """Of the new form, or of what was removed."""


def compare_releases(index: Index, old: int, new: int) -> list[Change]:
    """Return the changes by kind and collection. Raises UsageError, IndexFileError."""
    with _changes(index, old, new) as connection:
        found = connection.execute(
            "SELECT kind, collection_id, count(*), "
            "coalesce(sum(CAST(round(series_size_MB * 1e6) AS HUGEINT)), 0) "
            "FROM changes GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    return [
        Change(str(kind), str(collection or ""), int(count), int(size))
        for kind, collection, count, size in found
    ]


def list_changes(index: Index, old: int, new: int) -> list[tuple[str, str]]:
    """Return kind and `s3://` line of each series that changed. Raises as `compare_releases`."""
    with _changes(index, old, new) as connection:
        found = connection.execute(
            "SELECT kind, 's3://' || aws_bucket || '/' || crdc_series_uuid || '/*' AS line "
            "FROM changes WHERE line IS NOT NULL ORDER BY ALL"
        ).fetchall()
    return [(str(kind), str(line)) for kind, line in found]


@contextmanager
def _changes(index: Index, old: int, new: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection with a table `changes`, a row for each series."""
    prior = index.companions.get("prior_versions_index")
    latest = index.release_number
    if prior is None or latest is None:
        raise UsageError(f"{index.path} does not say what was in which release of IDC")
    for release in (old, new):
        if not FIRST_RELEASE <= release <= latest:
            raise UsageError(
                f"there is no release {release}: the index knows {FIRST_RELEASE} to {latest}; "
                "for later ones: pip install --upgrade idc-index-data"
            )
    with connect(index) as connection:
        for name, release in (("before", old), ("after", new)):
            connection.execute(f"CREATE TEMP TABLE {name} AS {_held_sql(prior, release)}")
        connection.execute(
            "CREATE TEMP TABLE changes AS "
            "SELECT CASE WHEN SeriesInstanceUID IN (SELECT SeriesInstanceUID FROM before) "
            "THEN 'revised' ELSE 'added' END AS kind, * FROM after "
            "WHERE crdc_series_uuid NOT IN (SELECT crdc_series_uuid FROM before) "
            "UNION ALL SELECT 'removed', * FROM before "
            "WHERE SeriesInstanceUID NOT IN (SELECT SeriesInstanceUID FROM after)"
        )
        yield connection


def _held_sql(prior: Path, release: int) -> str:
    """Return the SQL for the series that a release held."""
    columns = "crdc_series_uuid, SeriesInstanceUID, collection_id, series_size_MB, aws_bucket"
    known = "crdc_series_uuid IS NOT NULL AND SeriesInstanceUID IS NOT NULL"
    return (
        f"SELECT {columns} FROM series WHERE series_revised_idc_version <= {release} AND {known} "
        f"UNION SELECT {columns} FROM read_parquet({quote(str(prior))}) "
        f"WHERE {release} BETWEEN min_idc_version AND max_idc_version AND {known}"
    )
