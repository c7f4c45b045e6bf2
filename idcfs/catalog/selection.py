"""Which series a user means, and whether there are any.

The words and their precedence are idc-index's. Unlike there, a value that
matches nothing is an error that names the nearest ones, never dropped in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from idcfs.catalog.engine import connect_locked, is_text, quote, users_sql
from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import duckdb

    from idcfs.catalog.index import Index

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NEAREST = 3
# Below this Jaro-Winkler likeness a proposal would not be what was meant.
_LIKENESS = 0.75
# Each look for near names costs 50 ms, and nobody reads more proposals than these.
_ADVISED = 5


AnalysisResults = Literal["include", "exclude", "only"]


@dataclass(frozen=True, slots=True)
class Selection:
    """A predicate over series. An empty one picks the whole index."""

    collection_id: tuple[str, ...] = ()
    patient_id: tuple[str, ...] = ()
    study_instance_uid: tuple[str, ...] = ()
    series_instance_uid: tuple[str, ...] = ()
    crdc_series_uuid: tuple[str, ...] = ()
    """Also finds series of earlier releases."""
    analysis_result_id: tuple[str, ...] = ()
    modality: tuple[str, ...] = ()
    analysis_results: AnalysisResults = "include"
    """Whether series of analysis results are picked: also, not, or only those."""
    where: str | None = None
    """An SQL expression over the columns of the index."""
    rows: tuple[int, ...] | None = None
    """Index rows, as a manifest or identifiers gave them; None for all."""

    @property
    def is_everything(self) -> bool:
        """Tell whether it picks the whole index."""
        return self == Selection()


@dataclass(frozen=True, slots=True)
class SelectionSize:
    """What a selection amounts to."""

    series_count: int
    instance_count: int
    """Of current series; the index of earlier releases does not say."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A value that no series has."""

    kind: str
    """What the value was taken for: "collection", "patient" …, or "identifier"."""
    value: str
    nearest: tuple[str, ...] = ()

    def message(self, release: str) -> str:
        """Say so in the user's words, on one line."""
        advice = f"; nearest: {', '.join(self.nearest)}" if self.nearest else ""
        # Once is enough for what `_as_text` has written out.
        quoted = repr(self.value).replace("\\\\", "\\")
        return f"no {self.kind} {quoted} in {release}{advice}"


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of a selection: the option's field, the index's column, the user's word."""

    field: str
    column: str
    word: str


# The most specific first: of these the first one given decides, as in idc-index.
IDENTIFIERS = (
    Filter("crdc_series_uuid", "crdc_series_uuid", "crdc_series_uuid"),
    Filter("series_instance_uid", "SeriesInstanceUID", "series"),
    Filter("study_instance_uid", "StudyInstanceUID", "study"),
    Filter("patient_id", "PatientID", "patient"),
    Filter("collection_id", "collection_id", "collection"),
)
NARROWING = (
    Filter("analysis_result_id", "analysis_result_id", "analysis result"),
    Filter("modality", "Modality", "modality"),
)
# The order in which `idc download` tries a bare identifier.
_RESOLVED = (
    "collection_id",
    "analysis_result_id",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "crdc_series_uuid",
)
# Too many, and none of them memorable: the nearest UID is not what was meant.
_SUGGESTED = {"collection_id", "PatientID", "analysis_result_id", "Modality"}


