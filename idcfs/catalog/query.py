"""A user's SQL over the index's tables, kept away from everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from idcfs.catalog.engine import connect_locked, users_sql
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    import duckdb

    from idcfs.catalog.index import Index

_BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The answer to a query. The rows can be read once."""

    columns: tuple[str, ...]
    rows: Generator[tuple[Any, ...], None, None]
    """Streams; what goes wrong on the way raises UsageError."""

    def close(self) -> None:
        """End it before its last row and free what it holds."""
        self.rows.close()


def run_query(index: Index, sql: str) -> QueryResult:
    """Answer one SELECT over the index's tables, named as idc-index names them.

    The tables are `index` (also `idc_index`), `prior_versions_index`,
    `collections_index`, `analysis_results_index` and `version_metadata_index`. The SQL can
    read nothing else and write nothing at all. Raises UsageError, in one line, for what is
    not a single SELECT or fails; IndexFileError if the index cannot be used.
    """
    answers = _answer(index, sql)
    columns = next(answers)
    return QueryResult(tuple(str(name) for name in columns), answers)


def _answer(index: Index, sql: str) -> Generator[tuple[Any, ...], None, None]:
    """Yield the column names, then the rows."""
    with connect_locked(index) as connection:
        with users_sql("the query failed", sql):
            _check_single_select(connection, sql)
            result = connection.execute(sql)
            names = tuple(column[0] for column in result.description or ())
        yield names
        while True:
            with users_sql("the query failed", sql):
                batch = result.fetchmany(_BATCH_ROWS)
            if not batch:
                return
            yield from batch


def _check_single_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type.name != "SELECT":
        found = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise UsageError(f"a query must be a single SELECT statement; this is {found}")
