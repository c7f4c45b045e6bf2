"""One database for several questions: opening one takes longer than many an answer."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from idcfs.catalog.engine import connect, connect_beside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import duckdb

    from idcfs.catalog.index import Index


class KeptOpen:
    """The database of an index, from the first question until the end of the `with` block.

    Each question has a connection of its own, so that they share views but no tables, and one
    that is asked after the end has a database of its own again. DuckDB must not be left open
    for the end of the process, where its module complains of leaks. For one thread.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._closing = ExitStack()
        self._kept: duckdb.DuckDBPyConnection | None = None
        self._is_open = False

    def __enter__(self) -> KeptOpen:
        self._is_open = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_open, self._kept = False, None
        self._closing.close()

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection for one question; see `engine.connect`.

        It ends with the database, whatever is still to be read from it.
        """
        if not self._is_open:
            with connect(self._index) as connection:
                yield connection
            return
        if self._kept is None:
            self._kept = self._closing.enter_context(connect(self._index))
        with connect_beside(self._kept, self._index) as connection:
            yield connection
