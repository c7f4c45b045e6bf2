"""A user's SQL over the index's tables, kept away from everything else."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from idcfs.catalog.engine import connect_locked, quote_name, users_sql
from idcfs.errors import MissingPackageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    import duckdb

    from idcfs.catalog.index import Index

Frame = Literal["pandas", "polars", "pyarrow"]
"""A package whose tables a query can be answered in."""

_BATCH_ROWS = 4096
_NAMING_SERIES = ("crdc_series_uuid", "SeriesInstanceUID")
_ZONED = "TIMESTAMP WITH TIME ZONE"


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The answer to a query. The rows can be read once."""

    columns: tuple[str, ...]
    """Each a different name: of equal ones, the later get a number, `x`, `x_2` …"""
    rows: Generator[tuple[Any, ...], None, None]
    """Streams; what goes wrong on the way raises UsageError."""

    def close(self) -> None:
        """End it before its last row and free what it holds."""
        self.rows.close()


def run_query(index: Index, sql: str, rows: Iterable[int] | None = None) -> QueryResult:
    """Answer one SELECT over the index's tables, named as idc-index names them.

    The tables are `index` (also `idc_index`), `prior_versions_index`,
    `collections_index`, `analysis_results_index` and `version_metadata_index`. With `rows`
    there is also `selection`, these rows of the index. The SQL can
    read nothing else and write nothing at all. Times with a zone come as text, in UTC.
    Raises UsageError, in one line, for what is not a single SELECT or fails; IndexFileError
    if the index cannot be used.
    """
    answers = _answer(index, sql, rows)
    columns = next(answers)
    return QueryResult(columns, answers)


def run_query_into(
    index: Index, sql: str, package: Frame, rows: Iterable[int] | None = None
) -> Any:  # noqa: ANN401  # of a package that need not be installed
    """Answer one SELECT with a table of another package; see `run_query`.

    That is a `pandas.DataFrame`, a `polars.DataFrame` or a `pyarrow.Table`. Raises
    MissingPackageError if the package is not installed, and what `run_query` raises.
    """
    if find_spec(package) is None:
        raise MissingPackageError(f"{package} is not installed: pip install {package}")
    with connect_locked(index, sql) as connection, users_sql("the query failed", sql):
        _create_selection(connection, rows)
        relation = connection.sql(_plainly(connection, sql)[1])
        if package == "pandas":
            return relation.df()
        if package == "pyarrow":
            return relation.to_arrow_table()
        import polars  # type: ignore[import-not-found]  # the user's, not ours

        return polars.DataFrame(relation)


def named_series(index: Index, sql: str) -> tuple[str, tuple[str, ...]]:
    """Return which of the columns that name series a query has, and its values, each once.

    `crdc_series_uuid` comes before `SeriesInstanceUID`. Raises UsageError for a query
    with neither, which is found out before it is run, and what `run_query` raises.
    """
    with connect_locked(index, sql) as connection, users_sql("the query failed", sql):
        columns = _plainly(connection, sql)[0]
        column = next((each for each in _NAMING_SERIES if each in columns), None)
        if column is None:
            raise UsageError(
                f"the query names no series: it has the columns {', '.join(columns)[:200]}, and "
                f"neither {' nor '.join(_NAMING_SERIES)}"
            )
        found = connection.execute(
            f"SELECT DISTINCT CAST({column} AS VARCHAR) FROM (\n{_without_end(sql)}\n) "
            f"WHERE {column} IS NOT NULL ORDER BY 1"
        ).fetchall()
    return column, tuple(value for (value,) in found)


def _answer(
    index: Index, sql: str, rows: Iterable[int] | None
) -> Generator[tuple[Any, ...], None, None]:
    """Yield the column names, then the rows."""
    with connect_locked(index, sql) as connection:
        with users_sql("the query failed", sql):
            _create_selection(connection, rows)
            names, plain = _plainly(connection, sql)
            result = connection.execute(plain)
        yield names
        while True:
            with users_sql("the query failed", sql):
                batch = result.fetchmany(_BATCH_ROWS)
            if not batch:
                return
            yield from batch


def _create_selection(connection: duckdb.DuckDBPyConnection, rows: Iterable[int] | None) -> None:
    if rows is not None:
        connection.execute(
            "CREATE TEMP TABLE selected_rows AS "
            "SELECT CAST(unnest(string_split(?, ' ')) AS BIGINT) AS r",
            [" ".join(map(str, rows)) or "-1"],
        )
        connection.execute(
            "CREATE TEMP VIEW selection AS SELECT * EXCLUDE file_row_number FROM idcfs_rows "
            "WHERE file_row_number IN (SELECT r FROM selected_rows)"
        )


def _plainly(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[tuple[str, ...], str]:
    """Return the names of a query's columns, each another, and the query that gives them so."""
    _check_single_select(connection, sql)
    relation = connection.sql(sql)  # bound, not run
    written, kinds = list(map(str, relation.columns)), list(map(str, relation.types))
    names = _number_equals(written)
    if any(_ZONED in kind for kind in kinds) or list(names) != written:
        return names, _without_zones(sql, names, kinds)
    return names, sql


def _number_equals(names: Sequence[str]) -> tuple[str, ...]:
    taken, numbered = set(names), list[str]()
    for name in names:
        unique, number = name, 1
        while unique in numbered or (number > 1 and unique in taken):
            number += 1
            unique = f"{name}_{number}"
        numbered.append(unique)
    return tuple(numbered)


def _without_zones(sql: str, names: Sequence[str], kinds: Sequence[str]) -> str:
    """Name a query's columns so; zoned times come as text, for in Python they would take pytz."""
    inner = [f"c{number}" for number in range(len(names))]
    shown = ", ".join(
        f"CAST({column} AS {kind.replace(_ZONED, 'VARCHAR')}) AS {quote_name(name)}"
        if _ZONED in kind
        else f"{column} AS {quote_name(name)}"
        for column, name, kind in zip(inner, names, kinds, strict=True)
    )
    # On lines of its own, for the query may end in a comment.
    return f"SELECT {shown} FROM (\n{_without_end(sql)}\n) AS t({', '.join(inner)})"


def _without_end(sql: str) -> str:
    """Blank the semicolons of a single statement, which its strings and comments may hold too."""
    import duckdb

    text = bytearray(sql.encode())
    for offset, kind in duckdb.tokenize(sql):
        if kind == duckdb.token_type.operator and text[offset] == ord(";"):
            text[offset] = ord(" ")
    return text.decode()


def _check_single_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if not statements:
        raise UsageError("the query is empty: it takes a SELECT, such as SELECT * FROM index")
    if len(statements) != 1 or statements[0].type.name != "SELECT":
        found = ", ".join(statement.type.name for statement in statements)
        raise UsageError(f"a query must be a single SELECT statement; this is {found}")
