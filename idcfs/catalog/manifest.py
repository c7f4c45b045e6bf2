"""Manifests: lists of object prefixes, one a line, as idc-index and the IDC portal write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from idcfs.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    import duckdb

    from idcfs.catalog.engine import Connect
    from idcfs.model import Series

GOOGLE_BUCKETS = {
    "idc-open-idc1": "idc-open-data-two",
    "idc-open-cr": "idc-open-data-cr",
    "public-datasets-idc": "idc-open-data",
}
"""Google's names of the buckets, where they differ, with Amazon's, which the index gives."""

_AT_GOOGLE = {
    amazon: google for google, amazon in GOOGLE_BUCKETS.items() if amazon != "idc-open-data"
}

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# The command and the destination are s5cmd's and mean nothing here; the quotes are the
# shell's. A whole series only: `/*`, `/` or nothing may follow its UUID.
_LINE = re.compile(
    r"""(?:(?:cp|sync)\s+(?:-\S+\s+)*)?      # s5cmd's command and its flags
        (?P<quote>["']?)
        [sS]3://(?P<bucket>[^/\s"']+)/(?P<uuid>[^/\s"'*]+)(?P<rest>/\*?)?
        (?P=quote)
        (?:\s+\S.*)?                         # where s5cmd would put it
        """,
    re.VERBOSE,
)
_IS_UUID = re.compile(_UUID, re.IGNORECASE)
# Longer lines are no manifest's; a file of another kind may have no line ends at all.
_LINE_MAX_BYTES = 64 * 1024
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class ManifestProblem:
    """A line that picks no series, and why."""

    line: int
    """Counted from 1."""
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest picks, and what is wrong with it."""

    rows: list[int]
    """Index rows, ascending, each once."""
    problems: list[ManifestProblem]
    """In the order of the lines."""


@dataclass(slots=True)
class _Entries:
    """The lines that have the form of an entry, column by column."""

    lines: list[int]
    buckets: list[str]
    uuids: list[str]


def match_manifest(connect: Connect, release: str, path: Path, name: str) -> Manifest:
    """Read a manifest and find its series in the index, earlier releases included.

    Raises UsageError, with `name`, if the file cannot be read or is not text; what is wrong
    with a line becomes a problem and the others count. A million lines take some seconds.
    """
    try:
        with path.open("rb") as file:
            entries, problems = parse_manifest(file)
    except OSError as exc:
        raise UsageError(f"cannot read the manifest {name}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise UsageError(f"{name} is not a manifest: it is not text") from exc
    with connect() as connection:
        rows, unknown = _find_rows(connection, entries, release)
    return Manifest(rows, sorted(problems + unknown, key=lambda problem: problem.line))


def parse_manifest(file: BinaryIO) -> tuple[_Entries, list[ManifestProblem]]:
    """Split a manifest into entries and the lines that are none. Raises UnicodeDecodeError."""
    entries = _Entries([], [], [])
    problems = []
    for number, raw in enumerate(_lines(file), 1):
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        if not text or text.startswith("#"):
            continue
        reason = _read_line(text, number, entries)
        if reason:
            problems.append(ManifestProblem(number, text[:_SHOWN_CHARACTERS], reason))
    return entries, problems


def manifest_line(series: Series, source: Literal["aws", "gcs"] = "aws") -> str:
    """Return the line for a series, which idc-index understands too."""
    bucket = series.bucket if source == "aws" else _AT_GOOGLE.get(series.bucket, series.bucket)
    return f"s3://{bucket}/{series.uuid}/*"


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(_LINE_MAX_BYTES):
        yield line


def _read_line(text: str, number: int, entries: _Entries) -> str | None:
    """Add the line's entry, or return what is wrong with it."""
    found = _LINE.fullmatch(text)
    if found is None:
        return "not an entry: expected s3://BUCKET/SERIES_UUID/*"
    bucket, uuid = found["bucket"], found["uuid"].lower()
    if _IS_UUID.fullmatch(uuid) is None:
        return f"{found['uuid'][:_SHOWN_CHARACTERS]!r} is not the UUID of a series"
    entries.lines.append(number)
    entries.buckets.append(GOOGLE_BUCKETS.get(bucket, bucket))
    entries.uuids.append(uuid)
    return None


def _find_rows(
    connection: duckdb.DuckDBPyConnection, entries: _Entries, release: str
) -> tuple[list[int], list[ManifestProblem]]:
    if not entries.lines:
        return [], []
    # As text: binding three lists of a million values takes many times longer. No part
    # can hold a blank or a line end; the pattern of a line sees to that.
    connection.execute(
        "CREATE TEMP TABLE entries AS SELECT CAST(unnest(string_split($1, ' ')) AS BIGINT) AS line,"
        " unnest(string_split($2, ' ')) AS bucket, unnest(string_split($3, ' ')) AS uuid",
        [" ".join(map(str, entries.lines)), " ".join(entries.buckets), " ".join(entries.uuids)],
    )
    for view in ("series", "all_series"):  # the second takes ten times as long
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE found AS SELECT idcfs_row, crdc_series_uuid, aws_bucket "
            f"FROM {view} WHERE crdc_series_uuid IN (SELECT uuid FROM entries)"
        )
        if not _any(
            connection, "SELECT uuid FROM entries EXCEPT SELECT crdc_series_uuid FROM found"
        ):
            break
    connection.execute(
        "CREATE TEMP TABLE matched AS SELECT line, bucket, uuid, idcfs_row, aws_bucket "
        "FROM entries LEFT JOIN found ON crdc_series_uuid = uuid"
    )
    rows = connection.execute(
        "SELECT DISTINCT idcfs_row FROM matched WHERE bucket = aws_bucket ORDER BY idcfs_row"
    ).fetchall()
    return [row for (row,) in rows], _find_wrong(connection, release)


def _find_wrong(connection: duckdb.DuckDBPyConnection, release: str) -> list[ManifestProblem]:
    """Return the entries in `matched` that are not where the index has them, or nowhere."""
    wrong = connection.execute(
        "SELECT DISTINCT line, bucket, uuid, aws_bucket FROM matched "
        "WHERE bucket IS DISTINCT FROM aws_bucket ORDER BY line"
    ).fetchall()
    if not wrong:
        return []
    found = connection.execute("SELECT DISTINCT aws_bucket FROM all_series").fetchall()
    known = {bucket for (bucket,) in found}
    return [
        ManifestProblem(
            line, f"s3://{bucket}/{uuid}/*", _reason(bucket, right, bucket in known, release)
        )
        for line, bucket, uuid, right in wrong
    ]


def _any(connection: duckdb.DuckDBPyConnection, sql: str) -> bool:
    return connection.execute(f"{sql} LIMIT 1").fetchone() is not None


def _reason(bucket: str, right: str | None, known: bool, release: str) -> str:
    if not known:
        return f"{bucket!r} is not a bucket of IDC"
    if right is None:
        return f"no such series in {release} or any release before it"
    return f"this series is in the bucket {right!r}, not in {bucket!r}"


def write_manifest(
    series: Iterable[Series], source: Literal["aws", "gcs"] = "aws", *, commands: bool = False
) -> Iterator[str]:
    """Yield the lines of a manifest of these series, each with its line end.

    They name the buckets as Amazon calls them, or as Google does. As `commands` they are
    what `s5cmd run` takes: it brings all files to the directory that it is run in.
    """
    before, behind = ("cp ", " .") if commands else ("", "")
    for each in series:
        yield f"{before}{manifest_line(each, source)}{behind}\n"
