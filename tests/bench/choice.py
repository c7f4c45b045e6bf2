"""Chooses the benchmark's series from the installed index, through `idcfs query`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tests.bench.errors import BenchError
from tests.bench.objects import (
    CT_BYTES,
    SLIDE_BYTES,
    SMALL_BYTES,
    WIDE_BYTES,
    BenchSeries,
    Objects,
)
from tests.bench.processes import idcfs_command, run_well

if TYPE_CHECKING:
    from pathlib import Path

_BUCKET: Final = "idc-open-data"
_SMALL_FILES: Final = 20_000
_QUICK_WIDEST_FILES: Final = 3_000
_ANY_FILES: Final = 1 << 62

_CT: Final = """collection_id = 'nlst' AND Modality = 'CT' AND instanceCount = 200
    AND series_size_MB BETWEEN 104 AND 107 ORDER BY crdc_series_uuid LIMIT 12"""
_SLIDE: Final = """Modality = 'SM' AND series_size_MB BETWEEN 530 AND 545
    AND instanceCount BETWEEN 2 AND 6 ORDER BY crdc_series_uuid LIMIT 1"""
_WIDE: Final = """instanceCount <= {limit}
    ORDER BY instanceCount DESC, crdc_series_uuid LIMIT 1"""
_SMALL: Final = """collection_id = 'upenn_gbm' AND Modality = 'MR' AND instanceCount >= 300
    AND series_size_MB / instanceCount < 0.02
    ORDER BY instanceCount DESC, crdc_series_uuid LIMIT 60"""
"""The series of the smallest files that come in such numbers: 16 kB each in the IDC."""


def choose_objects(scratch: Path, *, quick: bool) -> Objects:
    """Return the series to read; with `quick`, only a tenth of the many.

    Raises BenchError if the index has no such series any more.
    """
    cts = _series(_CT, CT_BYTES, scratch)
    small = _up_to(_series(_SMALL, SMALL_BYTES, scratch), _SMALL_FILES // (10 if quick else 1))
    limit = _QUICK_WIDEST_FILES if quick else _ANY_FILES
    wide = _series(_WIDE.format(limit=limit), WIDE_BYTES, scratch)
    slide = _series(_SLIDE, SLIDE_BYTES, scratch)
    if len(cts) < 12 or not small or not wide or not slide:
        raise BenchError("the installed index lacks series that the benchmark reads: see choice.py")
    return Objects(
        ct=cts[0],
        other_ct=cts[1],
        cohort=tuple(cts[2:3] if quick else cts[2:]),
        small=small,
        wide=wide[0],
        slide=slide[0],
    )


def _up_to(series: list[BenchSeries], files: int) -> tuple[BenchSeries, ...]:
    """Return the first series that together have at least `files` files, or all."""
    taken: list[BenchSeries] = []
    while series and sum(each.instance_count for each in taken) < files:
        taken.append(series.pop(0))
    return tuple(taken)


def _series(condition: str, file_bytes: int, scratch: Path) -> list[BenchSeries]:
    rows = query(
        "SELECT collection_id, PatientID, StudyInstanceUID, Modality, SeriesInstanceUID, "
        "crdc_series_uuid, instanceCount FROM index "
        f"WHERE aws_bucket = '{_BUCKET}' AND {condition}",
        scratch,
    )
    return [
        BenchSeries(
            uuid=row["crdc_series_uuid"],
            bucket=_BUCKET,
            tree_path="{collection_id}/{PatientID}/{StudyInstanceUID}/"
            "{Modality}_{SeriesInstanceUID}".format_map(row),
            series_instance_uid=row["SeriesInstanceUID"],
            instance_count=int(row["instanceCount"]),
            file_bytes=file_bytes,
        )
        for row in rows
    ]


def query(sql: str, scratch: Path) -> list[dict[str, Any]]:
    """Return the rows that `idcfs query` answers. Raises BenchError if it fails."""
    command = idcfs_command("query", "--format=json", sql)
    rows: list[dict[str, Any]] = json.loads(run_well(command, scratch=scratch, timeout_s=60).stdout)
    return rows