def split_values(values: Iterable[str]) -> tuple[str, ...]:
    """Split repeated and comma-separated option values, as `idc` does; each once, in order."""
    parts = (part.strip() for value in values for part in value.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def lower_uuids(values: Iterable[str]) -> tuple[str, ...]:
    """Write UUIDs as the index does, in lower case; leave everything else alone."""
    return tuple(value.lower() if _UUID.fullmatch(value) else value for value in values)


def create_selected(
    connection: duckdb.DuckDBPyConnection, index: Index, selection: Selection
) -> list[Unmatched]:
    """Create the table `selected` of index rows (`r`) on a connection of `engine.connect`.

    Returns the values that match nothing; what the others match is selected nevertheless.
    Raises UsageError for a `where` that is no expression over the index's columns.
    """
    connection.execute("CREATE OR REPLACE TEMP TABLE wanted (field VARCHAR, value VARCHAR)")
    source, conditions, unmatched = "series", [], []
    given = [f for f in IDENTIFIERS if getattr(selection, f.field)]
    if selection.rows is not None:
        source = create_row_table(connection, "chosen_rows", selection.rows)
        conditions.append("idcfs_row IN (SELECT r FROM chosen_rows)")
    for each in (*given, *(f for f in NARROWING if getattr(selection, f.field))):
        values = getattr(selection, each.field)
        if each.field == "crdc_series_uuid":
            values = lower_uuids(values)
        _load_values(connection, each.field, values)
        missing = _find_missing(connection, each, "series")
        if each.field == "crdc_series_uuid" and missing:  # perhaps of earlier releases
            source = "all_series"
            missing = _find_missing(connection, each, source)
        unmatched += _advise(connection, each, missing)
        if each in given[1:]:  # overruled by a more specific one, but still to be known
            continue
        if each.field == "analysis_result_id":
            # Earlier releases' table lacks the column; idc-index goes by the series' UID.
            conditions.append(
                "SeriesInstanceUID IN (SELECT SeriesInstanceUID FROM series WHERE "
                "analysis_result_id IN (SELECT value FROM wanted WHERE field = "
                "'analysis_result_id'))"
            )
        else:
            conditions.append(
                f"{each.column} IN (SELECT value FROM wanted WHERE field = {quote(each.field)})"
            )
    if selection.analysis_results != "include":
        conditions.append(_analysis_condition(selection))
    if selection.where is not None:
        create_row_table(connection, "where_rows", evaluate_where(index, selection.where))
        conditions.append("idcfs_row IN (SELECT r FROM where_rows)")
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE selected AS SELECT idcfs_row AS r FROM {source} "
        f"WHERE {' AND '.join(conditions) or 'true'}"
    )
    return unmatched


def _analysis_condition(selection: Selection) -> str:
    """Return the condition that leaves analysis results out, or nothing else in.

    It goes by the series' UID, as in idc-index, so that it holds for earlier releases too.
    """
    if selection.analysis_results not in get_args(AnalysisResults):
        raise UsageError(
            f"analysis results are to be {', '.join(get_args(AnalysisResults))}, not "
            f"{selection.analysis_results!r}"
        )
    if selection.analysis_results == "exclude" and selection.analysis_result_id:
        raise UsageError("an analysis result cannot be selected and excluded at once")
    negation = "NOT " if selection.analysis_results == "exclude" else ""
    return (
        f"{negation}coalesce(SeriesInstanceUID IN (SELECT SeriesInstanceUID FROM series "
        "WHERE analysis_result_id IS NOT NULL), false)"
    )


def evaluate_where(index: Index, where: str) -> list[int]:
    """Return the index rows for which the expression `where` is true.

    It is evaluated where it can reach nothing but the index's tables. Raises UsageError
    if it is not one expression, or not one over the index's columns.
    """
    if not where.strip():
        raise UsageError("--where is empty: it takes a condition, such as \"Modality = 'CT'\"")
    with connect_locked(index, where) as connection, users_sql(f"--where {where!r}", where):
        # An expression stands both bare and in brackets. What would end the brackets and go
        # on (`1=1) UNION SELECT (…`) does not parse bare; what adds a clause or a second
        # statement does not parse in brackets.
        for probe in (f"SELECT 1 WHERE {where}\n", f"SELECT 1 WHERE (\n{where}\n)"):
            statements = connection.extract_statements(probe)
            if len(statements) != 1 or statements[0].type.name != "SELECT":
                raise UsageError(f"--where {where!r} is not a single SQL expression")
        bracketed = f"SELECT file_row_number FROM idcfs_rows WHERE (\n{where}\n)"
        return [row for (row,) in connection.execute(bracketed).fetchall()]


