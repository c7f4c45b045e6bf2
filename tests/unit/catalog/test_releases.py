"""What changed from one release to another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import pytest

from idcfs.catalog.index import Index
from idcfs.catalog.releases import Change, compare_releases, list_changes
from idcfs.errors import UsageError
from tests.unit.catalog.conftest import series_uuid

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Four releases: 1.1 stays, 1.2 is revised in 4, 1.3 comes in 3, 1.4 is gone in 4.

    1.5 was there in 2 only, and came back in its old form in 4.
    """
    current, prior = tmp_path / "idc_index.parquet", tmp_path / "prior_versions_index.parquet"
    columns = (
        "'c' || SeriesInstanceUID[3] AS collection_id, SeriesInstanceUID, 'b' AS aws_bucket, "
        "'p' AS PatientID, 's' AS StudyInstanceUID, 'CT' AS Modality, 1.5 AS series_size_MB, "
        "1 AS instanceCount"
    )
    now = [("1.1", 1, 2), ("1.2", 22, 4), ("1.3", 3, 3), ("1.5", 5, 4)]
    then = [("1.2", 2, 2, 3), ("1.4", 4, 2, 3), ("1.5", 5, 2, 2)]

    def values(rows: list[tuple[object, ...]]) -> str:
        return ", ".join(
            f"('{uid}', '{series_uuid(int(str(number)))}', {', '.join(map(str, versions))})"
            for uid, number, *versions in rows
        )

    for path, rows, names in (
        (current, list(now), "series_revised_idc_version"),
        (prior, list(then), "min_idc_version, max_idc_version"),
    ):
        duckdb.execute(
            f"COPY (SELECT *, {columns} FROM (VALUES {values(rows)}) "  # type: ignore[arg-type]  # tuples of any length
            f"AS t (SeriesInstanceUID, crdc_series_uuid, {names})) TO '{path}' (FORMAT parquet)"
        )
    return replace(Index.open(current), version="4.0.0", companions={"prior_versions_index": prior})


def changes(index: Index, old: int, new: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for each in compare_releases(index, old, new):
        found.setdefault(each.kind, []).append(each.collection_id)
    return found


def test_changes_are_told_by_collection(index: Index) -> None:
    assert changes(index, 2, 3) == {"added": ["c3"], "removed": ["c5"]}
    assert changes(index, 3, 4) == {"added": ["c5"], "removed": ["c4"], "revised": ["c2"]}
    assert changes(index, 2, 4) == {"added": ["c3"], "removed": ["c4"], "revised": ["c2"]}
    assert changes(index, 4, 2) == {"added": ["c4"], "removed": ["c3"], "revised": ["c2"]}
    assert changes(index, 3, 3) == {}
    assert compare_releases(index, 2, 3)[0] == Change("added", "c3", 1, 1_500_000)


def test_lines_name_the_new_form(index: Index) -> None:
    assert list_changes(index, 2, 4) == [
        ("added", f"s3://b/{series_uuid(3)}/*"),
        ("removed", f"s3://b/{series_uuid(4)}/*"),
        ("revised", f"s3://b/{series_uuid(22)}/*"),
    ]


@pytest.mark.parametrize(("old", "new"), [(1, 3), (2, 5)])
def test_a_release_that_the_index_does_not_know_is_refused(
    index: Index, old: int, new: int
) -> None:
    with pytest.raises(UsageError, match="knows 2 to 4"):
        compare_releases(index, old, new)


def test_an_index_without_versions_is_refused(index: Index) -> None:
    with pytest.raises(UsageError, match="does not say"):
        compare_releases(replace(index, companions={}), 2, 3)


def test_what_the_latest_release_brought_is_what_the_index_says() -> None:
    index = Index.open()
    latest = index.release_number
    assert latest is not None
    found = compare_releases(index, latest - 1, latest)
    (expected,) = duckdb.execute(
        f"SELECT count(*) FROM '{index.path}' WHERE series_revised_idc_version = {latest}"
    ).fetchone() or (0,)
    came = [each.series_count for each in found if each.kind != "removed"]
    assert sum(came) == expected > 0
