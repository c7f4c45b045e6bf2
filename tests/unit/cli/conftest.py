"""The command as a user runs it, without a user's own settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache
from idcfs.catalog.catalog import Catalog
from idcfs.catalog.selection import Selection
from tests.support.mounting import Launcher
from tests.unit.cache.ledgers import BLOCK, quiet, store

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from idcfs.model import SeriesUUID

Idcfs = "Callable[..., subprocess.CompletedProcess[str]]"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file that does not exist yet, but will be read when it does."""
    for variable in os.environ:
        if variable.startswith("IDCFS_"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "site"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "idcfs").mkdir()
    return tmp_path / "idcfs" / "config.toml"


@pytest.fixture
def idcfs(settings: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `idcfs` with arguments, and options from the environment as keywords."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return Launcher(environment=variables).run(*arguments)

    return run


COLLECTIONS = ("rider_pilot", "lctsc")
EACH = 3


@pytest.fixture(scope="module")
def known() -> dict[str, list[SeriesUUID]]:
    """Some series of each of two collections."""
    catalog = Catalog.open()
    rows = {name: catalog.rows(Selection(collection_id=(name,)))[:EACH] for name in COLLECTIONS}
    return {name: catalog.uuids(some) for name, some in rows.items()}


@pytest.fixture
def filled(tmp_path: Path, known: dict[str, list[SeriesUUID]]) -> Path:
    """A cache with a file of each of these series."""
    root = tmp_path / "filled"
    DiskCache(root).close()
    ledger = quiet(root, None)
    for number, series in enumerate(known["rider_pilot"] + known["lctsc"], 1):
        store(root, ledger, series, number * BLOCK)
    ledger.close()
    return root
