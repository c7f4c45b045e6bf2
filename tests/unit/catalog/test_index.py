"""Finding the index, and saying what is wrong with one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import duckdb
import pytest

from idcfs.catalog.engine import columns_of
from idcfs.catalog.index import Index
from idcfs.errors import IndexFileError

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.catalog.catalog import Catalog
    from tests.unit.catalog.conftest import WriteIndex


def test_the_installed_index_is_found_and_named(catalog: Catalog) -> None:
    index = catalog.index
    assert index.version.split(".")[0].isdigit()
    assert index.release == f"IDC v{index.version.split('.')[0]}"
    assert "prior_versions_index" in index.companions


def test_opening_neither_imports_the_package_nor_duckdb() -> None:
    code = (
        "import sys; from idcfs.catalog import layouts; from idcfs.catalog.index import Index; "
        "Index.open(); print(*{'idc_index_data', 'duckdb', 'pandas', 'numpy'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_the_same_content_elsewhere_has_the_same_fingerprint(
    catalog: Catalog, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.parquet"
    shutil.copy(catalog.index.path, copy)
    assert Index.open(copy).fingerprint == catalog.index.fingerprint


def test_other_content_of_the_same_shape_has_another_fingerprint(write_index: WriteIndex) -> None:
    # Equal in size and in every statistic of the footer: only the middle row differs.
    one = write_index([{"PatientID": p} for p in ("a", "b", "z")])
    other = write_index([{"PatientID": p} for p in ("a", "c", "z")])
    assert one.path.stat().st_size == other.path.stat().st_size
    assert one.fingerprint != other.fingerprint


def test_another_index_is_named_by_its_file(write_index: WriteIndex) -> None:
    index = write_index([{}])
    assert index.version.startswith("index1.parquet@")
    assert index.release == f"the index {index.path}"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"collection_id,PatientID\n" * 9, b"PAR1" * 99])
def test_a_file_that_is_not_parquet_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_bytes(content)
    with pytest.raises(IndexFileError, match="is not an IDC index: it is not a Parquet file"):
        Index.open(path)


def test_a_missing_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match=r"cannot read the index .*No such file"):
        Index.open(tmp_path / "none.parquet")


def test_a_truncated_index_is_refused(write_index: WriteIndex) -> None:
    path = write_index([{}]).path
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(IndexFileError, match="not a whole one"):
        Index.open(path)


def test_a_parquet_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    duckdb.connect().execute(
        f"COPY (SELECT 1 AS PatientID) TO '{path}' (FORMAT parquet)"
    ).fetchall()
    with pytest.raises(IndexFileError, match="has no column collection_id, Modality") as caught:
        columns_of(Index.open(path))
    assert "\n" not in str(caught.value)


def test_without_the_package_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(IndexFileError, match="pip install idc-index-data"):
        Index.open()
