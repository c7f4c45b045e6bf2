"""DuckDB connections over an index: one that trusts its SQL, one that does not.

The only module that opens DuckDB. Its errors leave as ours, in one line. A
connection belongs to the call that opened it and to that call's thread.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from idcfs.catalog.extras import find_extras
from idcfs.catalog.index import MAIN_TABLE
from idcfs.errors import IndexFileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import duckdb

    from idcfs.catalog.index import Index

    Connect = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]
    """Opens a connection, as `connect` does."""

CORE_COLUMNS = ("PatientID", "collection_id", "Modality", "StudyInstanceUID", "SeriesInstanceUID")
"""The columns idc-index allows in a template, in the order in which it looks for them."""

REQUIRED_COLUMNS = (
    *CORE_COLUMNS,
    "crdc_series_uuid",
    "aws_bucket",
    "instanceCount",
    "series_size_MB",
)

# What both the index and the table of earlier releases have.
_SHARED_COLUMNS = (*CORE_COLUMNS, "crdc_series_uuid", "aws_bucket", "series_size_MB")

# Someone else's SQL may need this much, and no more, of a machine that also views images.
_USER_MEMORY = "2GB"
_INTERRUPTED = "Query interrupted"
"""What DuckDB makes of a KeyboardInterrupt, as a RuntimeError."""

_DUCKDBS_OWN = re.compile(r'"(pg_|duckdb_|sqlite_|pragma_|information_schema)')
"""Tables that DuckDB has for itself: nobody means them who asks for ours."""

_LOCKDOWN = (
    "SET TimeZone = 'UTC'",  # an answer is the same wherever it is asked for
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


def quote(text: str) -> str:
    """Return `text` as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def quote_name(name: str) -> str:
    """Return `name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def connect(index: Index) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection for this room's own SQL, with the views `series` and `all_series`.

    `series` is the index with its position as `idcfs_row`. `all_series` adds the series of
    earlier releases that the index no longer has, numbered after it; columns that only the
    index has are NULL there. Raises IndexFileError if the index cannot be used,
    also for what fails later on the connection.
    """
    import duckdb

    connection = _open()
    try:
        check_columns(connection, index)
        _create_series_views(connection, index)
        yield connection
    except duckdb.Error as exc:  # our own SQL is right, so the files are not
        raise _unusable(index, exc) from exc
    finally:
        connection.close()


