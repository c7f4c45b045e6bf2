"""A store in memory and a cache on disk, with units small enough to have many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache, units
from idcfs.fetch import streams
from tests.support.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(chunk_bytes=16)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(root: Path) -> Iterator[DiskCache]:
    cache = DiskCache(root)
    yield cache
    cache.close()


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects over 100 bytes come in units of 40, with a checksum for each 20."""
    monkeypatch.setattr(units, "WHOLE_LIMIT_BYTES", 100)
    monkeypatch.setattr(units, "UNIT_BYTES", 40)
    monkeypatch.setattr(units, "BLOCK_BYTES", 20)


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request brings 160 bytes at most; three are under way ahead of a reader."""
    for name, length in {
        "RUN_BYTES": 160,
        "WINDOW_BYTES": 480,
        "FIRST_BYTES": 40,
        "_STEADY_BYTES": 80,
        "_SLACK_BYTES": 30,
    }.items():
        monkeypatch.setattr(streams, name, length)
