"""A user's SQL over the index's tables, kept away from everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from idcfs.catalog.engine import connect_locked, quote_name, users_sql
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import duckdb

    from idcfs.catalog.index import Index

_BATCH_ROWS = 4096
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


def run_query(index: Index, sql: str) -> QueryResult:
    """Answer one SELECT over the index's tables, named as idc-index names them.

    The tables are `index` (also `idc_index`), `prior_versions_index`,
    `collections_index`, `analysis_results_index` and `version_metadata_index`. The SQL can
    read nothing else and write nothing at all. Times with a zone come as text, in UTC.
    Raises UsageError, in one line, for what is not a single SELECT or fails; IndexFileError
    if the index cannot be used.
    """
    answers = _answer(index, sql)
    columns = next(answers)
    return QueryResult(columns, answers)


def _answer(index: Index, sql: str) -> Generator[tuple[Any, ...], None, None]:
    """Yield the column names, then the rows."""
    with connect_locked(index) as connection:
        with users_sql("the query failed", sql):
            _check_single_select(connection, sql)
            result = connection.execute(sql)
            columns = [(str(each[0]), str(each[1])) for each in result.description or ()]
            names = _number_equals([name for name, _ in columns])
            if any(_ZONED in kind for _, kind in columns):
                kinds = [kind for _, kind in columns]
                result = connection.execute(_without_zones(sql, names, kinds))
        yield names
        while True:
            with users_sql("the query failed", sql):
                batch = result.fetchmany(_BATCH_ROWS)
            if not batch:
                return
            yield from batch


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
    """Wrap a query so that its zoned times come as text; in Python they would take pytz."""
    inner = [f"c{number}" for number in range(len(names))]
    shown = ", ".join(
        f"CAST({column} AS {kind.replace(_ZONED, 'VARCHAR')}) AS {quote_name(name)}"
        if _ZONED in kind
        else column
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
    if len(statements) != 1 or statements[0].type.name != "SELECT":
        found = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise UsageError(f"a query must be a single SELECT statement; this is {found}")
