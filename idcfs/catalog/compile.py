"""Compile a layout: sort the index by path and write what `Layout` reads.

Runs in a process of its own (`python -m idcfs.catalog.compile`), so that a
daemon never holds DuckDB's memory: the whole index takes some 600 MB while it
is sorted. The parent hands a request on standard input and reads the outcome,
both JSON, from standard output.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from array import array
from itertools import accumulate, compress, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idcfs.catalog.engine import check_columns, connect, quote
from idcfs.catalog.index import Index
from idcfs.catalog.layout import widest
from idcfs.catalog.layout_file import ABSENT, LayoutWriter
from idcfs.catalog.path_order import sort_series
from idcfs.catalog.selection import create_row_table
from idcfs.catalog.series_sql import BUCKET_PATTERN
from idcfs.catalog.template import parse_template
from idcfs.errors import IdcfsError, IndexFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from idcfs.catalog.path_order import SortedSeries

_MAX_BUCKETS = 255


def compile_layout(
    index: Index, template_text: str, rows: Sequence[int] | None, identity: str, descriptor: int
) -> None:
    """Write the layout of `index` under a template to an open, empty file.

    `rows` restricts it to these index rows, which may be of earlier releases. Raises
    UsageError for a template that makes no sense, IndexFileError for an index that
    cannot be used, OSError if the file cannot be written.
    """
    with connect(index) as connection:
        template = parse_template(template_text, check_columns(connection, index))
        source = "series" if rows is None else "all_series"
        _select_rows(connection, source, rows)
        buckets = _find_buckets(connection)
        series = sort_series(connection, template, buckets)
        counted = connection.execute("SELECT count(*) FROM chosen_series").fetchall()
        mtime_ns = release_time_ns(connection, index)
    writer = LayoutWriter(descriptor)
    fields = _write_series(writer, series, template.depth)
    for level, names in enumerate(series.names, 1):
        writer.add(f"names{level}", names.texts)
        writer.add(f"offsets{level}", [names.offsets])
    writer.finish(
        fields
        | {
            "identity": identity,
            "depth": template.depth,
            "refused_count": counted[0][0] - fields["series_count"],
            "mtime_ns": mtime_ns,
            "buckets": buckets,
        }
    )


def release_time_ns(connection: duckdb.DuckDBPyConnection, index: Index) -> int:
    """Return when the index's release came out, or else its file's modification time."""
    import duckdb

    versions = index.companions.get("version_metadata_index")
    if versions is not None and index.release_number is not None:
        try:
            found = connection.execute(
                f"SELECT epoch_ns(CAST(version_timestamp AS TIMESTAMP)) "
                f"FROM read_parquet({quote(str(versions))}) "
                # Not a parameter: binding one makes DuckDB 1.5 import pandas, if there.
                f"WHERE idc_version = {index.release_number}"
            ).fetchone()
        except duckdb.Error:  # only a date: an odd table must not cost the mount
            found = None
        if found and found[0]:
            return int(found[0])
    return index.path.stat().st_mtime_ns


def _select_rows(
    connection: duckdb.DuckDBPyConnection, source: str, rows: Sequence[int] | None
) -> None:
    chosen = f"SELECT * FROM {source}"
    if rows is not None:
        create_row_table(connection, "chosen", rows)
        chosen += " WHERE idcfs_row IN (SELECT r FROM chosen)"
    connection.execute(f"CREATE TEMP VIEW chosen_series AS {chosen}")


def _find_buckets(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the buckets of the chosen series whose names are ones."""
    found = connection.execute(f"""
        SELECT aws_bucket FROM (SELECT DISTINCT aws_bucket FROM chosen_series)
        WHERE regexp_full_match(aws_bucket, '{BUCKET_PATTERN}') ORDER BY aws_bucket
    """).fetchall()
    if len(found) > _MAX_BUCKETS:
        raise IndexFileError(f"the index names {len(found)} buckets, more than {_MAX_BUCKETS}")
    return [bucket for (bucket,) in found]


def _write_series(writer: LayoutWriter, series: SortedSeries, depth: int) -> dict[str, Any]:
    """Write the columns of the series and the shape of the tree; return header fields."""
    leaf_of, level_counts = _write_shape(writer, bytes(series.levels), depth)
    positions = array("I", [ABSENT]) * (max(series.rows, default=-1) + 1)
    for position, row in enumerate(series.rows):
        positions[row] = position
    writer.add("uuids", [series.uuids])
    writer.add("bucket", [series.buckets])
    writer.add("instances", [series.instances])
    writer.add("sizes", [series.sizes])
    writer.add("rows", [series.rows])
    writer.add("leaf", [leaf_of])
    writer.add("positions", [positions])
    instances = series.instances
    return {
        "series_count": len(series.rows),
        "instance_count": sum(instances) - ABSENT * instances.count(ABSENT),
        "size_bytes": sum(series.sizes),
        "widest_leaf_instances": widest(leaf_of, instances, level_counts[depth]),
        "level_counts": level_counts,
    }


def _write_shape(writer: LayoutWriter, levels: bytes, depth: int) -> tuple[array[int], list[int]]:
    """Write where the children of each directory begin, and their parents.

    `levels` has a byte for each series: the first level at which its path is new. Dropping
    the bytes above `n` leaves one for each directory of level `n`, in path order, so
    counting in C over such strings gives every range. Return each series' leaf, and the
    number of directories of each level.
    """
    counts = [1]
    parents = array("I")
    for level in range(depth + 1):  # level: of the parents; their children are one below
        children = levels.translate(None, bytes(range(level + 2, 256)))
        if level == 0:
            starts, parents = array("I", [0]), array("I", bytes(4 * len(children)))
        else:
            begins = children.translate(bytes(at <= level for at in range(256)))
            starts = array("I", compress(range(len(begins)), begins))
            parents = array("I", islice(accumulate(begins, initial=-1), 1, None))
        starts.append(len(children))
        writer.add(f"child_start{level}", [starts])
        if level < depth:
            writer.add(f"parent{level + 1}", [parents])
            counts.append(len(children))
    return parents, counts


def main() -> int:
    """Serve one request from standard input; see `idcfs.catalog.layouts`."""
    request = json.load(sys.stdin)
    companions = {name: Path(path) for name, path in request["companions"].items()}
    index = Index(Path(request["index"]), companions, request["version"])
    path = Path(request["output"])
    outcome: dict[str, object] = {}
    # What is made is numbers and texts, and is needed to the end: there is no garbage to find.
    gc.disable()
    try:
        with path.open("wb") as file:
            compile_layout(
                index, request["template"], request["rows"], request["identity"], file.fileno()
            )
    except IdcfsError as exc:
        outcome = {"error": type(exc).__name__, "message": str(exc)}
    except OSError as exc:
        outcome = {"error": "OSError", "errno": exc.errno, "message": os.strerror(exc.errno or 0)}
    json.dump(outcome, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