def resolve_identifiers(
    connection: duckdb.DuckDBPyConnection, values: Sequence[str]
) -> tuple[list[int], list[Unmatched]]:
    """Return the rows that bare identifiers pick, each taken for whatever it matches.

    As `idc download` does: collection, analysis result, patient, study, series or
    `crdc_series_uuid` (of any release); the union of all. Also returns what matches nothing.
    """
    connection.execute("CREATE OR REPLACE TEMP TABLE wanted (field VARCHAR, value VARCHAR)")
    values = lower_uuids(values)
    _load_values(connection, "any", values)
    wanted = "(SELECT value FROM wanted)"
    conditions = " OR ".join(f"{column} IN {wanted}" for column in _RESOLVED)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE hits AS "
        f"SELECT idcfs_row, {', '.join(_RESOLVED)} FROM series WHERE {conditions}"
    )
    known: set[str] = set()
    for column in _RESOLVED:
        found = connection.execute(
            f"SELECT DISTINCT {column} FROM hits WHERE {column} IN {wanted}"
        ).fetchall()
        known.update(value for (value,) in found)
    earlier = [value for value in values if value not in known and _UUID.fullmatch(value)]
    if earlier:  # perhaps series of earlier releases
        _load_values(connection, "earlier", earlier)
        found = connection.execute(
            "INSERT INTO hits BY NAME SELECT idcfs_row, crdc_series_uuid FROM all_series WHERE "
            "crdc_series_uuid IN (SELECT value FROM wanted WHERE field = 'earlier') "
            "RETURNING crdc_series_uuid"
        ).fetchall()
        known.update(value for (value,) in found)
    rows = connection.execute("SELECT idcfs_row FROM hits ORDER BY 1").fetchall()
    texts = list(map(_as_text, dict.fromkeys(values)))
    missing = [value for value in texts if value not in known]
    unmatched = []
    for at, value in enumerate(missing):
        nearest = [
            name
            for column in ("collection_id", "analysis_result_id", "PatientID")
            for name in (_nearest(connection, column, value) if at < _ADVISED else ())
        ]
        unmatched.append(Unmatched("identifier", value, tuple(nearest[:_NEAREST])))
    return [row for (row,) in rows], unmatched


def create_row_table(connection: duckdb.DuckDBPyConnection, table: str, rows: Iterable[int]) -> str:
    """Create a temporary table of index rows, column `r`.

    Return the view that has them all: `series`, unless some are of earlier releases. To
    tell those apart costs `all_series` a quarter of a second whenever it is used.
    """
    # One text parameter: binding a list of a million numbers takes seconds.
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT DISTINCT "
        "CAST(unnest(string_split(?, ' ')) AS BIGINT) AS r",
        [" ".join(map(str, rows)) or "-1"],
    )
    found = connection.execute(
        f"SELECT coalesce(max(r), 0) >= (SELECT count(*) FROM series) FROM {table}"
    ).fetchall()
    return "all_series" if found[0][0] else "series"


def _load_values(connection: duckdb.DuckDBPyConnection, field: str, values: Sequence[str]) -> None:
    texts = list(map(_as_text, values))
    connection.execute("INSERT INTO wanted SELECT ?, unnest(?::VARCHAR[])", [field, texts])


def _as_text(value: str) -> str:
    """Write out what is no text: it cannot be passed on as it is, and matches nothing."""
    return value if is_text(value) else value.encode(errors="backslashreplace").decode()


def _find_missing(connection: duckdb.DuckDBPyConnection, which: Filter, source: str) -> list[str]:
    """Return the values of a filter that no series of a view has."""
    # Few values against a million: what is found is taken off, as NOT IN takes five times as long.
    wanted = f"SELECT value FROM wanted WHERE field = {quote(which.field)}"
    missing = connection.execute(
        f"{wanted} EXCEPT SELECT {which.column} FROM {source} "
        f"WHERE {which.column} IN ({wanted}) ORDER BY value"
    ).fetchall()
    return [value for (value,) in missing]


def _advise(
    connection: duckdb.DuckDBPyConnection, which: Filter, missing: Sequence[str]
) -> list[Unmatched]:
    """Return values that match nothing, the first with what may have been meant."""
    return [
        Unmatched(
            which.word,
            value,
            tuple(_nearest(connection, which.column, value) if at < _ADVISED else ()),
        )
        for at, value in enumerate(missing)
    ]


def _nearest(connection: duckdb.DuckDBPyConnection, column: str, value: str) -> list[str]:
    if column not in _SUGGESTED:
        return []
    found = connection.execute(
        f"SELECT name FROM (SELECT DISTINCT {column} AS name FROM series "
        f"WHERE {column} IS NOT NULL) "
        "WHERE jaro_winkler_similarity(lower(name), lower($1)) >= $2 "
        "ORDER BY damerau_levenshtein(lower(name), lower($1)), "
        f"jaro_winkler_similarity(lower(name), lower($1)) DESC, name LIMIT {_NEAREST}",
        [value, _LIKENESS],
    ).fetchall()
    return [name for (name,) in found]
