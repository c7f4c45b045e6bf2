"""What lies in a cache directory is found, counted and removed by its files alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from idcfs.cache.inventory import remove_series, series_on_disk
from idcfs.errors import CacheError
from idcfs.model import SeriesUUID
from tests.support.stores import series_uuid

if TYPE_CHECKING:
    from pathlib import Path


def put(root: Path, tree: str, series: SeriesUUID, name: str, length: int) -> Path:
    path = root / tree / series[:2] / series / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * length)
    return path


def occupied(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_directory_without_content_holds_no_series(tmp_path: Path) -> None:
    assert list(series_on_disk(tmp_path)) == []
    assert list(series_on_disk(tmp_path / "none")) == []


def test_whole_and_partial_objects_are_counted_by_series(tmp_path: Path) -> None:
    first, second = series_uuid(1), series_uuid(2)
    paths = [
        put(tmp_path, "objects", first, "a.dcm", 5000),
        put(tmp_path, "partial", first, "b.dcm", 9000),
        put(tmp_path, "sums", first, "a.dcm", 8),
    ]
    other = put(tmp_path, "objects", second, "a.dcm", 1)
    (tmp_path / "objects" / "foreign").write_bytes(b"x")
    (paths[0].parent / "link").symlink_to(other)
    put(tmp_path, "listings", series_uuid(3), "x", 10)

    found = {series: (size, files) for series, size, files in series_on_disk(tmp_path)}

    assert found == {
        first: (sum(map(occupied, paths)), 2),
        second: (occupied(other), 1),
    }


def test_holes_are_not_counted(tmp_path: Path) -> None:
    path = put(tmp_path, "partial", series_uuid(1), "a.dcm", 4096)
    with path.open("r+b") as file:
        file.truncate(1 << 30)

    [(_, size_bytes, _)] = series_on_disk(tmp_path)

    assert size_bytes < 1 << 20


def test_removing_a_series_takes_its_objects_and_nothing_else(tmp_path: Path) -> None:
    first, second = series_uuid(1), series_uuid(2)
    gone = [put(tmp_path, tree, first, "a.dcm", 5000) for tree in ("objects", "partial", "sums")]
    kept = [
        put(tmp_path, "objects", second, "a.dcm", 1),
        tmp_path / "listings" / first[:2] / first,
    ]
    kept[1].parent.mkdir(parents=True)
    kept[1].write_bytes(b"listing")
    wanted = sum(map(occupied, gone))

    assert remove_series(tmp_path, first) == wanted
    assert remove_series(tmp_path, first) == 0

    assert not any(path.parent.exists() for path in gone)
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize("name", ["", ".", "..", "../..", "a/b", "/etc", "a\0b"])
def test_names_that_lead_elsewhere_are_not_removed(tmp_path: Path, name: str) -> None:
    with pytest.raises(CacheError):
        remove_series(tmp_path, SeriesUUID(name))


def test_what_is_not_a_file_is_left_alone(tmp_path: Path) -> None:
    path = put(tmp_path, "objects", series_uuid(1), "a.dcm", 1)
    (path.parent / "folder").mkdir()
    (path.parent / "link").symlink_to(path)

    remove_series(tmp_path, series_uuid(1))

    assert {one.name for one in path.parent.iterdir()} == {"folder", "link"}