@contextmanager
def connect_beside(
    open_one: duckdb.DuckDBPyConnection, index: Index
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open another connection to the database of one of `connect`'s, with the same views.

    Temporary tables are its own. It ends with the other one at the latest. Raises as `connect`.
    """
    import duckdb

    connection = open_one.cursor()
    try:
        _settle(connection)
        yield connection
    except duckdb.Error as exc:
        raise _unusable(index, exc) from exc
    finally:
        connection.close()


@contextmanager
def connect_locked(index: Index, sql: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a connection for SQL that a user wrote, over the index's tables.

    Of those that were fetched besides it has the ones whose names are in `sql`.

    Such SQL reaches no file, no network and no setting. Turning external access off is
    not enough: DuckDB must still read the tables' own files, `allowed_paths` permits
    writing as well as reading, and since 2.0 a SELECT may carry a COPY in a WITH clause.
    So the tables are copies in sealed memory, which the kernel lets nobody change.
    """
    import duckdb

    connection = _open()
    descriptors: list[int] = []
    try:
        files: dict[str, tuple[Path, ...]] = {MAIN_TABLE: (index.path,)}
        files |= {table: (path,) for table, path in index.companions.items()}
        if extras := find_extras(index):
            words = set(re.findall(r"\w+", sql.lower()))
            files |= {table: paths for table, paths in extras.items() if table.lower() in words}
        sealed = {
            table: [_seal(path, descriptors) for path in paths] for table, paths in files.items()
        }
        allowed = ", ".join(quote(path) for paths in sealed.values() for path in paths)
        try:
            connection.execute(f"SET memory_limit = '{_USER_MEMORY}'")
            connection.execute(f"SET allowed_paths = [{allowed}]")
            with suppress(duckdb.CatalogException):  # a setting that may go with a version
                # Else what Ctrl-C has ended waits, 10 s at times, until each thread has done
                # all of its part.
                connection.execute("SET scheduler_process_partial = true")
            for table, paths in sealed.items():
                source = ", ".join(map(quote, paths))
                connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet([{source}])")
        except duckdb.Error as exc:
            raise _unusable(index, exc) from exc
        connection.execute(f'CREATE VIEW "index" AS SELECT * FROM {MAIN_TABLE}')
        connection.execute(
            f"CREATE VIEW idcfs_rows AS SELECT * FROM "
            f"read_parquet({quote(sealed[MAIN_TABLE][0])}, file_row_number = true)"
        )
        for setting in _LOCKDOWN:
            connection.execute(setting)
        yield connection
    finally:
        connection.close()
        for descriptor in descriptors:
            os.close(descriptor)


def columns_of(index: Index) -> tuple[str, ...]:
    """Return the names of the index's columns. Raises IndexFileError."""
    connection = _open()
    try:
        return check_columns(connection, index)
    finally:
        connection.close()


def one_line(exc: Exception) -> str:
    """Return the useful line of a DuckDB error: what is wrong, and what it suggests instead."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    kept = lines[:1]
    kept += [
        line
        for line in lines[1:]
        if line.startswith(("Candidate", "Did you mean")) and not _DUCKDBS_OWN.search(line)
    ]
    text = " ".join(kept) or type(exc).__name__
    return re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", text)


@contextmanager
def users_sql(what: str, sql: str) -> Iterator[None]:
    """Turn whatever DuckDB says of a user's SQL into a UsageError that begins with `what`.

    Raises KeyboardInterrupt where DuckDB made an error of its own out of that.
    """
    import duckdb

    if not is_text(sql):
        raise UsageError(f"{what}: it is not valid UTF-8")
    try:
        yield
    except (duckdb.Error, RuntimeError, ValueError, OverflowError) as exc:
        if isinstance(exc, RuntimeError) and str(exc) == _INTERRUPTED:
            raise KeyboardInterrupt from exc
        # RuntimeError and ValueError: values Python cannot hold, such as the year 10,000.
        raise UsageError(f"{what}: {one_line(exc)}") from exc


def is_text(value: str) -> bool:
    """Tell whether `value` is proper Unicode; bytes from a command line need not be."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _open() -> duckdb.DuckDBPyConnection:
    import duckdb

    connection = duckdb.connect(":memory:")
    # No files beside the caller's working directory, nothing fetched to answer a query.
    connection.execute("SET temp_directory = ''")
    connection.execute("SET autoinstall_known_extensions = false")
    connection.execute("SET autoload_known_extensions = false")
    _settle(connection)
    return connection


def _settle(connection: duckdb.DuckDBPyConnection) -> None:
    """Set what holds for one connection: no bar on the terminal, no look at our variables."""
    import duckdb

    connection.execute("SET enable_progress_bar = false")
    with suppress(duckdb.Error):  # a setting that comes and goes between versions
        connection.execute("SET python_enable_replacements = false")


def _seal(path: Path, descriptors: list[int]) -> str:
    """Copy a file into memory that cannot be written again; return the path to read it by."""
    name = path.name[:200]
    sealed = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    descriptors.append(sealed)
    try:
        with path.open("rb", buffering=0) as source:
            while os.sendfile(sealed, source.fileno(), None, 1 << 30):
                pass
    except OSError as exc:
        raise IndexFileError(f"cannot read the index {path}: {exc.strerror}") from exc
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, seals)
    return f"/proc/self/fd/{sealed}"


def check_columns(connection: duckdb.DuckDBPyConnection, index: Index) -> tuple[str, ...]:
    """Return the names of the index's columns. Raises IndexFileError if one is missing."""
    import duckdb

    try:
        described = connection.execute(
            f"DESCRIBE SELECT * FROM read_parquet({quote(str(index.path))})"
        ).fetchall()
    except duckdb.Error as exc:
        raise _unusable(index, exc) from exc
    columns = tuple(str(row[0]) for row in described)
    missing = [column for column in REQUIRED_COLUMNS if column not in columns]
    if missing:
        raise IndexFileError(
            f"{index.path} is not an IDC index: it has no column {', '.join(missing)}"
        )
    return columns


def _unusable(index: Index, exc: Exception) -> IndexFileError:
    return IndexFileError(f"cannot use the index {index.path}: {one_line(exc)}")


def _create_series_views(connection: duckdb.DuckDBPyConnection, index: Index) -> None:
    import duckdb

    source = f"read_parquet({quote(str(index.path))}, file_row_number = true)"
    connection.execute(
        f"CREATE VIEW series AS SELECT *, file_row_number AS idcfs_row FROM {source}"
    )
    prior = index.companions.get("prior_versions_index")
    if prior is None:
        connection.execute("CREATE VIEW all_series AS SELECT * FROM series")
        return
    shared = ", ".join(map(quote_name, _SHARED_COLUMNS))
    earlier = f"read_parquet({quote(str(prior))}, file_row_number = true)"
    try:
        # A series may have been in several spans of releases: its first row speaks for it.
        connection.execute(f"""
            CREATE VIEW all_series AS
            SELECT * FROM series
            UNION ALL BY NAME
            SELECT {shared}, (SELECT count(*) FROM series) + file_row_number AS idcfs_row
            FROM {earlier}
            WHERE crdc_series_uuid NOT IN
                (SELECT crdc_series_uuid FROM series WHERE crdc_series_uuid IS NOT NULL)
            QUALIFY row_number() OVER
                (PARTITION BY crdc_series_uuid ORDER BY file_row_number) = 1
        """)
    except duckdb.Error as exc:
        raise IndexFileError(f"cannot use {prior}: {one_line(exc)}") from exc
