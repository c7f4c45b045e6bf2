"""Opened at the very instant in which another completes it: what was stored is there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache
from idcfs.model import Extent
from tests.support.stores import make_content, make_ref
from tests.unit.cache.steps import fill, path_of, unfinished

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.cache import CachedObject

CONTENT = make_content(150)
REF = make_ref(CONTENT)
STORED = Extent(0, 120)
pytestmark = pytest.mark.usefixtures("small_units")


@pytest.fixture
def other(root: Path) -> Iterator[DiskCache]:
    other = DiskCache(root)
    yield other
    other.close()


def begin(other: DiskCache, name: str = "a.dcm") -> CachedObject:
    """Store all of an object but its last unit."""
    held = other.open(make_ref(CONTENT, name))
    fill(held, CONTENT, STORED)
    return held


def test_two_who_give_it_its_name_at_once_leave_no_other(
    root: Path, cache: DiskCache, other: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name in the scratch directory would keep the disk occupied when the file is evicted."""
    theirs = begin(other)
    ftruncate = os.ftruncate

    def cut(fd: int, length: int) -> None:
        ftruncate(fd, length)
        assert cache.open(REF).missing(REF.whole) == []

    monkeypatch.setattr(os, "ftruncate", cut)
    fill(theirs, CONTENT, REF.whole)

    assert unfinished(root) == []
    assert path_of(root, REF).stat().st_nlink == 1
