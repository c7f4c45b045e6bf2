"""Selections: sets of series that compose, and the verbs on them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from idcfs.api.figures import human_bytes
from idcfs.api.prefetching import run
from idcfs.api.query import Query
from idcfs.api.tables import html_table
from idcfs.api.writing import written
from idcfs.catalog.citations import IDC_PUBLICATION
from idcfs.catalog.manifest import write_manifest
from idcfs.cite.formatted import format_citations
from idcfs.errors import UsageError
from idcfs.model import DEFAULT_TEMPLATE
from idcfs.store.endpoint import get_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from idcfs.api.files import File, Remote
    from idcfs.api.prefetching import Progress, Report
    from idcfs.catalog.catalog import Catalog
    from idcfs.catalog.citations import Attribution
    from idcfs.catalog.selection import SelectionSize
    from idcfs.model import Series
    from idcfs.store.endpoint import Source

_SHOWN_SERIES = 10
_SHOWN_COLUMNS = (
    "collection_id, PatientID, Modality, SeriesDescription, instanceCount, SeriesInstanceUID"
)


class Selection:
    """A set of series of one index, which never changes. It may be empty.

    `a & b`, `a | b` and `a - b` give new ones. Its length is the number of series.
    """

    def __init__(self, catalog: Catalog, remote: Remote, rows: Iterable[int]) -> None:
        self._catalog = catalog
        self._remote = remote
        self._rows = tuple(sorted(set(rows)))

    def __len__(self) -> int:
        return len(self._rows)

    def __and__(self, other: Selection) -> Selection:
        return self._with(set(self._rows) & self._rows_of(other))

    def __or__(self, other: Selection) -> Selection:
        return self._with(set(self._rows) | self._rows_of(other))

    def __sub__(self, other: Selection) -> Selection:
        return self._with(set(self._rows) - self._rows_of(other))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Selection):
            return NotImplemented
        return self._release == other._release and self._rows == other._rows

    def __hash__(self) -> int:
        return hash((self._release, self._rows))

    def where(self, condition: str) -> Selection:
        """Narrow it to the series for which an SQL condition holds; current series only."""
        return self._with(set(self._rows) & set(self._catalog.rows_where(condition)))

    def size(self) -> SelectionSize:
        """Return series, instances and bytes, before anything moves.

        For series of earlier releases the index gives no number of instances.
        """
        return self._catalog.size(self._rows)

    def series(self) -> list[Series]:
        """Return the series themselves: UUID, bucket, number of instances and bytes."""
        return [series for series, _ in self._catalog.series_paths(self._rows, "")]

    def query(self, sql: str = "SELECT * FROM selection") -> Query:
        """Return the answer to one SELECT, in which `selection` is these rows of the index.

        Series of earlier releases are not among them: the index has not their columns.
        """
        return Query(self._catalog.index, sql, self._rows)

    def manifest(self, *, source: Source = "aws", commands: bool = False) -> str:
        """Return `s3://` lines, one a series, which idc-index reads too.

        As `commands` they are what `s5cmd run` takes; idc-index and idcfs read those too.
        Raises UsageError for an unknown source.
        """
        return "".join(self._manifest_lines(source, commands))

    def write_manifest(
        self, path: str | os.PathLike[str], *, source: Source = "aws", commands: bool = False
    ) -> None:
        """Write `manifest` to a file, whole or not at all. Raises OSError."""
        with written(Path(path)) as file:
            file.writelines(self._manifest_lines(source, commands))

    def cite(self) -> Attribution:
        """Return what to cite for it and the licences it is under, without a network.

        Beside what it returns, IDC itself is to be cited: `citations` has that too.
        """
        return self._catalog.attribute(self._rows)

    def citations(
        self, style: Literal["apa", "bibtex", "json", "turtle"] = "apa", *, strict: bool = False
    ) -> list[str]:
        """Return citations of all sources and of IDC; APA needs no network.

        The others come from the DOI service, within a minute. What it does not give is
        made of what the index says or, when `strict`, raises UsageError.
        """
        formatted = format_citations([*self.cite().sources, IDC_PUBLICATION], style)
        if strict and formatted.problems:
            raise UsageError("; ".join(formatted.problems[:5]))
        return formatted.texts

    def prefetch(
        self,
        download_dir: str | os.PathLike[str] | None = None,
        *,
        dir_template: str | None = DEFAULT_TEMPLATE,
        jobs: int | None = None,
        verify: Literal["full", "length"] = "full",
        cache_size: str | None = None,
        min_free: str | None = None,
        limit_rate: int | str | None = None,
        report: str | os.PathLike[str] | None = None,
        from_dir: str | os.PathLike[str] | None = None,
        progress: Callable[[Progress], None] | bool = False,
        check: bool = True,
    ) -> Report:
        """Bring all files to a directory, or else into the cache; what is there stays.

        `limit_rate` is bytes a second, over all connections together, or "10MB".
        The file `report` gets a line of JSON for each file as it ends, and one that sums up.
        `jobs` files are fetched at once or, by default, as many as the link gains from.
        With `from_dir` they are taken from there, where they were brought from another machine.
        `progress` is called some times a second; True draws a bar, in notebooks too. What
        it raises ends the prefetch and comes out of it. Complete files stay, and the same
        call goes on from there. Raises IncompletePrefetchError, which has the `report`,
        unless all files are there; not with `check=False`. Raises UsageError for an empty
        selection, IdcfsError if the disk cannot hold it, KeyboardInterrupt for Ctrl-C.
        """
        if not self._rows:
            raise UsageError("the selection is empty: there is nothing to fetch")
        request = self._remote.request(
            _absolute(download_dir, "download_dir"),
            jobs=jobs,
            verify=verify,
            cache_size=cache_size,
            min_free=min_free,
            limit_rate=limit_rate,
            report_path=_absolute(report, "report"),
            from_dir=_absolute(from_dir, "from_dir"),
        )
        done = run(self._catalog, self._rows, dir_template, request, progress)
        if check:
            done.raise_if_incomplete()
        return done

    def recheck(
        self,
        download_dir: str | os.PathLike[str] | None = None,
        *,
        dir_template: str | None = DEFAULT_TEMPLATE,
        jobs: int | None = None,
        report: str | os.PathLike[str] | None = None,
        progress: Callable[[Progress], None] | bool = False,
    ) -> Report:
        """Read all files that are there and hold them against the store; change nothing.

        What is missing or not right is among the report's failures; `prefetch` mends it.
        Raises UsageError if there is no such directory.
        """
        request = self._remote.request(
            _absolute(download_dir, "download_dir"),
            jobs=jobs,
            verify="full",
            report_path=_absolute(report, "report"),
            only_examine=True,
        )
        return run(self._catalog, self._rows, dir_template, request, progress)

    def files(self) -> Iterator[File]:
        """Yield every file, series by series in path order, as the store lists them.

        Takes the network, or the cache for series that were listed before. Raises StoreError.
        """
        for series, _ in self._catalog.series_paths(self._rows, DEFAULT_TEMPLATE):
            yield from self._remote.files(series)

    def __repr__(self) -> str:
        return f"<idcfs.Selection: {self._told()}>"

    def _repr_html_(self) -> str:
        sql = f"SELECT {_SHOWN_COLUMNS} FROM selection LIMIT {_SHOWN_SERIES}"
        query = self.query(sql)
        return html_table(query.columns, query, self._told())

    def _told(self) -> str:
        size = self.size()
        return (
            f"{size.series_count:,} series, {size.instance_count:,} files, "
            f"{human_bytes(size.size_bytes)} of {self._release}"
        )

    @property
    def _release(self) -> str:
        return self._catalog.index.release

    def _rows_of(self, other: object) -> set[int]:
        if not isinstance(other, Selection):
            raise UsageError(f"a selection composes with a selection, not with {other!r}")
        if self._catalog.index.fingerprint != other._catalog.index.fingerprint:
            raise UsageError(
                f"selections of different indexes do not compose: {self._release} and "
                f"{other._release}"
            )
        return set(other._rows)

    def _with(self, rows: Iterable[int]) -> Selection:
        return Selection(self._catalog, self._remote, rows)

    def _manifest_lines(self, source: Source, commands: bool) -> Iterator[str]:
        get_endpoint(None, source)  # refuses what is none
        placed = self._catalog.series_paths(self._rows, DEFAULT_TEMPLATE)
        return write_manifest((series for series, _ in placed), source, commands=commands)


def _absolute(path: str | os.PathLike[str] | None, argument: str) -> Path | None:
    """Return a path; an empty one, which would mean the current directory, is refused."""
    if path is None:
        return None
    if not os.fspath(path):
        raise UsageError(f"{argument} is empty")
    return Path(path).absolute()
