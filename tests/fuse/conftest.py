"""Fixtures for tests that mount for real."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.mounting import Mount, User, ordinary_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.replica import ServedReplica


@pytest.fixture(scope="session")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory whose layout of the whole index is compiled once for all tests."""
    return tmp_path_factory.mktemp("shared-cache")


@pytest.fixture(scope="module")
def mounted(
    replica: ServedReplica, layouts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mount]:
    """The whole index on the replica, for tests that only read. Leave it mounted."""
    path = tmp_path_factory.mktemp("idc")
    with Mount(path, endpoint_url=replica.endpoint_url, cache_dir=layouts) as mount:
        yield mount


@pytest.fixture
def mount_at(tmp_path: Path, replica: ServedReplica, layouts: Path) -> Callable[..., Mount]:
    """Make mounts of the test's own, on a fresh directory."""

    def make(*arguments: str, name: str = "mnt", **options: object) -> Mount:
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        settings = {"endpoint_url": replica.endpoint_url, "cache_dir": layouts, **options}
        return Mount(path, *arguments, **settings)  # type: ignore[arg-type]  # as given

    return make


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    """An ordinary user."""
    with ordinary_user() as someone:
        yield someone
