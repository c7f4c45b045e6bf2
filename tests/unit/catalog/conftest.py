"""Small indexes, written as the real ones are, and the real one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import duckdb
import pytest

from idcfs.catalog.catalog import Catalog
from idcfs.catalog.index import Index

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, object]
WriteIndex = Callable[[Sequence[Row]], Index]

DEFAULTS: Row = {
    "collection_id": "c",
    "analysis_result_id": None,
    "PatientID": "p",
    "StudyInstanceUID": "1.2",
    "SeriesInstanceUID": "1.2.3",
    "Modality": "CT",
    "SeriesDescription": None,
    "aws_bucket": "idc-open-data",
    "crdc_series_uuid": None,
    "instanceCount": 1,
    "series_size_MB": 0.5,
}


def series_uuid(number: int) -> str:
    return str(uuid.UUID(int=number))


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    """Write an index of these rows; absent columns have defaults, UUIDs number themselves."""
    full = [
        DEFAULTS | {"crdc_series_uuid": series_uuid(number)} | row
        for number, row in enumerate(rows)
    ]
    numbers = {"instanceCount": "BIGINT", "series_size_MB": "DOUBLE"}
    columns = ", ".join(f'"{name}" {numbers.get(name, "VARCHAR")}' for name in DEFAULTS)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t ({columns})")
        for row in full:
            marks = ", ".join("?" * len(DEFAULTS))
            connection.execute(f"INSERT INTO t VALUES ({marks})", [row[name] for name in DEFAULTS])
        connection.execute(f"COPY t TO '{path}' (FORMAT parquet)")


def damage_pages(path: Path) -> None:
    """Overwrite what an index's first columns hold; leave its footer, which is read first."""
    content = bytearray(path.read_bytes())
    content[4:400] = b"\xff" * 396
    path.write_bytes(content)


@pytest.fixture
def write_index(tmp_path: Path) -> WriteIndex:
    """Write rows as an index of their own and open it."""
    count = 0

    def write(rows: Sequence[Row]) -> Index:
        nonlocal count
        count += 1
        path = tmp_path / f"index{count}.parquet"
        write_parquet(path, rows)
        return Index.open(path)

    return write


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The catalog of the real index."""
    return Catalog.open()
