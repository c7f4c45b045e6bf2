"""SQL over the index's tables, and its answer in the form that is wanted."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from idcfs.api.tables import html_table
from idcfs.catalog.query import run_query, run_query_into

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from idcfs.catalog.index import Index

_SHOWN_ROWS = 20


class Query:
    """A query, run anew each time that its answer is asked for.

    Every method raises UsageError, in one line, for what is not a single SELECT or fails.
    """

    def __init__(self, index: Index, sql: str, rows: Sequence[int] | None = None) -> None:
        self._index = index
        self._rows = rows
        self.sql = sql

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names, each another: of equal ones the later get a number."""
        result = run_query(self._index, self.sql, self._rows)
        result.close()
        return result.columns

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows, as they come."""
        return run_query(self._index, self.sql, self._rows).rows

    def pandas(self) -> Any:  # noqa: ANN401  # pandas need not be installed
        """Return a `pandas.DataFrame`. Raises MissingPackageError without pandas."""
        return run_query_into(self._index, self.sql, "pandas", self._rows)

    def polars(self) -> Any:  # noqa: ANN401  # polars need not be installed
        """Return a `polars.DataFrame`. Raises MissingPackageError without polars."""
        return run_query_into(self._index, self.sql, "polars", self._rows)

    def arrow(self) -> Any:  # noqa: ANN401  # pyarrow need not be installed
        """Return a `pyarrow.Table`. Raises MissingPackageError without pyarrow."""
        return run_query_into(self._index, self.sql, "pyarrow", self._rows)

    def _repr_html_(self) -> str:
        result = run_query(self._index, self.sql, self._rows)
        shown = list(itertools.islice(result.rows, _SHOWN_ROWS + 1))
        result.close()
        more = "more rows follow" if len(shown) > _SHOWN_ROWS else ""
        return html_table(result.columns, shown[:_SHOWN_ROWS], more)
