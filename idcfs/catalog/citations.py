"""What must be cited for a selection, and under which licences it may be used.

Offline: the index names the DOI and the licence of each series, and its tables of
collections and analysis results bring titles and citations.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.catalog.engine import check_columns, quote
from idcfs.catalog.selection import create_row_table
from idcfs.errors import IndexFileError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import duckdb

    from idcfs.catalog.index import Index

DOI_URL = "https://doi.org/"

_TAG = re.compile("</?[a-z]+>")
_NEEDED = ("source_DOI", "license_short_name")


@dataclass(frozen=True, slots=True)
class License:
    """A licence, as the index names it."""

    name: str
    """In short: `CC BY 4.0`."""
    long_name: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A publication or data set to be cited, and what of a selection came from it."""

    doi: str
    title: str | None = None
    citation: str | None = None
    """In APA style, as plain text in one line."""
    kind: str | None = None
    """`original_data`, `analysis_result`, or `publication` for IDC itself."""
    licenses: tuple[License, ...] = ()
    collections: tuple[str, ...] = ()
    series_count: int = 0
    size_bytes: int = 0

    @property
    def url(self) -> str:
        """The DOI as a link."""
        return DOI_URL + self.doi


@dataclass(frozen=True, slots=True)
class Unattributed:
    """Series whose source the index does not tell."""

    collection_id: str | None
    series_count: int

    def message(self) -> str:
        """Say so, on one line."""
        return (
            f"no DOI is known for {self.series_count:,} series of {self.collection_id}: "
            "they are in an earlier release only"
        )


@dataclass(frozen=True, slots=True)
class Attribution:
    """All that a selection came from."""

    sources: tuple[Source, ...]
    """Original data first, each kind by the number of series, falling."""
    unattributed: tuple[Unattributed, ...]


IDC_PUBLICATION = Source(
    doi="10.1148/rg.230180",
    title="National Cancer Institute Imaging Data Commons: Toward Transparency, Reproducibility, "
    "and Scalability in Imaging Artificial Intelligence",
    citation="Fedorov, A., Longabaugh, W. J. R., Pot, D., et al. (2023). National Cancer Institute "
    "Imaging Data Commons: Toward Transparency, Reproducibility, and Scalability in Imaging "
    "Artificial Intelligence. RadioGraphics, 43(12). https://doi.org/10.1148/rg.230180",
    kind="publication",
)
"""The paper that idc-index, too, asks every user of IDC to cite."""


def attribute(
    connection: duckdb.DuckDBPyConnection, index: Index, rows: Iterable[int]
) -> Attribution:
    """Find the sources of these index rows.

    A series of an earlier release has the source of its successor, the series of the same
    SeriesInstanceUID, where there is one. Raises IndexFileError for an index without
    the columns of DOIs and licences.
    """
    columns = check_columns(connection, index)
    missing = [column for column in _NEEDED if column not in columns]
    if missing:
        raise IndexFileError(f"{index.path} tells no sources: it has no {missing[0]}")
    _create_attributed(connection, rows)
    _create_details(connection, index)
    return Attribution(_find_sources(connection), _find_unattributed(connection))


def _create_attributed(connection: duckdb.DuckDBPyConnection, rows: Iterable[int]) -> None:
    """Create `attributed`: DOI, licence, collection and bytes of each selected series."""
    source = create_row_table(connection, "selected", rows)
    connection.execute(f"""
        CREATE TEMP TABLE attributed AS
        WITH chosen AS (
            SELECT * FROM {source} WHERE idcfs_row IN (SELECT r FROM selected)),
        successor AS (
            SELECT SeriesInstanceUID, any_value(source_DOI) AS doi,
                any_value(license_short_name) AS license FROM series
            WHERE SeriesInstanceUID IN
                (SELECT SeriesInstanceUID FROM chosen WHERE source_DOI IS NULL)
            GROUP BY SeriesInstanceUID)
        SELECT lower(coalesce(chosen.source_DOI, successor.doi)) AS doi,
            coalesce(chosen.license_short_name, successor.license) AS license,
            collection_id,
            coalesce(CAST(round(series_size_MB * 1e6) AS HUGEINT), 0) AS size_bytes
        FROM chosen LEFT JOIN successor USING (SeriesInstanceUID)
    """)


def _create_details(connection: duckdb.DuckDBPyConnection, index: Index) -> None:
    """Create `details`: what the tables of collections and analysis results say of each DOI."""
    connection.execute(
        "CREATE TEMP TABLE details (doi VARCHAR, title VARCHAR, type VARCHAR, citation VARCHAR, "
        "license VARCHAR, license_name VARCHAR, license_url VARCHAR)"
    )
    licensed = "{0}license_short_name, {0}license_long_name, {0}license_url"
    if (collections := index.companions.get("collections_index")) is not None:
        connection.execute(
            f"INSERT INTO details SELECT lower(s.source_doi), s.source_title, s.source_type, "
            f"s.citation, {licensed.format('s.license.')} "
            f"FROM (SELECT unnest(sources) AS s FROM {_table(collections)})"
        )
    if (results := index.companions.get("analysis_results_index")) is not None:
        connection.execute(
            f"INSERT INTO details SELECT lower(source_DOI), analysis_result_title, "
            f"'analysis_result', citation, {licensed.format('')} FROM {_table(results)}"
        )


def _table(path: Path) -> str:
    return f"read_parquet({quote(str(path))})"


def _find_sources(connection: duckdb.DuckDBPyConnection) -> tuple[Source, ...]:
    licenses = {
        name: License(name, long_name, url)
        for name, long_name, url in connection.execute(
            "SELECT license, any_value(license_name), any_value(license_url) FROM details "
            "WHERE license IS NOT NULL GROUP BY license"
        ).fetchall()
    }
    found = connection.execute("""
        SELECT doi, title, citation, type, names, collections, series_count, size_bytes FROM (
            SELECT doi, count(*) AS series_count, sum(size_bytes) AS size_bytes,
                list_sort(list(DISTINCT license)) AS names,
                list_sort(list(DISTINCT collection_id)) AS collections
            FROM attributed WHERE doi IS NOT NULL GROUP BY doi)
        LEFT JOIN (
            SELECT doi, any_value(title) AS title, any_value(citation) AS citation,
                any_value(type) AS type FROM details GROUP BY doi) USING (doi)
        ORDER BY type IS NOT DISTINCT FROM 'analysis_result', series_count DESC, doi
    """).fetchall()
    return tuple(
        Source(
            doi,
            title and plain_text(title),
            citation and plain_text(citation),
            kind,
            tuple(licenses.get(name, License(name)) for name in names or ()),
            tuple(collections or ()),
            int(series_count),
            int(size_bytes),
        )
        for doi, title, citation, kind, names, collections, series_count, size_bytes in found
    )


def _find_unattributed(connection: duckdb.DuckDBPyConnection) -> tuple[Unattributed, ...]:
    found = connection.execute(
        "SELECT collection_id, count(*) FROM attributed WHERE doi IS NULL GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return tuple(Unattributed(collection, int(count)) for collection, count in found)


def plain_text(marked_up: str) -> str:
    """Return a citation of the tables, which have HTML and line breaks, as one line of text."""
    return " ".join(html.unescape(_TAG.sub("", marked_up)).split())
