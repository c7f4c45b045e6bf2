"""A cache in a temporary directory, and objects that are cut into small units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache, units

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(root: Path) -> Iterator[DiskCache]:
    cache = DiskCache(root)
    yield cache
    cache.close()


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects over 100 bytes come in units of 40, with a checksum for each 20."""
    monkeypatch.setattr(units, "WHOLE_LIMIT_BYTES", 100)
    monkeypatch.setattr(units, "UNIT_BYTES", 40)
    monkeypatch.setattr(units, "BLOCK_BYTES", 20)
