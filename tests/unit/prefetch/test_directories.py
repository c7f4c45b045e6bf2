"""What a prefetch remembers of directories and series."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from idcfs.model import SeriesUUID
from idcfs.prefetch import directories
from idcfs.prefetch.directories import Directories, Remembered

if TYPE_CHECKING:
    from pathlib import Path


def test_only_what_was_made_here_is_new(tmp_path: Path) -> None:
    known = Directories()
    assert known.make(str(tmp_path / "a/b/c"))
    assert known.make(str(tmp_path / "a/b/c"))
    assert not known.make(str(tmp_path / "a/b"))
    assert not Directories().make(str(tmp_path / "a/b/c"))


def test_a_directory_that_was_removed_is_made_again(tmp_path: Path) -> None:
    known = Directories()
    known.make(str(tmp_path / "a"))
    (tmp_path / "a").rmdir()
    known.forget(str(tmp_path / "a"))
    assert known.make(str(tmp_path / "a"))
    assert (tmp_path / "a").is_dir()


def test_what_is_in_the_way_is_no_directory_of_ours(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    known = Directories()
    assert not known.make(str(tmp_path / "a"))
    with pytest.raises(NotADirectoryError):
        known.make(str(tmp_path / "a/b"))


def test_no_more_is_remembered_than_is_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directories, "_REMEMBERED", 2)
    known = Directories()
    for name in "abc":
        assert known.make(str(tmp_path / name))
    assert known.make(str(tmp_path / "c"))
    assert not known.make(str(tmp_path / "a"))  # forgotten, and so looked at again

    asked: list[str] = []

    def find(series: SeriesUUID) -> bool:
        asked.append(series)
        return series == "a"

    remembered = Remembered(find)
    assert [remembered(SeriesUUID(each)) for each in "aabab"] == [True, True, False, True, False]
    assert asked == ["a", "b"]
    remembered(SeriesUUID("c"))
    remembered(SeriesUUID("a"))
    assert asked == ["a", "b", "c", "a"]
