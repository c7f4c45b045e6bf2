"""The room's front: questions about an index, answered with DuckDB.

What only some commands ask is imported when it is asked, as all of it takes a tenth of the
time of `idcfs size`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from idcfs.catalog.engine import CORE_COLUMNS, check_columns, columns_of, connect
from idcfs.catalog.index import Index
from idcfs.catalog.kept_open import KeptOpen
from idcfs.catalog.selection import (
    Selection,
    SelectionSize,
    Unmatched,
    create_row_table,
    create_selected,
    evaluate_where,
    resolve_identifiers,
)
from idcfs.errors import UsageError
from idcfs.model import SeriesUUID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import duckdb

    from idcfs.catalog.citations import Attribution
    from idcfs.catalog.manifest import Manifest
    from idcfs.catalog.query import QueryResult
    from idcfs.model import Series


class Catalog:
    """What an index knows. Every call blocks and opens its own connection; any thread."""

    def __init__(self, index: Index, _kept: KeptOpen | None = None) -> None:
        self.index = index
        self._kept = _kept

    @classmethod
    def open(cls, index_path: Path | None = None) -> Catalog:
        """Open the installed index, or the file that stands in for it. Raises IndexFileError."""
        return cls(Index.open(index_path))

    @contextmanager
    def kept_open(self) -> Iterator[Catalog]:
        """Yield a catalog whose answers come from one database, which the end closes.

        It spares each question but the first some 15 ms. For the calling thread only, as long
        as the database is open; what `series_paths` has not yielded by the end is lost.
        """
        with KeptOpen(self.index) as kept:
            yield Catalog(self.index, kept)

    def _connect(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return connect(self.index) if self._kept is None else self._kept.connect()

    def columns(self) -> tuple[str, ...]:
        """Return the names of the index's columns. Raises IndexFileError."""
        if self._kept is None:
            return columns_of(self.index)
        with self._connect() as connection:
            return check_columns(connection, self.index)

    def rows(self, selection: Selection) -> list[int]:
        """Return the index rows a selection picks, ascending.

        Raises UsageError if it names something unknown, or picks nothing.
        """
        rows = self.find(selection)
        if not rows:
            raise UsageError(f"the selection picks no series of {self.index.release}")
        return rows

    def find(self, selection: Selection) -> list[int]:
        """Return the index rows a selection picks, ascending; there may be none.

        Raises UsageError if it names something unknown.
        """
        rows, unmatched = self.match(selection)
        if unmatched:
            raise UsageError(self.tell(unmatched))
        return rows

    def tell(self, unmatched: list[Unmatched]) -> str:
        """Return a message about values that match nothing: the first five of them."""
        shown = [each.message(self.index.release) for each in unmatched[:5]]
        if len(unmatched) > len(shown):
            shown.append(f"and {len(unmatched) - len(shown):,} more")
        return "; ".join(shown)

    def match(self, selection: Selection) -> tuple[list[int], list[Unmatched]]:
        """Return the rows a selection picks and its values that match nothing, raising for neither.

        Raises UsageError for a `where` that is no expression over the index's columns.
        """
        with self._connect() as connection:
            unmatched = create_selected(connection, self.index, selection)
            found = connection.execute("SELECT r FROM selected ORDER BY r").fetchall()
        return [row for (row,) in found], unmatched

    def size(self, rows: Iterable[int]) -> SelectionSize:
        """Return the number of series, instances and bytes of these index rows."""
        with self._connect() as connection:
            source = create_row_table(connection, "selected", rows)
            found = connection.execute(
                "SELECT count(*), coalesce(sum(TRY_CAST(instanceCount AS BIGINT)), 0), "
                "coalesce(sum(CAST(round(series_size_MB * 1e6) AS HUGEINT)), 0) "
                f"FROM {source} WHERE idcfs_row IN (SELECT r FROM selected)"
            ).fetchall()
        series_count, instance_count, size_bytes = found[0]
        return SelectionSize(int(series_count), int(instance_count), int(size_bytes))

    def resolve_identifiers(self, values: Iterable[str]) -> tuple[list[int], list[Unmatched]]:
        """Return the rows that bare identifiers pick, as `idc download` takes them.

        Each value is taken for whatever it matches: collection, analysis result, patient,
        study, series, or `crdc_series_uuid` of any release. Also returns what matches nothing.
        """
        with self._connect() as connection:
            return resolve_identifiers(connection, list(values))

    def series_paths(
        self, rows: Iterable[int] | None, template: str | None
    ) -> Iterator[tuple[Series, str]]:
        """Yield series and their directories, in path order; None for the whole index.

        The paths are those of the mount, without a leading slash. Series whose UUID or
        bucket is not one are left out. Raises UsageError for a template that makes no sense.
        """
        from idcfs.catalog.series_paths import stream_series_paths
        from idcfs.catalog.template import accepted_by_idc_index, parse_template

        # Every index has the columns of idc-index's templates.
        columns = CORE_COLUMNS if accepted_by_idc_index(template or "") else self.columns()
        parsed = parse_template(template, columns)
        return stream_series_paths(self._connect, rows, parsed)

    def uuids(self, rows: Iterable[int]) -> list[SeriesUUID]:
        """Return the `crdc_series_uuid` of these index rows, in their order."""
        with self._connect() as connection:
            source = create_row_table(connection, "selected", rows)
            found = connection.execute(
                f"SELECT crdc_series_uuid FROM {source} WHERE idcfs_row IN "
                "(SELECT r FROM selected) AND crdc_series_uuid IS NOT NULL ORDER BY idcfs_row"
            ).fetchall()
        return [SeriesUUID(uuid) for (uuid,) in found]

    def collections_of(self, uuids: Iterable[SeriesUUID]) -> dict[SeriesUUID, str]:
        """Return the collection of each series, as far as the index knows it."""
        with self._connect() as connection:
            # One text parameter: see `create_row_table`.
            found = connection.execute(
                "SELECT DISTINCT ON (crdc_series_uuid) crdc_series_uuid, collection_id "
                "FROM all_series WHERE collection_id IS NOT NULL "
                "AND crdc_series_uuid IN (SELECT unnest(string_split(?, ' ')))",
                [" ".join(uuids)],
            ).fetchall()
        return {SeriesUUID(uuid): collection for uuid, collection in found}

    def attribute(self, rows: Iterable[int]) -> Attribution:
        """Return what must be cited for these index rows; see `citations.attribute`."""
        from idcfs.catalog.citations import attribute

        with self._connect() as connection:
            return attribute(connection, self.index, rows)

    def rows_where(self, condition: str) -> list[int]:
        """Return the rows of current series for which an SQL condition holds."""
        return evaluate_where(self.index, condition)

    def rows_of_query(self, sql: str) -> list[int]:
        """Return the rows of the series that a user's SQL names; see `query.named_series`."""
        from idcfs.catalog.query import named_series

        column, values = named_series(self.index, sql)
        if column == "crdc_series_uuid":
            return self.find(Selection(crdc_series_uuid=values)) if values else []
        return self.find(Selection(series_instance_uid=values)) if values else []

    def query(self, sql: str) -> QueryResult:
        """Answer one SELECT of a user's; see `query.run_query`."""
        from idcfs.catalog.query import run_query

        return run_query(self.index, sql)

    def read_manifest(self, path: Path, name: str | None = None) -> Manifest:
        """Read a manifest and find its series; see `manifest.match_manifest`."""
        from idcfs.catalog.manifest import match_manifest

        return match_manifest(self._connect, self.index.release, path, name or str(path))

    def has_earlier(self, rows: Iterable[int]) -> bool:
        """Tell whether series of earlier releases are among these index rows.

        These have no place in the whole index's layout, only in one of these rows alone.
        """
        return max(rows, default=0) >= self._current_count()

    def _current_count(self) -> int:
        with self._connect() as connection:
            found = connection.execute("SELECT count(*) FROM series").fetchall()
        return int(found[0][0])
